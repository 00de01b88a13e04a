//! Bundles as files: one is written out and retired here, one is read in and becomes a workspace, one is checked.
//!
//! An export reads and hashes everything once, on its way into the client's file. The bundle is retired in the transaction that follows
//! the file's fsync; whatever fails or is cut before leaves it whole, and voids the file as far as it still can be reached. A daemon
//! that is killed between the two has a complete file and a whole bundle: its job ends as failed, and the client throws the file away.
//!
//! An import reads once, too: what arrives is hashed, looked at and put into the library; the records are made last, in one transaction,
//! or not at all. The client's open file does not survive a restart, so an interrupted import is taken back.

use super::args::{ExportBundleArgs, ImportBundleArgs, VerifyBundleArgs};
use super::engine::{Effect, Run, Step, StepError, Undo, nothing};
use super::image::blocking;
use crate::change;
use crate::core::{About, Tx};
use std::fs::File;
use std::io::{BufReader, BufWriter, Seek};
use std::ops::ControlFlow;
use std::sync::Arc;
use vws_bundle::{Guest, ImageFile, Limits, Portable, Reader, Writer};
use vws_domain::{
    Address, Allotment, Asker, Boot, Bundle, BundleFile, BundleId, Caller, Cause, Change, DataDisk, DiskSource, Error, ErrorKind,
    Firmware, Image, ImageId, ImageRef, ImageState, Lease, Manifest, Result, Site, State, StateEvent, Target, Timestamp,
    Visibility, Workspace,
};
use vws_library::{Library, inspect_overlay};

/// Export.
pub static EXPORT: &[Step] = &[
    Step { name: "write", run: |run| Box::pin(write(run)), undo: Undo::By(|run| Box::pin(void(run))) },
    Step { name: "discard", run: |run| Box::pin(discard(run)), undo: Undo::Never("the file is the bundle now") },
];
/// Import.
pub static IMPORT: &[Step] =
    &[Step { name: "receive", run: |run| Box::pin(receive(run)), undo: Undo::By(|run| Box::pin(forget(run))) }];
/// Verify.
pub static VERIFY: &[Step] =
    &[Step { name: "verify", run: |run| Box::pin(verify(run)), undo: Undo::Nothing("looking changes nothing") }];

/// The bundle has had its life: it is no longer shown, its id stays known.
pub(super) fn use_up(tx: &mut Tx<'_>, id: BundleId) {
    if let Some(bundle) = tx.site.bundle(id) {
        let mut bundle = bundle.as_ref().clone();
        bundle.consumed_at = Some(tx.now);
        tx.put(Change::PutBundle(Arc::new(bundle)));
    }
}

/// The client's file; it is gone after a restart.
fn handed(run: &Run) -> Result<File> {
    run.operate.handed_to(run.job.id)?.into_iter().next().ok_or_else(|| {
        Error::new(
            ErrorKind::Cancelled,
            format!("job {}", run.job.id),
            "the daemon restarted, and the file that the client had handed over is gone",
            "repeat it; throw away a file that an export had begun",
        )
    })
}

/// Tells of progress and hears of a cancel, on another thread.
fn watch(run: &Run) -> impl FnMut(u64, u64) -> ControlFlow<()> + Send + 'static {
    let flag = run.cancel_flag();
    let reports = run.operate.progress.clone();
    let job = run.job.id;
    move |done, total| {
        let _ = reports.send(super::engine::Report { job, done, total });
        if *flag.borrow() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

fn bundle_of(run: &Run, id: &str) -> Result<Arc<Bundle>> {
    let id = BundleId::parse(id)?;
    run.operate.core.read(|site| site.bundle(id).cloned()).ok_or_else(|| {
        Error::new(ErrorKind::InvalidState, format!("bundle {id}"), "is no longer here", "`vws bundle list` shows what is")
    })
}

fn io(doing: &str) -> impl FnOnce(std::io::Error) -> Error + '_ {
    move |error| Error::internal("a bundle's file", format!("{doing}: {error}"))
}

