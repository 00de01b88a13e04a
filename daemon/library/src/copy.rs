//! Bytes from a source into a part: hashed on the way, runs of zeros left as holes, cancelled between two chunks.

use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::ControlFlow;

/// Told of bytes done and bytes in all (0: unknown) after each chunk; [`ControlFlow::Break`] cancels.
pub type Watch<'a> = &'a mut dyn FnMut(u64, u64) -> ControlFlow<()>;

/// Bytes read at once.
const CHUNK_BYTES: usize = 1 << 20;
/// A run of zeros of this length becomes a hole.
const HOLE_BYTES: usize = 64 << 10;

/// Why a copy ended early.
pub(crate) enum Stopped {
    Cancelled,
    /// More came than was allowed.
    TooLong,
    Read(io::Error),
    Write(io::Error),
}

/// What was copied.
pub(crate) struct Copied {
    pub(crate) digest: String,
    pub(crate) size_bytes: u64,
}

/// Copies `from` into the empty file `to`, at most `most` bytes.
pub(crate) fn copy(from: &mut dyn Read, to: &mut File, most: u64, total: u64, watch: Watch<'_>) -> Result<Copied, Stopped> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0_u8; CHUNK_BYTES];
    let mut done = 0_u64;
    loop {
        if watch(done, total).is_break() {
            return Err(Stopped::Cancelled);
        }
        let chunk = read_chunk(from, &mut buffer).map_err(Stopped::Read)?;
        if chunk.is_empty() {
            break;
        }
        done = done.saturating_add(u64::try_from(chunk.len()).unwrap_or(u64::MAX));
        if done > most {
            return Err(Stopped::TooLong);
        }
        hash.update(chunk);
        write_sparse(to, chunk).map_err(Stopped::Write)?;
    }
    // A hole at the end is made by the length.
    to.set_len(done).map_err(Stopped::Write)?;
    Ok(Copied { digest: hex(&hash.finalize()), size_bytes: done })
}

/// The sha256 of everything from the start of `file`; `None` when it was cancelled.
pub(crate) fn digest(file: &mut File, total: u64, done_before: u64, watch: Watch<'_>) -> io::Result<Option<Copied>> {
    file.rewind()?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0_u8; CHUNK_BYTES];
    let mut size_bytes = 0_u64;
    loop {
        if watch(done_before.saturating_add(size_bytes), total).is_break() {
            return Ok(None);
        }
        let chunk = read_chunk(file, &mut buffer)?;
        if chunk.is_empty() {
            return Ok(Some(Copied { digest: hex(&hash.finalize()), size_bytes }));
        }
        size_bytes = size_bytes.saturating_add(u64::try_from(chunk.len()).unwrap_or(u64::MAX));
        hash.update(chunk);
    }
}

/// What one read gives; empty at the end.
fn read_chunk<'a>(from: &mut dyn Read, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
    let read = loop {
        match from.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => break outcome?,
        }
    };
    buffer.get(..read).ok_or_else(|| io::Error::other("a source read more than it was given room for"))
}

fn write_sparse(to: &mut File, chunk: &[u8]) -> io::Result<()> {
    for piece in chunk.chunks(HOLE_BYTES) {
        if piece.len() == HOLE_BYTES && piece.iter().all(|byte| *byte == 0) {
            to.seek(SeekFrom::Current(i64::try_from(piece.len()).unwrap_or(i64::MAX)))?;
        } else {
            to.write_all(piece)?;
        }
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
