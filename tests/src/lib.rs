//! The harness of the end-to-end tests: a private bus, a daemon with simulated hosts, and the ways in that people have.
//!
//! Owns: starting, killing and restarting the programs, and waiting on conditions. It knows the programs from outside only: their
//! command lines, the bus, the files. Everything it started ends with it, by id.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use serde_json::Value;
use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};
use vws_bus::client::{Bus, Client};

pub mod bus;
pub mod crafted;
pub mod lab;
pub mod libvirt;
pub mod refusal;

/// How long a condition may take to come true. Generous: only a failure waits so long.
pub const PATIENCE: Duration = Duration::from_secs(40);
/// Between two looks at a condition.
const LOOK: Duration = Duration::from_millis(5);

const SIM_PLUGIN: &str = "libvws_plugin_sim.so";
const KVM_PLUGIN: &str = "libvws_plugin_kvm.so";

/// Root of the source tree.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests are a folder of the tree").to_path_buf()
}

/// Where cargo puts what it builds: beside this test (`target/debug/deps/TEST`).
fn built() -> PathBuf {
    let here = std::env::current_exe().expect("a test has a path");
    here.parent().and_then(Path::parent).expect("tests are built in target/PROFILE/deps").to_path_buf()
}

/// Newest change of a source file below a folder.
fn newest(folder: &Path) -> Option<SystemTime> {
    let mut newest = None;
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        let found = if path.is_dir() { newest_unless_tests(&path) } else { entry.metadata().unwrap().modified().ok() };
        newest = newest.max(found);
    }
    newest
}

fn newest_unless_tests(path: &Path) -> Option<SystemTime> {
    if path.ends_with("tests") || path.ends_with("examples") { None } else { newest(path) }
}

/// A program or plugin of the workspace. What is older than the sources is built first, once: a test of yesterday's program tells
/// nothing. `tests/run` has built everything before.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    static BUILT: OnceLock<()> = OnceLock::new();
    static KVM_BUILT: OnceLock<()> = OnceLock::new();
    if name == KVM_PLUGIN {
        KVM_BUILT.get_or_init(|| build(&["plugin-api", "plugins/kvm"], &[KVM_PLUGIN], &["vws-plugin-kvm"]));
    } else {
        let products = ["vwsd", "vws", SIM_PLUGIN];
        BUILT.get_or_init(|| build(&["daemon", "plugin-api", "plugins/sim"], &products, &["vwsd", "vws", "vws-plugin-sim"]));
    }
    let path = built().join(name);
    assert!(path.exists(), "{} was not built: cargo build --workspace", path.display());
    path
}

/// Says on stderr, whatever the test harness captures, why the running test was skipped.
pub fn skipped(why: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let _told = writeln!(std::io::stderr(), "{test}: skipped: {why}");
}

/// Builds packages if one of their products is older than the newest source in these folders.
fn build(sources: &[&str], products: &[&str], packages: &[&str]) {
    let source = sources.iter().filter_map(|folder| newest(&root().join(folder))).max();
    let fresh = |name: &&str| built().join(name).metadata().and_then(|file| file.modified()).is_ok_and(|at| Some(at) >= source);
    if products.iter().all(fresh) {
        return;
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(root()).args(["build", "--quiet"]);
    for package in packages {
        command.args(["-p", package]);
    }
    command.arg("--target-dir").arg(built().parent().expect("PROFILE is a folder of the target directory"));
    if built().ends_with("release") {
        command.arg("--release");
    }
    let status = command.status().expect("cargo is there: it started this test");
    assert!(status.success(), "the programs under test do not build");
}

/// Looks again and again until there is an answer.
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
        std::thread::sleep(LOOK);
    }
}

