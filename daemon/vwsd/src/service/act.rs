//! What is done with an existing workspace: start, stop, reboot, pause, resume, serialize, destroy, renew, change, save its disk,
//! its console. Requests are accepted, ignored (it is already so) or denied with a named reason.

use super::{Action, CallOptions, Service, WorkspaceChange, answered, digest_of, remember, seen};
use crate::admit::{self, Asked};
use crate::change;
use crate::core::{About, Tx};
use crate::operate::args::{self, MigrateArgs, RestoreArgs, RoomArgs, StopArgs};
use crate::operate::{NewJob, begin, serialize_job};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use vws_domain::{
    Boot, Caller, Change, Error, ErrorKind, HostName, Image, ImageId, ImageState, Job, JobId, JobKind, Lease, PREEMPTER, Result,
    Site, State, Timestamp, Verb, Visibility, Workspace, WorkspaceId, needs_of_memory,
};
use vws_plugin_api::doc;

/// What an action comes to in the workspace's present state.
enum Plan {
    /// It is already so, or on its way by this job.
    Already(Option<JobId>),
    /// A job of this kind.
    Begin(JobKind),
}

/// The verb of an action on this workspace.
fn verb_of(action: &Action, workspace: &Workspace) -> Verb {
    match action {
        Action::Start => Verb::Start,
        Action::Stop { .. } => Verb::Stop,
        Action::Reboot => Verb::Reboot,
        Action::Pause => Verb::Pause,
        Action::Resume { .. } if workspace.state == State::Serialized => Verb::Restore,
        Action::Resume { .. } => Verb::Resume,
        Action::Serialize => Verb::Serialize,
        Action::Migrate { .. } => Verb::Migrate,
        Action::Destroy => Verb::Destroy,
    }
}

/// Accepted, ignored or denied. A function of the workspace and of the job at work on it.
fn plan(action: &Action, workspace: &Workspace, at_work: Option<&Job>) -> Result<Plan> {
    let kind = match (action, workspace.state) {
        (Action::Start, _) => JobKind::Start,
        (Action::Stop { .. }, _) => JobKind::Stop,
        (Action::Reboot, _) => JobKind::Reboot,
        (Action::Pause, _) => JobKind::Pause,
        (Action::Resume { .. }, State::Serialized | State::Restoring) => JobKind::Restore,
        (Action::Resume { .. }, _) => JobKind::Resume,
        (Action::Serialize, _) => JobKind::Serialize,
        (Action::Migrate { .. }, _) => JobKind::Migrate,
        (Action::Destroy, _) => JobKind::Destroy,
    };
    if let Some(job) = at_work {
        if job.kind == kind {
            return Ok(Plan::Already(Some(job.id)));
        }
        if kind == JobKind::Destroy {
            return Ok(Plan::Begin(kind));
        }
        return Err(denied(
            workspace,
            &format!("a {} job is at work on it", job.kind.name()),
            &format!("wait for it, or `vws cancel {}`", job.id),
            "job-at-work",
        ));
    }
    let no = |remedy: &str| {
        Err(denied(workspace, &format!("is {}: {} is not possible", workspace.state.name(), kind.name()), remedy, "state"))
    };
    if kind == JobKind::Destroy {
        return Ok(Plan::Begin(kind));
    }
    match workspace.state {
        State::Unknown => {
            return Err(Error::new(
                ErrorKind::HostUnavailable,
                workspace.object(),
                format!("nothing is known of it: {}", workspace.cause.text),
                "wait until its host answers again, or destroy it",
            ));
        }
        State::Broken => return no("destroy is possible; its cause tells what happened"),
        _ => {}
    }
    if kind == JobKind::Migrate && !workspace.snapshots.is_empty() {
        let fact = format!("has {} snapshots, which stay with the machine and cannot move", workspace.snapshots.len());
        return Err(denied(workspace, &fact, "remove them first: `vws snapshot remove`", "snapshots"));
    }
    if kind == JobKind::Serialize && !workspace.snapshots.is_empty() && workspace.state.runs() {
        let fact =
            format!("has {} snapshots, which stay with the machine and cannot go into a bundle", workspace.snapshots.len());
        return Err(denied(workspace, &fact, "remove them first: `vws snapshot remove`", "snapshots"));
    }
    match (kind, workspace.state) {
        (JobKind::Start, State::Stopped)
        | (JobKind::Stop, State::Running | State::Paused)
        | (JobKind::Reboot | JobKind::Pause, State::Running)
        | (JobKind::Resume, State::Paused)
        | (JobKind::Serialize, State::Running | State::Paused)
        | (JobKind::Restore, State::Serialized)
        | (JobKind::Migrate, State::Running) => Ok(Plan::Begin(kind)),
        (JobKind::Start | JobKind::Resume, State::Running)
        | (JobKind::Stop, State::Stopped)
        | (JobKind::Pause, State::Paused)
        | (JobKind::Serialize, State::Serialized) => Ok(Plan::Already(None)),
        (JobKind::Start, State::Paused | State::Serialized) => no("resume it"),
        (JobKind::Resume | JobKind::Serialize | JobKind::Pause | JobKind::Reboot | JobKind::Migrate, State::Stopped) => {
            no("start it first")
        }
        (JobKind::Migrate, State::Paused) => no("resume it first, or serialize it here and resume it there"),
        _ => no("look at `vws info`, and wait until it is at rest"),
    }
}

