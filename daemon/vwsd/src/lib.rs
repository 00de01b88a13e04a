//! The daemon: builds the parts, joins them, owns the order of start and end. No decision is made here.
//!
//! ```text
//! bus -> service -> admit (policies) -> core -> store
//!                                        |
//!                              operate -> backends, library -> core -> store -> events -> bus
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking"))]

pub mod admit;
pub mod bus;
pub mod change;
pub mod config;
pub mod core;
pub mod env;
pub mod gate;
pub mod nearest;
pub mod operate;
pub mod policies;
pub mod reload;
pub mod replay;
pub mod service;
pub mod watchdog;

use crate::config::{Admission, File, Places};
use crate::core::{About, Core};
use crate::env::Env;
use crate::gate::{Gate, GateRules, Rigour};
use crate::operate::{Operate, OperateLimits};
use crate::policies::Policies;
use crate::service::Service;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use vws_backend::{Backends, Isolation, PluginConfig};
use vws_domain::{Caller, Change, Error, HostName, NetworkName, Result};
use vws_library::Library;
use vws_store::Store;

/// What the command line says.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Configuration file.
    pub config: Option<PathBuf>,
    /// Policy folder.
    pub policies: Option<PathBuf>,
    /// Plugins folder.
    pub plugins: Option<PathBuf>,
    /// State folder.
    pub state: Option<PathBuf>,
    /// `system`, `session`, or an address.
    pub bus: String,
}

/// Runs the daemon until it is told to end (SIGTERM, SIGINT).
///
/// # Errors
/// What keeps it from starting: configuration, state, bus.
pub fn run(options: Options) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_keep_alive(Duration::from_secs(5))
        .enable_all()
        .build()
        .map_err(|error| Error::internal("the runtime", error.to_string()))?;
    let ended = runtime.block_on(serve(options));
    runtime.shutdown_timeout(Duration::from_secs(2));
    ended
}

async fn serve(options: Options) -> Result<()> {
    let uid = rustix::process::geteuid().as_raw();
    let places = Places::default_for(uid, |name| std::env::var_os(name).map(PathBuf::from));
    let named = options.config.is_some();
    let file = File::read(&options.config.unwrap_or(places.config), named)?;
    let charge_minutes = file.lease.charge_unit()?;
    let policy_folder = options.policies.unwrap_or(places.policies);
    let plugin_folder = options.plugins.unwrap_or(places.plugins);
    let state = options.state.unwrap_or(places.state);
    std::fs::create_dir_all(&state).map_err(|error| {
        Error::invalid(format!("state folder `{}`", state.display()), error.to_string(), "name another with --state")
    })?;

    let env = Arc::new(Env::system());
    let (store, site) = Store::open_with(&state.join("vws.db"), store_limits(&file)?)?;
    let store = Arc::new(store);
    if let Err(error) = service::clear_scratch(&state) {
        tracing::warn!(%error, "what an interrupted backup left could not be cleared away");
    }
    let library = Arc::new(Library::open(&state.join("library"), vws_library::Limits::default())?);
    let last_generation = store.reader()?.last_generation()?;
    let policies = Arc::new(Policies::new(&policy_folder, policy_limits(&file), Arc::clone(&env), last_generation));
    let (queue, queued) = mpsc::unbounded_channel();
    let core = Core::start(Arc::clone(&store), site, Arc::clone(&env), queue)?;
    let gate = Arc::new(Gate {
        policies: Arc::clone(&policies),
        core: Arc::clone(&core),
        store: Arc::clone(&store),
        rules: gate_rules(&file)?,
        busy: tokio::sync::Mutex::new(()),
    });
    gate.start().await?;

    let (heard, backend_events) = mpsc::unbounded_channel();
    let backends = Backends::new(heard);
    add_plugins(&backends, &file, &plugin_folder).await;
    let operate = Operate::new(
        Arc::clone(&core),
        Arc::clone(&backends),
        Arc::clone(&library),
        Arc::clone(&store),
        Arc::clone(&env),
        operate_limits(&file),
    );
    put_networks(&core, &file).await?;
    operate.admit_moves_by(Arc::new(service::Moves { policies: Arc::clone(&policies) }));
    put_hosts(&core, &file).await?;
    let known = Arc::clone(&policies);
    core.consider(move |site, _now| {
        known.prepare(site.candidates());
        Ok(())
    })
    .await?;

    let service = Arc::new(Service {
        core: Arc::clone(&core),
        policies: Arc::clone(&policies),
        gate: Arc::clone(&gate),
        shadow: std::sync::Mutex::new(None),
        operate: Arc::clone(&operate),
        env,
        store: Arc::clone(&store),
        library,
        backends: Arc::clone(&backends),
        admission: Admission {
            state,
            uid,
            lease_grace_seconds: file.lease.grace_seconds.unwrap_or(120),
            charge_minutes,
            image_directories: file.image_directories.clone(),
            metrics_workspaces: file.metrics.workspaces.unwrap_or(service::METRICS_WORKSPACES),
        },
    });
    let operating = tokio::spawn(operate.run(queued, backend_events));
    let (poke, pokes) = mpsc::unbounded_channel();
    let watching = tokio::spawn(reload::watch(Arc::clone(&gate), pokes));
    let guarding = tokio::spawn(gate.guard());
    let admin_group = file.admin_group.clone().unwrap_or_else(|| "vws-admin".to_owned());
    let metrics = file.metrics.file.clone().map(|path| {
        let every = Duration::from_secs(file.metrics.seconds.unwrap_or(15).max(1));
        tokio::spawn(service::write_metrics(Arc::clone(&service), service::MetricsFile { path, every }))
    });
    let mut bus = bus::serve(Arc::clone(&service), &options.bus, uid, &admin_group).await?;
    tracing::info!(bus = options.bus, "ready");
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        tracing::debug!(%error, "no service manager was told");
    }

    let watched = tokio::spawn(watchdog::watch(Arc::clone(&core)));
    let ended = tokio::select! {
        told = until_told(&poke) => told,
        () = bus.ended() => Err(Error::new(
            vws_domain::ErrorKind::HostUnavailable,
            format!("bus `{}`", options.bus),
            "ended the connection",
            "start the bus, then the daemon; nothing that was acknowledged is lost",
        )),
    };
    tracing::info!("ending");
    bus.shutdown().await;
    watching.abort();
    guarding.abort();
    service.end_shadow();
    watched.abort();
    if let Some(metrics) = metrics {
        metrics.abort();
    }
    operating.abort();
    backends.shutdown().await;
    core.stop();
    store.end();
    ended
}

