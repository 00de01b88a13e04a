//! The domain definition as a pure function of the machine, its files and what the host is.
//!
//! Owns: every element that libvirt gets. All of it goes through an escaping writer; no text is pasted together.
//! Must not know: connections. `readback` reads the result as libvirt understood it and compares.

use crate::bundle::Saved;
use quick_xml::Writer;
use quick_xml::events::{BytesEnd, BytesStart, BytesText, Event};
use std::io;
use vws_plugin_api::doc::{BootDoc, DiskDoc, Failure, MachineDoc, NicDoc, codes};
use vws_plugin_api::sdk::Outcome;

/// Namespace of the element that marks a domain as the daemon's.
pub const NAMESPACE: &str = "urn:virtualworkspaces1";

/// What the definition needs to know of the host and of the machine's files.
#[derive(Clone, Debug)]
pub struct Frame {
    /// `kvm` or `qemu`.
    pub kind: &'static str,
    /// CPU architecture.
    pub arch: String,
    /// Machine type.
    pub machine_type: String,
    /// CPU model, `host-model` or `host-passthrough`.
    pub cpu: String,
    /// Cache of translated code under emulation.
    pub tb_cache_mib: u64,
    /// The host's folder: whose domain this is.
    pub directory: String,
    /// Kernel and initial RAM disk (may be empty), for a kernel image.
    pub kernel: Option<(String, String)>,
    /// Path of each disk, in the order of the machine's disks.
    pub disks: Vec<String>,
    /// Path of the seed.
    pub seed: String,
    /// Path of the console log.
    pub console_log: String,
    /// Path of the firmware's variables, for UEFI.
    pub nvram: String,
    /// The firmware's own file, where the machine has begun with one already; else libvirt chooses.
    pub loader: Option<String>,
    /// How large it is, where it has a memory already that says so; else the document does.
    pub now: Option<Size>,
    /// What its memory was saved with, if there is one.
    pub saved: Option<Saved>,
}

/// Name of the domain of a workspace.
pub fn domain_name(workspace: &str) -> String {
    format!("vws-{workspace}")
}

/// A workspace id in the form of a UUID.
pub fn uuid(workspace: &str) -> String {
    let part = |from: usize, to: usize| workspace.get(from..to).unwrap_or_default();
    format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))
}

/// How large a machine is, and can become without a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Size {
    /// vCPUs now.
    pub vcpus: u64,
    /// vCPUs at most.
    pub vcpus_max: u64,
    /// Memory now: the balloon need not stand at a whole MiB.
    pub memory_kib: u64,
    /// Memory at most.
    pub memory_max_kib: u64,
    /// Each vCPU, where some were plugged in later: memory goes on only under the same order.
    pub each: Vec<Vcpu>,
}

/// A vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vcpu {
    /// Whether the machine has it now.
    pub enabled: bool,
    /// Whether it can be plugged in and out.
    pub pluggable: bool,
    /// In which order it came, from 1; 0 for none.
    pub order: u64,
}

impl Size {
    /// As the document says.
    pub fn of(machine: &MachineDoc) -> Self {
        Self {
            vcpus: machine.vcpus,
            vcpus_max: machine.vcpus.max(machine.vcpus_max),
            memory_kib: machine.memory_mib.saturating_mul(1024),
            memory_max_kib: machine.memory_mib.max(machine.memory_max_mib).saturating_mul(1024),
            each: Vec::new(),
        }
    }
}

impl Frame {
    /// How large the machine is.
    pub fn size(&self, machine: &MachineDoc) -> Size {
        self.now.clone().unwrap_or_else(|| Size::of(machine))
    }
}

/// The host's filter for a NIC that must not speak for others, with the addresses that it may use: those of version 4, without
/// their prefixes. Without addresses the MAC alone is fixed.
pub fn filter(nic: &NicDoc) -> Option<(&'static str, Vec<&str>)> {
    if !nic.anti_spoofing {
        return None;
    }
    let addresses: Vec<_> = nic.addresses.iter().map(|address| address.split('/').next().unwrap_or_default()).collect();
    Some((if addresses.is_empty() { "no-mac-spoofing" } else { "clean-traffic" }, addresses))
}

