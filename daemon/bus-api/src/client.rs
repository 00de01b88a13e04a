//! Typed proxies for clients in Rust, and [`Client`], which makes them.
//!
//! The proxies keep no copy of properties: the daemon sends change signals only to connections that called
//! `Manager.Subscribe`, so a copy would go stale without a sign.

use crate::failure::Failure;
use crate::{names, path};
use std::collections::{BTreeMap, HashMap};
use zbus::proxy::CacheProperties;
use zbus::{Connection, OwnedFd, OwnedObjectPath, OwnedVariant, Variant};

/// An `a{sv}` that the daemon answered.
pub type Dict = BTreeMap<String, OwnedVariant>;
/// An `a{sv}` to send; the keys stand in [`crate::keys`].
pub type Args<'a> = BTreeMap<&'a str, Variant<'a>>;
/// What `GetManagedObjects` answers: path to interface to property to value.
pub type ManagedObjects = BTreeMap<String, BTreeMap<String, Dict>>;

/// The root object: workspaces, images, hosts, decisions, events.
#[zbus::proxy(
    interface = "org.virtualworkspaces1.Manager",
    default_service = "org.virtualworkspaces1",
    default_path = "/org/virtualworkspaces1"
)]
pub trait Manager {
    /// Creates a workspace.
    fn create_workspace(
        &self,
        name: &str,
        spec: &Args<'_>,
        options: &Args<'_>,
    ) -> zbus::Result<(OwnedObjectPath, OwnedObjectPath)>;
    /// Leases a cluster; its members and the job.
    fn create_cluster(
        &self,
        name: &str,
        cluster: &Args<'_>,
        options: &Args<'_>,
    ) -> zbus::Result<(Vec<OwnedObjectPath>, OwnedObjectPath)>;
    /// Does one thing to many workspaces; what each answered.
    fn act(&self, verb: &str, filter: &Args<'_>, options: &Args<'_>) -> zbus::Result<Vec<Dict>>;
    /// Brings an image into the catalogue.
    fn import_image(&self, name: &str, source: &Args<'_>, options: &Args<'_>)
    -> zbus::Result<(OwnedObjectPath, OwnedObjectPath)>;
    /// Asks the policies and changes nothing.
    fn explain(&self, verb: &str, object: &zbus::ObjectPath<'_>, request: &Args<'_>, options: &Args<'_>) -> zbus::Result<Dict>;
    /// A page of the workspaces that the caller may see, and the cursor of the next.
    fn list(&self, filter: &Args<'_>, options: &Args<'_>) -> zbus::Result<(Vec<Dict>, String)>;
    /// A page of the images that the caller may see, and the cursor of the next.
    fn list_images(&self, filter: &Args<'_>, options: &Args<'_>) -> zbus::Result<(Vec<Dict>, String)>;
    /// A page of the hosts, and the cursor of the next.
    fn list_hosts(&self, filter: &Args<'_>, options: &Args<'_>) -> zbus::Result<(Vec<Dict>, String)>;
    /// A page of the networks, and the cursor of the next.
    fn list_networks(&self, filter: &Args<'_>, options: &Args<'_>) -> zbus::Result<(Vec<Dict>, String)>;
    /// A page of the jobs that the caller may see, and the cursor of the next.
    fn list_jobs(&self, filter: &Args<'_>, options: &Args<'_>) -> zbus::Result<(Vec<Dict>, String)>;
    /// A page of the figures of workspaces that the caller may see, and the cursor of the next.
    fn stats(&self, filter: &Args<'_>, options: &Args<'_>) -> zbus::Result<(Vec<Dict>, String)>;
    /// The site in the Prometheus text format.
    fn metrics(&self, options: &Args<'_>) -> zbus::Result<String>;
    /// Recorded decisions, newest first.
    fn decisions(&self, filter: &Args<'_>, options: &Args<'_>) -> zbus::Result<Vec<Dict>>;
    /// From now on this connection gets signals.
    fn subscribe(&self, options: &Args<'_>) -> zbus::Result<()>;
    /// No signals any more.
    fn unsubscribe(&self, options: &Args<'_>) -> zbus::Result<()>;
    /// Events after a sequence number, and the number up to which the answer is complete.
    fn events_since(&self, sequence: u64, options: &Args<'_>) -> zbus::Result<(Vec<Dict>, u64)>;
    /// Brings a bundle in from a file; the workspace that it will be and the job.
    fn import_bundle(&self, file: zbus::Fd<'_>, options: &Args<'_>) -> zbus::Result<(OwnedObjectPath, OwnedObjectPath)>;
    /// The bundles of visible workspaces.
    fn list_bundles(&self, filter: &Args<'_>, options: &Args<'_>) -> zbus::Result<Vec<Dict>>;
    /// Adds a host and probes it.
    fn add_host(&self, name: &str, host: &Args<'_>, options: &Args<'_>) -> zbus::Result<(OwnedObjectPath, OwnedObjectPath)>;
    /// Adds a network.
    fn add_network(&self, name: &str, network: &Args<'_>, options: &Args<'_>) -> zbus::Result<OwnedObjectPath>;
    /// Copies the database to an open file.
    fn backup(&self, file: zbus::Fd<'_>, options: &Args<'_>) -> zbus::Result<()>;
    /// Compares ledger, database, images, hosts and policies.
    fn doctor(&self, options: &Args<'_>) -> zbus::Result<Vec<Dict>>;
    /// Used minutes and what is held, by user and by group.
    fn usage(&self, filter: &Args<'_>, options: &Args<'_>) -> zbus::Result<Vec<Dict>>;
    /// Something was committed.
    #[zbus(signal)]
    fn event(&self, sequence: u64, at: u64, kind: String, object: OwnedObjectPath, details: Dict) -> zbus::Result<()>;
    /// Version of the daemon.
    #[zbus(property(emits_changed_signal = "const"))]
    fn version(&self) -> zbus::Result<String>;
    /// When the daemon started, in microseconds since the epoch.
    #[zbus(property(emits_changed_signal = "const"))]
    fn started_at(&self) -> zbus::Result<u64>;
    /// Number of the latest event.
    #[zbus(property(emits_changed_signal = "false"))]
    fn event_sequence(&self) -> zbus::Result<u64>;
}

/// A workspace.
#[zbus::proxy(
    interface = "org.virtualworkspaces1.Workspace",
    default_service = "org.virtualworkspaces1",
    assume_defaults = false
)]
pub trait Workspace {
    /// Starts it; the job.
    fn start(&self, options: &Args<'_>) -> zbus::Result<OwnedObjectPath>;
    /// Stops it; the job.
    fn stop(&self, options: &Args<'_>) -> zbus::Result<OwnedObjectPath>;
    /// Reboots it; the job.
    fn reboot(&self, options: &Args<'_>) -> zbus::Result<OwnedObjectPath>;
    /// Pauses it; the job.
    fn pause(&self, options: &Args<'_>) -> zbus::Result<OwnedObjectPath>;
    /// Resumes it, from pause or from its bundle; the job.
    fn resume(&self, options: &Args<'_>) -> zbus::Result<OwnedObjectPath>;
    /// Serializes it; the job.
    fn serialize(&self, options: &Args<'_>) -> zbus::Result<OwnedObjectPath>;
    /// Writes its bundle to a file and retires it; the job.
    fn export_bundle(&self, file: zbus::Fd<'_>, options: &Args<'_>) -> zbus::Result<OwnedObjectPath>;
    /// Checks its bundle; the job.
    fn verify_bundle(&self, options: &Args<'_>) -> zbus::Result<OwnedObjectPath>;
    /// Moves it to another host while it runs; the job.
    fn migrate(&self, options: &Args<'_>) -> zbus::Result<OwnedObjectPath>;
    /// Ends it; the job.
    fn destroy(&self, options: &Args<'_>) -> zbus::Result<OwnedObjectPath>;
    /// Sets the end of its lease, in seconds from now; what was granted, in microseconds since the epoch.
    fn renew(&self, lease_seconds: u64, options: &Args<'_>) -> zbus::Result<u64>;
    /// Saves its root disk as an image; the image and the job.
    fn save_image(&self, name: &str, options: &Args<'_>) -> zbus::Result<(OwnedObjectPath, OwnedObjectPath)>;
    /// Changes name, labels or access list.
    fn change(&self, changes: &Args<'_>, options: &Args<'_>) -> zbus::Result<()>;
    /// Resizes it; the job, `/` when it has these sizes already.
    fn resize(&self, changes: &Args<'_>, options: &Args<'_>) -> zbus::Result<OwnedObjectPath>;
    /// Keeps its present state under a name; the job.
    fn snapshot(&self, name: &str, options: &Args<'_>) -> zbus::Result<OwnedObjectPath>;
    /// Goes back to a snapshot; the job.
    fn revert(&self, name: &str, options: &Args<'_>) -> zbus::Result<OwnedObjectPath>;
    /// Drops a snapshot; the job.
    fn remove_snapshot(&self, name: &str, options: &Args<'_>) -> zbus::Result<OwnedObjectPath>;
    /// A stream socket to its serial console.
    fn open_console(&self, options: &Args<'_>) -> zbus::Result<OwnedFd>;
    /// What it wrote to its console, and how many bytes before that are no longer kept.
    fn log(&self, options: &Args<'_>) -> zbus::Result<(String, u64)>;
    /// Everything that is known of it.
    fn describe(&self, options: &Args<'_>) -> zbus::Result<Dict>;
}

/// A host.
#[zbus::proxy(interface = "org.virtualworkspaces1.Host", default_service = "org.virtualworkspaces1", assume_defaults = false)]
pub trait Host {
    /// Finds out what it is; the job.
    fn probe(&self, options: &Args<'_>) -> zbus::Result<OwnedObjectPath>;
    /// Changes what an administrator configured.
    fn change(&self, changes: &Args<'_>, options: &Args<'_>) -> zbus::Result<()>;
    /// The images in its cache.
    fn images(&self, options: &Args<'_>) -> zbus::Result<Vec<Dict>>;
    /// Removes an image from its cache.
    fn remove_image(&self, digest: &str, options: &Args<'_>) -> zbus::Result<()>;
    /// Forgets it.
    fn remove(&self, options: &Args<'_>) -> zbus::Result<()>;
    /// What a drain would do.
    fn plan_drain(&self, options: &Args<'_>) -> zbus::Result<Vec<Dict>>;
    /// Disables it and takes what is on it off; the job.
    fn drain(&self, options: &Args<'_>) -> zbus::Result<OwnedObjectPath>;
}

/// A network.
#[zbus::proxy(interface = "org.virtualworkspaces1.Network", default_service = "org.virtualworkspaces1", assume_defaults = false)]
pub trait Network {
    /// Changes what an administrator configured.
    fn change(&self, changes: &Args<'_>, options: &Args<'_>) -> zbus::Result<()>;
    /// Forgets it, and the addresses that it remembers.
    fn remove(&self, options: &Args<'_>) -> zbus::Result<()>;
    /// Who has which address, as far as the caller may know.
    fn addresses(&self, options: &Args<'_>) -> zbus::Result<Vec<Dict>>;
}

/// An image.
#[zbus::proxy(interface = "org.virtualworkspaces1.Image", default_service = "org.virtualworkspaces1", assume_defaults = false)]
pub trait Image {
    /// Compares its bytes with its digest; the job.
    fn verify(&self, options: &Args<'_>) -> zbus::Result<OwnedObjectPath>;
    /// Changes name or visibility.
    fn change(&self, changes: &Args<'_>, options: &Args<'_>) -> zbus::Result<()>;
    /// Takes it out of the catalogue.
    fn remove(&self, options: &Args<'_>) -> zbus::Result<()>;
}

/// A job.
#[zbus::proxy(interface = "org.virtualworkspaces1.Job", default_service = "org.virtualworkspaces1", assume_defaults = false)]
pub trait Job {
    /// Asks it to stop.
    fn cancel(&self, options: &Args<'_>) -> zbus::Result<()>;
    /// It has ended.
    #[zbus(signal)]
    fn completed(&self, state: String, error_name: String, message: String) -> zbus::Result<()>;
}

/// The policies in force; on the root object.
#[zbus::proxy(
    interface = "org.virtualworkspaces1.Policy",
    default_service = "org.virtualworkspaces1",
    default_path = "/org/virtualworkspaces1"
)]
pub trait Policy {
    /// Reads the policy folder now; the generation in force.
    fn reload(&self, options: &Args<'_>) -> zbus::Result<u64>;
    /// Judges sources as a reload would: file name to text, and what is wrong with them.
    fn check(&self, sources: &BTreeMap<String, String>, options: &Args<'_>) -> zbus::Result<Vec<Dict>>;
    /// Which sets were in force, newest first.
    fn history(&self, options: &Args<'_>) -> zbus::Result<Vec<Dict>>;
    /// Puts an older set in force again; its new generation.
    fn rollback(&self, target: &str, options: &Args<'_>) -> zbus::Result<u64>;
    /// Judges recorded decisions by other sources.
    fn replay(&self, sources: &BTreeMap<String, String>, options: &Args<'_>) -> zbus::Result<Dict>;
    /// Lets other sources judge beside those in force; their hash.
    fn start_shadow(&self, sources: &BTreeMap<String, String>, options: &Args<'_>) -> zbus::Result<String>;
    /// What the shadow has found; empty: there is none.
    fn shadow(&self, options: &Args<'_>) -> zbus::Result<Dict>;
    /// Ends the shadow.
    fn stop_shadow(&self, options: &Args<'_>) -> zbus::Result<()>;
    /// Which workspaces would be refused today, by these sources or (none given) those in force; and how many were judged.
    fn audit(&self, sources: &BTreeMap<String, String>, options: &Args<'_>) -> zbus::Result<(Vec<Dict>, u64)>;
    /// `good`, `stale`, `pinned` or `none`.
    #[zbus(property(emits_changed_signal = "false"))]
    fn state(&self) -> zbus::Result<String>;
    /// Counts up with each set taken.
    #[zbus(property(emits_changed_signal = "false"))]
    fn generation(&self) -> zbus::Result<u64>;
}

/// Which bus the daemon is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bus {
    /// The system bus.
    System,
    /// The session bus of this user.
    Session,
    /// A bus at this D-Bus address.
    Address(String),
}

impl Bus {
    /// Reads `system`, `session`, or an address such as `unix:path=/run/bus`.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        match text {
            "system" => Self::System,
            "session" => Self::Session,
            address => Self::Address(address.to_owned()),
        }
    }
}

impl std::fmt::Display for Bus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::System => f.write_str("system"),
            Self::Session => f.write_str("session"),
            Self::Address(address) => f.write_str(address),
        }
    }
}

/// A connection to the daemon's bus.
#[derive(Clone, Debug)]
pub struct Client {
    connection: Connection,
}

impl Client {
    /// Connects to a bus. Whether the daemon is there shows at the first call.
    ///
    /// # Errors
    /// When the bus cannot be reached, or the address is not one.
    pub async fn connect(bus: &Bus) -> Result<Self, Failure> {
        let builder = match bus {
            Bus::System => zbus::connection::Builder::system(),
            Bus::Session => zbus::connection::Builder::session(),
            Bus::Address(address) => zbus::connection::Builder::address(address.as_str()),
        };
        Ok(Self { connection: builder.build().await? })
    }

    /// On a connection that is there already.
    pub fn new(connection: Connection) -> Self {
        Self { connection }
    }

    /// The connection.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The root object's Manager.
    pub async fn manager(&self) -> Result<ManagerProxy<'static>, Failure> {
        Ok(ManagerProxy::builder(&self.connection).cache_properties(CacheProperties::No).build().await?)
    }

    /// The root object's Policy.
    pub async fn policy(&self) -> Result<PolicyProxy<'static>, Failure> {
        Ok(PolicyProxy::builder(&self.connection).cache_properties(CacheProperties::No).build().await?)
    }

    /// The workspace at a path.
    pub async fn workspace(&self, path: &str) -> Result<WorkspaceProxy<'static>, Failure> {
        Ok(WorkspaceProxy::builder(&self.connection).path(path.to_owned()).cache_properties(CacheProperties::No).build().await?)
    }

    /// The host at a path.
    pub async fn host(&self, path: &str) -> Result<HostProxy<'static>, Failure> {
        Ok(HostProxy::builder(&self.connection).path(path.to_owned()).cache_properties(CacheProperties::No).build().await?)
    }

    /// The network at a path.
    pub async fn network(&self, path: &str) -> Result<NetworkProxy<'static>, Failure> {
        Ok(NetworkProxy::builder(&self.connection).path(path.to_owned()).cache_properties(CacheProperties::No).build().await?)
    }

    /// The image at a path.
    pub async fn image(&self, path: &str) -> Result<ImageProxy<'static>, Failure> {
        Ok(ImageProxy::builder(&self.connection).path(path.to_owned()).cache_properties(CacheProperties::No).build().await?)
    }

    /// The job at a path.
    pub async fn job(&self, path: &str) -> Result<JobProxy<'static>, Failure> {
        Ok(JobProxy::builder(&self.connection).path(path.to_owned()).cache_properties(CacheProperties::No).build().await?)
    }

    /// All properties that an interface has at a path.
    pub async fn properties(&self, path: &str, interface: &str) -> Result<Dict, Failure> {
        let reply = self.connection.call_method(Some(names::BUS), path, Some(names::PROPERTIES), "GetAll", &(interface,)).await?;
        Ok(reply.body().deserialize()?)
    }

    /// All properties of the object at a path, by the interface that objects of its kind have.
    pub async fn object(&self, path: &str) -> Result<Dict, Failure> {
        let interface = path::Object::parse(path).map_or(names::MANAGER, |object| object.interface());
        self.properties(path, interface).await
    }

    /// Every object that the caller may see; refused with `Busy` above [`names::MANAGED_OBJECTS_MAX`] objects.
    pub async fn managed_objects(&self) -> Result<ManagedObjects, Failure> {
        let reply = self
            .connection
            .call_method(Some(names::BUS), names::ROOT, Some(names::OBJECT_MANAGER), "GetManagedObjects", &())
            .await?;
        let objects: HashMap<OwnedObjectPath, BTreeMap<String, Dict>> = reply.body().deserialize()?;
        Ok(objects.into_iter().map(|(path, interfaces)| (path.to_string(), interfaces)).collect())
    }
}
