//! The description of a new workspace on the command line, and the `spec` that it becomes. `launch` and `explain launch`
//! share it, so that both ask for the same thing.

use crate::Result;
use crate::units::{disk_gib, lease_seconds, memory_mib};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use vws_bus::client::Args;
use vws_bus::failure::Failure;
use vws_bus::keys;
use zbus::Variant;

/// Words that become more than one key.
type Element = BTreeMap<String, Variant<'static>>;

/// What a workspace shall be.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Description {
    /// Image: a name or id of the catalogue, an absolute path on the daemon's machine, or URL#sha256=DIGEST
    pub(crate) image: String,
    /// Name, also the guest's host name [default: the image's name and a number]
    #[arg(short, long)]
    pub(crate) name: Option<String>,
    /// vCPUs [default: 1]
    #[arg(long, value_name = "N", help_heading = "Resources")]
    vcpus: Option<u64>,
    /// vCPUs that it can have without a restart [default: those that it starts with]
    #[arg(long, value_name = "N", help_heading = "Resources")]
    vcpus_max: Option<u64>,
    /// Relative weight of its CPU time, 2 to 262144
    #[arg(long, value_name = "N", help_heading = "Resources")]
    cpu_shares: Option<u64>,
    /// Memory, for instance 512M or 2G [default: 512M]
    #[arg(long, value_parser = memory_mib, value_name = "SIZE", help_heading = "Resources")]
    memory: Option<u64>,
    /// Memory that it can have without a restart [default: what it starts with]
    #[arg(long, value_parser = memory_mib, value_name = "SIZE", help_heading = "Resources")]
    memory_max: Option<u64>,
    /// Size of the root disk, for instance 10G [default: the image's]
    #[arg(long, value_parser = disk_gib, value_name = "SIZE", help_heading = "Resources")]
    disk: Option<u64>,
    /// Operations per second of the root disk, at most
    #[arg(long, value_name = "N", help_heading = "Resources")]
    disk_iops: Option<u64>,
    /// KiB per second of the root disk, at most
    #[arg(long, value_name = "N", help_heading = "Resources")]
    disk_kib_per_second: Option<u64>,
    /// Another disk: SIZE, or image=NAME, size=SIZE, iops=N, kib-per-second=N joined by commas; repeatable
    #[arg(long, value_parser = data_disk, value_name = "DISK", help_heading = "Resources")]
    data_disk: Vec<Pairs>,
    /// A NIC: network=NAME (one of `vws network list`), user, bridge=NAME or hypervisor-network=NAME, then address=, mac=, inbound-kib-per-second=, outbound-kib-per-second= joined by commas; repeatable [default: user]
    #[arg(long, value_parser = nic, value_name = "NIC", help_heading = "Resources")]
    nic: Vec<Pairs>,
    /// File with cloud-init user data
    #[arg(long, value_name = "FILE", help_heading = "Guest")]
    user_data: Option<PathBuf>,
    /// File with cloud-init network configuration
    #[arg(long, value_name = "FILE", help_heading = "Guest")]
    network_config: Option<PathBuf>,
    /// Public ssh key, or a file of them; repeatable
    #[arg(long, value_name = "KEY|FILE", help_heading = "Guest")]
    ssh_key: Vec<String>,
    /// What the guest is, for instance debian-12; for display and policies
    #[arg(long, value_name = "TEXT", help_heading = "Guest")]
    operating_system: Option<String>,
    /// How long, for instance 2h; none: as long as the policies allow [default: what the policies give]
    #[arg(long, value_parser = lease_seconds, value_name = "TIME", help_heading = "Lease")]
    lease: Option<u64>,
    /// What happens at the lease's end [default: stop]
    #[arg(long, value_parser = ["stop", "serialize", "destroy"], value_name = "ACTION", help_heading = "Lease")]
    end_action: Option<String>,
    /// State to bring it to [default: running]
    #[arg(long, value_parser = ["stopped", "running", "paused"], value_name = "STATE", help_heading = "Lease")]
    target: Option<String>,
    /// It may be displaced when others need its room: serialized, or, if it cannot be and --end-action is destroy, destroyed
    #[arg(long, help_heading = "Lease")]
    preemptible: bool,
    /// Label; repeatable
    #[arg(long, value_parser = pair, value_name = "KEY=VALUE", help_heading = "Who and where")]
    label: Vec<(String, String)>,
    /// Who else may use it: user:NAME=RIGHT or group:NAME=RIGHT, rights view, use, manage; a number is an id; repeatable
    #[arg(long, value_parser = grant, value_name = "GRANT", help_heading = "Who and where")]
    grant: Vec<Pairs>,
    /// Group that is charged [default: your primary group]
    #[arg(long, value_name = "GROUP", help_heading = "Who and where")]
    group: Option<String>,
    /// Host to insist on [default: the placement's choice]
    #[arg(long, value_name = "HOST", help_heading = "Who and where")]
    host: Option<String>,
}