pub(super) fn denied(workspace: &Workspace, fact: &str, remedy: &str, code: &str) -> Error {
    Error::new(ErrorKind::InvalidState, workspace.object(), fact, remedy).with_code(code)
}

/// The images of a workspace that are still in the catalogue.
fn images_of(site: &Site, workspace: &Workspace) -> Vec<Arc<Image>> {
    workspace.images.iter().flatten().filter_map(|id| site.image(*id)).cloned().collect()
}

/// A bundle's overlays are nothing without the images they lie on: a damaged one is told before a host is looked for.
fn usable(images: &[Arc<Image>]) -> Result<()> {
    match images.iter().find(|image| image.state == ImageState::Damaged) {
        None => Ok(()),
        Some(image) => Err(Error::new(
            ErrorKind::Damaged,
            format!("image `{}`", image.name),
            format!("its bytes are no longer those of sha256 {}, on which disks of the bundle lie", image.digest),
            "import the same file again under another name: it mends the bytes; then `vws image verify` this one",
        )),
    }
}

/// The request to do `verb` with a workspace, as the gate sees it. `host` and `lease_seconds` are what the caller added.
pub(super) fn ask(
    site: &Site,
    caller: &Caller,
    workspace: &Arc<Workspace>,
    verb: Verb,
    host: Option<HostName>,
    lease_seconds: Option<u64>,
) -> Result<Asked> {
    let images = images_of(site, workspace);
    let boot: Option<Boot> = images.first().map(|image| image.boot.clone());
    let mut request = admit::request_about(verb, workspace, images);
    if let Some(seconds) = lease_seconds {
        request.duration_seconds = seconds;
    }
    if verb == Verb::Restore {
        request.host = host.clone();
        request.leaves.clone_from(&workspace.also_on);
        request.needs = admit::needs(site, &workspace.spec, boot.as_ref());
        if let Some(bundle) = workspace.bundle.and_then(|id| site.bundle(id)) {
            request.needs.extend(vws_bundle::parse(&bundle.manifest)?.needs());
            request.needs.sort_unstable();
            request.needs.dedup();
            request.backend = Some(bundle.backend.clone());
        }
        usable(&request.images)?;
    }
    if verb == Verb::Migrate {
        request.host = host;
        request.leaves.clone_from(&workspace.host);
        request.needs = admit::needs(site, &workspace.spec, boot.as_ref());
        request.needs.push("migrate".to_owned());
        request.needs.extend(needs_of_running(site, workspace));
        request.backend = host_of_backend(site, workspace);
    }
    Ok(Asked { request, caller: caller.clone(), workspace: Some(Arc::clone(workspace)), fresh: None, neighbours: None })
}

