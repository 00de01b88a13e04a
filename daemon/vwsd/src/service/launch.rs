//! Launch: a spec, its images, the gate, and one transaction that writes workspace, reservation, job, decision and event.

use super::{CallOptions, Launched, Service, answered, digest_of, remember};
use crate::admit::{self, Asked};
use crate::change;
use crate::config::Admission;
use crate::core::Tx;
use crate::operate::args::{self, CreateArgs, ImportArgs, Source};
use crate::policies::Policies;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use vws_domain::{
    Boot, Caller, Cause, Change, DiskFormat, DiskSource, Error, ErrorKind, Firmware, Image, ImageId, ImageRef, ImageState, JobId,
    JobKind, Lease, Network, NicNetwork, Result, Site, Spec, State, Timestamp, Visibility, Workspace, WorkspaceId,
};

/// What was found out about images that are named by path or URL, before admission: that needs I/O, which admission never does.
#[derive(Clone, Debug, Default)]
pub(super) struct Pointers {
    found: HashMap<ImageRef, Pointer>,
}

#[derive(Clone, Debug)]
struct Pointer {
    source: Source,
    digest: String,
    format: DiskFormat,
    size_bytes: u64,
    /// 0: not known before it is fetched.
    virtual_size_mib: u64,
}

impl Pointers {
    /// Looks at what a spec's paths and URLs point to.
    pub(super) async fn look(spec: &Spec, caller: &Caller, admission: &Admission) -> Result<Self> {
        let mut found = HashMap::new();
        let mut refs = vec![(&spec.image, spec.disk_gib)];
        refs.extend(
            spec.data_disks.iter().filter_map(|disk| admit::data_image(&disk.source).map(|image| (image, disk.size_gib))),
        );
        for (image, size_gib) in refs {
            let pointer = match image {
                ImageRef::Name(_) => continue,
                ImageRef::Path(path) => {
                    let format = format_by_name(path)?;
                    let path = admission.readable_path(path, caller)?;
                    let (file, name) = (path.clone(), path.clone());
                    let (size_bytes, virtual_size_mib) = crate::operate::blocking(move || {
                        let file = crate::operate::open_path(&file)?;
                        let facts = vws_library::inspect_file(&file, format).map_err(|mut error| {
                            error.object = format!("image `{}`", vws_domain::shown(&name));
                            error
                        })?;
                        let size = file.metadata().map_err(|error| Error::internal("an image file", error.to_string()))?.len();
                        Ok((size, facts.virtual_size_mib))
                    })
                    .await?;
                    Pointer { source: Source::Path { path }, digest: String::new(), format, size_bytes, virtual_size_mib }
                }
                ImageRef::Url { url, digest } => {
                    let format = format_by_name(url)?;
                    if size_gib == 0 {
                        return Err(Error::invalid(
                            format!("image `{}`", vws_domain::shown(url)),
                            "its size is not known before it is fetched, so no room can be reserved",
                            "give disk-gib, or import it first: `vws image import`",
                        ));
                    }
                    Pointer {
                        source: Source::Url { url: url.clone(), digest: digest.clone() },
                        digest: digest.clone(),
                        format,
                        size_bytes: 0,
                        virtual_size_mib: 0,
                    }
                }
            };
            found.insert(image.clone(), pointer);
        }
        Ok(Self { found })
    }
}

/// The format of a file that is named by path or URL: by its name, which the user wrote, never by its bytes.
fn format_by_name(name: &str) -> Result<DiskFormat> {
    let extension = Path::new(name.split(['?', '#']).next().unwrap_or(name)).extension().and_then(|extension| extension.to_str());
    match extension {
        Some("qcow2") => Ok(DiskFormat::Qcow2),
        Some("raw" | "img") => Ok(DiskFormat::Raw),
        _ => Err(Error::invalid(
            format!("image `{}`", vws_domain::shown(name)),
            "its name does not end in .qcow2, .raw or .img, and formats are never guessed from the bytes",
            "rename it, or import it with a stated format: `vws image import`",
        )),
    }
}

/// A spec with its images, ready to be judged.
pub(super) struct Prepared {
    /// The spec, with the sizes of data disks from images filled in.
    pub(super) spec: Spec,
    /// Root disk first.
    pub(super) images: Vec<Option<Arc<Image>>>,
    /// Images to be made.
    new: Vec<(Arc<Image>, Source)>,
    /// The id that the workspace will have.
    workspace: WorkspaceId,
    /// What is judged.
    pub(super) asked: Asked,
}

