//! Leaving a host: the plan, which is shown and changes nothing, and the drain, which disables the host and works through it. Each move
//! is admitted here when its turn comes, by the same gate as anybody's, for the daemon's own actor: placement is asked anew.

use super::act::{self, host_of_backend};
use super::{CallOptions, Service, answered, digest_of, hosts, remember};
use crate::admit::{self, Asked};
use crate::change;
use crate::core::{About, Tx};
use crate::operate::args::{self, DrainArgs, RestoreArgs};
use crate::operate::{Mover, NewJob, begin, serialize_job};
use crate::policies::Policies;
use std::sync::Arc;
use vws_domain::{
    Caller, Change, Departure, Error, HostName, JobId, JobKind, JobState, Result, Site, State, Timestamp, Verb, Way, Workspace,
    plan_departures,
};

/// Admits the moves of drains.
pub struct Moves {
    /// The policies in force.
    pub policies: Arc<Policies>,
}

/// The actor of a drain.
fn actor() -> Caller {
    Caller::system("drain")
}

/// The request to bring a workspace that is not in a bundle yet out of one, on another host.
fn through_bundle(site: &Site, workspace: &Arc<Workspace>) -> Result<Asked> {
    let mut asked = act::ask(site, &actor(), workspace, Verb::Restore, None, None)?;
    asked.request.needs.push("serialize".to_owned());
    asked.request.backend = host_of_backend(site, workspace);
    asked.request.leaves.clone_from(&workspace.host);
    Ok(asked)
}

impl Mover for Moves {
    fn begin(&self, tx: &mut Tx<'_>, workspace: &Arc<Workspace>, way: Way) -> Result<JobId> {
        let caller = actor();
        let mut next = workspace.as_ref().clone();
        let new = match (workspace.state, way) {
            (State::Serialized, _) => {
                let judged = admit::gate(tx, &self.policies, act::ask(tx.site, &caller, workspace, Verb::Restore, None, None)?)?;
                let bundle =
                    workspace.bundle.ok_or_else(|| Error::internal(workspace.object(), "is serialized without a bundle"))?;
                next.host = judged.host;
                NewJob {
                    kind: JobKind::Restore,
                    args: args::write(&RestoreArgs { bundle: bundle.to_string(), room: Vec::new() })?,
                }
            }
            (_, Way::Live) => {
                let judged = admit::gate(tx, &self.policies, act::ask(tx.site, &caller, workspace, Verb::Migrate, None, None)?)?;
                act::migrate_job(tx.site, &mut next, judged.host, 0, Vec::new())?
            }
            (_, Way::Bundle | Way::Store) => {
                if way == Way::Bundle {
                    // Nothing is interrupted before a host was found that would take it.
                    let (site, now, asked) = (tx.site, tx.now, through_bundle(tx.site, workspace)?);
                    let judged = self.policies.decide(|judge| admit::judge(judge, site, now, asked, false));
                    if let Some(refusal) = judged.refusal {
                        return Err(refusal);
                    }
                }
                admit::gate(tx, &self.policies, act::ask(tx.site, &caller, workspace, Verb::Serialize, None, None)?)?;
                serialize_job(tx, workspace)?
            }
        };
        begin(tx, workspace, next, new, &caller, "requested")
    }
}

impl Service {
    /// Where each workspace of a host would go, how, or why it stays. Nothing is done.
    ///
    /// # Errors
    /// AccessDenied, NotFound, PolicyFailure.
    pub async fn plan_drain(&self, caller: &Caller, name: HostName, evacuate: bool) -> Result<Vec<Departure>> {
        let (caller, of) = (caller.clone(), name.clone());
        let policies = Arc::clone(&self.policies);
        let (site, now) = self
            .core
            .consider(move |site, now| {
                let asked = asked(&caller, &of);
                let judged = policies.decide(|judge| admit::judge(judge, site, now, asked, false));
                if let Some(refusal) = judged.refusal {
                    return Err(refusal);
                }
                site.host(&of).ok_or_else(|| hosts::missing(&of))?;
                Ok((site.clone(), now))
            })
            .await?;
        let policies = Arc::clone(&self.policies);
        crate::operate::blocking(move || {
            let place = |site: &Site, workspace: &Arc<Workspace>, way| place(&policies, site, now, workspace, way);
            Ok(plan_departures(&site, &name, evacuate, place))
        })
        .await
    }

    /// Disables the host for new workspaces and begins to take those that are on it off. One that is being drained already answers
    /// with the job at work.
    ///
    /// # Errors
    /// AccessDenied, NotFound, PolicyFailure, Conflict.
    pub async fn drain_host(&self, caller: &Caller, name: HostName, evacuate: bool, options: CallOptions) -> Result<JobId> {
        let digest = digest_of(&format!("drain {name} {evacuate}"));
        let caller = caller.clone();
        let policies = Arc::clone(&self.policies);
        self.core
            .transact(move |tx| {
                if let Some(job) = answered(tx.site, &caller, &options, &digest)?.and_then(|known| known.job) {
                    return Ok(job);
                }
                admit::gate(tx, &policies, asked(&caller, &name))?;
                let host = tx.site.host(&name).cloned().ok_or_else(|| hosts::missing(&name))?;
                let at_work = tx
                    .site
                    .jobs()
                    .find(|job| job.kind == JobKind::Drain && job.host.as_ref() == Some(&name) && !job.state.ended())
                    .filter(|job| job.state != JobState::Undoing)
                    .map(|job| job.id);
                if let Some(job) = at_work {
                    remember(tx, &caller, &options, &digest, None, Some(job), None);
                    return Ok(job);
                }
                if host.enabled {
                    let mut disabled = host.as_ref().clone();
                    disabled.enabled = false;
                    disabled.version += 1;
                    let text = format!("host `{name}` is being drained: nothing new is placed on it");
                    tx.event("host.changed", About::host(&name), 0, text);
                    tx.put(Change::PutHost(Arc::new(disabled)));
                }
                let id = JobId(tx.id());
                let mut job = change::new_job(tx, id, JobKind::Drain, &caller, args::write(&DrainArgs { evacuate })?);
                job.host = Some(name.clone());
                change::put_job(tx, job);
                remember(tx, &caller, &options, &digest, None, Some(id), None);
                Ok(id)
            })
            .await
    }
}

fn asked(caller: &Caller, name: &HostName) -> Asked {
    let request = admit::request_named(Verb::Drain, name.as_str(), Vec::new());
    Asked { request, caller: caller.clone(), workspace: None, fresh: None, neighbours: None }
}

/// Where a workspace would be placed on a projection.
fn place(
    policies: &Policies,
    site: &Site,
    now: Timestamp,
    workspace: &Arc<Workspace>,
    way: Way,
) -> std::result::Result<HostName, String> {
    let asked = match way {
        Way::Live => act::ask(site, &actor(), workspace, Verb::Migrate, None, None),
        Way::Bundle | Way::Store => through_bundle(site, workspace),
    }
    .map_err(|error| error.to_string())?;
    let judged = policies.decide(|judge| admit::judge(judge, site, now, asked, false));
    match (judged.refusal, judged.host) {
        (Some(refusal), _) => Err(refusal.to_string()),
        (None, Some(host)) => Ok(host),
        (None, None) => Err("no host was named".to_owned()),
    }
}
