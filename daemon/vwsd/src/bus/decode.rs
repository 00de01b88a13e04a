//! Arguments into domain types: specs, image sources, host descriptions, changes.
//!
//! Owns: defaults, and which keys go together. Ranges are the domain's (`Spec::validated`), names of keys the contract's.
//! Pure: names of users and groups in an access list are handed on as [`Who`] and resolved by `accounts.rs`.

use super::accounts::Who;
use super::keys::{Dict, Keys};
use crate::service::{ByteSource, CallOptions, HostChange, ImageChange, ImageImport, NetworkChange};
use serde_json::{Map, Number, Value};
use std::collections::BTreeMap;
use vws_bus::keys;
use vws_bus::keys::Key;
use vws_domain::{
    DataDisk, DiskFormat, DiskLimits, DiskResize, DiskSource, EndAction, Error, Firmware, HostName, ImageRef, NetworkKind,
    NetworkName, Nic, NicLimits, NicNetwork, NicResize, Resize, Result, Right, Role, Spec, Target, Visibility, checked_digest,
    checked_labels, limits, shown,
};
use zbus::{OwnedVariant, Variant};

/// An access list whose names are not resolved yet.
pub type Access = Vec<(Who, Right)>;

/// Options of a method, checked against the contract's keys for it.
///
/// # Errors
/// [`vws_domain::ErrorKind::InvalidArgument`] for a key that the method does not have.
pub fn options(interface: &str, method: &str, given: Dict) -> Result<Keys> {
    let known: &[Key] = keys::find_method(interface, method).map_or(&[], |method| method.options);
    Keys::new("options", given, &[known])
}

/// The options that are the same for every mutating method.
///
/// # Errors
/// [`vws_domain::ErrorKind::InvalidArgument`] for a bad `request-id`.
pub fn call_options(options: &mut Keys) -> Result<CallOptions> {
    Ok(CallOptions { request_id: options.request_id()? })
}

/// A workspace's spec, with its access list beside it.
///
/// # Errors
/// [`vws_domain::ErrorKind::InvalidArgument`] naming the key, the value and what may stand there.
pub fn spec(name: &str, given: Dict) -> Result<(Spec, Access)> {
    spec_of(name, Keys::new("spec", given, &[keys::SPEC])?)
}

/// The request of an explanation of a launch: a spec with the name among its keys.
///
/// # Errors
/// As for [`spec`].
pub fn launch_request(given: Dict) -> Result<(Spec, Access)> {
    let mut keys = Keys::new("request", given, &[keys::EXPLAIN_LAUNCH, keys::SPEC])?;
    let name = keys.required(keys::NAME)?;
    spec_of(&name, keys)
}

fn spec_of(name: &str, mut keys: Keys) -> Result<(Spec, Access)> {
    let image = keys.required(keys::IMAGE)?;
    let mut spec = Spec::new(name, ImageRef::parse(&image)?);
    let or = |value: Option<u64>, default| value.unwrap_or(default);
    spec.vcpus = or(keys.number(keys::VCPUS), spec.vcpus);
    spec.cpu_shares = or(keys.number(keys::CPU_SHARES), spec.cpu_shares);
    spec.vcpus_max = or(keys.number(keys::VCPUS_MAX), 0);
    spec.memory_mib = or(keys.number(keys::MEMORY_MIB), spec.memory_mib);
    spec.memory_max_mib = or(keys.number(keys::MEMORY_MAX_MIB), 0);
    spec.disk_gib = or(keys.number(keys::DISK_GIB), spec.disk_gib);
    spec.disk_limits =
        DiskLimits { iops: or(keys.number(keys::DISK_IOPS), 0), kib_per_second: or(keys.number(keys::DISK_KIB_PER_SECOND), 0) };
    if let Some(disks) = keys.list(keys::DATA_DISKS, keys::DATA_DISK, limits::DATA_DISKS)? {
        spec.data_disks = disks.into_iter().map(data_disk).collect::<Result<_>>()?;
    }
    if let Some(nics) = keys.list(keys::NICS, keys::NIC, limits::NICS)? {
        spec.nics = nics.into_iter().map(nic).collect::<Result<_>>()?;
    }
    spec.operating_system = keys.text(keys::OPERATING_SYSTEM).unwrap_or_default();
    spec.user_data = keys.text(keys::USER_DATA).unwrap_or_default();
    spec.network_config = keys.text(keys::NETWORK_CONFIG).unwrap_or_default();
    spec.ssh_keys = keys.texts(keys::SSH_KEYS).unwrap_or_default();
    let access = access(&mut keys)?.unwrap_or_default();
    spec.labels = keys.pairs(keys::LABELS).unwrap_or_default();
    spec.group = keys.text(keys::GROUP).unwrap_or_default();
    spec.lease_seconds = or(keys.number(keys::LEASE_SECONDS), 0);
    if let Some(action) = keys.word(keys::END_ACTION, &["stop", "serialize", "destroy"], EndAction::from_name)? {
        spec.end_action = action;
    }
    if let Some(target) = keys.word(keys::TARGET, &["stopped", "running", "paused"], |word| match word {
        "stopped" | "running" | "paused" => Target::from_name(word),
        _ => None,
    })? {
        spec.target = target;
    }
    spec.host = keys.text(keys::HOST).map(|host| HostName::parse(&host)).transpose()?;
    spec.preemptible = keys.flag(keys::PREEMPTIBLE).unwrap_or(false);
    Ok((spec, access))
}

