//! The catalogue: import, verify, change, remove.

use super::{ByteSource, CallOptions, ImageChange, ImageImport, Service, answered, digest_of, remember};
use crate::admit::{self, Asked};
use crate::change;
use crate::core::About;
use crate::operate::args::{self, ImportArgs, Source};
use std::fs::File;
use std::sync::Arc;
use vws_domain::{Boot, Caller, Change, Error, ErrorKind, Image, ImageId, ImageState, JobId, JobKind, Result, Site, Verb};

/// Whether the name is free in the catalogue.
pub(super) fn free_name(site: &Site, name: &str) -> Result<()> {
    match site.image_named(name) {
        None => Ok(()),
        Some(_) => Err(Error::new(
            ErrorKind::AlreadyExists,
            format!("image `{}`", vws_domain::shown(name)),
            "the catalogue has one of this name already",
            "choose another name, or remove that one",
        )),
    }
}

/// The image as the caller may see it.
fn seen(site: &Site, caller: &Caller, id: ImageId) -> Result<Arc<Image>> {
    site.image(id)
        .filter(|image| admit::may_use_image(caller, image))
        .cloned()
        .ok_or_else(|| Error::not_found(format!("image {id}")))
}

impl Service {
    /// Imports an image.
    ///
    /// # Errors
    /// InvalidArgument, AlreadyExists, AccessDenied, PolicyFailure, NotFound (path), Conflict.
    pub async fn import_image(&self, caller: &Caller, import: ImageImport, options: CallOptions) -> Result<(ImageId, JobId)> {
        let name = vws_domain::checked_catalogue_name(&import.name, "image")?;
        if import.disk.is_none() && import.kernel.is_none() {
            return Err(Error::invalid(
                format!("image `{name}`"),
                "has neither a disk nor a kernel",
                "give a file, a URL or a kernel",
            ));
        }
        let digest = import.digest.as_deref().map(vws_domain::checked_digest).transpose()?;
        let request = digest_of(&format!(
            "import {name} {digest:?} {:?} {:?} {} {:?}",
            import.format, import.firmware, import.cmdline, import.visibility
        ));
        let mut files = Vec::new();
        let shown = import.disk.as_ref().or(import.kernel.as_ref()).map_or_else(String::new, shown_source);
        let disk = import.disk.map(|source| self.source(source, caller, &mut files)).transpose()?;
        let kernel = import.kernel.map(|source| self.source(source, caller, &mut files)).transpose()?;
        let initrd = import.initrd.map(|source| self.source(source, caller, &mut files)).transpose()?;
        let boot = if kernel.is_some() {
            Boot::Kernel { kernel: String::new(), initrd: String::new(), cmdline: import.cmdline }
        } else {
            Boot::Disk(import.firmware)
        };
        let job = JobId(self.env.id());
        // Before the job can begin: it looks for its files here.
        self.operate.hand_over(job, files);
        let (format, visibility) = (import.format, import.visibility);
        let caller = caller.clone();
        let policies = Arc::clone(&self.policies);
        let done = self
            .core
            .transact(move |tx| {
                if let Some(known) = answered(tx.site, &caller, &options, &request)? {
                    return match (known.image, known.job) {
                        (Some(image), Some(job)) => Ok((image, job)),
                        _ => Err(Error::internal("a request id", "its answer is incomplete")),
                    };
                }
                free_name(tx.site, &name)?;
                let image = Arc::new(Image {
                    id: ImageId(tx.id()),
                    name: name.clone(),
                    digest: String::new(),
                    format,
                    size_bytes: 0,
                    virtual_size_mib: 0,
                    boot,
                    owner: caller.uid,
                    visibility,
                    state: ImageState::Importing,
                    source: shown,
                    created_at: tx.now,
                });
                let request_about = admit::request_named(Verb::ImageImport, &name, vec![Arc::clone(&image)]);
                let asked =
                    Asked { request: request_about, caller: caller.clone(), workspace: None, fresh: None, neighbours: None };
                admit::gate(tx, &policies, asked)?;
                let args = ImportArgs { image: image.id.to_string(), disk, digest, kernel, initrd, most_mib: None };
                let mut record = change::new_job(tx, job, JobKind::ImportImage, &caller, args::write(&args)?);
                record.image = Some(image.id);
                let id = image.id;
                tx.event("image.created", About::image(id), caller.uid, format!("image `{name}` is being imported"));
                tx.put(Change::PutImage(image));
                change::put_job(tx, record);
                remember(tx, &caller, &options, &request, None, Some(job), Some(id));
                Ok((id, job))
            })
            .await;
        if !matches!(&done, Ok((_, accepted)) if *accepted == job) {
            self.operate.drop_handed(job);
        }
        done
    }

