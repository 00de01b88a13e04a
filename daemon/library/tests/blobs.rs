//! Imports from files: what comes in is whole, what fails leaves nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use common::{Home, digest_of, go_on, no_parts};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use vws_domain::{DiskFormat, ErrorKind};
use vws_library::{Blob, Library, Limits};

fn read(mut file: File) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn the_same_bytes_are_one_blob() {
    let home = Home::new();
    let library = home.library();
    let bytes = b"not a disk, but bytes".repeat(100_000);
    let mut seen = Vec::new();
    let blob = library
        .import_file(home.file("a", &bytes), None, &mut |done, total| {
            seen.push((done, total));
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(blob.digest, digest_of(&bytes));
    assert_eq!(blob.size_bytes, bytes.len() as u64);
    assert!(seen.len() > 2 && seen.is_sorted() && seen.iter().all(|(_, total)| *total == blob.size_bytes), "{seen:?}");
    assert_eq!(*library.import_file(home.file("b", &bytes), Some(&blob.digest), &mut go_on).unwrap(), *blob);
    assert_eq!(library.list_blobs().unwrap(), std::slice::from_ref(&*blob));
    assert_eq!(read(library.blob(&blob.digest).unwrap()), bytes);
    assert!(library.has(&blob.digest));
    let path = home.blobs().join(&blob.digest);
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o444);
    no_parts(&home);

    let imported = blob;
    let blob = Blob::clone(&imported);
    drop(imported);
    assert!(library.remove_unless(&blob.digest, || false).unwrap());
    assert!(!library.remove_unless(&blob.digest, || false).unwrap());
    assert!(!library.has(&blob.digest));
    assert_eq!(library.blob(&blob.digest).unwrap_err().kind, ErrorKind::NotFound);
}

#[test]
fn what_was_just_imported_is_not_removed_as_an_orphan() {
    let home = Home::new();
    let library = home.library();
    let first = library.import_file(home.file("a", b"the same bytes"), None, &mut go_on).unwrap();
    let digest = first.digest.clone();
    drop(first);
    // Somebody removes the only image that has these bytes while somebody else has imported them again, and not recorded it yet.
    let again = library.import_file(home.file("b", b"the same bytes"), None, &mut go_on).unwrap();
    let third = library.import_file(home.file("c", b"the same bytes"), None, &mut go_on).unwrap();
    assert!(!library.remove_unless(&digest, || false).unwrap());
    drop(again);
    assert!(!library.remove_unless(&digest, || false).unwrap(), "the other importer has it still");
    drop(third);
    // Let go of and recorded: the catalogue says so when it is asked again.
    assert!(!library.remove_unless(&digest, || true).unwrap());
    assert!(library.has(&digest));
    assert!(library.remove_unless(&digest, || false).unwrap());
    assert!(!library.has(&digest));
}

#[test]
fn a_file_is_imported_from_its_start_wherever_it_stands() {
    let home = Home::new();
    let mut file = home.file("a", b"0123456789");
    file.seek(SeekFrom::Start(7)).unwrap();
    assert_eq!(home.library().import_file(file, None, &mut go_on).unwrap().digest, digest_of(b"0123456789"));
}

#[test]
fn another_digest_is_refused_with_both() {
    let home = Home::new();
    let expected = digest_of(b"meant");
    let error = home.library().import_file(home.file("a", b"found"), Some(&expected), &mut go_on).unwrap_err();
    assert_eq!((error.kind, error.code.as_str()), (ErrorKind::Damaged, "digest"));
    assert!(error.fact.contains(&expected) && error.fact.contains(&digest_of(b"found")), "{error}");
    no_parts(&home);
    assert!(home.library().list_blobs().unwrap().is_empty());
}

#[test]
fn what_is_no_image_file_is_refused() {
    let home = Home::new();
    let library = home.library();
    for (file, fact) in [
        (File::open("/dev/zero").unwrap(), "not a regular file"),
        (File::open(home.root()).unwrap(), "not a regular file"),
        (home.file("empty", b""), "is empty"),
    ] {
        let error = library.import_file(file, None, &mut go_on).unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidArgument);
        assert!(error.fact.contains(fact), "{error}");
    }
    let error = library.import_file(home.file("a", b"x"), Some("../../../etc/passwd"), &mut go_on).unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidArgument);
    no_parts(&home);
}

