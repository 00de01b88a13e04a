//! What a disk image is, looked at under the format that its owner states. A format is never guessed.

use std::fs::File;
use std::os::unix::fs::FileExt;
use vws_domain::{DiskFormat, Error, ErrorKind, Result};

use crate::blob::blob_object;
use crate::library::Library;
use crate::qcow2::{self, Refusal};

/// A disk's sector: raw images are whole sectors.
const SECTOR_BYTES: u64 = 512;
const MIB: u64 = 1 << 20;

/// What was seen of a disk image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskFacts {
    /// Size that the guest sees in MiB, rounded up.
    pub virtual_size_mib: u64,
}

impl Library {
    /// Looks at a blob as a disk of the stated format.
    ///
    /// # Errors
    /// As [`inspect_file`], or [`ErrorKind::NotFound`].
    pub fn inspect_disk(&self, digest: &str, format: DiskFormat) -> Result<DiskFacts> {
        inspect_file(&self.blob(digest)?, format).map_err(|mut error| {
            error.object = blob_object(digest);
            error
        })
    }
}

/// Looks at any open file as a disk of the stated format; where it stands does not matter. Errors are about "the image".
///
/// # Errors
/// [`ErrorKind::InvalidArgument`] for what is no such image or may not be used: a backing file inside (code `backing-file`),
/// external data (`external-data`), encryption (`encrypted`), an unknown version or feature (`not-an-image`).
/// [`ErrorKind::Damaged`] for a truncated one (`truncated`) or one that is marked as corrupt.
pub fn inspect_file(file: &File, format: DiskFormat) -> Result<DiskFacts> {
    let object = "the image";
    let read = || -> std::io::Result<(Vec<u8>, u64)> { Ok((start_of(file)?, file.metadata()?.len())) };
    let (start, bytes) = read().map_err(|error| Error::internal(object, format!("read: {error}")))?;
    let virtual_bytes = match format {
        DiskFormat::Raw => raw(object, bytes)?,
        DiskFormat::Qcow2 => qcow2::read(&start, bytes).map_err(|refusal| refused(object, &refusal))?.virtual_bytes,
    };
    Ok(DiskFacts { virtual_size_mib: virtual_bytes.div_ceil(MIB) })
}

/// Looks at a disk stream that came from elsewhere: it lies on the image with this sha256, or on nothing. What its header names
/// as backing file must be that image by its digest, whatever folder it was in; it is never opened by that name, and a backend
/// puts its own in its place. A raw stream has no header, so that nothing can be named in it.
///
/// # Errors
/// As [`inspect_file`]; code `backing-file` for any other reference.
pub fn inspect_overlay(file: &File, format: DiskFormat, lies_on: Option<&str>) -> Result<Option<DiskFacts>> {
    if format == DiskFormat::Raw {
        return Ok(None);
    }
    let object = "the disk";
    let read = || -> std::io::Result<(Vec<u8>, u64)> { Ok((start_of(file)?, file.metadata()?.len())) };
    let (start, bytes) = read().map_err(|error| Error::internal(object, format!("read: {error}")))?;
    let (header, backing) = qcow2::read_overlay(&start, bytes).map_err(|refusal| refused(object, &refusal))?;
    let wrong = |fact: String| {
        Err(Error::new(ErrorKind::Damaged, object, fact, "get the bundle again from where it was made").with_code("backing-file"))
    };
    match (backing.as_deref(), lies_on) {
        (None, None) => {}
        (Some(name), Some(digest)) if names_image(name, digest) => {}
        (Some(name), _) => return wrong(format!("refers to another file, `{}`", vws_domain::shown(name))),
        (None, Some(digest)) => return wrong(format!("does not lie on the image {digest}, as the manifest says")),
    }
    Ok(Some(DiskFacts { virtual_size_mib: header.virtual_bytes.div_ceil(MIB) }))
}

/// Whether a backing file's name is a plain path to a file that is named by the digest: `DIGEST`, or `something-DIGEST`.
fn names_image(name: &str, digest: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'-' | b'_' | b'.');
    let file = name.rsplit('/').next().unwrap_or_default();
    let named = file.strip_suffix(digest).is_some_and(|before| before.is_empty() || before.ends_with('-'));
    named && name.bytes().all(plain) && !name.split('/').any(|part| part == "..")
}

/// The first bytes, as many as there are up to what the parser looks at.
fn start_of(file: &File) -> std::io::Result<Vec<u8>> {
    let mut start = vec![0_u8; qcow2::LOOKED_AT_BYTES];
    let mut filled = 0;
    while let Some(rest) = start.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, u64::try_from(filled).unwrap_or(u64::MAX)) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    start.truncate(filled);
    Ok(start)
}

fn raw(object: &str, bytes: u64) -> Result<u64> {
    if bytes > 0 && bytes.is_multiple_of(SECTOR_BYTES) {
        return Ok(bytes);
    }
    Err(Error::invalid(
        object,
        format!("is not a raw disk: its {bytes} bytes are no whole number of {SECTOR_BYTES}-byte sectors"),
        "give a disk image, or state its format if it is qcow2",
    )
    .with_code("not-an-image"))
}

fn refused(object: &str, refusal: &Refusal) -> Error {
    let invalid = |code: &str, fact: String, remedy: &str| Error::invalid(object, fact, remedy).with_code(code);
    let convert = "convert it: qemu-img convert -f qcow2 -O qcow2 OLD NEW";
    match refusal {
        Refusal::NotQcow2 => invalid(
            "not-an-image",
            "is not a qcow2 image: it does not begin with `QFI\\xfb`".to_owned(),
            "give a qcow2 image, or state `raw` if it is a raw disk",
        ),
        Refusal::Truncated(part) => Error::new(
            ErrorKind::Damaged,
            object,
            format!("is truncated: the file ends before {part} does"),
            "get the image again from its source",
        )
        .with_code("truncated"),
        Refusal::Version(version) => {
            invalid("not-an-image", format!("is qcow2 of version {version}; versions 2 and 3 can be used"), convert)
        }
        Refusal::Backing(name) => invalid(
            "backing-file",
            format!("has a backing file inside, `{name}`: it is not the whole disk"),
            "flatten it where its backing file is: qemu-img convert -f qcow2 -O qcow2 OLD NEW",
        ),
        Refusal::Encrypted => {
            invalid("encrypted", "is encrypted".to_owned(), "decrypt it with qemu-img convert; encrypt inside the guest instead")
        }
        Refusal::ExternalData => {
            invalid("external-data", "keeps its data in another file: it is not the whole disk".to_owned(), convert)
        }
        Refusal::Corrupt => Error::new(
            ErrorKind::Damaged,
            object,
            "is marked as corrupt",
            "repair it: qemu-img check -f qcow2 -r all FILE, or get it again from its source",
        ),
        Refusal::UnknownFeatures(bits) => {
            invalid("not-an-image", format!("needs features that are not known here (bits {bits:#x})"), convert)
        }
        Refusal::Nonsense(what) => invalid(
            "not-an-image",
            format!("is not a usable qcow2 image: its header claims {what}"),
            "get the image again from its source",
        ),
    }
}
