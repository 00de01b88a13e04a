//! The examination: what a set fails at is found by asking it, what it refuses is no problem.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]
mod common;
use common::*;
use std::sync::Arc;
use vws_policy::{Examination, Limits, PolicySet, Sources, examine};

fn examined(set: Sources) -> Examination {
    examine(&Arc::new(PolicySet::load_counting(set, Limits::default()).unwrap()))
}

/// Code, place and text of each problem of a set whose access.lua, quota.lua or placement.lua has this body.
fn found(policy: &str, body: &str) -> Vec<(String, u32, String)> {
    let deciding = |name: &str| match name == policy {
        true => format!("return {{ decide = function(input) do\n{body}\nend return permit()\nend }}"),
        false => PERMIT.to_owned(),
    };
    let placement = if policy == "placement" { format!("return {{\n{body}\n}}") } else { ANY_HOST.to_owned() };
    let found = examined(sources(&deciding("access"), &deciding("quota"), &placement));
    found.problems.into_iter().map(|p| (p.code, p.line, p.text)).collect()
}

#[test]
fn the_shipped_policies_have_no_problem_and_every_line_of_them_is_reached() {
    let found = examined(shipped());
    assert_eq!(found.problems, Vec::new());
    assert!(found.complete && found.questions > 500, "{} questions", found.questions);
    // What stands behind an empty table of the site is reached by nobody.
    let access = found.coverage.missed("access.lua");
    let (ran, all) = found.coverage.lines();
    assert!(ran * 100 >= all * 90, "{ran} of {all} lines; access.lua lacks {access:?}");
}

#[test]
fn what_fails_is_found_with_its_line() {
    for (policy, body, code, line, part) in [
        ("access", "if input.request.vreb == 'launch' then return permit() end", "unknown-field", 2, "did you mean `verb`?"),
        ("access", "if input.request.verb == 'drain' then return permitt() end", "unknown-global", 2, "did you mean `permit`?"),
        ("access", "return permit('x', input.workspace.name)", "runtime", 2, "attempt to index nil with 'name'"),
        ("access", "return input.caller.admin", "shape", 1, "decide gave a boolean"),
        ("access", "if input.caller.system then return deny('x') end", "runtime", 2, "the text is a nil"),
        (
            "access",
            "for _, n in ipairs(input.request.nics) do if n.address then return deny('a b', 'x') end end",
            "shape",
            2,
            "the code `a b`",
        ),
        ("access", "local n = input.request.nics[1].kind", "runtime", 2, "attempt to index nil with 'kind'"),
        (
            "access",
            "if input.request.images[1].labels then return permit() end",
            "unknown-field",
            2,
            "unknown field `labels` of image",
        ),
        ("quota", "return deny('x', input.request.group .. ' is full')", "runtime", 2, "attempt to concatenate nil with string"),
        (
            "quota",
            "if input.request.group == 'students' then return deny('x', input.usage.group.cpus) end",
            "unknown-field",
            2,
            "unknown field `cpus` of usage",
        ),
        ("quota", "if input.request.vcpus > 4711 then error('boom') end", "runtime", 2, "boom"),
        ("quota", "if math.floor(input.now / 3600e6) % 24 == 3 then return 5 end", "shape", 1, "decide gave a number"),
        (
            "quota",
            "local until_ = input.workspace and input.workspace.lease_until + 1",
            "runtime",
            2,
            "attempt to perform arithmetic",
        ),
        ("quota", "if input.usage.owner.vcpus > 1e6 then while true do end end", "deadline", 2, "deadline"),
        (
            "placement",
            "filter = function(input, host) return host.freee.vcpus > 0 end",
            "unknown-field",
            2,
            "did you mean `free`?",
        ),
        (
            "placement",
            "score = function(input, host) return host.accelerator == nil and 'x' or 1 end",
            "shape",
            2,
            "score gave a string",
        ),
        ("placement", "rank = function(input) return { { term = 'free_memory', weight = 1 } } end", "shape", 2, "free_memory"),
        (
            "placement",
            "needs_labels = function(input) return input.request.operating_system end",
            "shape",
            2,
            "needs_labels gave a string",
        ),
        (
            "placement",
            "filter = function(input, host) if host.labels.pool == 'gold' then return 1 end return true end",
            "shape",
            2,
            "filter",
        ),
        (
            "placement",
            "rank = function(input) return { { term = 'free_vcpus', weight = 1 / (#input.placements - 3) } } end",
            "shape",
            2,
            "`weight` is inf",
        ),
    ] {
        let found = found(policy, body);
        assert!(found.len() <= 2, "{body}: {found:?}");
        let hit = found.iter().any(|(c, l, text)| c == code && *l == line && text.contains(part));
        assert!(hit, "{policy} {body}: {found:?}");
    }
}

#[test]
fn a_refusal_is_no_problem() {
    for body in [
        "return deny('no', 'never')",
        "if input.request.verb == 'launch' then return deny('no', 'not today') end",
        "return restrict{ vcpus = 1 }",
        "local ok = pcall(error, 'x') if not ok then return deny('x', 'y') end",
    ] {
        assert_eq!(found("access", body), [], "{body}");
    }
    assert_eq!(found("placement", "filter = function() return false end"), []);
}

#[test]
fn the_input_that_was_asked_is_told() {
    let text =
        "return { decide = function(input)\n if input.caller.user == 'mallory' then return nil end\n return permit() end }";
    let found = examined(sources(text, PERMIT, ANY_HOST));
    assert_eq!(found.problems.len(), 1);
    assert!(found.problems[0].help.contains("\"user\":\"mallory\""), "{}", found.problems[0].help);
}

#[test]
fn lines_that_were_not_reached_are_told() {
    let text = "return { decide = function(input)\n if input.request.name == 'a' .. 'b' then\n  return typo()\n end\n return permit() end }";
    let found = examined(sources(text, PERMIT, ANY_HOST));
    assert_eq!(found.problems, Vec::new());
    assert_eq!(found.coverage.missed("access.lua"), [(3, 3)]);
}

#[test]
fn a_set_without_counting_is_judged_the_same() {
    let text = "return { decide = function(input) return input.request.vcpu end }";
    let plain = examine(&Arc::new(PolicySet::load(sources(text, PERMIT, ANY_HOST), Limits::default()).unwrap()));
    let counted = examined(sources(text, PERMIT, ANY_HOST));
    assert_eq!(plain.problems, counted.problems);
    assert_eq!(plain.questions, counted.questions);
    assert!(plain.coverage.files.is_empty());
}

#[test]
fn the_examination_ends_although_every_answer_overruns() {
    let text = "return { decide = function(input) while true do end end }";
    let found = examined(sources(text, text, "return { rank = function() while true do end end }"));
    assert!(!found.complete);
    assert_eq!(found.problems.len(), 3, "{:?}", found.problems);
    assert!(found.questions <= 6, "{}", found.questions);
}
