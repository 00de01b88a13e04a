//! A lease: how long a workspace may run and what happens then. Ends survive downtime.

use crate::Timestamp;

/// What happens at the end of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EndAction {
    /// The guest is stopped; the workspace stays.
    Stop,
    /// It is serialized; it can be resumed under a new lease.
    Serialize,
    /// It is destroyed.
    Destroy,
}

impl EndAction {
    /// The word on the bus.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Serialize => "serialize",
            Self::Destroy => "destroy",
        }
    }

    /// The action with this word.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Stop, Self::Serialize, Self::Destroy].into_iter().find(|action| action.name() == name)
    }
}

/// A lease in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// When it began.
    pub from: Timestamp,
    /// When it ends; `None` for no end.
    pub until: Option<Timestamp>,
    /// What happens then.
    pub action: EndAction,
    /// Seconds between the end and the action.
    pub grace_seconds: u64,
    /// Set when the daemon was down at the end: the action waits until then (the grace counted from the return).
    pub deferred_until: Option<Timestamp>,
    /// Whether the end was acted upon; a renewal clears it.
    pub ended: bool,
}

/// What a lease asks for at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseDue {
    /// Nothing until then (`None`: never).
    Not(Option<Timestamp>),
    /// The end passed while nobody watched: the grace runs from now.
    Defer(Timestamp),
    /// Act now.
    Act(EndAction),
}

impl Lease {
    /// What is due at `now`. `watching_since` is when the daemon started: an end (with its grace) that passed before that gets a
    /// new grace from `watching_since`, so that nothing is ended silently by downtime.
    #[must_use]
    pub fn due(&self, now: Timestamp, watching_since: Timestamp) -> LeaseDue {
        let Some(until) = self.until else { return LeaseDue::Not(None) };
        if self.ended {
            return LeaseDue::Not(None);
        }
        let mut act_at = until.plus_seconds(self.grace_seconds);
        if let Some(deferred) = self.deferred_until {
            act_at = act_at.max(deferred);
        } else if until < watching_since && now >= until {
            let deferred = watching_since.plus_seconds(self.grace_seconds);
            if deferred > act_at {
                return LeaseDue::Defer(deferred);
            }
        }
        if now >= act_at { LeaseDue::Act(self.action) } else { LeaseDue::Not(Some(act_at)) }
    }

    /// Whole minutes that the lease covers, rounded up to `charge_minutes` (at least 1); 0 without an end.
    #[must_use]
    pub fn minutes(&self, charge_minutes: u64) -> u64 {
        let Some(until) = self.until else { return 0 };
        let unit = charge_minutes.max(1);
        until.seconds_since(self.from).div_ceil(60).div_ceil(unit).saturating_mul(unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(until_s: u64) -> Lease {
        Lease {
            from: Timestamp(0),
            until: Some(Timestamp(0).plus_seconds(until_s)),
            action: EndAction::Stop,
            grace_seconds: 60,
            deferred_until: None,
            ended: false,
        }
    }

    #[test]
    fn an_end_that_was_watched_waits_for_its_grace() {
        let start = Timestamp(0);
        assert_eq!(lease(100).due(Timestamp(0).plus_seconds(99), start), LeaseDue::Not(Some(Timestamp(0).plus_seconds(160))));
        assert_eq!(lease(100).due(Timestamp(0).plus_seconds(160), start), LeaseDue::Act(EndAction::Stop));
    }

    #[test]
    fn an_end_missed_while_down_gets_the_grace_from_the_return() {
        let back = Timestamp(0).plus_seconds(10_000);
        let mut lease = lease(100);
        let deferred = back.plus_seconds(60);
        assert_eq!(lease.due(back, back), LeaseDue::Defer(deferred));
        lease.deferred_until = Some(deferred);
        assert_eq!(lease.due(back.plus_seconds(59), back), LeaseDue::Not(Some(deferred)));
        assert_eq!(lease.due(deferred, back), LeaseDue::Act(EndAction::Stop));
    }

    #[test]
    fn minutes_round_up_to_the_charge_unit() {
        assert_eq!(lease(61).minutes(1), 2);
        assert_eq!(lease(61).minutes(15), 15);
    }
}
