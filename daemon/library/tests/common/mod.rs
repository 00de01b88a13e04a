//! A library in a folder of its own.
#![allow(dead_code, reason = "each test file uses its part")]

use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions};
use std::io::{Seek, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;
use vws_library::{Library, Limits};

pub struct Home(tempfile::TempDir);

impl Home {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn root(&self) -> &Path {
        self.0.path()
    }

    pub fn library(&self) -> Library {
        self.library_with(Limits::default())
    }

    pub fn library_with(&self, limits: Limits) -> Library {
        Library::open(&self.root().join("library"), limits).unwrap()
    }

    pub fn blobs(&self) -> PathBuf {
        self.root().join("library/blobs/sha256")
    }

    /// A file to import.
    pub fn file(&self, name: &str, bytes: &[u8]) -> File {
        let path = self.root().join(name);
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path).unwrap();
        file.write_all(bytes).unwrap();
        file.rewind().unwrap();
        file
    }
}

pub fn go_on(_: u64, _: u64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

pub fn digest_of(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Nothing unfinished is in the library.
#[track_caller]
pub fn no_parts(home: &Home) {
    for folder in [home.blobs(), home.root().join("library/bundles")] {
        for entry in std::fs::read_dir(folder).unwrap() {
            let name = entry.unwrap().file_name().to_string_lossy().into_owned();
            assert!(!name.ends_with(".part"), "{name} was left behind");
        }
    }
}

/// A tmpfs over a folder, unmounted at the end.
pub struct Mounted(PathBuf);

impl Mounted {
    pub fn tmpfs(on: &Path, size: &str) -> Option<Self> {
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(on).output();
        mount.is_ok_and(|output| output.status.success()).then(|| Self(on.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "{} stays mounted", self.0.display());
    }
}
