//! Probe: open the host and find out what it is, by booting a tiny guest on it.

use super::args::ProbeArgs;
use super::engine::{Effect, Run, Step, StepError, Undo};
use std::sync::Arc;
use vws_domain::{Change, Connection, Error, HostName};
use vws_plugin_api::doc;

/// The table.
pub static STEPS: &[Step] = &[
    Step { name: "open", run: |run| Box::pin(open(run)), undo: Undo::Nothing("an open connection harms nothing") },
    Step { name: "probe", run: |run| Box::pin(probe(run)), undo: Undo::By(|run| Box::pin(not_probed(run))) },
];

fn host(run: &Run) -> Result<HostName, StepError> {
    run.job.host.clone().ok_or_else(|| Error::internal("a probe", "has no host").into())
}

async fn open(run: &Run) -> Result<Effect, StepError> {
    let name = host(run)?;
    if let Err(error) = run.operate.open_host(&name).await {
        let reason = error.to_string();
        run.operate.host_down(&name, &reason).await;
        return Err(error.into());
    }
    Ok(super::engine::nothing())
}

async fn probe(run: &Run) -> Result<Effect, StepError> {
    let name = host(run)?;
    let args: ProbeArgs = run.args()?;
    let ask = doc::HostProbe { host: name.to_string(), fresh: args.fresh };
    let deadline = run.operate.limits.probe_deadline;
    let (facts, _): (doc::HostFacts, _) = run.call(&name, doc::methods::HOST_PROBE, &ask, deadline, Vec::new()).await?;
    let message = format!("{} on {}: {}", facts.accelerator, facts.hypervisor, facts.accelerator_reason);
    run.operate.watch_host(&name);
    Ok(Box::new(move |edit| {
        edit.job.message = message;
        if let Some(host) = edit.tx.site.host(&name) {
            let mut host = host.as_ref().clone();
            host.foreign = super::hosts::foreign(facts.foreign);
            host.facts = super::hosts::facts(facts);
            host.connection = Connection::Up;
            host.seen_at = edit.tx.now;
            host.version += 1;
            edit.tx.event("host.probed", crate::core::About::host(&name), 0, format!("host `{name}` was probed"));
            edit.tx.put(Change::PutHost(Arc::new(host)));
        }
        Ok(())
    }))
}

/// A host that could not be probed takes no workspaces, and says why.
async fn not_probed(run: &Run) -> Result<Effect, StepError> {
    let name = host(run)?;
    let reason = run.job.error.as_ref().map(ToString::to_string).unwrap_or_default();
    run.operate.host_down(&name, &reason).await;
    Ok(super::engine::nothing())
}
