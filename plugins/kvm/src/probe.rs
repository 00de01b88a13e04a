//! What the host can really do: seen by booting a tiny guest, remembered until the host changes.
//!
//! Owns: the choice of the accelerator, the capabilities and their reasons. `/dev/kvm`, its ioctls and libvirt's own
//! capabilities can all say "kvm works" on a host where no kernel boots under it; only a guest that ran counts.
//! Must not know: workspaces.

use crate::bootsector;
use crate::host::{Host, lock};
use crate::machine;
use crate::network;
use crate::readback::Element;
use crate::settings::Accelerator;
use crate::xml::{self, Extra};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use virt_sys as sys;
use vws_plugin_api::doc::{Failure, HostFacts, Retry, capabilities, codes};
use vws_plugin_api::sdk::{Call, Outcome};

/// Names of the probe's own guests begin so.
pub const GUEST_PREFIX: &str = "vws-probe-";
/// How often the guest's marks are read.
const GLANCE: Duration = Duration::from_millis(20);
/// Room that a test guest needs.
const LEAST_BYTES: u64 = 64 << 10;
/// Longest remembered result that is read.
const MOST_BYTES: usize = 64 << 10;

/// Whose result it is: another libvirt, emulator or setting is another host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    host_uuid: String,
    libvirt: u32,
    emulator: u32,
    machine: String,
    accelerator: String,
    boot_sector: u32,
}

/// What a probe saw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    identity: Identity,
    /// `kvm` or `emulation`.
    pub accelerator: String,
    /// Why.
    pub reason: String,
    /// CPU architecture.
    pub arch: String,
    /// Whether the connection is to a user's own libvirt.
    session: bool,
    cpu_shares: String,
    nic_limits: String,
    anti_spoofing: String,
    cpus: Vec<String>,
    machines: Vec<String>,
    /// Files of firmware that libvirt offers.
    pub loaders: Vec<String>,
    uefi: String,
}

impl Seen {
    /// Whether guests run with KVM.
    pub fn is_kvm(&self) -> bool {
        self.accelerator == "kvm"
    }

    /// libvirt's name of it.
    pub fn domain_type(&self) -> &'static str {
        if self.is_kvm() { "kvm" } else { "qemu" }
    }

    /// Emulator and its version.
    pub fn emulator(&self) -> String {
        format!("QEMU {}", dotted(self.identity.emulator))
    }

    /// Emulator, libvirt and their versions.
    pub fn hypervisor(&self) -> String {
        format!("{}, libvirt {}", self.emulator(), dotted(self.identity.libvirt))
    }
}

fn dotted(version: u32) -> String {
    format!("{}.{}.{}", version / 1_000_000, version / 1_000 % 1_000, version % 1_000)
}

/// Volume that remembers what was seen: hosts may share a folder.
fn remembered(claims: &Claims) -> String {
    format!("vws-seen-{}.json", claims.identity.host_uuid)
}

/// What libvirt says without a guest.
struct Claims {
    identity: Identity,
    arch: String,
    offers_kvm: bool,
    session: bool,
    /// CPU models that guests can have, with the offered domain type.
    cpus: Vec<String>,
    /// Machine types of the emulator, aliases included.
    machines: Vec<String>,
    loaders: Vec<String>,
    uefi: String,
}

