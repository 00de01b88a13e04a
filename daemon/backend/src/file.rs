//! The plugin's file: may it be trusted, and what are its bytes.
//!
//! Whoever can write the file, or put another in its place, runs code with the daemon's rights. So: absolute, a regular file, its
//! owner and its folder's owner are root or the daemon's own user, and others can write neither.

use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Fact and remedy.
type Fault = (String, String);

/// The file's real path, once it may be trusted.
pub(crate) fn trusted(path: &Path) -> Result<PathBuf, Fault> {
    let configure = || "correct `path` in the plugin's section of the configuration".to_owned();
    let real = path.canonicalize().map_err(|error| (format!("cannot be found: {error}"), configure()))?;
    let meta = std::fs::metadata(&real).map_err(|error| (format!("cannot be read: {error}"), configure()))?;
    if !meta.is_file() {
        return Err(("is not a file".to_owned(), configure()));
    }
    judge(&real, meta.uid(), meta.mode(), false)?;
    if let Some(folder) = real.parent() {
        let meta = std::fs::metadata(folder).map_err(|error| (format!("its folder cannot be read: {error}"), configure()))?;
        judge(folder, meta.uid(), meta.mode(), meta.mode() & 0o1000 != 0)?;
    }
    Ok(real)
}

fn judge(path: &Path, owner: u32, mode: u32, sticky_folder: bool) -> Result<(), Fault> {
    let own = rustix::process::geteuid().as_raw();
    let shown = path.display();
    if owner != 0 && owner != own {
        return Err((
            format!("{shown} belongs to user {owner}, neither root nor the daemon's user {own}, so its code is not loaded"),
            format!("chown root {shown}"),
        ));
    }
    // A sticky folder (such as a temporary one) lets nobody replace another's file.
    if mode & 0o002 != 0 && !sticky_folder {
        return Err((format!("everybody can write {shown}, so its code is not loaded"), format!("chmod o-w {shown}")));
    }
    Ok(())
}

/// sha256 of the file, 64 hexadecimal digits.
pub(crate) fn sha256(path: &Path) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        digest.update(buffer.get(..count).unwrap_or_default());
    }
    Ok(digest.finalize().iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a String cannot fail.
        let _written = write!(text, "{byte:02x}");
        text
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_that_others_can_write_is_refused_and_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("p.so");
        std::fs::write(&file, b"abc").unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
        assert_eq!(trusted(&file).unwrap(), file.canonicalize().unwrap());
        assert_eq!(sha256(&file).unwrap(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o666)).unwrap();
        assert!(trusted(&file).unwrap_err().0.contains("everybody can write"));
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o777)).unwrap();
        assert!(trusted(&file).unwrap_err().0.contains("everybody can write"));
        assert!(trusted(folder.path()).unwrap_err().0.contains("not a file"));
        assert!(trusted(Path::new("/nonexistent/p.so")).unwrap_err().0.contains("cannot be found"));
    }
}
