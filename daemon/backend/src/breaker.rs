//! A breaker: after a number of failures within a window nothing is tried for a while, then one failure is enough.
//!
//! Owns: the limits and the arithmetic. Must not know: clocks (`now` is an argument), what failed.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Failures within [`WINDOW`] that open a host's breaker: calls of that host alone were in flight, or hung.
pub const HOST_FAILURES: usize = 3;
/// Failures within [`WINDOW`] that open the breaker of a child and of all hosts that it serves.
pub const CHILD_FAILURES: usize = 6;
/// How long a failure counts.
pub const WINDOW: Duration = Duration::from_secs(60);
/// How long an open breaker refuses.
pub const COOL_DOWN: Duration = Duration::from_secs(20);
/// Longest pause before a child is started again.
pub const BACK_OFF_MAX: Duration = Duration::from_secs(5);
/// Pause after the second failure within the window; it doubles with each more. After the first there is none.
pub const BACK_OFF_FIRST: Duration = Duration::from_millis(100);

/// The state of one breaker.
#[derive(Debug)]
pub(crate) struct Breaker {
    limit: usize,
    failures: VecDeque<Instant>,
    open_until: Option<Instant>,
}

impl Breaker {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, failures: VecDeque::new(), open_until: None }
    }

    fn forget_old(&mut self, now: Instant) {
        while self.failures.front().is_some_and(|at| now.saturating_duration_since(*at) > WINDOW) {
            self.failures.pop_front();
        }
    }

    /// Counts a failure. Whether it opened with this one: it had let through until now.
    pub(crate) fn failed(&mut self, now: Instant) -> bool {
        let refused = self.refuses_for(now).is_some();
        self.forget_old(now);
        if self.failures.len() >= self.limit {
            self.failures.pop_front();
        }
        self.failures.push_back(now);
        if self.failures.len() >= self.limit {
            self.open_until = Some(now + COOL_DOWN);
        }
        !refused && self.refuses_for(now).is_some()
    }

    /// Failures that count now.
    pub(crate) fn count(&mut self, now: Instant) -> usize {
        self.forget_old(now);
        self.failures.len()
    }

    /// How long it still refuses; `None` when it lets through.
    pub(crate) fn refuses_for(&self, now: Instant) -> Option<Duration> {
        self.open_until.map(|until| until.saturating_duration_since(now)).filter(|left| !left.is_zero())
    }

    /// The pause before the next try, counted from the last failure.
    pub(crate) fn back_off(&mut self, now: Instant) -> Duration {
        let Some(doublings) = self.count(now).checked_sub(2) else { return Duration::ZERO };
        let pause = BACK_OFF_FIRST
            .saturating_mul(1_u32.checked_shl(u32::try_from(doublings).unwrap_or(16).min(16)).unwrap_or(u32::MAX))
            .min(BACK_OFF_MAX);
        let since = self.failures.back().map_or(Duration::MAX, |last| now.saturating_duration_since(*last));
        pause.saturating_sub(since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_at_the_limit_and_lets_one_through_after_the_cool_down() {
        let start = Instant::now();
        let mut breaker = Breaker::new(3);
        assert!(!breaker.failed(start));
        assert!(!breaker.failed(start));
        assert_eq!(breaker.refuses_for(start), None);
        assert!(breaker.failed(start), "it opens now");
        assert!(!breaker.failed(start), "it was open");
        assert_eq!(breaker.refuses_for(start), Some(COOL_DOWN));
        let later = start + COOL_DOWN;
        assert_eq!(breaker.refuses_for(later), None);
        breaker.failed(later);
        assert_eq!(breaker.refuses_for(later), Some(COOL_DOWN), "one more failure opens it again");
        let much_later = later + WINDOW + Duration::from_secs(1);
        breaker.failed(much_later);
        assert_eq!(breaker.refuses_for(much_later), None, "old failures are forgotten");
    }

    #[test]
    fn the_pause_doubles_up_to_its_limit() {
        let now = Instant::now();
        let mut breaker = Breaker::new(20);
        let mut pauses = Vec::new();
        for _ in 0..10 {
            breaker.failed(now);
            pauses.push(breaker.back_off(now).as_millis());
        }
        assert_eq!(pauses, [0, 100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000]);
        assert_eq!(breaker.back_off(now + Duration::from_secs(4)), Duration::from_secs(1));
    }
}
