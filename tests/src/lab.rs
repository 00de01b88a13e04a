//! Several libvirt hosts for a test: started in seconds, gone with the test; what a test can do to them, and who may reach them.
//!
//! Owns: the life of one `tests/lab/hosts` and its verbs. The script's head says what the hosts are like and what it promises. What
//! the daemon makes of them is not known here.

use crate::libvirt::KvmHost;
use crate::{root, skipped};
use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

/// The hosts: two that are permissive and share a directory, and one with Debian's own configuration.
pub const HOSTS: [&str; 3] = ["a", "b", "c"];

/// Three hosts on a network of their own.
///
/// A site on it has to be made after it, so that it ends before it.
pub struct Lab {
    holder: Child,
    // The script writes to it until its end.
    _said: BufReader<ChildStdout>,
    folder: PathBuf,
    // Removed by the script when the lab ends, and by this if the script could not.
    _folder: tempfile::TempDir,
}

impl Lab {
    /// Starts the hosts. `None`, with a word on stderr, where tests on real hypervisors are not wanted or the user is not root.
    ///
    /// # Panics
    /// When they do not start.
    #[must_use]
    pub fn start() -> Option<Self> {
        if std::env::var_os("VWS_TEST_LIBVIRT").is_none() {
            skipped("needs a real libvirt; set VWS_TEST_LIBVIRT=1");
            return None;
        }
        if !rustix::process::geteuid().is_root() {
            skipped("needs root");
            return None;
        }
        let folder = tempfile::Builder::new().prefix("vws-lab.").tempdir_in("/tmp").unwrap();
        let mut holder =
            script(folder.path(), &["hold"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the script is there");
        let mut said = BufReader::new(holder.stdout.take().expect("it was asked for"));
        let mut text = String::new();
        while !text.ends_with("ready\n") {
            let more = said.read_line(&mut text).unwrap();
            assert!(more > 0, "the hosts did not come up: {text}");
        }
        Some(Self { holder, _said: said, folder: folder.path().to_owned(), _folder: folder })
    }

    /// The hosts' folder: what a host must not see.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.folder
    }

    /// Runs a verb of the script.
    ///
    /// # Panics
    /// When it fails.
    pub fn hosts(&self, words: &[&str]) -> String {
        let output = script(&self.folder, words).output().unwrap();
        let (out, talk) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "hosts {words:?}: {talk}{out}");
        out.into_owned()
    }

    /// A host's URI; only processes in the site's network reach it.
    #[must_use]
    pub fn uri(&self, host: &str) -> String {
        self.hosts(&["uri", host]).trim().to_owned()
    }

    /// The same over TLS, with the certificates that this puts into a folder for a user.
    #[must_use]
    pub fn tls_uri(&self, host: &str, folder: &Path, user: &str) -> String {
        let folder = folder.to_str().expect("a test's folder is UTF-8");
        self.hosts(&["client", folder, user]);
        self.hosts(&["uri", host, "tls", folder]).trim().to_owned()
    }

    /// A host of the lab for a plan, reached by this URI.
    #[must_use]
    pub fn host(name: &'static str, uri: String) -> KvmHost {
        KvmHost { name, uri, directory: "/var/lib/vws-pool".into() }
    }

    /// What to put before a command so that it runs in the site's network.
    #[must_use]
    pub fn entrance(&self) -> Vec<OsString> {
        vec![root().join("tests/lab/hosts").into(), self.folder.clone().into(), "enter".into()]
    }

    /// Runs a command in the site's network.
    ///
    /// # Panics
    /// When it cannot be run; how it ends is the caller's business.
    #[must_use]
    pub fn enter(&self, command: &[&str]) -> Output {
        script(&self.folder, &["enter"]).args(command).output().unwrap()
    }

    /// What `virsh` says about a host, over TCP.
    ///
    /// # Panics
    /// When it fails.
    #[must_use]
    pub fn virsh(&self, host: &str, words: &[&str]) -> String {
        let uri = self.uri(host);
        let output = self.enter(&[["virsh", "-q", "-c", uri.as_str()].as_slice(), words].concat());
        assert!(output.status.success(), "virsh {words:?} on {host}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Names of the domains that a host's libvirt knows, running or not.
    #[must_use]
    pub fn domains(&self, host: &str) -> Vec<String> {
        self.virsh(host, &["list", "--all", "--name"]).split_whitespace().map(str::to_owned).collect()
    }

    /// Guests that run on a host, as processes: what its libvirt forgot would show here.
    #[must_use]
    pub fn guests(&self, host: &str) -> usize {
        self.hosts(&["exec", host, "sh", "-c", "cat /proc/[0-9]*/comm"])
            .lines()
            .filter(|name| name.starts_with("qemu-system"))
            .count()
    }

    /// Files in a host's pool `vws`, by their paths from there.
    #[must_use]
    pub fn files(&self, host: &str) -> Vec<String> {
        let found = self.hosts(&["exec", host, "find", "/var/lib/vws-pool", "-type", "f", "-printf", "%P\n"]);
        found.lines().map(str::to_owned).collect()
    }

    /// Pulls a host's network cable: what was open hangs.
    pub fn cut(&self, host: &str) {
        self.hosts(&["cut", host]);
    }

    /// Plugs it again.
    pub fn mend(&self, host: &str) {
        self.hosts(&["mend", host]);
    }

    /// Ends a host's libvirt and guests at once; what was open is reset. Definitions and disks stay.
    pub fn power_off(&self, host: &str) {
        self.hosts(&["power-off", host]);
    }

    /// Starts it again: its libvirt, no guest.
    pub fn power_on(&self, host: &str) {
        self.hosts(&["power-on", host]);
    }

    /// Kills a host's libvirt; its guests go on.
    pub fn kill_libvirtd(&self, host: &str) {
        self.hosts(&["kill-libvirtd", host]);
    }

    /// Starts it again.
    pub fn start_libvirtd(&self, host: &str) {
        self.hosts(&["start-libvirtd", host]);
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // The end of its input is its sign to go.
        drop(self.holder.stdin.take());
        let ended = self.holder.wait();
        if !std::thread::panicking() {
            assert!(ended.is_ok_and(|status| status.success()), "the hosts did not end cleanly");
        }
    }
}

fn script(folder: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(root().join("tests/lab/hosts"));
    command.arg(folder).args(words);
    command
}