/// The roles of a cluster, each with its access list beside it. The lease is the cluster's.
///
/// # Errors
/// As for [`spec`], and for a role without a name or count.
pub fn cluster(given: Dict) -> Result<Vec<(Role, Access)>> {
    let mut keys = Keys::new("cluster", given, &[keys::CLUSTER_SPEC])?;
    let lease_seconds = keys.number(keys::LEASE_SECONDS).unwrap_or(0);
    let end_action = keys.word(keys::END_ACTION, &["stop", "serialize", "destroy"], EndAction::from_name)?;
    let role_keys: Vec<Key> = [keys::ROLE, keys::SPEC].concat();
    let role_keys: Vec<Key> =
        role_keys.into_iter().filter(|key| key.name != keys::LEASE_SECONDS && key.name != keys::END_ACTION).collect();
    let roles = keys.list(keys::ROLES, &role_keys, super::many::ROLES)?;
    let roles = roles.ok_or_else(|| keys.invalid(keys::ROLES, "is required", "name at least one role"))?;
    roles
        .into_iter()
        .map(|mut role| {
            let name = role.required(keys::ROLE_NAME)?;
            let count = role.number(keys::COUNT).unwrap_or(1);
            let apart_from = role.texts(keys::APART_FROM).unwrap_or_default();
            let together_with = role.texts(keys::TOGETHER_WITH).unwrap_or_default();
            let (mut spec, access) = spec_of(&name, role)?;
            spec.lease_seconds = lease_seconds;
            spec.end_action = end_action.unwrap_or(spec.end_action);
            Ok((Role { name, count, spec, apart_from, together_with }, access))
        })
        .collect()
}

/// What to resize.
///
/// # Errors
/// [`vws_domain::ErrorKind::InvalidArgument`] for an unknown key, a wrong type, or an element without its place.
pub fn resize(argument: &'static str, given: Dict) -> Result<Resize> {
    let mut keys = Keys::new(argument, given, &[keys::RESIZE])?;
    let mut change = Resize {
        vcpus: keys.number(keys::VCPUS),
        vcpus_max: keys.number(keys::VCPUS_MAX),
        memory_mib: keys.number(keys::MEMORY_MIB),
        memory_max_mib: keys.number(keys::MEMORY_MAX_MIB),
        cpu_shares: keys.number(keys::CPU_SHARES),
        disk_gib: keys.number(keys::DISK_GIB),
        disk_iops: keys.number(keys::DISK_IOPS),
        disk_kib_per_second: keys.number(keys::DISK_KIB_PER_SECOND),
        ..Resize::default()
    };
    for mut disk in keys.list(keys::DATA_DISKS, keys::DISK_RESIZE, limits::DATA_DISKS)?.unwrap_or_default() {
        change.data_disks.push(DiskResize {
            index: place(&mut disk)?,
            size_gib: disk.number(keys::SIZE_GIB),
            iops: disk.number(keys::IOPS),
            kib_per_second: disk.number(keys::KIB_PER_SECOND),
        });
    }
    for mut nic in keys.list(keys::NICS, keys::NIC_RESIZE, limits::NICS)?.unwrap_or_default() {
        change.nics.push(NicResize {
            index: place(&mut nic)?,
            inbound_kib_per_second: nic.number(keys::INBOUND_KIB_PER_SECOND),
            outbound_kib_per_second: nic.number(keys::OUTBOUND_KIB_PER_SECOND),
        });
    }
    Ok(change)
}