fn claims(host: &Arc<Host>, call: &Call) -> Outcome<Claims> {
    let machine = host.settings.machine.clone();
    let (capabilities, uri, libvirt, emulator, domain) =
        host.run(call, "ask for the host's capabilities", &host.object(), move |connection| {
            let domain = connection.domain_capabilities(None, None, Some(&machine), None, 0);
            Ok((connection.capabilities()?, connection.uri()?, connection.lib_version()?, connection.hyp_version()?, domain))
        })?;
    let element = Element::parse(&capabilities)?;
    let arch = element.text_at(&["host", "cpu", "arch"]).to_owned();
    let offers_kvm = element
        .all("guest")
        .filter_map(|guest| guest.at(&["arch"]))
        .filter(|offered| offered.attribute("name") == arch)
        .any(|offered| offered.all("domain").any(|domain| domain.attribute("type") == "kvm"));
    let mut cpus = Vec::new();
    let mut loaders = Vec::new();
    let uefi = match domain {
        Ok(xml) => {
            let domain = Element::parse(&xml)?;
            cpus = usable_cpus(&domain);
            loaders = domain
                .at(&["os", "loader"])
                .map_or_else(Vec::new, |loader| loader.all("value").map(|value| value.text().to_owned()).collect());
            let offered = domain.at(&["os"]).is_some_and(|os| {
                os.all("enum")
                    .filter(|list| list.attribute("name") == "firmware")
                    .any(|list| list.all("value").any(|value| value.text() == "efi"))
            });
            if offered {
                String::new()
            } else {
                format!("there is no UEFI firmware for machine type `{}`; install the package ovmf", host.settings.machine)
            }
        }
        Err(error) => format!("libvirt knows nothing of machine type `{}`: {}", host.settings.machine, error.message()),
    };
    Ok(Claims {
        identity: Identity {
            host_uuid: element.text_at(&["host", "uuid"]).to_owned(),
            libvirt,
            emulator,
            machine: host.settings.machine.clone(),
            accelerator: format!("{:?}", host.settings.accelerator).to_lowercase(),
            boot_sector: 2,
        },
        machines: machines(&element, &arch),
        cpus,
        loaders,
        arch,
        offers_kvm,
        session: uri.split('?').next().is_some_and(|path| path.ends_with("/session")),
        uefi,
    })
}

/// Machine types of the emulator for this architecture.
fn machines(capabilities: &Element, arch: &str) -> Vec<String> {
    let mut machines: Vec<String> = capabilities
        .all("guest")
        .filter_map(|guest| guest.at(&["arch"]))
        .filter(|offered| offered.attribute("name") == arch)
        .flat_map(|offered| offered.all("machine"))
        .map(|machine| machine.text().to_owned())
        .collect();
    machines.sort();
    machines.dedup();
    machines
}

/// CPU models and modes that a guest can have.
fn usable_cpus(domain: &Element) -> Vec<String> {
    let Some(cpu) = domain.at(&["cpu"]) else { return Vec::new() };
    let mut usable = Vec::new();
    for mode in cpu.all("mode").filter(|mode| mode.attribute("supported") == "yes") {
        match mode.attribute("name") {
            "custom" => usable.extend(
                mode.all("model").filter(|model| model.attribute("usable") == "yes").map(|model| model.text().to_owned()),
            ),
            other => usable.push(other.to_owned()),
        }
    }
    usable.sort();
    usable
}

/// What the last probe saw: in memory, in the host's folder, or by a probe now.
pub fn seen(host: &Arc<Host>, call: &Call) -> Outcome<Seen> {
    if let Some(seen) = lock(&host.seen).clone() {
        return Ok(seen);
    }
    look(host, false, call)
}

fn look(host: &Arc<Host>, fresh: bool, call: &Call) -> Outcome<Seen> {
    let _one_at_a_time = lock(&host.probing);
    let claims = claims(host, call)?;
    let name = remembered(&claims);
    let asked = name.clone();
    let known = host.run(call, "read what an earlier probe saw", &host.object(), move |site| {
        let Some(volume) = site.find(&asked)? else { return Ok(Vec::new()) };
        site.head(&volume, MOST_BYTES)
    })?;
    // What was cut short is looked at anew.
    let known: Option<Seen> = serde_json::from_slice(&known).ok();
    let seen = match known.filter(|seen| !fresh && seen.identity == claims.identity) {
        // Firmware comes and goes with packages; a guest is not needed to see it.
        Some(seen) => Seen { uefi: claims.uefi, loaders: claims.loaders, ..seen },
        None => {
            let seen = boot(host, claims, call)?;
            let bytes = serde_json::to_vec_pretty(&seen)
                .map_err(|error| Failure::new(codes::INTERNAL, format!("cannot write the probe's result: {error}")))?;
            host.work(call, "remember what the probe saw", &host.object(), move |site, _gauge| site.write(&name, &bytes))?;
            seen
        }
    };
    *lock(&host.seen) = Some(seen.clone());
    Ok(seen)
}

/// How a guest did.
struct Run {
    marks: String,
    took: Duration,
    /// Why libvirt did not start it.
    refused: Option<String>,
    cpu_shares: String,
}

impl Run {
    fn works(&self) -> bool {
        self.marks == bootsector::DONE
    }

