//! Images: import, verify, and saving a workspace's root disk as a new one.

use super::Operate;
use super::args::{ImportArgs, Source};
use super::document;
use super::engine::{Effect, Run, Step, StepError, Undo, nothing};
use std::fs::File;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::sync::{Arc, PoisonError};
use vws_domain::{Boot, Change, DiskFormat, Error, ErrorKind, Image, ImageId, ImageState, JobId, Result};
use vws_library::{Blob, Imported, Library};
use vws_plugin_api::doc;

/// Import.
pub static IMPORT: &[Step] =
    &[Step { name: "fetch", run: |run| Box::pin(import(run)), undo: Undo::By(|run| Box::pin(forget(run))) }];
/// Verify.
pub static VERIFY: &[Step] =
    &[Step { name: "verify", run: |run| Box::pin(verify(run)), undo: Undo::Nothing("looking changes nothing") }];
/// Save the root disk.
pub static SAVE: &[Step] = &[Step { name: "copy", run: |run| Box::pin(save(run)), undo: Undo::By(|run| Box::pin(forget(run))) }];

/// Runs work that blocks on a thread of its own kind.
///
/// # Errors
/// What the work answers.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Error::internal("a blocking task", error.to_string()))?
}

impl Operate {
    /// Keeps the bytes from being removed as orphans until the job has ended.
    pub(super) fn keep(&self, job: JobId, imported: Imported) -> Blob {
        let blob = Blob::clone(&imported);
        self.imported.lock().unwrap_or_else(PoisonError::into_inner).entry(job).or_default().push(imported);
        blob
    }

    /// After the end of a job: what it imported is protected by the catalogue alone from now on; what is not in it goes.
    pub(super) async fn let_go(&self, job: JobId) {
        let imported = self.imported.lock().unwrap_or_else(PoisonError::into_inner).remove(&job).unwrap_or_default();
        let digests: Vec<String> = imported.iter().map(|imported| imported.digest.clone()).collect();
        drop(imported);
        if let Err(error) = self.remove_unused(digests).await {
            tracing::warn!(%job, %error, detail = %error.detail, "bytes of an import that failed could not be removed");
        }
    }

    /// Removes bytes from the library unless an image, or an import at work, has them. Call it when the change that made them
    /// orphans is on disk.
    ///
    /// # Errors
    /// Internal: the library cannot be written.
    pub async fn remove_unused(&self, digests: Vec<String>) -> Result<()> {
        if digests.is_empty() {
            return Ok(());
        }
        let (core, library) = (Arc::clone(&self.core), Arc::clone(&self.library));
        blocking(move || {
            digests.iter().try_for_each(|digest| {
                let used = || core.read(|site| site.images().any(|image| image.digests().any(|other| other == digest)));
                library.remove_unless(digest, used).map(drop)
            })
        })
        .await
    }
}

async fn import(run: &Run) -> std::result::Result<Effect, StepError> {
    let args: ImportArgs = run.args()?;
    let image = fetch(run, &args).await?;
    Ok(Box::new(move |edit| {
        edit.job.message = format!("sha256 {}", image.digest);
        edit.tx.event(
            "image.ready",
            crate::core::About::image(image.id),
            image.owner,
            format!("image `{}` is ready", image.name),
        );
        edit.tx.put(Change::PutImage(Arc::new(image)));
        Ok(())
    }))
}

/// The catalogue entry of an import that failed goes; its bytes go when the job has ended ([`Operate::let_go`]).
async fn forget(run: &Run) -> std::result::Result<Effect, StepError> {
    let Some(id) = run.job.image else { return Ok(nothing()) };
    Ok(Box::new(move |edit| {
        if let Some(image) = edit.tx.site.image(id).filter(|image| image.state == ImageState::Importing).cloned() {
            let text = format!("image `{}` was not imported", image.name);
            edit.tx.event("image.removed", crate::core::About::image(id), image.owner, text);
            edit.tx.put(Change::RemoveImage(id));
        }
        Ok(())
    }))
}

