//! The portable file: one bundle, everything in it, written and read in one pass.
//!
//! ```text
//! "vws-bundle-0001\n"                          16 bytes
//! length of the manifest, its sha256           8 bytes, big-endian; 32 bytes
//! manifest                                     JSON
//! then for each of `files`, then of `images`, in the manifest's order, a content:
//!     1, length (4 bytes), bytes               bytes of it
//!     2, length (8 bytes)                      so many zeros
//!     0                                        its end
//! "vws-bundle-end.\n"                          and nothing behind
//! ```
//!
//! There are no names, links, modes or owners in the framing, so there is nothing to be tricked by; what a content is stands in the
//! manifest alone. A reader produces no byte more than the manifest declared, and the end of a content is only told when its
//! size and sha256 were right. The last line is what a file that was cut while it was written does not have.

use crate::limits::Limits;
use crate::manifest::Portable;
use sha2::{Digest, Sha256};
use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use vws_domain::{Error, ErrorKind, Result};

/// Told of bytes done and bytes in all after each piece; [`ControlFlow::Break`] cancels.
pub type Watch<'a> = &'a mut dyn FnMut(u64, u64) -> ControlFlow<()>;

const MAGIC: &[u8; 16] = b"vws-bundle-0001\n";
/// What files of every version begin with.
const FAMILY: &[u8] = b"vws-bundle-";
const END: &[u8; 16] = b"vws-bundle-end.\n";
/// Bytes of one piece, at most.
const PIECE_BYTES: usize = 1 << 20;
/// A run of zeros of this length is not written out.
const HOLE_BYTES: usize = 64 << 10;

const BYTES: u8 = 1;
const ZEROS: u8 = 2;
const ENDED: u8 = 0;

const OBJECT: &str = "the bundle's file";

/// A content of the file, as the manifest declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Name of the stream; `None` for an image.
    pub stream: Option<String>,
    /// sha256 of its bytes.
    pub digest: String,
    /// Length in bytes.
    pub size_bytes: u64,
}

impl Entry {
    /// "stream `memory`", for messages.
    #[must_use]
    pub fn object(&self) -> String {
        match &self.stream {
            Some(name) => format!("stream `{name}` of the bundle"),
            None => format!("image {} of the bundle", self.digest),
        }
    }
}

impl Portable {
    /// The contents in the file's order.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        let streams = self.files.iter().map(|file| Entry {
            stream: Some(file.name.clone()),
            digest: file.digest.clone(),
            size_bytes: file.size_bytes,
        });
        let images =
            self.images.iter().map(|image| Entry { stream: None, digest: image.digest.clone(), size_bytes: image.size_bytes });
        streams.chain(images).collect()
    }

    /// Bytes of all contents.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.entries().iter().fold(0, |sum, entry| sum.saturating_add(entry.size_bytes))
    }
}

/// A file in the making. Without [`Writer::finish`] it is none.
pub struct Writer<W> {
    out: W,
    left: std::vec::IntoIter<Entry>,
    done: u64,
    total: u64,
}

impl<W: Write> Writer<W> {
    /// Writes the head. What is written must be what could be read again.
    ///
    /// # Errors
    /// As for reading; [`ErrorKind::NoSpace`], [`ErrorKind::InvalidArgument`] when it cannot be written.
    pub fn begin(mut out: W, portable: &Portable, most: &Limits) -> Result<Self> {
        let portable = portable.clone().checked(most)?;
        let text = portable.to_text()?;
        let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
        if length > most.manifest_bytes {
            return Err(manifest_too_long(length, most));
        }
        let digest = Sha256::digest(&text);
        for part in [MAGIC.as_slice(), &length.to_be_bytes(), &digest, &text] {
            out.write_all(part).map_err(|error| unwritable(&error))?;
        }
        Ok(Self { out, left: portable.entries().into_iter(), done: 0, total: portable.total_bytes() })
    }