fn place(keys: &mut Keys) -> Result<u64> {
    match keys.number(keys::INDEX) {
        Some(index) => Ok(index),
        None => Err(keys.invalid(keys::INDEX, "is required", "say which one")),
    }
}

fn data_disk(mut keys: Keys) -> Result<DataDisk> {
    let source = match keys.text(keys::IMAGE) {
        Some(image) => DiskSource::Image(ImageRef::parse(&image)?),
        None => DiskSource::Empty,
    };
    let limits =
        DiskLimits { iops: keys.number(keys::IOPS).unwrap_or(0), kib_per_second: keys.number(keys::KIB_PER_SECOND).unwrap_or(0) };
    Ok(DataDisk { source, size_gib: keys.number(keys::SIZE_GIB).unwrap_or(0), limits })
}

fn nic(mut keys: Keys) -> Result<Nic> {
    let limits = NicLimits {
        inbound_kib_per_second: keys.number(keys::INBOUND_KIB_PER_SECOND).unwrap_or(0),
        outbound_kib_per_second: keys.number(keys::OUTBOUND_KIB_PER_SECOND).unwrap_or(0),
    };
    let mac = keys.text(keys::MAC).unwrap_or_default();
    let address = match keys.text(keys::ADDRESS) {
        Some(text) => Some(text.parse().map_err(|_| {
            keys.invalid(
                keys::ADDRESS,
                format!("is `{}`, not an IPv4 address", shown(&text)),
                "write it as 10.0.0.5, without a prefix",
            )
        })?),
        None => None,
    };
    Ok(Nic { network: nic_network(&mut keys)?, mac, address, limits })
}

/// A network of the site, or what the hosts have, by kind and name.
fn nic_network(keys: &mut Keys) -> Result<NicNetwork> {
    let named = keys.text(keys::NETWORK);
    let kind = keys.word(keys::KIND, &["user", "bridge", "network"], NetworkKind::from_name)?;
    let source = keys.text(keys::SOURCE);
    if let Some(name) = named {
        if kind.is_some() || source.is_some() {
            let key = if kind.is_some() { keys::KIND } else { keys::SOURCE };
            return Err(keys.invalid(
                key,
                "is what the network of the site says already",
                "leave it out, or leave `network` out",
            ));
        }
        return NetworkName::parse(&name).map(NicNetwork::Named);
    }
    let kind = kind.ok_or_else(|| {
        keys.invalid(
            keys::KIND,
            "is required without `network`",
            "name a network of the site, or add `user`, `bridge` or `network`",
        )
    })?;
    match (kind, source) {
        (NetworkKind::User, None) => Ok(NicNetwork::User),
        (NetworkKind::Bridge, Some(name)) => Ok(NicNetwork::Bridge(name)),
        (NetworkKind::Network, Some(name)) => Ok(NicNetwork::Network(name)),
        (NetworkKind::User, Some(_)) => {
            Err(keys.invalid(keys::SOURCE, "goes with kind bridge or network", "leave it out, or choose another kind"))
        }
        (kind, None) => Err(keys.invalid(
            keys::SOURCE,
            format!("is required with kind {}", kind.name()),
            format!("add the name of the {}", kind.name()),
        )),
    }
}

/// A new network.
///
/// # Errors
/// [`vws_domain::ErrorKind::InvalidArgument`] for an unknown key, a bad value, or no kind.
pub fn network(given: Dict) -> Result<NetworkChange> {
    let mut keys = Keys::new("network", given, &[keys::NETWORK_SPEC])?;
    let kind = keys.word(keys::KIND, &["user", "bridge", "network"], NetworkKind::from_name)?;
    let kind = kind.ok_or_else(|| keys.invalid(keys::KIND, "is required", "add `user`, `bridge` or `network`"))?;
    Ok(NetworkChange { kind: Some(kind), ..network_keys(keys) })
}

/// What to change of a network.
///
/// # Errors
/// As for [`network`].
pub fn network_change(given: Dict) -> Result<NetworkChange> {
    Ok(network_keys(Keys::new("changes", given, &[keys::NETWORK_CHANGES])?))
}

fn network_keys(mut keys: Keys) -> NetworkChange {
    NetworkChange {
        kind: None,
        source: keys.text(keys::SOURCE),
        subnet: keys.text(keys::SUBNET),
        gateway: keys.text(keys::GATEWAY),
        dns: keys.texts(keys::DNS),
        ranges: keys.texts(keys::RANGES),
        dhcp: keys.flag(keys::DHCP),
        anti_spoofing: keys.flag(keys::ANTI_SPOOFING),
        labels: keys.pairs(keys::LABELS),
        enabled: keys.flag(keys::ENABLED),
    }
}

