//! A private libvirt with a real guest, for the tests: started for one test, gone with it.

#![allow(dead_code, reason = "not every test file uses every part")]

pub mod site;

use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use vws_plugin_api::doc::*;
use vws_plugin_api::sdk::{Backend, Call, Emitter, Outcome};
use vws_plugin_kvm::Kvm;

/// Longer than anything takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Whether real hypervisor tests are wanted; says so if not.
pub fn wanted(test: &str) -> bool {
    let wanted = std::env::var_os("VWS_TEST_LIBVIRT").is_some();
    if !wanted {
        eprintln!("skipped: {test} needs a real libvirt; set VWS_TEST_LIBVIRT=1");
    }
    wanted
}

/// The guest's files, built once for all tests.
pub fn guest() -> &'static Path {
    static GUEST: OnceLock<PathBuf> = OnceLock::new();
    GUEST.get_or_init(|| {
        let given = std::env::var_os("VWS_TEST_GUEST").map(PathBuf::from);
        let folder = given.unwrap_or_else(|| Path::new(env!("CARGO_TARGET_TMPDIR")).join("guest"));
        if !folder.join("sha256sums").exists() {
            let made = Command::new(root().join("examples/guest/make")).arg(&folder).arg(folder.join("parts")).status().unwrap();
            assert!(made.success(), "examples/guest/make failed");
        }
        folder
    })
}