/// A NIC alone, to change a running machine's.
pub fn nic(nic: &NicDoc) -> Outcome<String> {
    let mut tree = Tree::new();
    interface(&mut tree, nic).map_err(|error| Failure::new(codes::INTERNAL, format!("NIC XML: {error}")))?;
    tree.finish()
}

/// The device name of the disk with this index: vda, vdb, ...
pub fn target(index: usize) -> String {
    let mut name = String::new();
    let mut rest = index + 1;
    while rest > 0 {
        let digit = u8::try_from((rest - 1) % 26).unwrap_or(0);
        name.insert(0, char::from(b'a' + digit));
        rest = (rest - 1) / 26;
    }
    format!("vd{name}")
}

/// An element's attributes.
type Attributes<'a> = &'a [(&'a str, &'a str)];

/// Writes elements one inside the other.
pub struct Tree {
    writer: Writer<Vec<u8>>,
}

impl Tree {
    /// An empty document.
    pub fn new() -> Self {
        Self { writer: Writer::new_with_indent(Vec::new(), b' ', 2) }
    }

    /// An element with children.
    pub fn parent(
        &mut self,
        name: &str,
        attributes: Attributes<'_>,
        children: impl FnOnce(&mut Self) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut start = BytesStart::new(name);
        start.extend_attributes(attributes.iter().copied());
        self.writer.write_event(Event::Start(start))?;
        children(self)?;
        self.writer.write_event(Event::End(BytesEnd::new(name)))
    }

    /// An element with nothing in it.
    pub fn leaf(&mut self, name: &str, attributes: Attributes<'_>) -> io::Result<()> {
        let mut start = BytesStart::new(name);
        start.extend_attributes(attributes.iter().copied());
        self.writer.write_event(Event::Empty(start))
    }

    /// An element with a text in it.
    pub fn text(&mut self, name: &str, attributes: Attributes<'_>, text: &str) -> io::Result<()> {
        let mut start = BytesStart::new(name);
        start.extend_attributes(attributes.iter().copied());
        self.writer.write_event(Event::Start(start))?;
        self.writer.write_event(Event::Text(BytesText::new(text)))?;
        self.writer.write_event(Event::End(BytesEnd::new(name)))
    }

    /// The document.
    pub fn finish(self) -> Outcome<String> {
        String::from_utf8(self.writer.into_inner()).map_err(|error| Failure::new(codes::INTERNAL, format!("domain XML: {error}")))
    }
}

/// A text that XML can carry: control characters that it cannot are refused, never dropped.
fn carried<'a>(what: &str, text: &'a str) -> Outcome<&'a str> {
    let fits = |c: char| c == '\t' || c == '\n' || (c >= ' ' && !matches!(c, '\u{7f}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}'));
    match text.chars().find(|c| !fits(*c)) {
        None => Ok(text),
        Some(c) => Err(Failure::new(
            codes::INVALID,
            format!("it contains the character U+{:04X}, which a machine's definition cannot carry", u32::from(c)),
        )
        .about(what.to_owned())
        .remedy("leave control characters out")),
    }
}

