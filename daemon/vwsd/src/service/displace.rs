//! Making room for an admitted request: begins the jobs by which those that the placement policy let be displaced leave their host, in the
//! transaction that admits the request, and records for each who displaces it and by which rule. The admitted one's own job waits for
//! them: `operate/room.rs`. Must not know: who is chosen, which is `vws_domain::offers` and the policy.

use crate::admit::{self, Judged};
use crate::core::Tx;
use crate::operate::args::RoomArgs;
use crate::operate::{NewJob, begin, serialize_job};
use std::sync::Arc;
use vws_domain::{
    Before, Caller, Cause, Change, Decision, DecisionId, Exit, JobKind, Restriction, Result, Rule, Seen, Verb, Verdict,
    VerdictKind, Victim,
};

/// Begins what makes the room that a judged request needs; answers for whom its job has to wait.
///
/// # Errors
/// Internal: a job that cannot begin in its workspace's state.
pub(super) fn make_room(tx: &mut Tx<'_>, judged: &Judged) -> Result<Vec<RoomArgs>> {
    let Some(offer) = &judged.makes_room else { return Ok(Vec::new()) };
    let mut room: Vec<RoomArgs> = offer
        .leaving
        .iter()
        .map(|(workspace, job)| RoomArgs { workspace: workspace.to_string(), job: job.to_string() })
        .collect();
    for victim in &offer.victims {
        room.push(displace(tx, judged, victim)?);
    }
    Ok(room)
}

fn displace(tx: &mut Tx<'_>, judged: &Judged, victim: &Victim) -> Result<RoomArgs> {
    let workspace = &victim.workspace;
    let host = workspace.host.as_ref().map(ToString::to_string).unwrap_or_default();
    let request = &judged.request;
    let text = format!(
        "displaced by the {} of `{}` by user `{}`, for which host `{host}` had no room otherwise",
        request.verb.name(),
        request.name,
        judged.caller.user
    );
    let actor = Caller::system("preempt");
    record(tx, judged, victim, &actor, &text);
    let mut next = workspace.as_ref().clone();
    next.cause = Cause { code: "displaced".to_owned(), text };
    let job = match victim.exit {
        Exit::Serialize => serialize_job(tx, workspace)?,
        Exit::Destroy => NewJob { kind: JobKind::Destroy, args: "{}".to_owned() },
    };
    let job = begin(tx, workspace, next, job, &actor, "displaced")?;
    Ok(RoomArgs { workspace: workspace.id.to_string(), job: job.to_string() })
}

/// The decision as the displaced one's owner reads it: the rule is that which let it be displaced.
fn record(tx: &mut Tx<'_>, judged: &Judged, victim: &Victim, actor: &Caller, text: &str) {
    let verb = match victim.exit {
        Exit::Serialize => Verb::Serialize,
        Exit::Destroy => Verb::Destroy,
    };
    let rule = judged.verdicts.last().map_or_else(Rule::default, |verdict| verdict.rule.clone());
    let verdict = Verdict {
        policy: "placement".to_owned(),
        kind: VerdictKind::Permit,
        code: "displaced".to_owned(),
        text: text.to_owned(),
        rule,
        restriction: Restriction::default(),
        micros: 0,
    };
    let id = DecisionId(tx.id());
    tx.put(Change::PutDecision(Arc::new(Decision {
        id,
        at: judged.at,
        ledger: judged.ledger,
        request: admit::request_about(verb, &victim.workspace, Vec::new()),
        before: Before::default(),
        seen: Some(Seen::of(&victim.workspace)),
        caller: actor.clone(),
        workspace: Some(victim.workspace.id),
        policy: judged.policy.clone(),
        generation: judged.generation,
        verdicts: vec![verdict],
        permitted: true,
        native: false,
        host: victim.workspace.host.clone(),
        hosts: Vec::new(),
    })));
}
