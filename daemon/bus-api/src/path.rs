//! Object paths and what they are of. Ids are 32 lower-case hexadecimal digits behind a letter; names are escaped as
//! systemd does: every byte outside `A-Z a-z 0-9`, and a digit at the beginning, becomes `_` and two hexadecimal digits.

use crate::names;
use std::fmt;

/// The nodes between the root and the objects; each is a name in a path and has no interface of its own.
pub const COLLECTIONS: [&str; 6] = ["workspaces", "hosts", "images", "networks", "jobs", "backends"];

/// Stands in a property of type `o` when there is no object.
pub const NONE: &str = "/";

/// What an object path is of. `Display` writes the path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Object {
    /// The root object.
    Root,
    /// A workspace, by id.
    Workspace(u128),
    /// A host, by name.
    Host(String),
    /// An image, by id.
    Image(u128),
    /// A job, by id.
    Job(u128),
    /// A backend, by name.
    Backend(String),
    /// A network, by name.
    Network(String),
}

impl Object {
    /// Reads a path. Only the form that `Display` writes is one: no object has two paths.
    #[must_use]
    pub fn parse(path: &str) -> Option<Self> {
        let rest = path.strip_prefix(names::ROOT)?;
        if rest.is_empty() {
            return Some(Self::Root);
        }
        let (collection, element) = rest.strip_prefix('/')?.split_once('/')?;
        match collection {
            "workspaces" => id(element, 'w').map(Self::Workspace),
            "images" => id(element, 'i').map(Self::Image),
            "jobs" => id(element, 'j').map(Self::Job),
            "hosts" => unescape(element).map(Self::Host),
            "backends" => unescape(element).map(Self::Backend),
            "networks" => unescape(element).map(Self::Network),
            _ => None,
        }
    }

    /// The interface that objects of this kind have; the root has [`names::POLICY`] and [`names::OBJECT_MANAGER`] as well.
    #[must_use]
    pub fn interface(&self) -> &'static str {
        match self {
            Self::Root => names::MANAGER,
            Self::Workspace(_) => names::WORKSPACE,
            Self::Host(_) => names::HOST,
            Self::Image(_) => names::IMAGE,
            Self::Job(_) => names::JOB,
            Self::Backend(_) => names::BACKEND,
            Self::Network(_) => names::NETWORK,
        }
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let root = names::ROOT;
        match self {
            Self::Root => f.write_str(root),
            Self::Workspace(id) => write!(f, "{root}/workspaces/w{id:032x}"),
            Self::Host(name) => write!(f, "{root}/hosts/{}", escape(name)),
            Self::Image(id) => write!(f, "{root}/images/i{id:032x}"),
            Self::Job(id) => write!(f, "{root}/jobs/j{id:032x}"),
            Self::Backend(name) => write!(f, "{root}/backends/{}", escape(name)),
            Self::Network(name) => write!(f, "{root}/networks/{}", escape(name)),
        }
    }
}

/// An id behind its letter.
fn id(element: &str, letter: char) -> Option<u128> {
    let digits = element.strip_prefix(letter)?;
    let canonical = digits.len() == 32 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if canonical { u128::from_str_radix(digits, 16).ok() } else { None }
}

/// A name as one element of a path. The empty name becomes `_`.
#[must_use]
pub fn escape(name: &str) -> String {
    if name.is_empty() {
        return "_".to_owned();
    }
    let mut out = String::with_capacity(name.len());
    for (at, byte) in name.bytes().enumerate() {
        if byte.is_ascii_alphabetic() || (at > 0 && byte.is_ascii_digit()) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("_{byte:02x}"));
        }
    }
    out
}

/// The name that an element of a path stands for; `None` unless [`escape`] makes this very element of it.
#[must_use]
pub fn unescape(element: &str) -> Option<String> {
    if element == "_" {
        return Some(String::new());
    }
    let mut bytes = Vec::with_capacity(element.len());
    let mut rest = element.as_bytes();
    while let [first, tail @ ..] = rest {
        if *first != b'_' {
            bytes.push(*first);
            rest = tail;
            continue;
        }
        let digits = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok())?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = tail.get(2..)?;
    }
    let name = String::from_utf8(bytes).ok()?;
    if escape(&name) == element { Some(name) } else { None }
}

#[cfg(test)]
mod tests {
    use super::{Object, escape, unescape};

    #[test]
    fn every_object_has_one_path() {
        let objects = [
            Object::Root,
            Object::Workspace(0x5e1f),
            Object::Image(u128::MAX),
            Object::Job(0),
            Object::Host("node-1.rack_2".to_owned()),
            Object::Host("1st".to_owned()),
            Object::Backend("kvm".to_owned()),
            Object::Network("lan.1".to_owned()),
        ];
        for object in objects {
            assert_eq!(Object::parse(&object.to_string()), Some(object));
        }
        assert_eq!(Object::Host("h-1".to_owned()).to_string(), "/org/virtualworkspaces1/hosts/h_2d1");
        assert_eq!(Object::Workspace(0x5e1f).to_string(), "/org/virtualworkspaces1/workspaces/w00000000000000000000000000005e1f");
    }

    #[test]
    fn other_paths_are_of_nothing() {
        for path in [
            "/",
            "/org/virtualworkspaces1/",
            "/org/virtualworkspaces10",
            "/org/virtualworkspaces1/workspaces",
            "/org/virtualworkspaces1/workspaces/w5e1f",
            "/org/virtualworkspaces1/workspaces/w0000000000000000000000000000 5e1",
            "/org/virtualworkspaces1/workspaces/w0000000000000000000000000000000A",
            "/org/virtualworkspaces1/workspaces/w+000000000000000000000000000000a",
            "/org/virtualworkspaces1/workspaces/j00000000000000000000000000005e1f",
            "/org/virtualworkspaces1/hosts/h_2D1",
            "/org/virtualworkspaces1/hosts/h_61",
            "/org/virtualworkspaces1/hosts/h_2",
            "/org/virtualworkspaces1/hosts/a/b",
            "/org/virtualworkspaces1/users/a",
        ] {
            assert_eq!(Object::parse(path), None, "{path}");
        }
    }

    #[test]
    fn escaping_loses_nothing() {
        for name in ["", "a", "9", "a9", "_", "__", "ü", "a b", "é-\u{7f}"] {
            assert_eq!(unescape(&escape(name)).as_deref(), Some(name));
        }
        assert_eq!(escape("9a-b"), "_39a_2db");
    }
}
