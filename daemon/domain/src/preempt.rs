//! Making room: which pre-emptible workspaces would have to leave a host so that a request fits. Pure functions of the projection;
//! whether any of them is displaced at all is asked of the placement policy.
//!
//! Nobody's room is given away before it is free. Whoever displaces is booked on the host at once, beside those that are to leave:
//! sums over reservations exceed the capacity meanwhile, so nothing else fits in between, and its job touches the host only when all
//! of those are gone that were counted as gone when it was admitted ([`room_wait`]). So what is on a host never exceeds the capacity:
//! of those that are on it, the one that was admitted last fitted beside all the others.
//!
//! - **running, paused**: into a bundle. A stopped one has no memory, and keeps its place until it is destroyed.
//! - what cannot go into a bundle (it is stopped, has snapshots, the host cannot) is destroyed, if its owner said that its lease's end
//!   may destroy it; otherwise it stays.
//! - at work, unknown, broken, between two hosts: left alone.

use crate::capacity::Resources;
use crate::decision::{HostOutcome, Request};
use crate::host::Host;
use crate::id::{HostName, JobId, WorkspaceId};
use crate::job::JobState;
use crate::lease::EndAction;
use crate::lifecycle::State;
use crate::place::{Candidate, capacity_filter};
use crate::site::Site;
use crate::workspace::Workspace;
use std::cmp::Reverse;
use std::sync::Arc;

/// Name of the actor that displaces: the jobs' actor, as which decisions are recorded.
pub const PREEMPTER: &str = "vwsd/preempt";
/// Workspaces that one request displaces at most.
const VICTIMS_MOST: usize = 32;
/// Steps that one request's search for smallest sets takes on all hosts together; beyond them sets are small, and not always smallest.
const STEPS_MOST: u32 = 200_000;

/// How a workspace leaves to make room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// Into a bundle.
    Serialize,
    /// To its end.
    Destroy,
}

impl Exit {
    /// The verb.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Serialize => "serialize",
            Self::Destroy => "destroy",
        }
    }
}

/// One that would have to leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Victim {
    /// It.
    pub workspace: Arc<Workspace>,
    /// How it would.
    pub exit: Exit,
}

/// A host that takes the request once some have left it.
#[derive(Clone, Debug)]
pub struct Offer {
    /// The host as it would be then.
    pub candidate: Candidate,
    /// Who would have to leave: the fewest, those that are destroyed last of all.
    pub victims: Vec<Victim>,
    /// Who is leaving already, and by which job: they are waited for, too.
    pub leaving: Vec<(WorkspaceId, JobId)>,
}

/// How a workspace would leave the host to make room.
///
/// # Errors
/// Why it cannot.
pub fn exit_of(host: &Host, workspace: &Workspace) -> Result<Exit, String> {
    if !workspace.spec.preemptible {
        return Err("is not pre-emptible".to_owned());
    }
    if workspace.job.is_some() {
        return Err("a job is at work on it".to_owned());
    }
    if let Some(other) = &workspace.also_on {
        return Err(format!("has not left host `{other}` completely"));
    }
    let kept = workspace.snapshots.len();
    let stays = match workspace.state {
        State::Running | State::Paused if kept > 0 => format!("has {kept} snapshots, which cannot go into a bundle"),
        State::Running | State::Paused => match host.cannot("serialize") {
            None => return Ok(Exit::Serialize),
            Some(reason) => format!("the host cannot serialize it: {reason}"),
        },
        State::Stopped => "is stopped: it has no memory to serialize".to_owned(),
        state => return Err(format!("is {}", state.name())),
    };
    if workspace.lease.action == EndAction::Destroy { Ok(Exit::Destroy) } else { Err(stays) }
}

/// The job by which a workspace is leaving to make room, if one is at work.
#[must_use]
pub fn leaves_for(site: &Site, workspace: &Workspace) -> Option<JobId> {
    let job = site.job(workspace.job?)?;
    (job.actor == PREEMPTER && !job.state.ended()).then_some(job.id)
}

/// The hosts that lack nothing but room for the request and have it once pre-emptible workspaces have left, by name, each with the
/// smallest set of those. A pre-emptible request displaces nobody.
#[must_use]
pub fn offers(site: &Site, request: &Request) -> Vec<Offer> {
    if request.preemptible {
        return Vec::new();
    }
    let mut steps = STEPS_MOST;
    site.preemptible().filter_map(|(host, there)| offer(site, request, host, there.iter(), &mut steps)).collect()
}

