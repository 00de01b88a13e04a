//! What a client asks for: the description of a workspace, and its validation.
//!
//! A [`Spec`] is plain data; [`Spec::validated`] is the only way into admission. Limits have names and stand here.

use crate::capacity::Resources;
use crate::cluster::Membership;
use crate::error::{Error, Result, shown};
use crate::id::{HostName, NetworkName};
use crate::lease::EndAction;
use crate::lifecycle::Target;
use crate::network::Mac;
use core::net::Ipv4Addr;
use std::collections::BTreeMap;

/// The named limits of a request.
pub mod limits {
    /// Characters of a workspace's name: it becomes the guest's host name.
    pub const NAME_CHARS: usize = 63;
    /// vCPUs of one workspace.
    pub const VCPUS: u64 = 1024;
    /// Memory of one workspace in MiB (64 TiB).
    pub const MEMORY_MIB: u64 = 64 * 1024 * 1024;
    /// Memory of one workspace in MiB, at least.
    pub const MEMORY_MIB_MIN: u64 = 1;
    /// Size of one disk in GiB (1 PiB).
    pub const DISK_GIB: u64 = 1024 * 1024;
    /// Data disks of one workspace.
    pub const DATA_DISKS: usize = 16;
    /// NICs of one workspace.
    pub const NICS: usize = 8;
    /// Bytes of user data.
    pub const USER_DATA_BYTES: usize = 256 * 1024;
    /// Ssh keys of one workspace.
    pub const SSH_KEYS: usize = 64;
    /// Characters of one ssh key.
    pub const SSH_KEY_CHARS: usize = 16 * 1024;
    /// Entries of one access list.
    pub const GRANTS: usize = 256;
    /// Labels of one object.
    pub const LABELS: usize = 64;
    /// Characters of a label's key or value.
    pub const LABEL_CHARS: usize = 255;
    /// Seconds of a lease, at most (10 years).
    pub const LEASE_SECONDS: u64 = 10 * 366 * 86_400;
    /// Members of one cluster.
    pub const CLUSTER_MEMBERS: u64 = 256;
    /// Snapshots of one workspace.
    pub const SNAPSHOTS: usize = 32;
    /// CPU shares: relative weight, as cgroups v1 has it.
    pub const CPU_SHARES: (u64, u64) = (2, 262_144);
}

/// How a request points at an image.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ImageRef {
    /// By its name or id in the catalogue.
    Name(String),
    /// An absolute path on the daemon's machine, readable to the caller.
    Path(String),
    /// An http(s) URL and the sha256 that its bytes must have.
    Url {
        /// Where.
        url: String,
        /// 64 hexadecimal digits.
        digest: String,
    },
}

impl ImageRef {
    /// Reads `NAME`, `/absolute/path`, or `http(s)://...#sha256=DIGEST`.
    pub fn parse(text: &str) -> Result<Self> {
        if text.starts_with('/') {
            return Ok(Self::Path(text.to_owned()));
        }
        if text.starts_with("http://") || text.starts_with("https://") {
            let Some((url, digest)) = text.split_once("#sha256=") else {
                return Err(Error::invalid(
                    format!("image `{}`", shown(text)),
                    "is a URL without a digest",
                    "append `#sha256=` and the 64 digits, so that what comes is what you meant",
                ));
            };
            return Ok(Self::Url { url: url.to_owned(), digest: checked_digest(digest)? });
        }
        Ok(Self::Name(checked_catalogue_name(text, "image")?))
    }

    /// The same as policies see it and decisions keep it: a URL without what may be secret in it.
    #[must_use]
    pub fn open(&self) -> Self {
        match self {
            Self::Url { url, digest } => Self::Url { url: without_credentials(url), digest: digest.clone() },
            other => other.clone(),
        }
    }
}

/// The URL without what may be secret (user, password, query), as it may be shown and kept.
#[must_use]
pub fn without_credentials(url: &str) -> String {
    let (start, query) = match url.split_once(['?', '#']) {
        Some((start, _)) => (start, "?…"),
        None => (url, ""),
    };
    let open = match start.split_once("://") {
        Some((scheme, rest)) => {
            let authority_end = rest.find('/').unwrap_or(rest.len());
            let (authority, path) = rest.split_at(authority_end);
            let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
            format!("{scheme}://{host}{path}")
        }
        None => start.to_owned(),
    };
    shown(&format!("{open}{query}"))
}

