//! Resizing: what a workspace's description becomes, and whether its host can do that now. Pure: admission, explain and the job
//! ask the same functions.

use crate::error::{Error, ErrorKind, Result};
use crate::host::Host;
use crate::spec::{DiskLimits, NicLimits, Spec};

/// Everything of a description that a resize can change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// vCPUs.
    pub vcpus: u64,
    /// vCPUs that it can have without a restart.
    pub vcpus_max: u64,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Memory in MiB that it can have without a restart.
    pub memory_max_mib: u64,
    /// Relative weight of its CPU time.
    pub cpu_shares: u64,
    /// Size of the root disk in GiB; 0: its image's own.
    pub disk_gib: u64,
    /// Limits of the root disk.
    pub disk_limits: DiskLimits,
    /// Size in GiB and limits of each data disk.
    pub data_disks: Vec<(u64, DiskLimits)>,
    /// Limits of each NIC.
    pub nics: Vec<NicLimits>,
}

/// What belongs together when sizes are changed: each part is done, and if need be taken back, on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// CPU weight, limits of disks and NICs.
    Limits,
    /// Memory and its ceiling.
    Memory,
    /// vCPUs and their ceiling.
    Vcpus,
    /// Sizes of disks.
    Disks,
}

/// What to change; `None` leaves it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resize {
    /// vCPUs.
    pub vcpus: Option<u64>,
    /// vCPUs that it can have without a restart.
    pub vcpus_max: Option<u64>,
    /// Memory in MiB.
    pub memory_mib: Option<u64>,
    /// Memory in MiB that it can have without a restart.
    pub memory_max_mib: Option<u64>,
    /// Relative weight of its CPU time.
    pub cpu_shares: Option<u64>,
    /// Size of the root disk in GiB.
    pub disk_gib: Option<u64>,
    /// Operations per second of the root disk.
    pub disk_iops: Option<u64>,
    /// KiB per second of the root disk.
    pub disk_kib_per_second: Option<u64>,
    /// Data disks, by their place from 1.
    pub data_disks: Vec<DiskResize>,
    /// NICs, by their place from 0.
    pub nics: Vec<NicResize>,
}

/// What to change of a data disk; `None` leaves it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskResize {
    /// Its place: 1 is the first data disk, `disk-1`.
    pub index: u64,
    /// Size in GiB.
    pub size_gib: Option<u64>,
    /// Operations per second.
    pub iops: Option<u64>,
    /// KiB per second.
    pub kib_per_second: Option<u64>,
}

/// What to change of a NIC; `None` leaves it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NicResize {
    /// Its place, from 0.
    pub index: u64,
    /// KiB per second into the guest.
    pub inbound_kib_per_second: Option<u64>,
    /// KiB per second out of the guest.
    pub outbound_kib_per_second: Option<u64>,
}

impl Sizes {
    /// The sizes of a description.
    #[must_use]
    pub fn of(spec: &Spec) -> Self {
        Self {
            vcpus: spec.vcpus,
            vcpus_max: spec.vcpus_max,
            memory_mib: spec.memory_mib,
            memory_max_mib: spec.memory_max_mib,
            cpu_shares: spec.cpu_shares,
            disk_gib: spec.disk_gib,
            disk_limits: spec.disk_limits,
            data_disks: spec.data_disks.iter().map(|disk| (disk.size_gib, disk.limits)).collect(),
            nics: spec.nics.iter().map(|nic| nic.limits).collect(),
        }
    }

    /// Puts one part into a description.
    pub fn put(&self, part: Part, spec: &mut Spec) {
        match part {
            Part::Limits => {
                spec.cpu_shares = self.cpu_shares;
                spec.disk_limits = self.disk_limits;
                for (disk, (_, limits)) in spec.data_disks.iter_mut().zip(&self.data_disks) {
                    disk.limits = *limits;
                }
                for (nic, limits) in spec.nics.iter_mut().zip(&self.nics) {
                    nic.limits = *limits;
                }
            }
            Part::Memory => (spec.memory_mib, spec.memory_max_mib) = (self.memory_mib, self.memory_max_mib),
            Part::Vcpus => (spec.vcpus, spec.vcpus_max) = (self.vcpus, self.vcpus_max),
            Part::Disks => {
                spec.disk_gib = self.disk_gib;
                for (disk, (size_gib, _)) in spec.data_disks.iter_mut().zip(&self.data_disks) {
                    disk.size_gib = *size_gib;
                }
            }
        }
    }
}

impl Part {
    /// Every part, in the order in which a resize does them: what can be taken back first.
    pub const ALL: [Self; 4] = [Self::Limits, Self::Memory, Self::Vcpus, Self::Disks];
}

