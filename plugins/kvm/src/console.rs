//! A machine's serial console as a descriptor: a socket pair, bridged to libvirt's stream by a thread.
//!
//! Owns: the bridge. It ends when either side does, and holds nothing but its socket and its stream. Must not know: who reads.

use crate::events::{self, Moved};
use crate::machine::Machine;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use std::os::fd::OwnedFd;
use std::time::Duration;
use virt::error::Error;
use virt::stream::Stream;
use virt_sys as sys;
use vws_plugin_api::doc::{Failure, Retry, codes};
use vws_plugin_api::sdk::Outcome;

/// Pause between two looks at a stream that is busy, and at one that is idle.
const PAUSE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(40));

/// Opens the console; a session that was open before ends.
pub fn open(machine: &Machine<'_>) -> Outcome<OwnedFd> {
    let stream = machine
        .with_domain("open the console", |domain| {
            let stream = Stream::new(&domain.connect()?, sys::VIR_STREAM_NONBLOCK)?;
            domain.open_console(None, &stream, sys::VIR_DOMAIN_CONSOLE_FORCE)?;
            Ok(stream)
        })
        .map_err(|failure| if failure.code == codes::STATE { failure.remedy("start the workspace first") } else { failure })?;
    let failed = |error: String| Failure::new(codes::INTERNAL, error).about(machine.object()).retry(Retry::Later);
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).map_err(|error| failed(error.to_string()))?;
    rustix::io::ioctl_fionbio(&ours, true).map_err(|error| failed(error.to_string()))?;
    std::thread::Builder::new()
        .name("console".to_owned())
        .spawn(move || {
            // Whichever side ended: both are closed now, and the reader sees the end.
            events::end(&stream, bridge(&ours, &stream).is_ok());
        })
        .map_err(|error| failed(error.to_string()))?;
    Ok(theirs)
}

/// Bytes on their way to a side that may take only some of them.
#[derive(Default)]
struct Pending {
    bytes: Vec<u8>,
    sent: usize,
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.sent == self.bytes.len()
    }

    fn rest(&self) -> &[u8] {
        self.bytes.get(self.sent..).unwrap_or_default()
    }

    fn set(&mut self, bytes: &[u8]) {
        self.bytes.clear();
        self.bytes.extend_from_slice(bytes);
        self.sent = 0;
    }
}

/// Moves bytes both ways until one side ends.
fn bridge(socket: &OwnedFd, stream: &Stream) -> Result<(), Error> {
    let (mut to_guest, mut from_guest) = (Pending::default(), Pending::default());
    let mut buffer = vec![0; 16 * 1024];
    let mut pause = PAUSE.0;
    // Nobody listens any more; what was said before still has to reach the guest.
    let mut deaf = false;
    loop {
        let mut moved = false;
        if from_guest.is_empty()
            && let Moved::Bytes(count) = events::receive(stream, &mut buffer)?
        {
            if count == 0 {
                return Ok(());
            }
            from_guest.set(&buffer[..count]);
        }
        if deaf {
            from_guest.set(&[]);
        }
        if !from_guest.is_empty() {
            match rustix::net::send(socket, from_guest.rest(), rustix::net::SendFlags::NOSIGNAL) {
                Ok(count) => {
                    from_guest.sent += count;
                    moved = true;
                }
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(_reader_gone) => deaf = true,
            }
        }
        if to_guest.is_empty() {
            match rustix::io::read(socket, &mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => to_guest.set(&buffer[..count]),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(_writer_gone) => return Ok(()),
            }
        }
        if !to_guest.is_empty()
            && let Moved::Bytes(count) = events::transmit(stream, to_guest.rest())?
        {
            to_guest.sent += count;
            moved = true;
        }
        if moved {
            pause = PAUSE.0;
            continue;
        }
        // The stream has no descriptor to wait for: the socket wakes at once, the guest within the pause.
        let mut wanted = PollFlags::empty();
        if to_guest.is_empty() {
            wanted |= PollFlags::IN;
        }
        if !from_guest.is_empty() {
            wanted |= PollFlags::OUT;
        }
        let wait = Timespec { tv_sec: 0, tv_nsec: i64::from(pause.subsec_nanos()) };
        // An interrupted wait is a shorter one.
        let _woken = poll(&mut [PollFd::new(socket, wanted)], Some(&wait));
        pause = (pause * 2).min(PAUSE.1);
    }
}
