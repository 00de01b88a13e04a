//! The NoCloud seed: a small FAT volume labelled CIDATA with the machine's first words to its guest.
//!
//! Owns: the volume's bytes. Must not know: where it is stored.

use fatfs::{FatType, FileSystem, FormatVolumeOptions, FsOptions, format_volume};
use std::io::{self, Cursor, Write};
use vws_plugin_api::doc::SeedDoc;

/// The smallest volume: FAT12 with room for the directory.
const LEAST_BYTES: usize = 128 * 1024;

/// The volume with `meta-data`, `user-data` and, if there is one, `network-config`.
pub fn volume(seed: &SeedDoc) -> io::Result<Vec<u8>> {
    let text = seed.meta_data.len() + seed.user_data.len() + seed.network_config.len();
    // Clusters, both tables and the directory need room beside the text itself.
    let size = (text + text / 8 + LEAST_BYTES).next_multiple_of(64 * 1024);
    let mut disk = Cursor::new(vec![0; size]);
    let kind = if size < 4 * 1024 * 1024 { FatType::Fat12 } else { FatType::Fat16 };
    format_volume(&mut disk, FormatVolumeOptions::new().fat_type(kind).volume_label(*b"CIDATA     ").volume_id(0x7677_7331))?;
    {
        let filesystem = FileSystem::new(&mut disk, FsOptions::new().update_accessed_date(false))?;
        let root = filesystem.root_dir();
        for (name, text) in
            [("meta-data", &seed.meta_data), ("user-data", &seed.user_data), ("network-config", &seed.network_config)]
        {
            if name == "network-config" && text.is_empty() {
                continue;
            }
            root.create_file(name)?.write_all(text.as_bytes())?;
        }
        drop(root);
        filesystem.unmount()?;
    }
    Ok(disk.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn read(volume: &[u8], name: &str) -> Option<String> {
        let mut bytes = Cursor::new(volume.to_vec());
        let filesystem = FileSystem::new(&mut bytes, FsOptions::new()).unwrap();
        assert_eq!(filesystem.volume_label(), "CIDATA");
        let mut text = String::new();
        filesystem.root_dir().open_file(name).ok()?.read_to_string(&mut text).unwrap();
        Some(text)
    }

    #[test]
    fn a_guest_reads_back_what_was_given() {
        let seed =
            SeedDoc { meta_data: "instance-id: i\n".into(), user_data: "#cloud-config\n".into(), network_config: String::new() };
        let small = volume(&seed).unwrap();
        assert_eq!(read(&small, "meta-data").unwrap(), seed.meta_data);
        assert_eq!(read(&small, "user-data").unwrap(), seed.user_data);
        assert_eq!(read(&small, "network-config"), None);
        for length in [1, 60_000, 1 << 20, 6 << 20] {
            let seed = SeedDoc { user_data: "x".repeat(length), network_config: "version: 2\n".into(), ..seed.clone() };
            let volume = volume(&seed).unwrap();
            assert_eq!(read(&volume, "user-data").unwrap().len(), length);
            assert_eq!(read(&volume, "network-config").unwrap(), "version: 2\n");
        }
    }
}
