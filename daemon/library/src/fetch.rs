//! Import from http and https. The digest decides what is accepted, so that the way may be an untrusted one; the limits decide
//! how long and how much. Redirects are followed here, one by one, and only to http and https.

use std::io;
use std::time::Duration;
use ureq::http::{StatusCode, header};
use ureq::{Agent, Body, ResponseExt as _, Timeout};
use vws_domain::{Error, ErrorKind, Result, checked_digest, without_credentials};

use crate::copy::Watch;
use crate::keep::Imported;
use crate::library::Library;
use crate::limits::Limits;

const SCHEMES: [&str; 2] = ["http://", "https://"];

impl Library {
    /// Downloads `url` and keeps the bytes if their sha256 is `digest`. Credentials in the URL are sent to its own host and
    /// appear in no message.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] for another scheme, also of a redirect, and for a server that cannot be reached or
    /// refuses; [`ErrorKind::NotFound`] for 404 and 410; [`ErrorKind::TimedOut`]; [`ErrorKind::Damaged`] for another digest or
    /// a body that ends early; [`ErrorKind::NoSpace`]; [`ErrorKind::Cancelled`]. Nothing is left behind.
    pub fn import_url(&self, url: &str, digest: &str, watch: Watch<'_>) -> Result<Imported> {
        let digest = checked_digest(digest)?;
        let object = format!("download of `{}`", without_credentials(url));
        let mut body = open(&object, url, &self.limits)?;
        let total = body.content_length().unwrap_or(0);
        if total > self.limits.blob_bytes {
            return Err(self.too_long(&object));
        }
        self.room_for(&object, total)?;
        // One byte more than the limit, so that the copy sees the excess itself.
        let most = self.limits.blob_bytes.saturating_add(1);
        let mut reader = body.with_config().limit(most).reader();
        self.import(&object, &mut reader, Some(&digest), total, watch, broke_off)
    }
}

/// The body of the answer at the end of all redirects.
fn open(object: &str, url: &str, limits: &Limits) -> Result<Body> {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .timeout_resolve(Some(limits.connect))
        .timeout_connect(Some(limits.connect))
        .timeout_recv_response(Some(limits.headers))
        .timeout_per_read(Some(limits.stall))
        .timeout_global(Some(limits.download))
        .build();
    let agent = Agent::new_with_config(config);
    let mut url = url.to_owned();
    for _ in 0..=limits.redirects {
        if !SCHEMES.iter().any(|scheme| starts_with_scheme(&url, scheme)) {
            return Err(Error::invalid(
                object,
                format!("leads to `{}`, which is neither http nor https", without_credentials(&url)),
                "give an http:// or https:// URL that leads to one",
            )
            .with_code("scheme"));
        }
        let response = agent.get(&url).call().map_err(|error| unreachable(object, &error, limits))?;
        let status = response.status();
        if status.is_success() && status != StatusCode::PARTIAL_CONTENT {
            return Ok(response.into_body());
        }
        let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
        match location.filter(|_| status.is_redirection()) {
            Some(location) => url = resolved(&response.get_uri().to_string(), location),
            None => return Err(refused(object, status)),
        }
    }
    Err(Error::invalid(
        object,
        format!("was redirected more than {} times", limits.redirects),
        "give the URL that the redirects lead to",
    ))
}

fn starts_with_scheme(url: &str, scheme: &str) -> bool {
    url.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
}

/// The target of a redirect, seen from `base`, an absolute URL.
fn resolved(base: &str, location: &str) -> String {
    let location = location.split('#').next().unwrap_or_default();
    let has_scheme = location.split_once(':').is_some_and(|(scheme, _)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
    });
    if has_scheme {
        return location.to_owned();
    }
    let (scheme, rest) = base.split_once("://").unwrap_or(("http", base));
    let path_at = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(path_at);
    let path = path.split(['?', '#']).next().unwrap_or_default();
    if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else if location.starts_with('?') {
        format!("{scheme}://{authority}{path}{location}")
    } else {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{scheme}://{authority}{folder}/{location}")
    }
}