/// SIGTERM and SIGINT end the daemon, SIGHUP reloads the policies.
async fn until_told(poke: &mpsc::UnboundedSender<()>) -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let listen = |kind| signal(kind).map_err(|error| Error::internal("signals", error.to_string()));
    let (mut term, mut int, mut hup) =
        (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?, listen(SignalKind::hangup())?);
    loop {
        tokio::select! {
            _ = term.recv() => return Ok(()),
            _ = int.recv() => return Ok(()),
            _ = hup.recv() => {
                let _ = poke.send(());
            }
        }
    }
}

fn policy_limits(file: &File) -> vws_policy::Limits {
    let mut limits = vws_policy::Limits::default();
    if let Some(deadline) = file.policy.deadline_ms {
        limits.deadline = Duration::from_millis(deadline);
    }
    if let Some(memory) = file.policy.memory_mib {
        limits.memory_bytes = usize::try_from(memory.saturating_mul(1 << 20)).unwrap_or(usize::MAX);
    }
    limits
}

fn store_limits(file: &File) -> Result<vws_store::Limits> {
    let mut limits = vws_store::Limits::default();
    if let Some(kept) = file.policy.decisions_kept {
        limits.decisions = at_least_one("policy.decisions-kept", kept)?;
    }
    if let Some(days) = file.policy.decisions_kept_days {
        limits.decision_seconds = at_least_one("policy.decisions-kept-days", days)?.saturating_mul(86_400);
    }
    Ok(limits)
}

fn at_least_one(key: &str, number: u64) -> Result<u64> {
    if number > 0 { Ok(number) } else { Err(Error::invalid(key, "is 0, must be 1 or more", "`vws why` reads them: keep some")) }
}

fn rigour(key: &str, word: Option<&str>, default: Rigour) -> Result<Rigour> {
    match word {
        None => Ok(default),
        Some("block") => Ok(Rigour::Block),
        Some("warn") => Ok(Rigour::Warn),
        Some("off") => Ok(Rigour::Off),
        Some(other) => {
            let fact = format!("is `{}`, must be block, warn or off", vws_domain::shown(other));
            Err(Error::invalid(key, fact, "choose one of them"))
        }
    }
}

fn gate_rules(file: &File) -> Result<GateRules> {
    let (named, mut rules) = (&file.policy.gate, GateRules::default());
    rules.tests = rigour("policy.gate.tests", named.tests.as_deref(), rules.tests)?;
    rules.replay = rigour("policy.gate.replay", named.replay.as_deref(), rules.replay)?;
    rules.replay_decisions = named.replay_decisions.unwrap_or(rules.replay_decisions);
    rules.replay_changes = named.replay_changes.unwrap_or(rules.replay_changes);
    rules.watch.decisions = named.watch_decisions.unwrap_or(rules.watch.decisions);
    rules.watch.errors_percent = match named.watch_errors_percent.unwrap_or(rules.watch.errors_percent) {
        percent if percent <= 100 => percent,
        percent => {
            return Err(Error::invalid(
                "policy.gate.watch-errors-percent",
                format!("is {percent}, must be 0 to 100"),
                "choose for instance 10",
            ));
        }
    };
    Ok(rules)
}

