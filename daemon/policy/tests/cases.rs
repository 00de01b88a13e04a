//! The site's own tests: read, run by the daemon's evaluator, compared; a test that says nothing or is mistyped fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]
mod common;
use common::*;
use std::sync::Arc;
use vws_policy::{Limits, PolicySet, Sources, TestReport, run_tests};

fn run(set: Sources, tests: &[(&str, &str)], filter: Option<&str>) -> TestReport {
    let set = Arc::new(PolicySet::load_counting(set, Limits::default()).unwrap());
    let files = tests.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    run_tests(&set, &Sources { files }, filter)
}

fn limited() -> Sources {
    let quota = "local MOST = 8
return { decide = function(input)
    if input.usage.owner.vcpus + input.request.vcpus > MOST then
        return deny('vcpus', string.format('%d of %d', input.usage.owner.vcpus, MOST))
    end
    if input.request.duration_seconds == 0 then
        return restrict{ duration_seconds = 60 }
    end
    return permit('within')
end }";
    let placement = "return {
    needs_labels = { retired = false },
    rank = function() return { { term = 'label_number', label = 'speed', weight = 1 } } end,
    filter = function(input, host) return host.name ~= 'bad' end,
}";
    sources(PERMIT, quota, placement)
}

/// What is wrong with each failing test, in order.
fn failures(tests: &str, file: &str) -> Vec<String> {
    let report = run(limited(), &[(file, tests)], None);
    assert_eq!(report.problems, Vec::new());
    report.results.iter().map(|result| result.failures.join(" | ")).collect()
}

#[test]
fn good_tests_pass_and_their_lines_are_counted() {
    let tests = r#"
local function with(used, asked)
    return { request = { vcpus = asked }, usage = { owner = { vcpus = used } } }
end
return {
    { name = "no more than eight", input = with(7, 2), expect = { verdict = "deny", code = "vcpus", text = "7 of 8" } },
    { name = "the eighth is given", input = with(7, 1), expect = { verdict = "permit", code = "within" } },
}"#;
    let report = run(limited(), &[("quota_test.lua", tests)], None);
    assert!(report.good(), "{report:?}");
    assert_eq!(report.results.len(), 2);
    assert_eq!(report.results[0].line, 6);
    assert_eq!(report.results[0].policy, "quota");
    assert_eq!(report.coverage.missed("quota.lua"), [(7, 7)], "no test asks without a lease");
    let (ran, all) = report.coverage.lines();
    assert!(ran > 0 && ran < all, "{ran} of {all}");
}

#[test]
fn amounts_are_compared() {
    let tests = r#"return {
    { name = "a", input = { request = { duration_seconds = 0 } }, expect = { verdict = "restrict", duration_seconds = 60 } },
    { name = "b", input = { request = { duration_seconds = 0 } }, expect = { duration_seconds = 61 } },
    { name = "c", input = {}, expect = { duration_seconds = 60, vcpus = 1 } },
}"#;
    let found = failures(tests, "quota_test.lua");
    assert_eq!(found[0], "");
    assert!(
        found[1].starts_with("duration_seconds: `61` is expected, it is 60; restrict `restricted` (quota.lua:7)"),
        "{found:?}"
    );
    assert!(
        found[2].contains("duration_seconds: `60` is expected, it is not lowered") && found[2].contains("vcpus"),
        "{found:?}"
    );
}

#[test]
fn hosts_are_compared() {
    let hosts = "hosts = { a = { labels = { speed = '1' } }, b = { labels = { speed = '2' } }, bad = {}, \
        old = { labels = { retired = 'yes' } }, small = { free = { vcpus = 1 } } }";
    let tests = format!(
        "local all = {{ {hosts} }}
return {{
    {{ name = 'one', hosts = all.hosts, expect = {{ host = 'b', ranking = {{ 'b', 'a' }},
        refused = {{ bad = 'site', old = 'label', small = 'no-room' }} }} }},
    {{ name = 'two', hosts = all.hosts, expect = {{ host = 'a' }} }},
    {{ name = 'three', hosts = all.hosts, expect = {{ ranking = {{ 'a', 'b' }} }} }},
    {{ name = 'four', hosts = all.hosts, expect = {{ refused = {{ 'a', 'nowhere' }} }} }},
    {{ name = 'five', hosts = {{ bad = {{}} }}, expect = {{ verdict = 'deny', host = false }} }},
}}"
    );
    let found = failures(&tests, "placement_test.lua");
    assert_eq!(found[0], "");
    assert!(found[1].starts_with("host: `a` is expected, it is b; permit `placed`"), "{found:?}");
    assert!(found[2].starts_with("ranking: `[\"a\",\"b\"]` is expected, it is b (2.0000), a (1.0000)"), "{found:?}");
    assert!(found[3].contains("refused.a: `a refusal` is expected, it is eligible, with score 1.0000"), "{found:?}");
    assert!(found[3].contains("refused.nowhere") && found[3].contains("not one of the test's hosts"), "{found:?}");
    assert_eq!(found[4], "");
}

