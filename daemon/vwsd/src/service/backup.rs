//! The online backup: a copy of one instant beside the database, then into the descriptor that the client handed over.
//!
//! Owns: the names of the scratch files in the state folder, and clearing away those that a crash left.

use super::Service;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::sync::Arc;
use vws_domain::{Caller, Error, ErrorKind, Result, Verb};

/// How a scratch file's name begins; 32 hexadecimal digits and [`END`] follow.
const BEGIN: &str = "backup-";
/// How it ends. The store's own copy in the making, and SQLite's files beside that, have one more ending each.
const END: &str = ".part";
const MORE: [&str; 5] = ["", ".part", ".part-journal", ".part-wal", ".part-shm"];

fn scratch_name(id: u128) -> String {
    format!("{BEGIN}{id:032x}{END}")
}

fn is_scratch(name: &str) -> bool {
    let rest = name.strip_prefix(BEGIN).unwrap_or_default();
    let (digits, rest) = rest.split_at_checked(32).unwrap_or_default();
    digits.len() == 32
        && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        && rest.strip_prefix(END).is_some_and(|more| MORE.contains(&more))
}

/// Removes what backups of an earlier run left unfinished. Only by whoever has the state's lock.
///
/// # Errors
/// The folder cannot be read or written.
pub(crate) fn clear_scratch(state: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(state)? {
        let entry = entry?;
        if entry.file_type()?.is_file() && is_scratch(&entry.file_name().to_string_lossy()) {
            std::fs::remove_file(entry.path())?;
            tracing::info!(file = %entry.path().display(), "removed what an interrupted backup had left");
        }
    }
    Ok(())
}

impl Service {
    /// Writes a consistent copy of the database into the descriptor.
    ///
    /// # Errors
    /// AccessDenied, NoSpace, Internal.
    pub async fn backup(&self, caller: &Caller, mut to: File) -> Result<()> {
        self.gate_site(caller, Verb::SiteManage, "backup").await?;
        let store = Arc::clone(&self.store);
        let scratch = self.admission.state.join(scratch_name(self.env.id()));
        crate::operate::blocking(move || {
            let copied = store.backup(&scratch, |_, _| ()).and_then(|()| {
                let failed = |error: std::io::Error| {
                    let kind = if error.raw_os_error() == Some(28) { ErrorKind::NoSpace } else { ErrorKind::Internal };
                    Error::new(kind, "the backup", format!("cannot be written: {error}"), "make room, or choose another file")
                };
                let mut from = File::open(&scratch).map_err(failed)?;
                let mut chunk = vec![0; 1 << 20];
                loop {
                    let read = from.read(&mut chunk).map_err(failed)?;
                    if read == 0 {
                        break;
                    }
                    to.write_all(chunk.get(..read).unwrap_or_default()).map_err(failed)?;
                }
                // A pipe cannot be synced or measured, and need not be.
                if to.stream_position().is_ok() {
                    to.sync_all().map_err(failed)?;
                }
                Ok(())
            });
            let removed = std::fs::remove_file(&scratch);
            if let (Ok(()), Err(error)) = (&copied, removed) {
                tracing::warn!(%error, path = %scratch.display(), "a scratch file stays behind");
            }
            copied
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_clears_away_interrupted_backups_and_nothing_else() {
        let state = tempfile::tempdir().unwrap();
        let name = scratch_name(0xbeef);
        let left: Vec<String> = MORE.iter().map(|more| format!("{name}{more}")).collect();
        let others = ["vws.db", "backup-2026.part", "my-backup.part", &format!("{name}.txt"), &name.to_uppercase(), &name[..39]]
            .map(str::to_owned);
        for file in left.iter().chain(&others) {
            std::fs::write(state.path().join(file), "x").unwrap();
        }
        std::fs::create_dir(state.path().join(scratch_name(1))).unwrap();
        clear_scratch(state.path()).unwrap();
        for file in &left {
            assert!(!state.path().join(file).exists(), "{file}");
        }
        for file in others.iter().chain([&scratch_name(1)]) {
            assert!(state.path().join(file).exists(), "{file}");
        }
    }
}
