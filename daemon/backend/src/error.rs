//! Why a call to a backend failed. Every message names the object, the fact and the remedy.
//!
//! Owns: [`CallError`] and its one map to the product's error. Must not know: who calls, what for.

use std::path::PathBuf;
use std::time::Duration;
use vws_domain::{Error, ErrorKind, shown};
use vws_plugin_api::doc::{Failure, Retry, codes};

/// Why a call failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CallError {
    /// The plugin answered with a failure.
    #[error("{}", sentence(.0))]
    Failure(Failure),
    /// The plugin's process ended while the call was on its way.
    #[error("backend `{backend}`: its process ended during `{method}` ({reason}); the call can be repeated with the same id")]
    ChildDied {
        /// Name of the plugin.
        backend: String,
        /// Method of the call.
        method: String,
        /// Signal that ended it.
        signal: Option<i32>,
        /// Its exit code.
        code: Option<i32>,
        /// The same in words.
        reason: String,
    },
    /// The deadline passed.
    #[error(
        "host `{host}` of backend `{backend}`: `{method}` did not end within {deadline_ms} ms ({phase}); see whether the hypervisor answers, then repeat it"
    )]
    TimedOut {
        /// Name of the plugin.
        backend: String,
        /// Name of the host.
        host: String,
        /// Method of the call.
        method: String,
        /// The call's deadline in milliseconds.
        deadline_ms: u64,
        /// What it was waiting for.
        phase: &'static str,
    },
    /// No such host was opened.
    #[error("host `{host}`: no backend serves it; add it to the configuration")]
    UnknownHost {
        /// Name of the host.
        host: String,
    },
    /// No such plugin was added.
    #[error("backend `{backend}`: no such plugin; add it to the configuration (known: {known})")]
    UnknownPlugin {
        /// Name of the plugin.
        backend: String,
        /// Those that are there.
        known: String,
    },
    /// The plugin cannot be loaded or opened.
    #[error("backend `{backend}` ({}): {reason}; {remedy}", path.display())]
    Load {
        /// Name of the plugin.
        backend: String,
        /// Its file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
        /// What to do.
        remedy: String,
    },
    /// The plugin's answer is not one.
    #[error(
        "backend `{backend}`: `{method}` was answered with something that is no reply ({reason}); report it to the plugin's maker"
    )]
    Protocol {
        /// Name of the plugin.
        backend: String,
        /// Method of the call.
        method: String,
        /// What is wrong.
        reason: String,
    },
    /// Too many failures in a short time: nothing is tried for a while.
    #[error("{object}: ended or hung the plugin's process {failures} times within {window_seconds} s, so nothing is tried for another {} ms; look at the daemon's log for the reason", retry_in.as_millis())]
    Breaker {
        /// The host, or the backend.
        object: String,
        /// How many failures.
        failures: usize,
        /// Within how many seconds.
        window_seconds: u64,
        /// When it is tried again.
        retry_in: Duration,
    },
    /// A named limit is reached.
    #[error("backend `{backend}`: {fact}; try again later")]
    Busy {
        /// Name of the plugin.
        backend: String,
        /// Which limit.
        fact: String,
    },
    /// The request cannot be sent.
    #[error("backend `{backend}`: the arguments of `{method}` cannot be sent ({reason}); this is a defect of the daemon")]
    Request {
        /// Name of the plugin.
        backend: String,
        /// Method of the call.
        method: String,
        /// What is wrong.
        reason: String,
    },
    /// The daemon is on its way out.
    #[error("backend `{backend}`: the daemon is shutting down; repeat the request when it is back")]
    ShuttingDown {
        /// Name of the plugin.
        backend: String,
    },
}

fn sentence(failure: &Failure) -> String {
    let mut text = String::new();
    if !failure.object.is_empty() {
        text.push_str(&failure.object);
        text.push_str(": ");
    }
    text.push_str(&failure.message);
    if !failure.remedy.is_empty() {
        text.push_str("; ");
        text.push_str(&failure.remedy);
    }
    text
}