impl std::fmt::Display for ImageRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Path(path) => f.write_str(path),
            Self::Url { url, digest } => write!(f, "{url}#sha256={digest}"),
        }
    }
}

/// Limits of one disk; 0 is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct DiskLimits {
    /// Read and write operations per second.
    pub iops: u64,
    /// Read and written KiB per second.
    pub kib_per_second: u64,
}

/// Where a data disk's bytes come from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DiskSource {
    /// A new, empty disk.
    Empty,
    /// A clone of an image.
    Image(ImageRef),
}

/// A disk beside the root disk.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DataDisk {
    /// Where its bytes come from.
    pub source: DiskSource,
    /// Size in GiB; 0 with an image means the image's own size.
    pub size_gib: u64,
    /// Limits.
    pub limits: DiskLimits,
}

/// What a NIC is plugged into.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum NicNetwork {
    /// The hypervisor's own user-mode network: works everywhere, reaches out, cannot be reached.
    User,
    /// A bridge of the host.
    Bridge(String),
    /// A network that the host's hypervisor manages.
    Network(String),
    /// A network of the site, by name: it says what the NIC is plugged into, and has a pool of addresses or not.
    Named(NetworkName),
}

/// Limits of one NIC; 0 is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct NicLimits {
    /// KiB per second into the guest.
    pub inbound_kib_per_second: u64,
    /// KiB per second out of the guest.
    pub outbound_kib_per_second: u64,
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Nic {
    /// What it is plugged into.
    pub network: NicNetwork,
    /// MAC address, `52:54:00:xx:xx:xx`; empty: one is made, or the address's own is taken. Filled in at admission.
    pub mac: String,
    /// Address on a network of the site that has a pool; `None`: the next free one. Filled in at admission.
    pub address: Option<Ipv4Addr>,
    /// Limits.
    pub limits: NicLimits,
}

impl Nic {
    /// A NIC on `network`: MAC and address to be made, no limits.
    #[must_use]
    pub fn on(network: NicNetwork) -> Self {
        Self { network, mac: String::new(), address: None, limits: NicLimits::default() }
    }
}

/// What an entry of the access list allows. Each includes the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Right {
    /// To see it.
    View,
    /// To start, stop, pause, resume and to open its console.
    Use,
    /// Everything that its owner may do.
    Manage,
}

impl Right {
    /// The word on the bus.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Use => "use",
            Self::Manage => "manage",
        }
    }

    /// The right with this word.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::View, Self::Use, Self::Manage].into_iter().find(|right| right.name() == name)
    }
}

/// Whom an entry of the access list is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A user, by uid.
    User(u32),
    /// A Unix group, by gid.
    Group(u32),
}

/// An entry of the access list.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Grant {
    /// Who.
    pub subject: Subject,
    /// What.
    pub right: Right,
}

/// The description of a workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Name: a host name label, unique among its owner's workspaces.
    pub name: String,
    /// Image of the root disk.
    pub image: ImageRef,
    /// vCPUs.
    pub vcpus: u64,
    /// vCPUs that it can have without a restart; 0: no more than `vcpus`.
    pub vcpus_max: u64,
    /// Relative weight of its CPU time; 0 for the default.
    pub cpu_shares: u64,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Memory in MiB that it can have without a restart; 0: no more than `memory_mib`.
    pub memory_max_mib: u64,
    /// Size of the root disk in GiB; 0: the image's own size.
    pub disk_gib: u64,
    /// Limits of the root disk.
    pub disk_limits: DiskLimits,
    /// Data disks.
    pub data_disks: Vec<DataDisk>,
    /// NICs.
    pub nics: Vec<Nic>,
    /// What the guest is, for display and policies, for instance `debian-12`.
    pub operating_system: String,
    /// cloud-init user data, verbatim. Never shown in lists, decisions or logs.
    pub user_data: String,
    /// cloud-init network configuration, verbatim; empty for the guest's default (DHCP).
    pub network_config: String,
    /// Public ssh keys.
    pub ssh_keys: Vec<String>,
    /// Access list.
    pub access: Vec<Grant>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Group that is charged; empty: the caller's primary group.
    pub group: String,
    /// Lease in seconds; 0: the policies' default, which may be without end.
    pub lease_seconds: u64,
    /// What happens at its end.
    pub end_action: EndAction,
    /// State to bring it to.
    pub target: Target,
    /// A host by name, if the caller insists.
    pub host: Option<HostName>,
    /// Whether the placement policy may take it off its host when a request that is not pre-emptible needs the room: into a bundle,
    /// or, where that cannot be and `end_action` is to destroy it, to its end.
    pub preemptible: bool,
    /// The cluster that it is a member of, if any.
    pub membership: Option<Membership>,
}

