//! What went wrong, as a client sees it: the error's name, its sentence and its stable code; and the exit code of the
//! command line that goes with each name.

use crate::names;
use std::fmt;

/// Exit codes of the command line. They are part of the contract: scripts branch on them.
pub mod exit {
    /// It worked.
    pub const OK: u8 = 0;
    /// It failed for a reason that has no code of its own.
    pub const FAILED: u8 = 1;
    /// The command line, or an argument in it, is wrong.
    pub const USAGE: u8 = 2;
    /// There is no such object, or the caller may not know of it.
    pub const NOT_FOUND: u8 = 3;
    /// The access policy or the bus refused.
    pub const DENIED: u8 = 4;
    /// The quota policy refused.
    pub const QUOTA: u8 = 5;
    /// No host can take it.
    pub const NO_HOST: u8 = 6;
    /// Waiting ended before the job did; the job goes on.
    pub const TIMED_OUT: u8 = 7;
    /// The daemon or the host does not answer.
    pub const UNREACHABLE: u8 = 8;
    /// The policies are broken.
    pub const POLICY: u8 = 9;
}

/// The exit code for a D-Bus error name.
#[must_use]
pub fn exit_code(name: &str) -> u8 {
    if let Some(kind) = name.strip_prefix(names::ERROR_PREFIX) {
        return match kind {
            "AccessDenied" => exit::DENIED,
            "QuotaExceeded" => exit::QUOTA,
            // Both: the site has no room for it.
            "NoHost" | "NoAddress" => exit::NO_HOST,
            "InvalidArgument" => exit::USAGE,
            "NotFound" => exit::NOT_FOUND,
            "PolicyFailure" => exit::POLICY,
            "HostUnavailable" => exit::UNREACHABLE,
            // Never sent by the daemon: the client's own patience ended. A job's deadline is `TimedOut`, and has failed.
            "WaitTimedOut" => exit::TIMED_OUT,
            _ => exit::FAILED,
        };
    }
    match name.strip_prefix("org.freedesktop.DBus.Error.") {
        Some("AccessDenied" | "InteractiveAuthorizationRequired") => exit::DENIED,
        Some("InvalidArgs") => exit::USAGE,
        Some("UnknownObject") => exit::NOT_FOUND,
        Some(
            "ServiceUnknown" | "NameHasNoOwner" | "NoReply" | "NoServer" | "Disconnected" | "Timeout" | "TimedOut" | "NoNetwork"
            | "FileNotFound" | "BadAddress",
        ) => exit::UNREACHABLE,
        Some(other) if other.starts_with("Spawn.") => exit::UNREACHABLE,
        _ => exit::FAILED,
    }
}

/// A call that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Full D-Bus error name, `org.virtualworkspaces1.Error.*` when the daemon said it.
    pub name: String,
    /// The sentence: object, fact, remedy; without the code.
    pub message: String,
    /// The stable code; empty when there is none.
    pub code: String,
}

impl Failure {
    /// A failure named `name`, whose message may end with ` [code]`.
    #[must_use]
    pub fn new(name: &str, message: &str) -> Self {
        let (message, code) = split_code(message);
        Self { name: name.to_owned(), message: message.to_owned(), code: code.to_owned() }
    }

    /// A failure of one of our kinds, for instance `NotFound`, that the client itself found.
    #[must_use]
    pub fn of_kind(kind: &str, message: impl Into<String>) -> Self {
        Self { name: format!("{}{kind}", names::ERROR_PREFIX), message: message.into(), code: String::new() }
    }

    /// The exit code for it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        exit_code(&self.name)
    }

    /// Whether it is of this kind, for instance `NotFound`.
    #[must_use]
    pub fn is_kind(&self, kind: &str) -> bool {
        self.name.strip_prefix(names::ERROR_PREFIX) == Some(kind)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if self.code.is_empty() { Ok(()) } else { write!(f, " [{}]", self.code) }
    }
}

impl std::error::Error for Failure {}

