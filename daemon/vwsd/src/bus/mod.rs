//! The D-Bus edge: the only place in the daemon that names the bus library.
//!
//! Decodes calls, attaches the caller's identity, asks the [`Service`], encodes answers, and turns committed events into
//! signals. It decides nothing: who may see or do what is the service's to say. One interface a file; `caller.rs` knows who
//! calls, `error.rs` is the one map to error names, `contract.rs` has the signatures, `publish.rs` the signals.
//! Must not know: SQL, Lua, plugins' documents, how a verb is carried out.

mod accounts;
mod backend;
mod call;
mod caller;
mod contract;
mod decode;
mod dispatch;
mod encode;
mod error;
mod host;
mod image;
mod introspect;
mod job;
mod keys;
pub mod limits;
mod lists;
mod manager;
mod many;
mod network;
mod object;
mod object_manager;
mod policy;
mod properties;
mod publish;
mod value;
mod workspace;

use crate::service::Service;
use caller::Admins;
use contract::Contract;
use dispatch::Dispatcher;
use publish::{Publisher, Subscriptions};
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use vws_bus::names;
use vws_domain::{Error, ErrorKind, Result, Timestamp};
use zbus::fdo::{RequestNameFlags, RequestNameReply};
use zbus::{Connection, MessageStream};

/// Which bus to serve on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BusAddress {
    /// The system's bus.
    System,
    /// The session's bus.
    Session,
    /// A bus at a D-Bus address, for instance `unix:path=/run/vws/bus`.
    Address(String),
}

impl BusAddress {
    /// Reads `system`, `session`, or an address.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        match text {
            "system" => Self::System,
            "session" => Self::Session,
            address => Self::Address(address.to_owned()),
        }
    }
}

impl fmt::Display for BusAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::System => "system",
            Self::Session => "session",
            Self::Address(address) => address,
        })
    }
}

/// What every handler can reach.
pub(crate) struct State {
    pub(crate) service: Arc<Service>,
    contract: Contract,
    connection: Connection,
    admins: Admins,
    version: String,
    started_at: Timestamp,
    machine_id: String,
    subscriptions: Subscriptions,
}

/// The running edge. Dropping it ends it at once; [`Bus::shutdown`] ends it in order.
pub struct Bus {
    state: Arc<State>,
    dispatcher: JoinHandle<()>,
    publisher: JoinHandle<()>,
}

/// Connects to `address` (see [`BusAddress::parse`]), begins to answer, and takes the name: the tree is complete before the
/// first call can come. Administrators are root, `own_uid` (the user that the daemon runs as) and the members of the group
/// `admin_group` (empty: no group).
///
/// # Errors
/// [`ErrorKind::HostUnavailable`] when the bus cannot be reached, [`ErrorKind::AlreadyExists`] when another daemon has the
/// name, [`ErrorKind::AccessDenied`] when the bus's policy does not give it to this user.
pub async fn serve(service: Arc<Service>, address: &str, own_uid: u32, admin_group: &str) -> Result<Bus> {
    let address = BusAddress::parse(address);
    let object = format!("bus `{}`", vws_domain::shown(&address.to_string()));
    let limit = Duration::from_millis(limits::CONNECT_MS);
    let unreachable = |fact: String| {
        Error::new(ErrorKind::HostUnavailable, object.clone(), fact, "check that the message bus runs, and the --bus option")
    };
    let connected = tokio::time::timeout(limit, connect(&address)).await;
    let connection = connected
        .map_err(|_| unreachable(format!("did not answer within {} ms", limits::CONNECT_MS)))?
        .map_err(|error| unreachable(format!("cannot be reached: {error}")))?;
    let state = Arc::new(State {
        contract: Contract::load()?,
        admins: Admins { group: admin_group.to_owned(), own_uid },
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: service.env.now(),
        service,
        machine_id: machine_id(),
        subscriptions: Subscriptions::default(),
        connection: connection.clone(),
    });
    // The stream is taken before the name: a call that comes with the name's first moment is in it.
    let messages = MessageStream::from(&connection);
    let bus = Bus {
        dispatcher: tokio::spawn(Dispatcher::new(Arc::clone(&state)).run(messages)),
        publisher: tokio::spawn(Publisher::new(Arc::clone(&state)).run()),
        state,
    };
    tokio::time::timeout(limit, register(&connection, &object))
        .await
        .map_err(|_| unreachable(format!("did not give the name within {} ms", limits::CONNECT_MS)))??;
    Ok(bus)
}

impl Bus {
    /// Waits until the connection ends, which without [`Bus::shutdown`] means that the bus went away.
    pub async fn ended(&mut self) {
        // An aborted or failed task is an end as well.
        drop((&mut self.dispatcher).await);
    }

    /// Gives the name back, so that no new call comes, and ends the connection. Calls in work are not waited for.
    pub async fn shutdown(self) {
        if let Err(error) = self.state.connection.release_name(names::BUS).await {
            tracing::debug!(%error, "the name was not given back");
        }
        self.state.subscriptions.clear();
        if let Err(error) = self.state.connection.clone().close().await {
            tracing::debug!(%error, "the connection was not closed in order");
        }
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        self.dispatcher.abort();
        self.publisher.abort();
        self.state.subscriptions.clear();
    }
}

