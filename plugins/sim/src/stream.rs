//! The streams of a bundle: what is written for `memory` and the disks, and how it is checked when it comes back.
//!
//! A stream is a line that names what it is, a JSON document, filling that depends on the document alone, and a checksum of all
//! before it. The same machine gives the same bytes.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::fs::File;
use std::io::{Read, Write};
use vws_plugin_api::doc::{Failure, Retry, codes};

/// Bytes of filling.
const FILLING: usize = 16 * 1024;
/// A stream is never longer.
const MAX_BYTES: u64 = 8 * 1024 * 1024;

/// The memory of a guest.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Whose it is.
    pub workspace: String,
    /// What the guest has counted.
    pub count: u64,
    /// How often it was booted.
    pub boots: u64,
    /// Size of the memory.
    pub memory_mib: u64,
    /// What the console showed.
    pub boot_log: String,
}

/// A disk.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Whose it is.
    pub workspace: String,
    /// `disk-0`, ...
    pub name: String,
    /// Digest of the image below it, or empty.
    pub backing_digest: String,
}

/// FNV-1a: enough against cut or swapped bytes; the daemon's digests guard against worse.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

fn io(name: &str, error: &std::io::Error) -> Failure {
    let code = if error.kind() == std::io::ErrorKind::StorageFull { codes::NO_SPACE } else { codes::HYPERVISOR };
    Failure::new(code, error.to_string()).about(format!("stream `{name}`")).retry(Retry::Later)
}

/// Writes a stream.
pub fn write<T: Serialize>(file: &mut File, name: &str, document: &T) -> Result<(), Failure> {
    let json = serde_json::to_vec(document).map_err(|error| Failure::new(codes::INTERNAL, error.to_string()))?;
    let mut bytes = format!("vws-sim 1 {name} {}\n", json.len()).into_bytes();
    let mut seed = checksum(&json);
    bytes.extend(json);
    bytes.extend(
        std::iter::repeat_with(|| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            u8::try_from(seed >> 56).unwrap_or(0)
        })
        .take(FILLING),
    );
    let sum = checksum(&bytes);
    bytes.extend(sum.to_le_bytes());
    file.write_all(&bytes).and_then(|()| file.flush()).map_err(|error| io(name, &error))
}

/// Reads a stream and checks it.
pub fn read<T: DeserializeOwned>(file: &mut File, name: &str) -> Result<T, Failure> {
    let damaged = |what: &str| {
        Failure::new(codes::DAMAGED, what.to_owned())
            .about(format!("stream `{name}`"))
            .remedy("restore the bundle's files from where they came")
    };
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|error| io(name, &error))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(damaged("it is too long"));
    }
    let (content, sum) = bytes.split_last_chunk::<8>().ok_or_else(|| damaged("it is too short"))?;
    if checksum(content).to_le_bytes() != *sum {
        return Err(damaged("its checksum is wrong"));
    }
    let end = content.iter().position(|byte| *byte == b'\n').ok_or_else(|| damaged("it has no first line"))?;
    let (line, rest) = content.split_at(end);
    let line = std::str::from_utf8(line).map_err(|_| damaged("its first line is not text"))?;
    let length = line
        .strip_prefix("vws-sim 1 ")
        .and_then(|line| line.strip_prefix(name))
        .and_then(|length| length.trim().parse::<usize>().ok())
        .ok_or_else(|| damaged(&format!("its first line is `{}`", line.escape_default())))?;
    let json = rest.get(1..).and_then(|rest| rest.get(..length)).ok_or_else(|| damaged("it is too short"))?;
    serde_json::from_slice(json).map_err(|error| damaged(&error.to_string()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]
    use super::*;
    use std::io::{Seek, SeekFrom};

    fn memory() -> Memory {
        Memory { workspace: "w".into(), count: 7, boots: 2, memory_mib: 128, boot_log: "login:\n".into() }
    }

    fn written() -> Vec<u8> {
        let (mut end, mut start) = scratch();
        write(&mut end, "memory", &memory()).unwrap();
        let mut bytes = Vec::new();
        start.seek(SeekFrom::Start(0)).unwrap();
        start.read_to_end(&mut bytes).unwrap();
        bytes
    }

    /// Two handles of one file that has no name any more.
    fn scratch() -> (File, File) {
        static NUMBER: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("vws-sim-stream-{}-{number}", std::process::id()));
        let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        (file.try_clone().unwrap(), file)
    }

    fn read_back(bytes: &[u8], name: &str) -> Result<Memory, Failure> {
        let (mut end, mut start) = scratch();
        end.write_all(bytes).unwrap();
        start.seek(SeekFrom::Start(0)).unwrap();
        read(&mut start, name)
    }

    #[test]
    fn the_same_machine_gives_the_same_bytes_and_they_come_back() {
        let bytes = written();
        assert_eq!(bytes, written());
        assert_eq!(read_back(&bytes, "memory").unwrap(), memory());
    }

    #[test]
    fn damage_is_seen() {
        let bytes = written();
        for at in [0, 20, bytes.len() / 2, bytes.len() - 1] {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            assert_eq!(read_back(&bytes, "memory").unwrap_err().code, codes::DAMAGED, "byte {at}");
        }
        for length in [0, 7, 8, 100, bytes.len() - 1] {
            assert_eq!(read_back(&bytes[..length], "memory").unwrap_err().code, codes::DAMAGED, "cut at {length}");
        }
        assert_eq!(read_back(&bytes, "disk-0").unwrap_err().code, codes::DAMAGED, "another stream");
    }
}