/// One element of a list of the spec.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pairs(BTreeMap<&'static str, Scalar>);

#[derive(Clone, Debug, PartialEq)]
enum Scalar {
    Text(String),
    Number(u64),
    Id(u32),
}

impl Pairs {
    fn element(&self) -> Element {
        self.0
            .iter()
            .map(|(key, value)| {
                let value = match value {
                    Scalar::Text(text) => Variant::from(text.clone()),
                    Scalar::Number(number) => Variant::from(*number),
                    Scalar::Id(id) => Variant::from(*id),
                };
                ((*key).to_owned(), value)
            })
            .collect()
    }
}

/// Elements as the bus wants them.
pub(crate) fn elements(list: &[Pairs]) -> Variant<'static> {
    Variant::from(list.iter().map(Pairs::element).collect::<Vec<_>>())
}

impl Description {
    /// The name: the one given, or one made from the image's.
    pub(crate) fn name(&self) -> String {
        self.name.clone().unwrap_or_else(|| default_name(&self.image, crate::units::now()))
    }

    /// The keys of CreateWorkspace's `spec`.
    pub(crate) fn spec(&self) -> Result<Args<'static>> {
        let mut spec = Args::new();
        spec.insert(keys::IMAGE, Variant::from(self.image.clone()));
        let numbers = [
            (keys::VCPUS, self.vcpus),
            (keys::VCPUS_MAX, self.vcpus_max),
            (keys::CPU_SHARES, self.cpu_shares),
            (keys::MEMORY_MIB, self.memory),
            (keys::MEMORY_MAX_MIB, self.memory_max),
            (keys::DISK_GIB, self.disk),
            (keys::DISK_IOPS, self.disk_iops),
            (keys::DISK_KIB_PER_SECOND, self.disk_kib_per_second),
            (keys::LEASE_SECONDS, self.lease),
        ];
        spec.extend(numbers.into_iter().filter_map(|(key, value)| value.map(|value| (key, Variant::from(value)))));
        let words = [
            (keys::OPERATING_SYSTEM, &self.operating_system),
            (keys::END_ACTION, &self.end_action),
            (keys::TARGET, &self.target),
            (keys::GROUP, &self.group),
            (keys::HOST, &self.host),
        ];
        spec.extend(words.into_iter().filter_map(|(key, value)| value.clone().map(|value| (key, Variant::from(value)))));
        let lists = [(keys::DATA_DISKS, &self.data_disk), (keys::NICS, &self.nic), (keys::ACCESS, &self.grant)];
        spec.extend(lists.into_iter().filter(|(_, list)| !list.is_empty()).map(|(key, list)| (key, elements(list))));
        for (key, file) in [(keys::USER_DATA, &self.user_data), (keys::NETWORK_CONFIG, &self.network_config)] {
            if let Some(file) = file {
                spec.insert(key, Variant::from(read(file)?));
            }
        }
        if self.preemptible {
            spec.insert(keys::PREEMPTIBLE, Variant::from(true));
        }
        if !self.label.is_empty() {
            spec.insert(keys::LABELS, labels(&self.label));
        }
        let mut ssh_keys = Vec::new();
        for word in &self.ssh_key {
            ssh_keys.extend(ssh_keys_of(word)?);
        }
        if !ssh_keys.is_empty() {
            spec.insert(keys::SSH_KEYS, Variant::from(ssh_keys));
        }
        Ok(spec)
    }
}

/// Labels as the bus wants them.
pub(crate) fn labels(pairs: &[(String, String)]) -> Variant<'static> {
    Variant::from(pairs.iter().cloned().collect::<BTreeMap<String, String>>())
}

/// A host name label from an image's name, and digits that make it unlike the one before.
fn default_name(image: &str, now: u64) -> String {
    let stem = Path::new(image.split('#').next().unwrap_or(image))
        .file_stem()
        .map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    let clean: String =
        stem.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).take(40).collect();
    let clean = clean.trim_matches('-');
    format!("{}-{:05}", if clean.is_empty() { "workspace" } else { clean }, now / 1000 % 100_000)
}

fn read(file: &Path) -> Result<String> {
    std::fs::read_to_string(file).map_err(|error| unreadable(file, &error))
}

/// A file of the caller's that cannot be read.
pub(crate) fn unreadable(file: &Path, error: &std::io::Error) -> Failure {
    let kind = if error.kind() == std::io::ErrorKind::NotFound { "NotFound" } else { "InvalidArgument" };
    Failure::of_kind(kind, format!("file `{}`: cannot be opened: {error}", file.display()))
}

