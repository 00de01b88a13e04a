//! The files of a host: images, disks, seeds, saves and console logs, under one folder.
//!
//! Owns: every path, and every change of a file. This is the seam where a host without a shared folder will get its own
//! implementation; for now the folder has the same path here and for libvirt. Must not know: libvirt connections.
//!
//! | path | what |
//! |-|-|
//! | `images/<sha256>` | an image, read-only; being there means being complete |
//! | `workspaces/<id>/disk-N.qcow2` | a disk |
//! | `workspaces/<id>/seed.img`, `console.log`, `nvram.fd` | seed, console, UEFI variables |
//! | `workspaces/<id>/memory.save`, `saved.json` | a saved machine's memory, and what it needs |
//! | `probe.json` | what the last probe saw |
//!
//! Whatever is being written is named `*.part` and renamed when it is complete and on the disk.

use crate::errors;
use rustix::fs::FallocateFlags;
use serde::Deserialize;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use vws_plugin_api::doc::{DiskDoc, DiskSourceDoc, Failure, LogDoc, Retry, codes};
use vws_plugin_api::sdk::{Call, Outcome};

/// What QEMU writes in front of a memory file when the save is complete, and nothing else does.
const SAVED_MAGIC: &[u8; 16] = b"LibvirtQemudSave";
/// How much is copied between two looks at the call.
const CHUNK: u64 = 8 << 20;

