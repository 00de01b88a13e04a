//! What decisions cost, limits and isolation on, inputs fresh each time: `cargo run --release -p vws-policy --example bench`.
//! Prints medians of processor time, and ratios to plain Rust doing the same in the same run.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a benchmark fails by panicking")]

#[path = "../tests/common/mod.rs"]
mod common;

use common::{
    access_input, caller, candidate, evaluator_with, host, image, placement_input, reservation, shipped, sources, workspace,
};
use std::hint::black_box;
use std::sync::Arc;
use vws_domain::*;
use vws_policy::Limits;

/// Processor time of this thread in microseconds: what else the machine does shows less than on the wall clock.
fn now() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
}

/// Median microseconds of one call.
fn median(rounds: usize, per_round: usize, mut call: impl FnMut(usize)) -> f64 {
    let mut times: Vec<f64> = (0..rounds)
        .map(|round| {
            let start = now();
            for n in 0..per_round {
                call(round * per_round + n);
            }
            (now() - start) / per_round as f64
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn permitted(verdict: &Verdict) {
    assert!(verdict.kind == VerdictKind::Permit, "{verdict:?}");
}

fn site(count: usize) -> Vec<Candidate> {
    (0..count)
        .map(|n| {
            let rack = format!("r{}", n / 40);
            let mut record =
                host(&format!("host-{n:05}"), &[("rack", &rack), ("pool", if n % 5 == 0 { "gpu" } else { "general" })]);
            record.enabled = n % 50 != 0;
            let used =
                Resources { vcpus: (n * 7 % 32) as u64, memory_mib: (n * 7919 % 65536) as u64, disk_gib: (n % 900) as u64 };
            candidate(record, used, (n % 16) as u64)
        })
        .collect()
}

/// The floor: filter and best fit over arrays of numbers.
struct Bare {
    usable: Vec<bool>,
    free: Vec<(f64, f64, f64)>,
    capacity: Vec<(f64, f64)>,
}

impl Bare {
    fn of(candidates: &[Candidate]) -> Self {
        let amounts = |r: Resources| (r.vcpus as f64, r.memory_mib as f64, r.disk_gib as f64);
        Self {
            usable: candidates.iter().map(|c| c.host.enabled).collect(),
            free: candidates.iter().map(|c| amounts(c.free)).collect(),
            capacity: candidates.iter().map(|c| c.host.capacity()).map(|r| (r.vcpus as f64, r.memory_mib as f64)).collect(),
        }
    }

    fn best(&self, asked: (f64, f64, f64)) -> usize {
        let mut best = (usize::MAX, f64::MIN);
        for (n, ((usable, free), capacity)) in self.usable.iter().zip(&self.free).zip(&self.capacity).enumerate() {
            if *usable && free.0 >= asked.0 && free.1 >= asked.1 && free.2 >= asked.2 {
                let score = -(free.1 - asked.1) / capacity.1 - (free.0 - asked.0) / capacity.0;
                if score > best.1 {
                    best = (n, score);
                }
            }
        }
        best.0
    }
}

fn main() {
    let mut evaluator = evaluator_with(shipped(), Limits::default());
    println!("decisions (median of processor time, us)");
    let by_hand = {
        let input = access_input(Verb::Launch);
        median(50, 20_000, |_| {
            let input = black_box(&input);
            black_box(input.caller.admin || input.request.images.iter().all(|image| image.owner == input.caller.uid));
        })
    };
    println!("  rule by hand in Rust                  {by_hand:9.4}");
    let mut launch = access_input(Verb::Launch);
    launch.request.images = vec![image("debian", 5, Visibility::Public)];
    let fresh = median(50, 2000, |_| {
        permitted(&evaluator.access(black_box(&launch)));
    });
    println!("  access, launch                        {fresh:9.2}   goal 10");
    let mut view = access_input(Verb::Console);
    view.workspace = Some(workspace(2000, vec![Grant { subject: Subject::Group(50), right: Right::Use }]));
    let shared = median(50, 2000, |_| {
        permitted(&evaluator.access(black_box(&view)));
    });
    println!("  access, console of a shared workspace {shared:9.2}   goal 10");
    let quota = QuotaInput {
        request: launch.request.clone(),
        caller: caller(1000, "ann"),
        workspace: None,
        usage: UsageSet::default(),
        now: Timestamp(1),
    };
    let quota = median(50, 2000, |_| {
        permitted(&evaluator.quota(black_box(&quota)));
    });
    println!("  quota, launch                         {quota:9.2}");

    if std::env::args().nth(1).as_deref() == Some("decisions") {
        return;
    }
    for count in [100, 1000, 10_000] {
        placement(count);
    }
}

fn placement(count: usize) {
    println!("placement over {count} hosts (median of processor time, us)");
    let mut candidates = site(count);
    let mut input = placement_input();
    input.placements = (0..40).map(|n| reservation(n, 1000, "staff", &format!("host-{:05}", n as usize * 97 % count))).collect();
    let bare = Bare::of(&candidates);
    let floor = median(200, 1, |_| {
        black_box(bare.best(black_box((2.0, 2048.0, 10.0))));
    });
    println!("  bare scan in Rust                     {floor:9.1}");
    let set = evaluator_with(shipped(), Limits::default());
    let set = Arc::clone(set.set());
    let mut evaluators: Vec<_> = (0..20).map(|_| set.evaluator(1).unwrap()).collect();
    let cold = median(20, 1, |n| {
        assert!(evaluators[n].placement(&input, &candidates, false).host.is_some());
    });
    println!("  shipped policy, first decision        {cold:9.1}   {:6.1} x bare   goal 2000", cold / floor);
    let mut evaluator = set.evaluator(1).unwrap();
    evaluator.placement(&input, &candidates, false);
    let mut step = 0;
    let mut warm = |evaluator: &mut vws_policy::Evaluator, input: &PlacementInput| {
        // One host got a workspace, one has a new record: what changes between two decisions.
        step += 1;
        let at = step * 31 % candidates.len();
        candidates[at].free.memory_mib ^= 1;
        let other = step * 17 % candidates.len();
        let mut record = (*candidates[other].host).clone();
        record.version += 1;
        candidates[other].host = Arc::new(record);
        let start = now();
        assert!(evaluator.placement(input, &candidates, false).host.is_some());
        now() - start
    };
    let mut times: Vec<f64> = (0..300).map(|_| warm(&mut evaluator, &input)).collect();
    times.sort_by(f64::total_cmp);
    println!("  shipped policy, little changed        {:9.1}   {:6.1} x bare   goal 200", times[150], times[150] / floor);
    for (name, text) in
        [("filter and score on the best 64", "consider = 64,"), ("filter and score on every host", "consider = 0,")]
    {
        let text = format!(
            "return {{ {text} rank = function() return {{ {{ term = 'free_memory_ratio', weight = -1 }} }} end,
               filter = function(input, host) return host.labels.pool == 'general' end,
               score = function(input, host) return host.free.vcpus / host.capacity.vcpus + host.workspaces end }}"
        );
        let limits = Limits { deadline: std::time::Duration::from_secs(5), ..Limits::default() };
        let mut evaluator = evaluator_with(sources(common::PERMIT, common::PERMIT, &text), limits);
        let mut times: Vec<f64> = (0..50).map(|_| warm(&mut evaluator, &input)).collect();
        times.sort_by(f64::total_cmp);
        println!("  {name:36}  {:9.1}   {:6.1} x bare", times[25], times[25] / floor);
    }
}