fn offer<'a>(
    site: &Site,
    request: &Request,
    name: &HostName,
    there: impl Iterator<Item = &'a WorkspaceId>,
    steps: &mut u32,
) -> Option<Offer> {
    let now = site.candidate(name)?;
    match capacity_filter(request, now) {
        Some(HostOutcome::Filtered { code, .. }) if code == "no-room" => {}
        _ => return None,
    }
    let host = &now.host;
    let mut gone = Resources::default();
    let mut leaving = Vec::new();
    let mut could: Vec<Victim> = Vec::new();
    for workspace in there.filter_map(|id| site.workspace(*id)) {
        if let Some(job) = leaves_for(site, workspace) {
            gone = gone.plus(workspace.resources);
            leaving.push((workspace.id, job));
        } else if workspace.host.as_ref() == Some(name)
            && let Ok(exit) = exit_of(host, workspace)
        {
            could.push(Victim { workspace: Arc::clone(workspace), exit });
        }
    }
    let held = site.usage_of_host(name).resources;
    let lack = lack(request.resources, held.minus(gone), host.capacity());
    let victims = smallest(lack, could, steps)?;
    if victims.is_empty() && leaving.is_empty() {
        return None;
    }
    let gone = victims.iter().fold(gone, |sum, victim| sum.plus(victim.workspace.resources));
    let candidate = Candidate {
        host: Arc::clone(host),
        free: host.capacity().minus(held.minus(gone)),
        workspaces: now.workspaces.saturating_sub((victims.len() + leaving.len()) as u64),
    };
    Some(Offer { candidate, victims, leaving })
}

/// What has to go so that `asked` fits beside `held`. Of what is not asked nothing is lacking.
fn lack(asked: Resources, held: Resources, capacity: Resources) -> Resources {
    let part = |asked: u64, held: u64, capacity: u64| {
        if asked == 0 { 0 } else { held.saturating_add(asked).saturating_sub(capacity) }
    };
    Resources {
        vcpus: part(asked.vcpus, held.vcpus, capacity.vcpus),
        memory_mib: part(asked.memory_mib, held.memory_mib, capacity.memory_mib),
        disk_gib: part(asked.disk_gib, held.disk_gib, capacity.disk_gib),
    }
}

/// What a set costs: how many are destroyed, how many leave, how much leaves. The least is the best.
type Cost = (usize, usize, u64, u64, u64);

/// The search for the cheapest set that covers a lack.
struct Search<'a> {
    could: &'a [Victim],
    /// What all from here on hold together.
    rest: Vec<Resources>,
    best: Option<(Cost, Vec<usize>)>,
    steps: &'a mut u32,
}

/// The cheapest of those that could leave which together hold what is lacking; `None`: all together do not, or too many
/// would have to. Ties go to those that hold more of it, then to the lower ids.
fn smallest(lack: Resources, mut could: Vec<Victim>, steps: &mut u32) -> Option<Vec<Victim>> {
    if lack == Resources::default() {
        return Some(Vec::new());
    }
    let all = could.iter().fold(Resources::default(), |sum, victim| sum.plus(victim.workspace.resources));
    lack.shortage(all).is_none().then_some(())?;
    // Large ones first: the first set found is small already, and the others are cut off early.
    could.sort_by_key(|victim| (victim.exit, Reverse(covered(lack, victim.workspace.resources)), victim.workspace.id));
    let mut rest = vec![Resources::default(); could.len() + 1];
    for (at, victim) in could.iter().enumerate().rev() {
        let behind = rest.get(at + 1).copied().unwrap_or_default();
        if let Some(slot) = rest.get_mut(at) {
            *slot = behind.plus(victim.workspace.resources);
        }
    }
    let mut search = Search { could: &could, rest, best: None, steps };
    search.best = search.greedy(lack);
    search.look(0, lack, (0, 0, 0, 0, 0), &mut Vec::new());
    let (_, chosen) = search.best?;
    Some(chosen.into_iter().filter_map(|at| could.get(at).cloned()).collect())
}

