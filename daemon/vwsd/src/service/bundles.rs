//! Bundles: export to a file, import from one, check, list. What each comes to is decided here; bytes are moved by the jobs.

use super::{CallOptions, Service, act, answered, digest_of, remember, seen};
use crate::admit::{self, Asked};
use crate::change;
use crate::operate::args::{self, ExportBundleArgs, ImportBundleArgs, VerifyBundleArgs};
use crate::operate::{NewJob, addresses_of, begin, known_bundle, landing};
use std::fs::File;
use std::io::{BufReader, Seek};
use std::sync::Arc;
use vws_bundle::{Limits, Portable, Reader};
use vws_domain::{
    Bundle, Caller, Error, ErrorKind, ImageState, Job, JobId, JobKind, Manifest, Result, Site, State, Verb, Workspace,
    WorkspaceId,
};

/// Who is to own what is imported, as the system knows it.
#[derive(Clone, Debug)]
pub struct NewOwner {
    /// uid.
    pub uid: u32,
    /// Name.
    pub name: String,
    /// Primary group: it is charged.
    pub group: String,
}

/// A bundle with what it is about, to be shown.
#[derive(Clone, Debug)]
pub struct ShownBundle {
    /// The bundle.
    pub bundle: Arc<Bundle>,
    /// Its workspace.
    pub workspace: Arc<Workspace>,
    /// Its manifest.
    pub manifest: Manifest,
}

/// The serialized workspace's bundle, if nothing is at work on it.
fn resting(site: &Site, workspace: &Workspace) -> Result<Arc<Bundle>> {
    let no = |fact: String, remedy: &str| {
        Err(Error::new(ErrorKind::InvalidState, workspace.object(), fact, remedy).with_code("state"))
    };
    if let Some(job) = workspace.job.and_then(|job| site.job(job)).filter(|job| !job.state.ended()) {
        return no(format!("a {} job is at work on it", job.kind.name()), "wait for it, or cancel it");
    }
    match workspace.bundle.and_then(|id| site.bundle(id)) {
        Some(bundle) if workspace.state == State::Serialized => Ok(Arc::clone(bundle)),
        _ => no(format!("is {}: it is in no bundle", workspace.state.name()), "serialize it first: `vws serialize`"),
    }
}

/// A regular file, or why not.
fn regular(file: &File) -> Result<()> {
    if file.metadata().is_ok_and(|metadata| metadata.is_file()) {
        return Ok(());
    }
    Err(Error::invalid("the file that was handed over", "is not a regular file", "open a file on a disk"))
}

impl Service {
    /// Writes a workspace's bundle to a file and retires it here.
    ///
    /// # Errors
    /// NotFound, AccessDenied, PolicyFailure, InvalidState, InvalidArgument, Conflict.
    pub async fn export_bundle(
        &self,
        caller: &Caller,
        id: WorkspaceId,
        file: File,
        with_images: bool,
        options: CallOptions,
    ) -> Result<JobId> {
        regular(&file)?;
        let digest = digest_of(&format!("export-bundle {id} {with_images}"));
        let (caller, policies, operate) = (caller.clone(), Arc::clone(&self.policies), Arc::clone(&self.operate));
        self.core
            .transact(move |tx| {
                let workspace = seen(tx.site, &policies, &caller, id)?;
                if let Some(job) = answered(tx.site, &caller, &options, &digest)?.and_then(|known| known.job) {
                    return Ok(job);
                }
                admit::gate(tx, &policies, act::ask(tx.site, &caller, &workspace, Verb::BundleExport, None, None)?)?;
                let bundle = resting(tx.site, &workspace)?;
                let args = args::write(&ExportBundleArgs { bundle: bundle.id.to_string(), with_images })?;
                let next = workspace.as_ref().clone();
                let new = NewJob { kind: JobKind::ExportBundle, args };
                let job = begin(tx, &workspace, next, new, &caller, "requested")?;
                // Before it is on disk, and so before it can begin.
                operate.hand_over(job, vec![file]);
                remember(tx, &caller, &options, &digest, Some(id), Some(job), None);
                Ok(job)
            })
            .await
    }

