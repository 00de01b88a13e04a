//! The first cluster of a qcow2 file: what the disk says of itself, and pointing it at another image.
//!
//! Owns: the header's layout, so that a disk of another host can be judged by a few bytes of it and no tool has to open it.
//! Must not know: where the bytes come from.

use vws_plugin_api::doc::{Failure, codes};
use vws_plugin_api::sdk::Outcome;

/// How much of a file is enough for its header, in bytes: the usual cluster.
pub const ENOUGH: usize = 64 << 10;

const MAGIC: &[u8] = b"QFI\xfb";
/// Header extensions.
const END: u32 = 0;
const BACKING_FORMAT: u32 = 0xe279_2aca;
const DATA_FILE: u32 = 0x4441_5441;
/// Bit of the incompatible features: the bytes are in another file.
const EXTERNAL: u64 = 1 << 2;

/// What a qcow2 file says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Size that a guest sees, in bytes.
    pub virtual_size: u64,
    /// Path of the file below, or empty.
    pub backing: String,
    /// Its format, or empty.
    pub backing_format: String,
    /// Whether the bytes are in another file, which could be any file of the host.
    pub has_data_file: bool,
    cluster: usize,
    length: usize,
    kept: Vec<(u32, Vec<u8>)>,
}

impl Header {
    /// For a disk without a header: its size is all there is to know.
    pub fn raw(virtual_size: u64) -> Self {
        Self { virtual_size, ..Self::default() }
    }
}

fn damaged(what: &str) -> Failure {
    Failure::new(codes::DAMAGED, format!("it is not a qcow2 disk: {what}"))
}

fn part<const N: usize>(bytes: &[u8], at: usize) -> Outcome<[u8; N]> {
    at.checked_add(N)
        .and_then(|end| bytes.get(at..end))
        .and_then(|part| part.try_into().ok())
        .ok_or_else(|| damaged("its header ends too early"))
}

fn short(bytes: &[u8], at: usize) -> Outcome<u32> {
    part(bytes, at).map(u32::from_be_bytes)
}

fn long(bytes: &[u8], at: usize) -> Outcome<u64> {
    part(bytes, at).map(u64::from_be_bytes)
}

fn text(bytes: &[u8], at: usize, length: usize) -> Outcome<String> {
    let text =
        at.checked_add(length).and_then(|end| bytes.get(at..end)).ok_or_else(|| damaged("a name lies outside its header"))?;
    String::from_utf8(text.to_vec()).map_err(|_other| damaged("a name is not UTF-8"))
}

/// Reads the header from the first bytes of a file.
pub fn read(bytes: &[u8]) -> Outcome<Header> {
    if !bytes.starts_with(MAGIC) {
        return Err(damaged("it does not begin like one"));
    }
    let version = short(bytes, 4)?;
    let cluster_bits = short(bytes, 20)?;
    if !(2..=3).contains(&version) || !(9..=21).contains(&cluster_bits) {
        return Err(damaged("its version or cluster size is unknown"));
    }
    if short(bytes, 32)? != 0 {
        return Err(Failure::new(codes::UNSUPPORTED, "it is encrypted"));
    }
    let (length, features) = match version {
        3 => (usize::try_from(short(bytes, 100)?).unwrap_or(usize::MAX), long(bytes, 72)?),
        _ => (72, 0),
    };
    if length < 72 || length > bytes.len() {
        return Err(damaged("its header has a wrong length"));
    }
    let mut header = Header {
        virtual_size: long(bytes, 24)?,
        has_data_file: features & EXTERNAL != 0,
        cluster: 1 << cluster_bits,
        length,
        ..Header::default()
    };
    let (at, size) = (long(bytes, 8)?, short(bytes, 16)?);
    if at > 0 {
        let at = usize::try_from(at).map_err(|_far| damaged("a name lies outside its header"))?;
        header.backing = text(bytes, at, usize::try_from(size).unwrap_or(usize::MAX))?;
    }
    let mut next = length;
    // A file without extensions may end its header at once.
    while next + 8 <= bytes.len() && next < header.cluster {
        let (kind, size) = (short(bytes, next)?, usize::try_from(short(bytes, next + 4)?).unwrap_or(usize::MAX));
        match kind {
            END => break,
            BACKING_FORMAT => header.backing_format = text(bytes, next + 8, size)?,
            _ => {
                header.has_data_file |= kind == DATA_FILE;
                let end = (next + 8).checked_add(size).ok_or_else(|| damaged("an extension is too long"))?;
                let body = bytes.get(next + 8..end).ok_or_else(|| damaged("an extension is too long"))?;
                header.kept.push((kind, body.to_vec()));
            }
        }
        next = (next + 8).saturating_add(size).next_multiple_of(8);
    }
    Ok(header)
}