/// Brings an image's bytes into the library, looks at them, and answers the finished catalogue entry.
pub async fn fetch(run: &Run, args: &ImportArgs) -> std::result::Result<Image, StepError> {
    let id = ImageId::parse(&args.image)?;
    let entry = run.operate.core.read(|site| site.image(id).cloned());
    let mut image = entry.map(|image| image.as_ref().clone()).ok_or_else(|| Error::not_found(format!("image {id}")))?;
    if image.state == ImageState::Ready {
        // A repeat after a crash.
        return Ok(image);
    }
    if let Some(source) = &args.disk {
        let blob = bring(run, source, args.digest.clone()).await?;
        let library = Arc::clone(&run.operate.library);
        let (digest, format) = (blob.digest.clone(), image.format);
        let facts = blocking(move || library.inspect_disk(&digest, format)).await.map_err(|error| named(error, &image.name))?;
        if args.most_mib.is_some_and(|most| facts.virtual_size_mib > most) {
            return Err(Error::invalid(
                format!("image `{}`", image.name),
                format!("is {} MiB large, {} MiB were reserved for its disk", facts.virtual_size_mib, args.most_mib.unwrap_or(0)),
                "ask for a larger disk-gib",
            )
            .into());
        }
        image.digest = blob.digest;
        image.size_bytes = blob.size_bytes;
        image.virtual_size_mib = facts.virtual_size_mib;
    }
    if let Boot::Kernel { kernel, initrd, .. } = &mut image.boot {
        if let Some(source) = &args.kernel {
            let blob = bring(run, source, None).await?;
            let library = Arc::clone(&run.operate.library);
            let digest = blob.digest.clone();
            blocking(move || library.inspect_kernel(&digest)).await.map_err(|error| named(error, &image.name))?;
            *kernel = blob.digest;
        }
        if let Some(source) = &args.initrd {
            *initrd = bring(run, source, None).await?.digest;
        }
    }
    image.state = ImageState::Ready;
    Ok(image)
}

/// The same error, about the image as the user named it.
fn named(mut error: Error, name: &str) -> Error {
    error.object = format!("image `{name}`");
    error
}