    /// Checks every byte of a workspace's bundle, and of the images that it lies on.
    ///
    /// # Errors
    /// NotFound, AccessDenied, PolicyFailure, InvalidState, Conflict.
    pub async fn verify_bundle(&self, caller: &Caller, id: WorkspaceId, options: CallOptions) -> Result<JobId> {
        let digest = digest_of(&format!("verify-bundle {id}"));
        let (caller, policies) = (caller.clone(), Arc::clone(&self.policies));
        self.core
            .transact(move |tx| {
                let workspace = seen(tx.site, &policies, &caller, id)?;
                if let Some(job) = answered(tx.site, &caller, &options, &digest)?.and_then(|known| known.job) {
                    return Ok(job);
                }
                admit::gate(tx, &policies, act::ask(tx.site, &caller, &workspace, Verb::Serialize, None, None)?)?;
                let bundle = resting(tx.site, &workspace)?;
                let args = args::write(&VerifyBundleArgs { bundle: bundle.id.to_string() })?;
                let next = workspace.as_ref().clone();
                let job = begin(tx, &workspace, next, NewJob { kind: JobKind::VerifyBundle, args }, &caller, "requested")?;
                remember(tx, &caller, &options, &digest, Some(id), Some(job), None);
                Ok(job)
            })
            .await
    }

    /// Brings a bundle in from a file: the workspace that it will be, and the job.
    ///
    /// # Errors
    /// AccessDenied for who is no administrator; InvalidArgument, Damaged or Unsupported for what is no good bundle; Conflict for
    /// one that lives or has lived here, or collides; AlreadyExists (name); NotFound (an image that is not in the file).
    pub async fn import_bundle(
        &self,
        caller: &Caller,
        file: File,
        owner: NewOwner,
        name: Option<String>,
        options: CallOptions,
    ) -> Result<(WorkspaceId, JobId)> {
        let (caller, policies) = (caller.clone(), Arc::clone(&self.policies));
        if !caller.admin {
            // Nobody else's bytes are looked at. The gate refuses, and records it.
            let name = name.unwrap_or_default();
            return self
                .core
                .transact(move |tx| {
                    let request = admit::request_named(Verb::BundleImport, &name, Vec::new());
                    admit::gate(tx, &policies, Asked { request, caller, workspace: None, fresh: None, neighbours: None })?;
                    Err(Error::internal("the gate", "let an import pass that is for administrators"))
                })
                .await;
        }
        regular(&file)?;
        let copy = file.try_clone().map_err(|error| Error::internal("the file", error.to_string()))?;
        let portable = crate::operate::blocking(move || head(copy)).await?;
        let manifest = portable.manifest.clone();
        let store = Arc::clone(&self.store);
        let id = manifest.bundle;
        if crate::operate::blocking(move || store.reader()?.bundle(id)).await?.is_some() {
            return Err(known_bundle(id));
        }
        let mut spec = portable.spec()?;
        if let Some(name) = name {
            spec.name = name;
            spec = spec.validated()?;
        }
        let digest = digest_of(&format!("import-bundle {id} {} {}", spec.name, owner.uid));
        let job = JobId(self.env.id());
        self.operate.hand_over(job, vec![file]);
        let done = self
            .core
            .transact(move |tx| {
                if let Some(known) = answered(tx.site, &caller, &options, &digest)? {
                    return match (known.workspace, known.job) {
                        (Some(workspace), Some(job)) => Ok((workspace, job)),
                        _ => Err(Error::internal("a request id", "its answer is incomplete")),
                    };
                }
                let mut request = admit::request_named(Verb::BundleImport, &spec.name, Vec::new());
                request.resources = spec.resources(0);
                request.nics.clone_from(&spec.nics);
                request.labels.clone_from(&spec.labels);
                request.operating_system.clone_from(&spec.operating_system);
                request.group.clone_from(&owner.group);
                request.backend = Some(manifest.backend.clone());
                request.needs = manifest.needs();
                admit::gate(
                    tx,
                    &policies,
                    Asked { request, caller: caller.clone(), workspace: None, fresh: None, neighbours: None },
                )?;
                landing(tx.site, &manifest, owner.uid, &spec.name)?;
                addresses_of(tx.site, &manifest, owner.uid, &spec.name, tx.now)?;
                images_here(tx.site, &portable)?;
                let at_work = |job: &&Arc<Job>| {
                    job.kind == JobKind::ImportBundle && !job.state.ended() && job.workspace == Some(manifest.workspace)
                };
                if let Some(first) = tx.site.jobs().find(at_work) {
                    return Err(Error::new(
                        ErrorKind::Conflict,
                        format!("bundle {id}"),
                        format!("is being imported already, by job {}", first.id),
                        "wait for its end",
                    ));
                }
                let args = ImportBundleArgs {
                    bundle: id.to_string(),
                    name: spec.name.clone(),
                    owner: owner.uid,
                    owner_name: owner.name.clone(),
                    group: owner.group.clone(),
                    images: portable.images.iter().map(|image| image.digest.clone()).collect(),
                };
                let mut record = change::new_job(tx, job, JobKind::ImportBundle, &caller, args::write(&args)?);
                record.workspace = Some(manifest.workspace);
                change::put_job(tx, record);
                remember(tx, &caller, &options, &digest, Some(manifest.workspace), Some(job), None);
                Ok((manifest.workspace, job))
            })
            .await;
        if !matches!(&done, Ok((_, accepted)) if *accepted == job) {
            self.operate.drop_handed(job);
        }
        done
    }

