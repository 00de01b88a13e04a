//! Bundles: here and there, later, once; what a host must have for one; what is refused and what is left then.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use serde_json::Value;
use std::fs::OpenOptions;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use vws_tests::bus::{none, number, run, word};
use vws_tests::crafted::{Crafted, sha256};
use vws_tests::{Site, program, until};

/// The newest count that the guest printed.
fn counted(site: &Site, workspace: &str) -> u64 {
    let log = site.ok(&["logs", workspace]);
    let text = log["text"].as_str().unwrap().to_owned();
    text.lines().rev().find_map(|line| line.strip_prefix("TICK ")?.parse().ok()).unwrap_or(0)
}

/// The folder of the one bundle in the library.
fn bundle_folder(site: &Site) -> PathBuf {
    let mut found = std::fs::read_dir(site.dir().join("state/library/bundles")).unwrap();
    let folder = found.next().expect("there is a bundle").unwrap().path();
    assert!(found.next().is_none(), "there is one bundle");
    folder
}

fn outcome<'a>(explained: &'a Value, host: &str) -> (&'a str, &'a str, &'a str) {
    let found = explained["hosts"].as_array().unwrap().iter().find(|one| one["host"] == host);
    let found = found.unwrap_or_else(|| panic!("nothing is said of {host}: {explained}"));
    let word = |key: &str| found[key].as_str().unwrap_or("");
    (word("outcome"), word("code"), word("text"))
}

#[test]
fn a_guest_goes_on_elsewhere_after_a_restart_and_only_once() {
    let newer = "machine_types = [\"sim-2\", \"sim-1\"]\ncpus = [\"sim-big\", \"sim\"]";
    let mut site = Site::of(&[("h1", ""), ("h2", newer)]);
    site.import("tiny");
    site.run(&["launch", "tiny", "--name", "one", "--memory", "64M", "--host", "h1"]);
    until("the guest counts", || (counted(&site, "one") >= 3).then_some(()));
    let before = counted(&site, "one");
    site.run(&["serialize", "one"]);
    assert!(site.machines("h1").is_empty(), "it has left its host");
    site.kill_daemon();
    // The host that it came from is no more; the other one never saw the image.
    std::fs::remove_dir_all(site.dir().join("sim/h1")).unwrap();
    site.start_daemon();
    site.run(&["host", "remove", "h1"]);
    site.run(&["resume", "one"]);
    assert_eq!(site.ok(&["info", "one"])["host"], "h2");
    let (_, machine) = site.machines("h2").remove(0);
    assert_eq!(machine["boots"], 1, "it was resumed, not booted: {machine}");
    assert!(counted(&site, "one") >= before, "its memory went on");
    let again = site.vws(&["resume", "one"]);
    assert_eq!((again.code, site.machines("h2").len()), (0, 1), "it is running already: {}", again.talk);
    let bundles: Vec<_> = std::fs::read_dir(site.dir().join("state/library/bundles")).unwrap().collect();
    assert!(bundles.is_empty(), "the bundle is used up: {bundles:?}");
    site.run(&["destroy", "one"]);
    site.assert_empty(&["h2"]);
}

#[test]
fn each_host_says_whether_it_can_and_if_not_why() {
    let site = Site::of(&[
        ("h0", "networks = [\"lab\"]"),
        ("cpu", "networks = [\"lab\"]\ncpus = [\"other\"]"),
        ("machine", "networks = [\"lab\"]\nmachine_types = [\"sim-2\", \"sim-3\"]"),
        ("accel", "networks = [\"lab\"]\naccelerator = \"magic\""),
        ("net", "networks = [\"default\", \"dmz\"]"),
        ("small", "networks = [\"lab\"]\nmemory_mib = 32"),
        ("newer", "networks = [\"lab\"]\nmachine_types = [\"sim-2\", \"sim-1\"]"),
        ("cannot", "networks = [\"lab\"]\ncannot = { serialize = \"its disk is too slow\" }"),
    ]);
    site.import("tiny");
    site.run(&["launch", "tiny", "--name", "one", "--memory", "64M", "--host", "h0", "--nic", "hypervisor-network=lab"]);
    site.run(&["serialize", "one"]);
    let explained = site.ok(&["explain", "resume", "one"]);
    assert_eq!(explained["permitted"], true, "{explained}");
    for (host, code, words) in [
        ("cpu", "cpu", "has no CPU model `sim`, which the guest was started with (it has other)"),
        (
            "machine",
            "machine",
            "its emulator knows no machine type `sim-1`, which the guest was started as (it has sim-2, sim-3)",
        ),
        (
            "accel",
            "accelerator",
            "runs guests with magic; the guest's memory was made with `simulation` and goes on with nothing else",
        ),
        ("net", "network", "has no network `lab` (it has default, dmz)"),
        ("small", "too-large", "64 memory_mib asked, the host gives out 32 at most"),
        ("cannot", "unsupported", "`serialize`: its disk is too slow"),
    ] {
        assert_eq!(outcome(&explained, host), ("filtered", code, words));
    }
    for host in ["h0", "newer"] {
        assert_eq!(outcome(&explained, host).0, "scored", "{host}: {explained}");
    }
    // The real call says the same.
    let refused = site.vws(&["resume", "one", "--host", "cpu"]).error();
    assert!(refused.0 == "NoHost" && refused.2.contains("has no CPU model `sim`"), "{refused:?}");
    assert_eq!(site.state("one"), "serialized");
    site.run(&["resume", "one", "--host", "newer"]);
    assert_eq!(site.ok(&["info", "one"])["host"], "newer");
}

