//! The stored form of the domain's nested types: JSON text. The domain carries no serde; each type that stands inside a
//! column has its counterpart here.
//!
//! The macros destructure every domain type completely: a new field or variant does not compile until it has its place here.
//! Words of enums are frozen once released: they are in databases. A member that is added later needs `#[serde(default)]`.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use vws_domain as domain;

use crate::fail::{Fail, Tried};

/// The stored counterpart of the domain type `D`.
pub(crate) trait Stored<D>: Sized {
    /// The stored form of `value`.
    fn of(value: &D) -> Self;
    /// The value; an error names what is wrong with the stored form.
    fn back(self) -> Result<D, String>;
}

/// `value` as JSON text, by way of its stored form `S`.
pub(crate) fn to_json<S: Stored<D> + Serialize, D>(value: &D) -> Tried<String> {
    serde_json::to_string(&S::of(value)).map_err(|error| Fail::Value(error.to_string()))
}

/// The value that `text` stands for.
pub(crate) fn from_json<S: Stored<D> + DeserializeOwned, D>(text: &str) -> Result<D, String> {
    serde_json::from_str::<S>(text).map_err(|error| error.to_string())?.back()
}

macro_rules! same {
    ($($type:ty),+) => { $(
        impl Stored<$type> for $type {
            fn of(value: &$type) -> Self { value.clone() }
            fn back(self) -> Result<$type, String> { Ok(self) }
        }
    )+ };
}
same!(String, u64, u32, bool, BTreeMap<String, String>);

impl<D, S: Stored<D>> Stored<Option<D>> for Option<S> {
    fn of(value: &Option<D>) -> Self {
        value.as_ref().map(S::of)
    }
    fn back(self) -> Result<Option<D>, String> {
        self.map(S::back).transpose()
    }
}

impl<D, S: Stored<D>> Stored<Vec<D>> for Vec<S> {
    fn of(value: &Vec<D>) -> Self {
        value.iter().map(S::of).collect()
    }
    fn back(self) -> Result<Vec<D>, String> {
        self.into_iter().map(S::back).collect()
    }
}

impl<D: Ord, S: Stored<D>> Stored<std::collections::BTreeSet<D>> for Vec<S> {
    fn of(value: &std::collections::BTreeSet<D>) -> Self {
        value.iter().map(S::of).collect()
    }
    fn back(self) -> Result<std::collections::BTreeSet<D>, String> {
        self.into_iter().map(S::back).collect()
    }
}

impl<D, S: Stored<D>> Stored<Arc<D>> for Box<S> {
    fn of(value: &Arc<D>) -> Self {
        Box::new(S::of(value))
    }
    fn back(self) -> Result<Arc<D>, String> {
        (*self).back().map(Arc::new)
    }
}

/// Types that are text in the database and are read back by their own parser.
macro_rules! text {
    ($($type:ident),+) => { $(
        impl Stored<domain::$type> for String {
            fn of(value: &domain::$type) -> Self { value.to_string() }
            fn back(self) -> Result<domain::$type, String> {
                domain::$type::parse(&self).map_err(|error| error.to_string())
            }
        }
    )+ };
}
text!(WorkspaceId, JobId, DecisionId, ImageId, BundleId, HostName, NetworkName, Mac, Subnet, AddressRange);

impl Stored<domain::PolicyHash> for String {
    fn of(value: &domain::PolicyHash) -> Self {
        value.0.clone()
    }
    fn back(self) -> Result<domain::PolicyHash, String> {
        Ok(domain::PolicyHash(self))
    }
}

impl Stored<Ipv4Addr> for String {
    fn of(value: &Ipv4Addr) -> Self {
        value.to_string()
    }
    fn back(self) -> Result<Ipv4Addr, String> {
        self.parse().map_err(|_| format!("`{self}` is not an IPv4 address"))
    }
}

impl Stored<domain::Timestamp> for u64 {
    fn of(value: &domain::Timestamp) -> Self {
        value.0
    }
    fn back(self) -> Result<domain::Timestamp, String> {
        Ok(domain::Timestamp(self))
    }
}

