//! Placement when no host has room: the site's conditions, ranking and functions once more, over the hosts that would have room
//! without some pre-emptible workspaces, as these hosts would be then. The site's `preempt` has the say in who is displaced; a policy
//! that has none displaces nobody. Which workspaces would have to leave a host is the core's answer (`vws_domain::offers`).

use super::{Answer, Field, Placement, Script, SiteRefusal, bring_forward, judgements, refused, search};
use crate::evaluator::Evaluator;
use crate::fault::Fault;
use crate::placement::columns::Columns;
use crate::verdict::clean;
use mlua::{Function, Table, Value};
use vws_domain::{Caller, Candidate, HostOutcome, Offer, PlacementInput, Restriction, Rule, Verdict, VerdictKind};

/// Victims that a text names one by one.
const NAMED: usize = 8;

/// The policy's `preempt`.
pub(super) enum Say {
    /// It is not there, or `false`: nobody is displaced.
    No,
    /// `true`: whoever is pre-emptible is displaced.
    Yes,
    /// A function, and where it begins.
    Ask(Function, u32),
}

impl Say {
    /// From what stands in the policy's table; the prelude has checked it.
    pub(super) fn read(value: Value, line: u32) -> Self {
        match value {
            Value::Function(function) => Self::Ask(function, line),
            Value::Boolean(true) => Self::Yes,
            _ => Self::No,
        }
    }

    pub(super) fn is_some(&self) -> bool {
        !matches!(self, Self::No)
    }

    fn rule(&self) -> Rule {
        let line = if let Self::Ask(_, line) = self { *line } else { 0 };
        Rule { file: super::FILE.to_owned(), line }
    }
}

/// Asks the site whether the victims may be displaced. Where nobody new has to leave there is nothing to ask.
pub(super) fn ask(evaluator: &Evaluator, script: &Script, offer: &Offer, host: &Table) -> Result<Option<SiteRefusal>, Fault> {
    let Say::Ask(function, line) = &script.preempt else { return Ok(None) };
    if offer.victims.is_empty() {
        return Ok(None);
    }
    let sandbox = &evaluator.scripts.sandbox;
    let fault = |error: mlua::Error| evaluator.set.fault(&error, super::FILE);
    let victims = sandbox.building(|| sandbox.victims(&offer.victims)).map_err(fault)?;
    let answer: Answer = sandbox.core.preempt.call((function, f64::from(*line), &script.input, host, victims)).map_err(fault)?;
    refused(answer, evaluator.set.limits())
}

/// Which of the offers, if any: the best by the site's ranking, ties to that with the fewest victims, then by name. `first` is the
/// refusal that the hosts as they are met with.
pub(crate) fn displace(
    evaluator: &mut Evaluator,
    input: &PlacementInput,
    mut offers: Vec<Offer>,
    first: Verdict,
    explain: bool,
) -> Placement {
    offers.sort_by(|a, b| a.victims.len().cmp(&b.victims.len()).then_with(|| a.candidate.host.name.cmp(&b.candidate.host.name)));
    let candidates: Vec<Candidate> = offers.iter().map(|offer| offer.candidate.clone()).collect();
    // Not the evaluator's own columns: those are of the hosts as they are.
    let mut columns = Columns::default();
    match search(evaluator, &mut columns, input, &candidates, &offers, explain) {
        Ok((script, field)) => conclude(evaluator, &columns, &script, field, input, &candidates, &offers, first, explain),
        Err(fault) => {
            Placement { verdict: evaluator.refusal("placement", fault), host: None, hosts: Vec::new(), preempts: false }
        }
    }
}

fn conclude(
    evaluator: &Evaluator,
    columns: &Columns,
    script: &Script,
    mut field: Field,
    input: &PlacementInput,
    candidates: &[Candidate],
    offers: &[Offer],
    first: Verdict,
    explain: bool,
) -> Placement {
    let limits = evaluator.set.limits();
    let recorded = limits.recorded_hosts.max(1);
    bring_forward(columns, &mut field.scored, recorded);
    let offer_at = |index: u32| offers.get(index as usize);
    let chosen = field.scored.first().and_then(|(index, score)| Some((offer_at(*index)?, *score)));
    let (verdict, host) = match chosen {
        Some((offer, score)) => {
            let name = &offer.candidate.host.name;
            let count = field.scored.len();
            let who = described(&input.caller, offer);
            let text = format!(
                "no host takes it as it is; displaces {who} on host `{name}`, the best of {count} that get it so; score {score:.4}"
            );
            let verdict = Verdict {
                kind: VerdictKind::Permit,
                code: "displaces".to_owned(),
                text: clean(text.as_bytes(), limits.text_chars),
                rule: script.preempt.rule(),
                restriction: Restriction::default(),
                ..first
            };
            (verdict, Some(name.clone()))
        }
        None => {
            let mut refused: Vec<_> = field.refused.iter().collect();
            refused.sort_unstable_by_key(|(index, _)| **index);
            let why = refused.first().and_then(|(index, refusal)| Some((offer_at(**index)?, *refusal)));
            let verdict = match why {
                None => first,
                Some((offer, refusal)) => {
                    let who = described(&input.caller, offer);
                    let text = format!(
                        "{}; host `{}` would have room without {who}: {} ({})",
                        first.text, offer.candidate.host.name, refusal.text, refusal.rule
                    );
                    Verdict { text: clean(text.as_bytes(), limits.text_chars), rule: refusal.rule.clone(), ..first }
                }
            };
            (verdict, None)
        }
    };
    let mut hosts = judgements(columns, &field, input, candidates, explain, recorded);
    for judgement in &mut hosts {
        let offer = offers.iter().find(|offer| offer.candidate.host.name == judgement.host);
        if let (HostOutcome::Scored(score), Some(offer)) = (&judgement.outcome, offer) {
            judgement.outcome = HostOutcome::Displaces { score: *score, text: described(&input.caller, offer) };
        }
    }
    Placement { verdict, host, hosts, preempts: true }
}

/// Who would leave, for the caller: others' workspaces are counted and not named, but to administrators.
fn described(caller: &Caller, offer: &Offer) -> String {
    let seen = |owner: u32| caller.admin || owner == caller.uid;
    let (own, others): (Vec<_>, Vec<_>) = offer.victims.iter().partition(|victim| seen(victim.workspace.owner));
    let mut parts: Vec<String> =
        own.iter().take(NAMED).map(|victim| format!("`{}` ({})", victim.workspace.spec.name, victim.exit.name())).collect();
    if own.len() > NAMED {
        parts.push(format!("{} more", own.len() - NAMED));
    }
    if !others.is_empty() {
        parts.push(format!("{} of others", others.len()));
    }
    if parts.is_empty() {
        parts.push("nobody more".to_owned());
    }
    match offer.leaving.len() {
        0 => parts.join(", "),
        leaving => format!("{}; {leaving} leave already", parts.join(", ")),
    }
}