    fn sentence(&self, how: &str) -> String {
        match &self.refused {
            Some(refused) => format!("a test guest could not be started under {how}: {refused}"),
            None if self.works() => format!("a test guest ran under {how} in {} ms", self.took.as_millis()),
            None => format!(
                "a test guest under {how} did not come to its end within {} ms: {}",
                self.took.as_millis(),
                bootsector::missed(&self.marks)
            ),
        }
    }
}

fn boot(host: &Arc<Host>, claims: Claims, call: &Call) -> Outcome<Seen> {
    if claims.arch != "x86_64" {
        return Err(Failure::new(
            codes::UNSUPPORTED,
            format!("its CPUs are {}; this backend runs guests on x86_64", claims.arch),
        )
        .about(host.object()));
    }
    let wanted = host.settings.accelerator;
    let mut said = Vec::new();
    let mut works = None;
    if wanted != Accelerator::Emulation {
        if claims.offers_kvm {
            call.progress("boot a test guest under kvm", 0, 2);
            let run = guest(host, &claims.arch, "kvm", call)?;
            let verdict = run.sentence("kvm");
            if run.works() {
                said.push(verdict);
                works = Some(("kvm", run));
            } else {
                said.push(format!("libvirt offers kvm, but {verdict}"));
            }
        } else {
            said.push("libvirt offers no kvm: there is no usable /dev/kvm on the host".to_owned());
        }
    } else {
        said.push("emulation is configured".to_owned());
    }
    if works.is_none() && wanted == Accelerator::Kvm {
        return Err(Failure::new(codes::HYPERVISOR, said.join("; "))
            .about(host.object())
            .remedy("set `accelerator` to `probe` or `emulation`, or repair KVM on the host"));
    }
    if works.is_none() {
        call.progress("boot a test guest under emulation", 1, 2);
        let run = guest(host, &claims.arch, "qemu", call)?;
        said.push(run.sentence("emulation"));
        if !run.works() {
            return Err(Failure::new(codes::HYPERVISOR, said.join("; "))
                .about(host.object())
                .remedy("see the log of libvirt on the host; if the host is only slow, raise `probe_deadline_ms`")
                .retry(Retry::Later));
        }
        works = Some(("emulation", run));
    }
    let (accelerator, run) = works.ok_or_else(|| Failure::new(codes::INTERNAL, "no accelerator was tried"))?;
    let kind = if accelerator == "kvm" { "kvm" } else { "qemu" };
    let (nic_limits, anti_spoofing) = if claims.session {
        let reason = |what: &str| format!("a session libvirt has no right to {what}");
        (reason("shape traffic"), reason("filter traffic"))
    } else {
        let of = |extra| special_nic(host, &claims.arch, kind, extra, call);
        (of(Extra::Limits)?, of(Extra::Filter)?)
    };
    Ok(Seen {
        accelerator: accelerator.to_owned(),
        reason: said.join("; "),
        arch: claims.arch,
        session: claims.session,
        cpu_shares: run.cpu_shares,
        nic_limits,
        anti_spoofing,
        cpus: claims.cpus,
        machines: claims.machines,
        loaders: claims.loaders,
        uefi: claims.uefi,
        identity: claims.identity,
    })
}

/// The files of one test guest; removed in the end.
struct Files<'a> {
    host: &'a Arc<Host>,
    name: String,
}

impl<'a> Files<'a> {
    fn make(host: &'a Arc<Host>, call: &Call) -> Outcome<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("{GUEST_PREFIX}{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let files = Self { host, name };
        let (disk, log) = (files.disk(), files.log());
        host.work(call, "write the test guest", &host.object(), move |site, _gauge| {
            // A guest whose words find no room looks like one that says nothing.
            let free = site.free_bytes()?;
            if free < LEAST_BYTES {
                return Err(Failure::new(
                    codes::NO_SPACE,
                    format!("{free} bytes are free in its storage, a test guest needs {LEAST_BYTES}"),
                )
                .remedy("free space in the host's storage, or remove images that no workspace uses")
                .retry(Retry::Later)
                .into());
            }
            site.write(&disk, &bootsector::image())?;
            site.create_anew(&log).map(drop)
        })?;
        Ok(files)
    }

    fn disk(&self) -> String {
        format!("{}.img", self.name)
    }

