//! `vws console`: the guest's serial console on this terminal, or through pipes.

use crate::context::Context;
use crate::{Result, find, output, screen};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use std::fs::File;
use std::io::{IsTerminal, Read, Write};
use std::os::fd::OwnedFd;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use vws_bus::client::Args;
use vws_bus::failure::Failure;

/// Ctrl-].
const LEAVE: u8 = 0x1d;
/// Bytes of one read.
const CHUNK: usize = 8 * 1024;

/// Arguments of `vws console`.
#[derive(Debug, clap::Args)]
pub(crate) struct Console {
    /// Name or id of the workspace
    workspace: String,
}

/// Does it.
pub(crate) async fn run(context: &Context, verb: &Console) -> Result<()> {
    let found = find::workspace(context, &verb.workspace).await?;
    let mut guest = open(context, &found.path).await?;
    let terminal = std::io::stdin().is_terminal();
    if terminal {
        screen::say(&format!("console of {}; Ctrl-] leaves", screen::shown(found.record.text("name"))));
    }
    let raw = if terminal { Some(Raw::begin()?) } else { None };
    let ended = talk(&mut guest, terminal).await;
    drop(raw);
    if terminal {
        screen::say("");
    }
    ended
}

/// Both ways of a guest's console. Each is a thread: what the daemon hands over may be any kind of stream, and a terminal cannot
/// be waited for without changing it for everybody who shares it.
pub(crate) struct Guest {
    /// What it writes; ends when its side ends.
    pub(crate) heard: Receiver<Vec<u8>>,
    told: Sender<Vec<u8>>,
}

/// Opens the guest's console.
pub(crate) async fn open(context: &Context, path: &str) -> Result<Guest> {
    let fd = OwnedFd::from(context.client.workspace(path).await?.open_console(&Args::new()).await?);
    let lost = |error: std::io::Error| Failure::new("org.freedesktop.DBus.Error.IOError", &format!("console: {error}"));
    rustix::io::ioctl_fionbio(&fd, false).map_err(|error| lost(error.into()))?;
    let stream = File::from(fd);
    let back = stream.try_clone().map_err(lost)?;
    Ok(Guest { heard: reader(stream), told: writer(back) })
}

/// Both ways, until the guest's side ends, or Ctrl-]. The end of a pipe on stdin ends only that way.
async fn talk(guest: &mut Guest, terminal: bool) -> Result<()> {
    let mut typed = reader(std::io::stdin());
    let mut typing = true;
    loop {
        tokio::select! {
            bytes = guest.heard.recv() => {
                let Some(bytes) = bytes else { return Ok(()) };
                output::write(&bytes)?;
            }
            bytes = typed.recv(), if typing => {
                let Some(bytes) = bytes else { typing = false; continue };
                let (said, leave) = until_leave(&bytes, terminal);
                if guest.told.send(said.to_vec()).await.is_err() {
                    // The guest's side ended; what it wrote before is still to be shown.
                    typing = false;
                }
                if leave {
                    return Ok(());
                }
            }
        }
    }
}

/// What of the typed bytes goes to the guest, and whether Ctrl-] was among them.
fn until_leave(bytes: &[u8], terminal: bool) -> (&[u8], bool) {
    match bytes.iter().position(|byte| *byte == LEAVE) {
        Some(at) if terminal => (bytes.get(..at).unwrap_or(&[]), true),
        _ => (bytes, false),
    }
}

/// Reads to the end. A console whose other side is gone may say so with an error; there is nothing more to read either way.
fn reader(mut source: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel(16);
    std::thread::spawn(move || {
        let mut chunk = vec![0; CHUNK];
        loop {
            match source.read(&mut chunk) {
                Ok(count @ 1..) => {
                    if sender.blocking_send(chunk.get(..count).unwrap_or(&[]).to_vec()).is_err() {
                        break;
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => break,
            }
        }
    });
    receiver
}

/// Writes what comes until nothing comes, or nobody takes it.
fn writer(mut sink: impl Write + Send + 'static) -> Sender<Vec<u8>> {
    let (sender, mut receiver) = channel::<Vec<u8>>(16);
    std::thread::spawn(move || {
        while let Some(bytes) = receiver.blocking_recv() {
            if sink.write_all(&bytes).is_err() {
                break;
            }
        }
    });
    sender
}

/// The terminal without line editing, echo and signals; as it was when this is dropped.
struct Raw(Termios);

impl Raw {
    fn begin() -> Result<Self> {
        let failed = |error: rustix::io::Errno| Failure::new("org.freedesktop.DBus.Error.IOError", &format!("terminal: {error}"));
        let before = tcgetattr(std::io::stdin()).map_err(failed)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(std::io::stdin(), OptionalActions::Now, &raw).map_err(failed)?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone cannot be put back, and needs not be.
        let _gone = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::{reader, until_leave, writer};
    use std::os::unix::net::UnixStream;

    #[test]
    fn only_a_terminal_leaves_with_a_key() {
        assert_eq!(until_leave(b"ab\x1dcd", true), (&b"ab"[..], true));
        assert_eq!(until_leave(b"ab\x1dcd", false), (&b"ab\x1dcd"[..], false));
        assert_eq!(until_leave(b"ab", true), (&b"ab"[..], false));
    }

    #[tokio::test]
    async fn bytes_go_both_ways_and_end() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let told = writer(ours);
        let mut heard = reader(theirs);
        told.send(b"login: ".to_vec()).await.unwrap();
        assert_eq!(heard.recv().await.unwrap(), b"login: ");
        drop(told);
        assert_eq!(heard.recv().await, None);
    }
}