async fn write(run: &Run) -> std::result::Result<Effect, StepError> {
    let args: ExportBundleArgs = run.args()?;
    let file = handed(run)?;
    let bundle = bundle_of(run, &args.bundle)?;
    let workspace = Arc::clone(run.workspace()?);
    let library = Arc::clone(&run.operate.library);
    let mut watch = watch(run);
    let id = bundle.id;
    let bytes = blocking(move || {
        let manifest = vws_bundle::parse(&bundle.manifest)?;
        let portable = portable(&library, &bundle, manifest, &workspace, args.with_images)?;
        export(&library, id, &portable, file, &mut watch)
    })
    .await?;
    Ok(Box::new(move |edit| {
        use_up(edit.tx, id);
        edit.job.message = format!("bundle {id} is a file of {bytes} bytes now, and no longer here");
        let why = format!("exported to a file by {}: bundle {id}", edit.job.actor);
        edit.workspace(|workspace| {
            workspace.bundle = None;
            workspace.job = None;
            workspace.target = Target::Gone;
        });
        edit.state(StateEvent::DestroyBegan, "exported", &why)?;
        edit.state(StateEvent::Destroyed, "exported", &why)
    }))
}

/// What the file says of itself.
fn portable(
    library: &Library,
    bundle: &Bundle,
    manifest: Manifest,
    workspace: &Workspace,
    with_images: bool,
) -> Result<Portable> {
    let mut images = Vec::new();
    for digest in if with_images { manifest.image_digests() } else { Vec::new() } {
        let size_bytes = library.blob(&digest)?.metadata().map_err(io("look at an image"))?.len();
        images.push(ImageFile { digest, size_bytes });
    }
    let guest = Guest { spec: workspace.spec.clone(), deployments: workspace.deployments };
    Ok(Portable { manifest, guest, files: bundle.files.clone(), images })
}

/// Writes the file and syncs it; its length.
fn export(
    library: &Library,
    id: BundleId,
    portable: &Portable,
    mut file: File,
    watch: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
) -> Result<u64> {
    let unwritable = |error: std::io::Error| {
        Error::invalid("the file to export to", format!("cannot be written: {error}"), "open an empty regular file for writing")
    };
    file.set_len(0).and_then(|()| file.rewind()).map_err(unwritable)?;
    let streams = library.bundle_files(id, &portable.files)?;
    let mut writer = Writer::begin(BufWriter::with_capacity(1 << 20, file), portable, &Limits::default())?;
    for mut stream in streams {
        writer.content(&mut stream, &mut *watch)?;
    }
    for image in &portable.images {
        writer.content(&mut library.blob(&image.digest)?, &mut *watch)?;
    }
    let file = writer.finish()?.into_inner().map_err(|error| unwritable(error.into_error()))?;
    file.sync_all().map_err(unwritable)?;
    Ok(file.metadata().map_err(unwritable)?.len())
}

/// A file that was begun must not be taken for a bundle.
async fn void(run: &Run) -> std::result::Result<Effect, StepError> {
    let files = run.operate.handed_to(run.job.id)?;
    blocking(move || files.iter().try_for_each(|file| file.set_len(0)).map_err(io("empty it"))).await?;
    Ok(nothing())
}

async fn discard(run: &Run) -> std::result::Result<Effect, StepError> {
    let args: ExportBundleArgs = run.args()?;
    let id = BundleId::parse(&args.bundle)?;
    let library = Arc::clone(&run.operate.library);
    blocking(move || library.bundle_remove(id)).await?;
    Ok(nothing())
}

