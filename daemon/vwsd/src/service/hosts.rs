//! Hosts: add, change, remove, probe. For administrators; always through the gate.

use super::{CallOptions, HostChange, Service, ShownHost, answered, digest_of, remember};
use crate::admit::{self, Asked};
use crate::change;
use crate::core::{About, Tx};
use crate::operate::args::{self, ProbeArgs};
use crate::policies::Policies;
use std::sync::Arc;
use vws_domain::{
    CachedImage, Caller, Change, Connection, Error, ErrorKind, ForeignUse, Host, HostFacts, HostName, JobId, JobKind, Resources,
    Result, Timestamp, Verb,
};

/// Largest overcommit, in percent.
pub const OVERCOMMIT_PERCENT: u64 = 10_000;

/// A host as first described.
pub(crate) fn new_host(name: HostName, change: &HostChange) -> Result<Host> {
    let backend = change.backend.clone().ok_or_else(|| {
        Error::invalid(format!("host `{name}`"), "names no backend", "give `backend`: `vws backend list` shows them")
    })?;
    let host = Host {
        name,
        backend,
        settings: "{}".to_owned(),
        labels: std::collections::BTreeMap::new(),
        cpu_overcommit_percent: 100,
        memory_overcommit_percent: 100,
        reserve: Resources::default(),
        image_cache_gib: 0,
        enabled: true,
        facts: HostFacts::default(),
        foreign: ForeignUse::default(),
        connection: Connection::Unprobed,
        version: 0,
        seen_at: Timestamp::default(),
    };
    changed_host(host, change)
}

/// The host after a change.
pub(crate) fn changed_host(mut host: Host, change: &HostChange) -> Result<Host> {
    if let Some(settings) = &change.settings {
        host.settings.clone_from(settings);
    }
    if let Some(labels) = &change.labels {
        vws_domain::checked_labels(labels)?;
        host.labels.clone_from(labels);
    }
    for (field, value) in [
        ("cpu-overcommit-percent", change.cpu_overcommit_percent),
        ("memory-overcommit-percent", change.memory_overcommit_percent),
    ] {
        if value.is_some_and(|value| !(1..=OVERCOMMIT_PERCENT).contains(&value)) {
            return Err(Error::invalid(field, format!("is outside 1 to {OVERCOMMIT_PERCENT}"), "100 is no overcommit"));
        }
    }
    host.cpu_overcommit_percent = change.cpu_overcommit_percent.unwrap_or(host.cpu_overcommit_percent);
    host.memory_overcommit_percent = change.memory_overcommit_percent.unwrap_or(host.memory_overcommit_percent);
    host.reserve.vcpus = change.reserve_vcpus.unwrap_or(host.reserve.vcpus);
    host.reserve.memory_mib = change.reserve_memory_mib.unwrap_or(host.reserve.memory_mib);
    host.reserve.disk_gib = change.reserve_disk_gib.unwrap_or(host.reserve.disk_gib);
    host.image_cache_gib = change.image_cache_gib.unwrap_or(host.image_cache_gib);
    host.enabled = change.enabled.unwrap_or(host.enabled);
    host.version += 1;
    Ok(host)
}

pub(super) fn missing(name: &HostName) -> Error {
    Error::new(ErrorKind::NotFound, format!("host `{name}`"), "not found", "`vws host list` shows the hosts")
}

fn gate(tx: &mut Tx<'_>, policies: &Policies, caller: &Caller, name: &HostName) -> Result<()> {
    let request = admit::request_named(Verb::HostManage, name.as_str(), Vec::new());
    let asked = Asked { request, caller: caller.clone(), workspace: None, fresh: None, neighbours: None };
    admit::gate(tx, policies, asked).map(drop)
}

/// Writes a probe job.
pub(crate) fn put_probe(tx: &mut Tx<'_>, caller: &Caller, name: &HostName, fresh: bool) -> Result<JobId> {
    let id = JobId(tx.id());
    let mut job = change::new_job(tx, id, JobKind::ProbeHost, caller, args::write(&ProbeArgs { fresh })?);
    job.host = Some(name.clone());
    change::put_job(tx, job);
    Ok(id)
}