/// What a site is like.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Names of the simulated hosts.
    pub hosts: Vec<&'static str>,
    /// Hosts with a real libvirt.
    pub kvm: Vec<libvirt::KvmHost>,
    /// More settings of every simulated host, as the inside of a TOML table: `latency_ms = 100`.
    pub settings: String,
    /// More configuration, before the hosts' tables.
    pub config: String,
    /// Policy files; the shipped ones if empty.
    pub policies: Vec<(&'static str, String)>,
    /// Words before the daemon's command, for what takes it into another network.
    pub entrance: Vec<OsString>,
    /// Whose process the daemon is, by number, where not the test's own user. Needs root.
    pub user: Option<u32>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            hosts: vec!["h1"],
            kvm: Vec::new(),
            settings: String::new(),
            config: "[lease]\ngrace-seconds = 0\n".to_owned(),
            policies: Vec::new(),
            entrance: Vec::new(),
            user: None,
        }
    }
}

/// A bus, a daemon and its hosts.
pub struct Site {
    dir: tempfile::TempDir,
    bus: Child,
    daemon: Option<Child>,
    command: Vec<OsString>,
}

/// What a `vws` said and how it ended.
#[derive(Debug)]
pub struct Said {
    /// Exit code; -1 when a signal ended it.
    pub code: i32,
    /// Its data; null if it wrote none.
    pub data: Value,
    /// stderr.
    pub talk: String,
}

impl Said {
    fn of(output: &Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            data: serde_json::from_slice(&output.stdout).unwrap_or(Value::Null),
            talk: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The error that it ended with: name without prefix, code, message.
    ///
    /// # Panics
    /// When it told none.
    #[must_use]
    pub fn error(&self) -> (String, String, String) {
        let found = self
            .talk
            .lines()
            .rev()
            .find_map(|line| serde_json::from_str::<Value>(line).ok().filter(|line| line.get("error").is_some()));
        let error = found.unwrap_or_else(|| panic!("no error was told: {self:?}"));
        let word = |key: &str| error["error"][key].as_str().unwrap_or("").to_owned();
        (word("name").rsplit('.').next().unwrap_or("").to_owned(), word("code"), word("message"))
    }
}

impl Site {
    /// Starts one and waits until its hosts are up.
    #[must_use]
    pub fn start(plan: &Plan) -> Self {
        let site = Self::prepare(plan);
        let mut site = site;
        site.start_daemon();
        for host in &plan.hosts {
            until("a host is probed", || (site.ok(&["host", "show", host])["state"] == "up").then_some(()));
        }
        for host in &plan.kvm {
            libvirt::until("a host is probed", || (site.ok(&["host", "show", host.name])["state"] == "up").then_some(()));
        }
        site
    }