/// The sizes of `spec` after `change`. `root_image_mib` is the size of its root image; `running_on` the host that it runs on now.
///
/// # Errors
/// `InvalidArgument`: a place or value that does not exist, a disk made smaller. `InvalidState` with the code `needs-restart`: it is
/// possible, but not while it runs. `Unsupported`: the host cannot do it.
pub fn resized(spec: &Spec, root_image_mib: u64, running_on: Option<&Host>, change: &Resize) -> Result<Sizes> {
    let was = Sizes::of(spec);
    let mut new = was.clone();
    new.vcpus = change.vcpus.unwrap_or(was.vcpus);
    new.memory_mib = change.memory_mib.unwrap_or(was.memory_mib);
    new.vcpus_max = change.vcpus_max.unwrap_or_else(|| ceiling(was.vcpus_max, new.vcpus, running_on.is_some()));
    new.memory_max_mib =
        change.memory_max_mib.unwrap_or_else(|| ceiling(was.memory_max_mib, new.memory_mib, running_on.is_some()));
    new.cpu_shares = change.cpu_shares.unwrap_or(was.cpu_shares);
    new.disk_limits.iops = change.disk_iops.unwrap_or(was.disk_limits.iops);
    new.disk_limits.kib_per_second = change.disk_kib_per_second.unwrap_or(was.disk_limits.kib_per_second);
    if let Some(asked) = change.disk_gib {
        new.disk_gib = grown("root disk", was.disk_gib.max(root_image_mib.div_ceil(1024)), asked)?;
    }
    for disk in &change.data_disks {
        let slot = usize::try_from(disk.index)
            .ok()
            .and_then(|index| index.checked_sub(1))
            .and_then(|index| new.data_disks.get_mut(index));
        let Some((size_gib, limits)) = slot else {
            return Err(no_such("data disk", disk.index, format!("it has {}, counted from 1", was.data_disks.len())));
        };
        if let Some(asked) = disk.size_gib {
            *size_gib = grown(&format!("data disk {}", disk.index), *size_gib, asked)?;
        }
        limits.iops = disk.iops.unwrap_or(limits.iops);
        limits.kib_per_second = disk.kib_per_second.unwrap_or(limits.kib_per_second);
    }
    for nic in &change.nics {
        let Some(limits) = usize::try_from(nic.index).ok().and_then(|index| new.nics.get_mut(index)) else {
            return Err(no_such("NIC", nic.index, format!("it has {}, counted from 0", was.nics.len())));
        };
        limits.inbound_kib_per_second = nic.inbound_kib_per_second.unwrap_or(limits.inbound_kib_per_second);
        limits.outbound_kib_per_second = nic.outbound_kib_per_second.unwrap_or(limits.outbound_kib_per_second);
    }
    let mut whole = spec.clone();
    Part::ALL.into_iter().for_each(|part| new.put(part, &mut whole));
    if let Some(host) = running_on {
        while_it_runs(spec, &was, &new, host)?;
    }
    whole.validated()?;
    Ok(new)
}

/// A ceiling that was not named: while it runs it stays; otherwise it makes room for what is asked.
fn ceiling(was: u64, wanted: u64, running: bool) -> u64 {
    if running { was } else { was.max(wanted) }
}

fn grown(what: &str, present_gib: u64, asked_gib: u64) -> Result<u64> {
    if asked_gib >= present_gib {
        return Ok(asked_gib);
    }
    Err(Error::invalid(
        format!("{what} of {asked_gib} GiB"),
        format!("it has {present_gib} GiB, and a disk is not made smaller: what is at its end would be lost"),
        "copy what you need to a new, smaller disk",
    ))
}

fn no_such(what: &str, index: u64, fact: String) -> Error {
    Error::invalid(format!("{what} {index}"), format!("does not exist: {fact}"), "`vws info` shows what it has")
}

