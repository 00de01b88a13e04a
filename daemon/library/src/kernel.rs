//! Whether a blob is a Linux kernel that a hypervisor can start.

use std::os::unix::fs::FileExt;
use vws_domain::{Error, Result};

use crate::blob::blob_object;
use crate::library::Library;

/// The magic of the x86 boot protocol, and where it stands.
const MAGIC: [u8; 4] = *b"HdrS";
const MAGIC_AT: u64 = 0x202;

impl Library {
    /// Looks at a blob as a bzImage.
    ///
    /// # Errors
    /// [`vws_domain::ErrorKind::InvalidArgument`] (code `not-a-kernel`), [`vws_domain::ErrorKind::NotFound`].
    pub fn inspect_kernel(&self, digest: &str) -> Result<()> {
        let file = self.blob(digest)?;
        let mut found = [0_u8; MAGIC.len()];
        match file.read_exact_at(&mut found, MAGIC_AT) {
            Ok(()) if found == MAGIC => return Ok(()),
            Ok(()) => {}
            // Too short to be one.
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {}
            Err(error) => return Err(Error::internal(blob_object(digest), format!("read: {error}"))),
        }
        Err(Error::invalid(
            blob_object(digest),
            "is not a Linux kernel: `HdrS` does not stand at byte 0x202",
            "give a bzImage, such as /boot/vmlinuz-*",
        )
        .with_code("not-a-kernel"))
    }
}
