//! The registry: plugins by name, hosts by name, and the one way to call them.
//!
//! Owns: which host is in which shard. Must not know: how a child is kept alive (`shard`), what a call means.

use crate::child::{Child, Death, Isolation, Keeper, Launch};
use crate::error::CallError;
use crate::file::{sha256, trusted};
use crate::shard::{Common, Shard, locked};
use crate::spawner::Spawner;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;
use vws_plugin_api::doc::{self, Concurrency, Description, PluginEvent, Retry};

/// Hosts that one child serves, unless configured otherwise.
pub const HOSTS_PER_CHILD: usize = 64;

/// A plugin as it is configured.
#[derive(Clone, Debug)]
pub struct PluginConfig {
    /// Name by which hosts refer to it.
    pub name: String,
    /// Its file.
    pub path: PathBuf,
    /// Its own section of the configuration.
    pub config: Value,
    /// Where its code runs.
    pub isolation: Isolation,
    /// Hosts that one child serves, at least 1. A plugin that takes one call at a time gets one child a host in any case.
    pub hosts_per_child: usize,
    /// The program that is started as `PROGRAM plugin-host ...`; none: this program itself.
    pub host_program: Option<PathBuf>,
}

impl PluginConfig {
    /// A plugin in processes of its own, with default limits.
    pub fn new(name: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            path: path.into(),
            config: Value::Object(serde_json::Map::new()),
            isolation: Isolation::Process,
            hosts_per_child: HOSTS_PER_CHILD,
            host_program: None,
        }
    }
}

/// What the daemon is told without having asked.
#[derive(Clone, Debug)]
pub enum BackendEvent {
    /// An event of a plugin.
    Plugin {
        /// Name of the plugin.
        backend: String,
        /// The event.
        event: PluginEvent,
    },
    /// A child serves; its hosts are being opened.
    ChildStarted {
        /// Name of the plugin.
        backend: String,
    },
    /// A call hangs: its child gets no new calls, a fresh one takes over.
    ChildReplaced {
        /// Name of the plugin.
        backend: String,
        /// The host whose call hangs.
        host: String,
        /// The call's method.
        method: String,
    },
    /// Too much failed: for a while nothing is tried.
    BreakerOpened {
        /// Name of the plugin.
        backend: String,
        /// The host that is left alone; none: every host of one child.
        host: Option<String>,
        /// How long nothing is tried.
        cool_down: Duration,
    },
    /// What was left alone is tried again.
    BreakerClosed {
        /// Name of the plugin.
        backend: String,
        /// As it was opened.
        host: Option<String>,
    },
    /// A child ended by accident, or with calls that hung: look at these hosts' machines again.
    ChildDied {
        /// Name of the plugin.
        backend: String,
        /// Hosts concerned.
        hosts: Vec<String>,
        /// Why it ended.
        reason: String,
    },
}

/// How a plugin is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PluginState {
    /// No host needs it now.
    Idle,
    /// Every child that is needed serves.
    Running,
    /// A child is being started.
    Starting,
    /// It cannot be used now, and why.
    Failed(String),
}

impl PluginState {
    /// The word on the bus.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Running => "running",
            Self::Starting => "starting",
            Self::Failed(_) => "failed",
        }
    }
}

/// What is known of a plugin.
#[derive(Clone, Debug)]
pub struct PluginStatus {
    /// Name by which hosts refer to it.
    pub name: String,
    /// Its file.
    pub path: PathBuf,
    /// Its version; empty until it could be loaded.
    pub version: String,
    /// Its licence, SPDX; may be empty.
    pub licence: String,
    /// How it is doing.
    pub state: PluginState,
    /// Children that were replaced since the daemon started.
    pub restarts: u64,
    /// Its hosts, by name.
    pub hosts: Vec<String>,
    /// Calls at once, as it declared: `serial`, `per_workspace`, `parallel`; empty until it could be loaded.
    pub concurrency: String,
    /// Methods that it offers.
    pub methods: Vec<String>,
    /// sha256 of its file when it was added.
    pub sha256: String,
    /// Where its code runs.
    pub isolation: Isolation,
    /// Process ids of its children.
    pub pids: Vec<u32>,
}

