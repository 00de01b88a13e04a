//! The header of a qcow2 image, as far as it decides whether the image may be used: size, backing file, encryption, external
//! data. Our own small reader, because to let QEMU open an image of a stranger is to let it follow what stands inside.
//! Fields are big-endian; the layout is that of QEMU's `docs/interop/qcow2.txt`.

/// Bytes of the file that [`read`] looks at: enough for a header and the name of a backing file.
pub(crate) const LOOKED_AT_BYTES: usize = 4096;

const MAGIC: &[u8] = b"QFI\xfb";
/// Length of a header of version 2; version 3 has at least 104.
const V2_BYTES: u64 = 72;
const V3_BYTES: u64 = 104;
/// The longest name of a backing file that the format allows.
const BACKING_NAME_BYTES: u32 = 1023;
/// Cluster sizes that the format allows, as powers of two: 512 bytes to 2 MiB.
const CLUSTER_BITS: std::ops::RangeInclusive<u32> = 9..=21;
/// Incompatible features: the dirty and corrupt bits, external data, compression type, extended L2 entries.
const DIRTY: u64 = 1 << 0;
const CORRUPT: u64 = 1 << 1;
const EXTERNAL_DATA: u64 = 1 << 2;
const COMPRESSION_TYPE: u64 = 1 << 3;
const EXTENDED_L2: u64 = 1 << 4;

/// What the header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Size that the guest sees, in bytes.
    pub(crate) virtual_bytes: u64,
}

/// Why an image is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    NotQcow2,
    Truncated(&'static str),
    Version(u32),
    Backing(String),
    Encrypted,
    ExternalData,
    Corrupt,
    UnknownFeatures(u64),
    Nonsense(String),
}

/// Reads the header from the first bytes (up to [`LOOKED_AT_BYTES`]) of a file of `file_bytes`. A backing file is refused.
pub(crate) fn read(start: &[u8], file_bytes: u64) -> Result<Header, Refusal> {
    examine(start, file_bytes, false).map(|(header, _)| header)
}

/// Reads the header of a disk that may lie on another file, and the name of that file as it stands there.
pub(crate) fn read_overlay(start: &[u8], file_bytes: u64) -> Result<(Header, Option<String>), Refusal> {
    examine(start, file_bytes, true)
}

fn examine(start: &[u8], file_bytes: u64, overlay: bool) -> Result<(Header, Option<String>), Refusal> {
    if !start.starts_with(MAGIC) {
        return Err(Refusal::NotQcow2);
    }
    let u32_at = |at: usize| number(start, at, 4).and_then(|n| u32::try_from(n).ok()).ok_or(Refusal::Truncated("its header"));
    let u64_at = |at: usize| number(start, at, 8).ok_or(Refusal::Truncated("its header"));

    let version = u32_at(4)?;
    let header_bytes = match version {
        2 => V2_BYTES,
        3 => u64::from(u32_at(100)?),
        other => return Err(Refusal::Version(other)),
    };
    let features = if version == 3 { u64_at(72)? } else { 0 };
    // First what is a danger, then what is merely wrong.
    let backing_at = u64_at(8)?;
    let backing = if backing_at == 0 { None } else { Some(backing_name(start, backing_at, u32_at(16)?)) };
    if let (Some(name), false) = (&backing, overlay) {
        return Err(Refusal::Backing(vws_domain::shown(name)));
    }
    if features & EXTERNAL_DATA != 0 {
        return Err(Refusal::ExternalData);
    }
    if u32_at(32)? != 0 {
        return Err(Refusal::Encrypted);
    }
    if features & CORRUPT != 0 {
        return Err(Refusal::Corrupt);
    }
    let unknown = features & !(DIRTY | CORRUPT | EXTERNAL_DATA | COMPRESSION_TYPE | EXTENDED_L2);
    if unknown != 0 {
        return Err(Refusal::UnknownFeatures(unknown));
    }

    let cluster_bits = u32_at(20)?;
    if !CLUSTER_BITS.contains(&cluster_bits) {
        return Err(Refusal::Nonsense(format!("a cluster size of 2^{cluster_bits} bytes")));
    }
    if version == 3 && (header_bytes < V3_BYTES || header_bytes % 8 != 0 || header_bytes > 1 << cluster_bits) {
        return Err(Refusal::Nonsense(format!("a header of {header_bytes} bytes")));
    }
    let virtual_bytes = u64_at(24)?;
    if virtual_bytes == 0 || virtual_bytes > i64::MAX.unsigned_abs() {
        return Err(Refusal::Nonsense(format!("a virtual size of {virtual_bytes} bytes")));
    }
    tables_inside(&Tables {
        virtual_bytes,
        cluster_bits,
        // Entries of 16 bytes instead of 8, so that a table of one cluster holds half as many.
        entry_bits: if features & EXTENDED_L2 != 0 { 4 } else { 3 },
        l1_entries: u32_at(36)?,
        l1_at: u64_at(40)?,
        refcount_at: u64_at(48)?,
        refcount_clusters: u32_at(56)?,
        file_bytes,
    })?;
    Ok((Header { virtual_bytes }, backing))
}