/// The access list under `access`, if it is there.
///
/// # Errors
/// [`vws_domain::ErrorKind::InvalidArgument`] for an entry without a right or without exactly one subject.
pub fn access(keys: &mut Keys) -> Result<Option<Access>> {
    let Some(entries) = keys.list(keys::ACCESS, keys::GRANT, limits::GRANTS)? else { return Ok(None) };
    entries.into_iter().map(grant).collect::<Result<_>>().map(Some)
}

fn grant(mut keys: Keys) -> Result<(Who, Right)> {
    let right = keys.word(keys::RIGHT, &["view", "use", "manage"], Right::from_name)?;
    let right = right.ok_or_else(|| keys.invalid(keys::RIGHT, "is required", "add `view`, `use` or `manage`"))?;
    let subjects = [
        keys.text(keys::USER).map(Who::User),
        keys.text(keys::GROUP).map(Who::Group),
        keys.id(keys::UID).map(Who::Uid),
        keys.id(keys::GID).map(Who::Gid),
    ];
    let mut given = subjects.into_iter().flatten();
    match (given.next(), given.next()) {
        (Some(who), None) => Ok((who, right)),
        _ => Err(keys.invalid(
            keys::USER,
            "or `group`, `uid` or `gid` must be given, and one of them only",
            "name one subject for each right",
        )),
    }
}

const VISIBILITIES: [&str; 2] = ["private", "public"];

/// The visibility under `visibility`, if it is there.
///
/// # Errors
/// [`vws_domain::ErrorKind::InvalidArgument`] for another word.
pub fn visibility(keys: &mut Keys) -> Result<Option<Visibility>> {
    keys.word(keys::VISIBILITY, &VISIBILITIES, |word| match word {
        "private" => Some(Visibility::Private),
        "public" => Some(Visibility::Public),
        _ => None,
    })
}

/// What to import.
///
/// # Errors
/// [`vws_domain::ErrorKind::InvalidArgument`] when keys are missing or exclude each other.
pub fn image_import(name: &str, given: Dict) -> Result<ImageImport> {
    let mut keys = Keys::new("source", given, &[keys::IMAGE_SOURCE])?;
    let digest = keys.text(keys::DIGEST).map(|digest| checked_digest(&digest)).transpose()?;
    let url = match (keys.text(keys::URL), &digest) {
        (None, _) => None,
        (Some(url), _) if !url.starts_with("http://") && !url.starts_with("https://") => {
            return Err(keys.invalid(
                keys::URL,
                format!("is `{}`, must begin with http:// or https://", shown(&url)),
                "give a web address, or use `path`",
            ));
        }
        (Some(url), Some(digest)) => Some(ByteSource::Url { url, digest: digest.clone() }),
        (Some(_), None) => {
            return Err(keys.invalid(keys::DIGEST, "is required with `url`", "add the sha256 that the bytes must have"));
        }
    };
    let disk = one_of(&mut keys, keys::FILE, keys::PATH, url)?;
    let kernel = one_of(&mut keys, keys::KERNEL, keys::KERNEL_PATH, None)?;
    let initrd = one_of(&mut keys, keys::INITRD, keys::INITRD_PATH, None)?;
    let cmdline = keys.text(keys::CMDLINE);
    let format = keys.word(keys::FORMAT, &["raw", "qcow2"], |word| match word {
        "raw" => Some(DiskFormat::Raw),
        "qcow2" => Some(DiskFormat::Qcow2),
        _ => None,
    })?;
    let firmware = keys.word(keys::FIRMWARE, &["bios", "uefi"], |word| match word {
        "bios" => Some(Firmware::Bios),
        "uefi" => Some(Firmware::Uefi),
        _ => None,
    })?;
    if disk.is_none() && kernel.is_none() {
        return Err(Error::invalid(
            "source of an image",
            "names no bytes",
            "give `file`, `path` or `url`, or `kernel` or `kernel-path`",
        ));
    }
    if disk.is_some() && format.is_none() {
        return Err(keys.invalid(
            keys::FORMAT,
            "is required with a root disk: formats are never guessed",
            "add `raw` or `qcow2`",
        ));
    }
    if kernel.is_none() && (initrd.is_some() || cmdline.is_some()) {
        let key = if initrd.is_some() { keys::INITRD } else { keys::CMDLINE };
        return Err(keys.invalid(key, "goes with a kernel", "add `kernel` or `kernel-path`, or leave it out"));
    }
    if kernel.is_some() && firmware.is_some() {
        return Err(keys.invalid(keys::FIRMWARE, "goes with a whole disk, not with a kernel", "leave it out"));
    }
    if disk.is_none() && digest.is_some() {
        return Err(keys.invalid(keys::DIGEST, "goes with a root disk", "leave it out"));
    }
    Ok(ImageImport {
        name: name.to_owned(),
        disk,
        digest,
        format: format.unwrap_or(DiskFormat::Raw),
        firmware: firmware.unwrap_or(Firmware::Bios),
        kernel,
        initrd,
        cmdline: cmdline.unwrap_or_default(),
        visibility: visibility(&mut keys)?.unwrap_or(Visibility::Private),
    })
}