struct Plugin {
    common: Arc<Common>,
    shards: Mutex<Vec<Arc<Shard>>>,
    hosts_per_child: Mutex<usize>,
    sha256: Mutex<String>,
}

impl Plugin {
    /// The shard for one more host.
    fn shard_with_room(&self) -> Arc<Shard> {
        let serial = locked(&self.common.description)
            .as_ref()
            .is_some_and(|(description, _)| description.concurrency == Concurrency::Serial);
        let room = if serial { 1 } else { (*locked(&self.hosts_per_child)).max(1) };
        let mut shards = locked(&self.shards);
        match shards.iter().find(|shard| shard.host_count() < room) {
            Some(shard) => Arc::clone(shard),
            None => {
                let shard = Shard::new(Arc::clone(&self.common));
                shards.push(Arc::clone(&shard));
                shard
            }
        }
    }

    fn status(&self) -> PluginStatus {
        let shards = locked(&self.shards).clone();
        let launch = Arc::clone(&locked(&self.common.launch));
        let known = locked(&self.common.description).clone();
        let fault = locked(&self.common.fault).clone();
        let mut hosts = Vec::new();
        let mut pids = Vec::new();
        let (mut needed, mut serving, mut starting, mut refusing) = (0, 0, 0, None);
        for shard in &shards {
            let names = shard.host_names();
            pids.extend(shard.pids());
            if names.is_empty() {
                continue;
            }
            needed += 1;
            hosts.extend(names);
            let (serves, starts, refuses) = shard.condition();
            serving += usize::from(serves);
            starting += usize::from(starts);
            refusing = refusing.or(refuses);
        }
        hosts.sort_unstable();
        let state = match (fault, refusing) {
            (Some(fault), _) => PluginState::Failed(fault),
            (None, Some(left)) if serving < needed => {
                PluginState::Failed(format!("its process ended too often; the next try is in {} s", left.as_secs() + 1))
            }
            _ if needed == 0 => PluginState::Idle,
            _ if starting > 0 || serving < needed => PluginState::Starting,
            _ => PluginState::Running,
        };
        let (description, version) = known.unzip();
        PluginStatus {
            name: self.common.name.clone(),
            path: launch.path.clone(),
            version: version.unwrap_or_default(),
            licence: description.as_ref().map(|d| d.licence.clone()).unwrap_or_default(),
            state,
            restarts: self.common.restarts.load(Ordering::Relaxed),
            hosts,
            concurrency: match description.as_ref().map(|d| d.concurrency) {
                None => "",
                Some(Concurrency::Serial) => "serial",
                Some(Concurrency::PerWorkspace) => "per_workspace",
                Some(Concurrency::Parallel) => "parallel",
            }
            .to_owned(),
            methods: description.map(|d| d.methods).unwrap_or_default(),
            sha256: locked(&self.sha256).clone(),
            isolation: launch.isolation,
            pids,
        }
    }
}

/// Where a host is served.
type HostPlace = (Arc<Plugin>, Arc<Shard>);

/// Every plugin and every host.
pub struct Backends {
    events: UnboundedSender<BackendEvent>,
    spawner: Arc<Spawner>,
    plugins: Mutex<BTreeMap<String, Arc<Plugin>>>,
    hosts: Mutex<HashMap<String, HostPlace>>,
}

impl Backends {
    /// An empty registry that sends events to `events`. Its methods need a tokio runtime with I/O and time.
    #[must_use]
    pub fn new(events: UnboundedSender<BackendEvent>) -> Arc<Self> {
        Arc::new(Self { events, spawner: Arc::new(Spawner::default()), plugins: Mutex::default(), hosts: Mutex::default() })
    }

