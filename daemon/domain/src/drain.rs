//! Leaving a host: in which ways each workspace on it can go, and a plan for all of them. Pure functions of the projection; where a
//! workspace may go is asked of whoever judges placements, with what the plan has given away so far taken off.
//!
//! What can go how, and why:
//! - **running**: live, if the host can. Through a bundle only if the host shall be left at once: the guest stands still meanwhile.
//! - **paused**: through a bundle. It stands still anyway, and comes back paused.
//! - **stopped**: not at all. It has no memory to move, and backends copy disks only along with a machine that has. Nothing of it
//!   runs, so a host that is to be restarted need not be rid of it; one that is to be given up wants it started or destroyed first.
//! - on its way from one state to another: its job ends first.

use crate::host::Host;
use crate::id::HostName;
use crate::lifecycle::State;
use crate::site::{Change, Site};
use crate::workspace::Workspace;
use std::sync::Arc;

/// How a workspace leaves its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// It moves while it runs.
    Live,
    /// Into a bundle here, out of it there.
    Bundle,
    /// Into a bundle, and stays in it: no host has room.
    Store,
}

impl Way {
    /// The word on the bus.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Bundle => "bundle",
            Self::Store => "store",
        }
    }
}

/// What a plan says of one workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Departure {
    /// The workspace.
    pub workspace: Arc<Workspace>,
    /// How it goes; `None`: it stays.
    pub way: Option<Way>,
    /// Where to, unless it stays or is stored.
    pub to: Option<HostName>,
    /// Why it stays, or why it goes no better way; may be empty.
    pub reason: String,
}

/// The ways in which a workspace can leave its host, best first. `evacuate`: at once, so that running guests may be interrupted.
///
/// # Errors
/// Why there is none.
pub fn ways_off(host: &Host, workspace: &Workspace, evacuate: bool) -> Result<Vec<Way>, String> {
    let live = host.cannot("migrate");
    let bundle = host.cannot("serialize");
    let kept = workspace.snapshots.len();
    if kept > 0 && matches!(workspace.state, State::Running | State::Paused) {
        return Err(format!("has {kept} snapshots, which stay with the machine and move in no way; remove them first"));
    }
    let mut ways = Vec::new();
    match workspace.state {
        State::Running => {
            if live.is_none() && workspace.also_on.is_none() {
                ways.push(Way::Live);
            }
            if evacuate && bundle.is_none() {
                ways.extend([Way::Bundle, Way::Store]);
            }
            if ways.is_empty() {
                return Err(match (live, workspace.also_on.as_ref(), bundle) {
                    (None, Some(other), _) => {
                        format!("has not left host `{other}` completely; it can move when that host answers")
                    }
                    (Some(live), _, Some(bundle)) => {
                        format!("the host cannot move it while it runs ({live}), nor serialize it ({bundle})")
                    }
                    (Some(live), _, None) => {
                        format!("the host cannot move it while it runs ({live}); an evacuation would take it through a bundle")
                    }
                    (None, None, _) => "cannot move".to_owned(),
                });
            }
        }
        State::Paused => match bundle {
            None => {
                ways.push(Way::Bundle);
                if evacuate {
                    ways.push(Way::Store);
                }
            }
            Some(reason) => return Err(format!("is paused, and the host cannot serialize it: {reason}")),
        },
        State::Stopped => {
            return Err("is stopped: it has no memory to move, and disks move only with a machine that has; \
                        start it and it can move, or destroy it"
                .to_owned());
        }
        State::Broken => return Err(format!("is broken ({}); destroy it", workspace.cause.text)),
        State::Unknown => return Err(format!("nothing is known of it: {}", workspace.cause.text)),
        State::Serialized => return Err("is in a bundle, on no host".to_owned()),
        State::Reserved
        | State::Staging
        | State::Starting
        | State::Stopping
        | State::Serializing
        | State::Restoring
        | State::Migrating
        | State::Destroying
        | State::Gone => return Err(format!("is {}: its job ends first, then it is judged", workspace.state.name())),
    }
    Ok(ways)
}

/// The plan: for each workspace on the host, large ones first, how and where to it goes, or why it stays. `place` judges one workspace
/// on the projection as it would be by then.
pub fn plan_departures(
    site: &Site,
    host: &HostName,
    evacuate: bool,
    mut place: impl FnMut(&Site, &Arc<Workspace>, Way) -> Result<HostName, String>,
) -> Vec<Departure> {
    let Some(here) = site.host(host).cloned() else { return Vec::new() };
    let mut then = site.clone();
    let mut disabled = here.as_ref().clone();
    disabled.enabled = false;
    then.apply(&Change::PutHost(Arc::new(disabled)));
    let mut on_it: Vec<Arc<Workspace>> =
        site.workspaces().filter(|workspace| workspace.host.as_ref() == Some(host)).cloned().collect();
    on_it.sort_by(|one, two| two.resources.memory_mib.cmp(&one.resources.memory_mib).then(one.id.cmp(&two.id)));
    let mut plan = Vec::with_capacity(on_it.len());
    for workspace in on_it {
        let mut departure = Departure { workspace, way: None, to: None, reason: String::new() };
        match ways_off(&here, &departure.workspace, evacuate) {
            Err(reason) => departure.reason = reason,
            Ok(ways) => {
                for way in ways {
                    if way == Way::Store {
                        departure.way = Some(way);
                        break;
                    }
                    match place(&then, &departure.workspace, way) {
                        Ok(to) => {
                            departure.way = Some(way);
                            departure.to = Some(to);
                            break;
                        }
                        Err(reason) => departure.reason = reason,
                    }
                }
            }
        }
        take_away(&mut then, &departure);
        plan.push(departure);
    }
    plan
}

/// What a departure does to the projection: the target's room is taken. What is freed here comes later, and is not counted upon.
fn take_away(site: &mut Site, departure: &Departure) {
    let Some(held) = site.reservation(departure.workspace.id) else { return };
    let mut held = held.as_ref().clone();
    match (departure.way, &departure.to) {
        (Some(Way::Live | Way::Bundle), Some(to)) => held.also_on = Some(to.clone()),
        _ => return,
    }
    site.apply(&Change::PutReservation(Arc::new(held)));
}