fn shown(site: &vws_domain::Site, host: &Arc<Host>) -> ShownHost {
    ShownHost { free: site.free_on(host), workspaces: site.usage_of_host(&host.name).workspaces, host: Arc::clone(host) }
}

impl Service {
    /// Every host with what is free on it, by name.
    #[must_use]
    pub fn hosts(&self) -> Vec<ShownHost> {
        self.core.read(|site| {
            let shown = |candidate: &vws_domain::Candidate| ShownHost {
                host: Arc::clone(&candidate.host),
                free: candidate.free,
                workspaces: candidate.workspaces,
            };
            site.candidates().iter().map(shown).collect()
        })
    }

    /// So many hosts after this one, by name.
    #[must_use]
    pub fn hosts_after(&self, cursor: Option<&HostName>, most: usize) -> Vec<ShownHost> {
        self.core.read(|site| site.hosts_after(cursor).take(most).map(|host| shown(site, host)).collect())
    }

    /// One host.
    ///
    /// # Errors
    /// NotFound.
    pub fn host(&self, name: &HostName) -> Result<ShownHost> {
        self.core.read(|site| {
            let host = site.host(name).cloned().ok_or_else(|| missing(name))?;
            Ok(shown(site, &host))
        })
    }

    /// Adds a host and begins to probe it.
    ///
    /// # Errors
    /// AccessDenied, InvalidArgument, AlreadyExists, NotFound (backend), PolicyFailure, Conflict.
    pub async fn add_host(&self, caller: &Caller, name: HostName, wanted: HostChange, options: CallOptions) -> Result<JobId> {
        let digest = digest_of(&format!("add-host {name} {wanted:?}"));
        let backends: Vec<String> = self.backends.status().into_iter().map(|plugin| plugin.name).collect();
        let caller = caller.clone();
        let policies = Arc::clone(&self.policies);
        self.core
            .transact(move |tx| {
                if let Some(job) = answered(tx.site, &caller, &options, &digest)?.and_then(|known| known.job) {
                    return Ok(job);
                }
                gate(tx, &policies, &caller, &name)?;
                if tx.site.host(&name).is_some() {
                    return Err(Error::new(
                        ErrorKind::AlreadyExists,
                        format!("host `{name}`"),
                        "there is one of this name",
                        "change that one, or choose another name",
                    ));
                }
                let host = new_host(name.clone(), &wanted)?;
                if !backends.contains(&host.backend) {
                    return Err(Error::new(
                        ErrorKind::NotFound,
                        format!("backend `{}`", vws_domain::shown(&host.backend)),
                        "not loaded",
                        format!("choose one of: {}", backends.join(", ")),
                    ));
                }
                tx.event("host.added", About::host(&name), 0, format!("host `{name}` was added"));
                tx.put(Change::PutHost(Arc::new(host)));
                let job = put_probe(tx, &caller, &name, false)?;
                remember(tx, &caller, &options, &digest, None, Some(job), None);
                Ok(job)
            })
            .await
    }

    /// Changes a host. New settings are used at once.
    ///
    /// # Errors
    /// AccessDenied, NotFound, InvalidArgument, PolicyFailure.
    pub async fn change_host(&self, caller: &Caller, name: HostName, wanted: HostChange, options: CallOptions) -> Result<()> {
        let digest = digest_of(&format!("change-host {name} {wanted:?}"));
        let caller = caller.clone();
        let policies = Arc::clone(&self.policies);
        let of = name.clone();
        self.core
            .transact(move |tx| {
                if answered(tx.site, &caller, &options, &digest)?.is_some() {
                    return Ok(());
                }
                gate(tx, &policies, &caller, &of)?;
                let host = tx.site.host(&of).cloned().ok_or_else(|| missing(&of))?;
                if wanted.backend.as_ref().is_some_and(|backend| *backend != host.backend) {
                    return Err(Error::invalid(
                        format!("host `{of}`"),
                        "its backend cannot be changed",
                        "remove it and add it anew",
                    ));
                }
                let host = changed_host(host.as_ref().clone(), &wanted)?;
                tx.event("host.changed", About::host(&of), 0, format!("host `{of}` was changed"));
                tx.put(Change::PutHost(Arc::new(host)));
                remember(tx, &caller, &options, &digest, None, None, None);
                Ok(())
            })
            .await?;
        self.operate.watch_host(&name);
        Ok(())
    }