    /// The next content, all of `from`; what it must be stands in the manifest.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`] when `from` is not what its digest says; [`ErrorKind::Cancelled`], [`ErrorKind::NoSpace`].
    pub fn content(&mut self, from: &mut dyn Read, watch: Watch<'_>) -> Result<()> {
        let entry = self.left.next().ok_or_else(|| Error::internal(OBJECT, "has no place for another content"))?;
        let mut hash = Sha256::new();
        let mut written = 0_u64;
        let mut zeros = 0_u64;
        let mut buffer = vec![0_u8; PIECE_BYTES];
        loop {
            if watch(self.done.saturating_add(written), self.total).is_break() {
                return Err(cancelled());
            }
            let count = match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    return Err(Error::new(
                        ErrorKind::Damaged,
                        entry.object(),
                        format!("cannot be read: {error}"),
                        "see to the library's device",
                    ));
                }
            };
            let piece = buffer.get(..count).unwrap_or_default();
            hash.update(piece);
            written = written.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
            self.pieces(piece, &mut zeros).map_err(|error| unwritable(&error))?;
        }
        let found = hex(&hash.finalize());
        if written != entry.size_bytes || found != entry.digest {
            return Err(wrong(&entry, written, &found));
        }
        self.zeros(&mut zeros).and_then(|()| self.out.write_all(&[ENDED])).map_err(|error| unwritable(&error))?;
        self.done = self.done.saturating_add(written);
        Ok(())
    }

    fn pieces(&mut self, piece: &[u8], zeros: &mut u64) -> io::Result<()> {
        let mut data: Option<(usize, usize)> = None;
        let mut at = 0;
        for part in piece.chunks(HOLE_BYTES) {
            if part.len() == HOLE_BYTES && part.iter().all(|byte| *byte == 0) {
                if let Some((from, to)) = data.take() {
                    self.bytes(piece.get(from..to).unwrap_or_default(), zeros)?;
                }
                *zeros += HOLE_BYTES as u64;
            } else {
                data = Some((data.map_or(at, |(from, _)| from), at + part.len()));
            }
            at += part.len();
        }
        match data {
            Some((from, to)) => self.bytes(piece.get(from..to).unwrap_or_default(), zeros),
            None => Ok(()),
        }
    }

    fn bytes(&mut self, bytes: &[u8], zeros: &mut u64) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        // Zeros that came before these bytes; the run is counted on over pieces.
        self.zeros(zeros)?;
        self.out.write_all(&[BYTES])?;
        self.out.write_all(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes())?;
        self.out.write_all(bytes)
    }

    fn zeros(&mut self, zeros: &mut u64) -> io::Result<()> {
        if *zeros > 0 {
            self.out.write_all(&[ZEROS])?;
            self.out.write_all(&zeros.to_be_bytes())?;
            *zeros = 0;
        }
        Ok(())
    }

    /// Completes the file and gives back what it was written to, to be synced.
    ///
    /// # Errors
    /// Internal: a content is missing; [`ErrorKind::NoSpace`].
    pub fn finish(mut self) -> Result<W> {
        if self.left.next().is_some() {
            return Err(Error::internal(OBJECT, "was to be completed without all of its contents"));
        }
        self.out.write_all(END).and_then(|()| self.out.flush()).map_err(|error| unwritable(&error))?;
        Ok(self.out)
    }
}

/// A file that is being read, in order.
pub struct Reader<R> {
    input: R,
    portable: Portable,
    left: std::vec::IntoIter<Entry>,
}