async fn verify(run: &Run) -> std::result::Result<Effect, StepError> {
    let args: VerifyBundleArgs = run.args()?;
    let bundle = bundle_of(run, &args.bundle)?;
    let library = Arc::clone(&run.operate.library);
    let mut watch = watch(run);
    let count = blocking(move || {
        library.bundle_open(bundle.id, &bundle.files, &mut watch)?;
        let manifest = vws_bundle::parse(&bundle.manifest)?;
        let digests = manifest.image_digests();
        digests.iter().try_for_each(|digest| library.verify(digest, &mut watch))?;
        Ok(bundle.files.len() + digests.len())
    })
    .await?;
    Ok(Box::new(move |edit| {
        edit.job.message = format!("every byte of {count} files is what its digest says");
        Ok(())
    }))
}

/// What a bundle's arrival must not collide with. Asked at admission, and again in the transaction that makes the records.
///
/// # Errors
/// Conflict for a bundle or workspace that lives here, or a MAC address that is in use; `AlreadyExists` for a name.
pub fn landing(site: &Site, manifest: &Manifest, owner: u32, name: &str) -> Result<()> {
    let object = format!("bundle {}", manifest.bundle);
    if site.bundle(manifest.bundle).is_some() {
        return Err(known(manifest.bundle));
    }
    if let Some(live) = site.workspace(manifest.workspace) {
        return Err(Error::new(
            ErrorKind::Conflict,
            object,
            format!("is {}, which is here and {}", live.object(), live.state.name()),
            "a workspace has one life: destroy the one here first, if that is meant",
        )
        .with_code("workspace-lives"));
    }
    if let Some(taken) = site.workspaces_of(owner).find(|workspace| workspace.spec.name == name) {
        return Err(Error::new(
            ErrorKind::AlreadyExists,
            format!("workspace `{}`", vws_domain::shown(name)),
            format!("its owner has one of this name already, {}", taken.state.name()),
            "import it under another name",
        ));
    }
    // A guest keeps the address that it has in its memory, so another one cannot be given.
    for workspace in site.workspaces() {
        let same = |mac: &str| manifest.nics.iter().any(|nic| nic.mac.eq_ignore_ascii_case(mac));
        if let Some(nic) = workspace.spec.nics.iter().find(|nic| !nic.mac.is_empty() && same(&nic.mac)) {
            return Err(Error::new(
                ErrorKind::Conflict,
                object,
                format!("has the MAC address {}, which {} has here", nic.mac, workspace.object()),
                "a running guest cannot be given another: destroy that workspace first, or import the bundle elsewhere",
            )
            .with_code("mac-in-use"));
        }
    }
    Ok(())
}

/// The addresses of the site's networks that the guest has in its memory, to be held for it as for any serialized workspace.
///
/// # Errors
/// NotFound: there is no network of that name; InvalidArgument, InvalidState, Conflict: it does not give out that address, or not now.
pub fn addresses_of(site: &Site, manifest: &Manifest, owner: u32, name: &str, now: Timestamp) -> Result<Vec<Arc<Address>>> {
    // Who imports is an administrator, who may be told whose an address is.
    let caller = Caller::system("import");
    let whom = Asker { caller: &caller, workspace: manifest.workspace, name, owner, now };
    let mut allotment = Allotment::new(site);
    let mut held = Vec::new();
    for (index, nic) in manifest.nics.iter().enumerate() {
        let Some(address) = nic.address else { continue };
        let pairs = allotment.nics(&whom, &mut [nic.clone()]).map_err(|error| Error {
            fact: format!(
                "cannot be that of a NIC of bundle {}, which has the address {address}: {}",
                manifest.bundle, error.fact
            ),
            remedy: "a guest keeps the address that it has in its memory: see that a network of this name gives it out and that \
                     nobody has it, or import the bundle elsewhere"
                .to_owned(),
            ..error
        })?;
        let nic = u32::try_from(index).unwrap_or(u32::MAX);
        held.extend(pairs.iter().map(|pair| Arc::new(Address { nic, ..pair.as_ref().clone() })));
    }
    Ok(held)
}

