//! Ids are types. 128-bit ids are written as 32 lower-case hexadecimal digits, which is also their form in
//! D-Bus object paths, file names and hypervisor domain names. They are made at the edge (`vwsd`'s `env`).

use crate::error::{Error, Result};
use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $noun:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u128);

        impl $name {
            /// Reads the 32-digit form; dashes are accepted, as in a UUID.
            pub fn parse(text: &str) -> Result<Self> {
                let digits: String = text.chars().filter(|c| *c != '-').collect();
                if digits.len() == 32 {
                    if let Ok(value) = u128::from_str_radix(&digits, 16) {
                        return Ok(Self(value));
                    }
                }
                Err(Error::invalid(
                    format!(concat!($noun, " id `{}`"), crate::error::shown(text)),
                    "is not 32 hexadecimal digits",
                    concat!("give the id as `vws` prints it, or the ", $noun, "'s name"),
                ))
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.0)
            }
        }
    };
}

id!(/// A workspace, for its whole life, whatever host it is on.
    WorkspaceId, "workspace");
id!(/// A job: one durable operation.
    JobId, "job");
id!(/// A recorded decision of the policies.
    DecisionId, "decision");
id!(/// An image of the catalogue.
    ImageId, "image");
id!(/// A serialized workspace in the library.
    BundleId, "bundle");

/// SHA-256 of a whole policy set, as 64 hexadecimal digits.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyHash(pub String);

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $noun:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Checks the characters and the length.
            pub fn parse(text: &str) -> Result<Self> {
                let good = !text.is_empty()
                    && text.len() <= 63
                    && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
                if good {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(Error::invalid(
                        format!(concat!($noun, " name `{}`"), crate::error::shown(text)),
                        "has a character outside a-z A-Z 0-9 - _ . or is not 1 to 63 characters long",
                        "choose another name",
                    ))
                }
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(/// The name of a host, as the configuration gives it: 1-63 characters of `a-z A-Z 0-9 - _ .`.
    HostName, "host");
name!(/// The name of a network of the site: 1-63 characters of `a-z A-Z 0-9 - _ .`.
    NetworkName, "network");