/// A score as text: JSON has no infinities, and text keeps every bit.
impl Stored<f64> for String {
    fn of(value: &f64) -> Self {
        value.to_string()
    }
    fn back(self) -> Result<f64, String> {
        self.parse().map_err(|_| format!("`{self}` is not a number"))
    }
}

/// Enums without data are words.
macro_rules! words {
    ($($type:ident { $($variant:ident = $word:literal),+ $(,)? })+) => { $(
        impl Stored<domain::$type> for String {
            fn of(value: &domain::$type) -> Self {
                match value { $(domain::$type::$variant => $word,)+ }.to_owned()
            }
            fn back(self) -> Result<domain::$type, String> {
                match self.as_str() {
                    $($word => Ok(domain::$type::$variant),)+
                    other => Err(format!(concat!("`{}` is no ", stringify!($type)), other)),
                }
            }
        }
    )+ };
}
words! {
    State {
        Reserved = "reserved", Staging = "staging", Stopped = "stopped", Starting = "starting", Running = "running",
        Stopping = "stopping", Paused = "paused", Serializing = "serializing", Serialized = "serialized",
        Restoring = "restoring", Migrating = "migrating", Destroying = "destroying", Gone = "gone", Broken = "broken",
        Unknown = "unknown",
    }
    Target { Stopped = "stopped", Running = "running", Paused = "paused", Serialized = "serialized", Gone = "gone" }
    EndAction { Stop = "stop", Serialize = "serialize", Destroy = "destroy" }
    Right { View = "view", Use = "use", Manage = "manage" }
    DiskFormat { Raw = "raw", Qcow2 = "qcow2" }
    Firmware { Bios = "bios", Uefi = "uefi" }
    Visibility { Private = "private", Public = "public" }
    ImageState { Importing = "importing", Ready = "ready", Damaged = "damaged" }
    JobKind {
        Create = "create", Start = "start", Stop = "stop", Reboot = "reboot", Pause = "pause", Resume = "resume",
        Serialize = "serialize", Restore = "restore", SaveImage = "save-image", Destroy = "destroy",
        ImportImage = "import-image", VerifyImage = "verify-image", ProbeHost = "probe-host",
        Resize = "resize", Snapshot = "snapshot", Revert = "revert", RemoveSnapshot = "remove-snapshot",
        CreateCluster = "create-cluster",
        ExportBundle = "export-bundle", ImportBundle = "import-bundle", VerifyBundle = "verify-bundle",
        Migrate = "migrate", Forget = "forget", Drain = "drain",
    }
    JobState {
        Queued = "queued", Running = "running", Undoing = "undoing", Done = "done", Failed = "failed",
        Cancelled = "cancelled",
    }
    Verb {
        Launch = "launch", View = "view", Start = "start", Stop = "stop", Reboot = "reboot", Pause = "pause",
        Resume = "resume", Serialize = "serialize", Restore = "restore", Renew = "renew", SaveImage = "save-image",
        Destroy = "destroy", Console = "console", Change = "change", ImageImport = "image-import",
        ImageManage = "image-manage", HostManage = "host-manage", PolicyManage = "policy-manage",
        SiteManage = "site-manage", Resize = "resize", Snapshot = "snapshot", Revert = "revert",
        NetworkManage = "network-manage",
        BundleExport = "bundle-export", BundleImport = "bundle-import",
        Migrate = "migrate", Drain = "drain",
    }
    VerdictKind { Permit = "permit", Deny = "deny", Restrict = "restrict", Error = "error" }
    ErrorKind {
        AccessDenied = "AccessDenied", QuotaExceeded = "QuotaExceeded", NoHost = "NoHost",
        InvalidArgument = "InvalidArgument", InvalidState = "InvalidState", NotFound = "NotFound",
        AlreadyExists = "AlreadyExists", Conflict = "Conflict", PolicyFailure = "PolicyFailure",
        BackendFailure = "BackendFailure", HostUnavailable = "HostUnavailable", Unsupported = "Unsupported",
        Busy = "Busy", Cancelled = "Cancelled", TimedOut = "TimedOut", Damaged = "Damaged", NoSpace = "NoSpace",
        Internal = "Internal", NoAddress = "NoAddress",
    }
    NetworkKind { User = "user", Bridge = "bridge", Network = "network" }
}