impl<R: Read> Reader<R> {
    /// Reads the head and checks all that it says.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for another version, [`ErrorKind::Damaged`], [`ErrorKind::InvalidArgument`] for what is no
    /// bundle or claims too much.
    pub fn open(mut input: R, most: &Limits) -> Result<Self> {
        let mut magic = [0_u8; MAGIC.len()];
        let none = || Error::invalid(OBJECT, "is not a bundle", "give a file that `vws bundle export` wrote");
        input.read_exact(&mut magic).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => none(),
            _ => unreadable(&error),
        })?;
        if magic != *MAGIC {
            let version = magic.strip_prefix(FAMILY).map(|rest| String::from_utf8_lossy(rest).trim().to_owned());
            return Err(match version {
                Some(version) => Error::new(
                    ErrorKind::Unsupported,
                    OBJECT,
                    format!("is of version `{}`; version `0001` can be read", vws_domain::shown(&version)),
                    "use the version that wrote it, or newer",
                )
                .with_code("bundle-version"),
                None => none(),
            });
        }
        let mut length = [0_u8; 8];
        let mut digest = [0_u8; 32];
        read_all(&mut input, &mut length)?;
        read_all(&mut input, &mut digest)?;
        let length = u64::from_be_bytes(length);
        if length > most.manifest_bytes {
            return Err(manifest_too_long(length, most));
        }
        let mut text = Vec::new();
        input.by_ref().take(length).read_to_end(&mut text).map_err(|error| unreadable(&error))?;
        if u64::try_from(text.len()).unwrap_or(u64::MAX) != length {
            return Err(cut());
        }
        if Sha256::digest(&text).as_slice() != digest {
            return Err(damaged("has a manifest that is not what its sha256 says").with_code("digest"));
        }
        let portable = Portable::from_text(&text)?.checked(most)?;
        let left = portable.entries().into_iter();
        Ok(Self { input, portable, left })
    }

    /// What the file says of itself.
    #[must_use]
    pub fn portable(&self) -> &Portable {
        &self.portable
    }

    /// The next content, to be read to its end.
    pub fn next_content(&mut self) -> Option<Content<'_, R>> {
        let entry = self.left.next()?;
        Some(Content { input: &mut self.input, left: entry.size_bytes, entry, run: Run::Between, hash: Sha256::new() })
    }

    /// Checks that nothing is left: the file is complete, and nothing is hidden behind it.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`].
    pub fn finish(mut self) -> Result<()> {
        if self.left.next().is_some() {
            return Err(Error::internal(OBJECT, "was not read to its end"));
        }
        let mut end = [0_u8; END.len()];
        read_all(&mut self.input, &mut end)?;
        if end != *END {
            return Err(damaged("has something else where its end is due"));
        }
        let mut behind = [0_u8; 1];
        match self.input.read(&mut behind) {
            Ok(0) => Ok(()),
            Ok(_) => Err(damaged("has bytes behind its end")),
            Err(error) => Err(unreadable(&error)),
        }
    }
}

enum Run {
    Between,
    Bytes(u64),
    Zeros(u64),
    End,
}

/// A content that is being read. Its end is told only when its size and digest were right; else the read fails with an error
/// that [`error_of`] takes out again.
pub struct Content<'a, R> {
    input: &'a mut R,
    entry: Entry,
    /// Declared bytes that no piece has announced yet.
    left: u64,
    run: Run,
    hash: Sha256,
}

impl<R: Read> Content<'_, R> {
    /// What it is.
    #[must_use]
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    fn next_run(&mut self) -> Result<Run> {
        let mut kind = [0_u8; 1];
        read_all(self.input, &mut kind)?;
        let announced = match kind {
            [BYTES] => {
                let mut length = [0_u8; 4];
                read_all(self.input, &mut length)?;
                u64::from(u32::from_be_bytes(length))
            }
            [ZEROS] => {
                let mut length = [0_u8; 8];
                read_all(self.input, &mut length)?;
                u64::from_be_bytes(length)
            }
            [ENDED] => {
                let found = hex(&std::mem::take(&mut self.hash).finalize());
                return if self.left == 0 && found == self.entry.digest {
                    Ok(Run::End)
                } else {
                    Err(wrong(&self.entry, self.entry.size_bytes - self.left, &found))
                };
            }
            _ => return Err(damaged("has something else where a piece is due")),
        };
        if announced == 0 || announced > self.left {
            return Err(Error::new(
                ErrorKind::Damaged,
                self.entry.object(),
                format!("has a piece of {announced} bytes where {} of {} are left", self.left, self.entry.size_bytes),
                AGAIN,
            ));
        }
        self.left -= announced;
        Ok(if kind == [BYTES] { Run::Bytes(announced) } else { Run::Zeros(announced) })
    }
}