impl Spec {
    /// A spec with nothing but a name and an image: 1 vCPU, 512 MiB, one user-mode NIC, target running.
    #[must_use]
    pub fn new(name: &str, image: ImageRef) -> Self {
        Self {
            name: name.to_owned(),
            image,
            vcpus: 1,
            vcpus_max: 0,
            cpu_shares: 0,
            memory_mib: 512,
            memory_max_mib: 0,
            disk_gib: 0,
            disk_limits: DiskLimits::default(),
            data_disks: Vec::new(),
            nics: vec![Nic::on(NicNetwork::User)],
            operating_system: String::new(),
            user_data: String::new(),
            network_config: String::new(),
            ssh_keys: Vec::new(),
            access: Vec::new(),
            labels: BTreeMap::new(),
            group: String::new(),
            lease_seconds: 0,
            end_action: EndAction::Stop,
            target: Target::Running,
            host: None,
            preemptible: false,
            membership: None,
        }
    }

    /// What it takes, given the size of its root image in MiB. Data disks from images count with their own stated size; the
    /// caller resolves a size of 0 first.
    #[must_use]
    pub fn resources(&self, root_image_mib: u64) -> Resources {
        let root = self.disk_gib.max(root_image_mib.div_ceil(1024));
        let data = self.data_disks.iter().fold(0_u64, |sum, disk| sum.saturating_add(disk.size_gib));
        Resources { vcpus: self.vcpus, memory_mib: self.memory_mib, disk_gib: root.saturating_add(data) }
    }

    /// The spec itself if every field is in its range.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidArgument`] naming the field, the value and the range.
    pub fn validated(self) -> Result<Self> {
        checked_workspace_name(&self.name)?;
        range("vcpus", self.vcpus, 1, limits::VCPUS)?;
        range("memory-mib", self.memory_mib, limits::MEMORY_MIB_MIN, limits::MEMORY_MIB)?;
        if self.vcpus_max != 0 {
            range("vcpus-max", self.vcpus_max, self.vcpus, limits::VCPUS)?;
        }
        if self.memory_max_mib != 0 {
            range("memory-max-mib", self.memory_max_mib, self.memory_mib, limits::MEMORY_MIB)?;
        }
        range("disk-gib", self.disk_gib, 0, limits::DISK_GIB)?;
        range("lease-seconds", self.lease_seconds, 0, limits::LEASE_SECONDS)?;
        if self.cpu_shares != 0 {
            range("cpu-shares", self.cpu_shares, limits::CPU_SHARES.0, limits::CPU_SHARES.1)?;
        }
        count("data-disks", self.data_disks.len(), limits::DATA_DISKS)?;
        count("nics", self.nics.len(), limits::NICS)?;
        count("ssh-keys", self.ssh_keys.len(), limits::SSH_KEYS)?;
        count("access", self.access.len(), limits::GRANTS)?;
        count("user-data bytes", self.user_data.len(), limits::USER_DATA_BYTES)?;
        count("network-config bytes", self.network_config.len(), limits::USER_DATA_BYTES)?;
        for disk in &self.data_disks {
            let least = if disk.source == DiskSource::Empty { 1 } else { 0 };
            range("data-disks size-gib", disk.size_gib, least, limits::DISK_GIB)?;
        }
        for nic in &self.nics {
            checked_nic(nic)?;
        }
        for key in &self.ssh_keys {
            if key.is_empty() || key.len() > limits::SSH_KEY_CHARS || key.chars().any(char::is_control) {
                return Err(Error::invalid(
                    format!("ssh key `{}`", shown(key)),
                    "is empty, too long or has a line break in it",
                    "give one line of an authorized_keys file",
                ));
            }
        }
        if !self.operating_system.is_empty() {
            checked_text("operating-system", &self.operating_system)?;
        }
        checked_labels(&self.labels)?;
        match self.target {
            Target::Stopped | Target::Running | Target::Paused => Ok(self),
            Target::Serialized | Target::Gone => Err(Error::invalid(
                format!("target `{}`", self.target.name()),
                "is not a state that a workspace can be created to",
                "choose stopped, running or paused",
            )),
        }
    }
}

