//! Hosts: opening them, hearing from them, and reconciling the ledger with what they report.
//!
//! Unknown is not off: a host that does not answer makes its workspaces unknown; nothing is started elsewhere, freed or destroyed on a
//! guess. When it answers again, its machines are looked at and the workspaces become what is seen.

use super::Operate;
use crate::change;
use crate::core::About;
use std::sync::{Arc, PoisonError};
use tokio::sync::{Notify, Semaphore};
use vws_backend::BackendEvent;
use vws_domain::{
    Accelerator, Change, Connection, Error, ForeignUse, HostFacts, HostName, Resources, Result, StateEvent, Timestamp,
    WorkspaceId,
};
use vws_plugin_api::doc;

/// What the daemon holds for a host beside its record: its queue, and whom to wake.
pub struct HostStanding {
    /// Calls at work on it.
    pub calls: Arc<Semaphore>,
    /// Its cache of images: see `image_cache`.
    pub images: tokio::sync::RwLock<()>,
    /// Wakes waiting steps when it answers again.
    pub came_back: Notify,
    /// Wakes its watcher before its time.
    pub look_now: Notify,
    watched: std::sync::atomic::AtomicBool,
    /// The settings that it was opened with. Opening anew would end calls at work on it, so it is done only for new settings.
    opened: tokio::sync::Mutex<Option<String>>,
}

/// What an observation is in the lifecycle's words; `None` for a state that only a job at work knows what to make of.
#[must_use]
pub fn observed(state: doc::MachineState) -> Option<StateEvent> {
    match state {
        doc::MachineState::Running => Some(StateEvent::SeenRunning),
        doc::MachineState::Paused => Some(StateEvent::SeenPaused),
        doc::MachineState::Stopped => Some(StateEvent::SeenStopped),
        doc::MachineState::Absent => Some(StateEvent::SeenAbsent),
        doc::MachineState::Saved => None,
    }
}

/// A backend's facts in the core's words.
#[must_use]
pub fn facts(facts: doc::HostFacts) -> HostFacts {
    HostFacts {
        hypervisor: facts.hypervisor,
        accelerator: Accelerator { name: facts.accelerator, reason: facts.accelerator_reason },
        total: Resources { vcpus: facts.vcpus, memory_mib: facts.memory_mib, disk_gib: facts.disk_gib },
        capabilities: facts.capabilities,
        arch: facts.arch,
        storage_id: facts.storage_id,
    }
}

/// Foreign guests in the core's words.
#[must_use]
pub fn foreign(foreign: doc::Foreign) -> ForeignUse {
    ForeignUse {
        guests: foreign.guests,
        resources: Resources { vcpus: foreign.vcpus, memory_mib: foreign.memory_mib, disk_gib: 0 },
    }
}