    /// Starts one of simulated hosts with settings of their own: name and the inside of a TOML table.
    #[must_use]
    pub fn of(hosts: &[(&'static str, &str)]) -> Self {
        let mut site = Self::prepare(&Plan { hosts: Vec::new(), ..Plan::default() });
        std::os::unix::fs::symlink(program(SIM_PLUGIN), site.dir().join("plugins").join(SIM_PLUGIN)).unwrap();
        let path = site.dir().join("vwsd.toml");
        let mut config = std::fs::read_to_string(&path).unwrap();
        for (host, settings) in hosts {
            let sim = site.dir().join("sim");
            config.push_str(&format!(
                "[hosts.{host}]\nbackend = \"sim\"\n[hosts.{host}.settings]\ndirectory = \"{}\"\n{settings}\n",
                sim.display()
            ));
        }
        std::fs::write(path, config).unwrap();
        site.start_daemon();
        for (host, _) in hosts {
            until("a host is probed", || (site.ok(&["host", "show", host])["state"] == "up").then_some(()));
        }
        site
    }

    /// Starts the bus and writes the files; the daemon is not started.
    #[must_use]
    pub fn prepare(plan: &Plan) -> Self {
        let dir = tempfile::Builder::new().prefix("vws-test.").tempdir().unwrap();
        let at = dir.path();
        // Other users come in too.
        std::fs::set_permissions(at, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let socket = at.join("bus");
        let conf = std::fs::read_to_string(root().join("tests/bus.conf")).unwrap().replace("@SOCKET@", socket.to_str().unwrap());
        std::fs::write(at.join("bus.conf"), conf).unwrap();
        for folder in ["plugins", "policies", "sim"] {
            std::fs::create_dir(at.join(folder)).unwrap();
        }
        let plugins = [(!plan.hosts.is_empty(), SIM_PLUGIN), (!plan.kvm.is_empty(), KVM_PLUGIN)];
        for (_, plugin) in plugins.into_iter().filter(|(wanted, _)| *wanted) {
            std::os::unix::fs::symlink(program(plugin), at.join("plugins").join(plugin)).unwrap();
        }
        if plan.policies.is_empty() {
            for name in ["access.lua", "quota.lua", "placement.lua"] {
                std::fs::copy(root().join("policies").join(name), at.join("policies").join(name)).unwrap();
            }
        }
        for (name, text) in &plan.policies {
            std::fs::write(at.join("policies").join(name), text).unwrap();
        }
        let mut config = plan.config.clone();
        for host in &plan.hosts {
            config.push_str(&format!(
                "[hosts.{host}]\nbackend = \"sim\"\n[hosts.{host}.settings]\ndirectory = \"{}\"\n{}\n",
                at.join("sim").display(),
                plan.settings
            ));
        }
        config.extend(plan.kvm.iter().map(libvirt::KvmHost::table));
        std::fs::write(at.join("vwsd.toml"), config).unwrap();
        let bus = Command::new("dbus-daemon")
            .arg("--nofork")
            .arg(format!("--config-file={}", at.join("bus.conf").display()))
            .stdin(Stdio::null())
            .spawn()
            .expect("dbus-daemon is installed (tests/install)");
        let command = daemon_words(at, plan);
        let site = Self { dir, bus, daemon: None, command };
        until("the bus listens", || std::os::unix::net::UnixStream::connect(&socket).ok());
        site
    }

    /// The site's folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The bus's address.
    #[must_use]
    pub fn address(&self) -> String {
        format!("unix:path={}", self.dir().join("bus").display())
    }

    /// A policy file.
    #[must_use]
    pub fn policy(&self, name: &str) -> PathBuf {
        self.dir().join("policies").join(name)
    }

    /// The daemon's command.
    #[must_use]
    pub fn daemon_command(&self) -> Command {
        let at = self.dir();
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]);
        command.arg("--config").arg(at.join("vwsd.toml")).arg("--policies").arg(at.join("policies"));
        command.arg("--plugins").arg(at.join("plugins")).arg("--state").arg(at.join("state")).arg("--bus").arg(self.address());
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// Starts the daemon and waits until it answers.
    pub fn start_daemon(&mut self) {
        let command = self.daemon_command();
        self.start_daemon_by(command);
    }

    /// The same with a command of one's own.
    pub fn start_daemon_by(&mut self, mut command: Command) {
        let log = File::options().create(true).append(true).open(self.dir().join("vwsd.log")).unwrap();
        self.daemon = Some(command.stderr(log).spawn().unwrap());
        let end = Instant::now() + PATIENCE;
        while self.vws(&["policy", "status"]).code != 0 {
            let ended = self.daemon.as_mut().and_then(|daemon| daemon.try_wait().unwrap());
            assert!(ended.is_none() && Instant::now() < end, "the daemon does not answer ({ended:?}):\n{}", self.log());
        }
    }

    /// Process ids of the plugins' children of the daemon, in no order.
    ///
    /// # Panics
    /// When the daemon does not run.
    #[must_use]
    pub fn plugin_children(&self) -> Vec<u32> {
        let daemon = self.daemon.as_ref().expect("it runs").id();
        let mut found = Vec::new();
        // Any thread of the daemon may have started one.
        for thread in std::fs::read_dir(format!("/proc/{daemon}/task")).unwrap().flatten() {
            let children = std::fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            for child in children.split_whitespace() {
                let command = std::fs::read(format!("/proc/{child}/cmdline")).unwrap_or_default();
                if command.split(|byte| *byte == 0).any(|word| word == b"plugin-host") {
                    found.push(child.parse().unwrap());
                }
            }
        }
        found
    }

    /// Ends the one plugin's child that the daemon has with a signal, and says which it was.
    ///
    /// # Panics
    /// When there is none, or more than one.
    pub fn hit_plugin_child(&self, signal: rustix::process::Signal) -> u32 {
        let children = self.plugin_children();
        assert_eq!(children.len(), 1, "plugins' children: {children:?}");
        let pid = rustix::process::Pid::from_raw(i32::try_from(children[0]).unwrap()).unwrap();
        // Rust's handler for SIGSEGV takes itself away and returns when no memory access was the cause: the second one kills.
        until("the plugin's child is dead", || {
            if !self.plugin_children().contains(&children[0]) {
                return Some(());
            }
            let _gone_meanwhile = rustix::process::kill_process(pid, signal);
            None
        });
        children[0]
    }

    /// The daemon's process.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn daemon_pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(self.daemon.as_ref().expect("it runs"))
    }

    /// Kills the daemon as a power cut would, between any two instructions.
    pub fn kill_daemon(&mut self) {
        let mut daemon = self.daemon.take().expect("it runs");
        daemon.kill().unwrap();
        daemon.wait().unwrap();
    }

    /// Ends the daemon as a service manager does, and waits until it has ended.
    ///
    /// # Panics
    /// When it does not end, or not well.
    pub fn stop_daemon(&mut self) {
        let mut daemon = self.daemon.take().expect("it runs");
        rustix::process::kill_process(rustix::process::Pid::from_child(&daemon), rustix::process::Signal::TERM).unwrap();
        let ended = until("the daemon ends", || daemon.try_wait().unwrap());
        assert!(ended.success(), "{ended}\n{}", self.log());
    }

    /// What the daemon logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir().join("vwsd.log")).unwrap_or_default()
    }

