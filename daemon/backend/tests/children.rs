//! Real child processes that crash, hang and lie; what the daemon's side makes of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use common::{SOON, Site, alive, config, rogue, until};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use vws_backend::{BackendEvent, CallError, PluginState, limits};
use vws_plugin_api::doc::Retry;

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

fn died(event: BackendEvent) -> Option<(Vec<String>, String)> {
    match event {
        BackendEvent::ChildDied { hosts, reason, .. } => Some((hosts, reason)),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segfault_fails_its_calls_and_the_next_call_meets_a_fresh_child_with_every_host_open() {
    let mut site = Site::rogue(&["a", "b"]).await;
    let before = site.pids();
    let neighbour = site.begin("b", "x.slow", "n", json!({ "ms": 60_000 }), SOON * 4);
    site.said("began x.slow b").await;
    let error = site.call("a", "x.segv", "1", json!({}), SOON).await.unwrap_err();
    assert!(matches!(error, CallError::ChildDied { signal: Some(11), code: None, .. }), "{error}");
    assert!(error.to_string().contains("SIGSEGV"), "{error}");
    assert_eq!(error.retry(), Retry::Now);
    assert!(matches!(neighbour.await.unwrap(), Err(CallError::ChildDied { signal: Some(11), .. })));
    let (hosts, reason) = site.event("the death", died).await;
    assert_eq!(hosts, ["a", "b"]);
    assert!(reason.contains("SIGSEGV"), "{reason}");
    let answer = site.call("a", "x.slow", "2", json!({ "ms": 0 }), SOON).await.unwrap();
    assert_ne!(answer["pid"], before[0]);
    site.said("open b").await;
    assert_eq!(site.backends.status()[0].restarts, 1);
    site.backends.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_child_and_one_that_exits_are_told_apart() {
    let mut site = Site::rogue(&["a"]).await;
    let call = site.begin("a", "x.hang", "1", json!({}), SOON);
    site.said("began x.hang a").await;
    kill(site.pids()[0]);
    let error = call.await.unwrap().unwrap_err();
    assert!(matches!(error, CallError::ChildDied { signal: Some(9), .. }), "{error}");
    let error = site.call("a", "x.exit", "2", json!({}), SOON).await.unwrap_err();
    assert!(matches!(error, CallError::ChildDied { signal: None, code: Some(3), .. }), "{error}");
    assert!(site.call("a", "x.slow", "3", json!({}), SOON).await.is_ok());
    site.backends.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_hangs_costs_neither_its_neighbours_calls_nor_their_next_ones() {
    let mut site = Site::rogue(&["rogue-host", "neighbour"]).await;
    let old = site.pids()[0];
    let healthy = site.begin("neighbour", "x.slow", "n", json!({ "ms": 3000 }), SOON);
    site.said("began x.slow neighbour").await;
    let error = site.call("rogue-host", "x.hang", "1", json!({}), Duration::from_millis(200)).await.unwrap_err();
    assert!(matches!(error, CallError::TimedOut { deadline_ms: 200, .. }), "{error}");
    assert!(error.effect_unknown());
    // The neighbour's next call goes to a fresh child while its first still runs in the old one.
    let next = site.call("neighbour", "x.slow", "m", json!({ "ms": 0 }), SOON).await.unwrap();
    assert_ne!(next["pid"], old);
    assert!(alive(old), "the old child lives as long as its healthy call");
    assert!(!healthy.is_finished());
    // What may be the same again waits until the hanging one is gone for good: its deadline is over before that.
    let error = site.call("rogue-host", "x.slow", "2", json!({}), Duration::from_millis(100)).await.unwrap_err();
    assert!(error.to_string().contains("an earlier call of the same hangs"), "{error}");
    let answer = healthy.await.unwrap().unwrap();
    assert_eq!(answer["pid"], old, "the healthy call ended where it began");
    let (hosts, reason) = site.event("the end of the retired child", died).await;
    assert_eq!(hosts, ["rogue-host"]);
    assert!(reason.contains("hangs"), "{reason}");
    until("the old child is killed", || !alive(old)).await;
    let answer = site.call("rogue-host", "x.slow", "3", json!({ "ms": 0 }), SOON).await.unwrap();
    assert_eq!(answer["pid"], next["pid"]);
    site.backends.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_call_hung_a_fresh_child_takes_the_hosts_other_workspaces_at_once() {
    let mut site = Site::rogue(&["h", "neighbour"]).await;
    let old = site.pids()[0];
    let healthy = site.begin("h", "x.slow", "n", json!({ "workspace": "v", "ms": 3000 }), SOON);
    site.said("began x.slow h").await;
    let error = site.call("h", "x.hang", "1", json!({ "workspace": "w" }), Duration::from_millis(100)).await.unwrap_err();
    assert!(matches!(error, CallError::TimedOut { .. }), "{error}");
    // Other workspaces of the host, the host itself, and neighbours.
    for (host, workspace) in [("h", "u"), ("h", ""), ("neighbour", "x")] {
        let began = Instant::now();
        let answer = site.call(host, "x.slow", "2", json!({ "workspace": workspace, "ms": 0 }), SOON).await.unwrap();
        assert_ne!(answer["pid"], old, "{host} {workspace}");
        assert!(began.elapsed() < Duration::from_secs(1), "{host} {workspace}: {:?}", began.elapsed());
    }
    assert!(alive(old) && !healthy.is_finished(), "the healthy call goes on where it began");
    // The same workspace waits: the two calls must not work on one machine, however the documents name it.
    for about in [json!({ "workspace": "w" }), json!({ "machine": { "workspace": "w" } })] {
        let error = site.call("h", "x.slow", "3", about, Duration::from_millis(100)).await.unwrap_err();
        assert!(error.to_string().contains("an earlier call of the same hangs"), "{error}");
    }
    assert_eq!(healthy.await.unwrap().unwrap()["pid"], old);
    until("the old child is killed", || !alive(old)).await;
    let answer = site.call("h", "x.slow", "4", json!({ "workspace": "w", "ms": 0 }), SOON).await.unwrap();
    assert_ne!(answer["pid"], old);
    assert_eq!(site.backends.status()[0].restarts, 1);
    site.backends.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn breakers_are_told_when_they_open() {
    let mut site = Site::rogue(&["bad"]).await;
    for n in 0..limits::HOST_FAILURES {
        let error = site.call("bad", "x.segv", &format!("{n}"), json!({}), SOON).await.unwrap_err();
        assert!(matches!(error, CallError::ChildDied { .. }), "{n}: {error}");
    }
    let (host, cool_down) = site
        .event("the breaker", |event| match event {
            BackendEvent::BreakerOpened { host, cool_down, .. } => Some((host, cool_down)),
            _ => None,
        })
        .await;
    assert_eq!((host.as_deref(), cool_down), (Some("bad"), limits::COOL_DOWN));
    let closed = tokio::time::timeout(limits::COOL_DOWN + SOON, async {
        loop {
            match site.events.recv().await.expect("the registry lives") {
                BackendEvent::BreakerClosed { host, .. } => return host,
                BackendEvent::BreakerOpened { .. } => panic!("it was open already"),
                _ => {}
            }
        }
    });
    assert_eq!(closed.await.expect("it closes").as_deref(), Some("bad"));
    assert!(site.call("bad", "x.slow", "last", json!({ "ms": 0 }), SOON).await.is_ok());
    site.backends.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_none_fail_their_call_alone() {
    let site = Site::rogue(&["a"]).await;
    let pid = site.pids();
    for (method, words) in [
        ("x.not-json", "no reply"),
        ("x.neither", "neither `ok` nor `err`"),
        ("x.no-reply", "code -7"),
        ("x.bad-fd", "not open"),
        ("x.many-fds", "17 descriptors"),
        ("x.unheard-of", "no such method"),
    ] {
        let error = site.call("a", method, method, json!({}), SOON).await.unwrap_err();
        assert!(error.to_string().contains(words), "{method}: {error}");
    }
    assert!(site.call("a", "x.slow", "1", json!({ "unknown": { "members": [1] } }), SOON).await.is_ok());
    assert_eq!(site.pids(), pid, "it is still the same child");
    site.backends.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_the_socket_ends_the_child_with_a_reason() {
    let mut site = Site::rogue(&["a"]).await;
    let error = site.call("a", "x.garbage", "1", json!({}), SOON).await.unwrap_err();
    assert!(matches!(&error, CallError::ChildDied { reason, .. } if reason.contains("a frame header that is none")), "{error}");
    let (_, reason) = site.event("the death", died).await;
    assert!(reason.contains("a frame header that is none"), "{reason}");
    assert!(site.call("a", "x.slow", "2", json!({}), SOON).await.is_ok());
    site.backends.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn descriptors_go_both_ways() {
    let site = Site::rogue(&["a"]).await;
    let mut to_plugin = tempfile::tempfile().unwrap();
    to_plugin.write_all(b"from the daemon").unwrap();
    to_plugin.rewind().unwrap();
    let mut from_plugin = tempfile::tempfile().unwrap();
    let fds = vec![to_plugin.try_clone().unwrap().into(), from_plugin.try_clone().unwrap().into()];
    let ((), fds) = site.backends.call::<_, ()>("a", "x.fds", "1", &json!({ "host": "a" }), SOON, fds).await.unwrap();
    let mut text = String::new();
    File::from(fds.into_iter().next().unwrap()).read_to_string(&mut text).unwrap();
    assert_eq!(text, "from the daemon");
    text.clear();
    from_plugin.rewind().unwrap();
    from_plugin.read_to_string(&mut text).unwrap();
    assert_eq!(text, "from the plugin");
    let many: Vec<OwnedFd> = (0..17).map(|_| File::open("/dev/null").unwrap().into()).collect();
    let error = site.backends.call::<_, ()>("a", "x.fds", "2", &json!({ "host": "a" }), SOON, many).await.unwrap_err();
    assert!(matches!(error, CallError::Request { .. }), "{error}");
    site.backends.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_documents_pass_and_too_large_ones_are_named() {
    let site = Site::rogue(&["a"]).await;
    let fill = "y".repeat(9_000_000);
    let ask = json!({ "reply_bytes": 20_000_000, "fill": fill });
    let answer = site.call("a", "x.big", "1", ask, SOON).await.unwrap();
    assert!(answer["got"].as_u64().unwrap() > 9_000_000);
    assert_eq!(answer["fill"].as_str().unwrap().len(), 20_000_000);
    let error = site.call("a", "x.big", "2", json!({ "reply_bytes": limits::MAX_FRAME_BYTES }), SOON).await.unwrap_err();
    assert!(
        matches!(&error, CallError::Failure(failure) if failure.code == "internal" && failure.message.contains("the limit is")),
        "{error}"
    );
    let error = site.call("a", "x.big", "3", json!({ "fill": "z".repeat(limits::MAX_FRAME_BYTES) }), SOON).await.unwrap_err();
    assert!(matches!(error, CallError::Request { .. }), "{error}");
    assert_eq!(site.backends.status()[0].restarts, 0);
    site.backends.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_can_be_cancelled_by_id_by_dropping_it_and_while_it_waits_in_the_queue() {
    let mut site = Site::rogue_of("per_workspace", &["a"]).await;
    let first = site.begin("a", "x.polite", "job/1", json!({ "workspace": "w" }), SOON);
    site.said("began x.polite a").await;
    let queued = site.begin("a", "x.polite", "job/2", json!({ "workspace": "w" }), SOON);
    // A call of another workspace that was sent later has begun: so the queued one has arrived.
    let other = site.begin("a", "x.polite", "job/3", json!({ "workspace": "v" }), SOON);
    site.said("began x.polite a").await;
    site.backends.cancel("a", "job/2");
    let error = queued.await.unwrap().unwrap_err();
    assert!(error.to_string().contains("before it began"), "{error}");
    site.backends.cancel("a", "job/1");
    let error = first.await.unwrap().unwrap_err();
    assert!(matches!(&error, CallError::Failure(failure) if failure.code == "cancelled"), "{error}");
    other.abort();
    assert!(other.await.unwrap_err().is_cancelled());
    // The dropped call was cancelled: its workspace is free again.
    assert!(site.call("a", "x.slow", "job/4", json!({ "workspace": "v" }), SOON).await.is_ok());
    // A deadline that passes is a polite cancel first: nobody is killed.
    let error = site.call("a", "x.polite", "job/5", json!({ "workspace": "v" }), Duration::from_millis(50)).await.unwrap_err();
    assert!(matches!(error, CallError::TimedOut { .. }), "{error}");
    assert_eq!(site.backends.status()[0].restarts, 0);
    site.backends.shutdown().await;
}

async fn peak(site: &Site, calls: &[(&str, &str)]) -> u64 {
    let tasks: Vec<_> = calls
        .iter()
        .enumerate()
        .map(|(n, (host, workspace))| {
            site.begin(host, "x.slow", &format!("p{n}"), json!({ "workspace": workspace, "ms": 150 }), SOON)
        })
        .collect();
    let mut peak = 0;
    for task in tasks {
        peak = peak.max(task.await.unwrap().unwrap()["peak"].as_u64().unwrap());
    }
    peak
}

#[tokio::test(flavor = "multi_thread")]
async fn the_declared_concurrency_is_kept() {
    let site = Site::rogue_of("per_workspace", &["a", "b"]).await;
    assert_eq!(peak(&site, &[("a", "w"), ("a", "w"), ("a", "w")]).await, 1, "one workspace");
    assert_eq!(peak(&site, &[("a", "w"), ("a", "v"), ("b", "u")]).await, 3, "three workspaces");
    site.backends.shutdown().await;
    let site = Site::rogue_of("parallel", &["a"]).await;
    assert_eq!(peak(&site, &[("a", "w"), ("a", "w")]).await, 2, "one workspace, parallel");
    let many: Vec<_> = (0..12).map(|_| ("a", "w")).collect();
    assert_eq!(peak(&site, &many).await, limits::MAX_CALLS_PER_HOST as u64, "one host's share");
    site.backends.shutdown().await;
    let site = Site::rogue_of("serial", &["a", "b"]).await;
    assert_eq!(peak(&site, &[("a", "w"), ("a", "v"), ("a", "")]).await, 1, "serial");
    assert_eq!(site.pids().len(), 2, "a plugin that takes one call at a time gets one child a host");
    site.backends.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_host_does_not_hold_up_another() {
    let mut site = Site::rogue(&["slow", "quick"]).await;
    let slow: Vec<_> = (0..40).map(|n| site.begin("slow", "x.polite", &format!("s{n}"), json!({}), SOON)).collect();
    site.said("began x.polite slow").await;
    for n in 0..20 {
        site.call("quick", "x.slow", &format!("q{n}"), json!({ "ms": 0 }), SOON).await.unwrap();
    }
    assert!(slow.iter().all(|call| !call.is_finished()));
    for n in 0..40 {
        site.backends.cancel("slow", &format!("s{n}"));
    }
    for call in slow {
        assert!(call.await.unwrap().is_err());
    }
    site.backends.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_keeps_killing_its_child_is_left_alone_for_a_while_and_only_it() {
    let site = Site::rogue(&["bad", "good"]).await;
    for n in 0..limits::HOST_FAILURES {
        let error = site.call("bad", "x.segv", &format!("{n}"), json!({}), SOON).await.unwrap_err();
        assert!(matches!(error, CallError::ChildDied { .. }), "{n}: {error}");
    }
    let error = site.call("bad", "x.segv", "last", json!({}), SOON).await.unwrap_err();
    assert!(matches!(&error, CallError::Breaker { object, .. } if object == "host `bad`"), "{error}");
    assert_eq!(error.retry(), Retry::Later);
    assert!(site.call("good", "x.slow", "1", json!({}), SOON).await.is_ok());
    assert_eq!(site.backends.status()[0].state, PluginState::Running);
    site.backends.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_arrive_in_order_and_none_is_lost() {
    let mut site = Site::rogue(&["a"]).await;
    let count = u64::from(limits::EVENTS_PER_SECOND) + 500;
    let began = Instant::now();
    let call = site.begin("a", "x.events", "1", json!({ "count": count }), SOON);
    site.said("began x.events a").await;
    for n in 0..count {
        let message = site
            .event("the next", |event| match event {
                BackendEvent::Plugin { event: vws_plugin_api::doc::PluginEvent::Log { message, .. }, .. } => Some(message),
                _ => None,
            })
            .await;
        assert_eq!(message, n.to_string());
    }
    call.await.unwrap().unwrap();
    assert!(began.elapsed() > Duration::from_millis(50), "beyond its rate a child is read more slowly");
    site.backends.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plugins_that_cannot_be_used_say_why_and_are_listed() {
    let site = Site::new();
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text.so");
    std::fs::write(&text, "not a library").unwrap();
    let libm = std::fs::read_to_string("/proc/self/maps")
        .unwrap()
        .lines()
        .find_map(|line| line.split_whitespace().last().filter(|path| path.contains("libc.so")).map(str::to_owned))
        .unwrap();
    for (name, path, words) in [
        ("absent", folder.path().join("absent.so"), "cannot be found"),
        ("text", text, "cannot be loaded"),
        ("library", libm.into(), "exports no `vws_plugin_entry`"),
        ("abi", rogue("abi", &["-DROGUE_ABI=7"]), "built for ABI 7, this daemon speaks ABI 1"),
        ("small", rogue("small", &["-DROGUE_SIZE=40"]), "its descriptor has 40 bytes"),
        ("null", rogue("null", &["-DROGUE_NULL"]), "returned nothing"),
        ("crash", rogue("crash", &["-DROGUE_CRASHES_AT_LOAD"]), "SIGABRT"),
        ("word", rogue("word", &["-DROGUE_CONCURRENCY=\"sometimes\""]), "`describe`"),
    ] {
        let error = site.backends.add_plugin(config(name, path)).await.unwrap_err();
        assert!(matches!(error, CallError::Load { .. }), "{name}: {error}");
        assert!(error.to_string().contains(words), "{name}: {error}");
        let status = site.backends.status().into_iter().find(|plugin| plugin.name == name).unwrap();
        assert!(matches!(&status.state, PluginState::Failed(reason) if reason.contains(words)), "{name}: {:?}", status.state);
    }
    let mut refused = config("refused", rogue("parallel", &["-DROGUE_CONCURRENCY=\"parallel\""]));
    refused.config = json!({ "key": "refuse" });
    let error = site.backends.add_plugin(refused).await.unwrap_err();
    assert!(error.to_string().contains("no licence key; buy one"), "{error}");
    let mut program = config("program", rogue("parallel", &["-DROGUE_CONCURRENCY=\"parallel\""]));
    program.host_program = Some(folder.path().join("no-such-program"));
    let error = site.backends.add_plugin(program).await.unwrap_err();
    assert!(error.to_string().contains("no-such-program cannot be started"), "{error}");
    // A file that was put right serves its hosts without being added again.
    let late = folder.path().join("late.so");
    assert!(site.backends.add_plugin(config("late", late.clone())).await.is_err());
    std::fs::copy(rogue("parallel", &["-DROGUE_CONCURRENCY=\"parallel\""]), &late).unwrap();
    site.backends.open_host("late", "h", json!({})).await.unwrap();
    let status = site.backends.status().into_iter().find(|plugin| plugin.name == "late").unwrap();
    assert_eq!(status.state, PluginState::Running);
    site.backends.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_are_remembered_replaced_and_forgotten() {
    let mut site = Site::rogue(&["a"]).await;
    let error = site.call("x", "x.slow", "1", json!({}), SOON).await.unwrap_err();
    assert!(matches!(error, CallError::UnknownHost { .. }), "{error}");
    let error = site.backends.open_host("nobody", "x", json!({})).await.unwrap_err();
    assert!(error.to_string().contains("known: rogue"), "{error}");
    // Unreachable now: remembered, and every call tries again.
    let error = site.backends.open_host("rogue", "far", json!({ "refuse": "later" })).await.unwrap_err();
    assert!(matches!(&error, CallError::Failure(failure) if failure.code == "unreachable"), "{error}");
    site.said("open far").await;
    assert!(site.call("far", "x.slow", "1", json!({}), SOON).await.is_err());
    site.said("open far").await;
    site.backends.open_host("rogue", "far", json!({})).await.unwrap();
    assert!(site.call("far", "x.slow", "2", json!({}), SOON).await.is_ok());
    // Wrong for good: a new host is not remembered, an old one keeps its settings.
    assert!(site.backends.open_host("rogue", "wrong", json!({ "refuse": "never" })).await.is_err());
    assert!(matches!(site.call("wrong", "x.slow", "1", json!({}), SOON).await, Err(CallError::UnknownHost { .. })));
    assert!(site.backends.open_host("rogue", "far", json!({ "refuse": "never" })).await.is_err());
    assert!(site.call("far", "x.slow", "3", json!({}), SOON).await.is_ok());
    let pids = site.pids();
    site.backends.close_host("rogue", "far").await.unwrap();
    assert!(matches!(site.backends.close_host("rogue", "far").await, Err(CallError::UnknownHost { .. })));
    site.backends.close_host("rogue", "a").await.unwrap();
    until("a shard without hosts ends its child", || pids.iter().all(|pid| !alive(*pid))).await;
    assert_eq!(site.backends.status()[0].state, PluginState::Idle);
    site.backends.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_is_upgraded_while_its_calls_finish() {
    let mut site = Site::rogue(&["a"]).await;
    let old = site.pids()[0];
    let call = site.begin("a", "x.slow", "1", json!({ "ms": 800 }), SOON);
    site.said("began x.slow a").await;
    site.backends.add_plugin(config("rogue", rogue("upgrade", &["-DROGUE_CONCURRENCY=\"per_workspace\""]))).await.unwrap();
    let next = site.call("a", "x.slow", "2", json!({}), SOON).await.unwrap();
    assert_ne!(next["pid"], old);
    assert_eq!(call.await.unwrap().unwrap()["pid"], old);
    until("the old child ends", || !alive(old)).await;
    let status = &site.backends.status()[0];
    assert_eq!((status.concurrency.as_str(), status.restarts), ("per_workspace", 0));
    site.backends.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn children_go_with_the_registry_and_with_their_socket() {
    let mut site = Site::rogue(&["a"]).await;
    let pid = site.pids()[0];
    let call = site.begin("a", "x.hang", "1", json!({}), SOON * 4);
    site.said("began x.hang a").await;
    site.backends.shutdown().await;
    assert!(!alive(pid), "even one that hangs");
    assert!(call.await.unwrap().is_err());
    assert!(matches!(site.call("a", "x.slow", "2", json!({}), SOON).await, Err(CallError::ShuttingDown { .. })));

    // The same without a daemon that says good-bye: only the socket is closed.
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_vws-plugin-host"))
        .args(["plugin-host", "--name", "sim", "--fd", "0", "--plugin"])
        .arg(common::sim())
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .spawn()
        .unwrap();
    drop(ours);
    until("it ends", || child.try_wait().unwrap().is_some()).await;
    assert!(child.wait().unwrap().success());
}

#[test]
fn the_host_program_explains_itself() {
    for (args, words) in [
        (vec!["plugin-host"], "--plugin FILE is missing"),
        (vec!["plugin-host", "--plugin"], "needs a value"),
        (vec!["plugin-host", "--frob", "1"], "unknown option --frob"),
        (vec!["plugin-host", "--plugin", "/x", "--name", "x", "--fd", "0"], "descriptor 0 is no socket"),
    ] {
        let out = Command::new(env!("CARGO_BIN_EXE_vws-plugin-host")).args(&args).stdin(Stdio::null()).output().unwrap();
        assert_eq!(out.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&out.stderr).contains(words), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_sends_garbage_is_left() {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_vws-plugin-host"))
        .args(["--name", "sim", "--fd", "0", "--plugin"])
        .arg(common::sim())
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    ours.write_all(b"\x02\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0{}GARBAGEGARBAGEGARBAGE").unwrap();
    until("it ends", || child.try_wait().unwrap().is_some()).await;
    let out = child.wait_with_output().unwrap();
    assert_eq!(out.status.code(), Some(2));
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(said.contains("the daemon sent a frame"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_keep_their_words_as_the_daemons_error() {
    let site = Site::rogue(&["a"]).await;
    let error: vws_domain::Error = site.call("a", "x.unheard-of", "1", Value::Null, SOON).await.unwrap_err().into();
    assert_eq!(error.kind, vws_domain::ErrorKind::Unsupported);
    assert_eq!(error.code, "unsupported");
    let error: vws_domain::Error = site.call("a", "x.segv", "2", Value::Null, SOON).await.unwrap_err().into();
    assert_eq!((error.kind, error.code.as_str()), (vws_domain::ErrorKind::BackendFailure, "backend-died"));
    assert!(error.to_string().contains("SIGSEGV"), "{error}");
    site.backends.shutdown().await;
}
