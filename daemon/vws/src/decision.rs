//! A decision in words: what was asked, what each policy said and why, what became of each host.

use crate::output::table;
use crate::record::Record;
use crate::screen::{shown, shown_lines};
use crate::units::local;

/// Everything about a decision.
pub(crate) fn text(decision: &Record) -> String {
    let mut parts = vec![headline(decision)];
    let verdicts = decision.list("verdicts");
    if !verdicts.is_empty() {
        parts.push(table(
            &["POLICY", "VERDICT", "CODE", "RULE", "TEXT"],
            verdicts
                .iter()
                .map(|v| {
                    vec![
                        word(v, "policy"),
                        word(v, "kind"),
                        word(v, "code"),
                        rule(v),
                        format!("{}{}", v.text("text"), restricted(v)),
                    ]
                })
                .collect(),
        ));
    }
    let lines: Vec<String> = verdicts
        .iter()
        .filter(|v| !v.text("source").is_empty())
        .map(|v| format!("{}\n    {}", rule(v), shown(v.text("source"))))
        .collect();
    if !lines.is_empty() {
        parts.push(lines.join("\n"));
    } else if !decision.text("source").is_empty() {
        let place = verdicts.iter().find(|v| matches!(v.text("kind"), "deny" | "error")).map(rule).unwrap_or_default();
        parts.push(format!("{place}\n    {}", shown(decision.text("source"))));
    }
    let hosts = decision.list("hosts");
    if !hosts.is_empty() {
        parts.push(table(
            &["HOST", "OUTCOME", "SCORE", "CODE", "RULE", "REASON"],
            hosts
                .iter()
                .map(|h| {
                    let score =
                        h.0.get("score")
                            .and_then(serde_json::Value::as_f64)
                            .filter(|_| matches!(h.text("outcome"), "scored" | "displaces"));
                    let score = score.map_or_else(|| "-".to_owned(), |score| format!("{score:.3}"));
                    vec![word(h, "host"), word(h, "outcome"), score, word(h, "code"), rule(h), h.text("text").to_owned()]
                })
                .collect(),
        ));
    }
    let nearest = decision.texts("nearest");
    if !nearest.is_empty() {
        let ways: Vec<String> = nearest.iter().map(|way| format!("- {}", shown(way))).collect();
        parts.push(format!("what would help:\n{}", ways.join("\n")));
    }
    if let Some(limits) = decision.0.get("limits").cloned().map(Record) {
        parts.push(format!(
            "limits of an evaluation: {} ms, {}, {} hosts considered at a time",
            limits.number("deadline_ms"),
            crate::units::mib(limits.number("memory_bytes") >> 20),
            limits.number("consider")
        ));
    }
    if !decision.text("host").is_empty() {
        let host = decision.text("host");
        parts.push(format!("host: {}", shown(host)));
        if let Some(displaces) = hosts.iter().find(|h| h.text("host") == host && h.text("outcome") == "displaces") {
            // What was only explained has no id.
            let word = if decision.text("id").is_empty() { "would displace" } else { "displaces" };
            parts.push(format!("{word}: {} on host {}", shown(displaces.text("text")), shown(host)));
        }
    }
    parts.join("\n\n")
}

/// One line: what was asked by whom, and the outcome.
fn headline(decision: &Record) -> String {
    let outcome = match (decision.flag("permitted"), decision.flag("native")) {
        (true, true) => "permitted to an administrator, past the scripts",
        (true, false) => "permitted",
        (false, _) => "refused",
    };
    let name = decision.text("name");
    let object = if name.is_empty() { String::new() } else { format!(" `{}`", shown(name)) };
    let mut line = format!(
        "{outcome}: {}{object} by {} (uid {})",
        shown(decision.text("verb")),
        shown(decision.text("caller")),
        decision.number("uid")
    );
    if decision.number("at") > 0 {
        line.push_str(&format!(", {}", local(decision.number("at"))));
    }
    let policy: String = decision.text("policy").chars().take(12).collect();
    line.push_str(&format!("\npolicies: generation {}, {}", decision.number("generation"), shown_lines(&policy)));
    if !decision.text("id").is_empty() {
        line.push_str(&format!("; decision {}", shown(decision.text("id"))));
    }
    line
}

/// `quota.lua:12`, `native`, or `-`.
pub(crate) fn rule(record: &Record) -> String {
    match (record.text("file"), record.number("line")) {
        ("", _) => "-".to_owned(),
        (file, 0) => file.to_owned(),
        (file, line) => format!("{file}:{line}"),
    }
}

fn word(record: &Record, key: &str) -> String {
    match record.text(key) {
        "" => "-".to_owned(),
        text => text.to_owned(),
    }
}

/// What a verdict lowers.
fn restricted(verdict: &Record) -> String {
    let mut parts = Vec::new();
    if verdict.has("duration_seconds") {
        parts.push(format!("lease at most {}", crate::units::span(verdict.number("duration_seconds"))));
    }
    if verdict.has("memory_mib") {
        parts.push(format!("memory at most {}", crate::units::mib(verdict.number("memory_mib"))));
    }
    if verdict.has("vcpus") {
        parts.push(format!("vCPUs at most {}", verdict.number("vcpus")));
    }
    if verdict.flag("preemptible") {
        parts.push("only as a pre-emptible workspace".to_owned());
    }
    if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) }
}

/// The outcome in a word, for lists.
pub(crate) fn outcome(decision: &Record) -> &'static str {
    match (decision.flag("permitted"), decision.flag("native")) {
        (true, true) => "native",
        (true, false) => "permit",
        (false, _) => "deny",
    }
}

#[cfg(test)]
mod tests {
    use super::text;
    use crate::record::Record;
    use serde_json::json;

    #[test]
    fn a_refusal_names_rule_and_source() {
        let decision = Record(json!({
            "verb": "launch", "name": "web", "caller": "ann", "uid": 1000, "permitted": false, "generation": 3, "policy": "abcdef0123456789",
            "verdicts": [
                { "policy": "access", "kind": "permit", "code": "owner", "text": "you are the owner", "file": "access.lua", "line": 4 },
                { "policy": "quota", "kind": "deny", "code": "memory-per-user", "text": "4096 MiB of 2048", "file": "quota.lua", "line": 12 },
            ],
            "source": "  return deny('memory-per-user')",
            "hosts": [{ "host": "h1", "outcome": "scored", "score": 0.5 }, { "host": "h2", "outcome": "filtered", "code": "memory", "text": "too little", "file": "native", "line": 0 }],
        }));
        let shown = text(&decision);
        assert!(shown.starts_with("refused: launch `web` by ann (uid 1000)\npolicies: generation 3, abcdef012345"), "{shown}");
        for part in ["quota.lua:12\n      return deny('memory-per-user')", "memory-per-user", "0.500", "native"] {
            assert!(shown.contains(part), "{part} is missing in\n{shown}");
        }
    }
}