/// The backend of the workspace's host.
pub(super) fn host_of_backend(site: &Site, workspace: &Workspace) -> Option<String> {
    workspace.host.as_ref().and_then(|name| site.host(name)).map(|host| host.backend.clone())
}

/// What a running guest needs of another host beside what its spec asks for: the architecture, the accelerator and the CPU model
/// that it runs with.
fn needs_of_running(site: &Site, workspace: &Workspace) -> Vec<String> {
    let Some(host) = workspace.host.as_ref().and_then(|name| site.host(name)) else { return Vec::new() };
    let mut needs = needs_of_memory(&host.facts.accelerator.name, &workspace.cpu, "");
    if !host.facts.arch.is_empty() {
        needs.push(format!("arch:{}", host.facts.arch));
    }
    needs
}

/// A migration to `to`, for which the workspace holds room there from now on.
///
/// # Errors
/// Unsupported: its host cannot; InvalidState: it has not left another host completely.
pub(super) fn migrate_job(
    site: &Site,
    workspace: &mut Workspace,
    to: Option<HostName>,
    mib_per_second: u64,
    room: Vec<RoomArgs>,
) -> Result<NewJob> {
    offered(site, workspace, "migrate")?;
    if let Some(other) = &workspace.also_on {
        return Err(denied(
            workspace,
            &format!("has not left host `{other}` completely, which does not answer"),
            "wait until that host answers, or remove what is left there",
            "still-leaving",
        ));
    }
    let storage = |name: &Option<HostName>| {
        name.as_ref().and_then(|name| site.host(name)).map(|host| host.facts.storage_id.clone()).unwrap_or_default()
    };
    let (Some(from), Some(to)) = (workspace.host.clone(), to) else {
        return Err(Error::internal(workspace.object(), "moves from or to no host"));
    };
    let args = MigrateArgs {
        from_storage: storage(&Some(from.clone())),
        to_storage: storage(&Some(to.clone())),
        from: from.to_string(),
        to: to.to_string(),
        mib_per_second,
        room,
    };
    workspace.also_on = Some(to);
    Ok(NewJob { kind: JobKind::Migrate, args: args::write(&args)? })
}

/// The lease that running anew brings: the old one while it lasts, else a new one of the length that was permitted.
fn lease_for_running(workspace: &Workspace, now: Timestamp, seconds: u64) -> Lease {
    let over = workspace.lease.ended || workspace.lease.until.is_some_and(|until| until <= now);
    if over { renewed(workspace.lease, now, seconds) } else { workspace.lease }
}

fn renewed(lease: Lease, now: Timestamp, seconds: u64) -> Lease {
    Lease { from: now, until: (seconds > 0).then(|| now.plus_seconds(seconds)), deferred_until: None, ended: false, ..lease }
}

/// Whether the workspace's host offers a capability.
pub(super) fn offered(site: &Site, workspace: &Workspace, capability: &str) -> Result<()> {
    let reason = workspace.host.as_ref().and_then(|name| site.host(name)).and_then(|host| host.cannot(capability));
    match reason {
        None => Ok(()),
        Some(reason) => Err(Error::new(
            ErrorKind::Unsupported,
            workspace.object(),
            format!("its host cannot {capability}: {reason}"),
            "`vws host show` lists what a host can",
        )),
    }
}

