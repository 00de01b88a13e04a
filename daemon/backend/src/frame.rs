//! Frames: how documents and descriptors travel between the daemon and a plugin's process.
//!
//! Owns: the 16-byte header, the limits, the decoder. Every length is checked before it is believed; what does not fit is a
//! [`FrameError`], after which the connection is closed, as there is no way to find the next frame.
//! Must not know: what a document says, who reads, who writes.
//!
//! Header, little-endian: payload length `u32`, kind `u8`, number of descriptors `u8`, zero `u16`, call number `u64`.
//! The descriptors of a frame arrive together with its first byte.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

/// Payload of one frame, at most.
pub const MAX_FRAME_BYTES: usize = 64 * 1024 * 1024;
/// Payload of one event, at most: a status holds at most 64 KiB of plugin state.
pub const MAX_EVENT_BYTES: usize = 1024 * 1024;
/// Descriptors of one frame, at most.
pub const MAX_FRAME_FDS: usize = vws_plugin_api::abi::MAX_FDS;
/// Bytes of a header.
pub(crate) const HEADER_BYTES: usize = 16;
/// How much is read at once.
const READ_BYTES: usize = 64 * 1024;
/// Descriptors that may wait for the end of their frames: a read can end in the middle of two frames, not more.
const MAX_WAITING_FDS: usize = 2 * MAX_FRAME_FDS;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// Daemon to child, first: the plugin's configuration.
    Open = 1,
    /// Daemon to child: a request.
    Call = 2,
    /// Daemon to child: the call of this number should end soon.
    Cancel = 3,
    /// Child to daemon, first: what the plugin is, or why it cannot be loaded.
    Ready = 16,
    /// Child to daemon: the reply to the call of this number.
    Reply = 17,
    /// Child to daemon: an event.
    Event = 18,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        [Self::Open, Self::Call, Self::Cancel, Self::Ready, Self::Reply, Self::Event].into_iter().find(|kind| *kind as u8 == byte)
    }

    fn limit(self) -> usize {
        match self {
            Self::Cancel => 0,
            Self::Event => MAX_EVENT_BYTES,
            Self::Open | Self::Call | Self::Ready | Self::Reply => MAX_FRAME_BYTES,
        }
    }

    fn may_carry_fds(self) -> bool {
        matches!(self, Self::Call | Self::Reply)
    }
}

/// One frame.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: Kind,
    pub(crate) call: u64,
    pub(crate) payload: Vec<u8>,
    pub(crate) fds: Vec<OwnedFd>,
}

/// What is wrong with the bytes of the other side. Each closes the connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A kind that does not exist, or a header with a bit set that must be zero.
    #[error("a frame header that is none (kind {0})")]
    Garbage(u8),
    /// Longer than its kind may be.
    #[error("a frame of {length} bytes; the limit is {limit}")]
    TooLong {
        /// What the header says.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// More descriptors than allowed, or fewer or more than came.
    #[error("a frame that declares {declared} descriptors while {arrived} arrived (limit {MAX_FRAME_FDS})")]
    Descriptors {
        /// What the header says.
        declared: usize,
        /// How many are there.
        arrived: usize,
    },
    /// The kernel had to cut descriptors off.
    #[error("descriptors were cut off: more than {MAX_FRAME_FDS} in one message, or the process has no descriptors left")]
    Truncated,
    /// The connection ended inside a frame.
    #[error("the connection ended inside a frame")]
    Incomplete,
}

/// The header of a frame. Lengths are checked by the sender (`encodable`).
pub(crate) fn header(kind: Kind, call: u64, payload: usize, fds: usize) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    let length = u32::try_from(payload).unwrap_or(u32::MAX);
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    bytes[4] = kind as u8;
    bytes[5] = u8::try_from(fds).unwrap_or(u8::MAX);
    bytes[8..].copy_from_slice(&call.to_le_bytes());
    bytes
}

/// Whether a frame of this size may be sent.
pub(crate) fn encodable(kind: Kind, payload: usize, fds: usize) -> Result<(), FrameError> {
    if payload > kind.limit() {
        return Err(FrameError::TooLong { length: payload, limit: kind.limit() });
    }
    if fds > MAX_FRAME_FDS || (fds > 0 && !kind.may_carry_fds()) {
        return Err(FrameError::Descriptors { declared: fds, arrived: fds });
    }
    Ok(())
}

/// Makes frames out of what a socket gives.
#[derive(Default)]
pub(crate) struct Decoder {
    buffer: Vec<u8>,
    /// Bytes of `buffer` that were consumed.
    start: usize,
    /// Bytes of `buffer` that are filled.
    end: usize,
    fds: VecDeque<OwnedFd>,
}