impl<R: Read> Read for Content<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let (Run::Bytes(announced) | Run::Zeros(announced)) = self.run else {
                if matches!(self.run, Run::End) {
                    return Ok(0);
                }
                self.run = self.next_run().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                continue;
            };
            let most = usize::try_from(announced).unwrap_or(usize::MAX).min(buffer.len());
            let Some(room) = buffer.get_mut(..most) else { return Ok(0) };
            let count = if matches!(self.run, Run::Zeros(_)) {
                room.fill(0);
                most
            } else {
                match self.input.read(room)? {
                    0 => return Err(io::Error::new(io::ErrorKind::InvalidData, cut())),
                    count => count,
                }
            };
            self.hash.update(room.get(..count).unwrap_or_default());
            let left = announced - u64::try_from(count).unwrap_or(announced);
            self.run = match self.run {
                _ if left == 0 => Run::Between,
                Run::Zeros(_) => Run::Zeros(left),
                _ => Run::Bytes(left),
            };
            return Ok(count);
        }
    }
}

/// The error that a failed read of a [`Content`] carries, or one that says that the file cannot be read.
#[must_use]
pub fn error_of(error: &io::Error) -> Error {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(inner) => inner.clone(),
        None => unreadable(error),
    }
}

/// Reads a whole file, checks every byte, keeps nothing. What it says of itself.
///
/// # Errors
/// As for [`Reader::open`] and [`Reader::finish`]; [`ErrorKind::Cancelled`].
pub fn verify(input: impl Read, most: &Limits, watch: Watch<'_>) -> Result<Portable> {
    let mut reader = Reader::open(input, most)?;
    let portable = reader.portable().clone();
    let total = portable.total_bytes();
    let mut done = 0_u64;
    let mut buffer = vec![0_u8; PIECE_BYTES];
    while let Some(mut content) = reader.next_content() {
        loop {
            if watch(done, total).is_break() {
                return Err(cancelled());
            }
            match content.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => done = done.saturating_add(u64::try_from(count).unwrap_or(u64::MAX)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error_of(&error)),
            }
        }
    }
    reader.finish()?;
    Ok(portable)
}

const AGAIN: &str = "get the bundle again from where it was made";

fn read_all(input: &mut impl Read, into: &mut [u8]) -> Result<()> {
    input.read_exact(into).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => cut(),
        _ => unreadable(&error),
    })
}

fn wrong(entry: &Entry, bytes: u64, found: &str) -> Error {
    let fact = format!("has {bytes} bytes with the sha256 {found}, expected were {} with {}", entry.size_bytes, entry.digest);
    Error::new(ErrorKind::Damaged, entry.object(), fact, AGAIN).with_code("digest")
}

fn damaged(fact: &str) -> Error {
    Error::new(ErrorKind::Damaged, OBJECT, fact, AGAIN)
}

fn cut() -> Error {
    damaged("is cut short: it ends before all of it was there").with_code("truncated")
}

fn manifest_too_long(length: u64, most: &Limits) -> Error {
    Error::invalid(OBJECT, format!("has a manifest of {length} bytes; {} are allowed", most.manifest_bytes), AGAIN)
        .with_code("bundle-too-large")
}

fn unreadable(error: &io::Error) -> Error {
    Error::invalid(OBJECT, format!("cannot be read: {error}"), "see to the file and its device")
}

fn unwritable(error: &io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => ErrorKind::NoSpace,
        _ => ErrorKind::InvalidArgument,
    };
    Error::new(kind, OBJECT, format!("cannot be written: {error}"), "name a file on a device with room; the bundle is whole")
}

fn cancelled() -> Error {
    Error::new(ErrorKind::Cancelled, OBJECT, "was cancelled", "repeat it when it is wanted after all")
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
