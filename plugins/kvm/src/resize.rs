//! More or less of a machine while it is there: memory, vCPUs, disks, rate limits.
//!
//! Owns: what can be changed without a restart, and what is refused because it would lose data or hang the machine later. All of
//! it is looked at before any of it is changed. Must not know: quotas.

use crate::events;
use crate::machine::{Machine, Virtual, check, find};
use crate::probe::{self, NO_UNPLUG};
use crate::qcow2;
use crate::readback::Element;
use crate::storage::{Site, Trouble, names};
use crate::xml::{self, Size, Vcpu, target};
use virt::domain::Domain;
use virt::error::ErrorNumber;
use virt_sys as sys;
use vws_plugin_api::doc::{DiskDoc, Failure, MachineDoc, MachineResize, NicDoc, Resized, codes};
use vws_plugin_api::sdk::Outcome;

/// How large a machine is by its definition as libvirt tells it: what has changed since its start is in there.
pub fn size_of(live: &Element) -> Size {
    let number = |text: &str| text.trim().parse::<u64>().unwrap_or(0);
    let vcpus_max = number(live.text_at(&["vcpu"]));
    let current = live.at(&["vcpu"]).map_or("", |vcpu| vcpu.attribute("current"));
    Size {
        vcpus: if current.is_empty() { vcpus_max } else { number(current) },
        vcpus_max,
        memory_kib: number(live.text_at(&["currentMemory"])),
        memory_max_kib: number(live.text_at(&["memory"])),
        each: live.at(&["vcpus"]).map_or_else(Vec::new, |vcpus| vcpus.all("vcpu").map(each).collect()),
    }
}

fn each(vcpu: &Element) -> Vcpu {
    Vcpu {
        enabled: vcpu.attribute("enabled") == "yes",
        pluggable: vcpu.attribute("hotpluggable") == "yes",
        order: vcpu.attribute("order").parse().unwrap_or(0),
    }
}

fn too_small(disk: &DiskDoc, has: u64) -> Trouble {
    Failure::new(
        codes::INVALID,
        format!("{} MiB are asked for, but it has {} MiB: a disk is not made smaller", disk.size_mib, has.div_ceil(1 << 20)),
    )
    .about(format!("disk `{}`", disk.name))
    .remedy("make a smaller file system in a new disk and copy what is needed")
    .into()
}

impl Machine<'_> {
    /// Brings the machine to what the document says, as far as that goes without a restart.
    pub fn resize(&self, args: &MachineResize) -> Outcome<Resized> {
        let machine = args.machine.clone();
        check(&machine, self.host, self.call)?;
        let state = self.own()?;
        let plan = self.plan(&machine, None)?;
        let may_shrink = probe::seen(self.host, self.call)?.is_kvm();
        let after_restart = match state {
            Virtual::Running | Virtual::Paused(_) => self.work("resize the machine", move |site, workspace| {
                let Some(domain) = find(site, workspace)? else {
                    return Err(Failure::new(codes::STATE, "the machine is not defined on the host").into());
                };
                let after_restart = live(&domain, &machine, may_shrink)?;
                // What it is from now on, for its next start and for what libvirt makes of the definition until then.
                plan.define(site)?;
                Ok(after_restart)
            })?,
            Virtual::Off(_) => self.work("resize the machine's disks", move |site, _workspace| resting(site, &machine))?,
            Virtual::Saved => {
                return Err(self
                    .wrong_state("its memory is saved, and fits only to the machine as it was")
                    .remedy("restore it first"));
            }
            Virtual::None => {
                return Err(Failure::new(codes::NOT_FOUND, "it is not on the host")
                    .about(self.object())
                    .remedy("stage it first"));
            }
        };
        Ok(Resized { status: self.told(&state), after_restart })
    }
}

/// Grows the disks of a machine that is off; the rest comes with its next start.
fn resting(site: &Site, machine: &MachineDoc) -> Result<Vec<String>, Trouble> {
    let mut grow = Vec::new();
    for (index, disk) in machine.disks.iter().enumerate().filter(|(_, disk)| disk.size_mib > 0) {
        let name = names::disk(&machine.workspace, &disk.name);
        let Some(volume) = site.seek(&name)? else {
            return Err(Failure::new(codes::NOT_FOUND, format!("its disk `{}` is not on the host", disk.name)).into());
        };
        let has = qcow2::read(&site.head(&volume, qcow2::ENOUGH)?)?.virtual_size;
        let bytes = disk.size_mib << 20;
        if bytes < has {
            return Err(too_small(disk, has));
        }
        if bytes > has {
            grow.push((volume, bytes, index));
        }
    }
    let mut left = Vec::new();
    for (volume, bytes, index) in grow {
        match volume.resize(bytes, 0) {
            // libvirt compares the guest's size with the file's, which snapshots make larger.
            Err(error) if error.code().is(ErrorNumber::InvalidArg) => left.push((index, bytes)),
            other => other?,
        }
    }
    if !left.is_empty()
        && let Some(domain) = find(site, &machine.workspace)?
    {
        // QEMU itself does it, with a machine that stands still and never runs.
        domain.create_with_flags(sys::VIR_DOMAIN_START_PAUSED)?;
        let grown = left
            .iter()
            .try_for_each(|(index, bytes)| domain.block_resize(&target(*index), *bytes, sys::VIR_DOMAIN_BLOCK_RESIZE_BYTES));
        domain.destroy()?;
        grown?;
    }
    Ok(Vec::new())
}

