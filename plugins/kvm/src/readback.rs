//! What libvirt understood: its XML, read into elements, and compared with what was meant.
//!
//! Owns: the small reader and the comparison. A definition that came back different is a failure, whatever the reason: an
//! element that slipped in through a text, a member that this libvirt ignores. Must not know: connections.

use crate::xml::{Frame, domain_name, filter, target, uuid};
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use vws_plugin_api::doc::{BootDoc, Failure, MachineDoc, codes};
use vws_plugin_api::sdk::Outcome;

/// Largest XML that is read, in bytes: libvirt's own are some kilobytes.
const MOST_BYTES: usize = 4 << 20;
/// Deepest nesting that is read.
const DEEPEST: usize = 64;

/// An XML element.
#[derive(Clone, Debug, Default)]
pub struct Element {
    name: String,
    attributes: Vec<(String, String)>,
    text: String,
    children: Vec<Self>,
}

fn damaged(what: impl std::fmt::Display) -> Failure {
    Failure::new(codes::HYPERVISOR, format!("libvirt sent XML that cannot be read: {what}"))
}

impl Element {
    /// Reads a document.
    pub fn parse(xml: &str) -> Outcome<Self> {
        if xml.len() > MOST_BYTES {
            return Err(damaged(format!("{} bytes", xml.len())));
        }
        let mut reader = Reader::from_str(xml);
        let mut open = vec![Self::default()];
        loop {
            let event = reader.read_event().map_err(damaged)?;
            let top = open.len() - 1;
            match event {
                Event::Start(start) => {
                    if open.len() > DEEPEST {
                        return Err(damaged("it is nested too deeply"));
                    }
                    open.push(Self::begin(&start)?);
                }
                Event::Empty(start) => {
                    let element = Self::begin(&start)?;
                    open[top].children.push(element);
                }
                Event::End(_) => {
                    let element = open.pop().unwrap_or_default();
                    match open.last_mut() {
                        Some(parent) => parent.children.push(element),
                        None => return Err(damaged("an element ends that was not begun")),
                    }
                }
                Event::Text(text) => open[top].text.push_str(&text.xml10_content()),
                Event::CData(text) => open[top].text.push_str(&text.into_inner()),
                Event::GeneralRef(reference) => {
                    let known = match &*reference.xml10_content() {
                        "lt" => Some('<'),
                        "gt" => Some('>'),
                        "amp" => Some('&'),
                        "quot" => Some('"'),
                        "apos" => Some('\''),
                        _ => reference.resolve_char_ref().map_err(damaged)?,
                    };
                    open[top].text.push(known.ok_or_else(|| damaged("an unknown entity"))?);
                }
                Event::Eof => break,
                _ => {}
            }
        }
        match (open.len(), open.pop().and_then(|mut all| all.children.pop())) {
            (1, Some(root)) => Ok(root),
            _ => Err(damaged("it ends too early")),
        }
    }

    fn begin(start: &BytesStart<'_>) -> Outcome<Self> {
        let mut element = Self { name: start.name().as_ref().to_owned(), ..Self::default() };
        for attribute in start.attributes() {
            let attribute = attribute.map_err(damaged)?;
            let value = quick_xml::escape::unescape(&attribute.value).map_err(damaged)?;
            element.attributes.push((attribute.key.as_ref().to_owned(), value.into_owned()));
        }
        Ok(element)
    }

    /// Its own text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The children of this name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Self> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// The first element on this way down.
    pub fn at(&self, way: &[&str]) -> Option<&Self> {
        way.iter().try_fold(self, |element, name| element.children.iter().find(|child| child.name == *name))
    }

    /// The text of the first element on this way down, or nothing.
    pub fn text_at(&self, way: &[&str]) -> &str {
        self.at(way).map_or("", |element| &element.text)
    }