#[test]
fn a_test_that_cannot_fail_fails() {
    for (case, part) in [
        ("{ name = 'x' }", "the case expects nothing"),
        ("{ name = 'x', expect = {} }", "the case expects nothing"),
        ("{ expect = { verdict = 'permit' } }", "the case has no `name`"),
        ("{ name = 'x', expect = { verdikt = 'permit' } }", "expect: unknown field `verdikt`; did you mean `verdict`?"),
        ("{ name = 'x', inputs = {}, expect = { verdict = 'permit' } }", "unknown field `inputs`; did you mean `input`?"),
        ("{ name = 'x', input = { request = { vcpu = 1 } }, expect = { verdict = 'permit' } }", "did you mean `vcpus`?"),
        ("{ name = 'x', policy = 'quotas', expect = { verdict = 'permit' } }", "policy `quotas` is none of"),
        ("{ name = 'x', expect = { verdict = 'deny' } }", "verdict: `deny` is expected, it is permit"),
        ("{ name = 'x', expect = { code = 'other' } }", "code: `other` is expected, it is `within`"),
        ("{ name = 'x', expect = { text = 'other' } }", "text: `other` is expected, it is not in the text"),
        ("{ name = 'x', expect = { host = 'h1' } }", "host: `h1` is expected, it is none"),
        ("'x'", "the case is not a table"),
    ] {
        let found = failures(&format!("return {{ {case} }}"), "quota_test.lua");
        assert!(found.len() == 1 && found[0].contains(part), "{case}: {found:?}");
    }
    let found = failures("return { { name = 'x', expect = { verdict = 'permit' } } }", "all_test.lua");
    assert!(found[0].contains("does not say which `policy`"), "{found:?}");
}

#[test]
fn a_test_file_that_cannot_be_read_is_a_problem_with_its_line() {
    for (text, line, code) in [
        ("return {\n  { name = = 1 } }", 2, "syntax"),
        ("local x = nil\nreturn x.y", 2, "runtime"),
        ("return 5", 0, "shape"),
        ("return { name = 'x' }", 0, "shape"),
        ("return { { name = function() end } }", 0, "shape"),
        ("local t = {} t[1] = t return t", 0, "shape"),
        ("while true do end", 1, "deadline"),
        ("pcall(function() while true do end end) return {}", 1, "deadline"),
        ("return { { name = 'x', permitt() } }", 1, "runtime"),
    ] {
        let report = run(limited(), &[("quota_test.lua", text)], None);
        assert!(!report.good());
        let problem = &report.problems[0];
        assert_eq!(
            (problem.file.as_str(), problem.line, problem.code.as_str()),
            ("quota_test.lua", line, code),
            "{text}: {problem:?}"
        );
    }
}

#[test]
fn a_filter_leaves_tests_out() {
    let tests = "return { { name = 'one', expect = { verdict = 'permit' } }, { name = 'two', expect = { verdict = 'deny' } } }";
    let report = run(limited(), &[("quota_test.lua", tests)], Some("one"));
    assert_eq!((report.results.len(), report.filtered, report.failed()), (1, 1, 0));
}

#[test]
fn tests_use_the_sets_modules() {
    let mut set = limited();
    set.files.insert("lib/names.lua".to_owned(), "return { 'ann' }".to_owned());
    let tests = "local names = require('./lib/names') return { { name = names[1], expect = { verdict = 'permit' } } }";
    let report = run(set, &[("quota_test.lua", tests)], None);
    assert!(report.good(), "{report:?}");
    assert_eq!((report.results[0].name.as_str(), report.results[0].line), ("ann", 0));
}
