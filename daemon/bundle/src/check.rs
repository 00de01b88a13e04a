//! What a portable file may say: names that lead nowhere, sizes within limits, the streams that the machine needs and no others.
//!
//! Everything that becomes a file's name, a word in a definition or a number of bytes passes here first. That a text is
//! accepted does not mean that it is used: paths, devices, URLs and host names are nowhere asked for.

use crate::limits::Limits;
use crate::manifest::{Portable, damaged};
use std::collections::BTreeSet;
use vws_domain::{
    Boot, DataDisk, DiskSource, Error, ErrorKind, Firmware, ImageRef, Result, Spec, checked_catalogue_name, checked_nic, limits,
    shown,
};

/// Characters of a word of the origin, and of a kernel's command line, at most.
const WORD_CHARS: usize = 128;
const CMDLINE_CHARS: usize = 2048;
/// The stream with the variables of a UEFI firmware, and its bytes at most.
const NVRAM: &str = "nvram";
const NVRAM_BYTES: u64 = 64 << 20;
const MIB: u64 = 1 << 20;

impl Portable {
    /// Checks everything that can be checked without the bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`] or [`ErrorKind::InvalidArgument`] naming the first thing that is wrong.
    pub(crate) fn checked(self, most: &Limits) -> Result<Self> {
        self.spec()?;
        checked_catalogue_name(&self.manifest.backend, "backend")?;
        self.words()?;
        self.disks()?;
        self.nics()?;
        self.files(most)?;
        self.images(most)?;
        let sizes = self.files.iter().map(|file| file.size_bytes).chain(self.images.iter().map(|image| image.size_bytes));
        let total = sizes.fold(0_u64, u64::saturating_add);
        if total > most.total_bytes {
            return Err(too_large("everything in it together", total, most.total_bytes));
        }
        Ok(self)
    }

    /// The description of the workspace as it is made anew here: its image is to be filled in.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] for what no workspace may have.
    pub fn spec(&self) -> Result<Spec> {
        let manifest = &self.manifest;
        let mut spec = self.guest.spec.clone();
        spec.name.clone_from(&manifest.name);
        spec.vcpus = manifest.vcpus;
        spec.cpu_shares = manifest.cpu_shares;
        spec.memory_mib = manifest.memory_mib;
        spec.vcpus_max = manifest.vcpus_max;
        spec.memory_max_mib = manifest.memory_max_mib;
        spec.nics.clone_from(&manifest.nics);
        for disk in &manifest.disks {
            let size_gib = disk.size_mib / 1024;
            if disk.name == "disk-0" {
                spec.disk_gib = size_gib;
                spec.disk_limits = disk.limits;
            } else {
                let source = match &disk.image {
                    Some(_) => DiskSource::Image(ImageRef::Name("none".to_owned())),
                    None => DiskSource::Empty,
                };
                spec.data_disks.push(DataDisk { source, size_gib, limits: disk.limits });
            }
        }
        spec.validated()
    }

