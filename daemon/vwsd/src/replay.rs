//! Recorded decisions judged again, by another policy set, over the input that they had: rebuilt from the versioned ledger.
//!
//! Owns: rebuilding the input (forward, step by step), the comparison. The judging is [`admit::judge`], the one of the real path.
//! Must not know: where the other set came from, what is done with the differences, D-Bus.
//!
//! What cannot be rebuilt is left out and counted: decisions older than the ledger reaches, those made while no policies were in force, and
//! the refused member of a cluster (the members before it, which it saw as placed, were never written), and those for which it matters who
//! could have been displaced: that depends on jobs and states, which the ledger does not keep.

use crate::admit::{self, Asked, Judged};
use crate::policies::Judge;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};
use vws_domain::{
    Change, Decision, DecisionId, ErrorKind, HostName, HostOutcome, PREEMPTER, Result, Site, Timestamp, Verb, Verdict,
    VerdictKind, WorkspaceId,
};
use vws_policy::Evaluator;
use vws_store::{DecisionFilter, Reader, Recorded, Step};

/// Differences that are shown in full.
pub const EXAMPLES: usize = 50;
/// Ledger numbers that are read at a time.
const WINDOW: u64 = 2000;
/// Decisions that are read at a time.
const PAGE: usize = 256;

/// A decision that the other set decides otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The recorded decision.
    pub id: DecisionId,
    /// When it was made.
    pub at: Timestamp,
    /// What was asked.
    pub verb: Verb,
    /// Of what.
    pub name: String,
    /// By whom.
    pub user: String,
    /// What changes, for instance `deny to permit`.
    pub kind: String,
    /// What was answered.
    pub was: String,
    /// What would be answered.
    pub is: String,
}

/// What a replay found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Decisions that were judged again.
    pub judged: u64,
    /// Those that come out otherwise.
    pub changed: u64,
    /// Those whose input cannot be rebuilt.
    pub left_out: u64,
    /// Those that there was no time for.
    pub not_reached: u64,
    /// Changes by kind.
    pub kinds: BTreeMap<String, u64>,
    /// The first differences, or the newest ones where it goes on for ever.
    pub examples: VecDeque<Difference>,
    /// Microseconds that it took.
    pub micros: u64,
}

impl Replayed {
    fn count(&mut self, difference: Option<Difference>, keep_newest: bool) {
        self.judged += 1;
        let Some(difference) = difference else { return };
        self.changed += 1;
        *self.kinds.entry(difference.kind.clone()).or_default() += 1;
        if self.examples.len() >= EXAMPLES {
            if !keep_newest {
                return;
            }
            self.examples.pop_front();
        }
        self.examples.push_back(difference);
    }

    /// "7 of 12400 decisions change: 2 deny to permit, 5 other host".
    #[must_use]
    pub fn sentence(&self) -> String {
        let kinds: Vec<String> = self.kinds.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        let mut text = match self.changed {
            0 => format!("none of {} decisions changes", self.judged),
            1 => format!("1 of {} decisions changes: {}", self.judged, kinds.join(", ")),
            changed => format!("{changed} of {} decisions change: {}", self.judged, kinds.join(", ")),
        };
        if self.left_out > 0 {
            text.push_str(&format!("; {} could not be rebuilt", self.left_out));
        }
        if self.not_reached > 0 {
            text.push_str(&format!("; no time was left for {} more", self.not_reached));
        }
        text
    }
}

/// The ledger, brought from one decision's instant to the next one's.
pub struct Walk {
    reader: Reader,
    site: Option<Site>,
    /// What was read up to this number and is not applied yet.
    ahead: VecDeque<Step>,
    read_to: u64,
    /// Workspaces that decisions of the same transaction made or changed before: it saw them as they were then.
    same: Vec<WorkspaceId>,
}

impl Walk {
    /// A walk that begins where the first decision stands.
    #[must_use]
    pub fn new(reader: Reader) -> Self {
        Self { reader, site: None, ahead: VecDeque::new(), read_to: 0, same: Vec::new() }
    }