/// Structs, member by member. Members under `elsewhere` have a column of their own and come back empty.
macro_rules! records {
    ($($type:ident { $($field:ident : $stored:ty),+ $(,)? } $([elsewhere $($other:ident),+])?)+) => { $(
        #[derive(Serialize, Deserialize)]
        pub(crate) struct $type { $($field: $stored),+ }

        impl Stored<domain::$type> for $type {
            fn of(value: &domain::$type) -> Self {
                let domain::$type { $($field,)+ $($($other: _,)+)? } = value;
                Self { $($field: Stored::of($field)),+ }
            }
            fn back(self) -> Result<domain::$type, String> {
                Ok(domain::$type {
                    $($field: self.$field.back().map_err(|e| format!(concat!(stringify!($field), ": {}"), e))?,)+
                    $($($other: Default::default(),)+)?
                })
            }
        }
    )+ };
}
records! {
    Resources { vcpus: u64, memory_mib: u64, disk_gib: u64 }
    Lease {
        from: u64, until: Option<u64>, action: String, grace_seconds: u64, deferred_until: Option<u64>, ended: bool,
    }
    DiskLimits { iops: u64, kib_per_second: u64 }
    DataDisk { source: DiskSource, size_gib: u64, limits: DiskLimits }
    NicLimits { inbound_kib_per_second: u64, outbound_kib_per_second: u64 }
    Nic { network: NicNetwork, mac: String, address: Option<String>, limits: NicLimits }
    Pool { subnet: String, gateway: Option<String>, dns: Vec<String>, ranges: Vec<String> }
    Network {
        name: String, kind: String, source: String, pool: Option<Pool>, dhcp: bool, anti_spoofing: bool,
        labels: BTreeMap<String, String>, enabled: bool, version: u64,
    }
    Grant { subject: Subject, right: String }
    Spec {
        name: String, image: ImageRef, vcpus: u64, vcpus_max: u64, cpu_shares: u64, memory_mib: u64, memory_max_mib: u64, disk_gib: u64,
        disk_limits: DiskLimits, data_disks: Vec<DataDisk>, nics: Vec<Nic>, operating_system: String,
        network_config: String, ssh_keys: Vec<String>, access: Vec<Grant>, labels: BTreeMap<String, String>,
        group: String, lease_seconds: u64, end_action: String, target: String, host: Option<String>,
        preemptible: bool, membership: Option<Membership>,
    } [elsewhere user_data]
    Membership {
        cluster: String, role: String, index: u64, apart_from: Vec<String>, together_with: Vec<String>,
    }
    Snapshot { name: String, memory: bool, created_at: u64 }
    Image {
        id: String, name: String, digest: String, format: String, size_bytes: u64, virtual_size_mib: u64, boot: Boot,
        owner: u32, visibility: String, state: String, source: String, created_at: u64,
    }
    BundleFile { name: String, digest: String, size_bytes: u64 }
    Accelerator { name: String, reason: String }
    HostFacts {
        hypervisor: String, accelerator: Accelerator, total: Resources, capabilities: BTreeMap<String, String>,
        arch: String, storage_id: String,
    }
    ForeignUse { guests: u64, resources: Resources }
    Progress { phase: String, step: u32, steps: u32, done: u64, total: u64 }
    Error {
        kind: String, code: String, object: String, fact: String, remedy: String, decision: Option<String>,
        detail: String,
    }
    Caller {
        uid: u32, user: String, gids: Vec<u32>, groups: Vec<String>, pid: u32, label: String, admin: bool, system: bool,
    }
    Request {
        verb: String, name: String, images: Vec<Box<Image>>, resources: Resources, duration_seconds: u64,
        end_action: String, nics: Vec<Nic>, labels: BTreeMap<String, String>, operating_system: String, group: String,
        target: String, host: Option<String>, backend: Option<String>, avoid: Vec<String>,
        membership: Option<Membership>, needs: Vec<String>, access: Vec<Grant>, networks: Vec<Box<Network>>, addresses: u64,
        leaves: Option<String>, preemptible: bool,
    }
    Before { resources: Resources, duration_seconds: u64, nics: Option<Vec<Nic>>, host: Option<String>, preemptible: bool }
    Seen {
        id: String, name: String, owner: u32, owner_name: String, group: String, state: String, target: String,
        host: Option<String>, labels: BTreeMap<String, String>, access: Vec<Grant>, operating_system: String, preemptible: bool, image: ImageRef,
        resources: Resources, lease_from: u64, lease_until: Option<u64>, end_action: String, created_at: u64,
    }
    Rule { file: String, line: u32 }
    Restriction { duration_seconds: Option<u64>, memory_mib: Option<u64>, vcpus: Option<u64>, preemptible: bool }
    Verdict {
        policy: String, kind: String, code: String, text: String, rule: Rule, restriction: Restriction, micros: u64,
    }
    HostJudgement { host: String, outcome: HostOutcome }
}