fn refused(object: &str, status: StatusCode) -> Error {
    match status {
        StatusCode::NOT_FOUND | StatusCode::GONE => {
            Error::new(ErrorKind::NotFound, object, format!("is not there: the server answered {status}"), "see to the URL")
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Error::invalid(
            object,
            format!("was refused by the server: {status}"),
            "give a URL that needs no credentials, or has them in it",
        ),
        _ => Error::invalid(object, format!("failed: the server answered {status}"), "see to the server, then import it again"),
    }
    .with_code("http-status")
}

/// No answer came.
fn unreachable(object: &str, error: &ureq::Error, limits: &Limits) -> Error {
    match error {
        ureq::Error::Timeout(what) => timed_out(object, *what, Some(limits)),
        ureq::Error::HostNotFound => Error::invalid(object, "names a host that cannot be found", "see to the host in the URL"),
        ureq::Error::BadUri(_) | ureq::Error::Http(_) => {
            Error::invalid(object, "is not a URL that can be fetched", "give an http:// or https:// URL")
        }
        ureq::Error::Rustls(tls) => Error::invalid(
            object,
            format!("cannot be trusted: {tls}"),
            "see to the server's certificate; the digest protects the bytes, so that plain http is possible, too",
        ),
        // What remains are words of the library and of the system; they have no part of the URL in them.
        other => Error::invalid(object, format!("failed: {other}"), "see to the URL and to the daemon's way there"),
    }
}

/// The body ended before its time.
fn broke_off(object: &str, error: &io::Error) -> Error {
    if let Some(ureq::Error::Timeout(what)) = error.get_ref().and_then(|inner| inner.downcast_ref::<ureq::Error>()) {
        return timed_out(object, *what, None);
    }
    if error.kind() == io::ErrorKind::TimedOut {
        return timed_out(object, Timeout::PerRead, None);
    }
    Error::new(
        ErrorKind::Damaged,
        object,
        format!("ended before it was complete: {error}"),
        "import it again; if it ends there again, see to the server",
    )
    .with_code("truncated")
}

fn timed_out(object: &str, what: Timeout, limits: Option<&Limits>) -> Error {
    let seconds = |pick: fn(&Limits) -> Duration| limits.map_or_else(String::new, |limits| format!(" within {:?}", pick(limits)));
    let fact = match what {
        Timeout::Resolve | Timeout::Connect => format!("did not connect{}", seconds(|limits| limits.connect)),
        Timeout::RecvResponse => format!("got no answer{}", seconds(|limits| limits.headers)),
        Timeout::PerRead => format!("stalled: not a byte came{}", seconds(|limits| limits.stall)),
        _ => format!("was not complete{}", seconds(|limits| limits.download)),
    };
    Error::new(ErrorKind::TimedOut, object, fact, "see to the server and the network, then import it again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_resolve_against_where_they_came_from() {
        let base = "http://one.example:8080/a/b?q=1";
        for (location, target) in [
            ("https://two.example/x", "https://two.example/x"),
            ("//two.example/x", "http://two.example/x"),
            ("/x?y#z", "http://one.example:8080/x?y"),
            ("x", "http://one.example:8080/a/x"),
            ("?r=2", "http://one.example:8080/a/b?r=2"),
            ("file:///etc/passwd", "file:///etc/passwd"),
            ("FILE:/etc/passwd", "FILE:/etc/passwd"),
        ] {
            assert_eq!(resolved(base, location), target, "{location}");
        }
        assert_eq!(resolved("http://one.example", "x"), "http://one.example/x");
    }

    #[test]
    fn secrets_of_a_url_are_not_shown() {
        assert_eq!(
            without_credentials("https://me:secret@host/p@th/disk.img?token=secret#secret"),
            "https://host/p@th/disk.img?…"
        );
        assert_eq!(without_credentials("https://me:sec@ret@host"), "https://host");
        assert_eq!(without_credentials("http://host:80/x"), "http://host:80/x");
    }
}