/// One private libvirt with one open host.
pub struct Lab {
    pub backend: Kvm,
    pub events: Arc<Mutex<Vec<PluginEvent>>>,
    pub uri: String,
    folder: tempfile::TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl Lab {
    /// Starts it with these options of `tests/lab/libvirt-private`, and opens the host `here`.
    pub fn start(options: &[&str]) -> Self {
        Self::start_in(options, |_folder| {})
    }

    /// The same, after `prepare` did something to the folder of its hosts: what is mounted later libvirt does not see.
    pub fn start_in(options: &[&str], prepare: impl FnOnce(&Path)) -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::Builder::new().prefix("vws-lab").tempdir_in("/tmp").unwrap();
        prepare(&folder.path().join("hosts"));
        let uri = script(folder.path(), options, "start");
        let events = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&events);
        let backend =
            Kvm::open(serde_json::Value::Null, Emitter::new(move |event| heard.lock().unwrap().push(event.clone()))).unwrap();
        let lab = Self { backend, events, uri: uri.trim().to_owned(), folder, _alone: alone };
        lab.open("here", "here").unwrap();
        lab
    }

    /// The private libvirt's script.
    pub fn script(&self, verb: &str) -> String {
        script(self.folder.path(), &[], verb)
    }

    pub fn directory(&self, name: &str) -> PathBuf {
        self.folder.path().join("hosts").join(name)
    }

    pub fn open(&self, host: &str, directory: &str) -> Outcome<()> {
        let settings = serde_json::json!({"uri": self.uri, "directory": self.directory(directory)});
        self.backend.host_open(HostOpen { host: host.into(), settings }, &mut call(vec![]))
    }

    /// Puts a file of the guest on a host and returns its digest.
    pub fn put(&self, host: &str, name: &str) -> String {
        let path = guest().join(name);
        let mut bytes = Vec::new();
        File::open(&path).unwrap().read_to_end(&mut bytes).unwrap();
        let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        let args = ImagePut { host: host.into(), digest: digest.clone(), size_bytes: bytes.len() as u64 };
        self.backend.image_put(args, &mut call(vec![File::open(&path).unwrap().into()])).unwrap();
        digest
    }

    /// A machine that boots with the guest's kernel and has no disk.
    pub fn kernel_machine(&self, number: u32) -> MachineDoc {
        let boot = BootDoc::Kernel {
            kernel: self.put("here", "vmlinuz"),
            initrd: self.put("here", "initrd.img"),
            cmdline: "console=ttyS0 panic=-1 quiet".into(),
        };
        machine(number, boot, vec![])
    }

    /// A machine that boots from a clone of the guest's disk.
    pub fn disk_machine(&self, number: u32) -> MachineDoc {
        let source = DiskSourceDoc::Image { digest: self.put("here", "guest.qcow2"), format: "qcow2".into() };
        let disk = DiskDoc { name: "disk-0".into(), source, size_mib: 64, iops: 0, kib_per_second: 0 };
        machine(number, BootDoc::Disk { firmware: "bios".into() }, vec![disk])
    }

    pub fn stage(&self, machine: &MachineDoc) -> Outcome<MachineStatus> {
        self.backend.stage(self.args("here", machine, false), &mut call(vec![]))
    }

    pub fn start_machine(&self, machine: &MachineDoc) -> Outcome<MachineStatus> {
        self.backend.start(self.args("here", machine, false), &mut call(vec![]))
    }

    pub fn args(&self, host: &str, machine: &MachineDoc, paused: bool) -> MachineArgs {
        MachineArgs { host: host.into(), machine: machine.clone(), paused, plugin_state: serde_json::Value::Null }
    }

    pub fn reference(&self, host: &str, machine: &MachineDoc) -> WorkspaceRef {
        WorkspaceRef { host: host.into(), workspace: machine.workspace.clone(), plugin_state: serde_json::Value::Null }
    }

    pub fn stop(&self, machine: &MachineDoc, guest_timeout_ms: u64) -> MachineStatus {
        let args = WorkspaceStop {
            host: "here".into(),
            workspace: machine.workspace.clone(),
            guest_timeout_ms,
            plugin_state: serde_json::Value::Null,
        };
        self.backend.stop(args, &mut call(vec![])).unwrap()
    }

    pub fn log(&self, host: &str, machine: &MachineDoc) -> String {
        self.backend.log(self.reference(host, machine), &mut call(vec![])).unwrap().text
    }

    /// Waits until the console said `what`, and returns that line.
    pub fn line(&self, host: &str, machine: &MachineDoc, what: &str) -> String {
        until(&format!("console line `{what}`"), || {
            let log = self.log(host, machine);
            log.lines().find(|line| line.contains(what)).map(str::to_owned)
        })
    }

    /// The guest's newest count.
    pub fn tick(&self, host: &str, machine: &MachineDoc) -> u64 {
        let log = self.log(host, machine);
        ticks(&log).last().copied().unwrap_or(0)
    }

    /// Waits until the guest has counted to at least `count`.
    pub fn tick_to(&self, host: &str, machine: &MachineDoc, count: u64) -> u64 {
        until(&format!("TICK {count}"), || Some(self.tick(host, machine)).filter(|tick| *tick >= count))
    }

    pub fn console(&self, machine: &MachineDoc) -> UnixStream {
        let mut call = call(vec![]);
        self.backend.console(self.reference("here", machine), &mut call).unwrap();
        let stream = UnixStream::from(call.reply_fds.pop().unwrap());
        stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        stream
    }

    /// The files of a host whose names begin so.
    pub fn files(&self, host: &str, begin: &str) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.directory(host)) else { return Vec::new() };
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with(begin)).collect()
    }

    pub fn virsh(&self, arguments: &[&str]) -> String {
        let output = Command::new("virsh").args(["-q", "-c", &self.uri]).args(arguments).output().unwrap();
        assert!(output.status.success(), "virsh {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Nothing is left of the machine, in libvirt or on the disk.
    pub fn assert_gone(&self, machine: &MachineDoc) {
        assert!(!self.virsh(&["list", "--all", "--name"]).contains(&machine.workspace));
        for host in ["here", "there"] {
            assert_eq!(self.files(host, &format!("vws-{}", machine.workspace)), Vec::<String>::new());
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.script("stop");
    }
}

fn script(folder: &Path, options: &[&str], verb: &str) -> String {
    let output = Command::new(root().join("tests/lab/libvirt-private")).args(options).arg(folder).arg(verb).output().unwrap();
    assert!(output.status.success(), "libvirt-private {verb}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

pub fn machine(number: u32, boot: BootDoc, disks: Vec<DiskDoc>) -> MachineDoc {
    MachineDoc {
        workspace: format!("{number:032x}"),
        name: format!("guest-{number}"),
        vcpus: 1,
        cpu_shares: 0,
        memory_mib: 128,
        vcpus_max: 0,
        memory_max_mib: 0,
        boot,
        disks,
        nics: vec![],
        seed: SeedDoc {
            meta_data: format!(
                "instance-id: i-{number}\nlocal-hostname: guest-{number}\npublic-keys:\n  - ssh-ed25519 AAAAC3Nza{number} me@here\n"
            ),
            user_data: "#cloud-config\nruncmd: [hello]\n".into(),
            network_config: String::new(),
        },
        deployment: 1,
    }
}

pub fn call(fds: Vec<OwnedFd>) -> Call {
    Call::new("job/step".into(), Instant::now() + PATIENCE, fds, Arc::new(AtomicBool::new(false)), Emitter::new(|_| {}))
}

/// Waits until `see` gives something.
pub fn until<T>(what: &str, mut see: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = see() {
            return seen;
        }
        assert!(Instant::now() < end, "not seen in time: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

pub fn ticks(text: &str) -> Vec<u64> {
    text.lines().filter_map(|line| line.split("TICK ").nth(1)?.trim().parse().ok()).collect()
}

/// Says `command` to the guest's shell and returns what it answered.
pub fn shell(console: &mut UnixStream, command: &str) -> String {
    // The shell echoes what is typed: the quotes keep the echo from looking like the answer.
    console.write_all(format!("echo BEG''IN; {command}; echo E''ND\n").as_bytes()).unwrap();
    let mut heard = String::new();
    let mut buffer = [0; 4096];
    until(&format!("answer to `{command}`"), || {
        match console.read(&mut buffer) {
            Ok(0) => panic!("the console ended; heard so far: {heard}"),
            Ok(count) => heard.push_str(&String::from_utf8_lossy(&buffer[..count])),
            Err(error) => {
                assert!(matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut), "{error}")
            }
        }
        let begun = heard.find("BEGIN")?;
        let end = heard[begun..].find("END")?;
        Some(heard[begun + 5..begun + end].to_owned())
    })
}