    fn words(&self) -> Result<()> {
        let origin = &self.manifest.origin;
        for (member, text) in [("accelerator", &origin.accelerator), ("cpu", &origin.cpu), ("machine-type", &origin.machine_type)]
        {
            let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'+');
            if text.len() > WORD_CHARS || !text.bytes().all(good) {
                return Err(damaged(format!("has the {member} `{}`, which no machine has", shown(text))));
            }
        }
        for (member, text) in [("hypervisor", &origin.hypervisor), ("emulator", &origin.emulator)] {
            if text.len() > WORD_CHARS || text.chars().any(char::is_control) {
                return Err(damaged(format!("has the {member} `{}`, which is too long or not a line of text", shown(text))));
            }
        }
        match &self.manifest.boot {
            Boot::Kernel { cmdline, .. } if cmdline.len() > CMDLINE_CHARS || cmdline.chars().any(char::is_control) => {
                Err(damaged(format!("has a kernel's command line that is no line of up to {CMDLINE_CHARS} characters")))
            }
            _ => Ok(()),
        }
    }

    /// Names count up from `disk-0`, or from `disk-1` for a kernel without a root disk.
    fn disks(&self) -> Result<()> {
        let disks = &self.manifest.disks;
        let kernel = matches!(self.manifest.boot, Boot::Kernel { .. });
        let first = usize::from(kernel && disks.first().is_none_or(|disk| disk.name != "disk-0"));
        for (index, disk) in disks.iter().enumerate() {
            if disk.name != format!("disk-{}", index + first) {
                return Err(damaged(format!("has a disk `{}` where `disk-{}` is due", shown(&disk.name), index + first)));
            }
            if !disk.size_mib.is_multiple_of(1024) {
                return Err(damaged(format!("has a disk of {} MiB: sizes are whole GiB", disk.size_mib)));
            }
            if disk.size_mib == 0 && disk.image.is_none() {
                return Err(damaged(format!("has a disk `{}` without a size", disk.name)));
            }
        }
        if !kernel && disks.first().is_none_or(|disk| disk.image.is_none()) {
            return Err(damaged("has no root disk that is made from an image"));
        }
        Ok(())
    }

    fn nics(&self) -> Result<()> {
        let mut seen = BTreeSet::new();
        for nic in &self.manifest.nics {
            checked_nic(nic)?;
            if nic.mac.is_empty() || !seen.insert(nic.mac.to_ascii_lowercase()) {
                return Err(damaged(format!(
                    "has a NIC with the MAC address `{}`, which is none or there twice",
                    shown(&nic.mac)
                )));
            }
        }
        Ok(())
    }

    /// `memory` and each disk, each once, and nothing else; `nvram` where there is a firmware that keeps variables.
    fn files(&self, most: &Limits) -> Result<()> {
        let mut due: BTreeSet<&str> = self.manifest.disks.iter().map(|disk| disk.name.as_str()).collect();
        due.insert("memory");
        if self.manifest.boot == Boot::Disk(Firmware::Uefi) {
            due.insert(NVRAM);
        }
        for file in &self.files {
            if !due.remove(file.name.as_str()) {
                return Err(damaged(format!("lists a stream `{}` that its machine does not have", shown(&file.name))));
            }
            let memory = self.manifest.memory_mib.max(self.manifest.memory_max_mib).min(limits::MEMORY_MIB).saturating_mul(MIB);
            let limit = match file.name.as_str() {
                "memory" => memory.saturating_add(most.memory_slack_bytes).min(most.stream_bytes),
                NVRAM => NVRAM_BYTES,
                _ => most.stream_bytes,
            };
            if file.size_bytes > limit {
                return Err(too_large(&format!("stream `{}`", file.name), file.size_bytes, limit));
            }
        }
        match due.first() {
            None => Ok(()),
            Some(missing) => Err(damaged(format!("lists no stream `{missing}`"))),
        }
    }

    /// All images that the machine needs, or none.
    fn images(&self, most: &Limits) -> Result<()> {
        let there: Vec<&str> = self.images.iter().map(|image| image.digest.as_str()).collect();
        if !there.is_empty() && self.manifest.image_digests() != there {
            return Err(damaged("lists other images than its machine needs"));
        }
        match self.images.iter().find(|image| image.size_bytes > most.stream_bytes) {
            None => Ok(()),
            Some(image) => Err(too_large(&format!("image {}", image.digest), image.size_bytes, most.stream_bytes)),
        }
    }
}

fn too_large(what: &str, claimed: u64, most: u64) -> Error {
    Error::new(
        ErrorKind::InvalidArgument,
        "the bundle's manifest",
        format!("claims {claimed} bytes for {what}; {most} are allowed"),
        "a bundle of this machine is smaller: get it again from where it was made",
    )
    .with_code("bundle-too-large")
}
