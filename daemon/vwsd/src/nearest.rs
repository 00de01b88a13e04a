//! The nearest change that would pass: a refused request is judged again with less, by the same function, until it passes.
//!
//! Owns: what is tried, and in which order. A pure search: its only question is `judge`. It assumes that who gets more would get less, and
//! says nothing that was not judged to pass. Must not know: policies, D-Bus, the real path.

use crate::admit::{Asked, Judged};
use vws_domain::{Request, Site, Timestamp, Verb, WorkspaceId, capacity_filter};

/// Judgements that one search may take: it runs where decisions wait.
pub const JUDGEMENTS: usize = 96;
/// Groups that are tried.
const GROUPS: usize = 8;

/// An amount of a request that can be lowered.
struct Amount {
    get: fn(&Request) -> u64,
    set: fn(&mut Request, u64),
    /// What it is in words, around the number.
    words: (&'static str, &'static str),
    /// Whole steps, so that what is told is a number that people use where one passes.
    step: u64,
}

const AMOUNTS: [Amount; 4] = [
    Amount {
        get: |request| request.resources.memory_mib,
        set: |request, amount| request.resources.memory_mib = amount,
        words: ("with ", " MiB of memory"),
        step: 64,
    },
    Amount {
        get: |request| request.resources.vcpus,
        set: |request, amount| request.resources.vcpus = amount,
        words: ("with ", " vCPUs"),
        step: 1,
    },
    Amount {
        get: |request| request.resources.disk_gib,
        set: |request, amount| request.resources.disk_gib = amount,
        words: ("with ", " GiB of disk"),
        step: 1,
    },
    Amount {
        get: |request| request.duration_seconds,
        set: |request, amount| request.duration_seconds = amount,
        words: ("with a lease of ", " s"),
        step: 60,
    },
];

/// What would pass instead of a request that was refused, a sentence each; the least change of each kind.
pub fn nearest(asked: &Asked, mut judge: impl FnMut(Asked) -> Judged) -> Vec<String> {
    let mut left = JUDGEMENTS;
    let mut passes = |request: Request| {
        if left == 0 {
            return false;
        }
        left -= 1;
        judge(Asked { request, ..asked.clone() }).refusal.is_none()
    };
    let verb = asked.request.verb;
    let sizes = matches!(verb, Verb::Launch | Verb::Resize);
    let mut ways = Vec::new();
    for (index, amount) in AMOUNTS.iter().enumerate() {
        let lease = index == 3;
        let applies = if lease { verb.takes_quota() && verb != Verb::Resize } else { sizes };
        let floor = match (&asked.workspace, lease) {
            // Less than it has is not what was asked.
            (Some(workspace), false) => (amount.get)(&Request { resources: workspace.resources, ..asked.request.clone() }),
            _ => amount.step,
        };
        let wanted = (amount.get)(&asked.request);
        if !applies {
            continue;
        }
        if lease && wanted == 0 {
            // Without an end: the longest of a few that people use.
            let named = [30 * 86_400, 7 * 86_400, 86_400, 4 * 3600, 3600];
            let found = named.into_iter().find(|seconds| {
                let mut request = asked.request.clone();
                (amount.set)(&mut request, *seconds);
                passes(request)
            });
            ways.extend(found.map(|seconds| format!("with a lease of {seconds} s instead of one without end it would pass")));
            continue;
        }
        let try_with = |steps: u64, passes: &mut dyn FnMut(Request) -> bool| {
            let mut request = asked.request.clone();
            (amount.set)(&mut request, steps * amount.step);
            passes(request)
        };
        let (mut low, mut high) = (floor.div_ceil(amount.step).max(1), wanted.div_ceil(amount.step));
        if low >= high || !try_with(low, &mut passes) {
            continue;
        }
        // `low` passes, `high` does not.
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if try_with(middle, &mut passes) { low = middle } else { high = middle }
        }
        let (before, after) = amount.words;
        ways.push(format!("{before}{}{after} instead of {wanted} it would pass", low * amount.step));
    }
    if let Some(host) = &asked.request.host
        && passes(Request { host: None, ..asked.request.clone() })
    {
        ways.push(format!("without insisting on host `{host}` it would pass"));
    }
    if verb == Verb::Launch {
        let others = asked.caller.groups.iter().filter(|group| **group != asked.request.group).take(GROUPS);
        for group in others {
            if passes(Request { group: group.clone(), ..asked.request.clone() }) {
                ways.push(format!("charged to group `{group}` instead of `{}` it would pass", asked.request.group));
            }
        }
    }
    ways
}

/// The host that has the room first when leases end as they are due: a sentence. `name` says what the caller may know of a workspace.
pub fn frees_up(site: &Site, request: &Request, name: impl Fn(WorkspaceId) -> Option<String>) -> Option<String> {
    let mut first: Option<(Timestamp, String)> = None;
    for candidate in site.candidates() {
        if capacity_filter(request, candidate).is_none() {
            continue;
        }
        let mut ending: Vec<_> = site.reservations_on(&candidate.host.name).filter(|held| held.lease_until.is_some()).collect();
        ending.sort_by_key(|held| held.lease_until);
        let mut later = candidate.clone();
        for held in ending {
            later.free = later.free.plus(held.resources);
            let Some(until) = held.lease_until else { continue };
            if capacity_filter(request, &later).is_some() {
                continue;
            }
            if first.as_ref().is_none_or(|(earliest, _)| until < *earliest) {
                let whose = name(held.workspace).map_or_else(|| "a workspace".to_owned(), |name| format!("`{name}`"));
                let more = held.resources;
                let text = format!(
                    "host `{}` has the room when the lease of {whose} ends ({} vCPUs, {} MiB, {} GiB become free) at {}",
                    candidate.host.name, more.vcpus, more.memory_mib, more.disk_gib, until.0
                );
                first = Some((until, text));
            }
            break;
        }
    }
    first.map(|(_, text)| text)
}
