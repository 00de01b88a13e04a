//! Three hosts that share nothing with this machine, seen from inside their network.
//!
//! Each test runs itself once more inside the site's network, where alone the hosts can be reached.

use super::{call, machine, ticks, until};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use vws_plugin_api::doc::*;
use vws_plugin_api::sdk::{Backend, Call, Emitter, Outcome};
use vws_plugin_kvm::Kvm;

const SITE: &str = "VWS_TEST_SITE";

/// The site's hosts, seen from inside its network.
pub struct Site {
    pub folder: PathBuf,
    pub backend: Kvm,
    pub events: Arc<Mutex<Vec<PluginEvent>>>,
}

/// Inside the site: it. Outside: starts the site, runs the test inside, and gives nothing.
pub fn site(test: &str) -> Option<Site> {
    if let Some(folder) = std::env::var_os(SITE) {
        return Some(Site::new(folder.into()));
    }
    if !super::wanted(test) {
        return None;
    }
    if !rustix::process::getuid().is_root() {
        eprintln!("skipped: {test} needs root for hosts of its own");
        return None;
    }
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    super::guest();
    let folder = tempfile::Builder::new().prefix("vws-site").tempdir_in("/tmp").unwrap();
    let script = super::root().join("tests/lab/hosts");
    let mut hold =
        Command::new(&script).arg(folder.path()).arg("hold").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(hold.stdout.take().unwrap()).lines();
    assert!(said.any(|line| line.unwrap() == "ready"), "the site did not come up");
    let inside = Command::new(&script)
        .arg(folder.path())
        .arg("enter")
        .arg(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(SITE, folder.path())
        .status();
    drop(hold.stdin.take());
    assert!(hold.wait().unwrap().success(), "the site did not end in order");
    let inside = inside.unwrap();
    assert!(inside.success(), "{test} failed inside the site: {inside}");
    None
}

impl Site {
    pub fn new(folder: PathBuf) -> Self {
        let events = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&events);
        let backend =
            Kvm::open(serde_json::Value::Null, Emitter::new(move |event| heard.lock().unwrap().push(event.clone()))).unwrap();
        Self { folder, backend, events }
    }

    pub fn script(&self, arguments: &[&str]) -> String {
        let script = super::root().join("tests/lab/hosts");
        let output = Command::new(script).arg(&self.folder).args(arguments).output().unwrap();
        assert!(output.status.success(), "hosts {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn virsh(&self, host: &str, arguments: &[&str]) -> String {
        self.script(&[&["exec", host, "virsh", "-q"], arguments].concat())
    }

    pub fn open_at(&self, host: &str, kind: &str, pool: &str) -> Outcome<()> {
        let uri = self.script(&["uri", host, kind]);
        // Hosts reach each other without TLS here: both names of a host lead to the same libvirt.
        let migrate_uri = self.script(&["uri", host, "tcp"]);
        let settings = serde_json::json!({"uri": uri.trim(), "migrate_uri": migrate_uri.trim(), "pool": pool});
        self.backend.host_open(HostOpen { host: host.into(), settings }, &mut call(vec![]))
    }

    pub fn open(&self, hosts: &[&str]) {
        for host in hosts {
            self.open_at(host, "tcp", "vws").unwrap();
        }
    }

    pub fn facts(&self, host: &str) -> HostFacts {
        self.backend.host_probe(HostProbe { host: host.into(), fresh: false }, &mut call(vec![])).unwrap()
    }

    pub fn put(&self, host: &str, name: &str) -> String {
        let path = super::guest().join(name);
        let mut bytes = Vec::new();
        File::open(&path).unwrap().read_to_end(&mut bytes).unwrap();
        let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        let args = ImagePut { host: host.into(), digest: digest.clone(), size_bytes: bytes.len() as u64 };
        self.backend.image_put(args, &mut call(vec![File::open(&path).unwrap().into()])).unwrap();
        digest
    }

    pub fn disk_machine(&self, host: &str, number: u32) -> MachineDoc {
        let source = DiskSourceDoc::Image { digest: self.put(host, "guest.qcow2"), format: "qcow2".into() };
        let disk = DiskDoc { name: "disk-0".into(), source, size_mib: 64, iops: 0, kib_per_second: 0 };
        machine(number, BootDoc::Disk { firmware: "bios".into() }, vec![disk])
    }

    pub fn kernel_machine(&self, host: &str, number: u32) -> MachineDoc {
        let boot = BootDoc::Kernel {
            kernel: self.put(host, "vmlinuz"),
            initrd: self.put(host, "initrd.img"),
            cmdline: "console=ttyS0 panic=-1 quiet".into(),
        };
        machine(number, boot, vec![])
    }

    pub fn args(&self, host: &str, machine: &MachineDoc) -> MachineArgs {
        MachineArgs { host: host.into(), machine: machine.clone(), paused: false, plugin_state: serde_json::Value::Null }
    }

    pub fn of(&self, host: &str, machine: &MachineDoc) -> WorkspaceRef {
        WorkspaceRef { host: host.into(), workspace: machine.workspace.clone(), plugin_state: serde_json::Value::Null }
    }

    pub fn run(&self, host: &str, machine: &MachineDoc) {
        self.backend.stage(self.args(host, machine), &mut call(vec![])).unwrap();
        let started = self.backend.start(self.args(host, machine), &mut call(vec![])).unwrap();
        // What `cpu:` capabilities name.
        assert_eq!((started.state, started.cpu.as_str()), (MachineState::Running, "qemu64"));
    }

    pub fn state(&self, host: &str, machine: &MachineDoc) -> MachineState {
        self.backend.inspect(self.of(host, machine), &mut call(vec![])).unwrap().state
    }

    pub fn log(&self, host: &str, machine: &MachineDoc) -> String {
        self.backend.log(self.of(host, machine), &mut call(vec![])).unwrap().text
    }

    pub fn tick_to(&self, host: &str, machine: &MachineDoc, count: u64) -> u64 {
        let tick = || ticks(&self.log(host, machine)).last().copied().unwrap_or(0);
        until(&format!("TICK {count}"), || Some(tick()).filter(|tick| *tick >= count))
    }

    pub fn console(&self, host: &str, machine: &MachineDoc) -> UnixStream {
        let mut call = call(vec![]);
        self.backend.console(self.of(host, machine), &mut call).unwrap();
        let stream = UnixStream::from(call.reply_fds.pop().unwrap());
        stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        stream
    }

    pub fn files(&self, host: &str, pool: &str, machine: &MachineDoc) -> Vec<String> {
        let all = self.script(&["exec", host, "ls", &format!("/var/lib/vws-{pool}")]);
        all.lines().filter(|name| name.contains(&machine.workspace)).map(str::to_owned).collect()
    }

    pub fn destroy(&self, host: &str, machine: &MachineDoc) {
        self.destroy_in(host, "pool", machine);
    }

    pub fn destroy_in(&self, host: &str, pool: &str, machine: &MachineDoc) {
        assert_eq!(self.backend.destroy(self.of(host, machine), &mut call(vec![])).unwrap().state, MachineState::Absent);
        assert_eq!(self.files(host, pool, machine), Vec::<String>::new());
        assert!(!self.virsh(host, &["list", "--all", "--name"]).contains(&machine.workspace));
    }

    pub fn prepare(&self, target: &str, machine: &MachineDoc, source_storage_id: &str) -> Outcome<MigrationOffer> {
        let args =
            MigratePrepare { host: target.into(), machine: machine.clone(), source_storage_id: source_storage_id.to_owned() };
        self.backend.migrate_prepare(args, &mut call(vec![]))
    }

    pub fn migrate(
        &self,
        source: &str,
        machine: &MachineDoc,
        offer: &MigrationOffer,
        rate: u64,
        call: &mut Call,
    ) -> Outcome<MachineStatus> {
        let args = MigrateArgs {
            host: source.into(),
            machine: machine.clone(),
            offer: offer.clone(),
            mib_per_second: rate,
            plugin_state: serde_json::Value::Null,
        };
        self.backend.migrate(args, call)
    }

    pub fn forget(&self, host: &str, machine: &MachineDoc, keep_disks: bool) -> Outcome<MachineStatus> {
        let args = WorkspaceForget {
            host: host.into(),
            workspace: machine.workspace.clone(),
            keep_disks,
            plugin_state: serde_json::Value::Null,
        };
        self.backend.forget(args, &mut call(vec![]))
    }
}