struct Tables {
    virtual_bytes: u64,
    cluster_bits: u32,
    entry_bits: u32,
    l1_entries: u32,
    l1_at: u64,
    refcount_at: u64,
    refcount_clusters: u32,
    file_bytes: u64,
}

/// The first level table must cover the disk, and both tables must lie inside the file.
fn tables_inside(t: &Tables) -> Result<(), Refusal> {
    let cluster = 1_u64 << t.cluster_bits;
    // Bytes of the disk that one entry of the first level stands for.
    let reach = 1_u64 << (2 * t.cluster_bits - t.entry_bits);
    if u64::from(t.l1_entries) < t.virtual_bytes.div_ceil(reach) {
        return Err(Refusal::Nonsense(format!("{} entries in its first table, too few for its size", t.l1_entries)));
    }
    for (name, at, bytes) in [
        ("its first table", t.l1_at, u64::from(t.l1_entries) * 8),
        ("its reference counts", t.refcount_at, u64::from(t.refcount_clusters).saturating_mul(cluster)),
    ] {
        if at == 0 || !at.is_multiple_of(cluster) {
            return Err(Refusal::Nonsense(format!("{name} at byte {at}")));
        }
        if at.saturating_add(bytes) > t.file_bytes {
            return Err(Refusal::Truncated(name));
        }
    }
    Ok(())
}

/// The name of the backing file; `?` for one that does not stand where the header says.
fn backing_name(start: &[u8], at: u64, length: u32) -> String {
    let name = usize::try_from(at)
        .ok()
        .zip(usize::try_from(length.min(BACKING_NAME_BYTES)).ok())
        .and_then(|(at, length)| start.get(at..at.checked_add(length)?));
    name.map_or_else(|| "?".to_owned(), |name| String::from_utf8_lossy(name).into_owned())
}