/// Finds a spec's images and checks it against them. `id` makes ids for images that are to be imported.
pub(super) fn prepare(
    site: &Site,
    caller: &Caller,
    mut spec: Spec,
    pointers: &Pointers,
    now: Timestamp,
    id: &dyn Fn() -> u128,
) -> Result<Prepared> {
    let group = if spec.group.is_empty() {
        caller.primary_group().to_owned()
    } else if caller.admin || caller.groups.contains(&spec.group) {
        spec.group.clone()
    } else {
        return Err(Error::new(
            ErrorKind::AccessDenied,
            format!("group `{}`", vws_domain::shown(&spec.group)),
            format!("user `{}` is not a member of it", caller.user),
            "name one of your own groups, or none",
        ));
    };
    if let Some(taken) = site.workspaces_of(caller.uid).find(|workspace| workspace.spec.name == spec.name) {
        return Err(Error::new(
            ErrorKind::AlreadyExists,
            format!("workspace `{}`", spec.name),
            format!("you have one of this name already, {}", taken.state.name()),
            "choose another name or destroy that one",
        ));
    }
    if let Some(host) = &spec.host
        && site.host(host).is_none()
    {
        return Err(Error::new(ErrorKind::NotFound, format!("host `{host}`"), "not found", "`vws host list` shows the hosts"));
    }
    for nic in &spec.nics {
        if let NicNetwork::Named(name) = &nic.network
            && site.network(name).is_none()
        {
            return Err(Network::not_found(name));
        }
    }
    let mut new = Vec::new();
    let mut resolve = |reference: &ImageRef| -> Result<Arc<Image>> {
        if let ImageRef::Name(name) = reference {
            return admit::catalogue_image(site, caller, name);
        }
        let Some(pointer) = pointers.found.get(reference) else {
            return Err(Error::internal("an image pointer", format!("`{reference}` was not looked at")));
        };
        if let Some(known) = site.images().find(|image| {
            !pointer.digest.is_empty()
                && image.digest == pointer.digest
                && image.state == ImageState::Ready
                && image.format == pointer.format
                && matches!(image.boot, Boot::Disk(_))
                && admit::may_use_image(caller, image)
        }) {
            return Ok(Arc::clone(known));
        }
        let image_id = ImageId(id());
        let short = image_id.to_string();
        let image = Arc::new(Image {
            id: image_id,
            name: format!("{}-{}", spec.name, short.get(24..).unwrap_or(&short)),
            digest: String::new(),
            format: pointer.format,
            size_bytes: pointer.size_bytes,
            virtual_size_mib: pointer.virtual_size_mib,
            boot: Boot::Disk(Firmware::Bios),
            owner: caller.uid,
            visibility: Visibility::Private,
            state: ImageState::Importing,
            source: shown_source(&pointer.source),
            created_at: now,
        });
        new.push((Arc::clone(&image), pointer.source.clone()));
        Ok(image)
    };
    let root = resolve(&spec.image)?;
    let mut images = vec![Some(Arc::clone(&root))];
    let mut sizes = Vec::new();
    for disk in &spec.data_disks {
        match &disk.source {
            DiskSource::Empty => {
                images.push(None);
                sizes.push(disk.size_gib);
            }
            DiskSource::Image(reference) => {
                let image = resolve(reference)?;
                sizes.push(fitting("data disk", disk.size_gib, &image)?);
                images.push(Some(image));
            }
        }
    }
    fitting("root disk", spec.disk_gib, &root)?;
    for (disk, size) in spec.data_disks.iter_mut().zip(sizes) {
        disk.size_gib = size;
    }
    let request = admit::request_launch(site, &spec, &group, &images);
    let workspace = WorkspaceId(id());
    let asked = Asked { request, caller: caller.clone(), workspace: None, fresh: Some(workspace), neighbours: None };
    Ok(Prepared { spec, images, new, workspace, asked })
}

/// The size of a disk made from an image: what was asked, at least the image's own.
fn fitting(what: &str, asked_gib: u64, image: &Image) -> Result<u64> {
    let own = image.virtual_size_mib.div_ceil(1024);
    if asked_gib == 0 {
        return Ok(own);
    }
    if asked_gib.saturating_mul(1024) < image.virtual_size_mib {
        return Err(Error::invalid(
            format!("{what} of {asked_gib} GiB"),
            format!("image `{}` is {} MiB large: a disk cannot be smaller than its image", image.name, image.virtual_size_mib),
            format!("ask for {own} GiB or more, or leave the size out"),
        ));
    }
    Ok(asked_gib)
}

fn shown_source(source: &Source) -> String {
    match source {
        Source::Handed { .. } => "a file of the client's".to_owned(),
        Source::Path { path } => path.clone(),
        Source::Url { url, .. } => vws_library::without_credentials(url),
    }
}

