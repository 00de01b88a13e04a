//! The one error of the product. It names an object, a fact and a remedy; the bus edge maps its kind to a
//! D-Bus error name and the command line maps that name to an exit code. What only an operator should read
//! goes into `detail`, which is logged and never sent.

use crate::id::DecisionId;
use std::fmt;

/// `Result` with the product's error.
pub type Result<T> = std::result::Result<T, Error>;

/// What kind of failure it is. Each kind is one D-Bus error name, `org.virtualworkspaces1.Error.<Kind>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ErrorKind {
    /// The access policy refused, or the act is for administrators.
    AccessDenied,
    /// The quota policy refused.
    QuotaExceeded,
    /// No host can take it: too large for every host, no room now, or filtered by the site's placement.
    NoHost,
    /// An argument is malformed or out of range.
    InvalidArgument,
    /// The object's present state does not allow the request.
    InvalidState,
    /// There is no such object, or the caller may not know of it.
    NotFound,
    /// The name is taken.
    AlreadyExists,
    /// The same request id was used with another request, or the object changed in between.
    Conflict,
    /// A policy script failed, overran a limit or is missing; nothing was permitted.
    PolicyFailure,
    /// The backend plugin or its hypervisor failed.
    BackendFailure,
    /// The host does not answer.
    HostUnavailable,
    /// The backend cannot do or enforce this here.
    Unsupported,
    /// A named limit is reached; try again later.
    Busy,
    /// The job was cancelled.
    Cancelled,
    /// A deadline passed.
    TimedOut,
    /// An image, bundle or stream is damaged or not what its digest says.
    Damaged,
    /// A storage device is full.
    NoSpace,
    /// A defect of the daemon.
    Internal,
    /// Every address of a network's pool is held.
    NoAddress,
}

impl ErrorKind {
    /// Every kind, in the order of the table in the manual. The next kind goes at the end, and into `bus/error.rs`.
    pub const ALL: [Self; 19] = [
        Self::AccessDenied,
        Self::QuotaExceeded,
        Self::NoHost,
        Self::InvalidArgument,
        Self::InvalidState,
        Self::NotFound,
        Self::AlreadyExists,
        Self::Conflict,
        Self::PolicyFailure,
        Self::BackendFailure,
        Self::HostUnavailable,
        Self::Unsupported,
        Self::Busy,
        Self::Cancelled,
        Self::TimedOut,
        Self::Damaged,
        Self::NoSpace,
        Self::Internal,
        Self::NoAddress,
    ];

    /// The name as it is stored and sent: the variant's own name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::AccessDenied => "AccessDenied",
            Self::QuotaExceeded => "QuotaExceeded",
            Self::NoHost => "NoHost",
            Self::InvalidArgument => "InvalidArgument",
            Self::InvalidState => "InvalidState",
            Self::NotFound => "NotFound",
            Self::AlreadyExists => "AlreadyExists",
            Self::Conflict => "Conflict",
            Self::PolicyFailure => "PolicyFailure",
            Self::BackendFailure => "BackendFailure",
            Self::HostUnavailable => "HostUnavailable",
            Self::Unsupported => "Unsupported",
            Self::Busy => "Busy",
            Self::Cancelled => "Cancelled",
            Self::TimedOut => "TimedOut",
            Self::Damaged => "Damaged",
            Self::NoSpace => "NoSpace",
            Self::Internal => "Internal",
            Self::NoAddress => "NoAddress",
        }
    }

    /// The kind with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// A failure: "`object`: `fact`; `remedy` (decision `id`)".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// What kind; decides the D-Bus name and the exit code.
    pub kind: ErrorKind,
    /// A stable, machine-readable code within the kind, such as `too-large-for-every-host`. May be empty.
    pub code: String,
    /// What the error is about, user words in backticks: "workspace `web`".
    pub object: String,
    /// What is the case, with the numbers compared.
    pub fact: String,
    /// What to do about it.
    pub remedy: String,
    /// The decision under which all of it can be read again.
    pub decision: Option<DecisionId>,
    /// For the operator's log only.
    pub detail: String,
}

impl Error {
    /// An error of `kind`.
    pub fn new(kind: ErrorKind, object: impl Into<String>, fact: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            kind,
            code: String::new(),
            object: object.into(),
            fact: fact.into(),
            remedy: remedy.into(),
            decision: None,
            detail: String::new(),
        }
    }

    /// An [`ErrorKind::InvalidArgument`].
    pub fn invalid(object: impl Into<String>, fact: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidArgument, object, fact, remedy)
    }

    /// An [`ErrorKind::NotFound`]: also the answer when the caller may not know that the object exists.
    pub fn not_found(object: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, object, "not found", "`vws list` shows what you may see")
    }

    /// An [`ErrorKind::Internal`]: `detail` is logged, never sent.
    pub fn internal(object: impl Into<String>, detail: impl Into<String>) -> Self {
        let mut error = Self::new(ErrorKind::Internal, object, "failed inside the daemon", "see the daemon's log and report it");
        error.detail = detail.into();
        error
    }

    /// The same error with a stable code.
    #[must_use]
    pub fn with_code(mut self, code: impl Into<String>) -> Self {
        self.code = code.into();
        self
    }

    /// The same error with what only the operator should read.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }

    /// The same error with the decision that made it.
    #[must_use]
    pub fn with_decision(mut self, decision: DecisionId) -> Self {
        self.decision = Some(decision);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.object.is_empty() {
            write!(f, "{}: ", self.object)?;
        }
        f.write_str(&self.fact)?;
        if !self.remedy.is_empty() {
            write!(f, "; {}", self.remedy)?;
        }
        if let Some(decision) = self.decision {
            write!(f, " (decision {decision})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// User words made safe for a message: control characters escaped, at most 80 characters.
#[must_use]
pub fn shown(text: &str) -> String {
    let mut out = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == 80 {
            out.push('…');
            break;
        }
        if c.is_control() || c == '`' {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}
