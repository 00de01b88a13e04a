//! An image of the catalogue: what a workspace's root disk is made from.

use crate::Timestamp;
use crate::id::ImageId;

/// The format of a disk's bytes. Always stated, never probed: probing is a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DiskFormat {
    /// Plain bytes.
    Raw,
    /// QEMU's qcow2, without a backing file.
    Qcow2,
}

impl DiskFormat {
    /// `raw` or `qcow2`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
        }
    }
}

/// The firmware of a whole-disk image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Firmware {
    /// PC BIOS.
    Bios,
    /// UEFI, where the host has it.
    Uefi,
}

/// How the guest is started.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Boot {
    /// From the boot sector or the EFI partition of the root disk.
    Disk(Firmware),
    /// A kernel and an initial RAM disk, both by digest in the library, and the kernel's command line.
    Kernel {
        /// sha256 of the kernel.
        kernel: String,
        /// sha256 of the initial RAM disk; empty for none.
        initrd: String,
        /// The kernel's command line.
        cmdline: String,
    },
}

/// Who may see and use an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Visibility {
    /// Its owner and administrators.
    Private,
    /// Everybody.
    Public,
}

/// Whether the bytes are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ImageState {
    /// Being imported: not usable yet.
    Importing,
    /// Complete and verified.
    Ready,
    /// Its bytes no longer match its digest: not usable, and says so.
    Damaged,
}

/// A catalogue entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Its id.
    pub id: ImageId,
    /// Its name, unique in the catalogue: 1-63 characters of `a-z A-Z 0-9 - _ . :`.
    pub name: String,
    /// sha256 of the root disk, 64 hexadecimal digits. Empty for a kernel image without a disk, and while importing.
    pub digest: String,
    /// Format of the root disk.
    pub format: DiskFormat,
    /// Bytes of the file.
    pub size_bytes: u64,
    /// Size that the guest sees, in MiB.
    pub virtual_size_mib: u64,
    /// How it starts.
    pub boot: Boot,
    /// uid of who imported it.
    pub owner: u32,
    /// Who may use it.
    pub visibility: Visibility,
    /// Whether it can be used.
    pub state: ImageState,
    /// Where it came from, for display: a path or a URL without credentials.
    pub source: String,
    /// When it was imported.
    pub created_at: Timestamp,
}

impl Image {
    /// Every digest that it refers to: root disk, kernel, initial RAM disk, as far as they are known.
    pub fn digests(&self) -> impl Iterator<Item = &str> {
        let (kernel, initrd) = match &self.boot {
            Boot::Kernel { kernel, initrd, .. } => (kernel.as_str(), initrd.as_str()),
            Boot::Disk(_) => ("", ""),
        };
        [self.digest.as_str(), kernel, initrd].into_iter().filter(|digest| !digest.is_empty())
    }
}
