//! Live migration, from one libvirt to the other: made ready on the target, done by the source, peer to peer.
//!
//! Owns: what the target offers, the definition that the machine gets there, and the end of it: the guest runs on exactly one
//! host, and whichever it is can be asked. libvirt's check whether disks are safe to share is never switched off.
//! Must not know: which host was chosen, and why.

use crate::host::Gauge;
use crate::machine::{Machine, Virtual, check, find};
use crate::network;
use crate::probe;
use crate::readback::Element;
use crate::resize;
use crate::storage::{Site, Trouble, names};
use crate::xml::{self, Frame, target};
use crate::{bundle, events};
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use virt::connect::Connect;
use virt::domain::{Domain, MigrateParameters};
use virt::enumutil::Enum;
use virt_sys as sys;
use vws_plugin_api::doc::{
    BootDoc, Failure, MachineDoc, MachineStatus, MigrateArgs, MigratePrepare, MigrationOffer, Retry, WorkspaceForget, codes,
};
use vws_plugin_api::sdk::Outcome;

/// How often a migration is asked how far it is.
const GLANCE: Duration = Duration::from_millis(200);
/// How often a migration is begun anew because the guest's balloon moved at that very moment.
const ATTEMPTS: u32 = 10;

/// What the source has to know of the target.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Offer {
    /// Where its libvirt is reached from another host.
    uri: String,
    /// Folder of its files.
    folder: String,
    /// How guests run there.
    accelerator: String,
    /// For guests under emulation.
    tb_cache_mib: u64,
    /// Firmware that it offers.
    loaders: Vec<String>,
}

/// Where QEMU's own stream goes: to the host that libvirt is reached at, without asking what that host calls itself.
fn stream_uri(uri: &str) -> Option<String> {
    let rest = uri.split_once("://")?.1;
    let authority = rest.split(['/', '?']).next()?;
    let host = authority.rsplit('@').next()?;
    let host = match host.strip_prefix('[') {
        Some(six) => format!("[{}]", six.split(']').next()?),
        None => host.split(':').next()?.to_owned(),
    };
    (!host.is_empty()).then(|| format!("tcp://{host}"))
}