/// The refusal of a second life.
#[must_use]
pub fn known(id: BundleId) -> Error {
    Error::new(
        ErrorKind::Conflict,
        format!("bundle {id}"),
        "lives here, or has lived here: a bundle has one life",
        "`vws bundle list` shows what is here; import it at a site that never had it",
    )
    .with_code("bundle-known")
}

/// What was brought into the library.
struct Received {
    portable: Portable,
    files: Vec<BundleFile>,
    /// Size as guests see it in MiB, of each disk's image.
    sizes: Vec<u64>,
}

async fn receive(run: &Run) -> std::result::Result<Effect, StepError> {
    let args: ImportBundleArgs = run.args()?;
    let id = BundleId::parse(&args.bundle)?;
    if run.operate.core.read(|site| site.bundle(id).is_some()) {
        // A repeat after a crash that came when the records were on disk.
        return Ok(nothing());
    }
    let file = handed(run)?;
    let library = Arc::clone(&run.operate.library);
    let mut watch = watch(run);
    let (imported, arrives) = std::sync::mpsc::channel();
    let received = blocking(move || bring(&library, id, file, &imported, &mut watch)).await;
    // Also those of an import that failed: what no catalogue entry protects goes with the job.
    for blob in arrives {
        run.operate.keep(run.job.id, blob);
    }
    let Received { portable, files, sizes } = received?;
    let manifest = vws_bundle::to_json(&portable.manifest)?.to_string();
    // Here and not as the step's effect: what came in between may refuse it, and then the import is taken back.
    run.operate.edit(run.job.id, move |edit| record(edit, &args, &portable, manifest, files, &sizes)).await?;
    Ok(nothing())
}

/// Everything in the file into the library, each byte checked. Images that arrived are told through `imported`; of the bundle itself
/// nothing is left when it fails.
fn bring(
    library: &Library,
    id: BundleId,
    mut file: File,
    imported: &std::sync::mpsc::Sender<vws_library::Imported>,
    watch: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
) -> Result<Received> {
    let length = file.metadata().map_err(io("look at it"))?.len();
    library.room_for("the bundle", length)?;
    file.rewind().map_err(io("rewind"))?;
    let mut reader = Reader::open(BufReader::with_capacity(1 << 20, file), &Limits::default())?;
    let portable = reader.portable().clone();
    if portable.manifest.bundle != id {
        return Err(Error::new(
            ErrorKind::Conflict,
            "the file",
            "changed while it was imported",
            "leave it alone until the job has ended",
        ));
    }
    library.bundle_discard(id)?;
    library.bundle_remove(id)?;
    let writer = library.bundle_begin(id)?;
    let total = portable.total_bytes();
    let mut before = 0_u64;
    while let Some(mut content) = reader.next_content() {
        let entry = content.entry().clone();
        let mut told = |done: u64, _| watch(before.saturating_add(done), total);
        match &entry.stream {
            Some(name) => {
                let stream = writer.fill(name, &mut content, entry.size_bytes, &mut told, vws_bundle::error_of)?;
                if let Some(disk) = portable.manifest.disks.iter().find(|disk| disk.name == *name) {
                    let facts = inspect_overlay(&stream, disk.format, disk.image.as_ref().map(|image| image.digest.as_str()));
                    let facts = facts.map_err(|error| about(error, &format!("disk `{name}` of bundle {id}")))?;
                    let most = disk.size_mib;
                    if let Some(facts) = facts.filter(|facts| most > 0 && facts.virtual_size_mib > most) {
                        return Err(too_large(id, name, facts.virtual_size_mib, most));
                    }
                }
            }
            None => {
                let blob = library.import_reader(
                    &entry.object(),
                    &mut content,
                    &entry.digest,
                    entry.size_bytes,
                    &mut told,
                    vws_bundle::error_of,
                )?;
                imported.send(blob).map_err(|error| Error::internal("an import", error.to_string()))?;
            }
        }
        before = before.saturating_add(entry.size_bytes);
    }
    reader.finish()?;
    let sizes = images_fit(library, id, &portable, &writer)?;
    let files = writer.finish(vws_bundle::to_json(&portable.manifest)?)?;
    if files.iter().any(|file| !portable.files.contains(file)) || files.len() != portable.files.len() {
        library.bundle_remove(id)?;
        return Err(Error::internal(format!("bundle {id}"), "what was written is not what was read"));
    }
    Ok(Received { portable, files, sizes })
}