/// Stored form of [`domain::ImageRef`].
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ImageRef {
    Name(String),
    Path(String),
    Url { url: String, digest: String },
}

impl Stored<domain::ImageRef> for ImageRef {
    fn of(value: &domain::ImageRef) -> Self {
        match value.clone() {
            domain::ImageRef::Name(name) => Self::Name(name),
            domain::ImageRef::Path(path) => Self::Path(path),
            domain::ImageRef::Url { url, digest } => Self::Url { url, digest },
        }
    }
    fn back(self) -> Result<domain::ImageRef, String> {
        Ok(match self {
            Self::Name(name) => domain::ImageRef::Name(name),
            Self::Path(path) => domain::ImageRef::Path(path),
            Self::Url { url, digest } => domain::ImageRef::Url { url, digest },
        })
    }
}

/// Stored form of [`domain::DiskSource`].
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum DiskSource {
    Empty,
    Image(ImageRef),
}

impl Stored<domain::DiskSource> for DiskSource {
    fn of(value: &domain::DiskSource) -> Self {
        match value {
            domain::DiskSource::Empty => Self::Empty,
            domain::DiskSource::Image(image) => Self::Image(Stored::of(image)),
        }
    }
    fn back(self) -> Result<domain::DiskSource, String> {
        Ok(match self {
            Self::Empty => domain::DiskSource::Empty,
            Self::Image(image) => domain::DiskSource::Image(image.back()?),
        })
    }
}

/// Stored form of [`domain::NicNetwork`].
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum NicNetwork {
    User,
    Bridge(String),
    Network(String),
    Named(String),
}

impl Stored<domain::NicNetwork> for NicNetwork {
    fn of(value: &domain::NicNetwork) -> Self {
        match value.clone() {
            domain::NicNetwork::User => Self::User,
            domain::NicNetwork::Bridge(name) => Self::Bridge(name),
            domain::NicNetwork::Network(name) => Self::Network(name),
            domain::NicNetwork::Named(name) => Self::Named(name.to_string()),
        }
    }
    fn back(self) -> Result<domain::NicNetwork, String> {
        Ok(match self {
            Self::User => domain::NicNetwork::User,
            Self::Bridge(name) => domain::NicNetwork::Bridge(name),
            Self::Network(name) => domain::NicNetwork::Network(name),
            Self::Named(name) => domain::NicNetwork::Named(name.back()?),
        })
    }
}

/// Stored form of [`domain::Subject`].
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Subject {
    User(u32),
    Group(u32),
}

impl Stored<domain::Subject> for Subject {
    fn of(value: &domain::Subject) -> Self {
        match value {
            domain::Subject::User(uid) => Self::User(*uid),
            domain::Subject::Group(gid) => Self::Group(*gid),
        }
    }
    fn back(self) -> Result<domain::Subject, String> {
        Ok(match self {
            Self::User(uid) => domain::Subject::User(uid),
            Self::Group(gid) => domain::Subject::Group(gid),
        })
    }
}

/// Stored form of [`domain::Boot`].
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Boot {
    Disk(String),
    Kernel { kernel: String, initrd: String, cmdline: String },
}

impl Stored<domain::Boot> for Boot {
    fn of(value: &domain::Boot) -> Self {
        match value.clone() {
            domain::Boot::Disk(firmware) => Self::Disk(Stored::of(&firmware)),
            domain::Boot::Kernel { kernel, initrd, cmdline } => Self::Kernel { kernel, initrd, cmdline },
        }
    }
    fn back(self) -> Result<domain::Boot, String> {
        Ok(match self {
            Self::Disk(firmware) => domain::Boot::Disk(firmware.back()?),
            Self::Kernel { kernel, initrd, cmdline } => domain::Boot::Kernel { kernel, initrd, cmdline },
        })
    }
}

