//! The portable file: what goes in comes out, and whatever else stands in one is refused before it does harm.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use proptest::prelude::*;
use sha2::{Digest, Sha256};
use std::io::Read;
use std::ops::ControlFlow;
use vws_bundle::{Guest, ImageFile, Limits, Portable, Reader, Writer, error_of, verify};
use vws_domain::{
    Boot, BundleDisk, BundleFile, BundleId, BundleImage, DiskFormat, DiskLimits, ErrorKind, Firmware, ImageRef, Manifest, Nic,
    NicLimits, NicNetwork, Origin, Spec, Timestamp, WorkspaceId,
};

fn go_on(_: u64, _: u64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A stream with a hole of 3 MiB in it and one at its end.
fn memory() -> Vec<u8> {
    let mut bytes = b"pages".to_vec();
    bytes.resize(3 << 20, 0);
    bytes.extend(b"more");
    bytes.resize(4 << 20, 0);
    bytes
}

const DISK: &[u8] = b"sectors";
const IMAGE: &[u8] = b"an image";

fn portable() -> Portable {
    let mut spec = Spec::new("web", ImageRef::Name("tiny".to_owned()));
    spec.user_data = "#cloud-config\n".to_owned();
    spec.ssh_keys = vec!["ssh-ed25519 AAAA a@b".to_owned()];
    spec.labels.insert("tier".to_owned(), "web".to_owned());
    let file =
        |name: &str, bytes: &[u8]| BundleFile { name: name.to_owned(), digest: sha256(bytes), size_bytes: bytes.len() as u64 };
    Portable {
        manifest: Manifest {
            bundle: BundleId(7),
            workspace: WorkspaceId(8),
            name: "web".to_owned(),
            backend: "kvm".to_owned(),
            created_at: Timestamp(9),
            origin: Origin {
                hypervisor: "QEMU 7.2".to_owned(),
                accelerator: "emulation".to_owned(),
                machine_type: "pc-i440fx-7.2".to_owned(),
                cpu: "qemu64".to_owned(),
                emulator: "/usr/bin/qemu-system-x86_64 7.2.9".to_owned(),
            },
            paused: true,
            vcpus: 2,
            vcpus_max: 4,
            cpu_shares: 0,
            memory_mib: 64,
            memory_max_mib: 128,
            boot: Boot::Disk(Firmware::Bios),
            disks: vec![BundleDisk {
                name: "disk-0".to_owned(),
                format: DiskFormat::Qcow2,
                size_mib: 2048,
                limits: DiskLimits { iops: 5, kib_per_second: 6 },
                image: Some(BundleImage { digest: sha256(IMAGE), format: DiskFormat::Raw }),
            }],
            nics: vec![
                Nic {
                    network: NicNetwork::User,
                    mac: "52:54:00:00:00:01".to_owned(),
                    address: None,
                    limits: NicLimits::default(),
                },
                Nic {
                    network: NicNetwork::Bridge("br0".to_owned()),
                    mac: "52:54:00:00:00:02".to_owned(),
                    address: None,
                    limits: NicLimits { inbound_kib_per_second: 1, outbound_kib_per_second: 2 },
                },
            ],
        },
        guest: Guest { spec, deployments: 3 },
        files: vec![file("disk-0", DISK), file("memory", &memory())],
        images: vec![ImageFile { digest: sha256(IMAGE), size_bytes: IMAGE.len() as u64 }],
    }
}

fn written(portable: &Portable) -> vws_domain::Result<Vec<u8>> {
    let mut writer = Writer::begin(Vec::new(), portable, &Limits::default())?;
    for bytes in [DISK, &memory(), IMAGE] {
        writer.content(&mut &*bytes, &mut go_on)?;
    }
    writer.finish()
}

/// The same file with another manifest, under its right digest.
fn with_manifest(change: impl FnOnce(&mut serde_json::Value)) -> Vec<u8> {
    let file = written(&portable()).unwrap();
    let length = usize::try_from(u64::from_be_bytes(file[16..24].try_into().unwrap())).unwrap();
    let mut manifest: serde_json::Value = serde_json::from_slice(&file[56..56 + length]).unwrap();
    change(&mut manifest);
    framed(&manifest.to_string(), &file[56 + length..])
}

fn framed(manifest: &str, rest: &[u8]) -> Vec<u8> {
    let mut file = b"vws-bundle-0001\n".to_vec();
    file.extend((manifest.len() as u64).to_be_bytes());
    file.extend(Sha256::digest(manifest));
    file.extend(manifest.as_bytes());
    file.extend(rest);
    file
}

fn refused(file: &[u8]) -> (ErrorKind, String, String) {
    let error = verify(file, &Limits::default(), &mut go_on).expect_err("it is accepted");
    (error.kind, error.code.clone(), error.to_string())
}

#[test]
fn everything_comes_back_and_holes_take_no_room() {
    let portable = portable();
    let file = written(&portable).unwrap();
    assert!(file.len() < 200_000, "{} bytes for 4 MiB with little in them", file.len());
    let mut reader = Reader::open(&*file, &Limits::default()).unwrap();
    let read = reader.portable().clone();
    assert_eq!(read.manifest, portable.manifest);
    assert_eq!((&read.files, &read.images, read.guest.deployments), (&portable.files, &portable.images, 3));
    let spec = read.spec().unwrap();
    assert_eq!((spec.user_data.as_str(), spec.ssh_keys.len(), spec.disk_gib), ("#cloud-config\n", 1, 2));
    assert_eq!((spec.vcpus_max, spec.memory_max_mib), (4, 128));
    assert_eq!(spec.nics, portable.manifest.nics);
    for expected in [DISK, &memory(), IMAGE] {
        let mut bytes = Vec::new();
        reader.next_content().unwrap().read_to_end(&mut bytes).unwrap();
        assert!(bytes == expected);
    }
    assert!(reader.next_content().is_none());
    reader.finish().unwrap();
    assert_eq!(
        read.manifest.needs(),
        ["accelerator:emulation", "bridge:br0", "cpu:qemu64", "machine:pc-i440fx-7.2", "serialize"]
    );
}

#[test]
fn a_source_that_is_not_its_digest_makes_no_file() {
    let mut writer = Writer::begin(Vec::new(), &portable(), &Limits::default()).unwrap();
    let error = writer.content(&mut &b"others"[..], &mut go_on).unwrap_err();
    assert_eq!((error.kind, error.code.as_str()), (ErrorKind::Damaged, "digest"));
    let mut stop = |_, _| ControlFlow::Break(());
    let mut writer = Writer::begin(Vec::new(), &portable(), &Limits::default()).unwrap();
    assert_eq!(writer.content(&mut &*DISK, &mut stop).unwrap_err().kind, ErrorKind::Cancelled);
    assert!(writer.finish().is_err(), "it is not complete");
}

#[test]
fn what_is_cut_changed_or_longer_is_refused() {
    let file = written(&portable()).unwrap();
    assert!(verify(&*file, &Limits::default(), &mut go_on).is_ok());
    for length in (0..file.len()).step_by(97).chain([file.len() - 1, file.len() - 16]) {
        let (kind, _, text) = refused(&file[..length]);
        assert!(matches!(kind, ErrorKind::Damaged | ErrorKind::InvalidArgument), "{length}: {text}");
    }
    for at in (0..file.len()).step_by(101) {
        let mut changed = file.clone();
        changed[at] ^= 4;
        assert!(verify(&*changed, &Limits::default(), &mut go_on).is_err(), "byte {at} does not matter");
    }
    let (_, _, text) = refused(&[&*file, b"x"].concat());
    assert!(text.contains("bytes behind its end"), "{text}");
    let (kind, code, _) = refused(&[b"vws-bundle-0002\n", &file[16..]].concat());
    assert_eq!((kind, code.as_str()), (ErrorKind::Unsupported, "bundle-version"));
    assert_eq!(refused(b"PK\x03\x04 something else").0, ErrorKind::InvalidArgument);
}

#[test]
fn a_crafted_manifest_is_refused() {
    use serde_json::json;
    type Change = fn(&mut serde_json::Value);
    let table: &[(&str, Change, &str)] = &[
        ("version", |m| m["version"] = json!(2), "is of version 2"),
        ("a path as stream", |m| m["files"][0]["name"] = json!("../../../etc/passwd"), "lists a stream"),
        ("an absolute stream", |m| m["files"][0]["name"] = json!("/dev/sda"), "lists a stream"),
        ("the manifest as stream", |m| m["files"][0]["name"] = json!("manifest.json"), "lists a stream"),
        ("a missing stream", |m| drop(m["files"].as_array_mut().unwrap().remove(1)), "lists no stream `memory`"),
        (
            "a stream twice",
            |m| {
                let first = m["files"][0].clone();
                m["files"].as_array_mut().unwrap().push(first);
            },
            "lists a stream",
        ),
        ("a firmware without its variables", |m| m["boot"]["firmware"] = json!("uefi"), "lists no stream `nvram`"),
        ("a path as disk", |m| m["disks"][0]["name"] = json!("../x"), "has a disk"),
        ("a device as machine", |m| m["origin"]["machine-type"] = json!("/dev/kvm"), "machine-type"),
        ("markup as CPU", |m| m["origin"]["cpu"] = json!("x'/><disk file='/etc/passwd"), "cpu"),
        ("a URL as accelerator", |m| m["origin"]["accelerator"] = json!("http://x"), "accelerator"),
        ("lines in the emulator", |m| m["origin"]["emulator"] = json!("a\nb"), "emulator"),
        ("a path as network", |m| m["nics"][1]["source"] = json!("../br0"), "network name"),
        ("a source of a user NIC", |m| m["nics"][0]["source"] = json!("tap0"), "kind of a NIC"),
        ("another kind of NIC", |m| m["nics"][0]["kind"] = json!("vhostuser"), "kind of a NIC"),
        ("a multicast address", |m| m["nics"][0]["mac"] = json!("01:00:5e:00:00:01"), "multicast"),
        ("an address twice", |m| m["nics"][0]["mac"] = json!("52:54:00:00:00:02"), "there twice"),
        ("no address", |m| m["nics"][0]["mac"] = json!(""), "none or there twice"),
        ("a path as digest", |m| m["images"][0]["sha256"] = json!("../../x"), "has the digest"),
        ("an upper-case digest", |m| m["files"][0]["sha256"] = json!("AB".repeat(32)), "has the digest"),
        ("another image", |m| m["images"][0]["sha256"] = json!("ab".repeat(32)), "lists other images"),
        ("a path as base", |m| m["disks"][0]["image"]["sha256"] = json!("/etc/passwd"), "has the digest"),
        ("a protocol as format", |m| m["disks"][0]["format"] = json!("nbd"), "format"),
        ("a name that is a path", |m| m["name"] = json!("../web"), "workspace name"),
        ("a backend that is a path", |m| m["backend"] = json!("../../lib/evil.so"), "backend name"),
        ("no memory", |m| m["memory-mib"] = json!(0), "memory-mib"),
        ("a petabyte of memory", |m| m["memory-mib"] = json!(u64::MAX), "memory-mib"),
        ("a memory stream beyond the memory", |m| m["files"][1]["size-bytes"] = json!(2_u64 << 30), "claims"),
        ("a disk beyond all limits", |m| m["files"][0]["size-bytes"] = json!(u64::MAX), "claims"),
        ("an image beyond all limits", |m| m["images"][0]["size-bytes"] = json!(u64::MAX), "claims"),
        ("too much user data", |m| m["guest"]["user-data"] = json!("x".repeat(300_000)), "user-data"),
        ("no user data", |m| drop(m["guest"].as_object_mut().unwrap().remove("user-data")), "cannot be read"),
        ("a key with a line break", |m| m["guest"]["ssh-keys"][0] = json!("a\nb"), "ssh key"),
        ("another end", |m| m["guest"]["end-action"] = json!("explode"), "end-action"),
    ];
    for (what, change, words) in table {
        let (kind, _, text) = refused(&with_manifest(change));
        assert!(
            matches!(kind, ErrorKind::Damaged | ErrorKind::InvalidArgument | ErrorKind::Unsupported) && text.contains(words),
            "{what}: {kind:?}: {text}"
        );
    }
    // The table is about the changes: unchanged, or with a member of a later version, it is accepted.
    assert!(verify(&*with_manifest(|m| m["new"] = json!(1)), &Limits::default(), &mut go_on).is_ok());
}

#[test]
fn no_more_comes_out_than_was_declared() {
    let file = written(&portable()).unwrap();
    let length = usize::try_from(u64::from_be_bytes(file[16..24].try_into().unwrap())).unwrap();
    let head = &file[..56 + length];
    // `disk-0` has 7 bytes: zeros without end are refused when they are announced.
    for (piece, words) in [
        ([&[2_u8][..], &u64::MAX.to_be_bytes()].concat(), "a piece of"),
        ([&[1_u8][..], &u32::MAX.to_be_bytes()].concat(), "a piece of"),
        ([&[1_u8][..], &0_u32.to_be_bytes()].concat(), "a piece of 0"),
        (vec![0_u8], "has 0 bytes"),
        (vec![9_u8], "something else where a piece is due"),
    ] {
        let text = refused(&[head, &piece].concat()).2;
        assert!(text.contains(words), "{words}: {text}");
    }
    // A manifest that claims to be endless is not read.
    let mut endless = file.clone();
    endless[16..24].copy_from_slice(&u64::MAX.to_be_bytes());
    let (_, code, _) = refused(&endless);
    assert_eq!(code, "bundle-too-large");
    let error = std::io::Error::new(std::io::ErrorKind::InvalidData, "x");
    assert_eq!(error_of(&error).kind, ErrorKind::InvalidArgument);
}

static WRITTEN: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever a stranger sends is answered.
    #[test]
    fn no_file_harms(bytes in proptest::collection::vec(any::<u8>(), 0..400), at in 0_usize..4000, known in any::<bool>()) {
        let mut file = if known { WRITTEN.get_or_init(|| written(&portable()).unwrap()).clone() } else { [&b"vws-bundle-0001\n"[..], &bytes].concat() };
        if known {
            for (offset, byte) in bytes.iter().take(8).enumerate() {
                if let Some(place) = file.get_mut(at + offset) {
                    *place = *byte;
                }
            }
        }
        let _answered = verify(&*file, &Limits::default(), &mut go_on);
    }
}
