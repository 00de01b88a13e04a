//! The manual's examples run: each Lua block of `policies/README.md`, as the manual says where it goes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]
mod common;
use common::*;
use std::sync::Arc;
use vws_domain::*;
use vws_policy::{Limits, PolicySet, Sources, run_tests};

/// Every block but that of a test file.
fn blocks() -> Vec<String> {
    all_blocks().into_iter().filter(|block| !block.starts_with("-- quota_test.lua")).collect()
}

fn all_blocks() -> Vec<String> {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../policies/README.md")).unwrap();
    text.split("```lua\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

/// Verdicts of a block for a plain user: access and quota over requests of every verb, or placement over two hosts.
fn run(block: &str) -> Vec<Verdict> {
    let whole = block.lines().any(|line| line.starts_with("return {"));
    if block.starts_with("-- placement.lua") {
        let text = if whole { block.to_owned() } else { format!("return {{\n{block}\n}}") };
        let candidates = vec![
            candidate(host("a", &[("rack", "r1"), ("pool", "general")]), Resources::default(), 1),
            candidate(host("b", &[("rack", "r2"), ("pool", "spare")]), Resources::default(), 0),
        ];
        return vec![
            evaluator_with(sources(PERMIT, PERMIT, &text), Limits::default())
                .placement(&placement_input(), &candidates, false)
                .verdict,
        ];
    }
    let text =
        if whole { block.to_owned() } else { format!("return {{ decide = function(input)\n{block}\nreturn permit()\nend }}") };
    // A file that is good for both is run as both.
    let quota = block.starts_with("-- quota.lua") || whole;
    let access = block.starts_with("-- access.lua");
    let mut evaluator = evaluator_with(sources(&text, &text, ANY_HOST), Limits::default());
    let mut verdicts = Vec::new();
    for verb in Verb::ALL {
        let mut request = request(verb);
        request.images = vec![image("debian", 7, Visibility::Public)];
        request.nics[0].network = NicNetwork::Bridge("br0".to_owned());
        request.group = "students".to_owned();
        request.resources.vcpus = 1900;
        request.duration_seconds = 0;
        let about = (verb != Verb::Launch).then(|| workspace(5, Vec::new()));
        let now = Timestamp(1_800_000_000_000_000);
        if access {
            let input = AccessInput { request: request.clone(), caller: caller(1001, "bob"), workspace: about.clone(), now };
            verdicts.push(evaluator.access(&input));
        }
        if quota && verb.takes_quota() {
            let input = QuotaInput { request, caller: caller(1001, "bob"), workspace: about, usage: UsageSet::default(), now };
            verdicts.push(evaluator.quota(&input));
        }
    }
    verdicts
}

#[test]
fn every_example_of_the_manual_runs() {
    let blocks = blocks();
    assert_eq!(blocks.len(), 14, "two files and twelve recipes");
    for block in &blocks {
        let verdicts = run(block);
        assert!(!verdicts.is_empty());
        for verdict in verdicts {
            assert_ne!(verdict.kind, VerdictKind::Error, "{block}: {verdict:?}");
        }
    }
}

#[test]
fn every_recipe_bites() {
    let blocks = blocks();
    for block in blocks.iter().skip(2).filter(|block| !block.starts_with("-- placement.lua")) {
        let kinds: Vec<VerdictKind> = run(block).into_iter().map(|verdict| verdict.kind).collect();
        let bites = kinds.iter().any(|kind| matches!(kind, VerdictKind::Deny | VerdictKind::Restrict));
        assert!(bites, "{block}: {kinds:?}");
    }
}

#[test]
fn the_example_of_a_test_passes() {
    let tests: Vec<String> = all_blocks().into_iter().filter(|block| block.starts_with("-- quota_test.lua")).collect();
    assert_eq!(tests.len(), 1);
    let set = Arc::new(PolicySet::load(shipped(), Limits::default()).unwrap());
    let files = [("quota_test.lua".to_owned(), tests[0].clone())].into();
    let report = run_tests(&set, &Sources { files }, None);
    assert!(report.good() && report.results.len() == 1, "{report:#?}");
}