#[test]
fn a_damaged_bundle_touches_no_host_and_is_kept() {
    let site = Site::of(&[("h1", ""), ("h2", "")]);
    site.import("tiny");
    site.run(&["launch", "tiny", "--name", "one", "--memory", "64M", "--host", "h1"]);
    site.run(&["serialize", "one"]);
    let memory = OpenOptions::new().read(true).write(true).open(bundle_folder(&site).join("memory")).unwrap();
    let mut byte = [0_u8];
    memory.read_exact_at(&mut byte, 200).unwrap();
    memory.write_all_at(&[byte[0] ^ 1], 200).unwrap();
    let refused = site.vws(&["resume", "one", "--host", "h2"]).error();
    assert!(refused.0 == "Damaged" && refused.2.contains("file `memory` of bundle"), "{refused:?}");
    assert_eq!(site.state("one"), "serialized");
    assert!(site.machines("h2").is_empty());
    assert!(!site.dir().join("sim/h2/images").read_dir().is_ok_and(|mut images| images.next().is_some()), "no image was sent");
    memory.write_all_at(&byte, 200).unwrap();
    site.run(&["resume", "one", "--host", "h2"]);
    assert_eq!(site.state("one"), "running");
}

/// Exports `one` of a new site that has it serialized; the site and the file.
fn exported() -> (Site, PathBuf) {
    let site = Site::of(&[("h1", "")]);
    site.import("tiny");
    site.run(&["launch", "tiny", "--name", "one", "--memory", "64M", "--label", "tier=web"]);
    until("the guest counts", || (counted(&site, "one") >= 3).then_some(()));
    site.run(&["serialize", "one"]);
    let file = site.dir().join("one.vwsb");
    site.run(&["bundle", "export", "one", file.to_str().unwrap()]);
    (site, file)
}

fn blobs(site: &Site) -> usize {
    std::fs::read_dir(site.dir().join("state/library/blobs/sha256")).unwrap().count()
}

/// Nothing came in: no workspace, image, byte or bundle.
fn assert_nothing_came(site: &Site, what: &str) {
    assert_eq!(site.ok(&["list"]), serde_json::json!([]), "{what}");
    assert_eq!(site.ok(&["image", "list"]), serde_json::json!([]), "{what}");
    until(&format!("{what}: no bytes are left"), || (blobs(site) == 0).then_some(()));
    let left: Vec<_> = std::fs::read_dir(site.dir().join("state/library/bundles")).unwrap().collect();
    assert!(left.is_empty(), "{what}: {left:?}");
}

