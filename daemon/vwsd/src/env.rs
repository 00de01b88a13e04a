//! The only doors to time and chance. Everything else gets its instants and ids from here, so that all of it can be simulated.

use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};
use vws_domain::Timestamp;

/// Clock and ids.
pub struct Env {
    now: Box<dyn Fn() -> Timestamp + Send + Sync>,
    id: Box<dyn Fn() -> u128 + Send + Sync>,
}

impl Env {
    /// The machine's clock and time-ordered random ids.
    #[must_use]
    pub fn system() -> Self {
        Self {
            now: Box::new(|| {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Timestamp(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
            }),
            id: Box::new(|| uuid::Uuid::now_v7().as_u128()),
        }
    }

    /// A clock that stands at `now` and ids that count up from `first`: for tests.
    #[must_use]
    pub fn fixed(now: Timestamp, first: u128) -> Self {
        let next = Mutex::new(first);
        Self {
            now: Box::new(move || now),
            id: Box::new(move || {
                let mut next = next.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                *next += 1;
                *next
            }),
        }
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        (self.now)()
    }

    /// A new id.
    #[must_use]
    pub fn id(&self) -> u128 {
        (self.id)()
    }
}