/// Every method of the contract that can change something, as (interface, method): each must pass a gate of the service.
///
/// # Errors
/// [`ErrorKind::Internal`] when the interface files cannot be read.
pub fn mutating_methods() -> Result<Vec<(String, String)>> {
    Ok(Contract::load()?.mutating_methods())
}

/// Messages that may wait for the dispatcher before the socket is left unread.
const QUEUED_MESSAGES: NonZeroUsize = NonZeroUsize::new(256).unwrap();

async fn connect(address: &BusAddress) -> zbus::Result<Connection> {
    let builder = match address {
        BusAddress::System => zbus::connection::Builder::system(),
        BusAddress::Session => zbus::connection::Builder::session(),
        BusAddress::Address(address) => zbus::connection::Builder::address(address.as_str()),
    };
    builder.max_queued(QUEUED_MESSAGES).build().await
}

/// Asks to be told of connections that end, and for the name.
async fn register(connection: &Connection, object: &str) -> Result<()> {
    let failed = |error: zbus::Error| Error::new(ErrorKind::HostUnavailable, object, error.to_string(), "check the message bus");
    let rule = "type='signal',sender='org.freedesktop.DBus',interface='org.freedesktop.DBus',member='NameOwnerChanged',arg2=''";
    let path = "/org/freedesktop/DBus";
    let bus = "org.freedesktop.DBus";
    connection.call_method(Some(bus), path, Some(bus), "AddMatch", &(rule,)).await.map_err(failed)?;
    match connection.request_name_with_flags(names::BUS, RequestNameFlags::DO_NOT_QUEUE).await {
        Ok(RequestNameReply::PrimaryOwner | RequestNameReply::AlreadyOwner) => Ok(()),
        Ok(RequestNameReply::Exists | RequestNameReply::InQueue) | Err(zbus::Error::NameTaken) => Err(Error::new(
            ErrorKind::AlreadyExists,
            object,
            format!("the name {} is taken: another daemon serves here", names::BUS),
            "stop it first, or use another bus",
        )),
        Err(zbus::Error::FDO(error)) => match *error {
            zbus::fdo::Error::AccessDenied(text) => Err(Error::new(
                ErrorKind::AccessDenied,
                object,
                format!("does not let this user have the name {}: {text}", names::BUS),
                "install the bus policy file that comes with the daemon, or use a session or private bus",
            )),
            other => Err(failed(other.into())),
        },
        Err(error) => Err(failed(error)),
    }
}

/// The machine's id, as Peer.GetMachineId answers it; empty when it has none.
fn machine_id() -> String {
    let files = ["/etc/machine-id", "/var/lib/dbus/machine-id"];
    let ids = files.into_iter().filter_map(|file| std::fs::read_to_string(file).ok());
    ids.map(|id| id.trim().to_owned()).find(|id| id.len() == 32).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{BusAddress, mutating_methods};

    #[test]
    fn addresses_are_words_or_addresses() {
        for text in ["system", "session", "unix:path=/run/bus"] {
            assert_eq!(BusAddress::parse(text).to_string(), text);
        }
        assert_eq!(BusAddress::parse("session"), BusAddress::Session);
    }

    #[test]
    fn the_mutating_methods_are_these() {
        let found = mutating_methods().unwrap();
        let found: Vec<String> = found
            .iter()
            .map(|(interface, method)| format!("{}.{method}", interface.trim_start_matches("org.virtualworkspaces1.")))
            .collect();
        let expected = [
            "Host.Change",
            "Host.Drain",
            "Host.Probe",
            "Host.Remove",
            "Host.RemoveImage",
            "Image.Change",
            "Image.Remove",
            "Image.Verify",
            "Job.Cancel",
            "Manager.Act",
            "Manager.AddHost",
            "Manager.AddNetwork",
            "Manager.Backup",
            "Manager.CreateCluster",
            "Manager.CreateWorkspace",
            "Manager.ImportBundle",
            "Manager.ImportImage",
            "Network.Change",
            "Network.Remove",
            "Policy.Audit",
            "Policy.Reload",
            "Policy.Replay",
            "Policy.Rollback",
            "Policy.StartShadow",
            "Policy.StopShadow",
            "Workspace.Change",
            "Workspace.Destroy",
            "Workspace.ExportBundle",
            "Workspace.Migrate",
            "Workspace.OpenConsole",
            "Workspace.Pause",
            "Workspace.Reboot",
            "Workspace.RemoveSnapshot",
            "Workspace.Renew",
            "Workspace.Resize",
            "Workspace.Resume",
            "Workspace.Revert",
            "Workspace.SaveImage",
            "Workspace.Serialize",
            "Workspace.Snapshot",
            "Workspace.Start",
            "Workspace.Stop",
            "Workspace.VerifyBundle",
        ];
        assert_eq!(found, expected);
    }
}
