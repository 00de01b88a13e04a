//! What can go wrong inside the store, and the one map to the product's error.

use rusqlite::ErrorCode;
use vws_domain::{Error, ErrorKind};

/// `Result` inside the store; the product's is [`vws_domain::Result`].
pub(crate) type Tried<T> = std::result::Result<T, Fail>;

/// A failure inside the store.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fail {
    /// SQLite says so.
    #[error("{0}")]
    Sql(#[from] rusqlite::Error),
    /// A value cannot be stored.
    #[error("{0}")]
    Value(String),
    /// A row cannot be read back.
    #[error("{0}")]
    Row(String),
}

impl Fail {
    /// Whether the failure is the batch's own: a constraint or a value. Everything else (device, memory, damage) is the
    /// whole transaction's.
    pub(crate) fn is_own(&self) -> bool {
        match self {
            Self::Value(_) => true,
            Self::Row(_) => false,
            Self::Sql(error) => matches!(
                error.sqlite_error_code(),
                Some(ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::TypeMismatch)
            ),
        }
    }

    /// Whether SQLite ran out of storage: nothing is damaged, and later commits may succeed.
    pub(crate) fn is_full(&self) -> bool {
        matches!(self, Self::Sql(error) if error.sqlite_error_code() == Some(ErrorCode::DiskFull))
    }

    /// The product's error about `object`.
    pub(crate) fn about(&self, object: impl Into<String>) -> Error {
        let object = object.into();
        let detail = self.to_string();
        let error = match self {
            Self::Sql(sql) => match sql.sqlite_error_code() {
                Some(ErrorCode::DiskFull) => Error::new(
                    ErrorKind::NoSpace,
                    object,
                    "the storage device of the daemon's state is full",
                    "free space there, then repeat the request",
                ),
                Some(ErrorCode::ConstraintViolation) => Error::new(
                    ErrorKind::Conflict,
                    object,
                    format!("contradicts what is stored ({detail})"),
                    "repeat the request; if it fails again, run `vws doctor` and report it",
                )
                .with_code("constraint"),
                Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => damaged(object, &detail),
                _ => Error::internal(object, ""),
            },
            Self::Value(fact) => Error::invalid(object, fact.clone(), "ask for an amount in range"),
            Self::Row(fact) => damaged(object, fact),
        };
        error.with_detail(detail)
    }
}

/// What is in the database cannot be right.
pub(crate) fn damaged(object: impl Into<String>, fact: &str) -> Error {
    Error::new(
        ErrorKind::Damaged,
        object,
        format!("is damaged: {fact}"),
        "stop the daemon, keep a copy of the file, and put a backup in its place",
    )
}

/// A whole number as SQLite keeps it.
pub(crate) fn int(value: u64) -> Tried<i64> {
    i64::try_from(value).map_err(|_| Fail::Value(format!("{value} is above {}, the largest number that can be stored", i64::MAX)))
}