fn live(domain: &Domain, machine: &MachineDoc, may_shrink: bool) -> Result<Vec<String>, Trouble> {
    let live = Element::parse(&domain.xml_desc(0)?)?;
    let has = size_of(&live);
    let mut after_restart = Vec::new();
    // Looked at first.
    if machine.vcpus < has.vcpus && !may_shrink {
        return Err(Failure::new(codes::UNSUPPORTED, format!("it has {} vCPUs: {NO_UNPLUG}", has.vcpus))
            .remedy("stop it, resize it, and start it again")
            .into());
    }
    let mut grow = Vec::new();
    for (index, disk) in machine.disks.iter().enumerate().filter(|(_, disk)| disk.size_mib > 0) {
        let bytes = disk.size_mib << 20;
        let is = domain.block_info(&target(index), 0)?.capacity;
        if bytes < is {
            return Err(too_small(disk, is));
        }
        if bytes > is {
            grow.push((target(index), bytes));
        }
    }
    // Then done: what can fail for want of room first.
    for (device, bytes) in grow {
        domain.block_resize(&device, bytes, sys::VIR_DOMAIN_BLOCK_RESIZE_BYTES)?;
    }
    let memory_kib = machine.memory_mib.saturating_mul(1024);
    if memory_kib > has.memory_max_kib {
        after_restart.push("memory_mib".to_owned());
    } else if memory_kib != has.memory_kib {
        domain.set_memory_flags(memory_kib, sys::VIR_DOMAIN_AFFECT_LIVE)?;
    }
    if machine.vcpus > has.vcpus_max {
        after_restart.push("vcpus".to_owned());
    } else if machine.vcpus != has.vcpus {
        let vcpus = u32::try_from(machine.vcpus).unwrap_or(u32::MAX);
        domain.set_vcpus_flags(vcpus, sys::VIR_DOMAIN_VCPU_LIVE)?;
    }
    // A lower ceiling is a matter of the next start as well.
    let wanted = Size::of(machine);
    for (name, wanted, is) in
        [("memory_max_mib", wanted.memory_max_kib, has.memory_max_kib), ("vcpus_max", wanted.vcpus_max, has.vcpus_max)]
    {
        if wanted != is {
            after_restart.push(name.to_owned());
        }
    }
    limits(domain, machine, &live)?;
    Ok(after_restart)
}

/// Rate limits and weights that differ from what the machine has.
fn limits(domain: &Domain, machine: &MachineDoc, live: &Element) -> Result<(), Trouble> {
    let number = |text: &str| text.trim().parse::<u64>().unwrap_or(0);
    let none = Element::default();
    let devices = live.at(&["devices"]).unwrap_or(&none);
    for (index, disk) in machine.disks.iter().enumerate() {
        let device = target(index);
        let of = |name: &str| {
            let is = devices.all("disk").find(|disk| disk.at(&["target"]).is_some_and(|at| at.attribute("dev") == device));
            number(is.map_or("", |disk| disk.text_at(&["iotune", name])))
        };
        let wanted = (disk.kib_per_second.saturating_mul(1024), disk.iops);
        if wanted != (of("total_bytes_sec"), of("total_iops_sec")) {
            events::tune_disk(domain, &device, &[("total_bytes_sec", wanted.0), ("total_iops_sec", wanted.1)])?;
        }
    }
    for nic in machine.nics.iter().filter(|nic| nic.kind != "user") {
        if rates(nic) != live_rates(devices, nic) {
            domain.update_device_flags(&xml::nic(nic)?, sys::VIR_DOMAIN_AFFECT_LIVE)?;
        }
    }
    let shares = number(live.text_at(&["cputune", "shares"]));
    if machine.cpu_shares > 0 && machine.cpu_shares != shares {
        events::tune_cpu(domain, &[("cpu_shares", machine.cpu_shares)])?;
    }
    Ok(())
}

fn rates(nic: &NicDoc) -> (u64, u64) {
    (nic.inbound_kib_per_second, nic.outbound_kib_per_second)
}

fn live_rates(devices: &Element, nic: &NicDoc) -> (u64, u64) {
    let same = |is: &&Element| is.at(&["mac"]).is_some_and(|mac| mac.attribute("address").eq_ignore_ascii_case(&nic.mac));
    let is = devices.all("interface").find(same);
    let rate = |way: &str| {
        let average = is.and_then(|is| is.at(&["bandwidth", way])).map_or("", |rate| rate.attribute("average"));
        average.parse::<u64>().unwrap_or(0)
    };
    (rate("inbound"), rate("outbound"))
}
