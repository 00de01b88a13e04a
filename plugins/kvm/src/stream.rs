//! Bytes between a descriptor and a volume of the host, over libvirt's own connection.
//!
//! Owns: the loops that move them, holes included, so that a stopped call ends them within a moment and every byte is counted.
//! Must not know: what the bytes are.

use crate::errors;
use crate::events::{self, Piece};
use crate::host::Gauge;
use crate::storage::Trouble;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use virt::connect::Connect;
use virt::error::Error;
use virt::storage_vol::StorageVol;
use virt::stream::Stream;
use virt_sys as sys;

/// What fits into one of libvirt's messages.
const CHUNK: usize = 262_120;
/// What a pipe takes at once without blocking, if it takes anything.
const PIPE: usize = 4096;
/// How often a pipe that does not move is asked whether the call still wants it.
const GLANCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

fn failed(error: &io::Error, what: &str) -> Trouble {
    errors::system(error, what, "").into()
}

/// Waits until `fd` is ready for `wanted`. A file always is.
fn ready(fd: &impl AsFd, wanted: PollFlags, gauge: &Gauge) -> Result<(), Trouble> {
    loop {
        gauge.check()?;
        // An interrupted wait is a shorter one.
        if poll(&mut [PollFd::new(fd, wanted)], Some(&GLANCE)).is_ok_and(|count| count > 0) {
            return Ok(());
        }
    }
}

/// Where uploaded bytes come from.
pub struct Source {
    file: File,
    /// Bytes that were read already and come first.
    ahead: Vec<u8>,
}

impl Source {
    /// The bytes of `fd`.
    pub fn new(fd: OwnedFd) -> Self {
        Self { file: File::from(fd), ahead: Vec::new() }
    }

    /// The first `count` bytes, or all if there are fewer; they may be changed before they are sent.
    pub fn head(&mut self, count: usize, gauge: &Gauge) -> Result<&mut Vec<u8>, Trouble> {
        let mut head = vec![0; count];
        let got = self.fill(&mut head, gauge)?;
        head.truncate(got);
        self.ahead = head;
        Ok(&mut self.ahead)
    }

    /// Fills `buffer` as far as there are bytes.
    fn fill(&mut self, buffer: &mut [u8], gauge: &Gauge) -> Result<usize, Trouble> {
        let ready_made = self.ahead.len().min(buffer.len());
        buffer[..ready_made].copy_from_slice(&self.ahead[..ready_made]);
        self.ahead.drain(..ready_made);
        let mut filled = ready_made;
        while filled < buffer.len() {
            ready(&self.file, PollFlags::IN, gauge)?;
            match self.file.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
                Err(error) => return Err(failed(&error, "the descriptor cannot be read")),
            }
        }
        Ok(filled)
    }
}

/// Writes everything from `source` into a new volume, from `offset` on. Returns how many bytes came.
pub fn upload(
    connection: &Connect,
    volume: &StorageVol,
    offset: u64,
    source: &mut Source,
    gauge: &Gauge,
) -> Result<u64, Trouble> {
    let stream = Stream::new(connection, 0)?;
    volume.upload(&stream, offset, 0, sys::VIR_STORAGE_VOL_UPLOAD_SPARSE_STREAM)?;
    let mut buffer = vec![0; CHUNK];
    let mut done = 0;
    let mut hole = 0;
    let moved = (|| {
        loop {
            gauge.check()?;
            let count = source.fill(&mut buffer, gauge)?;
            if count == 0 {
                break;
            }
            let bytes = &buffer[..count];
            if bytes.iter().all(|byte| *byte == 0) {
                hole += count as u64;
            } else {
                if hole > 0 {
                    events::transmit_hole(&stream, std::mem::take(&mut hole))?;
                }
                send_all(&stream, bytes)?;
            }
            done += count as u64;
            gauge.moved(count as u64);
        }
        if hole > 0 {
            events::transmit_hole(&stream, hole)?;
        }
        Ok::<u64, Trouble>(done)
    })();
    finish(stream, moved)
}

/// Writes `bytes` into a volume at `offset`.
pub fn write(connection: &Connect, volume: &StorageVol, offset: u64, bytes: &[u8]) -> Result<(), Trouble> {
    let stream = Stream::new(connection, 0)?;
    volume.upload(&stream, offset, bytes.len() as u64, 0)?;
    let sent = send_all(&stream, bytes);
    finish(stream, sent)
}