impl Machine<'_> {
    /// Makes ready to receive the machine.
    pub fn migrate_prepare(&self, args: &MigratePrepare) -> Outcome<MigrationOffer> {
        let machine = &args.machine;
        check(machine, self.host, self.call)?;
        let state = self.own()?;
        let settings = &self.host.settings;
        let uri = if settings.migrate_uri.is_empty() { settings.uri.clone() } else { settings.migrate_uri.clone() };
        let seen = probe::seen(self.host, self.call)?;
        let plan = self.plan(machine, None)?;
        let source = args.source_storage_id.clone();
        let arrived = matches!(state, Virtual::Running | Virtual::Paused(_));
        if state == Virtual::Saved {
            return Err(self
                .wrong_state("its memory is saved on this host: it cannot run elsewhere")
                .remedy("destroy what is here"));
        }
        self.call.progress("make ready to receive the machine", 0, 0);
        let (shared, folder) = self.work("make ready to receive the machine", move |site, workspace| {
            let shared = !source.is_empty() && source == site.identity()?;
            // It is here already, or on its way.
            if !arrived {
                receive(site, &plan, workspace, shared)?;
            }
            Ok((shared, site.folder.clone()))
        })?;
        if !shared && !arrived {
            self.has_seed(machine);
        }
        let offer = Offer {
            uri,
            folder,
            accelerator: seen.accelerator,
            tb_cache_mib: settings.emulation_tb_cache_mib,
            loaders: seen.loaders,
        };
        let offer = serde_json::to_value(offer).map_err(|error| Failure::new(codes::INTERNAL, error.to_string()))?;
        Ok(MigrationOffer { shared, offer })
    }

    /// Moves the running machine.
    pub fn migrate(&self, args: &MigrateArgs) -> Outcome<MachineStatus> {
        let offer: Offer = serde_json::from_value(args.offer.offer.clone()).map_err(|error| {
            Failure::new(codes::INVALID, format!("the target's offer cannot be read: {error}")).about(self.object())
        })?;
        let state = self.own()?;
        match state {
            Virtual::Running | Virtual::Paused(_) => {}
            // It has gone; where it is now, the target tells.
            Virtual::None => return Ok(self.told(&Virtual::None)),
            _ => {
                return Err(self
                    .wrong_state("it does not run: there is nothing to migrate")
                    .remedy("start it, or move its bundle"));
            }
        }
        let seen = probe::seen(self.host, self.call)?;
        if seen.accelerator != offer.accelerator {
            return Err(Failure::new(
                codes::UNSUPPORTED,
                format!("it runs under `{}` here, the target runs guests under `{}`", seen.accelerator, offer.accelerator),
            )
            .about(self.object())
            .remedy("migrate it to a host with the same accelerator"));
        }
        let own_uri = self.host.settings.uri.clone();
        let (kind, arch) = (seen.domain_type(), seen.arch.clone());
        let (machine, shared, rate) = (args.machine.clone(), args.offer.shared, args.mib_per_second);
        let moved = self.pump("migrate the machine", move |site, workspace, gauge| {
            let Some(domain) = find(site, workspace)? else { return Ok(()) };
            if under_way(&domain)? {
                return wait(site, workspace, gauge);
            }
            if domain.num_snapshots(0)? > 0 {
                return Err(Failure::new(codes::STATE, "it has snapshots, which a migration does not take along")
                    .remedy("remove its snapshots first")
                    .into());
            }
            let definition = || {
                let live = Element::parse(&domain.xml_desc(0)?)?;
                let frame = Frame {
                    kind,
                    arch: arch.clone(),
                    machine_type: live.at(&["os", "type"]).map_or("", |kind| kind.attribute("machine")).to_owned(),
                    cpu: bundle::cpu_of(&live),
                    tb_cache_mib: offer.tb_cache_mib,
                    loader: bundle::loader(&live, &machine, &offer.loaders)?,
                    now: Some(resize::size_of(&live)),
                    ..there(&offer, &machine)
                };
                Ok::<_, Trouble>(xml::domain(&machine, &frame)?)
            };
            let mut flags = sys::VIR_MIGRATE_LIVE
                | sys::VIR_MIGRATE_PEER2PEER
                | sys::VIR_MIGRATE_PERSIST_DEST
                | sys::VIR_MIGRATE_UNDEFINE_SOURCE
                | sys::VIR_MIGRATE_ABORT_ON_ERROR;
            let mut parameters = MigrateParameters {
                uri: stream_uri(&offer.uri),
                bandwidth: (rate > 0).then_some(rate),
                ..MigrateParameters::default()
            };
            if !shared && !machine.disks.is_empty() {
                // The image is there: only what the disk has of its own travels.
                flags |= sys::VIR_MIGRATE_NON_SHARED_INC;
                parameters.migrate_disks = (0..machine.disks.len()).map(target).collect();
            }
            let mut attempts = 0;
            loop {
                attempts += 1;
                let definition = definition()?;
                (parameters.persist_xml, parameters.dest_xml) = (Some(definition.clone()), Some(definition));
                let parameters = parameters.clone();
                match watched(&own_uri, workspace, gauge, || Ok(domain.migrate_to_uri3(Some(&offer.uri), parameters, flags)?)) {
                    // The balloon moved between the look and the begin.
                    Err(Trouble::Libvirt(error)) if attempts < ATTEMPTS && error.message().contains("current memory") => {}
                    other => return other,
                }
            }
        });
        if let Err(failure) = moved {
            // Whatever went wrong: where the guest is, is the truth. One that is not here has moved.
            return match self.state() {
                Ok(Virtual::None) => self.moved(&args.machine),
                // This host answers: it is the other one that was lost.
                Ok(_) if failure.code == codes::UNREACHABLE => Err(Failure {
                    code: codes::HYPERVISOR.to_owned(),
                    remedy: "see that the target is up and that this host reaches it".to_owned(),
                    ..failure
                }),
                _ => Err(failure),
            };
        }
        self.moved(&args.machine)
    }

    fn moved(&self, machine: &MachineDoc) -> Outcome<MachineStatus> {
        let machine = machine.clone();
        self.run("leave the machine's networks", move |site, _workspace| network::leave(site, &machine))?;
        match self.state()? {
            // Whoever defined it here while it moved: nothing of it stays.
            Virtual::Off(_) => self.undefine_here(false)?,
            Virtual::None => {}
            state => {
                return Err(self
                    .wrong_state(&format!("it is still {state:?} here after its migration"))
                    .remedy("try again")
                    .retry(Retry::Later));
            }
        }
        Ok(self.told(&Virtual::None))
    }

    /// Removes what is left of a machine that is elsewhere.
    pub fn forget(&self, args: &WorkspaceForget) -> Outcome<MachineStatus> {
        let state = self.own()?;
        if matches!(state, Virtual::Running | Virtual::Paused(_)) {
            return Err(self.wrong_state("it runs here").remedy("stop or destroy it, if it is not to run here"));
        }
        self.leave_networks()?;
        if args.keep_disks {
            // All of its files lie side by side, and the other host uses every one of them.
            self.undefine_here(true)?;
        } else {
            self.run("remove the machine's files", |site, workspace| {
                site.refresh()?;
                site.remove_workspace(workspace)
            })?;
            self.undefine_here(false)?;
        }
        Ok(self.told(&Virtual::None))
    }
}

