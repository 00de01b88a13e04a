//! Snapshots: the state of all disks, and of the memory if wanted, kept inside the disks themselves.
//!
//! Owns: names and order. libvirt keeps what belongs to a snapshot in its own files on the host; the qcow2 disks keep the data.
//! Must not know: who pays for the room.

use crate::bundle::has_nvram;
use crate::machine::{Machine, Virtual, find};
use crate::readback::Element;
use crate::storage::Trouble;
use crate::xml::{Tree, target};
use std::io;
use virt::domain::Domain;
use virt::domain_snapshot::DomainSnapshot;
use virt::error::{Error, ErrorNumber};
use vws_plugin_api::doc::{Failure, MachineStatus, SnapshotArgs, SnapshotListing, codes};
use vws_plugin_api::sdk::Outcome;

fn lookup(domain: &Domain, name: &str) -> Result<Option<DomainSnapshot>, Error> {
    match Domain::lookup_snapshot_by_name(domain, name, 0) {
        Ok(snapshot) => Ok(Some(snapshot)),
        Err(error) if error.code().is(ErrorNumber::NoDomainSnapshot) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether vCPUs were plugged into the running machine.
fn has_plugged_vcpus(live: &Element) -> bool {
    let of = |vcpu: &Element, name: &str| vcpu.attribute(name) == "yes";
    live.at(&["vcpus"]).is_some_and(|vcpus| vcpus.all("vcpu").any(|vcpu| of(vcpu, "enabled") && of(vcpu, "hotpluggable")))
}

impl Machine<'_> {
    fn snapshot_name(&self, name: &str) -> Outcome<()> {
        let plain = (1..=63).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if plain {
            return Ok(());
        }
        Err(Failure::new(codes::INVALID, format!("`{}` is not 1 to 63 of a-z A-Z 0-9 -", name.escape_default()))
            .about(format!("name of a snapshot of {}", self.object())))
    }

    /// Keeps the present state under a name.
    pub fn snapshot(&self, args: &SnapshotArgs) -> Outcome<MachineStatus> {
        self.snapshot_name(&args.name)?;
        let state = self.own()?;
        let runs = matches!(state, Virtual::Running | Virtual::Paused(_));
        match state {
            Virtual::None => return Err(Failure::new(codes::NOT_FOUND, "it is not on the host").about(self.object())),
            Virtual::Saved => {
                return Err(self
                    .wrong_state("its memory is saved: its disks alone are not consistent")
                    .remedy("restore it first"));
            }
            _ if runs && has_nvram(&args.machine) => {
                return Err(Failure::new(
                    codes::UNSUPPORTED,
                    "it runs, and libvirt takes no snapshot with the memory of a machine with UEFI firmware, whose variables would not be in it",
                )
                .about(self.object())
                .remedy("stop it and take a snapshot of its disks, or serialize it"));
            }
            _ if args.memory && !runs => {
                return Err(self
                    .wrong_state("it does not run: there is no memory to keep")
                    .remedy("leave the memory out, or start it"));
            }
            _ if runs && !args.memory => {
                return Err(Failure::new(
                    codes::UNSUPPORTED,
                    "it runs, and a snapshot of a running machine has its memory in it here",
                )
                .about(self.object())
                .remedy("take it with memory, or stop the machine first"));
            }
            _ => {}
        }
        let (machine, name) = (args.machine.clone(), args.name.clone());
        self.call.progress("take the snapshot", 0, 0);
        self.work("take a snapshot", move |site, workspace| {
            let Some(domain) = find(site, workspace)? else { return Ok(()) };
            if lookup(&domain, &name)?.is_some() {
                return Ok(());
            }
            if runs && has_plugged_vcpus(&Element::parse(&domain.xml_desc(0)?)?) {
                // Reverting starts QEMU with the memory at once, before libvirt plugs such vCPUs in: it could never be done.
                return Err(Failure::new(
                    codes::UNSUPPORTED,
                    "vCPUs were added since its start: a snapshot with memory could not be reverted",
                )
                .remedy("restart it first, or take the snapshot while it is stopped")
                .into());
            }
            let mut tree = Tree::new();
            let written = tree.parent("domainsnapshot", &[], |tree| {
                tree.text("name", &[], &name)?;
                tree.parent("disks", &[], |tree| {
                    for index in 0..machine.disks.len() {
                        tree.leaf("disk", &[("name", &target(index)), ("snapshot", "internal")])?;
                    }
                    // Nobody writes to the seed.
                    tree.leaf("disk", &[("name", &target(machine.disks.len())), ("snapshot", "no")])?;
                    io::Result::Ok(())
                })
            });
            written.map_err(|error| Failure::new(codes::INTERNAL, format!("snapshot XML: {error}")))?;
            domain.create_snapshot_xml(&tree.finish()?, 0)?;
            Ok(())
        })?;
        self.inspect()
    }

    /// Goes back to a snapshot; the machine is then as it was.
    pub fn revert(&self, args: &SnapshotArgs) -> Outcome<MachineStatus> {
        self.snapshot_name(&args.name)?;
        if self.own()? == Virtual::Saved {
            return Err(self
                .wrong_state("its memory is saved, and would not fit to the disks any more")
                .remedy("restore it first"));
        }
        let name = args.name.clone();
        self.call.progress("revert to the snapshot", 0, 0);
        self.work("revert to a snapshot", move |site, workspace| {
            let missing = || Failure::new(codes::NOT_FOUND, format!("it has no snapshot `{name}`")).remedy("list its snapshots");
            let Some(domain) = find(site, workspace)? else { return Err(missing().into()) };
            let Some(snapshot) = lookup(&domain, &name)? else { return Err(missing().into()) };
            Ok(snapshot.revert(0)?)
        })?;
        self.inspect()
    }

    /// Drops a snapshot; absent is success.
    pub fn snapshot_remove(&self, args: &SnapshotArgs) -> Outcome<MachineStatus> {
        self.snapshot_name(&args.name)?;
        self.own()?;
        let name = args.name.clone();
        self.work("remove a snapshot", move |site, workspace| {
            let Some(domain) = find(site, workspace)? else { return Ok(()) };
            match lookup(&domain, &name)? {
                Some(snapshot) => Ok(snapshot.delete(0)?),
                None => Ok(()),
            }
        })?;
        self.inspect()
    }

    /// Its snapshots, oldest first.
    pub fn snapshots(&self) -> Outcome<SnapshotListing> {
        let mut found: Vec<(u64, String)> = self.work("list snapshots", |site, workspace| {
            let Some(domain) = find(site, workspace)? else { return Ok(Vec::new()) };
            let mut found = Vec::new();
            for snapshot in domain.list_all_snapshots(0)? {
                let described = Element::parse(&snapshot.xml_desc(0)?)?;
                found.push((described.text_at(&["creationTime"]).parse().unwrap_or(0), described.text_at(&["name"]).to_owned()));
            }
            Ok::<_, Trouble>(found)
        })?;
        found.sort();
        Ok(SnapshotListing { names: found.into_iter().map(|(_, name)| name).collect() })
    }
}