    /// Runs `vws --json ARGUMENTS`.
    #[must_use]
    pub fn vws(&self, arguments: &[&str]) -> Said {
        let output = Command::new(program("vws"))
            .arg("--json")
            .args(arguments)
            .env("VWS_BUS", self.address())
            .stdin(Stdio::null())
            .output();
        Said::of(&output.unwrap())
    }

    /// The data of a `vws` that must work.
    ///
    /// # Panics
    /// When it does not.
    #[must_use]
    pub fn ok(&self, arguments: &[&str]) -> Value {
        let said = self.vws(arguments);
        assert_eq!(said.code, 0, "vws {arguments:?}: {}\n{}", said.talk, self.log());
        said.data
    }

    /// A `vws` that must work, whatever it says.
    pub fn run(&self, arguments: &[&str]) {
        let _data = self.ok(arguments);
    }

    /// What a `vws` that must be refused says: its error message. It must end with this exit code.
    ///
    /// # Panics
    /// When it is not refused, or otherwise.
    #[must_use]
    pub fn refused(&self, arguments: &[&str], code: i32) -> String {
        let said = self.vws(arguments);
        assert_eq!(said.code, code, "vws {arguments:?}: {said:?}\n{}", self.log());
        said.error().2
    }

    /// Makes a small bootable disk and imports it as a public image.
    pub fn import(&self, name: &str) {
        let path = self.disk(&format!("{name}.raw"));
        self.run(&["image", "import", name, path.to_str().unwrap(), "--format", "raw", "--public"]);
    }

    /// A small raw disk with a boot sector, and its name within.
    #[must_use]
    pub fn disk(&self, name: &str) -> PathBuf {
        let path = self.dir().join(name);
        let mut bytes = name.as_bytes().to_vec();
        bytes.resize(510, 0);
        bytes.extend([0x55, 0xaa]);
        bytes.resize(1 << 20, 0);
        File::create(&path).and_then(|mut file| file.write_all(&bytes)).unwrap();
        path
    }

    /// State of a workspace, or `gone`.
    #[must_use]
    pub fn state(&self, workspace: &str) -> String {
        let said = self.vws(&["info", workspace]);
        if said.code == 3 { "gone".to_owned() } else { said.data["state"].as_str().unwrap_or("?").to_owned() }
    }