    fn source(&self, source: ByteSource, caller: &Caller, files: &mut Vec<File>) -> Result<Source> {
        Ok(match source {
            ByteSource::File(file) => {
                if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
                    return Err(Error::invalid("the file that was handed over", "is not a regular file", "open an image file"));
                }
                files.push(file);
                Source::Handed { index: files.len() - 1 }
            }
            ByteSource::Path(path) => Source::Path { path: self.admission.readable_path(&path, caller)? },
            ByteSource::Url { url, digest } => {
                if !url.starts_with("http://") && !url.starts_with("https://") {
                    return Err(Error::invalid(
                        format!("URL `{}`", vws_domain::shown(&url)),
                        "is not http or https",
                        "give an http(s) URL",
                    ));
                }
                Source::Url { url, digest: vws_domain::checked_digest(&digest)? }
            }
        })
    }

    /// Checks an image's bytes.
    ///
    /// # Errors
    /// NotFound, AccessDenied, PolicyFailure, InvalidState.
    pub async fn verify_image(&self, caller: &Caller, id: ImageId, options: CallOptions) -> Result<JobId> {
        let digest = digest_of(&format!("verify {id}"));
        let caller = caller.clone();
        let policies = Arc::clone(&self.policies);
        self.core
            .transact(move |tx| {
                let image = seen(tx.site, &caller, id)?;
                if let Some(job) = answered(tx.site, &caller, &options, &digest)?.and_then(|known| known.job) {
                    return Ok(job);
                }
                manage(tx, &policies, &caller, &image)?;
                if image.state == ImageState::Importing {
                    return Err(Error::new(
                        ErrorKind::InvalidState,
                        format!("image `{}`", image.name),
                        "is still being imported",
                        "wait for its job",
                    ));
                }
                let job = JobId(tx.id());
                let mut record = change::new_job(tx, job, JobKind::VerifyImage, &caller, "{}".to_owned());
                record.image = Some(id);
                change::put_job(tx, record);
                remember(tx, &caller, &options, &digest, None, Some(job), Some(id));
                Ok(job)
            })
            .await
    }

    /// Changes an image's name or visibility.
    ///
    /// # Errors
    /// NotFound, AccessDenied, PolicyFailure, InvalidArgument, AlreadyExists.
    pub async fn change_image(&self, caller: &Caller, id: ImageId, wanted: ImageChange, options: CallOptions) -> Result<()> {
        let digest = digest_of(&format!("change-image {id} {wanted:?}"));
        let caller = caller.clone();
        let policies = Arc::clone(&self.policies);
        self.core
            .transact(move |tx| {
                let image = seen(tx.site, &caller, id)?;
                if answered(tx.site, &caller, &options, &digest)?.is_some() {
                    return Ok(());
                }
                manage(tx, &policies, &caller, &image)?;
                let mut next = image.as_ref().clone();
                if let Some(name) = wanted.name.filter(|name| *name != next.name) {
                    next.name = vws_domain::checked_catalogue_name(&name, "image")?;
                    free_name(tx.site, &name)?;
                }
                next.visibility = wanted.visibility.unwrap_or(next.visibility);
                if next != *image {
                    tx.event("image.changed", About::image(id), next.owner, format!("image `{}` changed", next.name));
                    tx.put(Change::PutImage(Arc::new(next)));
                }
                remember(tx, &caller, &options, &digest, None, None, Some(id));
                Ok(())
            })
            .await
    }

    /// Removes an image that nothing uses, and its bytes if no other image has them.
    ///
    /// # Errors
    /// NotFound, AccessDenied, PolicyFailure, InvalidState when a workspace uses it or it is being imported.
    pub async fn remove_image(&self, caller: &Caller, id: ImageId, options: CallOptions) -> Result<()> {
        let digest = digest_of(&format!("remove-image {id}"));
        let caller = caller.clone();
        let policies = Arc::clone(&self.policies);
        let orphans = self
            .core
            .transact(move |tx| {
                if answered(tx.site, &caller, &options, &digest)?.is_some() {
                    return Ok(Vec::new());
                }
                let image = seen(tx.site, &caller, id)?;
                manage(tx, &policies, &caller, &image)?;
                let object = format!("image `{}`", image.name);
                if image.state == ImageState::Importing {
                    return Err(Error::new(
                        ErrorKind::InvalidState,
                        object,
                        "is still being imported",
                        "cancel its job: `vws jobs`",
                    ));
                }
                let users = tx.site.workspaces().filter(|workspace| workspace.images.contains(&Some(id))).count();
                if users > 0 {
                    return Err(Error::new(
                        ErrorKind::InvalidState,
                        object,
                        format!("{users} workspaces are made from it"),
                        "destroy them first",
                    ));
                }
                tx.event("image.removed", About::image(id), image.owner, format!("image `{}` was removed", image.name));
                tx.put(Change::RemoveImage(id));
                remember(tx, &caller, &options, &digest, None, None, Some(id));
                Ok(image.digests().map(str::to_owned).collect::<Vec<_>>())
            })
            .await?;
        self.operate.remove_unused(orphans).await
    }
}

fn manage(tx: &mut crate::core::Tx<'_>, policies: &crate::policies::Policies, caller: &Caller, image: &Arc<Image>) -> Result<()> {
    let request = admit::request_named(Verb::ImageManage, &image.name, vec![Arc::clone(image)]);
    let asked = Asked { request, caller: caller.clone(), workspace: None, fresh: None, neighbours: None };
    admit::gate(tx, policies, asked).map(drop)
}

fn shown_source(source: &ByteSource) -> String {
    match source {
        ByteSource::File(_) => "a file of the client's".to_owned(),
        ByteSource::Path(path) => path.clone(),
        ByteSource::Url { url, .. } => vws_library::without_credentials(url),
    }
}