/// The definition of `machine`.
pub fn domain(machine: &MachineDoc, frame: &Frame) -> Outcome<String> {
    carried("name of the workspace", &machine.name)?;
    if let BootDoc::Kernel { cmdline, .. } = &machine.boot {
        carried("kernel command line", cmdline)?;
    }
    for nic in &machine.nics {
        carried("source of a NIC", &nic.source)?;
    }
    for path in frame.disks.iter().chain([&frame.seed, &frame.console_log, &frame.directory]) {
        carried("path in the host's folder", path)?;
    }
    let mut tree = Tree::new();
    tree.parent("domain", &[("type", frame.kind)], |tree| {
        tree.text("name", &[], &domain_name(&machine.workspace))?;
        tree.text("uuid", &[], &uuid(&machine.workspace))?;
        tree.parent("metadata", &[], |tree| {
            tree.leaf(
                "vws:workspace",
                &[
                    ("xmlns:vws", NAMESPACE),
                    ("name", &machine.name),
                    ("deployment", &machine.deployment.to_string()),
                    ("directory", &frame.directory),
                ],
            )?;
            frame.saved.as_ref().map_or(Ok(()), |saved| saved.write(tree))
        })?;
        // The ceilings are what it is given at its start; what it has now is less by the balloon and by CPUs not plugged in.
        let size = frame.size(machine);
        tree.text("memory", &[("unit", "KiB")], &size.memory_max_kib.to_string())?;
        tree.text("currentMemory", &[("unit", "KiB")], &size.memory_kib.to_string())?;
        let now = size.vcpus.to_string();
        let mut attributes = vec![("placement", "static")];
        if size.vcpus_max > size.vcpus {
            attributes.push(("current", now.as_str()));
        }
        tree.text("vcpu", &attributes, &size.vcpus_max.to_string())?;
        if !size.each.is_empty() {
            tree.parent("vcpus", &[], |tree| size.each.iter().enumerate().try_for_each(|(id, vcpu)| plugged(tree, id, *vcpu)))?;
        }
        if machine.cpu_shares > 0 {
            tree.parent("cputune", &[], |tree| tree.text("shares", &[], &machine.cpu_shares.to_string()))?;
        }
        boot(tree, machine, frame)?;
        tree.parent("features", &[], |tree| {
            tree.leaf("acpi", &[])?;
            tree.leaf("apic", &[])?;
            if frame.kind == "qemu" {
                tree.parent("tcg", &[], |tree| tree.text("tb-cache", &[("unit", "MiB")], &frame.tb_cache_mib.to_string()))?;
            }
            Ok(())
        })?;
        match frame.cpu.as_str() {
            mode @ ("host-model" | "host-passthrough") => tree.leaf("cpu", &[("mode", mode)])?,
            model => tree.parent("cpu", &[("mode", "custom"), ("match", "exact"), ("check", "none")], |tree| {
                tree.text("model", &[("fallback", "forbid")], model)
            })?,
        }
        tree.leaf("clock", &[("offset", "utc")])?;
        tree.text("on_poweroff", &[], "destroy")?;
        tree.text("on_reboot", &[], "restart")?;
        tree.text("on_crash", &[], "destroy")?;
        tree.parent("devices", &[], |tree| devices(tree, machine, frame))
    })
    .map_err(|error| Failure::new(codes::INTERNAL, format!("domain XML: {error}")))?;
    tree.finish()
}

fn plugged(tree: &mut Tree, id: usize, vcpu: Vcpu) -> io::Result<()> {
    let yes = |yes: bool| if yes { "yes" } else { "no" };
    let (id, order) = (id.to_string(), vcpu.order.to_string());
    let mut attributes = vec![("id", id.as_str()), ("enabled", yes(vcpu.enabled)), ("hotpluggable", yes(vcpu.pluggable))];
    if vcpu.order > 0 {
        attributes.push(("order", &order));
    }
    tree.leaf("vcpu", &attributes)
}

fn boot(tree: &mut Tree, machine: &MachineDoc, frame: &Frame) -> io::Result<()> {
    let kind = |tree: &mut Tree| tree.text("type", &[("arch", &frame.arch), ("machine", &frame.machine_type)], "hvm");
    match &machine.boot {
        BootDoc::Disk { firmware } if firmware == "uefi" => {
            let chosen: Attributes<'_> = if frame.loader.is_some() { &[] } else { &[("firmware", "efi")] };
            tree.parent("os", chosen, |tree| {
                kind(tree)?;
                match &frame.loader {
                    Some(loader) => tree.text("loader", &[("readonly", "yes"), ("type", "pflash")], loader)?,
                    None => {
                        tree.parent("firmware", &[], |tree| tree.leaf("feature", &[("enabled", "no"), ("name", "secure-boot")]))?
                    }
                }
                tree.text("nvram", &[], &frame.nvram)?;
                tree.leaf("boot", &[("dev", "hd")])
            })
        }
        BootDoc::Disk { .. } => tree.parent("os", &[], |tree| {
            kind(tree)?;
            tree.leaf("boot", &[("dev", "hd")])
        }),
        BootDoc::Kernel { cmdline, .. } => tree.parent("os", &[], |tree| {
            kind(tree)?;
            if let Some((kernel, initrd)) = &frame.kernel {
                tree.text("kernel", &[], kernel)?;
                if !initrd.is_empty() {
                    tree.text("initrd", &[], initrd)?;
                }
                if !cmdline.is_empty() {
                    tree.text("cmdline", &[], cmdline)?;
                }
            }
            Ok(())
        }),
    }
}