impl Service {
    /// Acts on a workspace. `None`: it is already so, nothing to do.
    ///
    /// # Errors
    /// NotFound, AccessDenied, QuotaExceeded, NoHost, PolicyFailure, InvalidState, HostUnavailable, Unsupported, Conflict.
    pub async fn act(&self, caller: &Caller, id: WorkspaceId, action: Action, options: CallOptions) -> Result<Option<JobId>> {
        let digest = digest_of(&format!("act {id} {action:?}"));
        let caller = caller.clone();
        let policies = Arc::clone(&self.policies);
        let (job, cancelled) = self
            .core
            .transact(move |tx| {
                let workspace = seen(tx.site, &policies, &caller, id)?;
                if let Some(known) = answered(tx.site, &caller, &options, &digest)? {
                    return Ok((known.job, None));
                }
                let host = match &action {
                    Action::Resume { host } | Action::Migrate { host, .. } => host.clone(),
                    _ => None,
                };
                let verb = verb_of(&action, &workspace);
                let asked = ask(tx.site, &caller, &workspace, verb, host, None)?;
                let judged = admit::gate(tx, &policies, asked)?;
                let at_work = workspace.job.and_then(|job| tx.site.job(job)).filter(|job| !job.state.ended());
                let kind = match plan(&action, &workspace, at_work.map(AsRef::as_ref))? {
                    Plan::Already(job) => {
                        remember(tx, &caller, &options, &digest, Some(id), job, None);
                        return Ok((job, None));
                    }
                    Plan::Begin(kind) => kind,
                };
                let cancelled = at_work.map(|job| job.id);
                if let Some(running) = at_work {
                    let mut running = running.as_ref().clone();
                    running.cancel_requested = true;
                    change::put_job(tx, running);
                }
                let mut next = workspace.as_ref().clone();
                let room = super::displace::make_room(tx, &judged)?;
                let new = new_job(tx, &mut next, kind, &action, judged.host.as_ref(), room)?;
                if matches!(kind, JobKind::Start | JobKind::Restore) {
                    next.lease = lease_for_running(&next, tx.now, judged.request.duration_seconds);
                }
                if kind == JobKind::Restore {
                    next.host.clone_from(&judged.host);
                }
                let job = begin(tx, &workspace, next, new, &caller, "requested")?;
                remember(tx, &caller, &options, &digest, Some(id), Some(job), None);
                Ok((Some(job), cancelled))
            })
            .await?;
        if let Some(cancelled) = cancelled {
            self.operate.wake_cancelled(cancelled);
        }
        Ok(job)
    }

    /// New lease of so many seconds from now (0: without end, if the policies allow); answers its end.
    ///
    /// # Errors
    /// NotFound, AccessDenied, QuotaExceeded, PolicyFailure, InvalidArgument.
    pub async fn renew(&self, caller: &Caller, id: WorkspaceId, seconds: u64, options: CallOptions) -> Result<Option<Timestamp>> {
        if seconds > vws_domain::limits::LEASE_SECONDS {
            return Err(Error::invalid(
                format!("lease of {seconds} s"),
                format!("is longer than {} s", vws_domain::limits::LEASE_SECONDS),
                "ask for a shorter one",
            ));
        }
        let digest = digest_of(&format!("renew {id} {seconds}"));
        let caller = caller.clone();
        let policies = Arc::clone(&self.policies);
        self.core
            .transact(move |tx| {
                let workspace = seen(tx.site, &policies, &caller, id)?;
                if answered(tx.site, &caller, &options, &digest)?.is_some() {
                    return Ok(workspace.lease.until);
                }
                let asked = ask(tx.site, &caller, &workspace, Verb::Renew, None, Some(seconds))?;
                let judged = admit::gate(tx, &policies, asked)?;
                let mut next = workspace.as_ref().clone();
                next.lease = renewed(next.lease, tx.now, judged.request.duration_seconds);
                let until = next.lease.until;
                change::change_workspace(tx, &workspace, next);
                tx.event(
                    "lease.renewed",
                    About::workspace(id),
                    workspace.owner,
                    format!("the lease of `{}` was renewed", workspace.spec.name),
                );
                remember(tx, &caller, &options, &digest, Some(id), None, None);
                Ok(until)
            })
            .await
    }