#[test]
fn a_digest_is_no_path() {
    let home = Home::new();
    std::fs::write(home.root().join("secret"), "x").unwrap();
    for path in ["../../secret", "/etc/passwd", "", "."] {
        assert_eq!(home.library().blob(path).unwrap_err().kind, ErrorKind::InvalidArgument, "{path}");
        assert!(!home.library().has(path));
        assert!(home.library().remove_unless(path, || false).is_err());
    }
    assert!(home.root().join("secret").exists());
}

#[test]
fn cancelling_leaves_nothing() {
    let home = Home::new();
    let mut calls = 0;
    let error = home
        .library()
        .import_file(home.file("a", &vec![7; 5 << 20]), None, &mut |done, _| {
            calls += 1;
            if done > 2 << 20 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::Cancelled);
    assert!(calls > 1);
    no_parts(&home);
}

#[test]
fn limits_hold() {
    let home = Home::new();
    let small = home.library_with(Limits { blob_bytes: 1000, ..Limits::default() });
    let error = small.import_file(home.file("a", &[1; 1001]), None, &mut go_on).unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidArgument);
    assert!(error.fact.contains("1000"), "{error}");
    let _imported = small.import_file(home.file("b", &[1; 1000]), None, &mut go_on).unwrap();

    let careful = home.library_with(Limits { keep_free_bytes: 1 << 60, ..Limits::default() });
    let error = careful.import_file(home.file("c", b"x"), None, &mut go_on).unwrap_err();
    assert_eq!(error.kind, ErrorKind::NoSpace);
    assert!(error.fact.contains("free") && error.fact.contains("are needed"), "{error}");
    no_parts(&home);
}

#[test]
fn holes_stay_holes() {
    let home = Home::new();
    let mut file = home.file("a", b"");
    file.set_len(64 << 20).unwrap();
    file.seek(SeekFrom::Start(32 << 20)).unwrap();
    file.write_all(b"in the middle").unwrap();
    let expected = read(File::open(home.root().join("a")).unwrap());
    let blob = home.library().import_file(file, None, &mut go_on).unwrap();
    let copy = home.library().blob(&blob.digest).unwrap();
    assert!(copy.metadata().unwrap().blocks() * 512 < 1 << 20, "{} blocks", copy.metadata().unwrap().blocks());
    assert!(read(copy) == expected);
    assert!(home.library().usage().unwrap().blob_bytes < 1 << 20);
    home.library().verify(&blob.digest, &mut go_on).unwrap();
}

#[test]
fn damage_is_found_named_and_mended_by_another_import() {
    let home = Home::new();
    let library = home.library();
    let blob = library.import_file(home.file("a", b"whole and sound"), None, &mut go_on).unwrap();
    library.verify(&blob.digest, &mut go_on).unwrap();
    let path = home.blobs().join(&blob.digest);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, b"whole and s0und").unwrap();
    let error = library.verify(&blob.digest, &mut go_on).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Damaged);
    assert!(error.fact.contains(&blob.digest) && error.fact.contains(&digest_of(b"whole and s0und")), "{error}");
    let cancelled = library.verify(&blob.digest, &mut |_, _| ControlFlow::Break(())).unwrap_err();
    assert_eq!(cancelled.kind, ErrorKind::Cancelled);
    let _imported = library.import_file(home.file("b", b"whole and sound"), None, &mut go_on).unwrap();
    library.verify(&blob.digest, &mut go_on).unwrap();
}

