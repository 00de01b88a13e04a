//! What one decision costs, limits and isolation on, its input converted from Rust's records each time.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a benchmark ends with its first failure")]

#[path = "../../../daemon/policy/tests/common/mod.rs"]
mod common;

use common::{access_input, caller, evaluator_with, image, shipped, workspace};
use std::hint::black_box;
use std::time::Duration;
use vws_bench::{line, processor_median, ratio, shown, title};
use vws_domain::*;
use vws_policy::Limits;

fn permitted(verdict: &Verdict) {
    assert!(verdict.kind == VerdictKind::Permit, "{verdict:?}");
}

fn main() {
    title("decisions", "Decisions of the shipped policies (median of processor time)");
    let mut evaluator = evaluator_with(shipped(), Limits::default());
    let mut launch = access_input(Verb::Launch);
    launch.request.images = vec![image("debian", 5, Visibility::Public)];
    // The floor: the same record read by a rule that is written in Rust, its input copied as a policy's is.
    let by_hand = processor_median(50, 2000, || {
        let input = black_box(&launch).clone();
        black_box(input.caller.admin || input.request.images.iter().all(|image| image.visibility == Visibility::Public));
    });
    line("the input copied, the rule in Rust", &shown(by_hand), "", "");
    let against = |time: Duration| format!("{:.1} x the rule in Rust", ratio(time, by_hand));
    let fresh = processor_median(50, 2000, || permitted(&evaluator.access(black_box(&launch))));
    line("access, launch", &shown(fresh), &against(fresh), "10 us");
    let mut view = access_input(Verb::Console);
    view.workspace = Some(workspace(2000, vec![Grant { subject: Subject::Group(50), right: Right::Use }]));
    let console = processor_median(50, 2000, || permitted(&evaluator.access(black_box(&view))));
    line("access, console of a shared workspace", &shown(console), &against(console), "10 us");
    let quota = QuotaInput {
        request: launch.request.clone(),
        caller: caller(1000, "ann"),
        workspace: None,
        usage: UsageSet::default(),
        now: Timestamp(1),
    };
    let quota = processor_median(50, 2000, || {
        black_box(evaluator.quota(black_box(&quota)));
    });
    line("quota, launch", &shown(quota), &against(quota), "");
}