    /// Removes a host that has no workspaces.
    ///
    /// # Errors
    /// AccessDenied, NotFound, InvalidState, PolicyFailure.
    pub async fn remove_host(&self, caller: &Caller, name: HostName, options: CallOptions) -> Result<()> {
        let digest = digest_of(&format!("remove-host {name}"));
        let caller = caller.clone();
        let policies = Arc::clone(&self.policies);
        let of = name.clone();
        let backend = self
            .core
            .transact(move |tx| {
                if answered(tx.site, &caller, &options, &digest)?.is_some() {
                    return Ok(None);
                }
                gate(tx, &policies, &caller, &of)?;
                let host = tx.site.host(&of).cloned().ok_or_else(|| missing(&of))?;
                let on_it = tx.site.usage_of_host(&of).workspaces;
                if on_it > 0 {
                    return Err(Error::new(
                        ErrorKind::InvalidState,
                        format!("host `{of}`"),
                        format!("{on_it} workspaces are on it"),
                        "disable it so that nothing new comes, and destroy or serialize them first",
                    ));
                }
                tx.event("host.removed", About::host(&of), 0, format!("host `{of}` was removed"));
                tx.put(Change::RemoveHost(of));
                remember(tx, &caller, &options, &digest, None, None, None);
                Ok(Some(host.backend.clone()))
            })
            .await?;
        if let Some(backend) = backend
            && let Err(error) = self.backends.close_host(&backend, name.as_str()).await
        {
            tracing::warn!(%error, host = %name, "a removed host could not be closed");
        }
        Ok(())
    }

    /// The images in a host's cache, by digest, with their names in the catalogue as far as the caller may use them.
    ///
    /// # Errors
    /// NotFound; what the backend answers.
    pub async fn images_on(&self, caller: &Caller, name: HostName) -> Result<Vec<(CachedImage, Vec<String>)>> {
        let host = self.core.read(|site| site.host(&name).cloned()).ok_or_else(|| missing(&name))?;
        let images = self.operate.images_on(&host).await?;
        let names = |digest: &str| {
            self.core.read(|site| {
                let named = site.images().filter(|image| image.digests().any(|one| one == digest));
                named.filter(|image| admit::may_use_image(caller, image)).map(|image| image.name.clone()).collect()
            })
        };
        Ok(images.into_iter().map(|image| (image.clone(), names(&image.digest))).collect())
    }

    /// Removes an image from a host's cache.
    ///
    /// # Errors
    /// AccessDenied, NotFound, InvalidState, PolicyFailure; what the backend answers.
    pub async fn remove_image_from(&self, caller: &Caller, name: HostName, digest: String) -> Result<()> {
        let caller = caller.clone();
        let policies = Arc::clone(&self.policies);
        let host = self
            .core
            .transact(move |tx| {
                gate(tx, &policies, &caller, &name)?;
                tx.site.host(&name).cloned().ok_or_else(|| missing(&name))
            })
            .await?;
        self.operate.remove_image_from(&host, &digest).await
    }

    /// Probes a host anew by booting a guest on it.
    ///
    /// # Errors
    /// AccessDenied, NotFound, PolicyFailure.
    pub async fn probe_host(&self, caller: &Caller, name: HostName, options: CallOptions) -> Result<JobId> {
        let digest = digest_of(&format!("probe-host {name}"));
        let caller = caller.clone();
        let policies = Arc::clone(&self.policies);
        self.core
            .transact(move |tx| {
                if let Some(job) = answered(tx.site, &caller, &options, &digest)?.and_then(|known| known.job) {
                    return Ok(job);
                }
                gate(tx, &policies, &caller, &name)?;
                if tx.site.host(&name).is_none() {
                    return Err(missing(&name));
                }
                let job = put_probe(tx, &caller, &name, true)?;
                remember(tx, &caller, &options, &digest, None, Some(job), None);
                Ok(job)
            })
            .await
    }
}
