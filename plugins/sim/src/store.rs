//! Where a host keeps its machines and images: in memory, or, with a directory, as files.
//!
//! As files they are read and written each time: two processes may serve one host for a while, when one is being replaced by the
//! other. One JSON file a machine or image, written beside and renamed, so that a kill at any instant leaves the old or the new.

use crate::machine::Machine;
use crate::moving;
use serde::{Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use vws_plugin_api::doc::{Failure, Retry, codes};

/// See the module.
pub enum Store {
    /// Lost with the process.
    Memory {
        /// By workspace.
        machines: BTreeMap<String, Machine>,
        /// By digest: size in bytes.
        images: BTreeMap<String, u64>,
    },
    /// The host's folder.
    Files(Folders),
}

/// Where a host with a directory keeps what it has.
pub struct Folders {
    /// Its own: `machines`, `images`, what is on its way.
    pub host: PathBuf,
    /// The disks, one file a machine: its own or those of a storage that hosts share.
    pub disks: PathBuf,
}

static TEMPORARY: AtomicU64 = AtomicU64::new(0);

pub fn io(what: &Path, error: &std::io::Error) -> Failure {
    let code = if error.kind() == std::io::ErrorKind::StorageFull { codes::NO_SPACE } else { codes::HYPERVISOR };
    Failure::new(code, error.to_string()).about(format!("file {}", what.display())).retry(Retry::Later)
}

pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Failure> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(path, &error)),
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| {
        Failure::new(codes::DAMAGED, error.to_string()).about(format!("file {}", path.display())).remedy("remove the file")
    })
}

pub fn write<T: Serialize>(path: &Path, value: &T) -> Result<(), Failure> {
    let bytes = serde_json::to_vec(value).map_err(|error| Failure::new(codes::INTERNAL, error.to_string()))?;
    let number = TEMPORARY.fetch_add(1, Ordering::Relaxed);
    let beside = path.with_extension(format!("{}-{number}.tmp", std::process::id()));
    std::fs::write(&beside, bytes).and_then(|()| std::fs::rename(&beside, path)).map_err(|error| io(path, &error))
}

pub fn remove(path: &Path) -> Result<(), Failure> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io(path, &error)),
        _ => Ok(()),
    }
}

/// The names in a folder, of files `NAME.json`.
pub fn names(folder: &Path) -> Result<Vec<String>, Failure> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|error| io(folder, &error))? {
        let entry = entry.map_err(|error| io(folder, &error))?;
        if let Some(name) = entry.file_name().to_str().and_then(|name| name.strip_suffix(".json")) {
            names.push(name.to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Adds a line to a file.
fn noted(path: &Path, line: &str) -> Result<(), Failure> {
    let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
    file.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes())).map_err(|error| io(path, &error))
}

/// Ids and digests become file names: letters, digits and dashes only.
fn checked<'a>(what: &str, name: &'a str) -> Result<&'a str, Failure> {
    if !name.is_empty() && name.len() <= 128 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        Ok(name)
    } else {
        Err(Failure::new(codes::INVALID, format!("`{}` is no {what}", name.escape_default())))
    }
}

impl Store {
    /// The store of `host`.
    pub fn open(directory: Option<&Path>, host: &str, storage: Option<&str>) -> Result<Self, Failure> {
        let Some(directory) = directory else {
            return Ok(Self::Memory { machines: BTreeMap::new(), images: BTreeMap::new() });
        };
        let folder = directory.join(host);
        let disks = storage.map_or_else(|| folder.join("disks"), |name| directory.join(format!("storage-{name}")));
        let parts = ["machines", "images", moving::MOVING, moving::INCOMING].map(|part| folder.join(part));
        for part in parts.iter().chain([&disks]) {
            std::fs::create_dir_all(part).map_err(|error| io(part, &error))?;
        }
        Ok(Self::Files(Folders { host: folder, disks }))
    }

    /// A machine.
    pub fn machine(&self, workspace: &str) -> Result<Option<Machine>, Failure> {
        checked("workspace id", workspace)?;
        match self {
            Self::Memory { machines, .. } => Ok(machines.get(workspace).cloned()),
            Self::Files(folders) => {
                moving::settle(&folders.host, workspace)?;
                read(&folders.host.join("machines").join(format!("{workspace}.json")))
            }
        }
    }

