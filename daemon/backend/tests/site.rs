//! The simulated site through real children, and inside this process: documents, descriptors, deaths in the middle.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use common::{SOON, Site, config, sim, until};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use vws_backend::{CallError, Isolation};
use vws_plugin_api::doc::{Exported, HostListing, ImagesMissing, LogDoc, MachineState, MachineStatus, methods};

const WORKSPACE: &str = "0123456789abcdef0123456789abcdef";
const DIGEST: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

fn machine() -> Value {
    json!({
        "workspace": WORKSPACE, "name": "web", "vcpus": 1, "memory_mib": 128, "boot": { "kind": "disk", "firmware": "bios" },
        "disks": [{ "name": "disk-0", "source": { "kind": "image", "digest": DIGEST, "format": "raw" }, "size_mib": 1024 }],
        "nics": [{ "mac": "52:54:00:00:00:01", "kind": "user" }],
        "seed": { "meta_data": "instance-id: \"i\"\nlocal-hostname: \"web\"\n", "user_data": "#cloud-config\n" },
        "deployment": 1, "member_of_the_future": true
    })
}

async fn ask<R: serde::de::DeserializeOwned>(
    site: &Site,
    host: &str,
    method: &str,
    id: &str,
    more: Value,
    fds: Vec<OwnedFd>,
) -> Result<(R, Vec<OwnedFd>), CallError> {
    let mut args = json!({ "host": host, "workspace": WORKSPACE });
    for (name, value) in more.as_object().cloned().unwrap_or_default() {
        args[name] = value;
    }
    site.backends.call(host, method, id, &args, SOON, fds).await
}

async fn status(site: &Site, host: &str, method: &str, more: Value) -> MachineStatus {
    ask(site, host, method, method, more, Vec::new()).await.unwrap().0
}

async fn count(site: &Site, host: &str) -> u64 {
    let (log, _): (LogDoc, _) = ask(site, host, methods::LOG, "log", json!({}), Vec::new()).await.unwrap();
    assert!(log.text.contains("web login:"), "{}", log.text);
    log.text.lines().filter_map(|line| line.strip_prefix("TICK ")?.parse().ok()).next_back().unwrap_or(0)
}

async fn put_image(site: &Site, host: &str) {
    let mut image = tempfile::tempfile().unwrap();
    image.write_all(b"abc").unwrap();
    image.rewind().unwrap();
    let put = json!({ "digest": DIGEST, "size_bytes": 3 });
    let (_, _): (Value, _) = ask(site, host, methods::IMAGE_PUT, "put", put, vec![image.into()]).await.unwrap();
}

