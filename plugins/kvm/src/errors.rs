//! The one map from what libvirt and the system say to the plugin interface's failures.
//!
//! Owns: which code, whether to try again, which remedy. Must not know: what was being done, except as a text.

use std::io;
use virt::error::{Error, ErrorDomain, ErrorNumber};
use vws_plugin_api::doc::{Failure, Retry, codes};

/// The failure for a libvirt error met while doing `what` to `object`.
pub fn libvirt(error: &Error, what: &str, object: &str) -> Failure {
    let said = error.message();
    let number = error.code().known();
    let (code, retry, remedy) = if said.contains("No space left on device") {
        no_space()
    } else if said.contains("Cannot allocate memory") || said.contains("cannot set up guest memory") {
        (codes::CAPACITY, Retry::Later, "free memory on the host, or ask for less")
    } else {
        match number {
            Some(ErrorNumber::NoDomain) => (codes::NOT_FOUND, Retry::Never, ""),
            Some(ErrorNumber::OperationInvalid) => (codes::STATE, Retry::Later, ""),
            Some(
                ErrorNumber::NoConnect
                | ErrorNumber::InvalidConn
                | ErrorNumber::Rpc
                | ErrorNumber::UnknownHost
                | ErrorNumber::GnutlsError
                | ErrorNumber::AuthFailed,
            ) => (codes::UNREACHABLE, Retry::Later, "see that libvirt runs on the host and that its URI is right"),
            // "client socket is closed", "connection closed due to keepalive timeout".
            Some(ErrorNumber::InternalError) if error.domain().is(ErrorDomain::Rpc) => {
                (codes::UNREACHABLE, Retry::Later, "see that libvirt runs on the host and that its URI is right")
            }
            Some(ErrorNumber::SystemError) if connection_gone(said) => {
                (codes::UNREACHABLE, Retry::Later, "see that libvirt runs on the host and that its URI is right")
            }
            Some(ErrorNumber::OperationTimeout) => (codes::TIMED_OUT, Retry::Later, ""),
            Some(ErrorNumber::NoSupport | ErrorNumber::ConfigUnsupported | ErrorNumber::ArgumentUnsupported) => {
                (codes::UNSUPPORTED, Retry::Never, "")
            }
            Some(ErrorNumber::NoNetwork) => {
                (codes::INVALID, Retry::Never, "define and start that network on the host, or ask for another")
            }
            Some(ErrorNumber::NoMemory) => (codes::CAPACITY, Retry::Later, "free memory on the host"),
            _ => (codes::HYPERVISOR, Retry::Later, "see the log of libvirt on the host"),
        }
    };
    Failure::new(code, format!("{what}: {said}")).about(object).remedy(remedy).retry(retry).detail(format!(
        "libvirt error {:?} in {:?}",
        error.code(),
        error.domain()
    ))
}

fn connection_gone(said: &str) -> bool {
    ["connect", "Connection", "socket", "Broken pipe", "end of file", "End of file"].iter().any(|word| said.contains(word))
}

fn no_space() -> (&'static str, Retry, &'static str) {
    (codes::NO_SPACE, Retry::Later, "free space in the host's folder, or remove images that no workspace uses")
}

/// The failure for a system error met while doing `what` to `object`.
pub fn system(error: &io::Error, what: &str, object: &str) -> Failure {
    let (code, retry, remedy) = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => no_space(),
        io::ErrorKind::NotFound => (codes::NOT_FOUND, Retry::Never, ""),
        io::ErrorKind::PermissionDenied => {
            (codes::HYPERVISOR, Retry::Never, "give the daemon's user access to the host's folder")
        }
        _ => (codes::HYPERVISOR, Retry::Later, ""),
    };
    Failure::new(code, format!("{what}: {error}")).about(object).remedy(remedy).retry(retry)
}

/// How a libvirt object is named in failures.
pub fn workspace(id: &str) -> String {
    format!("workspace `{id}`")
}