/// A workspace's name: one host name label.
pub(crate) fn checked_workspace_name(name: &str) -> Result<()> {
    let bytes = name.as_bytes();
    let good = !bytes.is_empty()
        && bytes.len() <= limits::NAME_CHARS
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-')
        && bytes.first() != Some(&b'-')
        && bytes.last() != Some(&b'-');
    if good {
        return Ok(());
    }
    Err(Error::invalid(
        format!("workspace name `{}`", shown(name)),
        format!("is not a host name label: 1 to {} characters of a-z A-Z 0-9 and -, no - at either end", limits::NAME_CHARS),
        "choose another name",
    ))
}

/// A name in the catalogue.
pub fn checked_catalogue_name(name: &str, noun: &str) -> Result<String> {
    let good = !name.is_empty()
        && name.len() <= limits::NAME_CHARS
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':'))
        && name.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
    if good {
        return Ok(name.to_owned());
    }
    Err(Error::invalid(
        format!("{noun} name `{}`", shown(name)),
        format!("is not 1 to {} characters of a-z A-Z 0-9 - _ . : beginning with a letter or digit", limits::NAME_CHARS),
        "choose another name; a path begins with /, a URL with http:// or https://",
    ))
}

/// A sha256 as 64 lower-case hexadecimal digits.
pub fn checked_digest(text: &str) -> Result<String> {
    let lower = text.strip_prefix("sha256:").unwrap_or(text).to_ascii_lowercase();
    if lower.len() == 64 && lower.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(lower);
    }
    Err(Error::invalid(
        format!("digest `{}`", shown(text)),
        "is not 64 hexadecimal digits",
        "give the sha256 of the file, as `sha256sum` prints it",
    ))
}

/// Labels of a workspace or a host.
pub fn checked_labels(labels: &BTreeMap<String, String>) -> Result<()> {
    count("labels", labels.len(), limits::LABELS)?;
    for (key, value) in labels {
        let good = !key.is_empty()
            && key.len() <= limits::LABEL_CHARS
            && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/'));
        if !good {
            return Err(Error::invalid(
                format!("label `{}`", shown(key)),
                format!("has a key that is not 1 to {} characters of a-z A-Z 0-9 - _ . /", limits::LABEL_CHARS),
                "choose another key",
            ));
        }
        if !value.is_empty() {
            checked_text("label value", value)?;
        }
    }
    Ok(())
}

fn checked_text(field: &str, text: &str) -> Result<()> {
    if text.len() <= limits::LABEL_CHARS && !text.chars().any(char::is_control) {
        return Ok(());
    }
    Err(Error::invalid(
        format!("{field} `{}`", shown(text)),
        format!("has a control character or more than {} characters", limits::LABEL_CHARS),
        "shorten it",
    ))
}

/// A NIC whose network has a proper name and whose MAC address, if it has one, is an address of one machine.
///
/// # Errors
/// [`crate::ErrorKind::InvalidArgument`].
pub fn checked_nic(nic: &Nic) -> Result<()> {
    match &nic.network {
        NicNetwork::User | NicNetwork::Named(_) => {}
        NicNetwork::Bridge(name) | NicNetwork::Network(name) => drop(checked_catalogue_name(name, "network")?),
    }
    if let Some(address) = nic.address
        && !matches!(nic.network, NicNetwork::Named(_))
    {
        return Err(Error::invalid(
            format!("address {address}"),
            "is asked for on a NIC that names no network of the site",
            "name one: `vws network list` shows them; or leave the address out",
        ));
    }
    if nic.mac.is_empty() { Ok(()) } else { Mac::parse(&nic.mac).map(drop) }
}

fn range(field: &str, value: u64, least: u64, most: u64) -> Result<()> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(Error::invalid(format!("{field} {value}"), format!("is outside {least} to {most}"), "ask for an amount in that range"))
}

pub(crate) fn count(field: &str, have: usize, most: usize) -> Result<()> {
    if have <= most {
        return Ok(());
    }
    Err(Error::invalid(field.to_owned(), format!("{have} given, at most {most} allowed"), "give fewer"))
}
