//! A private libvirt for a test: started in about a second, gone with the test; and what of it a test wants to see.
//!
//! Owns: whether tests on real hypervisors are wanted, the guest's files, the libvirt, hosts on it for a [`Plan`](crate::Plan), and
//! what libvirt and the disk say is there. Several networked hosts are not its business.

use crate::{LOOK, Site, built, root, skipped};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// How long something on a real guest may take; emulation on a busy machine is slow. Only a failure waits so long.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A host with libvirt, for a plan.
#[derive(Clone, Debug)]
pub struct KvmHost {
    /// Its name.
    pub name: &'static str,
    /// libvirt's URI.
    pub uri: String,
    /// Its folder.
    pub directory: PathBuf,
}

/// A libvirt of the test's own. One at a time: its guests are emulated, and share few CPUs.
pub struct Libvirt {
    uri: String,
    folder: tempfile::TempDir,
    _alone: MutexGuard<'static, ()>,
}

/// The guest's files: `guest.qcow2`, `vmlinuz`, `initrd.img`. Made if they are missing or older than their
/// recipe, where `VWS_TEST_GUEST` says or beside what cargo builds.
///
/// # Panics
/// When they cannot be made.
#[must_use]
pub fn guest() -> &'static Path {
    static GUEST: OnceLock<PathBuf> = OnceLock::new();
    GUEST.get_or_init(|| {
        let given = std::env::var_os("VWS_TEST_GUEST").map(PathBuf::from);
        let folder = given.unwrap_or_else(|| built().join("../guest"));
        let script = root().join("examples/guest/make");
        let changed = |path: &Path| path.metadata().and_then(|file| file.modified()).ok();
        if changed(&folder.join("sha256sums")) < changed(&script) {
            let made = Command::new(&script).arg(&folder).arg(built().join("../guest-packages")).status().unwrap();
            assert!(made.success(), "examples/guest/make failed");
        }
        folder
    })
}

impl Libvirt {
    /// Starts one with these options of `tests/lab/libvirt-private`. `None`, with a word on stderr, where tests on real hypervisors
    /// are not wanted.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start(options: &[&str]) -> Option<Self> {
        static ALONE: Mutex<()> = Mutex::new(());
        if std::env::var_os("VWS_TEST_LIBVIRT").is_none() {
            skipped("needs a real libvirt; set VWS_TEST_LIBVIRT=1");
            return None;
        }
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::Builder::new().prefix("vws-lv.").tempdir_in("/tmp").unwrap();
        let uri = script(folder.path(), options, "start").trim().to_owned();
        Some(Self { uri, folder, _alone: alone })
    }

    /// A host on it, with a folder of its own.
    #[must_use]
    pub fn host(&self, name: &'static str) -> KvmHost {
        KvmHost { name, uri: self.uri.clone(), directory: self.folder.path().join("hosts").join(name) }
    }

    /// A verb of `tests/lab/libvirt-private`: `crash`, `restart`, `pid`.
    pub fn script(&self, verb: &str) -> String {
        script(self.folder.path(), &[], verb)
    }

    /// What `virsh` says.
    ///
    /// # Panics
    /// When it fails.
    #[must_use]
    pub fn virsh(&self, arguments: &[&str]) -> String {
        let output = Command::new("virsh").args(["-q", "-c", &self.uri]).args(arguments).output().unwrap();
        assert!(output.status.success(), "virsh {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Names of the domains that libvirt knows, running or not.
    #[must_use]
    pub fn domains(&self) -> Vec<String> {
        self.virsh(&["list", "--all", "--name"]).split_whitespace().map(str::to_owned).collect()
    }

    /// Guests that run, as processes: what libvirt forgot would show here.
    #[must_use]
    pub fn guests(&self) -> usize {
        let ours = |entry: &std::fs::DirEntry| {
            let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let mut words = command.split(|byte| *byte == 0).map(String::from_utf8_lossy);
            let emulator = words.next().is_some_and(|word| word.contains("qemu-system"));
            emulator && words.any(|word| word.contains(self.folder.path().to_str().unwrap()))
        };
        std::fs::read_dir("/proc").unwrap().flatten().filter(ours).count()
    }
}

impl Drop for Libvirt {
    fn drop(&mut self) {
        self.script("stop");
    }
}

impl KvmHost {
    /// The host's table in the daemon's configuration.
    pub(crate) fn table(&self) -> String {
        let Self { name, uri, directory } = self;
        format!(
            "[hosts.{name}]\nbackend = \"kvm\"\n[hosts.{name}.settings]\nuri = \"{uri}\"\ndirectory = \"{}\"\n",
            directory.display()
        )
    }

    /// Ids of the workspaces that have files in the host's folder: `vws-ID-WHAT`.
    #[must_use]
    pub fn kept(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.directory).into_iter().flatten();
        let id = |entry: std::io::Result<std::fs::DirEntry>| {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let (id, _) = name.strip_prefix("vws-")?.split_once('-')?;
            (id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| id.to_owned())
        };
        entries.filter_map(id).collect::<std::collections::BTreeSet<_>>().into_iter().collect()
    }
}

impl Site {
    /// Imports the guest's disk as the public image `guest`.
    pub fn import_guest(&self) {
        let disk = guest().join("guest.qcow2");
        self.run(&["image", "import", "guest", disk.to_str().unwrap(), "--format", "qcow2", "--public"]);
    }

    /// What a workspace's guest has written to its console since it was started or resumed.
    #[must_use]
    pub fn console(&self, workspace: &str) -> String {
        match self.ok(&["logs", workspace]) {
            Value::String(text) => text,
            other => other["text"].as_str().unwrap_or_else(|| panic!("logs: {other}")).to_owned(),
        }
    }

    /// The guest's counts on its console.
    #[must_use]
    pub fn ticks(&self, workspace: &str) -> Vec<u64> {
        let console = self.console(workspace);
        console.lines().filter_map(|line| line.split("TICK ").nth(1)?.trim().parse().ok()).collect()
    }

    /// Waits until the guest has counted at least to `count`, and says how far it is.
    pub fn until_tick(&self, workspace: &str, count: u64) -> u64 {
        until(&format!("`{workspace}` counts to {count}"), || self.ticks(workspace).last().copied().filter(|tick| *tick >= count))
    }

    /// How often the guest said that it has booted.
    #[must_use]
    pub fn boots(&self, workspace: &str) -> usize {
        self.console(workspace).lines().filter(|line| line.contains("READY ")).count()
    }

    /// Nothing of any workspace is left: libvirt, guests, disks, reservations, bundles.
    pub fn assert_empty_on(&self, libvirt: &Libvirt, hosts: &[KvmHost]) {
        assert_eq!(libvirt.domains(), Vec::<String>::new(), "domains");
        assert_eq!(libvirt.guests(), 0, "guests that libvirt does not know");
        for host in hosts {
            assert_eq!(host.kept(), Vec::<String>::new(), "files on {}", host.name);
        }
        self.assert_nothing_held(&hosts.iter().map(|host| host.name).collect::<Vec<_>>());
    }
}

/// Looks again and again until there is an answer, with the patience that emulated guests need.
///
/// # Panics
/// When there is none within [`PATIENCE`].
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "gave up waiting until {what}");
        std::thread::sleep(10 * LOOK);
    }
}

fn script(folder: &Path, options: &[&str], verb: &str) -> String {
    let output = Command::new(root().join("tests/lab/libvirt-private")).args(options).arg(folder).arg(verb).output().unwrap();
    assert!(output.status.success(), "libvirt-private {verb}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