fn devices(tree: &mut Tree, machine: &MachineDoc, frame: &Frame) -> io::Result<()> {
    for (index, (disk, path)) in machine.disks.iter().zip(&frame.disks).enumerate() {
        tree.parent("disk", &[("type", "file"), ("device", "disk")], |tree| {
            // `none`: the host's page cache holds nothing that a crash could lose; `unmap`: what a guest frees is freed.
            tree.leaf("driver", &[("name", "qemu"), ("type", "qcow2"), ("cache", "none"), ("discard", "unmap")])?;
            tree.leaf("source", &[("file", path)])?;
            tree.leaf("target", &[("dev", &target(index)), ("bus", "virtio")])?;
            limits(tree, disk)?;
            tree.text("serial", &[], &disk.name)
        })?;
    }
    tree.parent("disk", &[("type", "file"), ("device", "disk")], |tree| {
        tree.leaf("driver", &[("name", "qemu"), ("type", "raw")])?;
        tree.leaf("source", &[("file", &frame.seed)])?;
        tree.leaf("target", &[("dev", &target(machine.disks.len())), ("bus", "virtio")])?;
        tree.leaf("readonly", &[])?;
        tree.text("serial", &[], "seed")
    })?;
    tree.leaf("controller", &[("type", "usb"), ("index", "0"), ("model", "none")])?;
    for nic in &machine.nics {
        interface(tree, nic)?;
    }
    // The log keeps what the guest said before anybody attached.
    tree.parent("serial", &[("type", "pty")], |tree| {
        tree.leaf("log", &[("file", &frame.console_log), ("append", "on")])?;
        tree.leaf("target", &[("port", "0")])
    })?;
    tree.parent("console", &[("type", "pty")], |tree| {
        tree.leaf("log", &[("file", &frame.console_log), ("append", "on")])?;
        tree.leaf("target", &[("type", "serial"), ("port", "0")])
    })?;
    tree.leaf("memballoon", &[("model", "virtio")])?;
    tree.parent("rng", &[("model", "virtio")], |tree| tree.text("backend", &[("model", "random")], "/dev/urandom"))
}

fn limits(tree: &mut Tree, disk: &DiskDoc) -> io::Result<()> {
    if disk.iops == 0 && disk.kib_per_second == 0 {
        return Ok(());
    }
    tree.parent("iotune", &[], |tree| {
        if disk.kib_per_second > 0 {
            tree.text("total_bytes_sec", &[], &disk.kib_per_second.saturating_mul(1024).to_string())?;
        }
        if disk.iops > 0 {
            tree.text("total_iops_sec", &[], &disk.iops.to_string())?;
        }
        Ok(())
    })
}

fn interface(tree: &mut Tree, nic: &NicDoc) -> io::Result<()> {
    tree.parent("interface", &[("type", &nic.kind)], |tree| {
        tree.leaf("mac", &[("address", &nic.mac)])?;
        match nic.kind.as_str() {
            "bridge" => tree.leaf("source", &[("bridge", &nic.source)])?,
            "network" => tree.leaf("source", &[("network", &nic.source)])?,
            _ => {}
        }
        tree.leaf("model", &[("type", "virtio")])?;
        if let Some((name, addresses)) = filter(nic) {
            tree.parent("filterref", &[("filter", name)], |tree| {
                addresses.iter().try_for_each(|address| tree.leaf("parameter", &[("name", "IP"), ("value", address)]))
            })?;
        }
        if nic.inbound_kib_per_second > 0 || nic.outbound_kib_per_second > 0 {
            tree.parent("bandwidth", &[], |tree| {
                for (name, rate) in [("inbound", nic.inbound_kib_per_second), ("outbound", nic.outbound_kib_per_second)] {
                    if rate > 0 {
                        tree.leaf(name, &[("average", &rate.to_string())])?;
                    }
                }
                Ok(())
            })?;
        }
        Ok(())
    })
}

/// What the probe's guest has beside its boot sector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extra {
    /// Nothing.
    Nothing,
    /// A NIC with a rate limit.
    Limits,
    /// A NIC that cannot speak for others.
    Filter,
}

