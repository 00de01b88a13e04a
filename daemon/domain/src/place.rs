//! Placement's native part: which hosts can take a request at all, and which of the scored ones wins.
//! The site's filters and scores come from `vws-policy`; whatever they say is checked against this again.

use crate::capacity::Resources;
use crate::decision::{HostOutcome, Request, Rule};
use crate::host::{Connection, Host};
use crate::id::HostName;
use std::sync::Arc;

/// A host offered to placement: what it is and what is free on it.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The host.
    pub host: Arc<Host>,
    /// What is free for new workspaces.
    pub free: Resources,
    /// Live workspaces placed on it.
    pub workspaces: u64,
}

/// Why the host cannot take the request, or `None` if it can.
#[must_use]
pub fn capacity_filter(request: &Request, candidate: &Candidate) -> Option<HostOutcome> {
    let host = &candidate.host;
    let no = |code: &str, text: String| {
        Some(HostOutcome::Filtered { rule: Rule { file: "native".to_owned(), line: 0 }, code: code.to_owned(), text })
    };
    if let Some(wanted) = &request.host
        && *wanted != host.name
    {
        return no("other-host", format!("the request names host `{wanted}`"));
    }
    if request.avoid.contains(&host.name) {
        return no("apart", "a member of the cluster is there that it has to be apart from".to_owned());
    }
    if request.leaves.as_ref() == Some(&host.name) {
        return no("leaves", "the workspace is on it, or has not left it completely".to_owned());
    }
    if let Some(backend) = &request.backend
        && *backend != host.backend
    {
        return no("backend", format!("needs backend `{backend}`, the host has `{}`", host.backend));
    }
    if !host.enabled {
        return no("disabled", "takes no new workspaces".to_owned());
    }
    match &host.connection {
        Connection::Up => {}
        Connection::Unprobed => return no("unprobed", "was not probed yet".to_owned()),
        Connection::Down(reason) => return no("down", format!("does not answer: {reason}")),
    }
    for need in &request.needs {
        if let Some(reason) = host.cannot(need) {
            // What names one of a kind comes with a whole sentence.
            return match need.split_once(':') {
                Some((kind, _)) => no(kind, reason),
                None => no("unsupported", format!("`{need}`: {reason}")),
            };
        }
    }
    if let Some(short) = request.resources.shortage(host.ceiling()) {
        return no(
            "too-large",
            format!("{} {} asked, the host gives out {} at most", short.asked, short.resource, short.available),
        );
    }
    request.resources.shortage(candidate.free).and_then(|short| {
        no(
            "no-room",
            format!(
                "{} of {} {} free, {} asked",
                short.available,
                available_of(host, short.resource),
                short.resource,
                short.asked
            ),
        )
    })
}

/// Code and text of why a workspace on `host` that holds `held` cannot become what the request says there, or `None` if it can. What does not grow needs
/// no room.
#[must_use]
pub fn growth_filter(request: &Request, held: Resources, host: &Host, free: Resources) -> Option<(&'static str, String)> {
    for need in &request.needs {
        if let Some(reason) = host.cannot(need) {
            return Some(("unsupported", format!("`{need}`: {reason}")));
        }
    }
    let more = request.resources.minus(held);
    let short = more.shortage(free)?;
    Some(("no-room", format!("{} more {} asked, {} free", short.asked, short.resource, short.available)))
}

fn available_of(host: &Host, resource: &str) -> u64 {
    let capacity = host.capacity();
    match resource {
        "vcpus" => capacity.vcpus,
        "memory_mib" => capacity.memory_mib,
        _ => capacity.disk_gib,
    }
}

/// The winner: the highest score, ties to the name that comes first. NaN never wins.
#[must_use]
pub fn choose(scores: &[(HostName, f64)]) -> Option<&HostName> {
    let mut best: Option<(&HostName, f64)> = None;
    for (name, score) in scores.iter().filter(|(_, score)| !score.is_nan()) {
        let better = match best {
            None => true,
            Some((best_name, best_score)) => *score > best_score || (*score == best_score && name < best_name),
        };
        if better {
            best = Some((name, *score));
        }
    }
    best.map(|(name, _)| name)
}