/// Whether `id` is a workspace id: 32 lower-case hexadecimal digits. Nothing else ever becomes part of a path.
pub fn is_workspace(id: &str) -> bool {
    id.len() == 32 && id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Whether `digest` is a sha256 in lower-case hexadecimal digits.
pub fn is_digest(digest: &str) -> bool {
    digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// The files of one host.
#[derive(Clone, Debug)]
pub struct Storage {
    root: PathBuf,
}

/// What `qemu-img info` says of a file.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DiskInfo {
    /// Size that a guest sees.
    pub virtual_size: u64,
    /// Path of the file below.
    #[serde(default)]
    pub backing_filename: String,
    /// Its format.
    #[serde(default)]
    pub backing_filename_format: String,
    #[serde(default)]
    format_specific: serde_json::Value,
}

impl DiskInfo {
    /// Whether the bytes are in another file: an image of that kind could name any file of the host.
    pub fn has_data_file(&self) -> bool {
        let data = &self.format_specific["data"];
        !data["data-file"].is_null() || data["data-file-raw"] == true
    }
}

impl Storage {
    /// The files under `root`; its folders are made if they are missing.
    pub fn open(root: &Path) -> Outcome<Self> {
        let storage = Self { root: root.to_owned() };
        // Guests may run as another user: they may pass through, but cannot list.
        for folder in [storage.root.clone(), storage.root.join("images"), storage.root.join("workspaces")] {
            DirBuilder::new()
                .recursive(true)
                .mode(0o711)
                .create(&folder)
                .map_err(|error| storage.failed(&error, "cannot make it", &folder))?;
        }
        Ok(storage)
    }

    fn failed(&self, error: &io::Error, what: &str, path: &Path) -> Failure {
        errors::system(error, what, &format!("`{}`", path.display()))
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Path of an image.
    pub fn image(&self, digest: &str) -> PathBuf {
        self.root.join("images").join(digest)
    }

    /// Folder of a workspace.
    pub fn folder(&self, workspace: &str) -> PathBuf {
        self.root.join("workspaces").join(workspace)
    }

    /// Path of a workspace's file.
    pub fn file(&self, workspace: &str, name: &str) -> PathBuf {
        self.folder(workspace).join(name)
    }

    /// Path of a disk.
    pub fn disk(&self, workspace: &str, disk: &str) -> PathBuf {
        self.folder(workspace).join(format!("{disk}.qcow2"))
    }

    /// Workspaces that have a folder here.
    pub fn workspaces(&self) -> Outcome<Vec<String>> {
        let folder = self.root.join("workspaces");
        let mut found = Vec::new();
        for entry in fs::read_dir(&folder).map_err(|error| self.failed(&error, "cannot read it", &folder))? {
            let entry = entry.map_err(|error| self.failed(&error, "cannot read it", &folder))?;
            if let Some(name) = entry.file_name().to_str().filter(|name| is_workspace(name)) {
                found.push(name.to_owned());
            }
        }
        found.sort();
        Ok(found)
    }

    /// Room for disks in GiB: what is free, and what workspaces and images of this folder hold.
    pub fn room_gib(&self) -> Outcome<u64> {
        let at =
            rustix::fs::statvfs(&self.root).map_err(|error| self.failed(&error.into(), "cannot see its room", &self.root))?;
        let mut bytes = at.f_bavail.saturating_mul(at.f_frsize);
        let mut folders = vec![self.root.clone()];
        while let Some(folder) = folders.pop() {
            // What vanishes while it is counted was not there.
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                match entry.metadata() {
                    Ok(meta) if meta.is_dir() => folders.push(entry.path()),
                    Ok(meta) => bytes = bytes.saturating_add(meta.blocks().saturating_mul(512)),
                    Err(_) => {}
                }
            }
        }
        Ok(bytes >> 30)
    }

    // ---- images ------------------------------------------------------------------------------------------------------

    /// Those of `digests` that are not here.
    pub fn missing_images(&self, digests: Vec<String>) -> Outcome<Vec<String>> {
        if let Some(digest) = digests.iter().find(|digest| !is_digest(digest)) {
            return Err(not_a_digest(digest));
        }
        Ok(digests.into_iter().filter(|digest| !self.image(digest).exists()).collect())
    }

    /// Stores the image that `from` reads.
    pub fn put_image(&self, digest: &str, size_bytes: u64, from: OwnedFd, call: &Call) -> Outcome<()> {
        if !is_digest(digest) {
            return Err(not_a_digest(digest));
        }
        let path = self.image(digest);
        if path.exists() {
            return Ok(());
        }
        let object = format!("image `{digest}`");
        let part = Part::create(&path, 0o444, &object)?;
        let mut source = File::from(from);
        // A reflink costs nothing where the file system has it; where it has not, bytes are copied.
        let cloned = rustix::fs::ioctl_ficlone(&part.file, &source).is_ok();
        let copied = if cloned {
            part.file.metadata().map_err(|error| errors::system(&error, "cannot store it", &object))?.len()
        } else {
            copy(&mut source, &part.file, size_bytes, "copy the image to the host", call, &object)?
        };
        if copied != size_bytes {
            return Err(Failure::new(codes::DAMAGED, format!("{copied} bytes came instead of {size_bytes}"))
                .about(object)
                .remedy("import the image again"));
        }
        part.keep()
    }

    /// Removes an image that no disk uses.
    pub fn remove_image(&self, digest: &str) -> Outcome<()> {
        if !is_digest(digest) {
            return Err(not_a_digest(digest));
        }
        let path = self.image(digest);
        for workspace in self.workspaces()? {
            if self.uses_image(&workspace, digest)? {
                return Err(Failure::new(codes::STATE, format!("a disk of workspace `{workspace}` is made from it"))
                    .about(format!("image `{digest}`"))
                    .remedy("destroy that workspace first"));
            }
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.failed(&error, "cannot remove it", &path)),
            _ => Ok(()),
        }
    }

    fn uses_image(&self, workspace: &str, digest: &str) -> Outcome<bool> {
        let folder = self.folder(workspace);
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "qcow2") {
                // A disk that cannot be read may use any image.
                if info(&path, "qcow2")?.backing_filename.ends_with(digest) {
                    return Ok(true);
                }
            }
        }
        // A kernel is read at each start; the machine says in `uses` what it needs.
        Ok(fs::read_to_string(folder.join("uses")).is_ok_and(|text| text.lines().any(|line| line == digest)))
    }

    // ---- disks and seeds -----------------------------------------------------------------------------------------------

    /// Makes the folder of a workspace. Whether it is new.
    pub fn make_folder(&self, workspace: &str) -> Outcome<bool> {
        let folder = self.folder(workspace);
        match DirBuilder::new().mode(0o711).create(&folder) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(self.failed(&error, "cannot make it", &folder)),
        }
    }

    /// Remembers which images a machine reads directly, so that they are kept.
    pub fn note_uses(&self, workspace: &str, digests: &[&str]) -> Outcome<()> {
        self.write(&self.file(workspace, "uses"), digests.join("\n").as_bytes())
    }

    /// Makes a disk, if it is not there.
    pub fn make_disk(&self, workspace: &str, disk: &DiskDoc, call: &Call) -> Outcome<()> {
        let path = self.disk(workspace, &disk.name);
        if path.exists() {
            return Ok(());
        }
        let object = format!("disk `{}` of workspace `{workspace}`", disk.name);
        let part = part_name(&path);
        let size_bytes = disk.size_mib.checked_mul(1 << 20).filter(|size| i64::try_from(*size).is_ok()).ok_or_else(|| {
            Failure::new(codes::INVALID, format!("{} MiB are more than a disk can have", disk.size_mib)).about(&object)
        })?;
        let mut command = qemu_img();
        command.args(["create", "-q", "-f", "qcow2"]);
        let size_bytes = match &disk.source {
            DiskSourceDoc::Image { digest, format } => {
                let image = self.checked_image(digest, format)?;
                let own = info(&image, format)?.virtual_size;
                if size_bytes > 0 && size_bytes < own {
                    return Err(Failure::new(
                        codes::INVALID,
                        format!(
                            "{} MiB are asked for, but the image has {} MiB: a disk is not made smaller than its image",
                            disk.size_mib,
                            own.div_ceil(1 << 20)
                        ),
                    )
                    .about(object)
                    .remedy("ask for at least the image's size, or name no size"));
                }
                command.arg("-F").arg(format).arg("-b").arg(&image);
                size_bytes.max(own)
            }
            DiskSourceDoc::Empty if size_bytes == 0 => {
                return Err(Failure::new(codes::INVALID, "an empty disk needs a size")
                    .about(object)
                    .remedy("name a size in MiB"));
            }
            DiskSourceDoc::Empty => size_bytes,
        };
        command.arg(&part).arg(size_bytes.to_string());
        let made = run(command, "make the disk", &object, call).and_then(|_said| {
            fs::set_permissions(&part, Permissions::from_mode(0o600))
                .map_err(|error| self.failed(&error, "cannot set its mode", &part))?;
            settle(&part, &path)
        });
        if made.is_err() {
            remove_quietly(&part);
        }
        made
    }

    /// The path of an image that is here, has a known format and stands for itself.
    pub fn checked_image(&self, digest: &str, format: &str) -> Outcome<PathBuf> {
        let object = format!("image `{digest}`");
        if !is_digest(digest) {
            return Err(not_a_digest(digest));
        }
        if !matches!(format, "raw" | "qcow2") {
            return Err(Failure::new(codes::INVALID, format!("its format is given as `{format}`"))
                .about(object)
                .remedy("formats are `raw` and `qcow2`"));
        }
        let path = self.image(digest);
        if !path.exists() {
            return Err(Failure::new(codes::NOT_FOUND, "it is not on the host").about(object).remedy("put it there first"));
        }
        if format == "qcow2" {
            let info = info(&path, format)?;
            if !info.backing_filename.is_empty() || info.has_data_file() {
                return Err(Failure::new(codes::INVALID, "it refers to another file")
                    .about(object)
                    .remedy("flatten it with `qemu-img convert`"));
            }
        }
        Ok(path)
    }

    /// Writes a small file as a whole, for nobody else to read.
    pub fn write(&self, path: &Path, bytes: &[u8]) -> Outcome<()> {
        let object = format!("`{}`", path.display());
        let part = Part::create(path, 0o600, &object)?;
        (&part.file).write_all(bytes).map_err(|error| errors::system(&error, "cannot write it", &object))?;
        part.keep()
    }

    /// Removes everything of a workspace.
    pub fn remove(&self, workspace: &str) -> Outcome<()> {
        let folder = self.folder(workspace);
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.failed(&error, "cannot remove it", &folder)),
            _ => Ok(()),
        }
    }

    // ---- console log ---------------------------------------------------------------------------------------------------

    /// Begins a new log: the machine starts.
    pub fn clear_log(&self, workspace: &str) -> Outcome<()> {
        let path = self.file(workspace, "console.log");
        match OpenOptions::new().write(true).truncate(true).open(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.failed(&error, "cannot empty it", &path)),
            _ => Ok(()),
        }
    }

    /// Gives back what is between the first and the newest half of `keep_bytes`. The hypervisor goes on appending meanwhile;
    /// a hole in the middle disturbs nothing and takes no room.
    pub fn bound_log(&self, workspace: &str, keep_bytes: u64) -> Outcome<()> {
        let path = self.file(workspace, "console.log");
        let trim = || -> io::Result<()> {
            let file = match OpenOptions::new().write(true).open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                opened => opened?,
            };
            let meta = file.metadata()?;
            if meta.blocks().saturating_mul(512) <= keep_bytes.saturating_mul(2) {
                return Ok(());
            }
            let half = (keep_bytes / 2).next_multiple_of(4096);
            let end = meta.len().saturating_sub(half) / 4096 * 4096;
            if end > half {
                rustix::fs::fallocate(&file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, half, end - half)?;
            }
            Ok(())
        };
        trim().map_err(|error| self.failed(&error, "cannot bound it", &path))
    }

    /// The kept console output: the first and the newest half of `keep_bytes`.
    pub fn log(&self, workspace: &str, keep_bytes: u64) -> Outcome<LogDoc> {
        let path = self.file(workspace, "console.log");
        let read = || -> io::Result<LogDoc> {
            let file = match File::open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(LogDoc::default()),
                opened => opened?,
            };
            let size = file.metadata()?.len();
            let half = (keep_bytes / 2).next_multiple_of(4096);
            let (head, tail) = if size <= half * 2 { (size, 0) } else { (half, half) };
            let mut bytes = vec![0; usize::try_from(head + tail).unwrap_or(usize::MAX)];
            let (first, last) = bytes.split_at_mut(usize::try_from(head).unwrap_or(usize::MAX));
            file.read_exact_at(first, 0)?;
            file.read_exact_at(last, size - tail)?;
            Ok(LogDoc { text: String::from_utf8_lossy(&bytes).into_owned(), omitted_bytes: size - head - tail })
        };
        read().map_err(|error| self.failed(&error, "cannot read it", &path))
    }

    // ---- saved memory --------------------------------------------------------------------------------------------------

    /// Whether the workspace's memory is here, complete. A save that was complete when this process died is taken over.
    pub fn is_saved(&self, workspace: &str) -> bool {
        if self.file(workspace, "memory.save").exists() {
            return true;
        }
        let part = self.file(workspace, "memory.save.part");
        is_save_file(&part) && settle(&part, &self.file(workspace, "memory.save")).is_ok()
    }

    /// Takes the memory out of the saved state while it is being restored.
    pub fn begin_restore(&self, workspace: &str) -> Outcome<PathBuf> {
        let (saved, restoring) = (self.file(workspace, "memory.save"), self.file(workspace, "memory.restoring"));
        if saved.exists() {
            fs::rename(&saved, &restoring).map_err(|error| self.failed(&error, "cannot rename it", &saved))?;
        }
        Ok(restoring)
    }

    /// The restore failed, nothing ran: the machine is saved as before.
    pub fn undo_restore(&self, workspace: &str) -> Outcome<()> {
        let (saved, restoring) = (self.file(workspace, "memory.save"), self.file(workspace, "memory.restoring"));
        match fs::rename(&restoring, &saved) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.failed(&error, "cannot rename it", &restoring)),
            _ => Ok(()),
        }
    }

    /// The machine runs: its old memory must never be used again.
    pub fn end_restore(&self, workspace: &str) -> Outcome<()> {
        for name in ["memory.restoring", "memory.save", "memory.save.part", "saved.json"] {
            let path = self.file(workspace, name);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(self.failed(&error, "cannot remove it", &path));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// After a restore of which nobody knows how it ended, and with no machine running: the memory is used again only if no
    /// disk was written since, or the guest would wake up with disks that it does not remember.
    pub fn recover_restore(&self, workspace: &str, disks: &[DiskDoc]) -> Outcome<()> {
        let restoring = self.file(workspace, "memory.restoring");
        let Ok(begun) = fs::metadata(&restoring) else { return Ok(()) };
        for disk in disks {
            let path = self.disk(workspace, &disk.name);
            let meta = fs::metadata(&path).map_err(|error| self.failed(&error, "cannot look at it", &path))?;
            // A rename sets the change time: that is when the restore began.
            if (meta.mtime(), meta.mtime_nsec()) > (begun.ctime(), begun.ctime_nsec()) {
                return Err(Failure::new(
                    codes::STATE,
                    "the restore was interrupted after the guest had run, and its disks have changed since",
                )
                .about(errors::workspace(workspace))
                .remedy("start it: it boots from its disks"));
            }
        }
        self.undo_restore(workspace)
    }
}

fn not_a_digest(digest: &str) -> Failure {
    Failure::new(codes::INVALID, format!("`{}` is not a sha256 in lower-case hexadecimal digits", digest.escape_default()))
        .about("image")
}

/// Whether a file is a complete memory save.
pub fn is_save_file(path: &Path) -> bool {
    let mut magic = [0; 16];
    File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && &magic == SAVED_MAGIC
}

/// The name of a file that is being written.
pub fn part_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

/// Makes a complete `part` durable under its name.
pub fn settle(part: &Path, path: &Path) -> Outcome<()> {
    let durable = || -> io::Result<()> {
        File::open(part)?.sync_all()?;
        fs::rename(part, path)?;
        path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    };
    durable().map_err(|error| errors::system(&error, "cannot complete it", &format!("`{}`", path.display())))
}

/// Removes what is of no use to anybody. A failure leaves a `.part` that the next attempt replaces and destroy removes.
pub fn remove_quietly(path: &Path) {
    let _may_stay = fs::remove_file(path);
}

/// A file being written; removed unless it is kept.
pub struct Part {
    /// The open file.
    pub file: File,
    path: PathBuf,
    kept: bool,
    object: String,
}

impl Part {
    /// Begins `path`.
    pub fn create(path: &Path, mode: u32, object: &str) -> Outcome<Self> {
        let part = part_name(path);
        remove_quietly(&part);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(mode | 0o200)
            .open(&part)
            .and_then(|file| file.set_permissions(Permissions::from_mode(mode)).map(|()| file))
            .map_err(|error| errors::system(&error, "cannot create it", object))?;
        Ok(Self { file, path: path.to_owned(), kept: false, object: object.to_owned() })
    }

    /// Where the bytes are while they are written.
    pub fn path(&self) -> PathBuf {
        part_name(&self.path)
    }

    /// It is complete.
    pub fn keep(mut self) -> Outcome<()> {
        settle(&self.path(), &self.path).map_err(|failure| failure.about(self.object.clone()))?;
        self.kept = true;
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.kept {
            remove_quietly(&self.path());
        }
    }
}

/// Copies everything from `source` to `target`; the kernel moves the bytes where it can. Returns how many.
pub fn copy(source: &mut File, target: &File, total: u64, phase: &str, call: &Call, object: &str) -> Outcome<u64> {
    let mut done = 0;
    let mut target = target;
    loop {
        call.check().map_err(|failure| failure.about(object))?;
        let moved = io::copy(&mut Read::take(&mut *source, CHUNK), &mut target)
            .map_err(|error| errors::system(&error, &format!("cannot {phase}"), object))?;
        done += moved;
        if moved == 0 {
            return Ok(done);
        }
        call.progress(phase, done, total);
    }
}

/// Copies a file of the host into a descriptor. Returns how many bytes.
pub fn send(path: &Path, to: OwnedFd, phase: &str, call: &Call) -> Outcome<u64> {
    let object = format!("`{}`", path.display());
    let failed = |error: io::Error| errors::system(&error, "cannot read it", &object);
    let mut source = File::open(path).map_err(failed)?;
    let total = source.metadata().map_err(failed)?.len();
    let target = File::from(to);
    let sent = copy(&mut source, &target, total, phase, call, &object)?;
    // A pipe has nothing to put on a disk.
    if target.metadata().is_ok_and(|meta| meta.is_file()) {
        target.sync_all().map_err(|error| errors::system(&error, "cannot write its copy", &object))?;
    }
    Ok(sent)
}

fn qemu_img() -> Command {
    let mut command = Command::new("qemu-img");
    command.stdin(Stdio::null()).env("LC_ALL", "C");
    command
}

/// Runs a tool to its end and returns what it printed. Cancelling the call, or its deadline, ends the tool.
pub fn run(mut command: Command, what: &str, object: &str, call: &Call) -> Outcome<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let failed = |error: io::Error| {
        let failure = errors::system(&error, &format!("cannot run `{name}` to {what}"), object);
        if error.kind() == io::ErrorKind::NotFound { failure.remedy("install the package qemu-utils") } else { failure }
    };
    let (mut out, mut err) = (scratch()?, scratch()?);
    let streams = (out.try_clone(), err.try_clone());
    let (Ok(stdout), Ok(stderr)) = streams else {
        return Err(Failure::new(codes::INTERNAL, "out of file descriptors").about(object));
    };
    let mut child = match command.stdout(stdout).stderr(stderr).spawn() {
        Ok(child) => child,
        Err(error) => return Err(failed(error)),
    };
    let mut wait = Duration::from_millis(1);
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) => {}
            Err(error) => return Err(errors::system(&error, what, object)),
        }
        if let Err(failure) = call.check() {
            let _already_gone = child.kill();
            let _reaped = child.wait();
            return Err(failure.about(object));
        }
        // Most tools end within some milliseconds; long ones are looked at four times a second.
        std::thread::sleep(wait);
        wait = (wait * 2).min(Duration::from_millis(250));
    };
    let text = |file: &mut File| -> io::Result<String> {
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(0))?;
        file.take(1 << 20).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let said = (text(&mut out), text(&mut err));
    match (status.success(), said) {
        (true, (Ok(printed), _)) => Ok(printed),
        (false, (_, Ok(complained))) => Err(errors::tool(&complained, &format!("cannot {what}"), object)),
        _ => Err(Failure::new(codes::INTERNAL, format!("cannot {what}: its output cannot be read")).about(object)),
    }
}