    /// Every machine.
    pub fn machines(&self) -> Result<Vec<Machine>, Failure> {
        match self {
            Self::Memory { machines, .. } => Ok(machines.values().cloned().collect()),
            Self::Files(folders) => {
                let mut all = Vec::new();
                for name in names(&folders.host.join("machines"))? {
                    // It may have been removed since.
                    all.extend(self.machine(&name)?);
                }
                Ok(all)
            }
        }
    }

    /// Puts a machine.
    pub fn put_machine(&mut self, machine: Machine) -> Result<(), Failure> {
        let workspace = checked("workspace id", &machine.doc.workspace)?.to_owned();
        match self {
            Self::Memory { machines, .. } => {
                machines.insert(workspace, machine);
                Ok(())
            }
            Self::Files(folders) => write(&folders.host.join("machines").join(format!("{workspace}.json")), &machine),
        }
    }

    /// Removes a machine; it may be absent.
    pub fn remove_machine(&mut self, workspace: &str) -> Result<(), Failure> {
        checked("workspace id", workspace)?;
        match self {
            Self::Memory { machines, .. } => {
                machines.remove(workspace);
                Ok(())
            }
            Self::Files(folders) => remove(&folders.host.join("machines").join(format!("{workspace}.json"))),
        }
    }

    /// Every image: digest and size.
    pub fn images(&self) -> Result<Vec<(String, u64)>, Failure> {
        match self {
            Self::Memory { images, .. } => Ok(images.iter().map(|(digest, size)| (digest.clone(), *size)).collect()),
            Self::Files(folder) => {
                let mut all = Vec::new();
                for digest in names(&folder.host.join("images"))? {
                    // It may have been removed since.
                    all.extend(self.image(&digest)?.map(|size| (digest.clone(), size)));
                }
                Ok(all)
            }
        }
    }

    /// Size of an image that is here.
    pub fn image(&self, digest: &str) -> Result<Option<u64>, Failure> {
        checked("digest", digest)?;
        match self {
            Self::Memory { images, .. } => Ok(images.get(digest).copied()),
            Self::Files(folders) => read(&folders.host.join("images").join(format!("{digest}.json"))),
        }
    }

    /// Puts an image. With a directory, a line in the host's file `transfers` tells of it, so that they can be counted.
    pub fn put_image(&mut self, digest: &str, size_bytes: u64) -> Result<(), Failure> {
        checked("digest", digest)?;
        match self {
            Self::Memory { images, .. } => {
                images.insert(digest.to_owned(), size_bytes);
                Ok(())
            }
            Self::Files(folders) => {
                noted(&folders.host.join("transfers"), digest)?;
                write(&folders.host.join("images").join(format!("{digest}.json")), &size_bytes)
            }
        }
    }

    /// Removes an image; it may be absent.
    pub fn remove_image(&mut self, digest: &str) -> Result<(), Failure> {
        checked("digest", digest)?;
        match self {
            Self::Memory { images, .. } => {
                images.remove(digest);
                Ok(())
            }
            Self::Files(folders) => remove(&folders.host.join("images").join(format!("{digest}.json"))),
        }
    }

    /// The disks of a machine are there from now on.
    pub fn make_disks(&self, workspace: &str) -> Result<(), Failure> {
        checked("workspace id", workspace)?;
        match self {
            Self::Memory { .. } => Ok(()),
            Self::Files(folders) => write(&folders.disks.join(workspace), &workspace),
        }
    }

    /// Removes the disks of a machine; they may be absent.
    pub fn remove_disks(&self, workspace: &str) -> Result<(), Failure> {
        checked("workspace id", workspace)?;
        match self {
            Self::Memory { .. } => Ok(()),
            Self::Files(folders) => remove(&folders.disks.join(workspace)),
        }
    }

    /// The folders, if it has any.
    pub fn folders(&self) -> Option<&Folders> {
        match self {
            Self::Memory { .. } => None,
            Self::Files(folders) => Some(folders),
        }
    }
}
