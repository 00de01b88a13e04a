//! No host: why, in one sentence with the numbers that matter, and under a code that says what would help.
//!
//! `too-large-for-every-host`: ask for less, waiting does not help. `no-room-now`: wait, or ask for less.
//! `no-eligible-host`: something else than size stands against it. `no-host`: the site has none.

use super::Field;
use super::columns::{Columns, Fate};
use super::rank::Condition;
use crate::limits::Limits;
use crate::verdict::clean;
use std::collections::BTreeMap;
use vws_domain::{Candidate, HostOutcome, PlacementInput, Resources, Restriction, Rule, Verdict, VerdictKind};

/// Hosts of one reason.
struct Reason {
    hosts: usize,
    rule: Rule,
}

pub(crate) fn verdict(
    columns: &Columns,
    field: &Field,
    input: &PlacementInput,
    candidates: &[Candidate],
    limits: &Limits,
) -> Verdict {
    let asked = input.request.resources;
    let reasons = reasons(field);
    let (code, text) = if candidates.is_empty() {
        ("no-host", "the site has no host; `vws host add` adds one".to_owned())
    } else if too_large_everywhere(columns, field, asked) {
        ("too-large-for-every-host", too_large_text(columns, field, asked, candidates))
    } else {
        let code =
            if field.fates.contains(&Fate::NoRoom) && field.refused.is_empty() { "no-room-now" } else { "no-eligible-host" };
        (code, counted_text(columns, field, input, candidates, &reasons))
    };
    // The site's rule speaks if it refused hosts that had room, otherwise the core.
    let rule = reasons
        .values()
        .filter(|reason| reason.rule.file != "native")
        .max_by_key(|reason| reason.hosts)
        .map_or_else(native, |reason| reason.rule.clone());
    Verdict {
        policy: "placement".to_owned(),
        kind: VerdictKind::Deny,
        code: code.to_owned(),
        text: clean(text.as_bytes(), limits.text_chars),
        rule,
        restriction: Restriction::default(),
        micros: 0,
    }
}

fn native() -> Rule {
    Rule { file: "native".to_owned(), line: 0 }
}

/// Reasons with their counts, by code.
fn reasons(field: &Field) -> BTreeMap<String, Reason> {
    let mut reasons: BTreeMap<String, Reason> = BTreeMap::new();
    let mut add = |code: &str, rule: &Rule| {
        if let Some(reason) = reasons.get_mut(code) {
            reason.hosts += 1;
        } else {
            reasons.insert(code.to_owned(), Reason { hosts: 1, rule: rule.clone() });
        }
    };
    let labels = Rule { file: super::FILE.to_owned(), line: field.needs_line };
    for (index, fate) in (0_u32..).zip(&field.fates) {
        match fate {
            Fate::Passes => match field.refused.get(&index) {
                Some(refusal) => add(&refusal.code, &refusal.rule),
                None => add("not-considered", &native()),
            },
            Fate::Label => add(fate.code(), &labels),
            other => add(other.code(), &native()),
        }
    }
    reasons
}

/// Whether waiting cannot help: every host that the request could go to at all gives out less than is asked. A host that was
/// not probed yet is not known to be too small.
fn too_large_everywhere(columns: &Columns, field: &Field, asked: Resources) -> bool {
    let mut any = false;
    for (index, fate) in field.fates.iter().enumerate() {
        match fate {
            Fate::OtherHost | Fate::Apart | Fate::Leaves | Fate::Backend | Fate::Unsupported => {}
            Fate::TooLarge => any = true,
            Fate::Disabled | Fate::Down if columns.exceeds(index, asked) => any = true,
            Fate::Disabled | Fate::Down | Fate::Unprobed | Fate::NoRoom | Fate::Label | Fate::Passes => return false,
        }
    }
    any
}

fn too_large_text(columns: &Columns, field: &Field, asked: Resources, candidates: &[Candidate]) -> String {
    let concerned =
        || (0_usize..).zip(&field.fates).filter(|(_, fate)| matches!(fate, Fate::TooLarge | Fate::Disabled | Fate::Down));
    let count = concerned().count();
    let largest = concerned().map(|(index, _)| index).min_by(|a, b| {
        let lack = |index: usize| lack(asked, columns.ceiling(index));
        lack(*a).total_cmp(&lack(*b)).then_with(|| columns.position(*a).cmp(&columns.position(*b)))
    });
    let best = largest.and_then(|index| {
        let short = asked.shortage(columns.ceiling(index))?;
        let name = &candidates.get(index)?.host.name;
        Some(format!("; the nearest, `{name}`, gives out {} {} at most, {} asked", short.available, short.resource, short.asked))
    });
    format!("too large for every host ({count} of {}){}", candidates.len(), best.unwrap_or_default())
}

