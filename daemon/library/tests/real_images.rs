//! The parser against images that qemu-img makes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use common::{Home, go_on};
use std::fs::File;
use std::process::Command;
use vws_domain::{DiskFormat, Error, ErrorKind};
use vws_library::DiskFacts;

/// Makes an image with `qemu-img create` and looks at it through the library; `None` where qemu-img is missing.
fn looked_at(home: &Home, name: &str, arguments: &[&str]) -> Option<Result<DiskFacts, Error>> {
    let path = home.root().join(name);
    let made = Command::new("qemu-img")
        .arg("create")
        .args(["-q", "-f", "qcow2"])
        .args(&arguments[1..])
        .arg(&path)
        .arg(arguments[0])
        .current_dir(home.root())
        .status();
    let Ok(status) = made else {
        eprintln!("SKIPPED: qemu-img is not installed");
        return None;
    };
    assert!(status.success(), "qemu-img create {arguments:?}");
    let blob = home.library().import_file(File::open(path).unwrap(), None, &mut go_on).unwrap();
    Some(home.library().inspect_disk(&blob.digest, DiskFormat::Qcow2))
}

#[test]
fn plain_images_of_every_kind_are_accepted() {
    let home = Home::new();
    for (number, (size, mib, options)) in [
        ("64M", 64, &["-o", "compat=1.1"][..]),
        ("64M", 64, &["-o", "compat=0.10"]),
        ("3G", 3072, &["-o", "cluster_size=512"]),
        ("3G", 3072, &["-o", "cluster_size=2M"]),
        ("3G", 3072, &["-o", "extended_l2=on"]),
        ("100G", 102_400, &["-o", "compression_type=zstd"]),
        ("64M", 64, &["-o", "preallocation=metadata,cluster_size=2M,lazy_refcounts=on"]),
        ("1536K", 2, &[]),
    ]
    .into_iter()
    .enumerate()
    {
        let arguments = [&[size][..], options].concat();
        let Some(facts) = looked_at(&home, &format!("{number}.qcow2"), &arguments) else { return };
        assert_eq!(facts.unwrap().virtual_size_mib, mib, "{arguments:?}");
    }
}

#[test]
fn images_that_lead_elsewhere_are_refused() {
    let home = Home::new();
    File::create(home.root().join("base.img")).unwrap().set_len(1 << 20).unwrap();
    for (name, arguments, code) in [
        ("backed.qcow2", &["1M", "-b", "base.img", "-F", "raw"][..], "backing-file"),
        ("external.qcow2", &["1M", "-o", "data_file=data.raw"], "external-data"),
    ] {
        let Some(facts) = looked_at(&home, name, arguments) else { return };
        let error = facts.unwrap_err();
        assert_eq!((error.kind, error.code.as_str()), (ErrorKind::InvalidArgument, code), "{error}");
        assert!(!error.remedy.is_empty());
    }
    let Some(facts) = looked_at(&home, "again.qcow2", &["1M", "-b", "base.img", "-F", "raw"]) else { return };
    assert!(facts.unwrap_err().fact.contains("`base.img`"));
}

#[test]
fn a_truncated_image_is_damaged() {
    let home = Home::new();
    let Some(facts) = looked_at(&home, "whole.qcow2", &["64M"]) else { return };
    facts.unwrap();
    let file = std::fs::OpenOptions::new().read(true).write(true).open(home.root().join("whole.qcow2")).unwrap();
    file.set_len(100_000).unwrap();
    let error = vws_library::inspect_file(&file, DiskFormat::Qcow2).unwrap_err();
    assert_eq!((error.kind, error.code.as_str()), (ErrorKind::Damaged, "truncated"), "{error}");
}