    fn log(&self) -> String {
        format!("{}.log", self.name)
    }

    fn marks(&self, call: &Call) -> Outcome<String> {
        let log = self.log();
        let bytes = self.host.run(call, "read what the test guest said", &self.host.object(), move |site| {
            let Some(volume) = site.find(&log)? else { return Ok(Vec::new()) };
            site.head(&volume, MOST_BYTES)
        })?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Starts the guest.
    fn start(&self, arch: &str, kind: &'static str, extra: Extra, flags: u32, call: &Call) -> Outcome<()> {
        let (name, disk, log, arch) = (self.name.clone(), self.disk(), self.log(), arch.to_owned());
        let machine = self.host.settings.machine.clone();
        self.host.work(call, "start a test guest", &self.host.object(), move |site, _gauge| {
            let xml = xml::probe_guest(&name, kind, &arch, &machine, &site.path(&disk), &site.path(&log), extra)?;
            // Destroyed by libvirt itself if this process goes away meanwhile.
            Ok(site.create_domain_xml(&xml, sys::VIR_DOMAIN_START_AUTODESTROY | flags).map(drop)?)
        })
    }
}

impl Drop for Files<'_> {
    /// A test guest that does not end is ended by libvirt together with the connection.
    fn drop(&mut self) {
        let (name, files) = (self.name.clone(), [self.disk(), self.log()]);
        let _ended_with_the_connection = self.host.run_own("end the test guest", &self.host.object(), move |site| {
            if let Ok(domain) = site.lookup_domain_by_name(&name) {
                domain.destroy()?;
            }
            files.iter().try_for_each(|file| site.remove(file))
        });
    }
}

/// Boots the test guest and waits for its marks.
fn guest(host: &Arc<Host>, arch: &str, kind: &'static str, call: &Call) -> Outcome<Run> {
    let files = Files::make(host, call)?;
    let object = host.object();
    let mut run = Run { marks: String::new(), took: Duration::ZERO, refused: None, cpu_shares: String::new() };
    match files.start(arch, kind, Extra::Nothing, 0, call) {
        Ok(()) => {}
        Err(failure) if failure.code == codes::HYPERVISOR || failure.code == codes::UNSUPPORTED => {
            run.refused = Some(failure.message);
            return Ok(run);
        }
        Err(failure) => return Err(failure),
    }
    let began = Instant::now();
    let deadline = Duration::from_millis(host.settings.probe_deadline_ms);
    while run.marks != bootsector::DONE && began.elapsed() < deadline {
        call.check().map_err(|failure| failure.about(object.clone()))?;
        std::thread::sleep(GLANCE);
        run.marks = files.marks(call)?;
    }
    run.took = began.elapsed();
    let name = files.name.clone();
    run.cpu_shares = host.run(call, "look at a test guest", &object, move |site| {
        let domain = site.lookup_domain_by_name(&name)?;
        Ok(domain.scheduler_type().map_or_else(|error| one_line(error.message()), |_| String::new()))
    })?;
    Ok(run)
}

/// Whether a NIC of this kind can be had: the reason why not.
fn special_nic(host: &Arc<Host>, arch: &str, kind: &'static str, extra: Extra, call: &Call) -> Outcome<String> {
    let files = Files::make(host, call)?;
    match files.start(arch, kind, extra, sys::VIR_DOMAIN_START_PAUSED, call) {
        Ok(()) => Ok(String::new()),
        Err(failure) if [codes::CANCELLED, codes::TIMED_OUT, codes::UNREACHABLE].contains(&failure.code.as_str()) => Err(failure),
        Err(failure) => Ok(one_line(&failure.message)),
    }
}