/// Writes `bytes` at `offset`, and ends the volume one byte behind them: a hole at the end of a stream sets the file's length.
pub fn write_and_cut(connection: &Connect, volume: &StorageVol, offset: u64, bytes: &[u8]) -> Result<(), Trouble> {
    let stream = Stream::new(connection, 0)?;
    volume.upload(&stream, offset, 0, sys::VIR_STORAGE_VOL_UPLOAD_SPARSE_STREAM)?;
    let sent = send_all(&stream, bytes).and_then(|()| Ok(events::transmit_hole(&stream, 1)?));
    finish(stream, sent)
}

fn send_all(stream: &Stream, bytes: &[u8]) -> Result<(), Trouble> {
    let mut sent = 0;
    while sent < bytes.len() {
        let most = bytes.len().min(sent + CHUNK);
        sent += usize::try_from(stream.send(&bytes[sent..most])?).unwrap_or(0);
    }
    Ok(())
}

/// Ends a stream: in order if all went well, so that an error on the host's side is heard; else at once.
fn finish<T>(stream: Stream, so_far: Result<T, Trouble>) -> Result<T, Trouble> {
    match so_far {
        Ok(value) => {
            if let Err(error) = stream.clone().finish() {
                events::end(&stream, false);
                return Err(error.into());
            }
            Ok(value)
        }
        Err(trouble) => {
            events::end(&stream, false);
            Err(trouble)
        }
    }
}

/// Reads at most `length` bytes of a volume, from `offset` on.
pub fn read(connection: &Connect, volume: &StorageVol, offset: u64, length: u64) -> Result<Vec<u8>, Error> {
    let stream = Stream::new(connection, 0)?;
    volume.download(&stream, offset, length, 0)?;
    let most = usize::try_from(length).unwrap_or(usize::MAX);
    let mut bytes = Vec::new();
    let mut buffer = vec![0; CHUNK.min(most)];
    let heard = loop {
        match stream.recv(&mut buffer) {
            Ok(count) if count <= 0 => break Ok(()),
            Ok(count) => {
                bytes.extend_from_slice(&buffer[..usize::try_from(count).unwrap_or(0)]);
                if bytes.len() >= most {
                    bytes.truncate(most);
                    break Ok(());
                }
            }
            Err(error) => break Err(error),
        }
    };
    events::end(&stream, heard.is_ok());
    heard.map(|()| bytes)
}

/// Writes a whole volume into `to`. Returns how many bytes.
pub fn download(connection: &Connect, volume: &StorageVol, to: OwnedFd, gauge: &Gauge) -> Result<u64, Trouble> {
    let mut target = File::from(to);
    // Holes stay holes in a file; anything else gets its zeros.
    let is_file = target.metadata().is_ok_and(|meta| meta.is_file());
    let stream = Stream::new(connection, 0)?;
    volume.download(&stream, 0, 0, sys::VIR_STORAGE_VOL_DOWNLOAD_SPARSE_STREAM)?;
    let mut buffer = vec![0; CHUNK];
    let mut done: u64 = 0;
    let mut ends_in_hole = false;
    let moved = (|| {
        loop {
            gauge.check()?;
            let count = match events::receive_piece(&stream, &mut buffer)? {
                Piece::End => break,
                Piece::Bytes(count) => {
                    put(&mut target, is_file, &buffer[..count], gauge)?;
                    ends_in_hole = false;
                    count as u64
                }
                Piece::Hole(length) if is_file => {
                    let by = i64::try_from(length).unwrap_or(i64::MAX);
                    target.seek(SeekFrom::Current(by)).map_err(|error| failed(&error, "the descriptor cannot be written"))?;
                    ends_in_hole = true;
                    length
                }
                Piece::Hole(length) => {
                    let mut left = length;
                    while left > 0 {
                        let count = left.min(CHUNK as u64);
                        put(&mut target, is_file, &vec![0; usize::try_from(count).unwrap_or(CHUNK)], gauge)?;
                        left -= count;
                    }
                    length
                }
            };
            done += count;
            gauge.moved(count);
        }
        if is_file {
            let end = |file: &mut File| -> io::Result<()> {
                if ends_in_hole {
                    let at = file.stream_position()?;
                    file.set_len(at)?;
                }
                file.sync_all()
            };
            end(&mut target).map_err(|error| failed(&error, "the descriptor cannot be written"))?;
        }
        Ok::<u64, Trouble>(done)
    })();
    finish(stream, moved)
}

fn put(target: &mut File, is_file: bool, bytes: &[u8], gauge: &Gauge) -> Result<(), Trouble> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let most = if is_file {
            rest.len()
        } else {
            ready(target, PollFlags::OUT, gauge)?;
            rest.len().min(PIPE)
        };
        match target.write(&rest[..most]) {
            Ok(count) => rest = &rest[count..],
            Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
            Err(error) => return Err(failed(&error, "the descriptor cannot be written")),
        }
    }
    Ok(())
}