/// What the definition needs to know of the machine's files on the target.
fn there(offer: &Offer, machine: &MachineDoc) -> Frame {
    let of = |name: String| format!("{}/{name}", offer.folder.trim_end_matches('/'));
    let kernel = match &machine.boot {
        BootDoc::Kernel { kernel, initrd, .. } => {
            let initrd = if initrd.is_empty() { String::new() } else { of(names::image(initrd)) };
            Some((of(names::image(kernel)), initrd))
        }
        BootDoc::Disk { .. } => None,
    };
    Frame {
        kind: "",
        arch: String::new(),
        machine_type: String::new(),
        cpu: String::new(),
        tb_cache_mib: 0,
        directory: offer.folder.clone(),
        kernel,
        disks: machine.disks.iter().map(|disk| of(names::disk(&machine.workspace, &disk.name))).collect(),
        seed: of(names::seed(&machine.workspace)),
        console_log: of(names::console(&machine.workspace)),
        nvram: of(names::nvram(&machine.workspace)),
        loader: None,
        now: None,
        saved: None,
    }
}

/// Puts everything in place that the machine finds when it arrives.
fn receive(site: &Site, plan: &crate::machine::Plan, workspace: &str, shared: bool) -> Result<(), Trouble> {
    plan.images(site)?;
    network::prepare(site, &plan.machine)?;
    if let Some(stale) = find(site, workspace)? {
        // Of an earlier life here: the machine runs elsewhere.
        stale.undefine_flags(sys::VIR_DOMAIN_UNDEFINE_KEEP_NVRAM | sys::VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA)?;
    }
    if shared {
        // The storage says that it is the same; the disks have to say so as well.
        for disk in &plan.machine.disks {
            if site.seek(&names::disk(workspace, &disk.name))?.is_none() {
                return Err(Failure::new(
                    codes::NOT_FOUND,
                    format!("its disk `{}` is not here, though both hosts name the same storage", disk.name),
                )
                .remedy("see that both hosts mount the same storage")
                .into());
            }
        }
        return Ok(());
    }
    // What an earlier attempt left would shine through: the disks begin empty above their images.
    site.remove_workspace(workspace)?;
    for disk in &plan.machine.disks {
        site.make_disk(workspace, disk)?;
    }
    plan.write_new_seed(site)?;
    site.new_log(workspace)
}

/// Whether the machine is being migrated away.
fn under_way(domain: &Domain) -> Result<bool, Trouble> {
    Ok(events::job(domain)?.is_some_and(|job| job.migrates))
}

fn tell(domain: &Domain, gauge: &Gauge) {
    // A domain that cannot be asked just now is asked again.
    if let Ok(Some(job)) = events::job(domain) {
        gauge.set(job.done, job.total);
    }
}

/// Does the long `work` of a domain; another thread tells how far it is, and gives it up when the call is given up.
/// It does so over a connection of its own.
fn watched(uri: &str, workspace: &str, gauge: &Gauge, work: impl FnOnce() -> Result<(), Trouble>) -> Result<(), Trouble> {
    let apart = Connect::open(Some(uri))?;
    let Some(domain) = find(&apart, workspace)? else { return Ok(()) };
    let domain = &domain;
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                if gauge.check().is_err() {
                    // Again and again: at the very beginning there is no job yet that could be given up.
                    let _next_time = events::abort(domain);
                }
                tell(domain, gauge);
                std::thread::park_timeout(GLANCE);
            }
        });
        let worked = work();
        done.store(true, Ordering::Relaxed);
        watcher.thread().unpark();
        worked
    })
}

/// Waits for a migration that somebody else began.
fn wait(site: &Site, workspace: &str, gauge: &Gauge) -> Result<(), Trouble> {
    loop {
        let Some(domain) = find(site, workspace)? else { return Ok(()) };
        if gauge.check().is_err() {
            events::abort(&domain)?;
            gauge.check()?;
        }
        if !under_way(&domain)? {
            let (state, _) = domain.state()?;
            if matches!(state, Enum::Known(virt::domain::DomainState::Shutoff)) {
                return Ok(());
            }
            return Err(Failure::new(codes::HYPERVISOR, "the migration that was under way has failed; it runs on here")
                .remedy("see the log of libvirt on both hosts")
                .retry(Retry::Now)
                .into());
        }
        tell(&domain, gauge);
        std::thread::sleep(GLANCE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_goes_where_libvirt_is() {
        for (uri, stream) in [
            ("qemu+tcp://10.77.0.12/system", Some("tcp://10.77.0.12")),
            ("qemu+tls://host-b:16514/system?pkipath=/x", Some("tcp://host-b")),
            ("qemu+ssh://me@host-b/system", Some("tcp://host-b")),
            ("qemu+tcp://[fd00::1]:1/system", Some("tcp://[fd00::1]")),
            ("qemu:///system", None),
            ("qemu+unix:///system?socket=/run/x", None),
        ] {
            assert_eq!(stream_uri(uri).as_deref(), stream, "{uri}");
        }
    }
}