/// The one source among a descriptor, a path, and what was read already.
fn one_of(keys: &mut Keys, file: &str, path: &str, other: Option<ByteSource>) -> Result<Option<ByteSource>> {
    let from_path = match keys.text(path) {
        Some(text) if !text.starts_with('/') => {
            return Err(keys.invalid(
                path,
                format!("is `{}`, not an absolute path", shown(&text)),
                "give the whole path on the daemon's machine",
            ));
        }
        from_path => from_path.map(ByteSource::Path),
    };
    let sources = [keys.file(file)?.map(ByteSource::File), from_path, other];
    let mut given = sources.into_iter().flatten();
    let first = given.next();
    if given.next().is_some() {
        return Err(keys.invalid(file, "excludes the other places where these bytes could come from", "name one place only"));
    }
    Ok(first)
}

/// What to change of an image.
///
/// # Errors
/// [`vws_domain::ErrorKind::InvalidArgument`] for an unknown key or word.
pub fn image_change(given: Dict) -> Result<ImageChange> {
    let mut keys = Keys::new("changes", given, &[keys::IMAGE_CHANGES])?;
    Ok(ImageChange { name: keys.text(keys::NAME), visibility: visibility(&mut keys)? })
}

/// A new host.
///
/// # Errors
/// [`vws_domain::ErrorKind::InvalidArgument`] for an unknown key, a bad value, or no backend.
pub fn host(given: Dict) -> Result<HostChange> {
    let mut keys = Keys::new("host", given, &[keys::HOST_SPEC])?;
    let backend = keys.required(keys::BACKEND)?;
    Ok(HostChange { backend: Some(backend), ..host_keys(keys)? })
}

/// What to change of a host.
///
/// # Errors
/// As for [`host`].
pub fn host_change(given: Dict) -> Result<HostChange> {
    host_keys(Keys::new("changes", given, &[keys::HOST_CHANGES])?)
}

fn host_keys(mut keys: Keys) -> Result<HostChange> {
    let settings = match keys.values(keys::SETTINGS) {
        Some(values) => Some(
            Value::Object(
                json_object(values, 0)
                    .map_err(|fact| keys.invalid(keys::SETTINGS, fact, "use texts, numbers, flags, lists and dictionaries"))?,
            )
            .to_string(),
        ),
        None => None,
    };
    let labels = keys.pairs(keys::LABELS);
    if let Some(labels) = &labels {
        checked_labels(labels)?;
    }
    Ok(HostChange {
        backend: None,
        settings,
        labels,
        cpu_overcommit_percent: keys.number(keys::CPU_OVERCOMMIT_PERCENT),
        memory_overcommit_percent: keys.number(keys::MEMORY_OVERCOMMIT_PERCENT),
        reserve_vcpus: keys.number(keys::RESERVE_VCPUS),
        reserve_memory_mib: keys.number(keys::RESERVE_MEMORY_MIB),
        reserve_disk_gib: keys.number(keys::RESERVE_DISK_GIB),
        image_cache_gib: keys.number(keys::IMAGE_CACHE_GIB),
        enabled: keys.flag(keys::ENABLED),
    })
}

/// How deep settings may nest.
const JSON_DEPTH: usize = 16;

fn json_object(values: BTreeMap<String, OwnedVariant>, depth: usize) -> std::result::Result<Map<String, Value>, String> {
    values.into_iter().map(|(key, value)| Ok((key, json(&Variant::from(value), depth + 1)?))).collect()
}

