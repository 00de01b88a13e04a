//! What the benchmarks share: how a figure is taken, and the one form in which it is told.
//!
//! Each target holds a figure against a floor or a peer that it measures in the same run: on a busy machine only the ratio means
//! something. A benchmark tells, it never fails for being slow.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a benchmark ends with its first failure")]

use std::time::{Duration, Instant};

/// Says what is measured and how to measure it again.
pub fn title(target: &str, what: &str) {
    println!("\n{what}\n  cargo bench -p vws-bench --bench {target}");
}

/// One figure: what, how much, in relation to what was measured beside it, and the goal.
pub fn line(what: &str, figure: &str, ratio: &str, goal: &str) {
    let goal = if goal.is_empty() { String::new() } else { format!("   goal {goal}") };
    println!("  {what:<58} {figure:>16}   {ratio:<34}{goal}");
}

/// A time in the unit that fits.
#[must_use]
pub fn shown(time: Duration) -> String {
    let micros = time.as_secs_f64() * 1e6;
    if micros < 1000.0 {
        format!("{micros:.1} us")
    } else if micros < 1e6 {
        format!("{:.2} ms", micros / 1e3)
    } else {
        format!("{:.2} s", micros / 1e6)
    }
}

/// `one` in relation to `other`.
#[must_use]
pub fn ratio(one: Duration, other: Duration) -> f64 {
    one.as_secs_f64() / other.as_secs_f64()
}

/// The middle one.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// Processor time of this thread: what else the machine does shows less in it than on the wall clock.
#[must_use]
pub fn processor() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap(), u32::try_from(time.tv_nsec).unwrap())
}

/// Processor time of one `call`: the median of `rounds`, each of `calls`.
pub fn processor_median(rounds: u32, calls: u32, mut call: impl FnMut()) -> Duration {
    let times = (0..rounds).map(|_| {
        let begin = processor();
        (0..calls).for_each(|_| call());
        (processor() - begin) / calls
    });
    median(times.collect())
}

/// Wall time of something.
pub fn timed<T>(act: impl FnOnce() -> T) -> (T, Duration) {
    let begin = Instant::now();
    let value = act();
    (value, begin.elapsed())
}

/// Resident memory of a process in KiB: all of it, and the part that is no file's.
///
/// # Panics
/// When it does not run.
#[must_use]
pub fn resident_kib(pid: i32) -> (u64, u64) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name} in {status}"));
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    (field("VmRSS:"), field("RssAnon:"))
}

/// A site for thousands of workspaces: hosts without end, and a quota policy that permits everything.
#[must_use]
pub fn roomy(hosts: Vec<&'static str>) -> vws_tests::Plan {
    let shipped = |name: &str| std::fs::read_to_string(vws_tests::root().join("policies").join(name)).unwrap();
    vws_tests::Plan {
        hosts,
        settings: "vcpus = 1000000\nmemory_mib = 1000000000\ndisk_gib = 1000000000\n".to_owned(),
        policies: vec![
            ("access.lua", shipped("access.lua")),
            ("placement.lua", shipped("placement.lua")),
            ("quota.lua", "return { decide = function() return permit() end }\n".to_owned()),
        ],
        ..vws_tests::Plan::default()
    }
}

/// Has `count` workspaces made from the image `tiny`, at most `at_once` at a time; returns their paths when their jobs were accepted.
///
/// # Panics
/// When one is refused.
pub async fn create(client: &vws_bus::client::Client, count: usize, at_once: usize, target: &'static str) -> Vec<String> {
    use futures_util::StreamExt;
    let manager = client.manager().await.unwrap();
    let one = |number: usize| {
        let manager = manager.clone();
        async move {
            let mut spec = vws_tests::bus::none();
            spec.insert("image", zbus::Variant::from("tiny"));
            spec.insert("memory-mib", zbus::Variant::from(64_u64));
            spec.insert("target", zbus::Variant::from(target));
            let (workspace, _job) =
                manager.create_workspace(&format!("w{number}"), &spec, &vws_tests::bus::none()).await.unwrap();
            workspace.to_string()
        }
    };
    futures_util::stream::iter((0..count).map(one)).buffer_unordered(at_once).collect().await
}

/// Waits until no workspace has a job.
///
/// # Panics
/// When that takes more than ten minutes.
pub async fn settled(client: &vws_bus::client::Client) {
    let end = Instant::now() + Duration::from_secs(600);
    let manager = client.manager().await.unwrap();
    let mut cursor = String::new();
    loop {
        let mut options = vws_tests::bus::none();
        options.insert("cursor", zbus::Variant::from(cursor.as_str()));
        let (page, next) = manager.list(&vws_tests::bus::none(), &options).await.unwrap();
        let busy = page.iter().any(|one| !matches!(vws_tests::bus::word(one, "State").as_str(), "running" | "stopped"));
        if busy {
            assert!(Instant::now() < end, "the jobs do not end");
            tokio::time::sleep(Duration::from_millis(20)).await;
        } else if next.is_empty() {
            return;
        } else {
            cursor = next;
        }
    }
}