/// The keys of a word: itself when it looks like a key, otherwise the lines of the file.
fn ssh_keys_of(word: &str) -> Result<Vec<String>> {
    if word.contains(' ') && ["ssh-", "ecdsa-", "sk-"].iter().any(|kind| word.starts_with(kind)) {
        return Ok(vec![word.trim().to_owned()]);
    }
    let text = read(Path::new(word))?;
    if text.contains("PRIVATE KEY") {
        return Err(Failure::of_kind(
            "InvalidArgument",
            format!("file `{word}`: is a private key; give the public one, `{word}.pub`"),
        ));
    }
    Ok(text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect())
}

/// `KEY=VALUE`.
pub(crate) fn pair(text: &str) -> std::result::Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    if key.is_empty() { Err("the key is empty; write KEY=VALUE".to_owned()) } else { Ok((key.to_owned(), value.to_owned())) }
}

fn number(key: &str, value: &str) -> std::result::Result<Scalar, String> {
    value.parse().map(Scalar::Number).map_err(|_| format!("`{key}={value}` is not a whole number"))
}

fn data_disk(text: &str) -> std::result::Result<Pairs, String> {
    if let Ok(size) = disk_gib(text) {
        return Ok(Pairs([(keys::SIZE_GIB, Scalar::Number(size))].into()));
    }
    let mut pairs = BTreeMap::new();
    for word in text.split(',') {
        let (key, value) = word.split_once('=').ok_or("write SIZE, or image=NAME,size=SIZE,iops=N,kib-per-second=N")?;
        match key {
            "image" => pairs.insert(keys::IMAGE, Scalar::Text(value.to_owned())),
            "size" => pairs.insert(keys::SIZE_GIB, Scalar::Number(disk_gib(value)?)),
            "iops" => pairs.insert(keys::IOPS, number(key, value)?),
            "kib-per-second" => pairs.insert(keys::KIB_PER_SECOND, number(key, value)?),
            _ => return Err(format!("`{key}` is not known; image, size, iops and kib-per-second are")),
        };
    }
    Ok(Pairs(pairs))
}

/// `1,size=20G,iops=5`: a data disk by its place, and what it shall become.
pub(crate) fn disk_change(text: &str) -> std::result::Result<Pairs, String> {
    let (place, rest) = text.split_once(',').ok_or("write its number from 1, then size=SIZE, iops=N or kib-per-second=N")?;
    let mut pairs = data_disk(rest)?;
    if pairs.0.contains_key(keys::IMAGE) {
        return Err("the image of a disk cannot be changed".to_owned());
    }
    pairs.0.insert(keys::INDEX, number("disk", place)?);
    Ok(pairs)
}

/// `0,inbound-kib-per-second=100`: a NIC by its place, and what it shall become.
pub(crate) fn nic_change(text: &str) -> std::result::Result<Pairs, String> {
    let mut words = text.split(',');
    let mut pairs = BTreeMap::from([(keys::INDEX, number("nic", words.next().unwrap_or(""))?)]);
    for word in words {
        let (key, value) = word.split_once('=').ok_or_else(|| format!("`{word}` has no value; write {word}=VALUE"))?;
        match key {
            "inbound-kib-per-second" => pairs.insert(keys::INBOUND_KIB_PER_SECOND, number(key, value)?),
            "outbound-kib-per-second" => pairs.insert(keys::OUTBOUND_KIB_PER_SECOND, number(key, value)?),
            _ => return Err(format!("`{key}` is not known; inbound-kib-per-second and outbound-kib-per-second are")),
        };
    }
    Ok(Pairs(pairs))
}

fn nic(text: &str) -> std::result::Result<Pairs, String> {
    let mut words = text.split(',');
    let kind = words.next().unwrap_or("");
    let mut pairs = BTreeMap::new();
    match kind.split_once('=').unwrap_or((kind, "")) {
        ("user", "") => {
            pairs.insert(keys::KIND, Scalar::Text("user".to_owned()));
        }
        ("network", name) if !name.is_empty() => {
            pairs.insert(keys::NETWORK, Scalar::Text(name.to_owned()));
        }
        (word @ ("bridge" | "hypervisor-network"), source) if !source.is_empty() => {
            let kind = if word == "bridge" { "bridge" } else { "network" };
            pairs.insert(keys::KIND, Scalar::Text(kind.to_owned()));
            pairs.insert(keys::SOURCE, Scalar::Text(source.to_owned()));
        }
        _ => return Err("begin with network=NAME, user, bridge=NAME or hypervisor-network=NAME".to_owned()),
    }
    for word in words {
        let (key, value) = word.split_once('=').ok_or_else(|| format!("`{word}` has no value; write {word}=VALUE"))?;
        match key {
            "address" => pairs.insert(keys::ADDRESS, Scalar::Text(value.to_owned())),
            "mac" => pairs.insert(keys::MAC, Scalar::Text(value.to_owned())),
            "inbound-kib-per-second" => pairs.insert(keys::INBOUND_KIB_PER_SECOND, number(key, value)?),
            "outbound-kib-per-second" => pairs.insert(keys::OUTBOUND_KIB_PER_SECOND, number(key, value)?),
            _ => {
                return Err(format!(
                    "`{key}` is not known; address, mac, inbound-kib-per-second and outbound-kib-per-second are"
                ));
            }
        };
    }
    Ok(Pairs(pairs))
}

