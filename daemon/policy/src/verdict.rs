//! Verdicts made from what scripts gave back: bounded, clean, and a refusal whenever something was wrong.

use crate::fault::{Fault, FaultKind};
use crate::limits::Limits;
use crate::problem::Problem;
use mlua::LuaString;
use std::time::Instant;
use vws_domain::{Restriction, Rule, Verdict, VerdictKind};

/// What the prelude's `opened` gives: kind, code, text, file, line, and what is lowered.
pub(crate) type Opened = (f64, LuaString, LuaString, LuaString, f64, Option<f64>, Option<f64>, Option<f64>, bool);

/// Text from a script for people and terminals: UTF-8, no control characters, at most `chars` characters.
pub(crate) fn clean(bytes: &[u8], chars: usize) -> String {
    let text = String::from_utf8_lossy(bytes.get(..chars.saturating_mul(4)).unwrap_or(bytes));
    if text.len() <= chars && !text.chars().any(char::is_control) {
        return text.into_owned();
    }
    let mut out = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == chars {
            out.push('…');
            break;
        }
        match c {
            '\n' | '\t' => out.push(' '),
            c if c.is_control() => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}

/// A code: stable words for machines.
pub(crate) fn checked_code(code: &LuaString, limits: &Limits) -> Result<String, String> {
    let bytes = code.as_bytes();
    let good = !bytes.is_empty()
        && bytes.len() <= limits.code_chars
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if good {
        return Ok(String::from_utf8_lossy(&bytes).into_owned());
    }
    Err(format!(
        "the code `{}` is not 1 to {} characters of a-z A-Z 0-9 - _ .",
        clean(&bytes, limits.code_chars),
        limits.code_chars
    ))
}

/// A rule from the file and the line that the prelude saw.
pub(crate) fn rule(file: &LuaString, line: f64) -> Rule {
    // A helper that was called by the language itself (`pcall(deny, ...)`) has no line.
    let line = if line >= 1.0 && line <= f64::from(u32::MAX) { line as u32 } else { 0 };
    Rule { file: file.to_string_lossy(), line }
}

/// The verdict of `policy`.
pub(crate) fn from_opened(policy: &str, opened: &Opened, limits: &Limits) -> Result<Verdict, Fault> {
    let (kind, code, text, file, line, duration, memory, vcpus, preemptible) = opened;
    let mut rule = rule(file, *line);
    if rule.line == 0 {
        rule.file = format!("{policy}.lua");
    }
    let fault = |text: String| Fault { kind: FaultKind::Shape, file: rule.file.clone(), line: rule.line, text };
    let code = checked_code(code, limits).map_err(fault)?;
    let kind = match *kind as u8 {
        0 => VerdictKind::Permit,
        1 => VerdictKind::Deny,
        _ => VerdictKind::Restrict,
    };
    let restriction = Restriction {
        duration_seconds: whole(*duration).map_err(fault)?,
        memory_mib: whole(*memory).map_err(fault)?,
        vcpus: whole(*vcpus).map_err(fault)?,
        preemptible: *preemptible,
    };
    let mut text = clean(&text.as_bytes(), limits.text_chars);
    if text.is_empty() && kind == VerdictKind::Restrict {
        text = describe(&restriction);
    }
    Ok(Verdict { policy: policy.to_owned(), kind, code, text, rule, restriction, micros: 0 })
}

/// Checked again although the helper did: a table with a metatable can answer twice in two ways.
fn whole(value: Option<f64>) -> Result<Option<u64>, String> {
    match value {
        None => Ok(None),
        Some(value) if (1.0..=9_007_199_254_740_991.0).contains(&value) && value.fract() == 0.0 => Ok(Some(value as u64)),
        Some(value) => Err(format!("restrict{{...}} got {value}, a whole number from 1 is needed")),
    }
}

fn describe(restriction: &Restriction) -> String {
    let parts = [
        restriction.duration_seconds.map(|n| format!("a lease of {n} s")),
        restriction.memory_mib.map(|n| format!("{n} MiB of memory")),
        restriction.vcpus.map(|n| format!("{n} vCPUs")),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    let most = if parts.is_empty() { None } else { Some(format!("at most {}", parts.join(", "))) };
    let class = restriction.preemptible.then(|| "only as a pre-emptible workspace".to_owned());
    most.into_iter().chain(class).collect::<Vec<_>>().join(", ")
}

/// The refusal that a failure is.
pub(crate) fn from_fault(policy: &str, fault: &Fault, generation: u64) -> Verdict {
    Verdict {
        policy: policy.to_owned(),
        kind: VerdictKind::Error,
        code: format!("script-{}", fault.kind.code()),
        text: format!("{} (generation {generation})", fault.placed()),
        rule: Rule { file: fault.file.clone(), line: fault.line },
        restriction: Restriction::default(),
        micros: 0,
    }
}

/// Microseconds since `start`.
pub(crate) fn micros_since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// The refusal of `policy` (`access`, `quota`, `placement`) while no set is in force. `generation` is that of the set that was
/// tried last (0 at the first start).
#[must_use]
pub fn unavailable(policy: &str, generation: u64, problems: &[Problem]) -> Verdict {
    let (rule, text) = match problems.split_first() {
        None => (
            Rule { file: format!("{policy}.lua"), line: 0 },
            format!("no policies are in force (generation {generation}); `vws policy status` says why"),
        ),
        Some((first, rest)) => {
            let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
            (
                Rule { file: first.file.clone(), line: first.line },
                format!("no policies are in force: {first}{more} (generation {generation}); `vws policy status` shows all of it"),
            )
        }
    };
    Verdict {
        policy: policy.to_owned(),
        kind: VerdictKind::Error,
        code: "policy-unavailable".to_owned(),
        text,
        rule,
        restriction: Restriction::default(),
        micros: 0,
    }
}