/// Looks at the image that each disk lies on. A disk without a size of its own is as large as its image, and not larger.
fn images_fit(library: &Library, id: BundleId, portable: &Portable, writer: &vws_library::BundleWriter) -> Result<Vec<u64>> {
    let mut sizes = Vec::new();
    for disk in &portable.manifest.disks {
        let Some(image) = &disk.image else {
            sizes.push(0);
            continue;
        };
        let facts = library.inspect_disk(&image.digest, image.format)?;
        if disk.size_mib == 0 {
            let stream = writer.reopen(&disk.name)?;
            let own = inspect_overlay(&stream, disk.format, Some(&image.digest))?;
            if let Some(own) = own.filter(|own| own.virtual_size_mib > facts.virtual_size_mib) {
                return Err(too_large(id, &disk.name, own.virtual_size_mib, facts.virtual_size_mib));
            }
        }
        sizes.push(facts.virtual_size_mib);
    }
    Ok(sizes)
}

fn too_large(id: BundleId, disk: &str, mib: u64, most: u64) -> Error {
    Error::new(
        ErrorKind::Damaged,
        format!("disk `{disk}` of bundle {id}"),
        format!("is {mib} MiB large, the manifest says {most}"),
        "get the bundle again from where it was made",
    )
}

fn about(mut error: Error, object: &str) -> Error {
    object.clone_into(&mut error.object);
    error
}

/// The workspace, its bundle and the images that it needs, if nothing collides.
fn record(
    edit: &mut super::engine::Edit<'_, '_>,
    args: &ImportBundleArgs,
    portable: &Portable,
    manifest: String,
    files: Vec<BundleFile>,
    sizes: &[u64],
) -> Result<()> {
    let tx = &mut *edit.tx;
    let it = &portable.manifest;
    landing(tx.site, it, args.owner, &args.name)?;
    let addresses = addresses_of(tx.site, it, args.owner, &args.name, tx.now)?;
    let mut images: Vec<Option<ImageId>> = Vec::new();
    let mut spec = portable.spec()?;
    spec.name.clone_from(&args.name);
    let mut made: Vec<Arc<Image>> = Vec::new();
    let mut root_mib = 0;
    let kernel_alone = it.disks.first().is_none_or(|disk| disk.name != "disk-0" || disk.image.is_none());
    if kernel_alone {
        let image = image_for(tx, &mut made, args, portable, None, 0);
        spec.image = ImageRef::Name(image.name.clone());
        images.push(Some(image.id));
    }
    for (disk, mib) in it.disks.iter().zip(sizes) {
        let root = disk.name == "disk-0";
        if root && kernel_alone {
            continue;
        }
        let image = disk.image.as_ref().map(|_| image_for(tx, &mut made, args, portable, Some(disk), *mib));
        if root {
            root_mib = *mib;
            if let Some(image) = &image {
                spec.image = ImageRef::Name(image.name.clone());
            }
        } else if let Some(data) = spec.data_disks.get_mut(images.len().saturating_sub(1)) {
            let source = image.as_ref().map_or(DiskSource::Empty, |image| DiskSource::Image(ImageRef::Name(image.name.clone())));
            let size_gib = if data.size_gib == 0 { mib.div_ceil(1024) } else { data.size_gib };
            *data = DataDisk { source, size_gib, limits: data.limits };
        }
        images.push(image.map(|image| image.id));
    }
    for image in made {
        tx.event("image.ready", About::image(image.id), image.owner, format!("image `{}` came with a bundle", image.name));
        tx.put(Change::PutImage(image));
    }
    tx.put(Change::PutBundle(Arc::new(Bundle {
        id: it.bundle,
        workspace: it.workspace,
        backend: it.backend.clone(),
        manifest,
        files,
        created_at: tx.now,
        consumed_at: None,
    })));
    let now = tx.now;
    let workspace = Workspace {
        id: it.workspace,
        owner: args.owner,
        owner_name: args.owner_name.clone(),
        group: args.group.clone(),
        images,
        resources: spec.resources(root_mib),
        state: State::Serialized,
        target: Target::Serialized,
        cause: Cause {
            code: "imported".to_owned(),
            text: format!("imported from a file by {}: bundle {}", edit.job.actor, it.bundle),
        },
        host: None,
        also_on: None,
        job: None,
        // It had one where it was; it gets another when it is resumed.
        lease: Lease { from: now, until: None, action: spec.end_action, grace_seconds: 0, deferred_until: None, ended: true },
        spec,
        bundle: Some(it.bundle),
        snapshots: Vec::new(),
        cpu: String::new(),
        plugin_state: String::new(),
        deployments: portable.guest.deployments,
        version: 1,
        created_at: now,
        changed_at: now,
    };
    edit.job.message = format!("workspace `{}`, bundle {}", args.name, it.bundle);
    change::create_workspace(tx, workspace, addresses);
    Ok(())
}