impl Operate {
    /// What is held for the host.
    pub(crate) fn standing(&self, host: &HostName) -> Arc<HostStanding> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let standing = hosts.entry(host.clone()).or_insert_with(|| {
            Arc::new(HostStanding {
                calls: Arc::new(Semaphore::new(self.limits.calls_per_host)),
                images: tokio::sync::RwLock::new(()),
                came_back: Notify::new(),
                look_now: Notify::new(),
                watched: std::sync::atomic::AtomicBool::new(false),
                opened: tokio::sync::Mutex::new(None),
            })
        });
        Arc::clone(standing)
    }

    /// Opens the host in its backend with its present settings, if it is not open with them already.
    ///
    /// # Errors
    /// What the backend answers; NotFound when the host was removed.
    pub async fn open_host(&self, name: &HostName) -> Result<()> {
        let host = self.core.read(|site| site.host(name).cloned()).ok_or_else(|| Error::not_found(format!("host `{name}`")))?;
        let standing = self.standing(name);
        let mut opened = standing.opened.lock().await;
        if opened.as_ref() == Some(&host.settings) {
            return Ok(());
        }
        let settings = if host.settings.is_empty() { Ok(serde_json::json!({})) } else { serde_json::from_str(&host.settings) };
        let settings = settings
            .map_err(|error| Error::invalid(format!("settings of host `{name}`"), error.to_string(), "give a JSON object"))?;
        self.backends.open_host(&host.backend, name.as_str(), settings).await?;
        *opened = Some(host.settings.clone());
        Ok(())
    }

    /// Begins to watch the host, once; a watched one is looked at now.
    pub fn watch_host(self: &Arc<Self>, name: &HostName) {
        let standing = self.standing(name);
        if standing.watched.swap(true, std::sync::atomic::Ordering::AcqRel) {
            standing.look_now.notify_one();
            return;
        }
        let operate = Arc::clone(self);
        let name = name.clone();
        tokio::spawn(async move {
            let looking = async {
                while operate.core.read(|site| site.host(&name).is_some()) {
                    operate.look_at(&name).await;
                    tokio::select! {
                        () = tokio::time::sleep(operate.limits.reconcile_every) => {}
                        () = standing.look_now.notified() => {}
                    }
                }
            };
            // Asked for figures as long as it is watched.
            tokio::select! {
                () = looking => {}
                () = operate.ask_stats(&name) => {}
            }
            operate.stats.forget(&name);
            operate.hosts.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
        });
    }

    /// One look: is it there, what does it run, does that agree with the ledger.
    async fn look_at(&self, name: &HostName) {
        if let Err(error) = self.open_host(name).await {
            self.host_down(name, &error.to_string()).await;
            return;
        }
        let asked_at = self.env.now();
        match self.ask_for_listing(name, &format!("look/{name}")).await {
            Ok(listing) => self.reconcile(name, listing, asked_at).await,
            Err(error) => self.host_down(name, &error.to_string()).await,
        }
    }

    /// The host does not answer: it takes nothing new, and its workspaces are unknown unless a job is at work on them.
    pub(super) async fn host_down(&self, name: &HostName, reason: &str) {
        let (name, reason) = (name.clone(), reason.to_owned());
        let written = self
            .core
            .transact(move |tx| {
                let Some(host) = tx.site.host(&name).cloned() else { return Ok(()) };
                let new = Connection::Down(reason.clone());
                if host.connection != new {
                    let mut changed = host.as_ref().clone();
                    let was_down = matches!(changed.connection, Connection::Down(_));
                    changed.connection = new;
                    changed.version += 1;
                    if !was_down {
                        tracing::warn!(host = %name, %reason, "a host does not answer");
                        tx.event("host.down", About::host(&name), 0, format!("host `{name}` does not answer: {reason}"));
                    }
                    tx.put(Change::PutHost(Arc::new(changed)));
                }
                let text = format!("host `{name}` does not answer: {reason}");
                let on_it: Vec<_> =
                    tx.site.workspaces().filter(|workspace| workspace.host.as_ref() == Some(&name)).cloned().collect();
                for workspace in on_it.iter().filter(|workspace| workspace.job.is_none()) {
                    if workspace.state.next(StateEvent::ContactLost).is_ok_and(|next| next != workspace.state) {
                        let lost = change::after(workspace.as_ref().clone(), StateEvent::ContactLost, "host-unreachable", &text)?;
                        change::change_workspace(tx, workspace, lost);
                    }
                }
                Ok(())
            })
            .await;
        if let Err(error) = written {
            tracing::error!(%error, "a host's loss could not be recorded");
        }
    }

    /// Brings the ledger in line with what the host reports. Workspaces that a job is at work on are the job's business, and of one
    /// that changed after the host was asked the answer says nothing.
    async fn reconcile(&self, name: &HostName, listing: doc::HostListing, asked_at: Timestamp) {
        let standing = self.standing(name);
        let name = name.clone();
        let written = self
            .core
            .transact(move |tx| {
                let Some(host) = tx.site.host(&name).cloned() else { return Ok(false) };
                let was_down = matches!(host.connection, Connection::Down(_));
                let probed = !host.facts.hypervisor.is_empty();
                let mut changed = host.as_ref().clone();
                changed.foreign = foreign(listing.foreign);
                if was_down && probed {
                    changed.connection = Connection::Up;
                    tx.event("host.up", About::host(&name), 0, format!("host `{name}` answers again"));
                }
                if changed != *host {
                    changed.version += 1;
                    changed.seen_at = tx.now;
                    tx.put(Change::PutHost(Arc::new(changed)));
                }
                let on_it: Vec<_> =
                    tx.site.workspaces().filter(|workspace| workspace.host.as_ref() == Some(&name)).cloned().collect();
                let at_rest =
                    |workspace: &&Arc<vws_domain::Workspace>| workspace.job.is_none() && workspace.changed_at <= asked_at;
                for workspace in on_it.iter().filter(at_rest) {
                    let id = workspace.id.to_string();
                    let status = listing.workspaces.iter().find(|status| status.workspace == id);
                    let state = status.map_or(doc::MachineState::Absent, |status| status.state);
                    let reason = status.map_or("", |status| status.reason.as_str());
                    if let Some(event) = observed(state) {
                        see(tx, workspace, event, reason)?;
                    }
                }
                Self::begin_forgets(tx, &name, asked_at)?;
                Ok(was_down)
            })
            .await;
        match written {
            Ok(true) => standing.came_back.notify_waiters(),
            Ok(false) => {}
            Err(error) => tracing::error!(%error, detail = %error.detail, "a host's report could not be recorded"),
        }
    }

    /// What the host answers when it is asked what it runs.
    ///
    /// # Errors
    /// What the backend answers.
    pub(super) async fn ask_for_listing(&self, name: &HostName, id: &str) -> Result<doc::HostListing> {
        let ask = doc::HostRef { host: name.to_string() };
        let (listing, _) =
            self.backends.call(name.as_str(), doc::methods::HOST_LIST, id, &ask, self.limits.call_deadline, Vec::new()).await?;
        Ok(listing)
    }

    /// The workspace ids of our machines on the host, now.
    ///
    /// # Errors
    /// What the backend answers.
    pub async fn listing(&self, name: &HostName) -> Result<Vec<String>> {
        let listing = self.ask_for_listing(name, &format!("doctor/{name}")).await?;
        Ok(listing.workspaces.into_iter().map(|status| status.workspace).collect())
    }

    /// What a backend tells of its own accord.
    pub(super) fn hear(self: &Arc<Self>, event: BackendEvent) {
        match event {
            BackendEvent::Plugin { backend, event } => match event {
                doc::PluginEvent::Progress { id, done, total, .. } => self.report(&id, done, total),
                doc::PluginEvent::Workspace { host, status } => {
                    let operate = Arc::clone(self);
                    tokio::spawn(async move { operate.machine_changed(host, status).await });
                }
                doc::PluginEvent::Host { host, up, reason } => {
                    let Ok(name) = HostName::parse(&host) else { return };
                    let operate = Arc::clone(self);
                    tokio::spawn(async move {
                        if !up {
                            operate.host_down(&name, &reason).await;
                        }
                        // A host that is up, and one that may be up again soon, is looked at.
                        operate.standing(&name).look_now.notify_one();
                    });
                }
                doc::PluginEvent::Log { level, message } => match level.as_str() {
                    "error" => tracing::error!(backend, "{message}"),
                    "warn" => tracing::warn!(backend, "{message}"),
                    "info" => tracing::info!(backend, "{message}"),
                    _ => tracing::debug!(backend, "{message}"),
                },
            },
            BackendEvent::ChildStarted { backend } => {
                let text = format!("a process of backend `{backend}` serves");
                self.tell_backend("backend.started", text);
            }
            BackendEvent::ChildReplaced { backend, host, method } => {
                let text = format!("`{method}` hangs on host `{host}`: a fresh process of backend `{backend}` takes over");
                self.tell_backend("backend.replaced", text);
            }
            BackendEvent::BreakerOpened { backend, host, cool_down } => {
                let object = left_alone(&backend, host.as_deref());
                let text = format!("{object} failed too often and is left alone for {} s", cool_down.as_secs());
                tracing::warn!(backend, "{text}");
                self.tell_backend("backend.breaker-opened", text);
            }
            BackendEvent::BreakerClosed { backend, host } => {
                self.tell_backend("backend.breaker-closed", format!("{} is tried again", left_alone(&backend, host.as_deref())));
                if let Some(name) = host.and_then(|host| HostName::parse(&host).ok()) {
                    self.standing(&name).look_now.notify_one();
                }
            }
            BackendEvent::ChildDied { backend, hosts, reason } => {
                tracing::error!(backend, %reason, "a plugin's process died");
                self.tell_backend("backend.died", format!("a process of backend `{backend}` ended: {reason}"));
                for host in hosts.iter().filter_map(|host| HostName::parse(host).ok()) {
                    self.standing(&host).look_now.notify_one();
                }
            }
        }
    }

    /// Commits an event about a backend, from which its object's signals are made.
    fn tell_backend(&self, kind: &'static str, text: String) {
        let core = Arc::clone(&self.core);
        tokio::spawn(async move {
            let told = core
                .transact(move |tx| {
                    tx.event(kind, About::default(), 0, text);
                    Ok(())
                })
                .await;
            if let Err(error) = told {
                tracing::error!(%error, kind, "what happened to a backend could not be recorded");
            }
        });
    }

    async fn machine_changed(&self, host: String, status: doc::MachineStatus) {
        let Ok(id) = WorkspaceId::parse(&status.workspace) else { return };
        let written = self
            .core
            .transact(move |tx| {
                let Some(workspace) = tx.site.workspace(id).cloned() else { return Ok(()) };
                let here = workspace.host.as_ref().is_some_and(|name| name.as_str() == host);
                match observed(status.state) {
                    Some(event) if here && workspace.job.is_none() => see(tx, &workspace, event, &status.reason),
                    _ => Ok(()),
                }
            })
            .await;
        if let Err(error) = written {
            tracing::error!(%error, detail = %error.detail, workspace = %id, "a machine's change could not be recorded");
        }
    }
}

/// What a breaker keeps from being tried.
fn left_alone(backend: &str, host: Option<&str>) -> String {
    host.map_or_else(|| format!("a process of backend `{backend}`"), |host| format!("host `{host}` of backend `{backend}`"))
}

/// Lets an observation happen to a workspace, if it changes anything and can happen.
fn see(tx: &mut crate::core::Tx<'_>, workspace: &Arc<vws_domain::Workspace>, event: StateEvent, reason: &str) -> Result<()> {
    if workspace.state.next(event).is_ok_and(|next| next != workspace.state) {
        let (code, text) = match event {
            StateEvent::SeenAbsent => {
                ("machine-absent", "its host no longer has its machine; destroy it and launch it again".to_owned())
            }
            StateEvent::SeenStopped if reason.is_empty() => ("guest-stopped", "its machine was seen to be off".to_owned()),
            StateEvent::SeenStopped => ("guest-stopped", format!("its machine was seen to be off ({reason})")),
            _ if reason.is_empty() => ("observed", "as its host reports".to_owned()),
            _ => ("observed", format!("as its host reports ({reason})")),
        };
        let seen = change::after(workspace.as_ref().clone(), event, code, &text)?;
        change::change_workspace(tx, workspace, seen);
    }
    Ok(())
}
