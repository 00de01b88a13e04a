//! A machine's serial console as a descriptor: a socket pair, bridged to libvirt's stream by a thread.
//!
//! Owns: the bridge. It ends when either side does, and holds nothing but its socket and its stream. Must not know: who reads.

use crate::events::{self, Moved};
use crate::host::APART;
use crate::machine::Machine;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};
use virt::error::Error;
use virt::stream::Stream;
use virt_sys as sys;
use vws_plugin_api::doc::{Failure, Retry, codes};
use vws_plugin_api::sdk::Outcome;

/// Pause between two looks at a stream that is busy, and at one that is idle.
const PAUSE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(40));

/// How long the stream stays after the client has gone: QEMU notices once a second that somebody is at the other end of its
/// terminal, and what was typed before that is lost when the terminal is closed.
const LINGER: Duration = Duration::from_millis(1500);

/// Opens the console; a session that was open before ends.
pub fn open(machine: &Machine<'_>) -> Outcome<OwnedFd> {
    let stream = machine
        .with_domain(APART, |domain| {
            let stream = Stream::new(&domain.connect()?, sys::VIR_STREAM_NONBLOCK)?;
            domain.open_console(None, &stream, sys::VIR_DOMAIN_CONSOLE_FORCE)?;
            Ok(stream)
        })
        .map_err(|failure| if failure.code == codes::STATE { failure.remedy("start the workspace first") } else { failure })?;
    let failed = |error: String| Failure::new(codes::INTERNAL, error).about(machine.object()).retry(Retry::Later);
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .map_err(|error| failed(error.to_string()))?;
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

/// Moves bytes both ways until the guest's side ends or the other side is closed. That it says no more is no end: a client
/// may send its commands, close its writing half and read the answers.
fn bridge(socket: &OwnedFd, stream: &Stream) -> Result<(), Error> {
    let (mut to_guest, mut from_guest) = (Pending::default(), Pending::default());
    let mut buffer = vec![0; 16 * 1024];
    let mut pause = PAUSE.0;
    let mut input_ended = false;
    // Since when nobody listens any more.
    let mut closed: Option<Instant> = None;
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
        if closed.is_some() {
            from_guest.set(&[]);
        }
        if !from_guest.is_empty() {
            match rustix::net::send(socket, from_guest.rest(), rustix::net::SendFlags::NOSIGNAL) {
                Ok(count) => {
                    from_guest.sent += count;
                    moved = true;
                }
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(_reader_gone) => closed = closed.or_else(|| Some(Instant::now())),
            }
        }
        if to_guest.is_empty() && !input_ended {
            match rustix::io::read(socket, &mut buffer) {
                Ok(0) => input_ended = true,
                Ok(count) => to_guest.set(&buffer[..count]),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(_writer_gone) => input_ended = true,
            }
        }
        if !to_guest.is_empty()
            && let Moved::Bytes(count) = events::transmit(stream, to_guest.rest())?
        {
            to_guest.sent += count;
            moved = true;
        }
        if input_ended && to_guest.is_empty() && closed.is_some_and(|since| since.elapsed() >= LINGER) {
            return Ok(());
        }
        if moved {
            pause = PAUSE.0;
            continue;
        }
        if closed.is_some() {
            std::thread::sleep(PAUSE.1);
            continue;
        }
        // The stream has no descriptor to wait for: the socket wakes at once, the guest within the pause.
        let mut wanted = PollFlags::empty();
        if to_guest.is_empty() && !input_ended {
            wanted |= PollFlags::IN;
        }
        if !from_guest.is_empty() {
            wanted |= PollFlags::OUT;
        }
        let wait = Timespec { tv_sec: 0, tv_nsec: i64::from(pause.subsec_nanos()) };
        let mut sockets = [PollFd::new(socket, wanted)];
        // An interrupted wait is a shorter one.
        if poll(&mut sockets, Some(&wait)).is_ok() && sockets[0].revents().intersects(PollFlags::HUP | PollFlags::ERR) {
            closed = Some(Instant::now());
        }
        pause = (pause * 2).min(PAUSE.1);
    }
}
