//! Files that are not what they are said to be: refused with a name, an object, a fact and a remedy; no byte of them stays.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use std::path::Path;
use vws_tests::{Plan, Site, until};

fn put32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

fn put64(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_be_bytes());
}

/// A qcow2 image of 1 MiB with nothing in it: header, first table, reference counts, one cluster each.
fn qcow2() -> Vec<u8> {
    const CLUSTER: u64 = 1 << 16;
    let mut bytes = vec![0; 4 * 65_536];
    bytes[..4].copy_from_slice(b"QFI\xfb");
    put32(&mut bytes, 4, 3);
    put32(&mut bytes, 20, 16);
    put64(&mut bytes, 24, 1 << 20);
    put32(&mut bytes, 36, 1);
    put64(&mut bytes, 40, CLUSTER);
    put64(&mut bytes, 48, 2 * CLUSTER);
    put32(&mut bytes, 56, 1);
    put32(&mut bytes, 96, 4);
    put32(&mut bytes, 100, 104);
    put64(&mut bytes, 2 * 65_536, 3 * CLUSTER);
    bytes
}

/// Files below a folder, with their lengths.
fn files(folder: &Path) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    let mut left = vec![folder.to_owned()];
    while let Some(folder) = left.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            if entry.path().is_dir() {
                left.push(entry.path());
            } else {
                found.push((entry.path().display().to_string(), entry.metadata().unwrap().len()));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn a_file_that_is_no_such_image_is_refused_and_no_byte_stays() {
    let site = Site::start(&Plan::default());
    let put = |name: &str, bytes: &[u8]| {
        let path = site.dir().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let with = |edit: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = qcow2();
        edit(&mut bytes);
        bytes
    };
    let text = put("text.qcow2", b"this is no image");
    let odd = put("odd.raw", &[7; 1000]);
    let empty = put("empty.raw", b"");
    let cut = put("cut.qcow2", &qcow2()[..65_536]);
    let shorn = put("shorn.qcow2", &qcow2()[..90]);
    let backed = put(
        "backed.qcow2",
        &with(&|bytes| {
            put64(bytes, 8, 200);
            put32(bytes, 16, 11);
            bytes[200..211].copy_from_slice(b"/etc/shadow");
        }),
    );
    let external = put("external.qcow2", &with(&|bytes| put64(bytes, 72, 4)));
    let locked = put("locked.qcow2", &with(&|bytes| put32(bytes, 32, 1)));
    let good = put("good.qcow2", &qcow2());
    let zero = "0".repeat(64);
    let before = files(&site.dir().join("state/library"));

    let import =
        |path: &str, format: &'static str| ["image", "import", "a", path, "--format", format].map(str::to_owned).to_vec();
    let digest = [import(&good, "qcow2"), vec!["--digest".to_owned(), zero.clone()]].concat();
    let cases: &[(Vec<String>, &str, &str, &[&str])] = &[
        (import(&text, "qcow2"), "InvalidArgument", "not-an-image", &["image `a`", "qcow2"]),
        (import(&odd, "raw"), "InvalidArgument", "not-an-image", &["image `a`", "512"]),
        (import(&empty, "raw"), "InvalidArgument", "", &["is empty"]),
        (import(&cut, "qcow2"), "Damaged", "truncated", &["image `a`", "truncated"]),
        (import(&shorn, "qcow2"), "Damaged", "truncated", &["image `a`", "truncated"]),
        (import(&backed, "qcow2"), "InvalidArgument", "backing-file", &["image `a`", "/etc/shadow", "qemu-img convert"]),
        (import(&external, "qcow2"), "InvalidArgument", "external-data", &["image `a`"]),
        (import(&locked, "qcow2"), "InvalidArgument", "encrypted", &["image `a`"]),
        (digest, "Damaged", "digest", &["the file to import", &zero]),
    ];
    for (arguments, name, code, words) in cases {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        site.assert_refuses(&arguments, name, code, words);
        assert_eq!(site.ok(&["image", "list"]), serde_json::json!([]), "{arguments:?}: it stays in the catalogue");
        // Bytes that came in before they were found to be no image go right after the job's end.
        let gone = || (files(&site.dir().join("state/library")) == before).then_some(());
        until(&format!("{arguments:?}: no bytes stay in the library"), gone);
    }
    let missing = site.dir().join("missing.qcow2").display().to_string();
    let said = site.vws(&["image", "import", "a", &missing, "--format", "qcow2"]);
    assert!(said.code > 0 && said.error().2.contains("missing.qcow2"), "{said:?}");
    // A launch that names a path is no way round.
    for (path, name, code) in [(&backed, "InvalidArgument", "backing-file"), (&cut, "Damaged", "truncated")] {
        let said = site.vws(&["launch", path, "--name", "one", "--memory", "64M"]);
        let (found, told, message) = said.error();
        assert_eq!((found.as_str(), told.as_str()), (name, code), "{path}: {message}");
        site.until_state("one", "gone");
    }
    let said = site.vws(&["launch", &missing, "--name", "one", "--memory", "64M"]);
    assert_eq!(said.error().0, "NotFound", "{said:?}");
    until("no bytes stay in the library", || (files(&site.dir().join("state/library")) == before).then_some(()));
    site.assert_empty(&["h1"]);
    site.run(&["image", "import", "a", &good, "--format", "qcow2"]);
}

#[test]
fn an_image_whose_bytes_changed_is_found_out_and_not_used() {
    let site = Site::start(&Plan::default());
    site.import("tiny");
    let digest = site.ok(&["image", "list"])[0]["digest"].as_str().unwrap().to_owned();
    let found = files(&site.dir().join("state/library/blobs"));
    let (blob, _) = found.iter().find(|(path, _)| path.contains(&digest)).unwrap_or_else(|| panic!("{found:?}"));
    let mut bytes = std::fs::read(blob).unwrap();
    bytes[4711] ^= 1;
    std::fs::set_permissions(blob, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::write(blob, bytes).unwrap();
    let said = site.vws(&["image", "verify", "tiny"]);
    let (name, _, message) = said.error();
    assert_eq!(name, "Damaged", "{message}");
    assert!(message.contains("image `tiny`") && message.contains(&digest), "{message}");
    assert_eq!(site.ok(&["image", "list"])[0]["state"], "damaged");
    let launch = &["launch", "tiny", "--name", "one", "--memory", "64M"];
    site.assert_refuses(launch, "Damaged", "", &["image `tiny`", &digest, "import it again"]);
    assert_eq!(site.ok(&["list"]), serde_json::json!([]));
    assert!(site.machines("h1").is_empty());
    assert!(site.findings().iter().any(|finding| finding.contains("image `tiny`")), "the doctor names it: {:?}", site.findings());
}