    /// Waits until a workspace is in a state.
    pub fn until_state(&self, workspace: &str, state: &str) {
        let mut last = String::new();
        let end = Instant::now() + PATIENCE;
        while last != state {
            assert!(Instant::now() < end, "`{workspace}` is {last}, not {state}\n{}", self.log());
            last = self.state(workspace);
        }
    }

    /// Machines in a host's folder: id -> the machine as the simulated host keeps it.
    #[must_use]
    pub fn machines(&self, host: &str) -> Vec<(String, Value)> {
        let folder = self.dir().join("sim").join(host).join("machines");
        let mut machines = Vec::new();
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let name = entry.file_name().into_string().unwrap();
            if let Some(id) = name.strip_suffix(".json") {
                machines.push((id.to_owned(), serde_json::from_slice(&std::fs::read(entry.path()).unwrap()).unwrap()));
            }
        }
        machines
    }

    /// The doctor's findings that are not `ok`.
    #[must_use]
    pub fn findings(&self) -> Vec<String> {
        let said = self.vws(&["doctor"]);
        let all = said.data.as_array().unwrap_or_else(|| panic!("doctor: {}", said.talk)).clone();
        all.iter().filter(|finding| finding["severity"] != "ok").map(ToString::to_string).collect()
    }

    /// Nothing of any workspace is left: simulated hosts, library, reservations.
    pub fn assert_empty(&self, hosts: &[&str]) {
        for host in hosts {
            assert!(self.machines(host).is_empty(), "machines on {host}: {:?}", self.machines(host));
        }
        self.assert_nothing_held(hosts);
    }

    /// The daemon holds nothing of any workspace: list, reservations, bundles.
    pub fn assert_nothing_held(&self, hosts: &[&str]) {
        assert_eq!(self.ok(&["list"]), serde_json::json!([]), "workspaces");
        for host in hosts {
            let shown = self.ok(&["host", "show", host]);
            assert_eq!(shown["workspaces"], 0, "{shown}");
            assert_eq!(shown["free"], shown["capacity"], "{host}: something is reserved: {shown}");
        }
        let bundles = self.dir().join("state/library/bundles");
        let left: Vec<_> = std::fs::read_dir(bundles).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(left.is_empty(), "bundles: {left:?}");
        assert_eq!(self.findings(), Vec::<String>::new());
    }

    /// A client on a connection of this process's own user.
    pub async fn client(&self) -> Client {
        Client::connect(&Bus::Address(self.address())).await.unwrap()
    }
}

/// How the daemon's command begins. Another user may not see the folder where it was built, so that one gets a copy of its own.
fn daemon_words(at: &Path, plan: &Plan) -> Vec<OsString> {
    let mut words = plan.entrance.clone();
    let Some(user) = plan.user else {
        words.push(program("vwsd").into());
        return words;
    };
    std::fs::create_dir(at.join("state")).unwrap();
    std::os::unix::fs::chown(at.join("state"), Some(user), Some(user)).unwrap();
    std::fs::copy(program("vwsd"), at.join("vwsd")).unwrap();
    let plugins = std::fs::read_dir(at.join("plugins")).unwrap().map(|entry| entry.unwrap().path());
    for plugin in plugins.collect::<Vec<_>>() {
        let whole = plugin.canonicalize().unwrap();
        std::fs::remove_file(&plugin).unwrap();
        std::fs::copy(whole, &plugin).unwrap();
    }
    words.extend(["setpriv".into(), format!("--reuid={user}").into(), format!("--regid={user}").into()]);
    words.extend(["--clear-groups".into(), at.join("vwsd").into()]);
    words
}

impl Drop for Site {
    fn drop(&mut self) {
        for child in self.daemon.iter_mut().chain([&mut self.bus]) {
            let pid = rustix::process::Pid::from_child(child);
            let told = rustix::process::kill_process(pid, rustix::process::Signal::TERM).is_ok();
            let end = Instant::now() + Duration::from_secs(10);
            while told && Instant::now() < end && matches!(child.try_wait(), Ok(None)) {
                std::thread::sleep(LOOK);
            }
            let _ended = child.kill().and_then(|()| child.wait());
        }
    }
}