/// How much of a lack is covered, in parts of a thousand of each resource.
fn covered(lack: Resources, by: Resources) -> u64 {
    let part = |lack: u64, by: u64| by.min(lack).saturating_mul(1000).checked_div(lack).unwrap_or(0);
    part(lack.vcpus, by.vcpus) + part(lack.memory_mib, by.memory_mib) + part(lack.disk_gib, by.disk_gib)
}

fn with(cost: Cost, victim: &Victim) -> Cost {
    let held = victim.workspace.resources;
    let destroyed = usize::from(victim.exit == Exit::Destroy);
    (
        cost.0 + destroyed,
        cost.1 + 1,
        cost.2.saturating_add(held.memory_mib),
        cost.3.saturating_add(held.vcpus),
        cost.4.saturating_add(held.disk_gib),
    )
}

impl Search<'_> {
    /// A set that is found at once: one after the other until they suffice, then without those that are not needed.
    fn greedy(&self, lack: Resources) -> Option<(Cost, Vec<usize>)> {
        let held = |at: &usize| self.could.get(*at).map(|victim| victim.workspace.resources).unwrap_or_default();
        let suffices =
            |set: &[usize]| lack.shortage(set.iter().fold(Resources::default(), |sum, at| sum.plus(held(at)))).is_none();
        let mut set: Vec<usize> = Vec::new();
        let mut missing = lack;
        for at in 0..self.could.len() {
            if missing == Resources::default() {
                break;
            }
            if covered(missing, held(&at)) > 0 {
                missing = missing.minus(held(&at));
                set.push(at);
            }
        }
        for at in (0..set.len()).rev() {
            let mut without = set.clone();
            without.remove(at);
            if suffices(&without) {
                set = without;
            }
        }
        let cost = set.iter().filter_map(|at| self.could.get(*at)).fold((0, 0, 0, 0, 0), with);
        (set.len() <= VICTIMS_MOST).then_some((cost, set))
    }

    /// Every set that may be cheaper than the best: what is chosen so far with each of those from `from` on.
    fn look(&mut self, from: usize, missing: Resources, cost: Cost, set: &mut Vec<usize>) {
        if missing == Resources::default() {
            if self.best.as_ref().is_none_or(|(best, chosen)| (&cost, &*set) < (best, chosen)) {
                self.best = Some((cost, set.clone()));
            }
            return;
        }
        for (at, victim) in self.could.iter().enumerate().skip(from) {
            let enough = self.rest.get(at).is_some_and(|rest| missing.shortage(*rest).is_none());
            let next = with(cost, victim);
            let hopeless = self.best.as_ref().is_some_and(|(best, _)| (next.0, next.1) > (best.0, best.1));
            if !enough || hopeless || set.len() >= VICTIMS_MOST || *self.steps == 0 {
                return;
            }
            *self.steps -= 1;
            set.push(at);
            self.look(at + 1, missing.minus(victim.workspace.resources), next, set);
            set.pop();
        }
    }
}

/// Whether the room that one was to make is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoomWait {
    /// It has left the host.
    Made,
    /// It is on its way.
    Waits,
    /// It stays; why.
    Stays(String),
}

/// What has become of one that was to leave `host` by `job`. Once that job is done the room counts as made, wherever the workspace is
/// now: it may have come back, and was placed anew then.
#[must_use]
pub fn room_wait(site: &Site, host: &HostName, workspace: WorkspaceId, job: JobId) -> RoomWait {
    let known = site.job(job);
    if known.is_some_and(|job| job.state == JobState::Done) {
        return RoomWait::Made;
    }
    let holds = site.reservation(workspace).is_some_and(|held| held.hosts().any(|there| there == host));
    let Some(workspace) = site.workspace(workspace).filter(|_| holds) else { return RoomWait::Made };
    let at_work = |job: JobId| site.job(job).filter(|job| !job.state.ended());
    // A destroy that somebody asked for meanwhile makes the room as well.
    let leaves =
        |job: &Arc<crate::job::Job>| job.kind == crate::job::JobKind::Destroy || known.is_some_and(|own| own.id == job.id);
    if at_work(job).is_some() || workspace.job.and_then(at_work).is_some_and(leaves) {
        return RoomWait::Waits;
    }
    let why = known.and_then(|job| job.error.as_ref()).map_or_else(|| "it did not leave".to_owned(), ToString::to_string);
    RoomWait::Stays(format!("{} stays on host `{host}`: {why}", workspace.object()))
}
