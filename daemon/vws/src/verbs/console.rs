//! `vws console`: the guest's serial console on this terminal, or through pipes.

use crate::context::Context;
use crate::{Result, find, output, screen};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use std::io::{IsTerminal, Read};
use std::os::fd::OwnedFd;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
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
    let guest = open(context, &found.path).await?;
    let terminal = std::io::stdin().is_terminal();
    if terminal {
        screen::say(&format!("console of {}; Ctrl-] leaves", screen::shown(found.record.text("name"))));
    }
    let raw = if terminal { Some(Raw::begin()?) } else { None };
    let ended = talk(&guest, terminal).await;
    drop(raw);
    if terminal {
        screen::say("");
    }
    ended
}

/// The guest's console as a stream.
pub(crate) async fn open(context: &Context, path: &str) -> Result<AsyncFd<OwnedFd>> {
    let fd = context.client.workspace(path).await?.open_console(&Args::new()).await?;
    let fd = OwnedFd::from(fd);
    let lost = |error: std::io::Error| Failure::new("org.freedesktop.DBus.Error.IOError", &format!("console: {error}"));
    rustix::io::ioctl_fionbio(&fd, true).map_err(|error| lost(error.into()))?;
    AsyncFd::register_with_interest(fd, Interest::READABLE | Interest::WRITABLE).map_err(lost)
}

/// Some bytes that the guest wrote; empty at the end.
pub(crate) async fn hear(guest: &AsyncFd<OwnedFd>) -> Result<Vec<u8>> {
    let mut chunk = vec![0; CHUNK];
    let heard = guest.async_io(Interest::READABLE, |fd| Ok(rustix::io::read(fd, &mut chunk)?)).await;
    match heard {
        Ok(count) => {
            chunk.truncate(count);
            Ok(chunk)
        }
        // A terminal whose other side is closed says so in this way.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => Ok(Vec::new()),
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Ok(Vec::new()),
        Err(error) => Err(Failure::new("org.freedesktop.DBus.Error.IOError", &format!("console: {error}"))),
    }
}

async fn tell(guest: &AsyncFd<OwnedFd>, mut bytes: &[u8]) -> Result<bool> {
    while !bytes.is_empty() {
        match guest.async_io(Interest::WRITABLE, |fd| Ok(rustix::io::write(fd, bytes)?)).await {
            Ok(count) => bytes = bytes.get(count..).unwrap_or(&[]),
            Err(error) if matches!(error.kind(), std::io::ErrorKind::BrokenPipe | std::io::ErrorKind::ConnectionReset) => return Ok(false),
            Err(error) => return Err(Failure::new("org.freedesktop.DBus.Error.IOError", &format!("console: {error}"))),
        }
    }
    Ok(true)
}

/// Both ways, until the guest's side ends, or Ctrl-]. The end of a pipe on stdin ends only that way.
async fn talk(guest: &AsyncFd<OwnedFd>, terminal: bool) -> Result<()> {
    let mut typed = typed();
    let mut typing = true;
    loop {
        tokio::select! {
            bytes = hear(guest) => {
                let bytes = bytes?;
                if bytes.is_empty() {
                    return Ok(());
                }
                output::write(&bytes)?;
            }
            bytes = typed.recv(), if typing => {
                let Some(bytes) = bytes else { typing = false; continue };
                let leave = if terminal { bytes.iter().position(|byte| *byte == LEAVE) } else { None };
                let said = bytes.get(..leave.unwrap_or(bytes.len())).unwrap_or(&[]);
                if !tell(guest, said).await? || leave.is_some() {
                    return Ok(());
                }
            }
        }
    }
}

/// What is typed or piped in. Read in a thread of its own: a terminal cannot be waited for without changing it for everybody
/// who shares it.
fn typed() -> tokio::sync::mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = tokio::sync::mpsc::channel(16);
    std::thread::spawn(move || {
        let mut stdin = std::io::stdin().lock();
        let mut chunk = vec![0; CHUNK];
        while let Ok(count @ 1..) = stdin.read(&mut chunk) {
            if sender.blocking_send(chunk.get(..count).unwrap_or(&[]).to_vec()).is_err() {
                break;
            }
        }
    });
    receiver
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
