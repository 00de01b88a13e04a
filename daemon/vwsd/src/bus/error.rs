//! The one map from the product's errors to D-Bus error names, and the standard errors of the message bus.
//!
//! A message is the error's own sentence with its stable code in brackets behind it. What only an operator should read
//! (`detail`) is logged here and never sent.

use vws_bus::names;
use vws_domain::{Error, ErrorKind, shown};
use zbus::Message;
use zbus::message::Header;

/// Why a call is not answered with its result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The product's own.
    Domain(Error),
    /// One of `org.freedesktop.DBus.Error`: its last word and its message.
    Standard(&'static str, String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Domain(error)
    }
}

impl From<zbus::Error> for Failure {
    fn from(error: zbus::Error) -> Self {
        Self::Domain(Error::internal("bus message", error.to_string()))
    }
}

impl Failure {
    /// There is no such object, or the caller may not know of it: the same words for both.
    pub fn unknown_object(path: &str) -> Self {
        Self::Standard("UnknownObject", format!("no object at `{}` that you may see", shown(path)))
    }

    /// The object has no such interface.
    pub fn unknown_interface(path: &str, interface: &str) -> Self {
        Self::Standard("UnknownInterface", format!("`{}` has no interface `{}`", shown(path), shown(interface)))
    }

    /// The interface has no such method.
    pub fn unknown_method(path: &str, interface: Option<&str>, member: &str) -> Self {
        let place = interface.map_or_else(|| format!("no interface of `{}`", shown(path)), |name| format!("`{}`", shown(name)));
        let verb = if interface.is_some() { "has no" } else { "has a" };
        Self::Standard("UnknownMethod", format!("{place} {verb} method `{}`", shown(member)))
    }

    /// The interface has no such property.
    pub fn unknown_property(interface: &str, property: &str) -> Self {
        Self::Standard("UnknownProperty", format!("`{}` has no property `{}`", shown(interface), shown(property)))
    }

    /// Properties are changed by methods, which pass the policies.
    pub fn read_only(interface: &str, property: &str) -> Self {
        Self::Standard(
            "PropertyReadOnly",
            format!("property `{}.{}` cannot be written; methods change things here", shown(interface), shown(property)),
        )
    }

    /// The arguments have other types.
    pub fn arguments(member: &str, expected: &str, got: &str) -> Self {
        let word = |signature: &str| if signature.is_empty() { "no arguments".to_owned() } else { format!("`{signature}`") };
        Self::Standard("InvalidArgs", format!("{} takes {}, not {}", shown(member), word(expected), word(got)))
    }

    /// A handler was called for an object of another kind: a defect of the dispatcher.
    pub fn misrouted() -> Self {
        Self::Domain(Error::internal("bus call", "a handler got an object of another kind"))
    }

    /// The error message that answers the call with this header.
    pub fn message(&self, call: &Header<'_>) -> zbus::Result<Message> {
        let (name, text) = self.name_and_text();
        if let Self::Domain(error) = self
            && !error.detail.is_empty()
        {
            tracing::warn!(error = %error, detail = %error.detail, "a call failed");
        }
        Message::error(call, name).build(&(text,))
    }

    /// The D-Bus error name and the message.
    pub fn name_and_text(&self) -> (String, String) {
        match self {
            Self::Domain(error) => (name(error.kind), text(error)),
            Self::Standard(word, text) => (format!("org.freedesktop.DBus.Error.{word}"), text.clone()),
        }
    }
}