/// The catalogue's image for a disk (`None`: for a kernel without one): one that is there and the same, or a new, private one.
fn image_for(
    tx: &Tx<'_>,
    made: &mut Vec<Arc<Image>>,
    args: &ImportBundleArgs,
    portable: &Portable,
    disk: Option<&vws_domain::BundleDisk>,
    mib: u64,
) -> Arc<Image> {
    let it = &portable.manifest;
    let base = disk.and_then(|disk| disk.image.as_ref());
    let digest = base.map(|image| image.digest.clone()).unwrap_or_default();
    let format = base.map_or(vws_domain::DiskFormat::Raw, |image| image.format);
    let root = disk.is_none_or(|disk| disk.name == "disk-0");
    let same = |image: &Image| {
        image.state == ImageState::Ready
            && image.digest == digest
            && (digest.is_empty() || image.format == format)
            && (!root || image.boot == it.boot)
    };
    if let Some(known) = tx.site.images().chain(made.iter()).find(|image| same(image)) {
        return Arc::clone(known);
    }
    let id = ImageId(tx.id());
    let short = id.to_string();
    let size_bytes = portable.images.iter().find(|image| image.digest == digest).map_or(0, |image| image.size_bytes);
    let image = Arc::new(Image {
        id,
        name: format!("{}-{}", args.name, short.get(20..).unwrap_or(&short)),
        digest,
        format,
        size_bytes,
        virtual_size_mib: mib,
        boot: if root { it.boot.clone() } else { Boot::Disk(Firmware::Bios) },
        owner: args.owner,
        visibility: Visibility::Private,
        state: ImageState::Ready,
        source: format!("bundle {}", it.bundle),
        created_at: tx.now,
    });
    made.push(Arc::clone(&image));
    image
}

/// Nothing of the import stays, unless its records were made.
async fn forget(run: &Run) -> std::result::Result<Effect, StepError> {
    let args: ImportBundleArgs = run.args()?;
    let id = BundleId::parse(&args.bundle)?;
    if run.operate.core.read(|site| site.bundle(id).is_some()) {
        return Ok(nothing());
    }
    let library = Arc::clone(&run.operate.library);
    blocking(move || {
        library.bundle_discard(id)?;
        library.bundle_remove(id)
    })
    .await?;
    // After a restart nobody else knows of images that had arrived.
    run.operate.remove_unused(args.images).await?;
    Ok(nothing())
}