fn json(value: &Variant<'_>, depth: usize) -> std::result::Result<Value, String> {
    if depth > JSON_DEPTH {
        return Err(format!("nests deeper than {JSON_DEPTH}"));
    }
    Ok(match value {
        Variant::Bool(flag) => Value::Bool(*flag),
        Variant::U8(number) => Value::from(*number),
        Variant::I16(number) => Value::from(*number),
        Variant::U16(number) => Value::from(*number),
        Variant::I32(number) => Value::from(*number),
        Variant::U32(number) => Value::from(*number),
        Variant::I64(number) => Value::from(*number),
        Variant::U64(number) => Value::from(*number),
        Variant::F64(number) => Value::Number(Number::from_f64(*number).ok_or("has a number that is not finite")?),
        Variant::Str(text) => Value::String(text.as_str().to_owned()),
        Variant::ObjectPath(path) => Value::String(path.as_str().to_owned()),
        Variant::Variant(inner) => json(inner, depth + 1)?,
        Variant::Array(array) => {
            Value::Array(array.inner().iter().map(|element| json(element, depth + 1)).collect::<std::result::Result<_, _>>()?)
        }
        Variant::Dict(dict) => {
            let mut object = Map::new();
            for (key, value) in dict.iter() {
                let Variant::Str(key) = key else { return Err("has a dictionary whose keys are not texts".to_owned()) };
                object.insert(key.as_str().to_owned(), json(value, depth + 1)?);
            }
            Value::Object(object)
        }
        other => return Err(format!("has a value of type `{}`, which settings cannot hold", other.value_signature())),
    })
}

#[cfg(test)]
mod tests {
    use super::{ByteSource, Who, access, host, image_change, image_import, launch_request, options, spec};
    use crate::bus::keys::{Dict, Keys};
    use std::collections::HashMap;
    use vws_bus::{keys, names};
    use vws_domain::{DiskSource, EndAction, Error, ErrorKind, NicNetwork, Right, Target, Visibility};
    use zbus::{Fd, OwnedVariant, Variant};