    /// Adds a plugin and asks a child of it what it is. A plugin that cannot be used is listed all the same, with the reason; its
    /// hosts try again. A name that is there already is replaced: its children finish their calls, and fresh ones take over.
    ///
    /// # Errors
    /// [`CallError::Load`].
    pub async fn add_plugin(&self, config: PluginConfig) -> Result<Description, CallError> {
        let load = |(reason, remedy): (String, String)| CallError::Load {
            backend: config.name.clone(),
            path: config.path.clone(),
            reason,
            remedy,
        };
        let path = config.path.clone();
        let looked_at = tokio::task::spawn_blocking(move || {
            let real = trusted(&path)?;
            let digest = sha256(&real)
                .map_err(|error| (format!("cannot be read: {error}"), "see whether the file is whole".to_owned()))?;
            Ok((real, digest))
        })
        .await
        .unwrap_or_else(|error| Err((format!("cannot be looked at: {error}"), "restart the daemon".to_owned())));
        let (real, digest, fault) = match looked_at {
            Ok((real, digest)) => (real, digest, None),
            Err(fault) => (config.path.clone(), String::new(), Some(load(fault))),
        };
        let launch = Arc::new(Launch {
            name: config.name.clone(),
            path: real,
            config: serde_json::to_vec(&config.config).unwrap_or_default(),
            isolation: config.isolation,
            host_program: config.host_program.clone(),
        });
        let inspected = match fault {
            Some(fault) => Err(fault),
            None => match Child::start(&launch, &self.spawner, Box::new(Inspector { events: self.events.clone() })).await {
                Ok(child) => {
                    let known = (child.description.clone(), child.version.clone());
                    child.stop().await;
                    Ok(known)
                }
                Err(error) => Err(error),
            },
        };
        let (known, fault) = match &inspected {
            Ok(known) => (Some(known.clone()), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let shards = {
            let mut plugins = locked(&self.plugins);
            if let Some(plugin) = plugins.get(&config.name) {
                // A replacement that cannot be used does not replace.
                if inspected.is_ok() {
                    *locked(&plugin.common.launch) = launch;
                    *locked(&plugin.common.description) = known;
                    *locked(&plugin.common.fault) = None;
                    *locked(&plugin.hosts_per_child) = config.hosts_per_child;
                    *locked(&plugin.sha256) = digest;
                    locked(&plugin.shards).clone()
                } else {
                    Vec::new()
                }
            } else {
                let common = Common {
                    name: config.name.clone(),
                    launch: Mutex::new(launch),
                    description: Mutex::new(known),
                    fault: Mutex::new(fault),
                    restarts: AtomicU64::new(0),
                    spawner: Arc::clone(&self.spawner),
                    events: self.events.clone(),
                };
                let plugin = Plugin {
                    common: Arc::new(common),
                    shards: Mutex::default(),
                    hosts_per_child: Mutex::new(config.hosts_per_child),
                    sha256: Mutex::new(digest),
                };
                plugins.insert(config.name.clone(), Arc::new(plugin));
                Vec::new()
            }
        };
        for shard in shards {
            shard.renew();
        }
        inspected.map(|(description, _)| description)
    }

    fn plugin(&self, backend: &str) -> Result<Arc<Plugin>, CallError> {
        let plugins = locked(&self.plugins);
        plugins.get(backend).cloned().ok_or_else(|| CallError::UnknownPlugin {
            backend: backend.to_owned(),
            known: if plugins.is_empty() { "none".to_owned() } else { plugins.keys().cloned().collect::<Vec<_>>().join(", ") },
        })
    }

    /// Opens a host, or gives an open one other settings. It is remembered, and opened again in every fresh child. If it does not
    /// answer now (the failure's retry class is not `never`) it is remembered all the same, and every call tries again.
    ///
    /// # Errors
    /// What `host.open` answers; with the class `never`, and a host that is new, it is not remembered.
    pub async fn open_host(&self, backend: &str, host: &str, settings: Value) -> Result<(), CallError> {
        let plugin = self.plugin(backend)?;
        let elsewhere = locked(&self.hosts).get(host).filter(|(other, _)| !Arc::ptr_eq(other, &plugin)).cloned();
        if let Some((_, shard)) = elsewhere {
            locked(&self.hosts).remove(host);
            shard.close_host(host).await?;
        }
        let (shard, before) = {
            let mut hosts = locked(&self.hosts);
            let shard = match hosts.get(host) {
                Some((_, shard)) => Arc::clone(shard),
                None => plugin.shard_with_room(),
            };
            let before = shard.enter_host(host, settings);
            hosts.insert(host.to_owned(), (plugin, Arc::clone(&shard)));
            (shard, before)
        };
        let opened = shard.open(host).await;
        let for_good = matches!(&opened, Err(CallError::Failure(failure)) if failure.retry == Retry::Never);
        match before {
            Some(settings) if for_good => drop(shard.enter_host(host, settings)),
            None if for_good => {
                shard.forget_host(host);
                locked(&self.hosts).remove(host);
            }
            _ => {}
        }
        opened
    }

    /// Closes a host and forgets it, whatever the plugin answers.
    ///
    /// # Errors
    /// What `host.close` answers; [`CallError::UnknownHost`].
    pub async fn close_host(&self, backend: &str, host: &str) -> Result<(), CallError> {
        let plugin = self.plugin(backend)?;
        let unknown = || CallError::UnknownHost { host: host.to_owned() };
        let shard = {
            let mut hosts = locked(&self.hosts);
            let (of, _) = hosts.get(host).ok_or_else(unknown)?;
            if !Arc::ptr_eq(of, &plugin) {
                return Err(unknown());
            }
            hosts.remove(host).map(|(_, shard)| shard).ok_or_else(unknown)?
        };
        let closed = shard.close_host(host).await;
        // A shard that lost its last host may have got a new one meanwhile; then it stays.
        locked(&plugin.shards).retain(|other| !Arc::ptr_eq(other, &shard) || shard.host_count() > 0);
        closed
    }

    /// Calls `method` on a host and reads the answer as `R`. `id` is the idempotency key. Descriptors go with the request and come
    /// with the answer. `deadline` counts from now and includes every wait; after it the caller waits for the cancelled call's
    /// answer for at most [`crate::CANCEL_GRACE`]. Dropping the future cancels the call.
    ///
    /// # Errors
    /// [`CallError`]; [`CallError::retry`] says whether the same call may be repeated.
    pub async fn call<A: Serialize + Sync + ?Sized, R: DeserializeOwned>(
        &self,
        host: &str,
        method: &str,
        id: &str,
        args: &A,
        deadline: Duration,
        fds: Vec<OwnedFd>,
    ) -> Result<(R, Vec<OwnedFd>), CallError> {
        let shard = self.shard(host)?;
        shard.call(host, method, id, args, deadline, fds).await
    }

    fn shard(&self, host: &str) -> Result<Arc<Shard>, CallError> {
        locked(&self.hosts)
            .get(host)
            .map(|(_, shard)| Arc::clone(shard))
            .ok_or_else(|| CallError::UnknownHost { host: host.to_owned() })
    }

    /// Asks the calls of `host` with this id to end soon. Nothing happens if there are none.
    pub fn cancel(&self, host: &str, id: &str) {
        if let Ok(shard) = self.shard(host) {
            shard.cancel(host, id);
        }
    }

    /// Every plugin, by name.
    #[must_use]
    pub fn status(&self) -> Vec<PluginStatus> {
        let plugins: Vec<_> = locked(&self.plugins).values().cloned().collect();
        plugins.iter().map(|plugin| plugin.status()).collect()
    }

    /// Ends every child: gently, then by force. Calls in flight fail; later ones are refused.
    pub async fn shutdown(&self) {
        let plugins: Vec<_> = locked(&self.plugins).values().cloned().collect();
        let mut ends = Vec::new();
        for plugin in plugins {
            for shard in locked(&plugin.shards).clone() {
                ends.push(tokio::spawn(async move { shard.shutdown().await }));
            }
        }
        for end in ends {
            // One that panicked has said so; the others go on.
            let _ended = end.await;
        }
    }
}

/// Listens to a child that is only asked what it is: its log lines count, no host is open.
struct Inspector {
    events: UnboundedSender<BackendEvent>,
}

impl Keeper for Inspector {
    fn event(&self, child: &Child, event: PluginEvent) {
        if matches!(event, doc::PluginEvent::Log { .. }) {
            // Nobody listens any more: the daemon is on its way out.
            let _told = self.events.send(BackendEvent::Plugin { backend: child.backend.clone(), event });
        }
    }

    fn overdue(&self, _child: &Arc<Child>, _host: &str, _workspace: &str, _method: &str) {}

    fn died(&self, _child: &Arc<Child>, _death: &Death, _hosts: Vec<String>) {}
}