impl CallError {
    /// Whether the same call, with the same id, may be tried again, and when.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::Failure(failure) => failure.retry,
            Self::ChildDied { .. } => Retry::Now,
            Self::TimedOut { .. } | Self::Breaker { .. } | Self::Busy { .. } | Self::ShuttingDown { .. } => Retry::Later,
            Self::UnknownHost { .. }
            | Self::UnknownPlugin { .. }
            | Self::Load { .. }
            | Self::Protocol { .. }
            | Self::Request { .. } => Retry::Never,
        }
    }

    /// Whether the call may have been carried out although it failed: then its effect has to be looked up.
    #[must_use]
    pub fn effect_unknown(&self) -> bool {
        match self {
            Self::ChildDied { .. } | Self::TimedOut { .. } | Self::Protocol { .. } => true,
            Self::Failure(failure) => matches!(failure.code.as_str(), codes::TIMED_OUT | codes::UNREACHABLE | codes::INTERNAL),
            _ => false,
        }
    }

    /// The plugin's code of a failure: one of [`codes`], or empty.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::Failure(failure) => &failure.code,
            _ => "",
        }
    }
}

/// The kind of a plugin's code.
fn kind_of(code: &str) -> ErrorKind {
    match code {
        codes::UNSUPPORTED => ErrorKind::Unsupported,
        codes::INVALID => ErrorKind::InvalidArgument,
        codes::NOT_FOUND => ErrorKind::NotFound,
        codes::STATE => ErrorKind::InvalidState,
        codes::CAPACITY => ErrorKind::NoHost,
        codes::NO_SPACE => ErrorKind::NoSpace,
        codes::DAMAGED => ErrorKind::Damaged,
        codes::UNREACHABLE => ErrorKind::HostUnavailable,
        codes::CANCELLED => ErrorKind::Cancelled,
        codes::TIMED_OUT => ErrorKind::TimedOut,
        _ => ErrorKind::BackendFailure,
    }
}

impl From<CallError> for Error {
    fn from(error: CallError) -> Self {
        let text = error.to_string();
        match error {
            CallError::Failure(failure) => Self::new(kind_of(&failure.code), failure.object, failure.message, failure.remedy)
                .with_code(failure.code)
                .with_detail(failure.detail),
            CallError::ChildDied { backend, method, reason, .. } => Self::new(
                ErrorKind::BackendFailure,
                format!("backend `{}`", shown(&backend)),
                format!("its process ended during `{method}` ({reason})"),
                "try again; if it happens again, report it to the plugin's maker",
            )
            .with_code("backend-died"),
            CallError::TimedOut { host, method, deadline_ms, phase, .. } => Self::new(
                ErrorKind::TimedOut,
                format!("host `{}`", shown(&host)),
                format!("`{method}` did not end within {deadline_ms} ms ({phase})"),
                "see whether the hypervisor answers, then try again",
            )
            .with_code("backend-timed-out"),
            CallError::UnknownHost { host } => Self::new(
                ErrorKind::NotFound,
                format!("host `{}`", shown(&host)),
                "no backend serves it",
                "add it to the configuration",
            ),
            CallError::UnknownPlugin { backend, known } => Self::new(
                ErrorKind::NotFound,
                format!("backend `{}`", shown(&backend)),
                format!("no such plugin (known: {known})"),
                "add it to the configuration",
            ),
            CallError::Load { backend, path, reason, remedy } => Self::new(
                ErrorKind::BackendFailure,
                format!("backend `{}`", shown(&backend)),
                format!("{} cannot be used: {reason}", path.display()),
                remedy,
            )
            .with_code("backend-load"),
            CallError::Breaker { object, failures, window_seconds, retry_in } => Self::new(
                ErrorKind::HostUnavailable,
                object,
                format!("ended or hung the plugin's process {failures} times within {window_seconds} s"),
                format!("it is tried again in {} s; look at the daemon's log for the reason", retry_in.as_secs() + 1),
            )
            .with_code("breaker-open"),
            CallError::Protocol { backend, method, reason } => Self::new(
                ErrorKind::BackendFailure,
                format!("backend `{}`", shown(&backend)),
                format!("`{method}` was answered with something that is no reply"),
                "report it to the plugin's maker",
            )
            .with_code("backend-protocol")
            .with_detail(reason),
            CallError::Busy { backend, fact } => {
                Self::new(ErrorKind::Busy, format!("backend `{}`", shown(&backend)), fact, "try again later")
            }
            CallError::Request { backend, .. } => Self::internal(format!("backend `{}`", shown(&backend)), text),
            CallError::ShuttingDown { backend } => Self::new(
                ErrorKind::Busy,
                format!("backend `{}`", shown(&backend)),
                "the daemon is shutting down",
                "repeat the request when it is back",
            ),
        }
    }
}
