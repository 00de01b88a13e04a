//! The contract as tables: what the annotated interface files say of methods, properties and signals, parsed once at start.
//!
//! The files are the only place where signatures are written down; the dispatcher checks arguments against these tables,
//! and a test holds them together with the handlers.

use quick_xml::Reader;
use quick_xml::XmlVersion;
use quick_xml::events::{BytesStart, Event};
use std::collections::BTreeMap;
use vws_bus::{interfaces, names};
use vws_domain::{Error, Result};

/// The standard interfaces that every object has. Texts of this daemon; the rest of the contract is in `vws_bus`.
pub const STANDARD: &str = include_str!("standard.xml");

/// A method.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Method {
    /// Signature of its arguments, without parentheses.
    pub inputs: String,
    /// Signature of its results, without parentheses.
    pub outputs: String,
    /// Whether it cannot change anything.
    pub reads: bool,
}

/// When a property's change is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Emits {
    /// At each change, with the new value.
    #[default]
    Changed,
    /// It never changes.
    Const,
    /// It changes silently: too often to tell.
    Never,
}

/// A property.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Property {
    /// Its signature.
    pub signature: String,
    /// When its change is told.
    pub emits: Emits,
}

/// An interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Its methods, by name.
    pub methods: BTreeMap<String, Method>,
    /// Its properties, by name.
    pub properties: BTreeMap<String, Property>,
    /// Signatures of its signals, by name.
    pub signals: BTreeMap<String, String>,
}

/// Every interface, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contract {
    interfaces: BTreeMap<String, Interface>,
}

impl Contract {
    /// Reads the interface files that the daemon was built with.
    ///
    /// # Errors
    /// [`vws_domain::ErrorKind::Internal`] when a file is not what it must be, which a test excludes.
    pub fn load() -> Result<Self> {
        let mut contract = Self::default();
        for (_, text) in interfaces::ALL {
            contract.read(text)?;
        }
        contract.read(STANDARD)?;
        Ok(contract)
    }

    /// One interface.
    #[cfg(test)]
    pub fn interface(&self, name: &str) -> Option<&Interface> {
        self.interfaces.get(name)
    }

    /// One method.
    pub fn method(&self, interface: &str, name: &str) -> Option<&Method> {
        self.interfaces.get(interface)?.methods.get(name)
    }

    /// When the change of a property is told; a property that is not in the contract is never told.
    pub fn emits(&self, interface: &str, property: &str) -> Emits {
        let known = self.interfaces.get(interface).and_then(|known| known.properties.get(property));
        known.map_or(Emits::Never, |property| property.emits)
    }

    /// Every interface with its name.
    #[cfg(test)]
    pub fn interfaces(&self) -> impl Iterator<Item = (&str, &Interface)> {
        self.interfaces.iter().map(|(name, interface)| (name.as_str(), interface))
    }

    /// Every method that is not annotated as one that only reads.
    pub fn mutating_methods(&self) -> Vec<(String, String)> {
        let ours = self.interfaces.iter().filter(|(name, _)| name.starts_with(names::BUS));
        ours.flat_map(|(interface, members)| {
            let changing = members.methods.iter().filter(|(_, method)| !method.reads);
            changing.map(|(name, _)| (interface.clone(), name.clone())).collect::<Vec<_>>()
        })
        .collect()
    }

    fn read(&mut self, text: &str) -> Result<()> {
        let broken = |detail: String| Error::internal("interface file", detail);
        let mut reader = Reader::from_str(text);
        let mut place = Place::default();
        loop {
            match reader.read_event().map_err(|error| broken(error.to_string()))? {
                Event::Eof => return Ok(()),
                Event::Start(tag) => self.open(&mut place, &tag).map_err(broken)?,
                Event::Empty(tag) => {
                    self.open(&mut place, &tag).map_err(broken)?;
                    place.close(tag.name().as_ref());
                }
                Event::End(tag) => place.close(tag.name().as_ref()),
                _ => {}
            }
        }
    }

    fn open(&mut self, place: &mut Place, tag: &BytesStart<'_>) -> std::result::Result<(), String> {
        let name = || attribute(tag, "name")?.ok_or_else(|| "an element has no name".to_owned());
        match tag.name().as_ref() {
            "interface" => {
                place.interface = name()?;
                self.interfaces.entry(place.interface.clone()).or_default();
            }
            kind @ ("method" | "signal" | "property") => {
                place.member = Some((kind.to_owned(), name()?));
                let (interface, (_, member)) = self.at(place)?;
                match kind {
                    "method" => drop(interface.methods.entry(member).or_default()),
                    "signal" => drop(interface.signals.entry(member).or_default()),
                    _ => {
                        let signature = attribute(tag, "type")?.ok_or("a property has no type")?;
                        interface.properties.insert(member, Property { signature, emits: Emits::default() });
                    }
                }
            }
            "arg" => {
                let signature = attribute(tag, "type")?.ok_or("an argument has no type")?;
                let out = attribute(tag, "direction")?.as_deref() == Some("out");
                let (interface, (kind, member)) = self.at(place)?;
                if kind == "signal" {
                    interface.signals.entry(member).or_default().push_str(&signature);
                } else {
                    let method = interface.methods.entry(member).or_default();
                    if out { method.outputs.push_str(&signature) } else { method.inputs.push_str(&signature) }
                }
            }
            "annotation" if place.member.is_some() => {
                let value = attribute(tag, "value")?.unwrap_or_default();
                let annotation = name()?;
                let (interface, (kind, member)) = self.at(place)?;
                match (kind.as_str(), annotation.as_str()) {
                    ("method", names::READS_ANNOTATION) => interface.methods.entry(member).or_default().reads = value == "true",
                    ("property", "org.freedesktop.DBus.Property.EmitsChangedSignal") => {
                        interface.properties.entry(member).or_default().emits = match value.as_str() {
                            "true" => Emits::Changed,
                            "const" => Emits::Const,
                            "false" => Emits::Never,
                            other => return Err(format!("a property emits `{other}`")),
                        };
                    }
                    _ => {}
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The interface and the member that the reader is inside of.
    fn at(&mut self, place: &Place) -> std::result::Result<(&mut Interface, (String, String)), String> {
        let interface = self.interfaces.get_mut(&place.interface).ok_or("a member is outside of an interface")?;
        let member = place.member.clone().ok_or("an element is outside of a member")?;
        Ok((interface, member))
    }
}

/// Where the reader is.
#[derive(Default)]
struct Place {
    interface: String,
    member: Option<(String, String)>,
}

impl Place {
    fn close(&mut self, tag: &str) {
        match tag {
            "interface" => self.interface.clear(),
            "method" | "signal" | "property" => self.member = None,
            _ => {}
        }
    }
}

fn attribute(tag: &BytesStart<'_>, name: &str) -> std::result::Result<Option<String>, String> {
    let Some(attribute) = tag.try_get_attribute(name).map_err(|error| error.to_string())? else { return Ok(None) };
    let value = attribute.normalized_value(XmlVersion::default()).map_err(|error| error.to_string())?;
    Ok(Some(value.into_owned()))
}
