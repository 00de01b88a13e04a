//! Names on the bus, and the limits that its contract names.

/// The service's well-known name.
pub const BUS: &str = "org.virtualworkspaces1";
/// Path of the root object.
pub const ROOT: &str = "/org/virtualworkspaces1";

/// Interface of the root object: workspaces, images, hosts, decisions, events.
pub const MANAGER: &str = "org.virtualworkspaces1.Manager";
/// Interface of the root object: the policies in force.
pub const POLICY: &str = "org.virtualworkspaces1.Policy";
/// Interface of a workspace.
pub const WORKSPACE: &str = "org.virtualworkspaces1.Workspace";
/// Interface of a host.
pub const HOST: &str = "org.virtualworkspaces1.Host";
/// Interface of an image.
pub const IMAGE: &str = "org.virtualworkspaces1.Image";
/// Interface of a network.
pub const NETWORK: &str = "org.virtualworkspaces1.Network";
/// Interface of a job.
pub const JOB: &str = "org.virtualworkspaces1.Job";
/// Interface of a backend.
pub const BACKEND: &str = "org.virtualworkspaces1.Backend";

/// The standard interface that lists objects.
pub const OBJECT_MANAGER: &str = "org.freedesktop.DBus.ObjectManager";
/// The standard interface for properties.
pub const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
/// The standard interface for introspection.
pub const INTROSPECTABLE: &str = "org.freedesktop.DBus.Introspectable";
/// The standard interface for liveness.
pub const PEER: &str = "org.freedesktop.DBus.Peer";

/// What every error name of ours begins with; the kind follows.
pub const ERROR_PREFIX: &str = "org.virtualworkspaces1.Error.";

/// The annotation of methods that cannot change anything; every other method passes the gate and is recorded.
pub const READS_ANNOTATION: &str = "org.virtualworkspaces1.Reads";

/// `GetManagedObjects` answers up to this many objects and refuses above it with `Busy`: a bus message ends at 32 MiB.
pub const MANAGED_OBJECTS_MAX: usize = 20_000;
/// Elements of a page of `List`, and events of `EventsSince`, when `limit` is not given.
pub const LIST_LIMIT: u64 = 1_000;
/// The same, at most.
pub const LIST_LIMIT_MAX: u64 = 10_000;
/// Decisions of one answer when `limit` is not given.
pub const DECISIONS_LIMIT: u64 = 100;
/// The same, at most.
pub const DECISIONS_LIMIT_MAX: u64 = 1_000;
/// Characters of a `request-id`, at most.
pub const REQUEST_ID_CHARS: usize = 128;
/// Milliseconds that a guest has to shut down when `guest-timeout-ms` is not given.
pub const GUEST_TIMEOUT_MS: u64 = 60_000;
