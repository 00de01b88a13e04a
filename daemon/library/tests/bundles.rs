//! Bundles: whole or not at all, and verified before anybody gets a byte.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use common::{Home, digest_of, go_on, no_parts};
use serde_json::json;
use std::io::{Read, Write};
use std::ops::ControlFlow;
use vws_domain::{BundleFile, BundleId, ErrorKind};

const ID: BundleId = BundleId(0xabc);

/// A bundle with two streams.
fn made(home: &Home) -> Vec<BundleFile> {
    let writer = home.library().bundle_begin(ID).unwrap();
    writer.stream("memory").unwrap().write_all(b"pages").unwrap();
    writer.stream("disk-0").unwrap().write_all(b"sectors").unwrap();
    writer.finish(json!({ "version": 1 })).unwrap()
}

fn folder(home: &Home) -> std::path::PathBuf {
    home.root().join("library/bundles").join(ID.to_string())
}

#[test]
fn a_bundle_comes_back_as_it_went_in() {
    let home = Home::new();
    let files = made(&home);
    let file =
        |name: &str, bytes: &[u8]| BundleFile { name: name.to_owned(), digest: digest_of(bytes), size_bytes: bytes.len() as u64 };
    assert_eq!(files, [file("disk-0", b"sectors"), file("memory", b"pages")]);
    assert_eq!(home.library().list_bundles().unwrap(), [ID]);
    let usage = home.library().usage().unwrap();
    assert!(usage.bundles == 1 && usage.bundle_bytes > 0 && usage.free_bytes > 0, "{usage:?}");

    let mut seen = Vec::new();
    let (manifest, opened) = home
        .library()
        .bundle_open(ID, &files, &mut |done, total| {
            seen.push((done, total));
            ControlFlow::Continue(())
        })
        .unwrap();
    assert!(seen.is_sorted() && seen.iter().all(|(_, total)| *total == 12), "{seen:?}");
    assert_eq!(manifest["version"], 1);
    assert_eq!(manifest["files"][1], json!({ "name": "memory", "sha256": digest_of(b"pages"), "size-bytes": 5 }));
    let read: Vec<(String, String)> = opened
        .into_iter()
        .map(|(name, mut file)| {
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            (name, text)
        })
        .collect();
    assert_eq!(read, [("disk-0".to_owned(), "sectors".to_owned()), ("memory".to_owned(), "pages".to_owned())]);

    assert!(home.library().bundle_remove(ID).unwrap());
    assert!(!home.library().bundle_remove(ID).unwrap());
    assert_eq!(home.library().bundle_open(ID, &files, &mut go_on).unwrap_err().kind, ErrorKind::NotFound);
    no_parts(&home);
}

#[test]
fn damage_is_found_before_anything_is_handed_out() {
    type Harm = fn(&std::path::Path);
    let harms: [(&str, Harm); 6] = [
        ("another byte", |folder| std::fs::write(folder.join("memory"), b"pagez").unwrap()),
        ("a shorter file", |folder| std::fs::write(folder.join("memory"), b"page").unwrap()),
        ("a missing file", |folder| std::fs::remove_file(folder.join("disk-0")).unwrap()),
        ("a missing manifest", |folder| std::fs::remove_file(folder.join("manifest.json")).unwrap()),
        ("a broken manifest", |folder| std::fs::write(folder.join("manifest.json"), b"{").unwrap()),
        ("another manifest", |folder| std::fs::write(folder.join("manifest.json"), b"{\"files\":[]}").unwrap()),
    ];
    for (harm, harm_it) in harms {
        let home = Home::new();
        let files = made(&home);
        harm_it(&folder(&home));
        let error = home.library().bundle_open(ID, &files, &mut go_on).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Damaged, "{harm}: {error}");
        assert!(error.object.contains(&ID.to_string()), "{harm}: {error}");
    }
}

#[test]
fn opening_can_be_cancelled() {
    let home = Home::new();
    let files = made(&home);
    let error = home.library().bundle_open(ID, &files, &mut |_, _| ControlFlow::Break(())).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Cancelled);
}

#[test]
fn an_unfinished_bundle_is_not_there() {
    let home = Home::new();
    let library = home.library();
    let writer = library.bundle_begin(ID).unwrap();
    writer.stream("memory").unwrap().write_all(b"half").unwrap();
    assert!(library.list_bundles().unwrap().is_empty());
    // Somebody is at work on it, also for one who opens the library anew.
    assert_eq!(home.library().bundle_begin(ID).unwrap_err().kind, ErrorKind::Conflict);
    assert_eq!(library.bundle_discard(ID).unwrap_err().kind, ErrorKind::Conflict);
    drop(writer);
    no_parts(&home);
    assert!(!library.bundle_discard(ID).unwrap());
}

#[test]
fn what_a_crash_left_is_discarded_and_begun_again() {
    let home = Home::new();
    let library = home.library();
    let part = home.root().join(format!("library/bundles/{ID}.part"));
    std::fs::create_dir(&part).unwrap();
    std::fs::write(part.join("memory"), b"half").unwrap();
    assert!(library.bundle_discard(ID).unwrap());
    std::fs::create_dir(&part).unwrap();
    std::fs::write(part.join("memory"), b"half").unwrap();
    assert_eq!(made(&home).len(), 2);
    // A crash between the last rename and the record of it: the job's step runs again.
    let again = library.bundle_begin(ID).unwrap();
    again.stream("memory").unwrap().write_all(b"newer pages").unwrap();
    let files = again.finish(json!({})).unwrap();
    let (_, opened) = library.bundle_open(ID, &files, &mut go_on).unwrap();
    assert_eq!(opened.len(), 1);
    assert!(!folder(&home).join("disk-0").exists());
    no_parts(&home);
}

#[test]
fn stream_names_lead_nowhere_else() {
    let home = Home::new();
    let library = home.library();
    let writer = library.bundle_begin(ID).unwrap();
    for name in ["../x", "/x", "", ".", "..", ".hidden", "a/b", "manifest.json", "UPPER", "a\0b", &"x".repeat(65)] {
        assert_eq!(writer.stream(name).unwrap_err().kind, ErrorKind::InvalidArgument, "{name:?}");
    }
    writer.stream("disk-0").unwrap();
    assert_eq!(writer.stream("disk-0").unwrap_err().kind, ErrorKind::InvalidArgument);
    let evil = [BundleFile { name: "../../secret".to_owned(), digest: digest_of(b""), size_bytes: 0 }];
    writer.finish(json!({})).unwrap();
    assert!(library.bundle_open(ID, &evil, &mut go_on).is_err());
}

#[test]
fn a_manifest_is_an_object() {
    let home = Home::new();
    let writer = home.library().bundle_begin(ID).unwrap();
    assert!(writer.finish(json!([1])).is_err());
    no_parts(&home);
}