    /// Changes name, labels or access list.
    ///
    /// # Errors
    /// NotFound, AccessDenied, PolicyFailure, InvalidArgument, AlreadyExists.
    pub async fn change_workspace(
        &self,
        caller: &Caller,
        id: WorkspaceId,
        wanted: WorkspaceChange,
        options: CallOptions,
    ) -> Result<()> {
        let digest = digest_of(&format!("change {id} {wanted:?}"));
        let caller = caller.clone();
        let policies = Arc::clone(&self.policies);
        self.core
            .transact(move |tx| {
                let workspace = seen(tx.site, &policies, &caller, id)?;
                if answered(tx.site, &caller, &options, &digest)?.is_some() {
                    return Ok(());
                }
                let mut next = workspace.as_ref().clone();
                if let Some(name) = wanted.name {
                    let taken = tx.site.workspaces_of(next.owner).any(|other| other.id != id && other.spec.name == name);
                    if taken {
                        return Err(Error::new(
                            ErrorKind::AlreadyExists,
                            format!("workspace `{}`", vws_domain::shown(&name)),
                            "its owner has one of this name already",
                            "choose another name",
                        ));
                    }
                    next.spec.name = name;
                }
                if let Some(labels) = wanted.labels {
                    next.spec.labels = labels;
                }
                if let Some(access) = wanted.access {
                    next.spec.access = access;
                }
                next.spec = next.spec.validated()?;
                let asked = ask(tx.site, &caller, &workspace, Verb::Change, None, None)?;
                admit::gate(tx, &policies, asked)?;
                change::change_workspace(tx, &workspace, next);
                remember(tx, &caller, &options, &digest, Some(id), None, None);
                Ok(())
            })
            .await
    }

    /// Saves the root disk of a stopped workspace as a new image.
    ///
    /// # Errors
    /// NotFound, AccessDenied, PolicyFailure, InvalidState, InvalidArgument, AlreadyExists.
    pub async fn save_image(
        &self,
        caller: &Caller,
        id: WorkspaceId,
        name: &str,
        visibility: Visibility,
        options: CallOptions,
    ) -> Result<(ImageId, JobId)> {
        let name = vws_domain::checked_catalogue_name(name, "image")?;
        let digest = digest_of(&format!("save-image {id} {name} {visibility:?}"));
        let caller = caller.clone();
        let policies = Arc::clone(&self.policies);
        self.core
            .transact(move |tx| {
                let workspace = seen(tx.site, &policies, &caller, id)?;
                if let Some(known) = answered(tx.site, &caller, &options, &digest)? {
                    return match (known.image, known.job) {
                        (Some(image), Some(job)) => Ok((image, job)),
                        _ => Err(Error::internal("a request id", "its answer is incomplete")),
                    };
                }
                let asked = ask(tx.site, &caller, &workspace, Verb::SaveImage, None, None)?;
                admit::gate(tx, &policies, asked)?;
                if workspace.job.is_some() || workspace.state != State::Stopped {
                    return Err(denied(
                        &workspace,
                        &format!("is {}: its disk can be saved only while it is stopped", workspace.state.name()),
                        "stop it first",
                        "state",
                    ));
                }
                let root = workspace.images.first().copied().flatten().and_then(|image| tx.site.image(image)).cloned();
                let root = root.ok_or_else(|| Error::not_found(format!("the root image of {}", workspace.object())))?;
                if root.digest.is_empty() && workspace.spec.disk_gib == 0 {
                    return Err(denied(&workspace, "has no root disk", "save a workspace that has one", "no-root-disk"));
                }
                super::images::free_name(tx.site, &name)?;
                let image = ImageId(tx.id());
                tx.put(Change::PutImage(Arc::new(Image {
                    id: image,
                    name: name.clone(),
                    digest: String::new(),
                    format: root.format,
                    size_bytes: 0,
                    virtual_size_mib: 0,
                    boot: root.boot.clone(),
                    owner: caller.uid,
                    visibility,
                    state: ImageState::Importing,
                    source: format!("workspace `{}`", workspace.spec.name),
                    created_at: tx.now,
                })));
                tx.event("image.created", About::image(image), caller.uid, format!("image `{name}` is being saved"));
                let job = begin_save(tx, &workspace, image, &caller)?;
                remember(tx, &caller, &options, &digest, Some(id), Some(job), Some(image));
                Ok((image, job))
            })
            .await
    }