#[test]
fn a_bundle_is_exported_here_and_lives_on_there() {
    let (here, file) = exported();
    let path = file.to_str().unwrap();
    assert_eq!(here.state("one"), "gone");
    here.assert_empty(&["h1"]);
    let why = here.ok(&["why", "one"]);
    assert_eq!(why[0]["verb"], "bundle-export", "{why}");
    let told = here.ok(&["events"]);
    let told = told.as_array().unwrap().iter().any(|event| event["text"].as_str().unwrap().contains("exported to a file by"));
    assert!(told, "the event says that it was exported");
    // No daemon is needed to look at the file.
    let verified = Command::new(program("vws")).args(["--json", "bundle", "verify", path]).env_remove("VWS_BUS").output();
    let verified: Value = serde_json::from_slice(&verified.unwrap().stdout).unwrap();
    assert!(verified["name"] == "one" && verified["with_images"] == true && verified["cpu"] == "sim", "{verified}");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600, "it holds the guest's memory");

    let known = here.vws(&["bundle", "import", path]).error();
    assert_eq!((known.0.as_str(), known.1.as_str()), ("Conflict", "bundle-known"), "{known:?}");

    let there = Site::of(&[("far", "")]);
    let came = there.ok(&["bundle", "import", path, "--name", "two"]);
    assert_eq!((came["workspace"]["state"].as_str(), came["workspace"]["name"].as_str()), (Some("serialized"), Some("two")));
    assert_eq!(there.ok(&["bundle", "list"])[0]["name"], "two");
    there.run(&["bundle", "verify", "two"]);
    assert_eq!(outcome(&there.ok(&["explain", "resume", "two"]), "far").0, "scored");
    there.run(&["resume", "two"]);
    let (_, machine) = there.machines("far").remove(0);
    assert_eq!(machine["boots"], 1, "it was resumed, not booted: {machine}");
    assert!(counted(&there, "two") >= 3, "its memory went on");
    assert_eq!(there.ok(&["info", "two"])["labels"]["tier"], "web");
    for _ in 0..2 {
        let again = there.vws(&["bundle", "import", path, "--name", "three"]).error();
        assert_eq!((again.0.as_str(), again.1.as_str()), ("Conflict", "bundle-known"), "{again:?}");
        // Nor when it has had its life.
        if there.state("two") != "gone" {
            there.run(&["destroy", "two"]);
        }
    }
    there.assert_empty(&["far"]);
}

#[test]
fn collisions_are_told_and_the_name_and_owner_can_be_chosen() {
    let (_here, file) = exported();
    let path = file.to_str().unwrap();
    let there = Site::of(&[("far", "")]);
    there.import("other");
    let mac = Crafted::read(&file).manifest["nics"][0]["mac"].as_str().unwrap().to_owned();
    there.run(&["launch", "other", "--name", "one", "--memory", "64M", "--nic", &format!("user,mac={mac}")]);
    assert_eq!(there.vws(&["bundle", "import", path]).error().0, "AlreadyExists");
    let refused = there.vws(&["bundle", "import", path, "--name", "two"]).error();
    assert_eq!((refused.0.as_str(), refused.1.as_str()), ("Conflict", "mac-in-use"), "{refused:?}");
    assert!(refused.2.contains(&mac) && refused.2.contains("workspace `one`"), "{refused:?}");
    there.run(&["destroy", "one"]);
    let came = there.ok(&["bundle", "import", path, "--owner", "65534"]);
    assert_eq!(came["workspace"]["owner"], 65534);
    if vws_tests::bus::may_become_others() {
        let denied = there.as_user(1, move |client| async move {
            let file = std::fs::File::open("/etc/passwd").unwrap();
            let fd = zbus::Fd::from(std::os::fd::OwnedFd::from(file));
            client
                .manager()
                .await
                .unwrap()
                .import_bundle(fd, &vws_tests::bus::none())
                .await
                .map_err(vws_bus::failure::Failure::from)
        });
        let denied = denied.unwrap_err();
        assert!(denied.is_kind("AccessDenied") && denied.code == "administrators-only", "{denied:?}");
    }
}

/// A qcow2 header as QEMU writes it for an overlay, with a backing file's name.
fn overlay(backing: &str, features: u64, virtual_bytes: u64) -> Vec<u8> {
    let mut header = vec![0_u8; 256 << 10];
    header[..4].copy_from_slice(b"QFI\xfb");
    for (at, value) in [(4, 3_u32), (20, 16), (36, 1), (56, 1), (96, 4), (100, 104)] {
        header[at..at + 4].copy_from_slice(&value.to_be_bytes());
    }
    for (at, value) in [(24, virtual_bytes), (40, 0x30000), (48, 0x10000), (72, features)] {
        header[at..at + 8].copy_from_slice(&value.to_be_bytes());
    }
    if !backing.is_empty() {
        header[8..16].copy_from_slice(&512_u64.to_be_bytes());
        header[16..20].copy_from_slice(&u32::try_from(backing.len()).unwrap().to_be_bytes());
        header[512..512 + backing.len()].copy_from_slice(backing.as_bytes());
    }
    header
}