    /// An attribute, or nothing.
    pub fn attribute(&self, name: &str) -> &str {
        self.attributes.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    /// How many elements there are.
    #[cfg(test)]
    pub fn count(&self) -> usize {
        1 + self.children.iter().map(Self::count).sum::<usize>()
    }
}

/// Compares what libvirt made of a definition with what was meant.
pub fn compare(xml: &str, machine: &MachineDoc, frame: &Frame) -> Outcome<()> {
    let domain = Element::parse(xml)?;
    let mut found: Vec<String> = Vec::new();
    let mut expect = |what: &str, meant: &str, is: &str| {
        if meant != is {
            found.push(format!("{what} is `{is}` instead of `{meant}`"));
        }
    };
    expect("type", frame.kind, domain.attribute("type"));
    expect("name", &domain_name(&machine.workspace), domain.text_at(&["name"]));
    expect("uuid", &uuid(&machine.workspace), domain.text_at(&["uuid"]));
    let size = frame.size(machine);
    expect("number of vCPUs", &size.vcpus_max.to_string(), domain.text_at(&["vcpu"]));
    let now = if size.vcpus_max > size.vcpus { size.vcpus.to_string() } else { String::new() };
    expect("number of vCPUs at the start", &now, domain.at(&["vcpu"]).map_or("", |vcpu| vcpu.attribute("current")));
    let memory = domain.at(&["memory"]);
    expect("unit of memory", "KiB", memory.map_or("", |memory| memory.attribute("unit")));
    expect("memory", &size.memory_max_kib.to_string(), domain.text_at(&["memory"]));
    expect("memory at the start", &size.memory_kib.to_string(), domain.text_at(&["currentMemory"]));
    let shares = if machine.cpu_shares > 0 { machine.cpu_shares.to_string() } else { String::new() };
    expect("CPU shares", &shares, domain.text_at(&["cputune", "shares"]));
    let (kernel, initrd) = frame.kernel.clone().unwrap_or_default();
    expect("kernel", &kernel, domain.text_at(&["os", "kernel"]));
    expect("initial RAM disk", &initrd, domain.text_at(&["os", "initrd"]));
    if let BootDoc::Kernel { cmdline, .. } = &machine.boot {
        expect("kernel command line", cmdline, domain.text_at(&["os", "cmdline"]));
    }

    let none = Element::default();
    let devices = domain.at(&["devices"]).unwrap_or(&none);
    let mut disks: Vec<[String; 6]> = Vec::new();
    for (index, (disk, path)) in machine.disks.iter().zip(&frame.disks).enumerate() {
        let rate = |rate: u64| if rate > 0 { rate.to_string() } else { String::new() };
        disks.push([
            path.clone(),
            "qcow2".into(),
            target(index),
            "file disk".into(),
            rate(disk.kib_per_second.saturating_mul(1024)),
            rate(disk.iops),
        ]);
    }
    disks.push([
        frame.seed.clone(),
        "raw".into(),
        target(machine.disks.len()),
        "file disk readonly".into(),
        String::new(),
        String::new(),
    ]);
    let are = devices.all("disk").map(|disk| {
        let of = |name: &str, attribute: &str| disk.at(&[name]).map_or("", |element| element.attribute(attribute)).to_owned();
        let readonly = if disk.at(&["readonly"]).is_some() { " readonly" } else { "" };
        [
            of("source", "file"),
            of("driver", "type"),
            of("target", "dev"),
            format!("{} {}{readonly}", disk.attribute("type"), disk.attribute("device")),
            disk.text_at(&["iotune", "total_bytes_sec"]).to_owned(),
            disk.text_at(&["iotune", "total_iops_sec"]).to_owned(),
        ]
    });
    expect("disks", &format!("{disks:?}"), &format!("{:?}", are.collect::<Vec<_>>()));

    let nics = machine.nics.iter().map(|nic| {
        let rate = |rate: u64| if rate > 0 { rate.to_string() } else { String::new() };
        [
            nic.kind.clone(),
            nic.mac.to_lowercase(),
            nic.source.clone(),
            rate(nic.inbound_kib_per_second),
            rate(nic.outbound_kib_per_second),
            filter(nic).map_or(String::new(), |(name, addresses)| format!("{name} {}", addresses.join(" "))),
        ]
    });
    let are = devices.all("interface").map(|nic| {
        let of = |way: &[&str], attribute: &str| nic.at(way).map_or("", |element| element.attribute(attribute)).to_owned();
        let source = match nic.attribute("type") {
            "bridge" => of(&["source"], "bridge"),
            "network" => of(&["source"], "network"),
            _ => String::new(),
        };
        let rate = |way| of(&["bandwidth", way], "average");
        let filter = nic.at(&["filterref"]).map_or(String::new(), |filter| {
            let addresses: Vec<_> = filter.all("parameter").map(|parameter| parameter.attribute("value")).collect();
            format!("{} {}", filter.attribute("filter"), addresses.join(" "))
        });
        let mac = of(&["mac"], "address").to_lowercase();
        [nic.attribute("type").to_owned(), mac, source, rate("inbound"), rate("outbound"), filter]
    });
    expect("NICs", &format!("{:?}", nics.collect::<Vec<_>>()), &format!("{:?}", are.collect::<Vec<_>>()));
    // Nothing that was not meant: these give a guest a way to the host.
    for stranger in ["hostdev", "filesystem", "channel", "redirdev", "shmem", "tpm", "smartcard", "parallel", "vsock", "graphics"]
    {
        expect(&format!("number of `{stranger}` devices"), "0", &devices.all(stranger).count().to_string());
    }
    expect("number of serial ports", "1", &devices.all("serial").count().to_string());

    if found.is_empty() {
        return Ok(());
    }
    Err(Failure::new(codes::HYPERVISOR, format!("libvirt made something else of the definition: {}", found.join("; ")))
        .about(crate::errors::workspace(&machine.workspace))
        .remedy("report this with the versions of libvirt and of the plugin"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xml::{domain, tests};

    #[test]
    fn what_was_meant_passes_and_every_difference_is_named() {
        let machine = tests::machine();
        let frame = tests::frame(&machine);
        let xml = domain(&machine, &frame).unwrap();
        compare(&xml, &machine, &frame).unwrap();
        for (from, to, word) in [
            (">2</vcpu>", ">64</vcpu>", "vCPUs"),
            (">262144<", ">1<", "memory"),
            ("disk-0.qcow2", "../../etc/shadow", "disks"),
            ("type=\"qcow2\"", "type=\"raw\"", "disks"),
            ("</devices>", "<interface type=\"user\"/></devices>", "NICs"),
            ("</devices>", "<hostdev/></devices>", "hostdev"),
            ("</devices>", "<disk type=\"file\" device=\"disk\"><source file=\"/etc/shadow\"/></disk></devices>", "disks"),
            ("type=\"qemu\"", "type=\"kvm\"", "type"),
        ] {
            let changed = xml.replacen(from, to, 1);
            assert_ne!(changed, xml, "{from}");
            let failure = compare(&changed, &machine, &frame).unwrap_err();
            assert!(failure.message.contains(word), "{word}: {}", failure.message);
        }
    }

    #[test]
    fn broken_documents_are_refused() {
        for xml in ["", "<a>", "</a>", "<a>&unknown;</a>", &"<a>".repeat(1000)] {
            assert!(Element::parse(xml).is_err(), "{xml}");
        }
    }
}