impl From<zbus::Error> for Failure {
    fn from(error: zbus::Error) -> Self {
        use zbus::DBusError;
        match error {
            zbus::Error::MethodError(name, message, _) => Self::new(name.as_str(), message.as_deref().unwrap_or("no message")),
            zbus::Error::FDO(error) => (*error).into(),
            zbus::Error::DBus(error) => Self::new(error.name().as_str(), error.description().unwrap_or("no message")),
            zbus::Error::Connection(cause, address) => {
                Self::new("org.freedesktop.DBus.Error.NoServer", &format!("cannot connect to the bus at `{address}`: {cause}"))
            }
            zbus::Error::InputOutput(cause) => {
                Self::new("org.freedesktop.DBus.Error.Disconnected", &format!("the connection to the bus is lost: {cause}"))
            }
            zbus::Error::Handshake(cause) => {
                Self::new("org.freedesktop.DBus.Error.NoServer", &format!("the bus does not let this user in: {cause}"))
            }
            zbus::Error::Address(cause) => {
                Self::new("org.freedesktop.DBus.Error.BadAddress", &format!("the bus address is not one: {cause}"))
            }
            other => Self::new(
                "org.freedesktop.DBus.Error.Failed",
                &format!("the call or its answer does not fit the contract ({other}); compare the versions of client and daemon"),
            ),
        }
    }
}

impl From<zbus::fdo::Error> for Failure {
    fn from(error: zbus::fdo::Error) -> Self {
        use zbus::DBusError;
        match error {
            zbus::fdo::Error::ZBus(error) => error.into(),
            other => Self::new(other.name().as_str(), other.description().unwrap_or("no message")),
        }
    }
}

/// A message and the code at its end, ` [like-this]`; the code is empty when there is none.
fn split_code(message: &str) -> (&str, &str) {
    let Some((text, code)) = message.strip_suffix(']').and_then(|rest| rest.rsplit_once(" [")) else {
        return (message, "");
    };
    let is_code =
        !code.is_empty() && code.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.'));
    if is_code { (text, code) } else { (message, "") }
}

#[cfg(test)]
mod tests {
    use super::{Failure, exit, exit_code};

    #[test]
    fn a_code_at_the_end_is_taken_off() {
        let failure = Failure::new(
            "org.virtualworkspaces1.Error.NoHost",
            "workspace `a`: too large; ask for less [too-large-for-every-host]",
        );
        assert_eq!(failure.message, "workspace `a`: too large; ask for less");
        assert_eq!(failure.code, "too-large-for-every-host");
        assert_eq!(failure.exit_code(), exit::NO_HOST);
        assert_eq!(failure.to_string(), "workspace `a`: too large; ask for less [too-large-for-every-host]");
        assert_eq!(Failure::new("x.y", "labels [A, B]").code, "");
        assert_eq!(Failure::new("x.y", "plain").message, "plain");
    }

    #[test]
    fn names_lead_to_exit_codes() {
        for (name, code) in [
            ("org.virtualworkspaces1.Error.AccessDenied", 4),
            ("org.virtualworkspaces1.Error.QuotaExceeded", 5),
            ("org.virtualworkspaces1.Error.NoAddress", 6),
            ("org.virtualworkspaces1.Error.NotFound", 3),
            ("org.virtualworkspaces1.Error.PolicyFailure", 9),
            ("org.virtualworkspaces1.Error.HostUnavailable", 8),
            ("org.virtualworkspaces1.Error.InvalidArgument", 2),
            ("org.virtualworkspaces1.Error.WaitTimedOut", 7),
            ("org.virtualworkspaces1.Error.TimedOut", 1),
            ("org.virtualworkspaces1.Error.Damaged", 1),
            ("org.freedesktop.DBus.Error.ServiceUnknown", 8),
            ("org.freedesktop.DBus.Error.Spawn.ServiceNotFound", 8),
            ("org.freedesktop.DBus.Error.AccessDenied", 4),
            ("org.freedesktop.DBus.Error.UnknownMethod", 1),
        ] {
            assert_eq!(exit_code(name), code, "{name}");
        }
    }
}
