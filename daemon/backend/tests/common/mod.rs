//! What the tests of this package share: the plugins, the registry, waiting for events.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    dead_code,
    reason = "tests fail by panicking; not every test uses all of it"
)]

use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use vws_backend::{BackendEvent, Backends, CallError, PluginConfig};
use vws_plugin_api::doc::PluginEvent;

/// The plugin `sim`, which is built with the tests.
pub fn sim() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let folder = tests.parent().unwrap();
    let file = [folder, folder.parent().unwrap()].map(|folder| folder.join("libvws_plugin_sim.so"));
    file.into_iter().find(|file| file.exists()).expect("libvws_plugin_sim.so beside the tests")
}

/// The plugin that misbehaves, compiled with these definitions; once a run.
pub fn rogue(name: &str, definitions: &[&str]) -> PathBuf {
    static COMPILED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let mut compiled = COMPILED.lock().unwrap();
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("rogue");
    let file = folder.join(format!("{name}.so"));
    if compiled.insert(name.to_owned()) {
        std::fs::create_dir_all(&folder).unwrap();
        let beside = folder.join(format!("{name}.{}.tmp", std::process::id()));
        let out = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-pthread"])
            .args(definitions)
            .arg("-I")
            .arg(here.join("../../plugin-api/include"))
            .arg(here.join("tests/common/rogue.c"))
            .arg("-o")
            .arg(&beside)
            .output()
            .expect("a C compiler");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        std::fs::rename(&beside, &file).unwrap();
    }
    file
}

/// A plugin in processes of this package's own host program.
pub fn config(name: &str, path: PathBuf) -> PluginConfig {
    let mut config = PluginConfig::new(name, path);
    config.host_program = Some(PathBuf::from(env!("CARGO_BIN_EXE_vws-plugin-host")));
    config
}

/// A registry and its events.
pub struct Site {
    pub backends: Arc<Backends>,
    pub events: UnboundedReceiver<BackendEvent>,
}

pub const SOON: Duration = Duration::from_secs(20);

impl Site {
    pub fn new() -> Self {
        let (sender, events) = unbounded_channel();
        Self { backends: Backends::new(sender), events }
    }

    /// A registry with the plugin `rogue` and these hosts.
    pub async fn rogue(hosts: &[&str]) -> Self {
        Self::rogue_of("parallel", hosts).await
    }

    pub async fn rogue_of(concurrency: &str, hosts: &[&str]) -> Self {
        let site = Self::new();
        let path = rogue(concurrency, &[&format!("-DROGUE_CONCURRENCY=\"{concurrency}\"")]);
        site.backends.add_plugin(config("rogue", path)).await.unwrap();
        for host in hosts {
            site.backends.open_host("rogue", host, json!({})).await.unwrap();
        }
        site
    }

    /// Calls without descriptors.
    pub async fn call(&self, host: &str, method: &str, id: &str, more: Value, deadline: Duration) -> Result<Value, CallError> {
        call(&self.backends, host, method, id, more, deadline).await
    }

    /// A call that goes on in a task.
    pub fn begin(
        &self,
        host: &str,
        method: &str,
        id: &str,
        more: Value,
        deadline: Duration,
    ) -> tokio::task::JoinHandle<Result<Value, CallError>> {
        let backends = Arc::clone(&self.backends);
        let (host, method, id) = (host.to_owned(), method.to_owned(), id.to_owned());
        tokio::spawn(async move { call(&backends, &host, &method, &id, more, deadline).await })
    }

    /// The first event that `wanted` takes.
    pub async fn event<T>(&mut self, what: &str, mut wanted: impl FnMut(BackendEvent) -> Option<T>) -> T {
        let found = tokio::time::timeout(SOON, async {
            loop {
                let event = self.events.recv().await.expect("the registry lives");
                if let Some(found) = wanted(event) {
                    return found;
                }
            }
        });
        found.await.unwrap_or_else(|_| panic!("no event: {what}"))
    }

    /// Waits until the plugin said this.
    pub async fn said(&mut self, line: &str) {
        let found = |event| match event {
            BackendEvent::Plugin { event: PluginEvent::Log { message, .. }, .. } if message == line => Some(()),
            _ => None,
        };
        self.event(line, found).await;
    }

    pub fn pids(&self) -> Vec<u32> {
        self.backends.status().into_iter().flat_map(|plugin| plugin.pids).collect()
    }
}

async fn call(
    backends: &Backends,
    host: &str,
    method: &str,
    id: &str,
    more: Value,
    deadline: Duration,
) -> Result<Value, CallError> {
    let mut args = json!({ "host": host });
    for (name, value) in more.as_object().cloned().unwrap_or_default() {
        args[name] = value;
    }
    backends.call::<_, Value>(host, method, id, &args, deadline, Vec::new()).await.map(|(value, _)| value)
}

/// Waits for a condition.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = tokio::time::Instant::now() + SOON;
    while !condition() {
        assert!(tokio::time::Instant::now() < end, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Whether a process is there (a zombie is not).
pub fn alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or("").trim_start().starts_with('Z'))
}
