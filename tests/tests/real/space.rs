//! A host's disk that is full: while an image is brought there, and while a clone is made. The job fails with what is missing and
//! where, nothing is left, and with room it works.

use std::path::{Path, PathBuf};
use std::process::Command;
use vws_tests::libvirt::Libvirt;
use vws_tests::{Plan, Site, skipped};

/// A small file system of its own.
struct Small(PathBuf);

impl Small {
    /// `None`, with a word on stderr, where it cannot be mounted.
    fn mount(at: &Path, bytes: u64) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let root = rustix::process::geteuid().is_root();
        let size = format!("mode=755,size={bytes}");
        let mounted =
            root && Command::new("mount").args(["-t", "tmpfs", "-o", &size, "vws-test"]).arg(at).status().unwrap().success();
        if !mounted {
            skipped("needs the right to mount a tmpfs");
            return None;
        }
        Some(Self(at.to_owned()))
    }

    fn free_bytes(&self) -> u64 {
        let seen = rustix::fs::statvfs(&self.0).unwrap();
        seen.f_bavail * seen.f_frsize
    }

    /// Takes everything but `left` bytes.
    fn fill(&self, left: u64) -> PathBuf {
        let path = self.0.join("filler");
        let filler = std::fs::File::create(&path).unwrap();
        let bytes = self.free_bytes().saturating_sub(left);
        rustix::fs::fallocate(&filler, rustix::fs::FallocateFlags::empty(), 0, bytes).unwrap();
        path
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let ended = Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(ended.is_ok_and(|status| status.success()), "{} is still mounted", self.0.display());
    }
}

const LAUNCH: &[&str] = &["launch", "guest", "--name", "one", "--memory", "128M"];

fn assert_no_room(site: &Site, what: &str) {
    let said = site.vws(LAUNCH);
    let (name, _, message) = said.error();
    assert_eq!(name, "NoSpace", "{what}: {said:?}\n{}", site.log());
    assert!(message.contains("host `here`") && message.contains("No space left"), "{what}: object and fact: {message}");
    assert!(message.contains("free") || message.contains("room") || message.contains("remove"), "{what}: remedy: {message}");
}

#[test]
fn a_full_host_refuses_and_keeps_nothing() {
    // Before the libvirt: it has a view of the file systems of its own.
    let folder = tempfile::Builder::new().prefix("vws-small.").tempdir_in("/tmp").unwrap();
    // Large enough that the host has a disk to give out; what fills it takes as much memory for a moment.
    let Some(small) = Small::mount(&folder.path().join("host"), (1 << 30) + (256 << 20)) else { return };
    let Some(libvirt) = Libvirt::start(&[]) else { return };
    let mut host = libvirt.host("here");
    host.directory.clone_from(&small.0);
    let site = Site::start(&Plan { hosts: Vec::new(), kvm: vec![host.clone()], ..Plan::default() });
    site.import_guest();
    let hosts = std::slice::from_ref(&host);

    // No room for the image.
    let filler = small.fill(1 << 20);
    let before = small.free_bytes();
    assert_no_room(&site, "while the image is brought");
    assert_eq!(small.free_bytes(), before, "half an image is left");
    site.assert_empty_on(&libvirt, hosts);
    std::fs::remove_file(filler).unwrap();

    // With room it works; the image stays on the host as a cache.
    site.run(LAUNCH);
    site.run(&["destroy", "one"]);
    site.assert_empty_on(&libvirt, hosts);

    // No room for the clone.
    let filler = small.fill(64 << 10);
    let before = small.free_bytes();
    assert_no_room(&site, "while the clone is made");
    assert_eq!(small.free_bytes(), before, "half a clone is left");
    site.assert_empty_on(&libvirt, hosts);
    std::fs::remove_file(filler).unwrap();
    site.run(LAUNCH);
    site.until_tick("one", 1);
    site.run(&["destroy", "one"]);
    site.assert_empty_on(&libvirt, hosts);
}