    /// A descriptor for the serial console: bytes both ways.
    ///
    /// # Errors
    /// NotFound, AccessDenied, PolicyFailure, InvalidState, Unsupported, BackendFailure.
    pub async fn console(&self, caller: &Caller, id: WorkspaceId) -> Result<OwnedFd> {
        let workspace = self.admit_console(caller, id).await?;
        if !matches!(workspace.state, State::Running | State::Paused) {
            return Err(denied(
                &workspace,
                &format!("is {}: it has no console now", workspace.state.name()),
                "start it, or read `vws logs`",
                "state",
            ));
        }
        let (_, fds): (serde_json::Value, _) = self.call_console(&workspace, doc::methods::CONSOLE).await?;
        fds.into_iter().next().ok_or_else(|| {
            Error::new(
                ErrorKind::BackendFailure,
                workspace.object(),
                "the backend opened no console",
                "report it to the plugin's vendor",
            )
        })
    }

    /// The kept console lines and how many bytes were left out.
    ///
    /// # Errors
    /// NotFound, AccessDenied, PolicyFailure, BackendFailure.
    pub async fn log(&self, caller: &Caller, id: WorkspaceId) -> Result<(String, u64)> {
        let (policies, asks) = (Arc::clone(&self.policies), caller.clone());
        // A read: judged like the console, not recorded.
        let workspace = self
            .core
            .consider(move |site, now| {
                let workspace = seen(site, &policies, &asks, id)?;
                let asked = ask(site, &asks, &workspace, Verb::Console, None, None)?;
                let judged = policies.decide(|judge| admit::judge(judge, site, now, asked, false));
                judged.refusal.map_or(Ok(workspace), Err)
            })
            .await?;
        let (log, _): (doc::LogDoc, _) = self.call_console(&workspace, doc::methods::LOG).await?;
        Ok((log.text, log.omitted_bytes))
    }

    async fn admit_console(&self, caller: &Caller, id: WorkspaceId) -> Result<Arc<Workspace>> {
        let caller = caller.clone();
        let policies = Arc::clone(&self.policies);
        self.core
            .transact(move |tx| {
                let workspace = seen(tx.site, &policies, &caller, id)?;
                let asked = ask(tx.site, &caller, &workspace, Verb::Console, None, None)?;
                admit::gate(tx, &policies, asked)?;
                Ok(workspace)
            })
            .await
    }

    async fn call_console<R: serde::de::DeserializeOwned>(
        &self,
        workspace: &Workspace,
        method: &str,
    ) -> Result<(R, Vec<OwnedFd>)> {
        let Some(host) = &workspace.host else {
            return Err(denied(workspace, "is on no host", "resume it first", "state"));
        };
        let ask = crate::operate::reference_document(host, workspace);
        let id = format!("{:032x}/{method}", self.env.id());
        let deadline = std::time::Duration::from_secs(20);
        Ok(self.backends.call(host.as_str(), method, &id, &ask, deadline, Vec::new()).await?)
    }

    /// Asks a job to stop.
    ///
    /// # Errors
    /// NotFound, AccessDenied, InvalidState when it ended or can no longer be taken back.
    pub async fn cancel_job(&self, caller: &Caller, id: JobId, options: CallOptions) -> Result<()> {
        let known = self.core.read(|site| site.job(id).cloned()).filter(|job| self.may_view_job(caller, job));
        let job = known.ok_or_else(|| Error::not_found(format!("job {id}")))?;
        let digest = digest_of(&format!("cancel {id}"));
        let caller = caller.clone();
        let policies = Arc::clone(&self.policies);
        self.core
            .transact(move |tx| {
                if answered(tx.site, &caller, &options, &digest)?.is_some() {
                    return Ok(());
                }
                let Some(job) = tx.site.job(job.id).cloned() else { return Err(Error::not_found(format!("job {id}"))) };
                // An ended job of what is gone: there is nothing to judge, and nothing below changes anything.
                if let Some(asked) = ask_to_cancel(tx.site, &caller, &job)? {
                    admit::gate(tx, &policies, asked)?;
                }
                if job.state.ended() {
                    return Err(Error::new(
                        ErrorKind::InvalidState,
                        format!("job {id}"),
                        format!("is {} already", job.state.name()),
                        "nothing is left to cancel",
                    ));
                }
                if job.actor == PREEMPTER && !caller.admin {
                    return Err(Error::new(
                        ErrorKind::AccessDenied,
                        format!("job {id}"),
                        "makes room for another's request; who is pre-emptible has agreed to that",
                        "resume the workspace when there is room again, or ask an administrator",
                    )
                    .with_code("makes-room"));
                }
                if crate::operate::past_return(&job) {
                    return Err(Error::new(
                        ErrorKind::InvalidState,
                        format!("job {id}"),
                        format!("is at `{}` and can no longer be taken back", job.progress.phase),
                        "wait for its end",
                    ));
                }
                let mut next = job.as_ref().clone();
                next.cancel_requested = true;
                change::put_job(tx, next);
                remember(tx, &caller, &options, &digest, job.workspace, Some(id), None);
                Ok(())
            })
            .await?;
        self.operate.wake_cancelled(id);
        Ok(())
    }
}