/// A nameless file for a tool's output: a pipe could fill up while nobody reads.
fn scratch() -> Outcome<File> {
    rustix::fs::memfd_create("output", rustix::fs::MemfdFlags::CLOEXEC)
        .map(File::from)
        .map_err(|error| Failure::new(codes::INTERNAL, format!("cannot make a file in memory: {error}")).retry(Retry::Later))
}

/// What a disk file is, read as `format` and nothing else.
pub fn info(path: &Path, format: &str) -> Outcome<DiskInfo> {
    let object = format!("`{}`", path.display());
    let mut command = qemu_img();
    // -U: a running guest may hold the lock.
    command.args(["info", "-U", "--output=json", "-f", format]).arg(path);
    let output = command
        .output()
        .map_err(|error| errors::system(&error, "cannot run `qemu-img`", &object).remedy("install the package qemu-utils"))?;
    if !output.status.success() {
        return Err(Failure {
            code: codes::DAMAGED.to_owned(),
            ..errors::tool(&String::from_utf8_lossy(&output.stderr), &format!("it is not a {format} disk"), &object)
        });
    }
    serde_json::from_slice(&output.stdout)
        .map_err(|error| Failure::new(codes::INTERNAL, format!("`qemu-img info` answered something else: {error}")).about(object))
}