#[test]
fn a_crafted_bundle_gets_nowhere() {
    let (_here, file) = exported();
    let there = Site::of(&[("far", "")]);
    let path = there.dir().join("crafted.vwsb");
    let digest = Crafted::read(&file).manifest["images"][0]["sha256"].as_str().unwrap().to_owned();
    let mib = 1_u64 << 20;
    let disk = |backing: String, features: u64, bytes: u64| {
        move |crafted: &mut Crafted| {
            crafted.manifest["disks"][0]["format"] = "qcow2".into();
            crafted.replace("files", 0, overlay(&backing, features, bytes));
        }
    };
    type Change = Box<dyn Fn(&mut Crafted)>;
    let table: Vec<(&str, Change, &str)> = vec![
        ("a host's file below the disk", Box::new(disk("/etc/passwd".into(), 0, mib)), "refers to another file, `/etc/passwd`"),
        ("a host's device below the disk", Box::new(disk("/dev/sda".into(), 0, mib)), "refers to another file, `/dev/sda`"),
        ("a server below the disk", Box::new(disk(format!("nbd://10.0.0.1/{digest}"), 0, mib)), "refers to another file"),
        (
            "a description below the disk",
            Box::new(disk(format!("json:{{\"driver\":\"file\",\"filename\":\"/{digest}"), 0, mib)),
            "refers to another file",
        ),
        ("a way out of a folder", Box::new(disk(format!("/images/../../etc/{digest}"), 0, mib)), "refers to another file"),
        ("a file beside the image", Box::new(disk(format!("/images/{digest}x"), 0, mib)), "refers to another file"),
        ("nothing below the disk", Box::new(disk(String::new(), 0, mib)), "does not lie on the image"),
        (
            "the disk's bytes elsewhere",
            Box::new(disk(format!("/images/{digest}"), 1 << 2, mib)),
            "keeps its data in another file",
        ),
        ("a disk that is larger than it says", Box::new(disk(format!("/images/{digest}"), 0, 64 * mib)), "is 64 MiB large"),
        (
            "an image that lies on a host's file",
            Box::new(move |crafted: &mut Crafted| {
                let image = overlay("/etc/shadow", 0, mib);
                crafted.manifest["disks"][0]["image"] = serde_json::json!({ "sha256": sha256(&image), "format": "qcow2" });
                crafted.replace("images", 0, image);
            }),
            "has a backing file inside, `/etc/shadow`",
        ),
        (
            "a host's file as machine type",
            Box::new(|crafted: &mut Crafted| crafted.manifest["origin"]["machine-type"] = "/etc/passwd".into()),
            "which no machine has",
        ),
        (
            "a host's file as stream",
            Box::new(|crafted: &mut Crafted| crafted.manifest["files"][0]["name"] = "../../../../etc/passwd".into()),
            "lists a stream",
        ),
        ("bytes that are not their digest", Box::new(|crafted: &mut Crafted| crafted.contents[1][77] ^= 1), "expected were"),
    ];
    for (what, change, words) in table {
        let mut crafted = Crafted::read(&file);
        change(&mut crafted);
        crafted.write(&path);
        let refused = there.vws(&["bundle", "import", path.to_str().unwrap()]);
        assert_ne!(refused.code, 0, "{what}: {}", refused.talk);
        let (kind, _, text) = refused.error();
        assert!(["Damaged", "InvalidArgument"].contains(&kind.as_str()) && text.contains(words), "{what}: {kind}: {text}");
        assert_nothing_came(&there, what);
    }
    // A memory that is somebody else's is found by who reads it, and the bundle is kept.
    let mut crafted = Crafted::read(&file);
    let memory = crafted.manifest["files"].as_array().unwrap().iter().position(|one| one["name"] == "memory").unwrap();
    crafted.replace("files", memory, b"<domain><devices><disk><source file='/etc/passwd'/></disk></devices></domain>".to_vec());
    crafted.write(&path);
    there.run(&["bundle", "import", path.to_str().unwrap()]);
    assert_eq!(there.vws(&["resume", "one"]).error().0, "Damaged");
    assert_eq!((there.state("one").as_str(), there.machines("far").len()), ("serialized", 0));
    // Taken apart and put together unchanged, it is the same bundle, which is known now.
    Crafted::read(&file).write(&path);
    assert_eq!(there.vws(&["bundle", "import", path.to_str().unwrap()]).error().1, "bundle-known");
}

