//! The files of a host, as volumes of one of its libvirt's storage pools: images, disks, seeds, saves and console logs.
//!
//! Owns: every name, and every change of a volume. All of it goes through libvirt, so that the host may be anywhere, and whatever
//! libvirt or QEMU wrote there as another user can be read. Must not know: machines' definitions.
//!
//! | volume | what |
//! |-|-|
//! | `vws-image-<sha256>` | an image; it counts only beside `vws-image-<sha256>.done` |
//! | `vws-image-<sha256>.put` | somebody is sending it |
//! | `vws-<id>-disk-N.qcow2` | a disk |
//! | `vws-<id>-seed.img`, `-console.log`, `-nvram.fd` | seed, console, UEFI variables |
//! | `vws-<id>-memory.save` | a saved machine's memory; complete if it begins with what libvirt writes last |
//! | `vws-storage-<random>` | names the storage itself |
//! | `vws-seen-<host>.json` | what the last probe saw |
//!
//! libvirt reads a pool's folder when it is told to, not when a file appears: volumes are made before QEMU or libvirt writes
//! them, and the pool is read anew only where a volume that has to be there is not known.

use crate::defined::Defined;
use crate::errors;
use crate::host::{Gauge, lock};
use crate::qcow2::{self, Header};
use crate::readback::Element;
use crate::settings::Settings;
use crate::stream::{self, Source};
use crate::xml::Tree;
use std::collections::HashMap;
use std::io::Read;
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use virt::connect::Connect;
use virt::error::{Error, ErrorNumber};
use virt::storage_pool::StoragePool;
use virt::storage_vol::StorageVol;
use virt_sys as sys;
use vws_plugin_api::doc::{DiskDoc, DiskSourceDoc, Failure, ImageOnHost, LogDoc, Retry, codes};
use vws_plugin_api::sdk::Outcome;

/// What libvirt writes in front of a memory file when the save is complete, and nothing else does.
pub const SAVED_MAGIC: &[u8; 16] = b"LibvirtQemudSave";
/// An image that somebody else sends and that has not grown for so long is sent by us.
const STALE: Duration = Duration::from_secs(10);
/// How often an image that somebody else sends is looked at.
const GLANCE: Duration = Duration::from_millis(100);
/// How long a pool that is busy is asked again before that is a failure.
const BUSY: Duration = Duration::from_secs(10);
/// A console log is looked for under its rotated names at most so often.
const ROTATED: Duration = Duration::from_secs(5);
/// Pools whose volumes are files below one folder.
const FILE_POOLS: [&str; 4] = ["dir", "fs", "netfs", "vstorage"];

/// What can go wrong while working with libvirt: its own error, or a failure that is worded already.
#[derive(Debug)]
pub enum Trouble {
    /// libvirt's.
    Libvirt(Error),
    /// Ours.
    Plain(Box<Failure>),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Libvirt(error)
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Plain(Box::new(failure))
    }
}