/// Points an overlay at the image that it is a clone of, on this host. Only the header is written.
pub fn rebase(overlay: &Path, image: &Path, image_format: &str, call: &Call) -> Outcome<()> {
    let mut command = qemu_img();
    command.args(["rebase", "-q", "-u", "-f", "qcow2", "-F", image_format, "-b"]).arg(image).arg(overlay);
    run(command, "point the disk at its image", &format!("`{}`", overlay.display()), call).map(drop)
}

/// Writes `disk`, complete in itself, into the new file `target`.
pub fn flatten(disk: &Path, target: &Path, call: &Call) -> Outcome<()> {
    let mut command = qemu_img();
    command.args(["convert", "-q", "-f", "qcow2", "-O", "qcow2", "-o", "compat=1.1"]).arg(disk).arg(target);
    run(command, "flatten the disk", &format!("`{}`", disk.display()), call).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;
    use std::time::Instant;
    use vws_plugin_api::sdk::Emitter;

    fn call() -> Call {
        Call::new(
            "t".into(),
            Instant::now() + Duration::from_secs(60),
            vec![],
            Arc::new(AtomicBool::new(false)),
            Emitter::new(|_| {}),
        )
    }

    const WORKSPACE: &str = "0123456789abcdef0123456789abcdef";

    fn storage() -> (tempfile::TempDir, Storage) {
        let folder = tempfile::tempdir().unwrap();
        let storage = Storage::open(&folder.path().join("host")).unwrap();
        (folder, storage)
    }

    fn file(bytes: &[u8]) -> OwnedFd {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        file.into()
    }

    fn disk(name: &str, source: DiskSourceDoc, size_mib: u64) -> DiskDoc {
        DiskDoc { name: name.into(), source, size_mib, iops: 0, kib_per_second: 0 }
    }

    #[test]
    fn an_image_is_stored_once_whole_and_read_only() {
        let (_folder, storage) = storage();
        let digest = "a".repeat(64);
        assert_eq!(storage.missing_images(vec![digest.clone()]).unwrap(), vec![digest.clone()]);
        let short = storage.put_image(&digest, 5, file(b"four"), &call()).unwrap_err();
        assert_eq!(short.code, codes::DAMAGED);
        assert_eq!(fs::read_dir(storage.root().join("images")).unwrap().count(), 0, "nothing is left of a failed copy");
        storage.put_image(&digest, 4, file(b"four"), &call()).unwrap();
        storage.put_image(&digest, 4, file(b"else"), &call()).unwrap();
        assert_eq!(fs::read(storage.image(&digest)).unwrap(), b"four");
        assert_eq!(fs::metadata(storage.image(&digest)).unwrap().mode() & 0o777, 0o444);
        assert_eq!(storage.missing_images(vec![digest.clone()]).unwrap(), Vec::<String>::new());
        assert_eq!(storage.missing_images(vec!["../x".into()]).unwrap_err().code, codes::INVALID);
        storage.remove_image(&digest).unwrap();
        storage.remove_image(&digest).unwrap();
    }

    #[test]
    fn a_clone_keeps_its_image_and_is_never_smaller() {
        let (_folder, storage) = storage();
        let digest = "b".repeat(64);
        storage.put_image(&digest, 3 << 20, file(&vec![0; 3 << 20]), &call()).unwrap();
        storage.make_folder(WORKSPACE).unwrap();
        let source = DiskSourceDoc::Image { digest: digest.clone(), format: "raw".into() };
        let small = storage.make_disk(WORKSPACE, &disk("disk-0", source.clone(), 2), &call()).unwrap_err();
        assert!(small.message.contains("2 MiB") && small.message.contains("3 MiB"), "{}", small.message);
        storage.make_disk(WORKSPACE, &disk("disk-0", source.clone(), 0), &call()).unwrap();
        storage.make_disk(WORKSPACE, &disk("disk-1", source, 8), &call()).unwrap();
        storage.make_disk(WORKSPACE, &disk("disk-2", DiskSourceDoc::Empty, 16), &call()).unwrap();
        let size = |name| info(&storage.disk(WORKSPACE, name), "qcow2").unwrap().virtual_size >> 20;
        assert_eq!((size("disk-0"), size("disk-1"), size("disk-2")), (3, 8, 16));
        assert_eq!(info(&storage.disk(WORKSPACE, "disk-0"), "qcow2").unwrap().backing_filename_format, "raw");
        let used = storage.remove_image(&digest).unwrap_err();
        assert_eq!(used.code, codes::STATE);
        assert!(used.message.contains(WORKSPACE));
        storage.remove(WORKSPACE).unwrap();
        storage.remove_image(&digest).unwrap();
    }

    #[test]
    fn images_that_name_other_files_are_refused() {
        let (folder, storage) = storage();
        let run = |arguments: &[&str]| {
            assert!(Command::new("qemu-img").args(arguments).current_dir(folder.path()).output().unwrap().status.success())
        };
        fs::write(folder.path().join("secret"), vec![7; 1 << 20]).unwrap();
        run(&["create", "-f", "qcow2", "-F", "raw", "-b", "secret", "backed"]);
        run(&["create", "-f", "qcow2", "-o", "data_file=outside,data_file_raw=on", "outsider", "1M"]);
        for (letter, name) in [("c", "backed"), ("d", "outsider")] {
            fs::copy(folder.path().join(name), storage.image(&letter.repeat(64))).unwrap();
            let failure = storage.checked_image(&letter.repeat(64), "qcow2").unwrap_err();
            assert!(matches!(failure.code.as_str(), codes::INVALID | codes::DAMAGED), "{failure:?}");
        }
        fs::write(storage.image(&"e".repeat(64)), b"no disk").unwrap();
        assert_eq!(storage.checked_image(&"e".repeat(64), "qcow2").unwrap_err().code, codes::DAMAGED);
        assert_eq!(storage.checked_image(&"e".repeat(64), "vmdk").unwrap_err().code, codes::INVALID);
        assert_eq!(storage.checked_image(&"f".repeat(64), "raw").unwrap_err().code, codes::NOT_FOUND);
    }

    #[test]
    fn the_log_keeps_its_beginning_and_its_end_in_bounded_room() {
        let (_folder, storage) = storage();
        storage.make_folder(WORKSPACE).unwrap();
        let path = storage.file(WORKSPACE, "console.log");
        assert_eq!(storage.log(WORKSPACE, 16 << 10).unwrap().text, "");
        let mut appending = OpenOptions::new().create(true).append(true).open(&path).unwrap();
        appending.write_all(b"first line\n").unwrap();
        for _ in 0..64 {
            appending.write_all(&[b'.'; 64 << 10]).unwrap();
            storage.bound_log(WORKSPACE, 16 << 10).unwrap();
            assert!(fs::metadata(&path).unwrap().blocks() * 512 <= 160 << 10);
        }
        appending.write_all(b"last line\n").unwrap();
        let log = storage.log(WORKSPACE, 16 << 10).unwrap();
        assert!(log.text.starts_with("first line\n") && log.text.ends_with("last line\n"));
        assert!(!log.text.contains('\0') && log.omitted_bytes > 4_000_000);
        storage.clear_log(WORKSPACE).unwrap();
        appending.write_all(b"new").unwrap();
        assert_eq!(storage.log(WORKSPACE, 16 << 10).unwrap().text, "new");
    }

    #[test]
    fn memory_is_used_again_only_while_the_disks_stand_still() {
        let (_folder, storage) = storage();
        storage.make_folder(WORKSPACE).unwrap();
        let disks = [disk("disk-0", DiskSourceDoc::Empty, 1)];
        storage.make_disk(WORKSPACE, &disks[0], &call()).unwrap();
        fs::write(storage.file(WORKSPACE, "memory.save.part"), b"LibvirtQemudPart....").unwrap();
        assert!(!storage.is_saved(WORKSPACE), "libvirt had not finished it");
        fs::write(storage.file(WORKSPACE, "memory.save.part"), b"LibvirtQemudSave....").unwrap();
        assert!(storage.is_saved(WORKSPACE), "it was finished when we died");
        storage.begin_restore(WORKSPACE).unwrap();
        assert!(!storage.is_saved(WORKSPACE));
        storage.recover_restore(WORKSPACE, &disks).unwrap();
        assert!(storage.is_saved(WORKSPACE));
        storage.begin_restore(WORKSPACE).unwrap();
        let now = std::time::SystemTime::now() + Duration::from_secs(1);
        File::options().write(true).open(storage.disk(WORKSPACE, "disk-0")).unwrap().set_modified(now).unwrap();
        assert_eq!(storage.recover_restore(WORKSPACE, &disks).unwrap_err().code, codes::STATE);
        assert!(!storage.is_saved(WORKSPACE));
    }

    #[test]
    fn a_cancelled_copy_leaves_nothing() {
        let (_folder, storage) = storage();
        let cancelled = Call::new(
            "t".into(),
            Instant::now() + Duration::from_secs(9),
            vec![],
            Arc::new(AtomicBool::new(true)),
            Emitter::new(|_| {}),
        );
        let failure = storage.put_image(&"a".repeat(64), 4, file(b"four"), &cancelled).unwrap_err();
        assert_eq!(failure.code, codes::CANCELLED);
        assert_eq!(fs::read_dir(storage.root().join("images")).unwrap().count(), 0);
    }
}
