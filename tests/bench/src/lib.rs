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

/// Overwrites of 4 KiB a second, each on the device before the next: the floor of whatever is durable there.
///
/// # Panics
/// When the folder cannot be written.
#[must_use]
pub fn fdatasync_rate(folder: &std::path::Path, measured: Duration) -> f64 {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::create(folder.join("bare")).unwrap();
    file.write_all_at(&[1; 4096], 0).unwrap();
    file.sync_all().unwrap();
    let begin = Instant::now();
    let mut count = 0_u32;
    while begin.elapsed() < measured {
        file.write_all_at(&count.to_le_bytes().repeat(1024), 0).unwrap();
        file.sync_data().unwrap();
        count += 1;
    }
    f64::from(count) / begin.elapsed().as_secs_f64()
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

/// Three real hosts, whatever is wanted of tests: who runs this benchmark wants them. `None` without root.
#[must_use]
pub fn lab() -> Option<vws_tests::lab::Lab> {
    // No other thread runs yet that could read it.
    if std::env::var_os("VWS_TEST_LIBVIRT").is_none() {
        eprintln!("skipped: set VWS_TEST_LIBVIRT=1 for what needs several real hosts");
    }
    vws_tests::lab::Lab::start()
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
    create_on(client, count, at_once, target, None).await
}

/// The same, all on one host if one is named.
///
/// # Panics
/// When one is refused.
pub async fn create_on(
    client: &vws_bus::client::Client,
    count: usize,
    at_once: usize,
    target: &'static str,
    host: Option<&'static str>,
) -> Vec<String> {
    use futures_util::StreamExt;
    let manager = client.manager().await.unwrap();
    let one = |number: usize| {
        let manager = manager.clone();
        async move {
            let mut spec = vws_tests::bus::none();
            spec.insert("image", zbus::Variant::from("tiny"));
            spec.insert("memory-mib", zbus::Variant::from(64_u64));
            spec.insert("target", zbus::Variant::from(target));
            if let Some(host) = host {
                spec.insert("host", zbus::Variant::from(host));
            }
            let name = format!("{}{number}", host.unwrap_or("w"));
            let (workspace, _job) = manager.create_workspace(&name, &spec, &vws_tests::bus::none()).await.unwrap();
            workspace.to_string()
        }
    };
    futures_util::stream::iter((0..count).map(one)).buffer_unordered(at_once).collect().await
}

/// The site's events from now on, for one client.
///
/// # Panics
/// When it may not subscribe.
pub async fn events(client: &vws_bus::client::Client) -> vws_bus::client::EventStream {
    let manager = client.manager().await.unwrap();
    let events = manager.receive_event().await.unwrap();
    manager.subscribe(&vws_tests::bus::none()).await.unwrap();
    events
}

/// Waits for an event with this text in it; when it was seen.
///
/// # Panics
/// When a job failed meanwhile.
pub async fn next_event(events: &mut vws_bus::client::EventStream, kind: &str, text: &str) -> Instant {
    use futures_util::StreamExt;
    loop {
        let event = events.next().await.unwrap();
        let seen = Instant::now();
        let event = event.args().unwrap();
        let said = vws_tests::bus::word(&event.details, "text");
        assert!(!(event.kind == "job.ended" && said.contains("failed")), "{said}");
        if event.kind == kind && said.contains(text) {
            return seen;
        }
    }
}

/// How long a job of a workspace takes, from the request to the event of its good end; it is the workspace's only one.
///
/// # Panics
/// When it is refused or fails.
pub async fn job_time(
    events: &mut vws_bus::client::EventStream,
    workspace: &str,
    request: impl Future<Output = zbus::Result<zbus::OwnedObjectPath>>,
) -> Duration {
    use futures_util::StreamExt;
    let begin = Instant::now();
    request.await.unwrap();
    loop {
        let event = events.next().await.unwrap();
        let time = begin.elapsed();
        let event = event.args().unwrap();
        if event.kind == "job.ended" && event.object.as_str() == workspace {
            let said = vws_tests::bus::word(&event.details, "text");
            assert!(said.contains(" done"), "{said}");
            return time;
        }
    }
}

/// Smallest and middle of some times, for a line.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn least_and_median(times: &[Duration]) -> (Duration, Duration) {
    (times.iter().min().copied().unwrap(), median(times.to_vec()))
}

/// One of a hundred times is longer than this.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn p99(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[(times.len() * 99 / 100).min(times.len() - 1)]
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
