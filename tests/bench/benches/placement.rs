//! What placement costs over many hosts: the shipped policy and sites' own functions, limits on, held against a bare scan.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a benchmark ends with its first failure")]

#[path = "../../../daemon/policy/tests/common/mod.rs"]
mod common;

use common::{candidate, evaluator_with, host, placement_input, reservation, shipped, sources};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;
use vws_bench::{line, median, processor, processor_median, ratio, shown, title};
use vws_domain::*;
use vws_policy::{Evaluator, Limits};

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

/// Hosts of which a few change between two decisions.
struct Hosts {
    candidates: Vec<Candidate>,
    step: usize,
}

impl Hosts {
    /// One host got a workspace, one has a new record; then a decision, and what it took.
    fn decide(&mut self, evaluator: &mut Evaluator, input: &PlacementInput) -> Duration {
        self.step += 1;
        let count = self.candidates.len();
        self.candidates[self.step * 31 % count].free.memory_mib ^= 1;
        let other = self.step * 17 % count;
        let mut record = (*self.candidates[other].host).clone();
        record.version += 1;
        self.candidates[other].host = Arc::new(record);
        let begin = processor();
        assert!(evaluator.placement(input, &self.candidates, false).host.is_some());
        processor() - begin
    }

    fn median(&mut self, rounds: usize, evaluator: &mut Evaluator, input: &PlacementInput) -> Duration {
        median((0..rounds).map(|_| self.decide(evaluator, input)).collect())
    }
}

fn main() {
    for count in [100, 1000, 10_000] {
        title("placement", &format!("Placement over {count} hosts (median of processor time)"));
        measure(count, count == 10_000);
    }
}

fn measure(count: usize, goals: bool) {
    let goal = |text: &'static str| if goals { text } else { "" };
    let mut hosts = Hosts { candidates: site(count), step: 0 };
    let mut input = placement_input();
    input.placements = (0..40).map(|n| reservation(n, 1000, "staff", &format!("host-{:05}", n as usize * 97 % count))).collect();
    let bare = Bare::of(&hosts.candidates);
    let floor = processor_median(200, 1, || {
        black_box(bare.best(black_box((2.0, 2048.0, 10.0))));
    });
    let tell = |what: &str, time: Duration, goal: &str| {
        line(what, &shown(time), &format!("{:.1} x the bare scan", ratio(time, floor)), goal);
    };
    line("bare scan in Rust", &shown(floor), "", "");
    let set = Arc::clone(evaluator_with(shipped(), Limits::default()).set());
    let mut evaluators: Vec<_> = (0..40).map(|_| set.evaluator(1).unwrap()).collect();
    let mut next = evaluators.iter_mut();
    let cold = processor_median(40, 1, || {
        assert!(next.next().unwrap().placement(&input, &hosts.candidates, false).host.is_some());
    });
    tell("shipped policy, nothing known of the hosts", cold, goal("2 ms"));
    let mut evaluator = set.evaluator(1).unwrap();
    hosts.decide(&mut evaluator, &input);
    let warm = hosts.median(300, &mut evaluator, &input);
    tell("shipped policy, little changed since the last decision", warm, goal("200 us"));
    for (name, text) in
        [("filter and score on the best 64", "consider = 64,"), ("filter and score on every host", "consider = 0,")]
    {
        let text = format!(
            "return {{ {text} rank = function() return {{ {{ term = 'free_memory_ratio', weight = -1 }} }} end,
               filter = function(input, host) return host.labels.pool == 'general' end,
               score = function(input, host) return host.free.vcpus / host.capacity.vcpus + host.workspaces end }}"
        );
        let limits = Limits { deadline: Duration::from_secs(5), ..Limits::default() };
        let mut evaluator = evaluator_with(sources(common::PERMIT, common::PERMIT, &text), limits);
        tell(name, hosts.median(50, &mut evaluator, &input), "");
    }
}