/// The definition of the probe's guest: a boot sector, 2 MiB of memory and, if wanted, a NIC.
pub fn probe_guest(name: &str, kind: &str, arch: &str, machine: &str, disk: &str, serial: &str, extra: Extra) -> Outcome<String> {
    let mut tree = Tree::new();
    tree.parent("domain", &[("type", kind)], |tree| {
        tree.text("name", &[], name)?;
        tree.text("memory", &[("unit", "MiB")], "2")?;
        tree.text("vcpu", &[], "1")?;
        tree.parent("os", &[], |tree| {
            tree.text("type", &[("arch", arch), ("machine", machine)], "hvm")?;
            tree.leaf("boot", &[("dev", "hd")])
        })?;
        tree.parent("features", &[], |tree| {
            tree.leaf("acpi", &[])?;
            if kind == "qemu" {
                tree.parent("tcg", &[], |tree| tree.text("tb-cache", &[("unit", "MiB")], "8"))?;
            }
            Ok(())
        })?;
        tree.text("on_poweroff", &[], "destroy")?;
        tree.text("on_reboot", &[], "destroy")?;
        tree.text("on_crash", &[], "destroy")?;
        tree.parent("devices", &[], |tree| {
            tree.parent("disk", &[("type", "file"), ("device", "disk")], |tree| {
                tree.leaf("driver", &[("name", "qemu"), ("type", "raw")])?;
                tree.leaf("source", &[("file", disk)])?;
                tree.leaf("target", &[("dev", "vda"), ("bus", "virtio")])?;
                tree.leaf("readonly", &[])
            })?;
            tree.leaf("controller", &[("type", "usb"), ("index", "0"), ("model", "none")])?;
            if extra == Extra::Filter {
                tree.parent("interface", &[("type", "ethernet")], |tree| {
                    tree.leaf("mac", &[("address", "52:54:00:76:77:73")])?;
                    tree.leaf("model", &[("type", "virtio")])?;
                    tree.parent("filterref", &[("filter", "clean-traffic")], |tree| {
                        tree.leaf("parameter", &[("name", "IP"), ("value", "192.0.2.1")])
                    })
                })?;
            }
            if extra == Extra::Limits {
                tree.parent("interface", &[("type", "ethernet")], |tree| {
                    tree.leaf("model", &[("type", "virtio")])?;
                    tree.parent("bandwidth", &[], |tree| {
                        tree.leaf("inbound", &[("average", "1024")])?;
                        tree.leaf("outbound", &[("average", "1024")])
                    })
                })?;
            }
            tree.parent("serial", &[("type", "pty")], |tree| {
                tree.leaf("log", &[("file", serial), ("append", "on")])?;
                tree.leaf("target", &[("port", "0")])
            })?;
            tree.leaf("memballoon", &[("model", "none")])
        })
    })
    .map_err(|error| Failure::new(codes::INTERNAL, format!("domain XML: {error}")))?;
    tree.finish()
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use proptest::prelude::*;
    use vws_plugin_api::doc::{DiskSourceDoc, SeedDoc};

    pub fn machine() -> MachineDoc {
        MachineDoc {
            workspace: "0123456789abcdef0123456789abcdef".into(),
            name: "demo".into(),
            vcpus: 2,
            cpu_shares: 0,
            memory_mib: 256,
            vcpus_max: 0,
            memory_max_mib: 0,
            boot: BootDoc::Disk { firmware: "bios".into() },
            disks: vec![DiskDoc {
                name: "disk-0".into(),
                source: DiskSourceDoc::Image { digest: "d".repeat(64), format: "qcow2".into() },
                size_mib: 0,
                iops: 0,
                kib_per_second: 0,
            }],
            nics: vec![],
            seed: SeedDoc::default(),
            deployment: 1,
        }
    }

    pub fn frame(machine: &MachineDoc) -> Frame {
        Frame {
            kind: "qemu",
            arch: "x86_64".into(),
            machine_type: "pc".into(),
            cpu: "qemu64".into(),
            tb_cache_mib: 32,
            directory: "/srv/vws".into(),
            kernel: None,
            disks: machine.disks.iter().map(|disk| format!("/srv/vws/workspaces/w/{}.qcow2", disk.name)).collect(),
            seed: "/srv/vws/workspaces/w/seed.img".into(),
            console_log: "/srv/vws/workspaces/w/console.log".into(),
            nvram: "/srv/vws/workspaces/w/nvram.fd".into(),
            loader: None,
            now: None,
            saved: None,
        }
    }

    /// Compares with the golden file, or writes it when `VWS_GOLDEN=1`.
    fn golden(name: &str, xml: &str) {
        let path = format!("{}/tests/golden/{name}.xml", env!("CARGO_MANIFEST_DIR"));
        if std::env::var_os("VWS_GOLDEN").is_some() {
            std::fs::create_dir_all(format!("{}/tests/golden", env!("CARGO_MANIFEST_DIR"))).unwrap();
            std::fs::write(&path, format!("{xml}\n")).unwrap();
        }
        assert_eq!(format!("{xml}\n"), std::fs::read_to_string(&path).unwrap(), "{path}: run with VWS_GOLDEN=1 to accept");
    }

    #[test]
    fn a_disk_machine() {
        let machine = machine();
        golden("disk", &domain(&machine, &frame(&machine)).unwrap());
    }

    #[test]
    fn a_kernel_machine_with_everything() {
        let mut machine = machine();
        machine.boot =
            BootDoc::Kernel { kernel: "k".repeat(64), initrd: "i".repeat(64), cmdline: "console=ttyS0 a='b' & <c>".into() };
        machine.cpu_shares = 512;
        machine.disks[0].iops = 100;
        machine.disks[0].kib_per_second = 2048;
        machine.disks.push(DiskDoc {
            name: "disk-1".into(),
            source: DiskSourceDoc::Empty,
            size_mib: 64,
            iops: 0,
            kib_per_second: 0,
        });
        let nic = |kind: &str, source: &str, rate| NicDoc {
            mac: "52:54:00:00:00:01".into(),
            kind: kind.into(),
            source: source.into(),
            inbound_kib_per_second: rate,
            outbound_kib_per_second: rate,
            addresses: Vec::new(),
            anti_spoofing: false,
            dhcp: false,
        };
        machine.nics = vec![nic("user", "", 0), nic("bridge", "br0", 128), nic("network", "default", 256)];
        let mut frame = frame(&machine);
        frame.kind = "kvm";
        frame.cpu = "host-model".into();
        frame.kernel = Some(("/srv/vws/images/k".into(), "/srv/vws/images/i".into()));
        golden("kernel", &domain(&machine, &frame).unwrap());
    }

    #[test]
    fn a_uefi_machine() {
        let mut machine = machine();
        machine.boot = BootDoc::Disk { firmware: "uefi".into() };
        golden("uefi", &domain(&machine, &frame(&machine)).unwrap());
    }

    #[test]
    fn disks_are_named_like_libvirt_names_them() {
        assert_eq!([0, 1, 25, 26, 27, 701, 702].map(target).join(" "), "vda vdb vdz vdaa vdab vdzz vdaaa");
    }

    proptest! {
        /// Whatever a text says, the document has the same elements, and the text comes back unchanged.
        #[test]
        fn hostile_texts_stay_texts(name in "\\PC{0,40}", cmdline in any::<String>(), source in any::<String>()) {
            let mut machine = machine();
            machine.name = name.clone();
            machine.boot = BootDoc::Kernel { kernel: "k".into(), initrd: String::new(), cmdline: cmdline.clone() };
            machine.nics = vec![NicDoc { mac: "52:54:00:00:00:01".into(), kind: "bridge".into(), source: source.clone(), inbound_kib_per_second: 0, outbound_kib_per_second: 0, addresses: Vec::new(), anti_spoofing: false, dhcp: false }];
            let mut frame = frame(&machine);
            frame.kernel = Some(("/k".into(), String::new()));
            let Ok(xml) = domain(&machine, &frame) else { return Ok(()) };
            let read = crate::readback::Element::parse(&xml).unwrap();
            let plain = { let mut m = machine.clone(); m.name = "n".into(); m.nics[0].source = "s".into(); m.boot = BootDoc::Kernel { kernel: "k".into(), initrd: String::new(), cmdline: if cmdline.is_empty() { String::new() } else { "c".into() } }; m };
            let same = crate::readback::Element::parse(&domain(&plain, &frame).unwrap()).unwrap();
            prop_assert_eq!(read.count(), same.count());
            let mark = read.at(&["metadata", "vws:workspace"]).unwrap();
            prop_assert_eq!(mark.attribute("name"), name);
            prop_assert_eq!(read.text_at(&["os", "cmdline"]).trim(), cmdline.trim());
            prop_assert_eq!(read.at(&["devices", "interface", "source"]).unwrap().attribute("bridge"), source);
        }
    }
}