/// What libvirt said, as a reason: one line.
fn one_line(said: &str) -> String {
    said.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Why the host cannot do or enforce what `need` names; nothing if it can.
pub fn ability(host: &Arc<Host>, need: &str, call: &Call) -> Outcome<Option<String>> {
    let seen = seen(host, call)?;
    let reason = if need == capabilities::NIC_NETWORK && !seen.session {
        // Which one is there is seen when the machine is made.
        String::new()
    } else {
        static_abilities(&seen).get(need).map_or_else(|| "unknown to it".to_owned(), |reason| (*reason).to_owned())
    };
    Ok(Some(reason).filter(|reason| !reason.is_empty()))
}

/// Why an emulated machine keeps its vCPUs.
pub const NO_UNPLUG: &str = "under emulation QEMU never ends the removal of a vCPU, and later saves and migrations hang";

/// What does not change while the host is what it was.
fn static_abilities(seen: &Seen) -> BTreeMap<&'static str, &str> {
    let bridge = if seen.session { "a session libvirt has no right to attach guests to a bridge" } else { "" };
    let shrink = if seen.is_kvm() { "" } else { NO_UNPLUG };
    [
        (capabilities::BOOT_BIOS, ""),
        (capabilities::BOOT_UEFI, seen.uefi.as_str()),
        (capabilities::BOOT_KERNEL, ""),
        (capabilities::CPU_SHARES, &seen.cpu_shares),
        (capabilities::DISK_LIMITS, ""),
        (capabilities::NIC_LIMITS, &seen.nic_limits),
        (capabilities::NIC_LIMITS_USER, "QEMU's user-mode network has no rate limits"),
        (capabilities::NIC_USER, ""),
        (capabilities::NIC_BRIDGE, bridge),
        (capabilities::NIC_NETWORK, "a session libvirt has no networks"),
        (capabilities::PAUSE, ""),
        (capabilities::SERIALIZE, ""),
        (capabilities::CONSOLE, ""),
        (capabilities::MIGRATE, ""),
        (capabilities::RESIZE_MEMORY, ""),
        (capabilities::RESIZE_VCPUS, ""),
        (capabilities::SHRINK_VCPUS, shrink),
        (capabilities::RESIZE_DISK, ""),
        (capabilities::SNAPSHOT, ""),
        (capabilities::SNAPSHOT_MEMORY, ""),
        (capabilities::ANTI_SPOOFING, &seen.anti_spoofing),
        (capabilities::DHCP, if seen.session { "a session libvirt has no networks" } else { "" }),
        (capabilities::STATS, ""),
    ]
    .into_iter()
    .collect()
}

/// Capability -> empty, or why not.
fn abilities(host: &Arc<Host>, seen: &Seen, call: &Call) -> Outcome<BTreeMap<String, String>> {
    let mut all: BTreeMap<String, String> =
        static_abilities(seen).into_iter().map(|(name, reason)| (name.to_owned(), reason.to_owned())).collect();
    let plain = |name: &String| (name.clone(), String::new());
    let prefixed = |prefix: &str, names: &[String]| names.iter().map(|name| format!("{prefix}{name}")).collect::<Vec<_>>();
    all.extend(prefixed(capabilities::CPU, &seen.cpus).iter().map(plain));
    all.extend(prefixed(capabilities::MACHINE, &seen.machines).iter().map(plain));
    all.extend(prefixed(capabilities::ACCELERATOR, std::slice::from_ref(&seen.accelerator)).iter().map(plain));
    if !seen.session {
        let (networks, bridges) = host.run(call, "list networks and bridges", &host.object(), network::on)?;
        let none = if networks.is_empty() { "libvirt on the host has no network" } else { "" };
        all.insert(capabilities::NIC_NETWORK.to_owned(), none.to_owned());
        all.extend(prefixed(capabilities::NETWORK, &networks).iter().map(plain));
        all.extend(prefixed(capabilities::BRIDGE, &bridges).iter().map(plain));
    }
    Ok(all)
}

/// What the host is.
pub fn facts(host: &Arc<Host>, fresh: bool, call: &Call) -> Outcome<HostFacts> {
    // A changed host is seen even if nobody asked for a fresh probe.
    let seen = look(host, fresh, call)?;
    let (node, disk_gib, storage_id) = host.work(call, "ask for the host's size", &host.object(), |site, _gauge| {
        Ok((site.node_info()?, site.room_gib()?, site.identity()?))
    })?;
    Ok(HostFacts {
        hypervisor: seen.hypervisor(),
        accelerator: seen.accelerator.clone(),
        accelerator_reason: seen.reason.clone(),
        arch: seen.arch.clone(),
        vcpus: u64::from(node.cpus),
        memory_mib: node.memory / 1024,
        disk_gib,
        capabilities: abilities(host, &seen, call)?,
        foreign: machine::list(host, call)?.foreign,
        storage_id,
    })
}