#[test]
fn a_start_removes_what_nobody_works_on_and_only_that() {
    let home = Home::new();
    let library = home.library();
    std::fs::write(home.blobs().join("123-4.part"), "left by a crash").unwrap();
    let kept = home.library().import_file(home.file("a", b"complete"), None, &mut go_on).unwrap();
    std::fs::write(home.blobs().join("123-4.part"), "left by a crash").unwrap();
    std::fs::create_dir_all(home.root().join("library/bundles/ab.part")).unwrap();
    let mut opened_meanwhile = false;
    let _imported = library
        .import_file(home.file("b", b"in the works"), None, &mut |_, _| {
            if !opened_meanwhile {
                // Another opener, while this import runs.
                Library::open(&home.root().join("library"), Limits::default()).unwrap();
                opened_meanwhile = true;
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    assert!(opened_meanwhile && library.has(&digest_of(b"in the works")) && library.has(&kept.digest));
    assert!(!home.blobs().join("123-4.part").exists());
    assert!(!home.root().join("library/bundles/ab.part").exists());
}

#[test]
fn others_cannot_look_into_the_library() {
    let home = Home::new();
    home.library();
    for folder in ["library", "library/blobs/sha256", "library/bundles"] {
        let mode = home.root().join(folder).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{folder}");
    }
}

#[test]
fn a_scratch_file_has_no_name_and_can_be_imported() {
    let home = Home::new();
    let library = home.library();
    let mut file = library.scratch_file().unwrap();
    no_parts(&home);
    file.write_all(b"saved by a backend").unwrap();
    assert_eq!(library.import_file(file, None, &mut go_on).unwrap().digest, digest_of(b"saved by a backend"));
}

#[test]
fn a_full_device_is_named_and_left_as_it_was() {
    let home = Home::new();
    let Some(_mounted) = common::Mounted::tmpfs(home.root(), "4m") else {
        eprintln!("SKIPPED a_full_device_is_named_and_left_as_it_was: mounting a tmpfs needs root");
        return;
    };
    let library = home.library_with(Limits { keep_free_bytes: 0, ..Limits::default() });
    let source = tempfile::tempdir().unwrap();
    let path = source.path().join("a");
    std::fs::write(&path, vec![7; 5 << 20]).unwrap();
    let full = |error: vws_domain::Error| {
        assert_eq!(error.kind, ErrorKind::NoSpace, "{error}: {}", error.detail);
        assert!(error.fact.contains("free") && error.fact.contains("needed") && !error.remedy.is_empty(), "{error}");
        no_parts(&home);
        assert!(library.list_blobs().unwrap().is_empty());
    };
    // Seen before it begins, from the length.
    full(library.import_file(File::open(&path).unwrap(), None, &mut go_on).unwrap_err());
    // Seen while it writes: the room goes in between.
    std::fs::write(&path, vec![7; 3 << 20]).unwrap();
    let filler = home.root().join("filler");
    let mut fill = |_, _| {
        if !filler.exists() {
            std::fs::write(&filler, vec![1; 2 << 20]).unwrap();
        }
        ControlFlow::Continue(())
    };
    full(library.import_file(File::open(&path).unwrap(), None, &mut fill).unwrap_err());
    // A bundle, too.
    let id = vws_domain::BundleId(5);
    let writer = library.bundle_begin(id).unwrap();
    let written = writer.stream("memory").unwrap().write_all(&vec![3; 3 << 20]);
    assert_eq!(written.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    drop(writer);
    assert!(library.list_bundles().unwrap().is_empty());
    std::fs::remove_file(&filler).unwrap();
    let _imported = library.import_file(File::open(&path).unwrap(), None, &mut go_on).unwrap();
}

#[test]
fn raw_disks_and_kernels_are_looked_at() {
    let home = Home::new();
    let library = home.library();
    let blob = |bytes: &[u8]| library.import_file(home.file("x", bytes), None, &mut go_on).unwrap().digest.clone();
    let disk = blob(&vec![1; 3 << 20]);
    assert_eq!(library.inspect_disk(&disk, DiskFormat::Raw).unwrap().virtual_size_mib, 3);
    assert_eq!(library.inspect_disk(&blob(&[1; 512]), DiskFormat::Raw).unwrap().virtual_size_mib, 1);
    let text = blob(b"just a letter to a friend");
    for format in [DiskFormat::Raw, DiskFormat::Qcow2] {
        let error = library.inspect_disk(&text, format).unwrap_err();
        assert_eq!((error.kind, error.code.as_str()), (ErrorKind::InvalidArgument, "not-an-image"));
        assert!(error.object.contains(&text) && !error.remedy.is_empty(), "{error}");
    }
    let mut kernel = vec![0; 0x300];
    kernel[0x202..0x206].copy_from_slice(b"HdrS");
    library.inspect_kernel(&blob(&kernel)).unwrap();
    kernel[0x202] = b'h';
    for other in [blob(&kernel), text] {
        assert_eq!(library.inspect_kernel(&other).unwrap_err().code, "not-a-kernel");
    }
    let unknown = digest_of(b"never imported");
    assert_eq!(library.inspect_kernel(&unknown).unwrap_err().kind, ErrorKind::NotFound);
}