/// `user:bob=view`, `group:27=use`.
pub(crate) fn grant(text: &str) -> std::result::Result<Pairs, String> {
    let form = "write user:NAME=RIGHT or group:NAME=RIGHT with one of the rights view, use, manage";
    let (subject, right) = text.rsplit_once('=').ok_or(form)?;
    let (kind, who) = subject.split_once(':').ok_or(form)?;
    if who.is_empty() || !["view", "use", "manage"].contains(&right) {
        return Err(form.to_owned());
    }
    let (name_key, id_key) = match kind {
        "user" => (keys::USER, keys::UID),
        "group" => (keys::GROUP, keys::GID),
        _ => return Err(form.to_owned()),
    };
    let (key, who) = who.parse().map_or((name_key, Scalar::Text(who.to_owned())), |id| (id_key, Scalar::Id(id)));
    Ok(Pairs([(keys::RIGHT, Scalar::Text(right.to_owned())), (key, who)].into()))
}

#[cfg(test)]
mod tests {
    use super::{Scalar, data_disk, default_name, elements, grant, nic, pair};
    use vws_bus::keys::{self, check};

    #[test]
    fn words_become_elements() {
        assert_eq!(data_disk("10G").unwrap().0.get("size-gib"), Some(&Scalar::Number(10)));
        let disk = data_disk("image=data,size=2T,iops=5").unwrap();
        assert_eq!(disk.0.get("size-gib"), Some(&Scalar::Number(2048)));
        assert_eq!(disk.0.len(), 3);
        let bridge = nic("bridge=br0,mac=52:54:00:00:00:01,inbound-kib-per-second=100").unwrap();
        assert_eq!(bridge.0.get("source"), Some(&Scalar::Text("br0".to_owned())));
        let hypervisor = nic("hypervisor-network=default").unwrap();
        assert_eq!(hypervisor.0.get("kind"), Some(&Scalar::Text("network".to_owned())));
        assert_eq!(nic("network=lan").unwrap().0.get("network"), Some(&Scalar::Text("lan".to_owned())));
        assert_eq!(grant("group:27=use").unwrap().0.get("gid"), Some(&Scalar::Id(27)));
        assert_eq!(grant("user:bob=view").unwrap().0.get("user"), Some(&Scalar::Text("bob".to_owned())));
        assert_eq!(pair("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
    }

    #[test]
    fn elements_have_the_types_of_the_contract() {
        let lists = [
            (keys::DATA_DISK, data_disk("image=data,size=2G,iops=5,kib-per-second=1").unwrap()),
            (keys::NIC, nic("network=lan,address=10.0.0.5,mac=x,outbound-kib-per-second=1").unwrap()),
            (keys::GRANT, grant("user:bob=view").unwrap()),
            (keys::GRANT, grant("group:0=view").unwrap()),
        ];
        for (known, pairs) in lists {
            for (name, value) in pairs.element() {
                assert_eq!(check(known, &name, &value.value_signature().to_string()), Ok(()), "{name}");
            }
            assert_eq!(elements(&[pairs]).value_signature().to_string(), "aa{sv}");
        }
    }

    #[test]
    fn nonsense_is_refused_in_words() {
        for bad in ["", "bridge", "user=x", "wifi=1", "user,mac", "user,speed=1", "user,inbound-kib-per-second=fast"] {
            assert!(nic(bad).is_err(), "{bad}");
        }
        for bad in ["10X", "size=1.5G", "colour=red", "iops=-1"] {
            assert!(data_disk(bad).is_err(), "{bad}");
        }
        for bad in ["bob", "user:bob", "user:=view", "user:bob=own", "dog:rex=view"] {
            assert!(grant(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn made_names_are_host_names() {
        assert_eq!(default_name("Debian_12:latest", 7_000), "debian-12-latest-00007");
        assert_eq!(default_name("https://example.org/img.qcow2#sha256=00", 7_000), "img-00007");
        assert_eq!(default_name("///", 7_000), "workspace-00007");
    }
}