fn operate_limits(file: &File) -> OperateLimits {
    let mut limits = OperateLimits::default();
    let named = &file.operate;
    limits.calls_per_host = named.calls_per_host.unwrap_or(limits.calls_per_host).max(1);
    limits.step_tries = named.step_tries.unwrap_or(limits.step_tries).max(1);
    limits.call_deadline = named.call_seconds.map_or(limits.call_deadline, Duration::from_secs);
    limits.long_deadline = named.long_call_seconds.map_or(limits.long_deadline, Duration::from_secs);
    limits.probe_deadline = named.probe_seconds.map_or(limits.probe_deadline, Duration::from_secs);
    limits.reconcile_every = named.reconcile_seconds.map_or(limits.reconcile_every, Duration::from_secs);
    limits.stats_every = match named.stats_seconds {
        Some(0) => None,
        Some(seconds) => Some(Duration::from_secs(seconds)),
        None => limits.stats_every,
    };
    limits.jobs_kept = named.jobs_kept_hours.map_or(limits.jobs_kept, |hours| Duration::from_secs(hours.saturating_mul(3600)));
    limits
}

/// Loads every plugin of the folder and those that the configuration names. One that cannot be loaded is said and left out: the
/// others serve on.
async fn add_plugins(backends: &Arc<Backends>, file: &File, folder: &Path) {
    let mut found = std::collections::BTreeMap::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        if path.extension().is_some_and(|extension| extension == "so") {
            found.insert(stem.strip_prefix("libvws_plugin_").unwrap_or(stem).to_owned(), path);
        }
    }
    for (name, plugin) in &file.plugins {
        if let Some(path) = &plugin.path {
            found.insert(name.clone(), path.clone());
        } else if !found.contains_key(name) {
            tracing::error!(plugin = name, folder = %folder.display(), "the configuration names a plugin that is not in the plugins folder");
        }
    }
    if found.is_empty() {
        tracing::warn!(folder = %folder.display(), "no backend plugin was found");
    }
    for (name, path) in found {
        let plugin = file.plugins.get(&name).cloned().unwrap_or_default();
        let config = PluginConfig {
            name: name.clone(),
            path,
            config: plugin.config.map_or(serde_json::json!({}), |table| serde_json::to_value(table).unwrap_or_default()),
            isolation: if plugin.isolation.as_deref() == Some("in-process") { Isolation::InProcess } else { Isolation::Process },
            hosts_per_child: plugin.hosts_per_child.unwrap_or(64).max(1),
            host_program: None,
        };
        match backends.add_plugin(config).await {
            Ok(description) => tracing::info!(plugin = name, version = description.version, "plugin loaded"),
            Err(error) => tracing::error!(plugin = name, %error, "a plugin could not be loaded"),
        }
    }
}

/// Brings the configured hosts into the ledger; new ones and changed ones are probed.
async fn put_hosts(core: &Arc<Core>, file: &File) -> Result<()> {
    let mut wanted = Vec::new();
    for (name, host) in &file.hosts {
        wanted.push((HostName::parse(name)?, host.change()?));
    }
    core.transact(move |tx| {
        for (name, change) in wanted {
            let (old, mut new) = match tx.site.host(&name) {
                Some(host) => (Some(host.clone()), service::changed_host(host.as_ref().clone(), &change)?),
                None => (None, service::new_host(name.clone(), &change)?),
            };
            if let Some(old) = &old {
                new.version = old.version;
                if new == **old {
                    continue;
                }
                new.version += 1;
            }
            tx.put(Change::PutHost(Arc::new(new)));
            service::put_probe(tx, &Caller::system("configuration"), &name, false)?;
        }
        Ok(())
    })
    .await
}

/// Brings the configured networks into the ledger.
async fn put_networks(core: &Arc<Core>, file: &File) -> Result<()> {
    let mut wanted = Vec::new();
    for (name, network) in &file.networks {
        wanted.push((NetworkName::parse(name)?, network.change(name)?));
    }
    core.transact(move |tx| {
        for (name, change) in wanted {
            let network = match tx.site.network(&name) {
                Some(old) => {
                    let mut new = service::changed_network(old.as_ref().clone(), &change)?;
                    new.version = old.version;
                    if new == **old {
                        continue;
                    }
                    service::keeps_held(tx.site, &new)?;
                    new.version += 1;
                    new
                }
                None => service::new_network(name.clone(), &change)?,
            };
            tx.event("network.configured", About::default(), 0, format!("network `{name}` is as the configuration says"));
            tx.put(Change::PutNetwork(Arc::new(network)));
        }
        Ok(())
    })
    .await
}