/// Brings bytes into the library. They are the job's until it has ended: only then do the catalogue's entries protect them.
async fn bring(run: &Run, source: &Source, expect: Option<String>) -> std::result::Result<Blob, StepError> {
    let library = Arc::clone(&run.operate.library);
    let flag = run.cancel_flag();
    let reports = run.operate.progress.clone();
    let job = run.job.id;
    let mut watch = move |done, total| {
        let _ = reports.send(super::engine::Report { job, done, total });
        if *flag.borrow() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let fetched = match source.clone() {
        Source::Url { url, digest } => blocking(move || library.import_url(&url, &digest, &mut watch)).await,
        Source::Path { path } => {
            blocking(move || {
                let file = open_path(&path)?;
                library.import_file(file, expect.as_deref(), &mut watch)
            })
            .await
        }
        Source::Handed { index } => {
            let file = {
                let handed = run.operate.handed.lock().unwrap_or_else(PoisonError::into_inner);
                handed.get(&run.job.id).and_then(|files| files.get(index)).and_then(|file| file.try_clone().ok())
            };
            let file = file.ok_or_else(|| {
                Error::new(
                    ErrorKind::Cancelled,
                    "an import",
                    "the daemon restarted, and the file that the client had handed over is gone",
                    "import it again",
                )
            })?;
            blocking(move || library.import_file(file, expect.as_deref(), &mut watch)).await
        }
    };
    Ok(run.operate.keep(run.job.id, fetched?))
}

/// Opens a file of the daemon's machine for import.
///
/// # Errors
/// NotFound, or InvalidArgument for what is no regular file.
pub fn open_path(path: &str) -> Result<File> {
    let object = || format!("file `{}`", vws_domain::shown(path));
    let file = File::open(path).map_err(|error| {
        Error::new(
            ErrorKind::NotFound,
            object(),
            format!("cannot be opened: {error}"),
            "give the path of a file that the daemon can read",
        )
    })?;
    let regular = file.metadata().is_ok_and(|metadata| metadata.is_file());
    if regular { Ok(file) } else { Err(Error::invalid(object(), "is not a regular file", "give the path of an image file")) }
}

async fn verify(run: &Run) -> std::result::Result<Effect, StepError> {
    let id = run.job.image.ok_or_else(|| Error::internal("a verify job", "has no image"))?;
    let image = run.operate.core.read(|site| site.image(id).cloned()).ok_or_else(|| Error::not_found(format!("image {id}")))?;
    let digests: Vec<String> = image.digests().map(str::to_owned).collect();
    let library = Arc::clone(&run.operate.library);
    let flag = run.cancel_flag();
    let reports = run.operate.progress.clone();
    let job = run.job.id;
    let checked = blocking(move || {
        check(&library, &digests, &mut |done, total| {
            let _ = reports.send(super::engine::Report { job, done, total });
            if *flag.borrow() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
    })
    .await;
    match checked {
        Ok(()) => Ok(Box::new(move |edit| {
            edit.job.message = "every byte is what its digest says".to_owned();
            set_state(edit, id, ImageState::Ready)
        })),
        Err(error) if error.kind == ErrorKind::Damaged => {
            // The damage is recorded first: an image that is known to be damaged is not used again.
            run.operate.edit(run.job.id, move |edit| set_state(edit, id, ImageState::Damaged)).await?;
            Err(named(error, &image.name).into())
        }
        Err(error) => Err(error.into()),
    }
}

fn check(library: &Library, digests: &[String], watch: &mut dyn FnMut(u64, u64) -> ControlFlow<()>) -> Result<()> {
    digests.iter().try_for_each(|digest| library.verify(digest, watch))
}

fn set_state(edit: &mut super::engine::Edit<'_, '_>, id: ImageId, state: ImageState) -> Result<()> {
    if let Some(image) = edit.tx.site.image(id).filter(|image| image.state != state) {
        let mut image = image.as_ref().clone();
        image.state = state;
        let word = if state == ImageState::Ready { "ready" } else { "damaged" };
        edit.tx.event("image.state", crate::core::About::image(id), image.owner, format!("image `{}` is {word}", image.name));
        edit.tx.put(Change::PutImage(Arc::new(image)));
    }
    Ok(())
}

async fn save(run: &Run) -> std::result::Result<Effect, StepError> {
    let host = run.host()?;
    let workspace = run.workspace()?;
    let id = run.job.image.ok_or_else(|| Error::internal("a save-image job", "has no image"))?;
    let library = Arc::clone(&run.operate.library);
    let (file, back) = blocking(move || {
        let file = library.scratch_file()?;
        let back = file.try_clone().map_err(|error| Error::internal("a scratch file", error.to_string()))?;
        Ok((file, back))
    })
    .await?;
    let ask = document::reference(&host, workspace);
    let (saved, _): (doc::SavedDisk, _) =
        run.call(&host, doc::methods::SAVE_DISK, &ask, run.operate.limits.long_deadline, vec![OwnedFd::from(file)]).await?;
    let format = match saved.format.as_str() {
        "qcow2" => DiskFormat::Qcow2,
        "raw" => DiskFormat::Raw,
        other => {
            return Err(Error::new(
                ErrorKind::BackendFailure,
                "the saved disk",
                format!("has the unknown format `{other}`"),
                "report it to the plugin's vendor",
            )
            .into());
        }
    };
    let library = Arc::clone(&run.operate.library);
    let (blob, facts) = blocking(move || {
        use std::io::Seek;
        let mut back = back;
        back.rewind().map_err(|error| Error::internal("a scratch file", error.to_string()))?;
        let blob = library.import_file(back, None, &mut |_, _| ControlFlow::Continue(()))?;
        let facts = library.inspect_disk(&blob.digest, format)?;
        Ok((blob, facts))
    })
    .await?;
    let blob = run.operate.keep(run.job.id, blob);
    Ok(Box::new(move |edit| {
        let Some(image) = edit.tx.site.image(id) else { return Err(Error::not_found(format!("image {id}"))) };
        let mut image = image.as_ref().clone();
        image.digest = blob.digest;
        image.size_bytes = blob.size_bytes;
        image.virtual_size_mib = facts.virtual_size_mib;
        image.format = format;
        image.state = ImageState::Ready;
        edit.job.message = format!("image `{}`, sha256 {}", image.name, image.digest);
        edit.tx.event("image.ready", crate::core::About::image(id), image.owner, format!("image `{}` is ready", image.name));
        edit.tx.put(Change::PutImage(Arc::new(image)));
        Ok(())
    }))
}