async fn lifecycle(isolation: Isolation) {
    let site = Site::new();
    let mut plugin = config("sim", sim());
    plugin.isolation = isolation;
    let description = site.backends.add_plugin(plugin).await.unwrap();
    assert_eq!(description.name, "sim");
    for host in ["h1", "h2"] {
        site.backends.open_host("sim", host, json!({})).await.unwrap();
    }
    let missing = json!({ "digests": [DIGEST] });
    let (answer, _): (ImagesMissing, _) = ask(&site, "h1", methods::IMAGE_PRESENT, "i", missing, Vec::new()).await.unwrap();
    assert_eq!(answer.missing, [DIGEST]);
    let whole = json!({ "machine": machine() });
    let early = ask::<MachineStatus>(&site, "h1", methods::STAGE, "s", whole.clone(), Vec::new()).await.unwrap_err();
    assert_eq!(early.code(), "not-found", "{early}");
    put_image(&site, "h1").await;
    assert_eq!(status(&site, "h1", methods::STAGE, whole.clone()).await.state, MachineState::Stopped);
    assert_eq!(status(&site, "h1", methods::START, whole.clone()).await.state, MachineState::Running);
    assert_eq!(status(&site, "h1", methods::START, whole.clone()).await.state, MachineState::Running);

    let (_, fds): (Value, _) = ask(&site, "h1", methods::CONSOLE, "c", json!({}), Vec::new()).await.unwrap();
    let seen = tokio::task::spawn_blocking(move || {
        let mut line = UnixStream::from(fds.into_iter().next().unwrap());
        line.set_read_timeout(Some(SOON)).unwrap();
        line.write_all(b"typed here\n").unwrap();
        let (mut seen, mut buffer) = (String::new(), [0; 512]);
        while !(seen.contains("login:") && seen.contains("typed here") && seen.contains("TICK")) {
            let count = line.read(&mut buffer).unwrap();
            assert!(count > 0, "the console ended: {seen}");
            seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
    });
    seen.await.unwrap();

    let before = count(&site, "h1").await;
    assert_eq!(status(&site, "h1", methods::PAUSE, json!({})).await.state, MachineState::Paused);
    assert_eq!(status(&site, "h1", methods::SAVE, json!({})).await.state, MachineState::Saved);
    let streams = [tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap()];
    let fds = streams.iter().map(|file| file.try_clone().unwrap().into()).collect();
    let names = json!({ "streams": ["memory", "disk-0"] });
    let (exported, _): (Exported, _) = ask(&site, "h1", methods::EXPORT, "e", names, fds).await.unwrap();
    assert!(exported.paused);
    assert_eq!(status(&site, "h1", methods::DESTROY, json!({})).await.state, MachineState::Absent);
    assert_eq!(status(&site, "h1", methods::DESTROY, json!({})).await.state, MachineState::Absent, "absent is success");

    put_image(&site, "h2").await;
    let reread = |streams: &[File; 2]| -> Vec<OwnedFd> {
        streams
            .iter()
            .map(|file| {
                let mut file = file.try_clone().unwrap();
                file.rewind().unwrap();
                file.into()
            })
            .collect()
    };
    let import = json!({ "machine": machine(), "streams": ["memory", "disk-0"], "exported": exported });
    let swapped = json!({ "machine": machine(), "streams": ["disk-0", "memory"], "exported": exported });
    let error = ask::<MachineStatus>(&site, "h2", methods::IMPORT, "x", swapped, reread(&streams)).await.unwrap_err();
    assert_eq!(error.code(), "damaged", "{error}");
    let (imported, _): (MachineStatus, _) = ask(&site, "h2", methods::IMPORT, "m", import, reread(&streams)).await.unwrap();
    assert_eq!(imported.state, MachineState::Saved);
    assert_eq!(status(&site, "h2", methods::RESTORE, whole).await.state, MachineState::Running);
    assert!(count(&site, "h2").await >= before, "the guest's counter goes on");
    let stopped = status(&site, "h2", methods::STOP, json!({ "guest_timeout_ms": 1000 })).await;
    assert_eq!((stopped.state, stopped.reason.as_str()), (MachineState::Stopped, "shutdown"));
    let again = status(&site, "h2", methods::STOP, json!({ "guest_timeout_ms": 0 })).await;
    assert_eq!(again.reason, "shutdown", "a repeat tells how it went off");
    let mut disk = tempfile::tempfile().unwrap();
    let (_, _): (Value, _) =
        ask(&site, "h2", methods::SAVE_DISK, "d", json!({}), vec![disk.try_clone().unwrap().into()]).await.unwrap();
    let mut sector = [0; 512];
    disk.rewind().unwrap();
    disk.read_exact(&mut sector).unwrap();
    assert_eq!(&sector[510..], [0x55, 0xaa]);
    site.backends.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_lives_its_life_through_a_child() {
    lifecycle(Isolation::Process).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_lives_its_life_inside_the_daemon() {
    lifecycle(Isolation::InProcess).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_dies_in_the_middle_finds_its_machines_again() {
    for (setting, done) in [("die", false), ("die_after", true)] {
        let folder = tempfile::tempdir().unwrap();
        let site = Site::new();
        site.backends.add_plugin(config("sim", sim())).await.unwrap();
        let settings = json!({ "directory": folder.path(), setting: methods::START });
        site.backends.open_host("sim", "h", settings).await.unwrap();
        put_image(&site, "h").await;
        let whole = json!({ "machine": machine() });
        status(&site, "h", methods::STAGE, whole.clone()).await;
        let error = ask::<MachineStatus>(&site, "h", methods::START, "job/3", whole.clone(), Vec::new()).await.unwrap_err();
        assert!(matches!(error, CallError::ChildDied { signal: Some(6), .. }), "{error}");
        let (listing, _): (HostListing, _) = ask(&site, "h", methods::HOST_LIST, "l", json!({}), Vec::new()).await.unwrap();
        let expected = if done { MachineState::Running } else { MachineState::Stopped };
        assert_eq!(listing.workspaces.iter().map(|machine| machine.state).collect::<Vec<_>>(), [expected]);
        let (again, _): (MachineStatus, _) = ask(&site, "h", methods::START, "job/3", whole, Vec::new()).await.unwrap();
        assert_eq!(again.state, MachineState::Running);
        site.backends.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_hosts_share_one_child() {
    let site = Site::new();
    let mut plugin = config("sim", sim());
    plugin.hosts_per_child = 10_000;
    site.backends.add_plugin(plugin).await.unwrap();
    for n in 0..2000 {
        site.backends.open_host("sim", &format!("h{n}"), json!({ "seed": n })).await.unwrap();
    }
    let status = site.backends.status();
    assert_eq!((status[0].hosts.len(), status[0].pids.len()), (2000, 1));
    let pid = status[0].pids[0];
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    until("a fresh child serves", || site.pids().first().is_some_and(|now| *now != pid)).await;
    let (_, _): (HostListing, _) = ask(&site, "h1999", methods::HOST_LIST, "l", json!({}), Vec::new()).await.unwrap();
    site.backends.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trouble_comes_as_it_was_ordered() {
    let site = Site::new();
    site.backends.add_plugin(config("sim", sim())).await.unwrap();
    let error = site.backends.open_host("sim", "typo", json!({ "vcpu": 3 })).await.unwrap_err();
    assert!(error.to_string().contains("vcpu"), "{error}");
    let settings = json!({
        "fail": [{ "method": "host.list", "nth": 2, "code": "unreachable" }],
        "hang": [{ "method": "host.probe", "heeds_cancel": true }],
        "cannot": { "nic-user": "no network here" }
    });
    site.backends.open_host("sim", "h", settings).await.unwrap();
    for (call, good) in [(1, true), (2, false), (3, true)] {
        let listed = ask::<HostListing>(&site, "h", methods::HOST_LIST, "l", json!({}), Vec::new()).await;
        assert_eq!(listed.is_ok(), good, "call {call}");
    }
    let short = std::time::Duration::from_millis(50);
    let probed = site.backends.call::<_, Value>("h", methods::HOST_PROBE, "p", &json!({ "host": "h" }), short, Vec::new()).await;
    // Whoever looks at the clock first, the plugin or the daemon.
    let error = probed.unwrap_err();
    assert!(matches!(error, CallError::TimedOut { .. }) || error.code() == "timed-out", "{error}");
    put_image(&site, "h").await;
    let refused =
        ask::<MachineStatus>(&site, "h", methods::STAGE, "s", json!({ "machine": machine() }), Vec::new()).await.unwrap_err();
    assert!(refused.to_string().contains("no network here"), "{refused}");
    assert_eq!(site.backends.status()[0].restarts, 0);
    site.backends.shutdown().await;
}