/// Points the disk that begins with `bytes` at the image at `path`, which has this `format`; only these bytes change.
pub fn rebase(bytes: &mut [u8], path: &str, format: &str) -> Outcome<()> {
    let header = read(bytes)?;
    let mut tail = Vec::new();
    let backing = (BACKING_FORMAT, format.as_bytes().to_vec());
    for (kind, body) in header.kept.iter().chain([&backing, &(END, Vec::new())]) {
        tail.extend_from_slice(&kind.to_be_bytes());
        tail.extend_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes());
        tail.extend_from_slice(body);
        tail.resize(tail.len().next_multiple_of(8), 0);
    }
    let at = header.length + tail.len();
    tail.extend_from_slice(path.as_bytes());
    let end = header.cluster.min(bytes.len());
    if header.length + tail.len() > end || path.len() > 1023 {
        return Err(Failure::new(codes::UNSUPPORTED, "the path of its image does not fit into its header"));
    }
    bytes[header.length..end].fill(0);
    bytes[header.length..header.length + tail.len()].copy_from_slice(&tail);
    bytes[8..16].copy_from_slice(&(at as u64).to_be_bytes());
    bytes[16..20].copy_from_slice(&u32::try_from(path.len()).unwrap_or(0).to_be_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;
    use std::path::Path;
    use std::process::Command;

    fn tool(folder: &Path, arguments: &[&str]) -> String {
        let done = Command::new("qemu-img").args(arguments).current_dir(folder).output().unwrap();
        assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    }

    #[test]
    fn what_the_tool_writes_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        fs::write(at.join("raw"), vec![7; 3 << 20]).unwrap();
        let of = |name: &str| read(&fs::read(at.join(name)).unwrap());
        for compat in ["0.10", "1.1"] {
            tool(at, &["create", "-f", "qcow2", "-o", &format!("compat={compat}"), "-F", "raw", "-b", "raw", "clone", "8M"]);
            let header = of("clone").unwrap();
            assert_eq!((header.virtual_size, header.backing.as_str(), header.backing_format.as_str()), (8 << 20, "raw", "raw"));
            assert!(!header.has_data_file);
        }
        tool(at, &["create", "-f", "qcow2", "plain", "1M"]);
        assert_eq!(of("plain").unwrap().backing, "");
        tool(at, &["create", "-f", "qcow2", "-o", "data_file=outside,data_file_raw=on", "outsider", "1M"]);
        assert!(of("outsider").unwrap().has_data_file);
        assert_eq!(of("raw").unwrap_err().code, codes::DAMAGED);
    }

    #[test]
    fn a_disk_is_pointed_at_another_image() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        for (name, byte) in [("one", 1), ("two", 2)] {
            fs::write(at.join(name), vec![byte; 1 << 20]).unwrap();
        }
        let path = at.join("two").to_str().unwrap().to_owned();
        for (compat, cluster) in [("1.1", "65536"), ("0.10", "65536"), ("1.1", "4096"), ("1.1", "2097152")] {
            let options = format!("compat={compat},cluster_size={cluster}");
            tool(at, &["create", "-f", "qcow2", "-o", &options, "-F", "raw", "-b", "one", "clone"]);
            let mut bytes = fs::read(at.join("clone")).unwrap();
            let most = bytes.len().min(ENOUGH);
            rebase(&mut bytes[..most], &path, "raw").unwrap();
            fs::write(at.join("clone"), bytes).unwrap();
            assert!(tool(at, &["info", "clone"]).contains(&format!("backing file: {path}")));
            tool(at, &["check", "clone"]);
            assert!(tool(at, &["compare", "-f", "qcow2", "-F", "raw", "clone", "two"]).contains("identical"));
        }
        let mut bytes = fs::read(at.join("clone")).unwrap();
        assert_eq!(rebase(&mut bytes, &"x".repeat(1024), "raw").unwrap_err().code, codes::UNSUPPORTED);
    }

    proptest! {
        /// Whatever the bytes: an answer or a refusal, and a rebased header reads back as meant.
        #[test]
        fn any_bytes_are_survived(mut bytes in proptest::collection::vec(any::<u8>(), 0..600), magic in any::<bool>(), plain in any::<bool>()) {
            if magic && bytes.len() > 120 {
                bytes[..4].copy_from_slice(MAGIC);
                if plain {
                    bytes[4..8].copy_from_slice(&3u32.to_be_bytes());
                    bytes[8..20].fill(0);
                    bytes[20..24].copy_from_slice(&16u32.to_be_bytes());
                    bytes[32..36].fill(0);
                    bytes[100..104].copy_from_slice(&104u32.to_be_bytes());
                }
            }
            let first = read(&bytes);
            if rebase(&mut bytes, "/some/where", "qcow2").is_ok() {
                let header = read(&bytes).unwrap();
                prop_assert_eq!(header.backing, "/some/where");
                prop_assert_eq!(header.backing_format, "qcow2");
                prop_assert_eq!(header.virtual_size, first.unwrap().virtual_size);
            }
        }
    }
}