/// The request to cancel a job, as the gate sees it: whoever may end what the job is about may end what is being done with it.
/// `None`: the job has ended and what it was about is gone.
fn ask_to_cancel(site: &Site, caller: &Caller, job: &Job) -> Result<Option<Asked>> {
    if let Some(workspace) = job.workspace.and_then(|workspace| site.workspace(workspace)) {
        return ask(site, caller, workspace, Verb::Stop, None, None).map(Some);
    }
    let image = job.image.and_then(|image| site.image(image)).cloned();
    let request = match (image, &job.host) {
        (Some(image), _) => admit::request_named(Verb::ImageManage, &image.name.clone(), vec![image]),
        (None, Some(host)) => admit::request_named(Verb::HostManage, host.as_str(), Vec::new()),
        (None, None) if job.state.ended() => return Ok(None),
        (None, None) => admit::request_named(Verb::SiteManage, job.kind.name(), Vec::new()),
    };
    Ok(Some(Asked { request, caller: caller.clone(), workspace: None, fresh: None, neighbours: None }))
}

/// The job that an action is.
fn new_job(
    tx: &mut Tx<'_>,
    workspace: &mut Workspace,
    kind: JobKind,
    action: &Action,
    host: Option<&HostName>,
    room: Vec<RoomArgs>,
) -> Result<NewJob> {
    match (kind, action) {
        (JobKind::Stop, Action::Stop { guest_timeout_ms }) => {
            Ok(NewJob { kind, args: args::write(&StopArgs { guest_timeout_ms: *guest_timeout_ms })? })
        }
        (JobKind::Migrate, Action::Migrate { mib_per_second, .. }) => {
            migrate_job(tx.site, workspace, host.cloned(), *mib_per_second, room)
        }
        (JobKind::Serialize, _) => {
            offered(tx.site, workspace, "serialize")?;
            serialize_job(tx, workspace)
        }
        (JobKind::Pause | JobKind::Resume, _) => {
            offered(tx.site, workspace, "pause")?;
            Ok(NewJob { kind, args: "{}".to_owned() })
        }
        (JobKind::Restore, _) => {
            let bundle = workspace.bundle.ok_or_else(|| Error::internal(workspace.object(), "is serialized without a bundle"))?;
            Ok(NewJob { kind, args: args::write(&RestoreArgs { bundle: bundle.to_string(), room })? })
        }
        _ => Ok(NewJob { kind, args: "{}".to_owned() }),
    }
}

fn begin_save(tx: &mut Tx<'_>, workspace: &Workspace, image: ImageId, caller: &Caller) -> Result<JobId> {
    let id = JobId(tx.id());
    let mut job = change::new_job(tx, id, JobKind::SaveImage, caller, "{}".to_owned());
    job.workspace = Some(workspace.id);
    job.image = Some(image);
    job.host.clone_from(&workspace.host);
    change::put_job(tx, job);
    let mut next = workspace.clone();
    next.job = Some(id);
    change::change_workspace(tx, workspace, next);
    Ok(id)
}