    fn dict<const N: usize>(entries: [(&str, Variant<'static>); N]) -> Dict {
        entries.into_iter().map(|(key, value)| (key.to_owned(), OwnedVariant::try_from(value).unwrap())).collect()
    }

    fn sorry<T: std::fmt::Debug>(result: vws_domain::Result<T>) -> Error {
        let error = result.unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidArgument);
        error
    }

    #[test]
    fn a_spec_with_every_key() {
        let labels = HashMap::from([("tier".to_owned(), "web".to_owned())]);
        let given = dict([
            ("image", "debian-12".into()),
            ("vcpus", 4_u64.into()),
            ("vcpus-max", 8_u64.into()),
            ("cpu-shares", 512_u64.into()),
            ("memory-mib", 2048_u64.into()),
            ("memory-max-mib", 4096_u64.into()),
            ("disk-gib", 20_u64.into()),
            ("disk-iops", 100_u64.into()),
            ("disk-kib-per-second", 1024_u64.into()),
            (
                "data-disks",
                vec![dict([("size-gib", 5_u64.into()), ("iops", 7_u64.into())]), dict([("image", "/srv/data.qcow2".into())])]
                    .into(),
            ),
            (
                "nics",
                vec![
                    dict([
                        ("kind", "bridge".into()),
                        ("source", "br0".into()),
                        ("mac", "52:54:00:00:00:01".into()),
                        ("inbound-kib-per-second", 9_u64.into()),
                    ]),
                    dict([("kind", "user".into())]),
                    dict([("network", "lan".into()), ("address", "10.0.0.5".into())]),
                ]
                .into(),
            ),
            ("operating-system", "debian-12".into()),
            ("user-data", "#cloud-config\n".into()),
            ("network-config", "version: 2".into()),
            ("ssh-keys", vec!["ssh-ed25519 AAAA a@b".to_owned()].into()),
            (
                "access",
                vec![
                    dict([("user", "alice".into()), ("right", "use".into())]),
                    dict([("gid", 7_u32.into()), ("right", "view".into())]),
                ]
                .into(),
            ),
            ("labels", labels.clone().into()),
            ("group", "physics".into()),
            ("lease-seconds", 600_u64.into()),
            ("end-action", "serialize".into()),
            ("preemptible", true.into()),
            ("target", "paused".into()),
            ("host", "node-1".into()),
            ("x-mine", true.into()),
        ]);
        assert_eq!(given.len(), keys::SPEC.len() + 1, "a key of the contract is not tried here");
        let (spec, access) = spec("web", given).unwrap();
        assert_eq!((spec.name.as_str(), spec.image.to_string().as_str()), ("web", "debian-12"));
        assert_eq!((spec.vcpus, spec.cpu_shares, spec.memory_mib, spec.disk_gib), (4, 512, 2048, 20));
        assert_eq!((spec.vcpus_max, spec.memory_max_mib), (8, 4096));
        assert_eq!((spec.disk_limits.iops, spec.disk_limits.kib_per_second), (100, 1024));
        assert_eq!(spec.data_disks[0].source, DiskSource::Empty);
        assert_eq!((spec.data_disks[0].size_gib, spec.data_disks[0].limits.iops), (5, 7));
        assert!(matches!(&spec.data_disks[1].source, DiskSource::Image(image) if image.to_string() == "/srv/data.qcow2"));
        assert_eq!(spec.nics[0].network, NicNetwork::Bridge("br0".into()));
        assert_eq!((spec.nics[0].mac.as_str(), spec.nics[0].limits.inbound_kib_per_second), ("52:54:00:00:00:01", 9));
        assert_eq!(spec.nics[1].network, NicNetwork::User);
        assert!(matches!(&spec.nics[2].network, NicNetwork::Named(name) if name.as_str() == "lan"));
        assert_eq!(spec.nics[2].address.map(|address| address.to_string()).as_deref(), Some("10.0.0.5"));
        assert_eq!((spec.operating_system.as_str(), spec.user_data.as_str()), ("debian-12", "#cloud-config\n"));
        assert_eq!((spec.network_config.as_str(), spec.ssh_keys.len()), ("version: 2", 1));
        assert_eq!(access, [(Who::User("alice".into()), Right::Use), (Who::Gid(7), Right::View)]);
        assert_eq!(spec.labels, labels.into_iter().collect());
        assert_eq!((spec.group.as_str(), spec.lease_seconds), ("physics", 600));
        assert_eq!((spec.end_action, spec.target), (EndAction::Serialize, Target::Paused));
        assert!(spec.preemptible);
        assert_eq!(spec.host.map(|host| host.to_string()).as_deref(), Some("node-1"));
    }

    #[test]
    fn a_spec_with_the_least() {
        let (spec, access) = spec("web", dict([("image", "tiny".into())])).unwrap();
        assert_eq!(spec, vws_domain::Spec::new("web", vws_domain::ImageRef::Name("tiny".into())));
        assert!(access.is_empty());
        let (same, _) = launch_request(dict([("name", "web".into()), ("image", "tiny".into())])).unwrap();
        assert_eq!(same, spec);
    }

    #[test]
    fn a_bad_spec_is_refused_by_key() {
        assert_eq!(sorry(spec("web", dict([]))).object, "key `image` of spec");
        assert_eq!(sorry(launch_request(dict([("image", "tiny".into())]))).object, "key `name` of request");
        let with = |key: &str, value: Variant<'static>| sorry(spec("web", dict([("image", "tiny".into()), (key, value)])));
        assert_eq!(with("end-action", "destory".into()).remedy, "did you mean `destroy`?");
        assert_eq!(with("target", "gone".into()).fact, "is `gone`, must be one of stopped, running, paused");
        assert_eq!(with("vcpus", "2".into()).fact, "has type `s`, must have `t`");
        assert_eq!(with("nics", vec![dict([("kind", "bridge".into())])].into()).object, "key `source` of nics [0] of spec");
        assert_eq!(
            with("nics", vec![dict([("kind", "user".into()), ("source", "x".into())])].into()).object,
            "key `source` of nics [0] of spec"
        );
        assert_eq!(with("nics", vec![dict([])].into()).object, "key `kind` of nics [0] of spec");
        let both = dict([("network", "lan".into()), ("kind", "user".into())]);
        assert_eq!(with("nics", vec![both].into()).object, "key `kind` of nics [0] of spec");
        let prefix = dict([("network", "lan".into()), ("address", "10.0.0.5/24".into())]);
        assert_eq!(with("nics", vec![prefix].into()).object, "key `address` of nics [0] of spec");
        assert_eq!(with("access", vec![dict([("user", "a".into())])].into()).object, "key `right` of access [0] of spec");
        let two = dict([("user", "a".into()), ("uid", 1_u32.into()), ("right", "view".into())]);
        assert_eq!(with("access", vec![two].into()).object, "key `user` of access [0] of spec");
        assert_eq!(with("host", "a/b".into()).object, "host name `a/b`");
    }

    #[test]
    fn an_access_list_may_be_absent_or_empty() {
        let mut none = Keys::new("changes", dict([]), &[keys::WORKSPACE_CHANGES]).unwrap();
        assert_eq!(access(&mut none).unwrap(), None);
        let empty: Vec<Dict> = Vec::new();
        let mut empty = Keys::new("changes", dict([("access", empty.into())]), &[keys::WORKSPACE_CHANGES]).unwrap();
        assert_eq!(access(&mut empty).unwrap(), Some(Vec::new()));
    }

    #[test]
    fn an_image_comes_from_one_place() {
        let digest = "ab".repeat(32);
        let url = image_import(
            "a",
            dict([
                ("url", "https://x.example/a.qcow2".into()),
                ("digest", digest.clone().into()),
                ("format", "qcow2".into()),
                ("visibility", "public".into()),
            ]),
        )
        .unwrap();
        assert!(matches!(&url.disk, Some(ByteSource::Url { digest: d, .. }) if *d == digest));
        assert_eq!((url.digest, url.visibility), (Some(digest.clone()), Visibility::Public));
        let file = std::fs::File::open("/dev/null").unwrap();
        let handed =
            image_import("a", dict([("file", Fd::from(std::os::fd::OwnedFd::from(file)).into()), ("format", "raw".into())]))
                .unwrap();
        assert!(matches!(handed.disk, Some(ByteSource::File(_))));
        let kernel = image_import(
            "a",
            dict([("kernel-path", "/boot/vmlinuz".into()), ("initrd-path", "/boot/initrd".into()), ("cmdline", "quiet".into())]),
        )
        .unwrap();
        assert!(kernel.disk.is_none() && matches!(kernel.kernel, Some(ByteSource::Path(_))) && kernel.cmdline == "quiet");
        for (entries, object) in [
            (dict([]), "source of an image"),
            (dict([("path", "/a".into())]), "key `format` of source"),
            (dict([("path", "a".into()), ("format", "raw".into())]), "key `path` of source"),
            (dict([("url", "https://x.example/a".into()), ("format", "raw".into())]), "key `digest` of source"),
            (
                dict([("url", "ftp://x.example/a".into()), ("digest", digest.clone().into()), ("format", "raw".into())]),
                "key `url` of source",
            ),
            (
                dict([
                    ("path", "/a".into()),
                    ("url", "http://x.example/a".into()),
                    ("digest", digest.clone().into()),
                    ("format", "raw".into()),
                ]),
                "key `file` of source",
            ),
            (dict([("path", "/a".into()), ("format", "raw".into()), ("cmdline", "quiet".into())]), "key `cmdline` of source"),
            (dict([("kernel-path", "/a".into()), ("firmware", "uefi".into())]), "key `firmware` of source"),
            (dict([("kernel-path", "/a".into()), ("digest", digest.clone().into())]), "key `digest` of source"),
            (dict([("path", "/a".into()), ("format", "vmdk".into())]), "key `format` of source"),
        ] {
            assert_eq!(sorry(image_import("a", entries)).object, object);
        }
        assert_eq!(image_change(dict([("visibility", "private".into())])).unwrap().visibility, Some(Visibility::Private));
    }

    #[test]
    fn a_hosts_settings_become_json() {
        let settings = dict([
            ("uri", "qemu:///session".into()),
            ("count", 3_i32.into()),
            ("ratio", 0.5_f64.into()),
            ("list", vec!["a".to_owned()].into()),
            ("deep", dict([("on", true.into())]).into()),
        ]);
        let change = host(dict([
            ("backend", "kvm".into()),
            ("settings", settings.into()),
            ("enabled", false.into()),
            ("reserve-memory-mib", 512_u64.into()),
        ]))
        .unwrap();
        assert_eq!(
            change.settings.as_deref(),
            Some(r#"{"count":3,"deep":{"on":true},"list":["a"],"ratio":0.5,"uri":"qemu:///session"}"#)
        );
        assert_eq!((change.backend.as_deref(), change.enabled, change.reserve_memory_mib), (Some("kvm"), Some(false), Some(512)));
        assert_eq!(sorry(host(dict([]))).object, "key `backend` of host");
        let bad = dict([("backend", "kvm".into()), ("settings", dict([("n", f64::NAN.into())]).into())]);
        assert_eq!(sorry(host(bad)).fact, "has a number that is not finite");
    }

    #[test]
    fn options_are_those_of_the_method() {
        assert!(options(names::WORKSPACE, "Stop", dict([("guest-timeout-ms", 0_u64.into())])).is_ok());
        assert_eq!(
            sorry(options(names::WORKSPACE, "Start", dict([("guest-timeout-ms", 0_u64.into())]))).object,
            "key `guest-timeout-ms` of options"
        );
    }
}