fn counted_text(
    columns: &Columns,
    field: &Field,
    input: &PlacementInput,
    candidates: &[Candidate],
    reasons: &BTreeMap<String, Reason>,
) -> String {
    let mut counts: Vec<(&String, usize)> = reasons.iter().map(|(code, reason)| (code, reason.hosts)).collect();
    counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
    let shown: Vec<String> = counts.iter().take(6).map(|(code, hosts)| format!("{hosts} {code}")).collect();
    let more =
        if counts.len() > shown.len() { format!(" and {} other reasons", counts.len() - shown.len()) } else { String::new() };
    let plural = if candidates.len() == 1 { "host" } else { "hosts" };
    let head = format!("none of {} {plural} takes it: {}{more}", candidates.len(), shown.join(", "));
    let mut by_name: Vec<&u32> = field.refused.keys().collect();
    by_name.sort_unstable_by_key(|index| columns.position(**index as usize));
    let first =
        by_name.first().copied().copied().or_else(|| nearest(columns, field, input.request.resources, 1).into_iter().next());
    let Some(index) = first else { return head };
    let Some(candidate) = candidates.get(index as usize) else { return head };
    let why = match super::outcome(columns, field, input, candidate, index) {
        HostOutcome::Filtered { text, .. } => text,
        HostOutcome::Scored(_) | HostOutcome::Displaces { .. } | HostOutcome::NotConsidered => return head,
    };
    format!("{head}; host `{}`: {why}", candidate.host.name)
}

/// How far the asked amounts are from what there is: 0 if they fit, else the greatest lack as a part of what is asked.
fn lack(asked: Resources, there: Resources) -> f64 {
    [(asked.vcpus, there.vcpus), (asked.memory_mib, there.memory_mib), (asked.disk_gib, there.disk_gib)]
        .into_iter()
        .map(|(asked, there)| if asked == 0 { 0.0 } else { asked.saturating_sub(there) as f64 / asked as f64 })
        .fold(0.0, f64::max)
}

/// The hosts that were nearest to taking it: those that lack room least, then by how much else stands against them.
pub(crate) fn nearest(columns: &Columns, field: &Field, asked: Resources, count: usize) -> Vec<u32> {
    let key = |index: u32| {
        let at = index as usize;
        let class = match field.fates.get(at) {
            Some(Fate::Passes | Fate::Label) => 0,
            Some(Fate::NoRoom) => 1,
            Some(Fate::TooLarge) => 2,
            Some(Fate::Down | Fate::Unprobed) => 3,
            Some(Fate::Disabled) => 4,
            Some(Fate::Unsupported) => 5,
            _ => 6,
        };
        (class, lack(asked, columns.free(at)), columns.position(at))
    };
    let mut keyed: Vec<_> = (0_u32..).take(field.fates.len()).map(|index| (key(index), index)).collect();
    let order = |a: &((u8, f64, u32), u32), b: &((u8, f64, u32), u32)| {
        a.0.0.cmp(&b.0.0).then(a.0.1.total_cmp(&b.0.1)).then(a.0.2.cmp(&b.0.2))
    };
    if count > 0 && count < keyed.len() {
        keyed.select_nth_unstable_by(count - 1, order);
        keyed.truncate(count);
    }
    keyed.sort_unstable_by(order);
    keyed.into_iter().map(|(_, index)| index).collect()
}

/// Which label condition the host fails.
pub(crate) fn label_text(columns: &Columns, conditions: &[Condition], candidate: &Candidate, index: u32) -> String {
    let failed = conditions.iter().find(|condition| !condition.fulfilled(columns, index as usize));
    failed.map_or_else(
        || "fails the site's label conditions".to_owned(),
        |condition| condition.refusal(candidate.host.labels.get(&condition.label).map(String::as_str)),
    )
}
