//! One end of the socket pair: bytes and descriptors in, bytes and descriptors out.
//!
//! Owns: the two system calls and their bookkeeping. Must not know: frames' contents, tasks, threads.

use crate::frame::{Decoder, FrameError, HEADER_BYTES, MAX_FRAME_FDS};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

/// What one read gave.
pub(crate) enum Got {
    /// Something; ask the decoder for frames.
    Bytes,
    /// The other side closed at a frame's end.
    End,
}

/// Why reading stopped.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// The system call failed; `AGAIN` on a socket that does not block means: later.
    Os(Errno),
    /// The other side does not keep to the protocol.
    Frame(FrameError),
}

/// A pair of connected stream sockets, closed on exec.
pub(crate) fn pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    rustix::net::socketpair(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::STREAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )
}

/// Reads once into the decoder.
pub(crate) fn read(socket: BorrowedFd<'_>, decoder: &mut Decoder) -> Result<Got, ReadError> {
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FRAME_FDS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut room);
    let message = loop {
        let space = decoder.space();
        match recvmsg(socket, &mut [IoSliceMut::new(space)], &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            Err(error) => return Err(ReadError::Os(error)),
            Ok(message) => break message,
        }
    };
    let mut fds = Vec::new();
    for part in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = part {
            fds.extend(rights);
        }
    }
    if message.flags.contains(ReturnFlags::CTRUNC) {
        return Err(ReadError::Frame(FrameError::Truncated));
    }
    if message.bytes == 0 {
        return if decoder.at_boundary() { Ok(Got::End) } else { Err(ReadError::Frame(FrameError::Incomplete)) };
    }
    decoder.filled(message.bytes, fds).map_err(ReadError::Frame)?;
    Ok(Got::Bytes)
}

/// Sends what is left of a frame after `done` bytes of it; the descriptors go with its first byte. Returns the bytes sent.
pub(crate) fn send(
    socket: BorrowedFd<'_>,
    header: &[u8; HEADER_BYTES],
    payload: &[u8],
    done: usize,
    fds: &[BorrowedFd<'_>],
    flags: SendFlags,
) -> Result<usize, Errno> {
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FRAME_FDS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut room);
    if done == 0 && !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Errno::TOOBIG);
    }
    let head = header.get(done..).unwrap_or_default();
    let body = payload.get(done.saturating_sub(HEADER_BYTES)..).unwrap_or_default();
    loop {
        match sendmsg(socket, &[IoSlice::new(head), IoSlice::new(body)], &mut ancillary, flags | SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}