    /// What the decision saw; `None`: the ledger does not reach back to it.
    fn seen_by(&mut self, decision: &Decision) -> Result<Option<&Site>> {
        let at = decision.ledger;
        match &mut self.site {
            Some(site) if site.sequence == at => {
                // Not the first of its transaction: those before it are in force for it alone so far.
                let same = std::mem::take(&mut self.same);
                self.read(at + 1)?;
                let Some(site) = &mut self.site else { return Ok(None) };
                for step in self.ahead.iter().filter(|step| step.sequence == at + 1) {
                    let of = match &step.change {
                        Change::PutReservation(reservation) => Some(reservation.workspace),
                        Change::PutAddress(address) => Some(address.workspace),
                        _ => None,
                    };
                    if of.is_some_and(|of| same.contains(&of)) {
                        site.apply(&step.change);
                    }
                }
                self.same = same;
            }
            Some(site) if site.sequence < at && at - site.sequence <= 4 * WINDOW => {
                self.same.clear();
                self.read(at)?;
                let Some(site) = &mut self.site else { return Ok(None) };
                while self.ahead.front().is_some_and(|step| step.sequence <= at) {
                    if let Some(step) = self.ahead.pop_front() {
                        site.apply(&step.change);
                    }
                }
                site.sequence = at;
            }
            _ => {
                self.same.clear();
                self.ahead.clear();
                self.read_to = at;
                self.site = match self.reader.rebuild_at(at) {
                    Ok(site) => Some(site),
                    Err(error) if error.kind == ErrorKind::NotFound => None,
                    Err(error) => return Err(error),
                };
            }
        }
        self.same.extend(decision.workspace);
        Ok(self.site.as_ref())
    }

    /// Reads on until `to` is known.
    fn read(&mut self, to: u64) -> Result<()> {
        let (_, last) = self.reader.ledger_range()?;
        if to <= self.read_to || self.read_to >= last {
            return Ok(());
        }
        let to = to.max(self.read_to.saturating_add(WINDOW)).min(last);
        self.ahead.extend(self.reader.steps(self.read_to, to)?);
        self.read_to = to;
        Ok(())
    }
}

/// Whether everything that the decision saw can be had again.
fn can_be_rebuilt(decision: &Decision) -> bool {
    let refused_member = decision.request.membership.is_some() && !decision.permitted && decision.request.verb.takes_host();
    let displaces = decision.hosts.iter().any(|one| matches!(one.outcome, HostOutcome::Displaces { .. }));
    // Whom a placement displaces is part of that one's decision, and was not judged again by itself.
    let displaced = decision.caller.system && decision.caller.user == PREEMPTER;
    !decision.policy.0.is_empty() && !refused_member && !displaces && !displaced
}

/// The request as it was before it was judged.
fn asked(decision: &Decision) -> Asked {
    let mut request = decision.request.clone();
    let before = &decision.before;
    let beside: Option<HostName> = if before.host.is_none() { request.host.clone() } else { None };
    let avoid = std::mem::take(&mut request.avoid);
    request.resources = before.resources;
    request.duration_seconds = before.duration_seconds;
    request.preemptible = before.preemptible;
    request.host.clone_from(&before.host);
    if let Some(nics) = &before.nics {
        request.nics.clone_from(nics);
    }
    let fresh = (request.verb == Verb::Launch).then(|| decision.workspace.unwrap_or(WorkspaceId(decision.id.0)));
    Asked {
        neighbours: request.membership.is_some().then_some((avoid, beside)),
        request,
        caller: decision.caller.clone(),
        workspace: decision.seen.as_ref().map(|seen| Arc::new(seen.workspace())),
        fresh,
    }
}

/// The word for how it came out.
fn outcome(permitted: bool, native: bool, verdicts: &[Verdict]) -> &'static str {
    match (permitted, native, verdicts.last().map(|verdict| verdict.kind)) {
        (true, true, _) => "native",
        (true, false, _) => "permit",
        (false, _, Some(VerdictKind::Error)) => "error",
        (false, _, _) => "deny",
    }
}