#[test]
fn an_export_that_fails_leaves_the_bundle_whole() {
    let site = Site::of(&[("h1", "")]);
    site.import("tiny");
    site.run(&["launch", "tiny", "--name", "one", "--memory", "64M"]);
    let path = site.dir().join("one.vwsb");
    let export = ["bundle", "export", "one", path.to_str().unwrap()];
    assert_eq!(site.vws(&export).error().0, "InvalidState", "it is not serialized");
    site.run(&["serialize", "one"]);
    let memory = OpenOptions::new().read(true).write(true).open(bundle_folder(&site).join("memory")).unwrap();
    let mut byte = [0_u8];
    memory.read_exact_at(&mut byte, 99).unwrap();
    memory.write_all_at(&[byte[0] ^ 1], 99).unwrap();
    assert_eq!(site.vws(&export).error().0, "Damaged");
    assert_eq!(site.vws(&["bundle", "verify", "one"]).error().0, "Damaged");
    assert!(!path.exists(), "what is no bundle is not left");
    memory.write_all_at(&byte, 99).unwrap();
    std::fs::write(&path, "mine").unwrap();
    assert_eq!(site.vws(&export).error().0, "InvalidArgument");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine", "a file that was there is not touched");
    assert_eq!(site.state("one"), "serialized");
    site.run(&["resume", "one"]);
    assert_eq!(site.state("one"), "running");
}

/// Imports an image with some bytes here and there in 1.5 GiB: reading it takes long enough to be seen at it.
fn import_large(site: &Site, name: &str) {
    let path = site.disk(&format!("{name}.raw"));
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(1536 << 20).unwrap();
    for at in (0..1536).step_by(16) {
        file.write_all_at(b"here", at << 20).unwrap();
    }
    site.run(&["image", "import", name, path.to_str().unwrap(), "--format", "raw", "--public"]);
}

/// Begins an export or import and waits until its job is at work with some bytes done; the job.
fn begin(site: &Site, file: &Path, export: bool) -> String {
    run(async {
        let client = site.client().await;
        let fd = OpenOptions::new().read(true).write(export).create(export).truncate(export).open(file).unwrap();
        let fd = zbus::Fd::from(std::os::fd::OwnedFd::from(fd));
        let job = if export {
            let path = site.ok(&["info", "one"])["path"].as_str().unwrap().to_owned();
            client.workspace(&path).await.unwrap().export_bundle(fd, &none()).await.unwrap()
        } else {
            client.manager().await.unwrap().import_bundle(fd, &none()).await.unwrap().1
        };
        let end = std::time::Instant::now() + vws_tests::PATIENCE;
        loop {
            let seen = client.object(&job).await.unwrap();
            assert!(number(&seen, "EndedAt") == 0 && std::time::Instant::now() < end, "it was not seen at work: {seen:?}");
            if number(&seen, "Done") > 0 {
                return job.to_string();
            }
        }
    })
}

#[test]
fn a_kill_or_a_cancel_in_the_middle_leaves_one_bundle() {
    let mut here = Site::of(&[("h1", "")]);
    import_large(&here, "large");
    here.run(&["launch", "large", "--name", "one", "--memory", "64M"]);
    here.run(&["serialize", "one"]);
    let file = here.dir().join("one.vwsb");
    let path = file.to_str().unwrap().to_owned();
    let mut there = Site::of(&[("far", "")]);
    for end in ["cancelled", "killed", "exported"] {
        if end == "exported" {
            std::fs::remove_file(&file).unwrap();
            here.run(&["bundle", "export", "one", &path]);
            break;
        }
        let job = begin(&here, &file, true);
        interrupt(&mut here, &job, end);
        assert_eq!(here.state("one"), "serialized", "{end}");
        here.run(&["bundle", "verify", "one"]);
        assert_ne!(here.vws(&["bundle", "verify", &path]).code, 0, "{end}: the file is no bundle");
        assert_ne!(there.vws(&["bundle", "import", &path]).code, 0, "{end}: nor for another site");
        assert_nothing_came(&there, end);
    }
    here.assert_empty(&["h1"]);
    for end in ["cancelled", "killed"] {
        let job = begin(&there, &file, false);
        interrupt(&mut there, &job, end);
        assert_nothing_came(&there, end);
    }
    there.run(&["bundle", "import", &path]);
    there.run(&["resume", "one"]);
    assert_eq!(there.machines("far").remove(0).1["boots"], 1);
    there.run(&["destroy", "one"]);
    there.assert_empty(&["far"]);
}

/// Cancels the job, or kills the daemon and starts it again; then waits for the job's end.
fn interrupt(site: &mut Site, job: &str, end: &str) {
    if end == "cancelled" {
        run(async { site.client().await.job(job).await.unwrap().cancel(&none()).await.unwrap() });
    } else {
        site.kill_daemon();
        site.start_daemon();
    }
    let ended = until("the job ended", || {
        run(async {
            let seen = site.client().await.object(job).await.unwrap();
            (number(&seen, "EndedAt") > 0).then(|| word(&seen, "State"))
        })
    });
    assert_eq!(ended, "cancelled", "{end}\n{}", site.log());
}