/// The D-Bus name of a kind. Exhaustive on purpose: a new kind does not compile until it has its name here.
pub fn name(kind: ErrorKind) -> String {
    let word = match kind {
        ErrorKind::AccessDenied => "AccessDenied",
        ErrorKind::QuotaExceeded => "QuotaExceeded",
        ErrorKind::NoHost => "NoHost",
        ErrorKind::InvalidArgument => "InvalidArgument",
        ErrorKind::InvalidState => "InvalidState",
        ErrorKind::NotFound => "NotFound",
        ErrorKind::AlreadyExists => "AlreadyExists",
        ErrorKind::Conflict => "Conflict",
        ErrorKind::PolicyFailure => "PolicyFailure",
        ErrorKind::BackendFailure => "BackendFailure",
        ErrorKind::HostUnavailable => "HostUnavailable",
        ErrorKind::Unsupported => "Unsupported",
        ErrorKind::Busy => "Busy",
        ErrorKind::Cancelled => "Cancelled",
        ErrorKind::TimedOut => "TimedOut",
        ErrorKind::Damaged => "Damaged",
        ErrorKind::NoSpace => "NoSpace",
        ErrorKind::Internal => "Internal",
        ErrorKind::NoAddress => "NoAddress",
    };
    format!("{}{word}", names::ERROR_PREFIX)
}

/// The message: the sentence, and the stable code behind it. A bus string cannot hold a zero byte.
pub fn text(error: &Error) -> String {
    let sentence = error.to_string().replace('\0', "\u{fffd}");
    if error.code.is_empty() { sentence } else { format!("{sentence} [{}]", error.code) }
}

#[cfg(test)]
mod tests {
    use super::{Failure, name, text};
    use vws_domain::{DecisionId, Error, ErrorKind};

    #[test]
    fn every_kind_has_its_own_name() {
        let table: Vec<String> = ErrorKind::ALL.into_iter().map(name).collect();
        let golden = [
            "org.virtualworkspaces1.Error.AccessDenied",
            "org.virtualworkspaces1.Error.QuotaExceeded",
            "org.virtualworkspaces1.Error.NoHost",
            "org.virtualworkspaces1.Error.InvalidArgument",
            "org.virtualworkspaces1.Error.InvalidState",
            "org.virtualworkspaces1.Error.NotFound",
            "org.virtualworkspaces1.Error.AlreadyExists",
            "org.virtualworkspaces1.Error.Conflict",
            "org.virtualworkspaces1.Error.PolicyFailure",
            "org.virtualworkspaces1.Error.BackendFailure",
            "org.virtualworkspaces1.Error.HostUnavailable",
            "org.virtualworkspaces1.Error.Unsupported",
            "org.virtualworkspaces1.Error.Busy",
            "org.virtualworkspaces1.Error.Cancelled",
            "org.virtualworkspaces1.Error.TimedOut",
            "org.virtualworkspaces1.Error.Damaged",
            "org.virtualworkspaces1.Error.NoSpace",
            "org.virtualworkspaces1.Error.Internal",
            "org.virtualworkspaces1.Error.NoAddress",
        ];
        assert_eq!(table, golden);
        for kind in ErrorKind::ALL {
            assert_eq!(name(kind), format!("org.virtualworkspaces1.Error.{}", kind.name()));
        }
    }

    #[test]
    fn a_message_has_decision_and_code_but_never_the_detail() {
        let error = Error::new(ErrorKind::NoHost, "workspace `web`", "9999 MiB asked, 512 there", "ask for less")
            .with_code("too-large-for-every-host")
            .with_decision(DecisionId(7))
            .with_detail("secret of the operator");
        assert_eq!(
            text(&error),
            "workspace `web`: 9999 MiB asked, 512 there; ask for less (decision 00000000000000000000000000000007) \
             [too-large-for-every-host]"
        );
        assert_eq!(text(&Error::new(ErrorKind::Busy, "", "a\0b", "")), "a\u{fffd}b");
    }

    #[test]
    fn standard_errors_say_what_was_wrong() {
        let (name, text) = Failure::arguments("Renew", "ta{sv}", "").name_and_text();
        assert_eq!(name, "org.freedesktop.DBus.Error.InvalidArgs");
        assert_eq!(text, "Renew takes `ta{sv}`, not no arguments");
        let (_, text) = Failure::unknown_method("/a", None, "Fly").name_and_text();
        assert_eq!(text, "no interface of `/a` has a method `Fly`");
        let (_, text) = Failure::unknown_method("/a", Some("x.Y"), "Fly").name_and_text();
        assert_eq!(text, "`x.Y` has no method `Fly`");
    }
}
