//! The named limits of the store: how much one transaction takes in, and how long records are kept.

/// Limits of a [`crate::Store`]. Only what is no longer part of the projection is ever pruned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Batches that share one transaction and one fsync, at most.
    pub group_batches: usize,
    /// Committed batches between two prunings.
    pub prune_every: u64,
    /// Events kept, newest first: how far back `EventsSince` reaches.
    pub events: u64,
    /// Ended jobs kept after they are no longer shown.
    pub ended_jobs: u64,
    /// Decisions kept: how far back `vws why` and replay reach.
    pub decisions: u64,
    /// Seconds for which decisions are kept, counted from the newest; 0: as many as there may be.
    pub decision_seconds: u64,
    /// Workspaces kept after they are gone.
    pub gone_workspaces: u64,
    /// Manifests of bundles kept after they were consumed; their ids are kept for ever.
    pub consumed_bundles: u64,
    /// Policy sets kept besides those that a kept decision names: how far back a rollback reaches at least.
    pub policy_sets: u64,
    /// Entries of the policies' history that are kept.
    pub policy_generations: u64,
    /// Old versions of hosts, and of reservations, kept for replay. Versions that no kept decision saw go first.
    pub ledger_versions: u64,
    /// Seconds for which accounts reach back: a running version of a reservation is kept for so long after its end, also when nothing
    /// else needs it.
    pub account_seconds: u64,
    /// Old versions kept for accounts alone, at most; the oldest go first.
    pub account_versions: u64,
    /// Seconds for which a request id is remembered.
    pub request_seconds: u64,
    /// Milliseconds that an opener waits for another one's lock: a daemon that was killed holds it until the kernel has cleared it away.
    pub lock_wait_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            group_batches: 256,
            prune_every: 2_000,
            events: 100_000,
            ended_jobs: 20_000,
            decisions: 1_000_000,
            decision_seconds: 400 * 86_400,
            gone_workspaces: 20_000,
            consumed_bundles: 20_000,
            policy_sets: 64,
            policy_generations: 2_000,
            ledger_versions: 500_000,
            account_seconds: 400 * 86_400,
            account_versions: 4_000_000,
            request_seconds: 7 * 86_400,
            lock_wait_ms: 2_000,
        }
    }
}
