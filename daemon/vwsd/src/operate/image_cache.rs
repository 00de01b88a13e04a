//! The cache of images on each host: bringing what a workspace needs, one transfer an image and host, and making room below the
//! host's `image-cache-gib`. What is in use and when it last was is derived from the ledger; nothing is counted or noted.
//!
//! Whoever removes has the cache alone, and so does every transfer on a host with a limit. What is about to be used is never removed,
//! because its workspace holds a reservation on the host before it looks; and two transfers cannot both take the last room.

use super::Operate;
use super::document;
use super::engine::{Run, StepError};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use tokio::sync::{RwLockReadGuard, RwLockWriteGuard};
use vws_domain::{CachedImage, Error, ErrorKind, Host, HostName, Result, Timestamp, Workspace, evicted};
use vws_plugin_api::doc;

/// Bytes of a GiB.
const GIB: u64 = 1 << 30;

/// Held while a host's cache is used: alone by whom removes, together by whom only adds.
#[expect(dead_code, reason = "a guard is held, not looked at")]
enum Turns<'a> {
    Alone(RwLockWriteGuard<'a, ()>),
    Together(RwLockReadGuard<'a, ()>),
}

/// Brings every image that the workspace needs to the host.
pub async fn put_images(run: &Run, host: &HostName, workspace: &Workspace) -> std::result::Result<(), StepError> {
    let digests = run.operate.core.read(|site| document::digests(site, workspace))?;
    if digests.is_empty() {
        return Ok(());
    }
    let limit_bytes = run.operate.cache_limit(host)?;
    let standing = run.operate.standing(host);
    let _turn = match limit_bytes {
        Some(_) => Turns::Alone(standing.images.write().await),
        None => Turns::Together(standing.images.read().await),
    };
    for digest in missing(run, host, digests).await? {
        let turn = run.operate.staging_of(host, &digest);
        let _turn = turn.lock().await;
        // Whoever had the turn before has brought it.
        if missing(run, host, vec![digest.clone()]).await?.is_empty() {
            continue;
        }
        let file = run.operate.library.blob(&digest)?;
        let size_bytes = file.metadata().map_err(|error| Error::internal(format!("blob {digest}"), error.to_string()))?.len();
        if let Some(limit_bytes) = limit_bytes {
            make_room(run, host, &digest, size_bytes, limit_bytes).await?;
        }
        let put = doc::ImagePut { host: host.to_string(), digest, size_bytes };
        let long = run.operate.limits.long_deadline;
        let (_, _): (serde_json::Value, _) =
            run.call(host, doc::methods::IMAGE_PUT, &put, long, vec![OwnedFd::from(file)]).await?;
    }
    Ok(())
}

async fn missing(run: &Run, host: &HostName, digests: Vec<String>) -> std::result::Result<Vec<String>, StepError> {
    let ask = doc::ImagesPresent { host: host.to_string(), digests };
    let quick = run.operate.limits.call_deadline;
    let (answer, _): (doc::ImagesMissing, _) = run.call(host, doc::methods::IMAGE_PRESENT, &ask, quick, Vec::new()).await?;
    Ok(answer.missing)
}

async fn make_room(
    run: &Run,
    host: &HostName,
    digest: &str,
    size_bytes: u64,
    limit_bytes: u64,
) -> std::result::Result<(), StepError> {
    let quick = run.operate.limits.call_deadline;
    let ask = doc::HostRef { host: host.to_string() };
    let (listing, _): (doc::ImageListing, _) = run.call(host, doc::methods::IMAGE_LIST, &ask, quick, Vec::new()).await?;
    let cached = run.operate.cached(host, listing).await?;
    let gone = evicted(&cached, size_bytes, limit_bytes).map_err(|over| {
        Error::new(
            ErrorKind::NoHost,
            format!("image {digest}"),
            format!(
                "does not fit into the image cache of host `{host}`: {} MiB too many for its limit of {} GiB, with every image removed \
                 that no workspace there uses",
                over.div_ceil(1 << 20),
                limit_bytes / GIB
            ),
            format!("an administrator raises `image-cache-gib` of host `{host}`; or launch on another host"),
        )
        .with_code("image-cache-full")
    })?;
    for image in gone {
        let ask = doc::ImageRemove { host: host.to_string(), digest: image.digest.clone() };
        let (_, _): (serde_json::Value, _) = run.call(host, doc::methods::IMAGE_REMOVE, &ask, quick, Vec::new()).await?;
        tracing::info!(%host, digest = image.digest, size_bytes = image.size_bytes, "an image left a host's cache to make room");
    }
    Ok(())
}

impl Operate {
    /// The limit of the host's cache in bytes; `None` without one.
    fn cache_limit(&self, host: &HostName) -> Result<Option<u64>> {
        let limit_gib = self.core.read(|site| site.host(host).map(|host| host.image_cache_gib));
        let limit_gib = limit_gib.ok_or_else(|| Error::not_found(format!("host `{host}`")))?;
        Ok((limit_gib > 0).then(|| limit_gib.saturating_mul(GIB)))
    }

    /// What a backend lists, with its use as the ledger knows it.
    async fn cached(&self, host: &HostName, listing: doc::ImageListing) -> Result<Vec<CachedImage>> {
        let (store, of) = (Arc::clone(&self.store), host.clone());
        let used = super::image::blocking(move || store.reader()?.image_use(&of)).await?;
        let now = self.env.now();
        Ok(self.core.read(|site| {
            let mut last = BTreeMap::<String, Timestamp>::new();
            for (images, at) in &used {
                for digest in images.iter().filter_map(|id| site.image(*id)).flat_map(|image| image.digests()) {
                    let at = at.unwrap_or(now);
                    last.entry(digest.to_owned()).and_modify(|known| *known = at.max(*known)).or_insert(at);
                }
            }
            let mut workspaces = BTreeMap::<String, u64>::new();
            for workspace in site.reservations_on(host).filter_map(|held| site.workspace(held.workspace)) {
                for digest in document::digests(site, workspace).unwrap_or_default() {
                    *workspaces.entry(digest).or_default() += 1;
                }
            }
            let known = |image: doc::ImageOnHost| CachedImage {
                workspaces: workspaces.get(&image.digest).copied().unwrap_or(0),
                last_used: last.get(&image.digest).copied().unwrap_or_default(),
                digest: image.digest,
                size_bytes: image.size_bytes,
            };
            listing.images.into_iter().map(known).collect()
        }))
    }

    /// The images on a host, by digest.
    ///
    /// # Errors
    /// NotFound; what the backend answers.
    pub async fn images_on(&self, host: &Host) -> Result<Vec<CachedImage>> {
        self.open_host(&host.name).await?;
        let ask = doc::HostRef { host: host.name.to_string() };
        let id = format!("images/{}", host.name);
        let (listing, _): (doc::ImageListing, _) = self
            .backends
            .call(host.name.as_str(), doc::methods::IMAGE_LIST, &id, &ask, self.limits.call_deadline, Vec::new())
            .await?;
        let mut images = self.cached(&host.name, listing).await?;
        images.sort_by(|one, two| one.digest.cmp(&two.digest));
        Ok(images)
    }

    /// Removes an image from a host's cache.
    ///
    /// # Errors
    /// NotFound: it is not there. InvalidState: a workspace on the host uses it. What the backend answers.
    pub async fn remove_image_from(&self, host: &Host, digest: &str) -> Result<()> {
        let standing = self.standing(&host.name);
        let _turn = standing.images.write().await;
        let images = self.images_on(host).await?;
        let object = format!("image {} on host `{}`", vws_domain::shown(digest), host.name);
        let Some(image) = images.iter().find(|image| image.digest == digest) else {
            let remedy = format!("`vws host images {}` shows what is there", host.name);
            return Err(Error::new(ErrorKind::NotFound, object, "not found", remedy));
        };
        if image.workspaces > 0 {
            let fact = format!("{} workspaces there use it", image.workspaces);
            return Err(Error::new(ErrorKind::InvalidState, object, fact, "destroy, serialize or move them first"));
        }
        let ask = doc::ImageRemove { host: host.name.to_string(), digest: digest.to_owned() };
        let id = format!("remove-image/{}/{digest}", host.name);
        let quick = self.limits.call_deadline;
        let (_, _): (serde_json::Value, _) =
            self.backends.call(host.name.as_str(), doc::methods::IMAGE_REMOVE, &id, &ask, quick, Vec::new()).await?;
        Ok(())
    }
}