impl Decoder {
    /// Room for the next read.
    pub(crate) fn space(&mut self) -> &mut [u8] {
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
            // One huge frame must not be paid for ever after.
            if self.buffer.len() > 4 * READ_BYTES {
                self.buffer = Vec::new();
            }
        } else if self.start > 0 && self.buffer.len() - self.end < READ_BYTES / 4 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        // Grows with what has arrived, never with what a header claims.
        let wanted = (self.end + READ_BYTES).max(self.end * 2).min(self.end + 1024 * 1024);
        if self.buffer.len() - self.end < READ_BYTES / 4 {
            self.buffer.resize(wanted, 0);
        }
        self.buffer.get_mut(self.end..).unwrap_or_default()
    }

    /// Takes over what was read into `space`.
    pub(crate) fn filled(&mut self, bytes: usize, fds: impl IntoIterator<Item = OwnedFd>) -> Result<(), FrameError> {
        self.end = (self.end + bytes).min(self.buffer.len());
        self.fds.extend(fds);
        if self.fds.len() > MAX_WAITING_FDS {
            return Err(FrameError::Descriptors { declared: MAX_FRAME_FDS, arrived: self.fds.len() });
        }
        Ok(())
    }

    /// The next complete frame.
    pub(crate) fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some(bytes) = self.buffer.get(self.start..self.end) else { return Ok(None) };
        let Some((head, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let [l0, l1, l2, l3, kind, declared, zero_a, zero_b, call @ ..] = *head;
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        let Some(kind) = Kind::from_byte(kind).filter(|_| zero_a == 0 && zero_b == 0) else {
            return Err(FrameError::Garbage(kind));
        };
        if length > kind.limit() {
            return Err(FrameError::TooLong { length, limit: kind.limit() });
        }
        let declared = usize::from(declared);
        if declared > MAX_FRAME_FDS || (declared > 0 && !kind.may_carry_fds()) || declared > self.fds.len() {
            return Err(FrameError::Descriptors { declared, arrived: self.fds.len() });
        }
        let Some(payload) = rest.get(..length) else { return Ok(None) };
        let payload = payload.to_vec();
        let fds = self.fds.drain(..declared).collect();
        self.start += HEADER_BYTES + length;
        if self.start == self.end && !self.fds.is_empty() {
            return Err(FrameError::Descriptors { declared, arrived: declared + self.fds.len() });
        }
        Ok(Some(Frame { kind, call: u64::from_le_bytes(call), payload, fds }))
    }

    /// Whether the connection may end here.
    pub(crate) fn at_boundary(&self) -> bool {
        self.start == self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(decoder: &mut Decoder, mut bytes: &[u8], step: usize) -> Result<Vec<Frame>, FrameError> {
        let mut frames = Vec::new();
        while !bytes.is_empty() {
            let space = decoder.space();
            let count = step.min(bytes.len()).min(space.len());
            space[..count].copy_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
            decoder.filled(count, [])?;
            while let Some(frame) = decoder.next()? {
                frames.push(frame);
            }
        }
        Ok(frames)
    }

    fn frame(kind: Kind, call: u64, payload: &[u8]) -> Vec<u8> {
        let mut bytes = header(kind, call, payload.len(), 0).to_vec();
        bytes.extend(payload);
        bytes
    }

    #[test]
    fn frames_survive_any_cut() {
        let big: Vec<u8> = (0..300_000_u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
        let mut bytes = frame(Kind::Call, 7, b"one");
        bytes.extend(frame(Kind::Cancel, 8, b""));
        bytes.extend(frame(Kind::Reply, u64::MAX, &big));
        bytes.extend(frame(Kind::Event, 0, b"last"));
        for step in [1, 3, 15, 16, 17, 4096, 65_536, 1_000_000] {
            let mut decoder = Decoder::default();
            let frames = feed(&mut decoder, &bytes, step).unwrap();
            let calls: Vec<_> = frames.iter().map(|f| (f.kind, f.call, f.payload.len())).collect();
            assert_eq!(
                calls,
                [(Kind::Call, 7, 3), (Kind::Cancel, 8, 0), (Kind::Reply, u64::MAX, 300_000), (Kind::Event, 0, 4)],
                "step {step}"
            );
            assert_eq!(frames[2].payload, big);
            assert!(decoder.at_boundary());
        }
    }

    #[test]
    fn garbage_is_named() {
        assert_eq!(feed(&mut Decoder::default(), b"GET / HTTP/1.1\r\n\r\n", 100).unwrap_err(), FrameError::Garbage(b'/'));
        let mut reserved = header(Kind::Call, 1, 0, 0);
        reserved[6] = 1;
        assert_eq!(feed(&mut Decoder::default(), &reserved, 100).unwrap_err(), FrameError::Garbage(Kind::Call as u8));
        let long = header(Kind::Reply, 1, MAX_FRAME_BYTES + 1, 0);
        assert_eq!(
            feed(&mut Decoder::default(), &long, 100).unwrap_err(),
            FrameError::TooLong { length: MAX_FRAME_BYTES + 1, limit: MAX_FRAME_BYTES }
        );
        let event = header(Kind::Event, 1, MAX_EVENT_BYTES + 1, 0);
        assert!(matches!(feed(&mut Decoder::default(), &event, 100), Err(FrameError::TooLong { .. })));
        let fds = header(Kind::Reply, 1, 0, 2);
        assert_eq!(feed(&mut Decoder::default(), &fds, 100).unwrap_err(), FrameError::Descriptors { declared: 2, arrived: 0 });
        let cancel = header(Kind::Cancel, 1, 0, 1);
        assert!(matches!(feed(&mut Decoder::default(), &cancel, 100), Err(FrameError::Descriptors { .. })));
    }

    #[test]
    fn descriptors_that_nobody_declared_are_refused() {
        let null = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let bytes = frame(Kind::Reply, 1, b"x");
        let mut decoder = Decoder::default();
        decoder.space()[..bytes.len()].copy_from_slice(&bytes);
        decoder.filled(bytes.len(), [null()]).unwrap();
        assert_eq!(decoder.next().unwrap_err(), FrameError::Descriptors { declared: 0, arrived: 1 });
        let mut decoder = Decoder::default();
        decoder.space();
        assert!(decoder.filled(0, (0..=MAX_WAITING_FDS).map(|_| null())).is_err());
    }

    #[test]
    fn a_claimed_length_costs_no_memory_before_its_bytes_arrive() {
        let mut decoder = Decoder::default();
        let head = header(Kind::Reply, 1, MAX_FRAME_BYTES, 0);
        decoder.space()[..head.len()].copy_from_slice(&head);
        decoder.filled(head.len(), []).unwrap();
        assert!(decoder.next().unwrap().is_none());
        assert!(decoder.space().len() < 4 * READ_BYTES);
    }
}