    /// The bundles of workspaces that the caller may see, at most `limit`, by workspace id.
    ///
    /// # Errors
    /// Damaged: a manifest cannot be read.
    pub fn bundles(&self, caller: &Caller, about: Option<WorkspaceId>, limit: usize) -> Result<Vec<ShownBundle>> {
        let all: Vec<(Arc<Workspace>, Arc<Bundle>)> = self.core.read(|site| {
            let one = |workspace: &Arc<Workspace>| Some((Arc::clone(workspace), Arc::clone(site.bundle(workspace.bundle?)?)));
            match about {
                Some(id) => site.workspace(id).and_then(one).into_iter().collect(),
                None => site.workspaces().filter_map(one).collect(),
            }
        });
        all.into_iter()
            .filter(|(workspace, _)| self.may_view(caller, workspace))
            .take(limit)
            .map(|(workspace, bundle)| Ok(ShownBundle { manifest: vws_bundle::parse(&bundle.manifest)?, bundle, workspace }))
            .collect()
    }
}

/// What the file says of itself.
fn head(mut file: File) -> Result<Portable> {
    file.rewind().map_err(|error| Error::invalid("the file", format!("cannot be read: {error}"), "open it for reading"))?;
    Ok(Reader::open(BufReader::new(file), &Limits::default())?.portable().clone())
}

/// A file without images can only land where they are.
fn images_here(site: &Site, portable: &Portable) -> Result<()> {
    if !portable.images.is_empty() {
        return Ok(());
    }
    let ready = |digest: &str| {
        site.images().any(|image| image.state == ImageState::Ready && image.digests().any(|other| other == digest))
    };
    match portable.manifest.image_digests().iter().find(|digest| !ready(digest)) {
        None => Ok(()),
        Some(missing) => Err(Error::new(
            ErrorKind::NotFound,
            format!("image {missing}"),
            "is neither in the bundle's file nor in the catalogue; disks of the bundle lie on it",
            "import that image first, or export the bundle with its images",
        )),
    }
}