/// Whether `id` is a workspace id: 32 lower-case hexadecimal digits. Nothing else ever becomes part of a name.
pub fn is_workspace(id: &str) -> bool {
    id.len() == 32 && id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Whether `digest` is a sha256 in lower-case hexadecimal digits.
pub fn is_digest(digest: &str) -> bool {
    digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Names of volumes.
pub mod names {
    /// An image.
    pub fn image(digest: &str) -> String {
        format!("vws-image-{digest}")
    }
    /// What says that an image is complete.
    pub fn done(digest: &str) -> String {
        format!("vws-image-{digest}.done")
    }
    /// What says that an image is being sent.
    pub fn put(digest: &str) -> String {
        format!("vws-image-{digest}.put")
    }
    /// A file of a workspace.
    pub fn file(workspace: &str, name: &str) -> String {
        format!("vws-{workspace}-{name}")
    }
    /// A disk.
    pub fn disk(workspace: &str, disk: &str) -> String {
        file(workspace, &format!("{disk}.qcow2"))
    }
    /// Its seed.
    pub fn seed(workspace: &str) -> String {
        file(workspace, "seed.img")
    }
    /// Its console's log.
    pub fn console(workspace: &str) -> String {
        file(workspace, "console.log")
    }
    /// Its saved memory.
    pub fn memory(workspace: &str) -> String {
        file(workspace, "memory.save")
    }
    /// Its firmware's variables.
    pub fn nvram(workspace: &str) -> String {
        file(workspace, "nvram.fd")
    }
    /// A disk on the way to being complete in itself.
    pub fn flat(workspace: &str) -> String {
        file(workspace, "flat.qcow2")
    }
}

/// A connection to libvirt and the pool that holds what is ours.
pub struct Site {
    connection: Connect,
    pool: StoragePool,
    /// The pool's folder, as the host sees it.
    pub folder: String,
    memory: Arc<Memory>,
}

/// What is remembered of a host's storage, whichever connection saw it.
#[derive(Default)]
pub struct Memory {
    /// What is known of images, which never change: by digest and format.
    images: Mutex<HashMap<(String, String), Header>>,
    rotated: Mutex<HashMap<String, Instant>>,
    /// Definitions that libvirt has understood.
    pub defined: Defined,
}

impl Deref for Site {
    type Target = Connect;

    fn deref(&self) -> &Connect {
        &self.connection
    }
}

/// Whether an error says that there is no such volume.
fn is_missing(error: &Error) -> bool {
    error.code().is(ErrorNumber::NoStorageVolume)
}

fn none_if_missing<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn volume_xml(name: &str, bytes: u64, format: &str, backing: Option<(&str, &str)>) -> Outcome<String> {
    let mut tree = Tree::new();
    tree.parent("volume", &[], |tree| {
        tree.text("name", &[], name)?;
        tree.text("capacity", &[("unit", "bytes")], &bytes.to_string())?;
        if format == "raw" {
            // Nothing is reserved: a file has the room that was written.
            tree.text("allocation", &[("unit", "bytes")], "0")?;
        }
        tree.parent("target", &[], |tree| {
            tree.leaf("format", &[("type", format)])?;
            tree.parent("permissions", &[], |tree| {
                // An image is read by every guest; QEMU may run as anybody.
                tree.text("mode", &[], if name.starts_with("vws-image-") { "0644" } else { "0600" })
            })?;
            if format == "qcow2" { tree.text("compat", &[], "1.1") } else { Ok(()) }
        })?;
        if let Some((path, format)) = backing {
            tree.parent("backingStore", &[], |tree| {
                tree.text("path", &[], path)?;
                tree.leaf("format", &[("type", format)])
            })?;
        }
        Ok(())
    })
    .map_err(|error| Failure::new(codes::INTERNAL, format!("volume XML: {error}")))?;
    tree.finish()
}

fn pool_xml(name: &str, folder: &str) -> Outcome<String> {
    let mut tree = Tree::new();
    tree.parent("pool", &[("type", "dir")], |tree| {
        tree.text("name", &[], name)?;
        tree.parent("target", &[], |tree| {
            tree.text("path", &[], folder)?;
            // Guests may run as another user: they may pass through, but cannot list.
            tree.parent("permissions", &[], |tree| tree.text("mode", &[], "0711"))
        })
    })
    .map_err(|error| Failure::new(codes::INTERNAL, format!("pool XML: {error}")))?;
    tree.finish()
}

/// The name of the pool that this backend defines for a folder: the same for the same folder, another one for another.
fn pool_name(folder: &str) -> String {
    let last = folder.rsplit('/').next().unwrap_or_default();
    let last: String = last.chars().filter(|c| c.is_ascii_alphanumeric() || "-_".contains(*c)).take(32).collect();
    // FNV-1a, 64 bits.
    let hash =
        folder.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("vws-{last}-{hash:016x}")
}

impl Site {
    /// The pool of the settings on this connection: found, or defined; and active.
    pub fn open(connection: Connect, settings: &Settings, memory: Arc<Memory>) -> Result<Self, Trouble> {
        let pool = match (&settings.pool, &settings.directory) {
            (Some(name), _) => connection.lookup_storage_pool_by_name(name).map_err(|error| {
                Failure::new(codes::NOT_FOUND, format!("its libvirt has no storage pool `{name}`: {}", error.message()))
                    .remedy("define that pool on the host, or correct the setting `pool`")
            })?,
            (None, Some(folder)) => Self::pool_at(&connection, &folder.to_string_lossy())?,
            (None, None) => return Err(Failure::new(codes::INVALID, "neither `pool` nor `directory` is set").into()),
        };
        let name = pool.name()?;
        if !pool.is_active()?
            && let Err(first) = pool.create(0)
        {
            // Its folder may be missing.
            if pool.build(0).and_then(|()| pool.create(0)).is_err() {
                return Err(Failure::new(
                    codes::HYPERVISOR,
                    format!("its storage pool `{name}` cannot be started: {}", first.message()),
                )
                .remedy("see that the pool's folder exists on the host and that libvirt may use it")
                .retry(Retry::Later)
                .into());
            }
        }
        let described = Element::parse(&pool.xml_desc(0)?)?;
        let kind = described.attribute("type");
        let folder = described.text_at(&["target", "path"]).to_owned();
        if !FILE_POOLS.contains(&kind) || folder.is_empty() {
            return Err(Failure::new(codes::UNSUPPORTED, format!("its storage pool `{name}` is of type `{kind}`"))
                .remedy(format!("use a pool whose volumes are files: {}", FILE_POOLS.join(", ")))
                .into());
        }
        Ok(Self { connection, pool, folder, memory })
    }

    fn pool_at(connection: &Connect, folder: &str) -> Result<StoragePool, Trouble> {
        let own = pool_name(folder);
        if let Ok(pool) = connection.lookup_storage_pool_by_name(&own) {
            return Ok(pool);
        }
        for pool in connection.list_all_storage_pools(0)? {
            let described = Element::parse(&pool.xml_desc(0)?)?;
            if described.text_at(&["target", "path"]).trim_end_matches('/') == folder.trim_end_matches('/') {
                return Ok(pool);
            }
        }
        let pool = connection.define_storage_pool_xml(&pool_xml(&own, folder)?, 0)?;
        pool.set_autostart(true)?;
        Ok(pool)
    }

    /// Definitions that libvirt has understood.
    pub fn defined(&self) -> &Defined {
        &self.memory.defined
    }

    /// The path of a volume, as the host sees it.
    pub fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.folder.trim_end_matches('/'))
    }

    /// Lets libvirt read the folder anew.
    pub fn refresh(&self) -> Result<(), Error> {
        let end = Instant::now() + BUSY;
        loop {
            match self.pool.refresh(0) {
                // A volume is being made in it.
                Err(error) if error.message().contains("asynchronous jobs") && Instant::now() < end => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                other => return other,
            }
        }
    }

    /// A volume, if libvirt knows it.
    pub fn find(&self, name: &str) -> Result<Option<StorageVol>, Error> {
        none_if_missing(self.pool.lookup_storage_vol_by_name(name))
    }

    /// A volume, if its file is there, known or not.
    pub fn seek(&self, name: &str) -> Result<Option<StorageVol>, Error> {
        if let Some(volume) = self.find(name)? {
            return Ok(Some(volume));
        }
        self.refresh()?;
        self.find(name)
    }

    /// Makes a volume; nothing if there is one of that name.
    pub fn create(
        &self,
        name: &str,
        bytes: u64,
        format: &str,
        backing: Option<(&str, &str)>,
    ) -> Result<Option<StorageVol>, Trouble> {
        let xml = volume_xml(name, bytes, format, backing)?;
        match StorageVol::create_xml(&self.pool, &xml, 0) {
            Ok(volume) => Ok(Some(volume)),
            Err(error) if error.code().is(ErrorNumber::StorageVolExist) => Ok(None),
            // A file that libvirt does not know yet, or that another host makes in the same folder at this moment.
            Err(error) if ["already exists", "File exists"].iter().any(|said| error.message().contains(said)) => {
                self.refresh()?;
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Makes an empty file of its own, in place of one that is there.
    pub fn create_anew(&self, name: &str) -> Result<StorageVol, Trouble> {
        for _attempt in 0..3 {
            if let Some(volume) = self.create(name, 0, "raw", None)? {
                return Ok(volume);
            }
            self.remove(name)?;
        }
        Err(Failure::new(codes::HYPERVISOR, format!("volume `{name}` comes back as often as it is removed")).into())
    }

    /// Removes a volume, if it is there.
    pub fn remove(&self, name: &str) -> Result<(), Error> {
        match self.find(name)? {
            Some(volume) => none_if_missing(volume.delete(0)).map(drop),
            None => Ok(()),
        }
    }

    /// Writes a small file as a whole, in place of what is there.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Trouble> {
        let volume = self.create_anew(name)?;
        stream::write(self, &volume, 0, bytes)
    }

    /// The first bytes of a volume.
    pub fn head(&self, volume: &StorageVol, length: usize) -> Result<Vec<u8>, Error> {
        stream::read(self, volume, 0, length as u64)
    }

    /// How long the file is, in bytes.
    pub fn length(&self, volume: &StorageVol) -> Result<u64, Error> {
        Ok(volume.info_flags(sys::VIR_STORAGE_VOL_GET_PHYSICAL)?.allocation)
    }

    /// Every volume of ours with its name. One call.
    pub fn volumes(&self) -> Result<Vec<(String, StorageVol)>, Error> {
        let mut found = Vec::new();
        for volume in self.pool.list_all_volumes(0)? {
            let name = volume.name()?;
            if name.starts_with("vws-") {
                found.push((name, volume));
            }
        }
        Ok(found)
    }

    /// Removes every file of a workspace.
    pub fn remove_workspace(&self, workspace: &str) -> Result<(), Error> {
        let prefix = names::file(workspace, "");
        for (_name, volume) in self.volumes()?.iter().filter(|(name, _)| name.starts_with(&prefix)) {
            none_if_missing(volume.delete(0))?;
        }
        lock(&self.memory.rotated).remove(workspace);
        Ok(())
    }

    /// Bytes that are free.
    pub fn free_bytes(&self) -> Result<u64, Error> {
        self.refresh()?;
        Ok(self.pool.info()?.available)
    }

    /// Room for disks in GiB: what is free, and what is ours.
    pub fn room_gib(&self) -> Result<u64, Error> {
        let mut bytes = self.free_bytes()?;
        for (_name, volume) in self.volumes()? {
            // What vanishes while it is counted was not there.
            bytes = bytes.saturating_add(none_if_missing(volume.info())?.map_or(0, |info| info.allocation));
        }
        Ok(bytes >> 30)
    }

    /// Identity of the storage: hosts that read the same folder answer the same.
    pub fn identity(&self) -> Result<String, Trouble> {
        const PREFIX: &str = "vws-storage-";
        // Of two that were made at once, everybody takes the first.
        let first = || -> Result<Option<String>, Error> {
            let mut marks: Vec<_> = self.volumes()?.into_iter().map(|(name, _)| name).collect();
            marks.retain(|name| name.starts_with(PREFIX));
            marks.sort();
            Ok(marks.first().and_then(|name| name.strip_prefix(PREFIX)).map(str::to_owned))
        };
        if let Some(mark) = first()? {
            return Ok(mark);
        }
        let mut random = [0; 16];
        std::fs::File::open("/dev/urandom")
            .and_then(|mut file| file.read_exact(&mut random))
            .map_err(|error| errors::system(&error, "cannot read random bytes", "/dev/urandom"))?;
        let random: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        self.create(&format!("{PREFIX}{random}"), 0, "raw", None)?;
        self.refresh()?;
        first()?.ok_or_else(|| Failure::new(codes::HYPERVISOR, "its storage does not keep what is put there").into())
    }

    // ---- images ------------------------------------------------------------------------------------------------------

    /// Those of `digests` that are not here, complete.
    pub fn missing_images(&self, digests: Vec<String>) -> Result<Vec<String>, Trouble> {
        if let Some(digest) = digests.iter().find(|digest| !is_digest(digest)) {
            return Err(not_a_digest(digest).into());
        }
        let missing = |digests: Vec<String>| -> Result<Vec<String>, Error> {
            let mut missing = Vec::new();
            for digest in digests {
                if self.find(&names::done(&digest))?.is_none() || self.find(&names::image(&digest))?.is_none() {
                    missing.push(digest);
                }
            }
            Ok(missing)
        };
        let unknown = missing(digests)?;
        if unknown.is_empty() {
            return Ok(unknown);
        }
        // Another host may have put it into the same folder.
        self.refresh()?;
        Ok(missing(unknown)?)
    }

    /// Stores the image that `from` reads. If somebody else is sending it to the same storage, that is waited for.
    pub fn put_image(&self, digest: &str, size_bytes: u64, from: OwnedFd, gauge: &Gauge) -> Result<(), Trouble> {
        let mut seen = None;
        loop {
            gauge.check()?;
            if self.missing_images(vec![digest.to_owned()])?.is_empty() {
                return Ok(());
            }
            if self.create(&names::put(digest), 0, "raw", None)?.is_some() {
                break;
            }
            let length = match self.find(&names::image(digest))? {
                Some(volume) => none_if_missing(self.length(&volume))?,
                None => None,
            };
            match seen {
                Some((known, since)) if known == length => {
                    let since: Instant = since;
                    if since.elapsed() >= STALE {
                        break;
                    }
                }
                _ => seen = Some((length, Instant::now())),
            }
            std::thread::sleep(GLANCE);
        }
        let sent = self.send_image(digest, size_bytes, from, gauge);
        if sent.is_err() {
            // Best effort: what is left of it does not count, and is replaced by the next attempt.
            let _first_told = self.remove(&names::image(digest));
        }
        let _replaced_when_stale = self.remove(&names::put(digest));
        sent
    }

    fn send_image(&self, digest: &str, size_bytes: u64, from: OwnedFd, gauge: &Gauge) -> Result<(), Trouble> {
        let volume = self.create_anew(&names::image(digest))?;
        let came = stream::upload(self, &volume, 0, &mut Source::new(from), gauge)?;
        let wrong = |bytes: u64| {
            Failure::new(codes::DAMAGED, format!("{bytes} bytes came instead of {size_bytes}")).remedy("import the image again")
        };
        if came != size_bytes {
            return Err(wrong(came).into());
        }
        // What the host has is what counts.
        let stored = self.length(&volume)?;
        if stored != size_bytes {
            return Err(wrong(stored).into());
        }
        lock(&self.memory.images).retain(|(known, _), _| known != digest);
        self.create(&names::done(digest), 0, "raw", None).map(drop)
    }

    /// The images that are here, complete.
    pub fn images(&self) -> Result<Vec<ImageOnHost>, Error> {
        self.refresh()?;
        let volumes: HashMap<String, StorageVol> = self.volumes()?.into_iter().collect();
        let mut images = Vec::new();
        for name in volumes.keys() {
            let digest = name.strip_prefix("vws-image-").and_then(|rest| rest.strip_suffix(".done"));
            let Some(digest) = digest.filter(|digest| is_digest(digest)) else { continue };
            let Some(volume) = volumes.get(&names::image(digest)) else { continue };
            if let Some(size_bytes) = none_if_missing(self.length(volume))? {
                images.push(ImageOnHost { digest: digest.to_owned(), size_bytes });
            }
        }
        images.sort_by(|one, other| one.digest.cmp(&other.digest));
        Ok(images)
    }

    /// Removes an image that no disk and no definition uses.
    pub fn remove_image(&self, digest: &str) -> Result<(), Trouble> {
        if !is_digest(digest) {
            return Err(not_a_digest(digest).into());
        }
        let path = self.path(&names::image(digest));
        let used = |by: &str| {
            Failure::new(codes::STATE, format!("workspace `{by}` uses it"))
                .about(format!("image `{digest}`"))
                .remedy("destroy that workspace first")
        };
        self.refresh()?;
        for (name, volume) in self.volumes()? {
            let Some(rest) = name.strip_prefix("vws-").filter(|_| name.ends_with(".qcow2")) else { continue };
            let Some(described) = none_if_missing(volume.xml_desc(0))? else { continue };
            if Element::parse(&described)?.text_at(&["backingStore", "path"]) == path {
                return Err(used(rest.get(..32).unwrap_or(rest)).into());
            }
        }
        // Kernels are read at each start.
        for domain in self.list_all_domains(0)? {
            let Ok(described) = domain.xml_desc(sys::VIR_DOMAIN_XML_INACTIVE) else { continue };
            let described = Element::parse(&described)?;
            if ["kernel", "initrd"].iter().any(|part| described.text_at(&["os", part]) == path) {
                let name = described.text_at(&["name"]);
                return Err(used(name.strip_prefix("vws-").unwrap_or(name)).into());
            }
        }
        lock(&self.memory.images).retain(|(known, _), _| known != digest);
        for name in [names::done(digest), names::image(digest), names::put(digest)] {
            self.remove(&name)?;
        }
        Ok(())
    }

    /// What an image is that is here, has a known format and stands for itself.
    pub fn checked_image(&self, digest: &str, format: &str) -> Result<Header, Trouble> {
        let about = |failure: Failure| failure.about(format!("image `{digest}`"));
        if !is_digest(digest) {
            return Err(not_a_digest(digest).into());
        }
        if !matches!(format, "raw" | "qcow2") {
            return Err(about(Failure::new(codes::INVALID, format!("its format is given as `{}`", format.escape_default())))
                .remedy("formats are `raw` and `qcow2`")
                .into());
        }
        let key = (digest.to_owned(), format.to_owned());
        let known = lock(&self.memory.images).get(&key).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        if !self.missing_images(vec![digest.to_owned()])?.is_empty() {
            return Err(about(Failure::new(codes::NOT_FOUND, "it is not on the host")).remedy("put it there first").into());
        }
        let Some(volume) = self.find(&names::image(digest))? else {
            return Err(about(Failure::new(codes::NOT_FOUND, "it is not on the host")).remedy("put it there first").into());
        };
        let header = if format == "qcow2" {
            let header = qcow2::read(&self.head(&volume, qcow2::ENOUGH)?).map_err(about)?;
            if !header.backing.is_empty() || header.has_data_file {
                return Err(about(Failure::new(codes::INVALID, "it refers to another file"))
                    .remedy("flatten it with `qemu-img convert`")
                    .into());
            }
            header
        } else {
            Header::raw(self.length(&volume)?)
        };
        lock(&self.memory.images).insert(key, header.clone());
        Ok(header)
    }

    // ---- disks -------------------------------------------------------------------------------------------------------

    /// Makes a disk, if it is not there complete.
    pub fn make_disk(&self, workspace: &str, disk: &DiskDoc) -> Result<(), Trouble> {
        let name = names::disk(workspace, &disk.name);
        let (bytes, backing) = self.disk_plan(workspace, disk)?;
        let backing = backing.as_ref().map(|(path, format)| (path.as_str(), format.as_str()));
        for _attempt in 0..2 {
            if self.create(&name, bytes, "qcow2", backing)?.is_some() {
                return Ok(());
            }
            let Some(volume) = self.find(&name)? else { continue };
            // The tool writes the size and the image's path at its end: with both it is complete. It may have grown since.
            let is = qcow2::read(&self.head(&volume, qcow2::ENOUGH)?);
            if is.is_ok_and(|is| is.virtual_size >= bytes && is.backing == backing.map_or("", |(path, _)| path)) {
                return Ok(());
            }
            none_if_missing(volume.delete(0))?;
        }
        Err(Failure::new(codes::HYPERVISOR, format!("volume `{name}` comes back as often as it is removed")).into())
    }

    /// How large a disk has to be, and path and format of what it is a clone of.
    pub fn disk_plan(&self, workspace: &str, disk: &DiskDoc) -> Result<(u64, Option<(String, String)>), Trouble> {
        let object = || format!("disk `{}` of workspace `{workspace}`", disk.name);
        let bytes = disk.size_mib.checked_mul(1 << 20).filter(|size| i64::try_from(*size).is_ok()).ok_or_else(|| {
            Failure::new(codes::INVALID, format!("{} MiB are more than a disk can have", disk.size_mib)).about(object())
        })?;
        match &disk.source {
            DiskSourceDoc::Image { digest, format } => {
                let own = self.checked_image(digest, format)?.virtual_size;
                if bytes > 0 && bytes < own {
                    return Err(Failure::new(
                        codes::INVALID,
                        format!(
                            "{} MiB are asked for, but the image has {} MiB: a disk is not made smaller than its image",
                            disk.size_mib,
                            own.div_ceil(1 << 20)
                        ),
                    )
                    .about(object())
                    .remedy("ask for at least the image's size, or name no size")
                    .into());
                }
                Ok((bytes.max(own), Some((self.path(&names::image(digest)), format.clone()))))
            }
            DiskSourceDoc::Empty if bytes == 0 => Err(Failure::new(codes::INVALID, "an empty disk needs a size")
                .about(object())
                .remedy("name a size in MiB")
                .into()),
            DiskSourceDoc::Empty => Ok((bytes, None)),
        }
    }

    /// Makes a disk from another one, complete in itself. The host does the work.
    pub fn flatten(&self, name: &str, bytes: u64, from: &StorageVol) -> Result<(), Trouble> {
        StorageVol::create_xml_from(&self.pool, &volume_xml(name, bytes, "qcow2", None)?, from, 0)?;
        Ok(())
    }

    // ---- console log ---------------------------------------------------------------------------------------------------

    /// Begins a new log: the machine starts. libvirt knows the file from now on.
    pub fn new_log(&self, workspace: &str) -> Result<(), Trouble> {
        let name = names::console(workspace);
        if self.create(&name, 0, "raw", None)?.is_some() {
            return Ok(());
        }
        // Where a log daemon rotates it, the older parts have to go as well.
        self.refresh()?;
        for part in [0, 1, 2, 3].map(|n| format!("{name}.{n}")) {
            self.remove(&part)?;
        }
        self.create_anew(&name).map(drop)
    }

    /// Gives back what is between the first and the newest half of `keep_bytes`, once a log is much longer than that.
    pub fn bound_log(&self, workspace: &str, keep_bytes: u64) -> Result<(), Trouble> {
        let Some(volume) = self.find(&names::console(workspace))? else { return Ok(()) };
        let length = self.length(&volume)?;
        if length <= keep_bytes.saturating_mul(4) {
            return Ok(());
        }
        let half = keep_bytes / 2;
        let mut bytes = LEFT_OUT.to_vec();
        // With the byte that ends it, no longer than what is kept.
        let tail = half.saturating_sub(LEFT_OUT.len() as u64 + 1);
        bytes.extend(stream::read(self, &volume, length.saturating_sub(tail), tail)?);
        stream::write_and_cut(self, &volume, half, &bytes)
    }

    /// The kept console output: the first and the newest half of `keep_bytes`.
    pub fn log(&self, workspace: &str, keep_bytes: u64) -> Result<LogDoc, Error> {
        let name = names::console(workspace);
        let Some(newest) = self.seek(&name)? else { return Ok(LogDoc::default()) };
        let half = keep_bytes / 2;
        let mut older = None;
        let due = lock(&self.memory.rotated).get(workspace).is_none_or(|at| at.elapsed() >= ROTATED);
        if due {
            self.refresh()?;
            lock(&self.memory.rotated).insert(workspace.to_owned(), Instant::now());
        }
        let mut omitted_bytes = 0;
        for part in [3, 2, 1, 0].map(|n| format!("{name}.{n}")) {
            if let Some(volume) = self.find(&part)? {
                omitted_bytes += self.length(&volume)?;
                older = older.or(Some(volume));
            }
        }
        let length = self.length(&newest)?;
        let mut bytes;
        match older {
            Some(older) => {
                bytes = stream::read(self, &older, 0, half)?;
                bytes.extend(stream::read(self, &newest, length.saturating_sub(half), half)?);
                omitted_bytes = (omitted_bytes + length).saturating_sub(bytes.len() as u64);
            }
            None if length <= keep_bytes => bytes = stream::read(self, &newest, 0, keep_bytes)?,
            None => {
                bytes = stream::read(self, &newest, 0, half)?;
                bytes.extend(stream::read(self, &newest, length - half, half)?);
                omitted_bytes = length - 2 * half;
            }
        }
        Ok(LogDoc { text: String::from_utf8_lossy(&bytes).replace('\0', ""), omitted_bytes })
    }

    // ---- saved memory --------------------------------------------------------------------------------------------------

    /// Whether the workspace's memory is here, complete.
    pub fn has_memory(&self, workspace: &str) -> Result<bool, Error> {
        let Some(volume) = self.find(&names::memory(workspace))? else { return Ok(false) };
        Ok(none_if_missing(self.head(&volume, SAVED_MAGIC.len()))?.is_some_and(|head| head == SAVED_MAGIC))
    }

    /// When each disk was written last, as one text to compare.
    pub fn written(&self, workspace: &str, disks: &[DiskDoc]) -> Result<String, Trouble> {
        let mut written = Vec::new();
        for disk in disks {
            let described = match self.seek(&names::disk(workspace, &disk.name))? {
                Some(volume) => Element::parse(&volume.xml_desc(0)?)?.text_at(&["target", "timestamps", "mtime"]).to_owned(),
                None => String::new(),
            };
            written.push(described);
        }
        Ok(written.join(" "))
    }
}

/// What stands where a log was cut.
const LEFT_OUT: &[u8] = b"\r\n[...]\r\n";

fn not_a_digest(digest: &str) -> Failure {
    Failure::new(codes::INVALID, format!("`{}` is not a sha256 in lower-case hexadecimal digits", digest.escape_default()))
        .about("image")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_pool_name() {
        assert_eq!(pool_name("/srv/vws"), pool_name("/srv/vws"));
        assert_ne!(pool_name("/srv/a/vws"), pool_name("/srv/b/vws"));
        assert!(pool_name("/srv/a b<c").starts_with("vws-abc-"), "{}", pool_name("/srv/a b<c"));
    }

    #[test]
    fn only_ids_and_digests_become_names() {
        assert!(is_workspace(&"a".repeat(32)) && is_digest(&"0".repeat(64)));
        for wrong in ["", "../../etc/passwd", &"A".repeat(32), &"g".repeat(32), &"a".repeat(33)] {
            assert!(!is_workspace(wrong) && !is_digest(wrong), "{wrong}");
        }
    }
}