/// The big-endian number of `length` bytes at `at`.
fn number(bytes: &[u8], at: usize, length: usize) -> Option<u64> {
    bytes.get(at..at.checked_add(length)?).map(|bytes| bytes.iter().fold(0, |sum, byte| (sum << 8) | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FILE_BYTES: u64 = 1 << 20;

    /// A header of version 3 as `qemu-img create` makes it: 64 KiB clusters, 64 MiB.
    fn good() -> Vec<u8> {
        let mut header = vec![0; 104];
        header[..4].copy_from_slice(MAGIC);
        for (at, value) in [(4, 3), (20, 16), (36, 1), (56, 1), (96, 4), (100, 104)] {
            put32(&mut header, at, value);
        }
        for (at, value) in [(24, 64 << 20), (40, 0x30000), (48, 0x10000)] {
            put64(&mut header, at, value);
        }
        header
    }

    fn put32(header: &mut [u8], at: usize, value: u32) {
        header[at..at + 4].copy_from_slice(&value.to_be_bytes());
    }
    fn put64(header: &mut [u8], at: usize, value: u64) {
        header[at..at + 8].copy_from_slice(&value.to_be_bytes());
    }

    fn with(change: impl FnOnce(&mut Vec<u8>)) -> Result<Header, Refusal> {
        let mut header = good();
        change(&mut header);
        read(&header, FILE_BYTES)
    }

    #[test]
    fn a_plain_header_is_read() {
        assert_eq!(with(|_| ()), Ok(Header { virtual_bytes: 64 << 20 }));
        assert_eq!(with(|h| put32(h, 4, 2)), Ok(Header { virtual_bytes: 64 << 20 }));
        assert!(with(|h| put64(h, 72, DIRTY | COMPRESSION_TYPE)).is_ok());
    }

    #[test]
    fn what_leads_elsewhere_is_refused() {
        let backing = with(|h| {
            put64(h, 8, 104);
            put32(h, 16, 11);
            h.extend(b"/etc/shadow and more");
        });
        assert_eq!(backing, Err(Refusal::Backing("/etc/shadow".to_owned())));
        assert_eq!(with(|h| put64(h, 8, u64::MAX)), Err(Refusal::Backing("?".to_owned())));
        assert_eq!(with(|h| put64(h, 72, EXTERNAL_DATA)), Err(Refusal::ExternalData));
        // Version 2 has no features there.
        assert!(
            with(|h| {
                put32(h, 4, 2);
                put64(h, 72, EXTERNAL_DATA)
            })
            .is_ok()
        );
    }

    #[test]
    fn what_cannot_be_used_is_refused() {
        assert_eq!(read(b"hello", 5), Err(Refusal::NotQcow2));
        assert_eq!(with(|h| h[3] = b'G'), Err(Refusal::NotQcow2));
        assert_eq!(with(|h| put32(h, 4, 1)), Err(Refusal::Version(1)));
        assert_eq!(with(|h| put32(h, 4, 4)), Err(Refusal::Version(4)));
        assert_eq!(with(|h| put32(h, 32, 2)), Err(Refusal::Encrypted));
        assert_eq!(with(|h| put64(h, 72, CORRUPT)), Err(Refusal::Corrupt));
        assert_eq!(with(|h| put64(h, 72, 1 << 40)), Err(Refusal::UnknownFeatures(1 << 40)));
        for change in [
            |h: &mut Vec<u8>| put32(h, 20, 8),
            |h: &mut Vec<u8>| put32(h, 20, 22),
            |h: &mut Vec<u8>| put32(h, 20, u32::MAX),
            |h: &mut Vec<u8>| put64(h, 24, 0),
            |h: &mut Vec<u8>| put64(h, 24, u64::MAX),
            |h: &mut Vec<u8>| put64(h, 24, 1 << 50),
            |h: &mut Vec<u8>| put32(h, 36, 0),
            |h: &mut Vec<u8>| put64(h, 40, 0),
            |h: &mut Vec<u8>| put64(h, 40, 12),
            |h: &mut Vec<u8>| put32(h, 100, 100),
            |h: &mut Vec<u8>| put32(h, 100, u32::MAX),
        ] {
            assert!(matches!(with(change), Err(Refusal::Nonsense(_))), "{:?}", with(change));
        }
    }

    #[test]
    fn what_is_cut_short_is_refused() {
        for length in 4..104 {
            assert!(matches!(read(&good()[..length], FILE_BYTES), Err(Refusal::Truncated(_))), "{length}");
        }
        assert!(matches!(read(&good(), 0x30000), Err(Refusal::Truncated("its first table"))));
        assert!(matches!(with(|h| put32(h, 56, 1000)), Err(Refusal::Truncated("its reference counts"))));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever a stranger sends is answered, and what is accepted is sane.
        #[test]
        fn no_header_harms(
            start in proptest::collection::vec(any::<u8>(), 0..200),
            patches in proptest::collection::vec((0_usize..104, any::<u8>()), 0..8),
            file_bytes in any::<u64>(),
            made_up in any::<bool>(),
        ) {
            let mut header = if made_up { [MAGIC, &start[..]].concat() } else { good() };
            for (at, byte) in patches {
                if let Some(place) = header.get_mut(at) {
                    *place = byte;
                }
            }
            let _never_panics = read_overlay(&header, file_bytes);
            if let Ok(accepted) = read(&header, file_bytes) {
                prop_assert!(accepted.virtual_bytes > 0 && accepted.virtual_bytes <= i64::MAX.unsigned_abs());
                prop_assert_eq!(number(&header, 8, 8), Some(0));
            }
        }
    }
}