/// What cannot be done without a restart, or not at all on this host.
fn while_it_runs(spec: &Spec, was: &Sizes, new: &Sizes, host: &Host) -> Result<()> {
    let restart = |fact: String| {
        Err(Error::new(
            ErrorKind::InvalidState,
            format!("workspace `{}`", spec.name),
            format!("runs, and {fact}"),
            "stop it, resize it, start it again; a ceiling is set with `memory-max-mib` and `vcpus-max`",
        )
        .with_code("needs-restart"))
    };
    if new.memory_max_mib != was.memory_max_mib || new.vcpus_max != was.vcpus_max {
        return restart("its ceilings cannot change before its next start".to_owned());
    }
    let (memory_top, vcpus_top) = (was.memory_max_mib.max(was.memory_mib), was.vcpus_max.max(was.vcpus));
    if new.memory_mib > memory_top {
        return restart(format!("{} MiB are above its ceiling of {memory_top} MiB", new.memory_mib));
    }
    if new.vcpus > vcpus_top {
        return restart(format!("{} vCPUs are above its ceiling of {vcpus_top}", new.vcpus));
    }
    let mut wants = Vec::new();
    if new.memory_mib != was.memory_mib {
        wants.push("resize-memory");
    }
    if new.vcpus > was.vcpus {
        wants.push("resize-vcpus");
    }
    if new.vcpus < was.vcpus {
        wants.push("shrink-vcpus");
    }
    if new.disk_gib != was.disk_gib || new.data_disks.iter().zip(&was.data_disks).any(|(new, was)| new.0 != was.0) {
        wants.push("resize-disk");
    }
    for want in wants {
        if let Some(reason) = host.cannot(want) {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("workspace `{}`", spec.name),
                format!("runs on host `{}`, which cannot {want}: {reason}", host.name),
                "stop it, resize it, start it again",
            )
            .with_code(want));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Timestamp;
    use crate::capacity::Resources;
    use crate::host::{Connection, ForeignUse, HostFacts};
    use crate::id::HostName;
    use crate::spec::{DataDisk, DiskSource, ImageRef};
    use std::collections::BTreeMap;

    fn spec() -> Spec {
        let mut spec = Spec::new("web", ImageRef::Name("debian".to_owned()));
        (spec.memory_mib, spec.memory_max_mib, spec.vcpus, spec.vcpus_max) = (512, 1024, 2, 4);
        spec.disk_gib = 10;
        spec.data_disks.push(DataDisk { source: DiskSource::Empty, size_gib: 5, limits: DiskLimits::default() });
        spec
    }

    fn host() -> Host {
        let mut host = Host {
            name: HostName::parse("h1").unwrap(),
            backend: "sim".to_owned(),
            settings: String::new(),
            labels: BTreeMap::new(),
            cpu_overcommit_percent: 100,
            memory_overcommit_percent: 100,
            reserve: Resources::default(),
            image_cache_gib: 0,
            enabled: true,
            facts: HostFacts::default(),
            foreign: ForeignUse::default(),
            connection: Connection::Up,
            version: 1,
            seen_at: Timestamp(0),
        };
        for (name, reason) in
            [("resize-memory", ""), ("resize-vcpus", ""), ("resize-disk", ""), ("shrink-vcpus", "it would hang later saves")]
        {
            host.facts.capabilities.insert(name.to_owned(), reason.to_owned());
        }
        host
    }

    #[test]
    fn within_the_ceilings_it_grows_and_shrinks_while_it_runs() {
        let host = host();
        let change = Resize { memory_mib: Some(1024), vcpus: Some(4), disk_gib: Some(12), ..Resize::default() };
        let new = resized(&spec(), 3000, Some(&host), &change).unwrap();
        assert_eq!((new.memory_mib, new.vcpus, new.disk_gib, new.memory_max_mib), (1024, 4, 12, 1024));
        let less = resized(&spec(), 0, Some(&host), &Resize { memory_mib: Some(256), ..Resize::default() }).unwrap();
        assert_eq!((less.memory_mib, less.memory_max_mib), (256, 1024));
    }

    #[test]
    fn what_needs_a_restart_says_so_and_works_when_stopped() {
        let change = Resize { memory_mib: Some(2048), ..Resize::default() };
        let error = resized(&spec(), 0, Some(&host()), &change).unwrap_err();
        assert_eq!(error.code, "needs-restart");
        assert!(error.to_string().contains("2048 MiB are above its ceiling of 1024 MiB"), "{error}");
        let new = resized(&spec(), 0, None, &change).unwrap();
        assert_eq!((new.memory_mib, new.memory_max_mib), (2048, 2048));
    }

    #[test]
    fn a_host_that_cannot_says_why() {
        let error = resized(&spec(), 0, Some(&host()), &Resize { vcpus: Some(1), ..Resize::default() }).unwrap_err();
        assert_eq!((error.kind, error.code.as_str()), (ErrorKind::Unsupported, "shrink-vcpus"));
        assert!(error.to_string().contains("hang later saves"), "{error}");
    }

    #[test]
    fn a_disk_is_never_made_smaller() {
        for change in [
            Resize { disk_gib: Some(9), ..Resize::default() },
            Resize { data_disks: vec![DiskResize { index: 1, size_gib: Some(4), ..DiskResize::default() }], ..Resize::default() },
        ] {
            for at in [None, Some(&host())] {
                let error = resized(&spec(), 0, at, &change).unwrap_err();
                assert!(error.to_string().contains("not made smaller"), "{error}");
            }
        }
    }

    #[test]
    fn places_that_are_not_there_are_refused() {
        let disk = Resize { data_disks: vec![DiskResize { index: 2, ..DiskResize::default() }], ..Resize::default() };
        let nic = Resize { nics: vec![NicResize { index: 1, ..NicResize::default() }], ..Resize::default() };
        assert!(resized(&spec(), 0, None, &disk).unwrap_err().to_string().contains("data disk 2"));
        assert!(resized(&spec(), 0, None, &nic).unwrap_err().to_string().contains("NIC 1"));
    }
}