/// Stored form of [`domain::Connection`].
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Connection {
    Unprobed,
    Up,
    Down(String),
}

impl Stored<domain::Connection> for Connection {
    fn of(value: &domain::Connection) -> Self {
        match value {
            domain::Connection::Unprobed => Self::Unprobed,
            domain::Connection::Up => Self::Up,
            domain::Connection::Down(reason) => Self::Down(reason.clone()),
        }
    }
    fn back(self) -> Result<domain::Connection, String> {
        Ok(match self {
            Self::Unprobed => domain::Connection::Unprobed,
            Self::Up => domain::Connection::Up,
            Self::Down(reason) => domain::Connection::Down(reason),
        })
    }
}

/// Stored form of [`domain::HostOutcome`].
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum HostOutcome {
    Filtered { rule: Rule, code: String, text: String },
    Scored(String),
    NotConsidered,
    Displaces { score: String, text: String },
}

impl Stored<domain::HostOutcome> for HostOutcome {
    fn of(value: &domain::HostOutcome) -> Self {
        match value {
            domain::HostOutcome::Filtered { rule, code, text } => {
                Self::Filtered { rule: Stored::of(rule), code: code.clone(), text: text.clone() }
            }
            domain::HostOutcome::Scored(score) => Self::Scored(Stored::of(score)),
            domain::HostOutcome::NotConsidered => Self::NotConsidered,
            domain::HostOutcome::Displaces { score, text } => Self::Displaces { score: Stored::of(score), text: text.clone() },
        }
    }
    fn back(self) -> Result<domain::HostOutcome, String> {
        Ok(match self {
            Self::Filtered { rule, code, text } => domain::HostOutcome::Filtered { rule: rule.back()?, code, text },
            Self::Scored(score) => domain::HostOutcome::Scored(score.back()?),
            Self::NotConsidered => domain::HostOutcome::NotConsidered,
            Self::Displaces { score, text } => domain::HostOutcome::Displaces { score: score.back()?, text },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The words in the database are those on the bus, and each is read back.
    #[test]
    fn words_are_the_domains_own() {
        macro_rules! check {
            ($($type:ident),+) => { $(
                for value in domain::$type::ALL {
                    let word: String = Stored::of(&value);
                    assert_eq!(word, value.name());
                    let back: domain::$type = word.back().unwrap();
                    assert_eq!(back, value);
                }
            )+ };
        }
        check!(State, Target, JobKind, JobState, Verb, ErrorKind, NetworkKind);
        for action in [domain::EndAction::Stop, domain::EndAction::Serialize, domain::EndAction::Destroy] {
            assert_eq!(<String as Stored<domain::EndAction>>::of(&action), action.name());
        }
        for right in [domain::Right::View, domain::Right::Use, domain::Right::Manage] {
            assert_eq!(<String as Stored<domain::Right>>::of(&right), right.name());
        }
        for format in [domain::DiskFormat::Raw, domain::DiskFormat::Qcow2] {
            assert_eq!(<String as Stored<domain::DiskFormat>>::of(&format), format.name());
        }
    }

    #[test]
    fn what_is_no_word_is_an_error_that_names_it() {
        let state: Result<domain::State, String> = "asleep".to_owned().back();
        assert_eq!(state.unwrap_err(), "`asleep` is no State");
    }

    /// A member of a later version does not hinder an earlier reader.
    #[test]
    fn unknown_members_are_ignored() {
        let text = r#"{"vcpus":1,"memory_mib":2,"disk_gib":3,"gpu":4}"#;
        let resources = from_json::<Resources, domain::Resources>(text).unwrap();
        assert_eq!(resources, domain::Resources { vcpus: 1, memory_mib: 2, disk_gib: 3 });
    }

    #[test]
    fn an_error_names_the_member() {
        let text = r#"{"subject":{"user":1},"right":"own"}"#;
        let error = from_json::<Grant, domain::Grant>(text).unwrap_err();
        assert_eq!(error, "right: `own` is no Right");
    }
}