/// Admits one workspace: judges it, records the decision, and writes it with its create job. Also answers the end of its lease.
///
/// # Errors
/// What makes it impossible, or the refusal.
pub(super) fn admit_one(
    tx: &mut Tx<'_>,
    policies: &Policies,
    caller: &Caller,
    spec: Spec,
    pointers: &Pointers,
    grace_seconds: u64,
) -> Result<(Launched, Option<Timestamp>)> {
    let prepared = prepare(tx.site, caller, spec, pointers, tx.now, &|| tx.id())?;
    let site = tx.site;
    let judged = policies.decide(|judge| admit::judge(judge, site, tx.now, prepared.asked, false));
    let workspace = prepared.workspace;
    let job = JobId(tx.id());
    judged.record(tx, judged.refusal.is_none().then_some(workspace))?;
    let mut spec = prepared.spec;
    spec.memory_mib = judged.request.resources.memory_mib;
    spec.vcpus = judged.request.resources.vcpus;
    // The ceilings that it starts with: up to them it can grow, and back again, while it runs.
    spec.memory_max_mib = spec.memory_max_mib.max(spec.memory_mib);
    spec.vcpus_max = spec.vcpus_max.max(spec.vcpus);
    let duration = judged.request.duration_seconds;
    spec.lease_seconds = duration;
    // With their MACs and addresses.
    spec.nics.clone_from(&judged.request.nics);
    spec.preemptible = judged.request.preemptible;
    let mut create = CreateArgs { imports: Vec::new(), room: super::displace::make_room(tx, &judged)? };
    for (image, source) in prepared.new {
        create.imports.push(ImportArgs {
            image: image.id.to_string(),
            disk: Some(source),
            digest: None,
            kernel: None,
            initrd: None,
            most_mib: Some(judged.request.resources.disk_gib.saturating_mul(1024)),
        });
        tx.put(Change::PutImage(image));
    }
    let lease = Lease {
        from: tx.now,
        until: (duration > 0).then(|| tx.now.plus_seconds(duration)),
        action: spec.end_action,
        grace_seconds,
        deferred_until: None,
        ended: false,
    };
    let host = judged.host.clone();
    let mut record = change::new_job(tx, job, JobKind::Create, caller, args::write(&create)?);
    record.workspace = Some(workspace);
    record.host.clone_from(&host);
    change::put_job(tx, record);
    let now = tx.now;
    let target = spec.target;
    change::create_workspace(
        tx,
        Workspace {
            id: workspace,
            owner: caller.uid,
            owner_name: caller.user.clone(),
            group: judged.request.group.clone(),
            images: prepared.images.iter().map(|image| image.as_ref().map(|image| image.id)).collect(),
            resources: judged.request.resources,
            spec,
            state: State::Reserved,
            target,
            cause: Cause { code: "requested".to_owned(), text: format!("{} asked for it", caller.user) },
            host,
            also_on: None,
            job: Some(job),
            lease,
            bundle: None,
            snapshots: Vec::new(),
            cpu: String::new(),
            plugin_state: String::new(),
            deployments: 0,
            version: 1,
            created_at: now,
            changed_at: now,
        },
        judged.addresses,
    );
    Ok((Launched { workspace, job }, lease.until))
}

impl Service {
    /// Creates a workspace. The answer comes when it is durable; the job brings it to its target state.
    ///
    /// # Errors
    /// InvalidArgument, NotFound (image, host), AlreadyExists (name), AccessDenied, QuotaExceeded, NoAddress, NoHost, PolicyFailure, Conflict.
    pub async fn launch(&self, caller: &Caller, spec: Spec, options: CallOptions) -> Result<Launched> {
        let spec = spec.validated()?;
        let digest = digest_of(&format!("launch {spec:?}"));
        let pointers = Pointers::look(&spec, caller, &self.admission).await?;
        let caller = caller.clone();
        let policies = Arc::clone(&self.policies);
        let grace_seconds = self.admission.lease_grace_seconds;
        self.core
            .transact(move |tx| {
                if let Some(known) = answered(tx.site, &caller, &options, &digest)? {
                    return match (known.workspace, known.job) {
                        (Some(workspace), Some(job)) => Ok(Launched { workspace, job }),
                        _ => Err(Error::internal("a request id", "its answer is incomplete")),
                    };
                }
                let (launched, _) = admit_one(tx, &policies, &caller, spec, &pointers, grace_seconds)?;
                remember(tx, &caller, &options, &digest, Some(launched.workspace), Some(launched.job), None);
                Ok(launched)
            })
            .await
    }
}