/// What differs; `None`: nothing. Texts and lines may: they change with every edit.
fn difference(was: &Decision, is: &Judged) -> Option<Difference> {
    let now_permitted = is.refusal.is_none();
    let before = outcome(was.permitted, was.native, &was.verdicts);
    let after = outcome(now_permitted, is.native, &is.verdicts);
    let code = |verdicts: &[Verdict]| verdicts.last().map(|verdict| (verdict.policy.clone(), verdict.code.clone()));
    let granted = |request: &vws_domain::Request| (request.resources, request.duration_seconds);
    let kind = if before != after {
        format!("{before} to {after}")
    } else if !now_permitted && code(&was.verdicts) != code(&is.verdicts) {
        "other reason".to_owned()
    } else if now_permitted && was.host != is.host {
        "other host".to_owned()
    } else if now_permitted && granted(&was.request) != granted(&is.request) {
        "other limits".to_owned()
    } else {
        return None;
    };
    let told = |permitted: bool, host: &Option<HostName>, request: &vws_domain::Request, verdicts: &[Verdict]| {
        if permitted {
            let host = host.as_ref().map_or_else(String::new, |host| format!(" on host `{host}`"));
            let resources = request.resources;
            return format!(
                "permitted{host}: {} vCPUs, {} MiB, lease {} s",
                resources.vcpus, resources.memory_mib, request.duration_seconds
            );
        }
        verdicts.last().map_or_else(String::new, |last| format!("{} [{} {} {}]", last.text, last.policy, last.rule, last.code))
    };
    Some(Difference {
        id: was.id,
        at: was.at,
        verb: was.request.verb,
        name: was.request.name.clone(),
        user: was.caller.user.clone(),
        kind,
        was: told(was.permitted, &was.host, &was.request, &was.verdicts),
        is: told(now_permitted, &is.host, &is.request, &is.verdicts),
    })
}

/// Judges one recorded decision again.
fn again(walk: &mut Walk, evaluator: &mut Evaluator, found: &mut Replayed, decision: &Decision, keep_newest: bool) -> Result<()> {
    let seen = walk.seen_by(decision)?;
    match seen.filter(|_| can_be_rebuilt(decision)) {
        None => found.left_out += 1,
        Some(site) => {
            let judged = admit::judge(&mut Judge::by(evaluator), site, decision.at, asked(decision), false);
            let difference = difference(decision, &judged);
            let no_room = judged.host.is_none() && judged.verdicts.last().is_some_and(|last| last.policy == "placement");
            if difference.is_some() && no_room && !judged.request.preemptible && site.preemptible().next().is_some() {
                found.left_out += 1;
            } else {
                found.count(difference, keep_newest);
            }
        }
    }
    Ok(())
}

/// Judges the newest `most` decisions under `filter` again, oldest first, for at most `time`.
///
/// # Errors
/// The store cannot be read.
pub fn replay(reader: Reader, evaluator: &mut Evaluator, filter: &DecisionFilter, most: u64, time: Duration) -> Result<Replayed> {
    let start = Instant::now();
    let mut found = Replayed::default();
    let mut position = reader.position_before_newest(filter, most)?;
    let pages = reader.again()?;
    let mut walk = Walk::new(reader);
    loop {
        let page = pages.decisions_after(filter, position, PAGE)?;
        let Some(last) = page.last() else { break };
        position = last.position;
        for (index, Recorded { decision, .. }) in page.iter().enumerate() {
            if start.elapsed() > time {
                found.not_reached = (page.len() - index) as u64;
                found.not_reached += pages.count_after(filter, position)?;
                found.micros = micros(start);
                return Ok(found);
            }
            again(&mut walk, evaluator, &mut found, decision, false)?;
        }
    }
    found.micros = micros(start);
    Ok(found)
}

fn micros(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// Judges what is recorded from now on by a second set: a shadow of the one in force.
pub struct Follower {
    pages: Reader,
    walk: Walk,
    evaluator: Evaluator,
    position: u64,
    /// What it found so far.
    pub found: Replayed,
}

impl Follower {
    /// Begins behind the newest decision.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn new(reader: Reader, evaluator: Evaluator) -> Result<Self> {
        let position = reader.position_before_newest(&DecisionFilter::default(), 0)?;
        let pages = reader.again()?;
        Ok(Self { pages, walk: Walk::new(reader), evaluator, position, found: Replayed::default() })
    }

    /// Judges what has been recorded since.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn catch_up(&mut self) -> Result<()> {
        loop {
            let page = self.pages.decisions_after(&DecisionFilter::default(), self.position, PAGE)?;
            let Some(last) = page.last() else { return Ok(()) };
            self.position = last.position;
            for recorded in &page {
                again(&mut self.walk, &mut self.evaluator, &mut self.found, &recorded.decision, true)?;
            }
        }
    }
}
