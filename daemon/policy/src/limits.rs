//! Every limit of a policy has a name, a default and a test.

use std::time::Duration;

/// The limits of one decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Processor time that one decision may take, the running of the file's chunk included. Library calls may overrun it by
    /// some milliseconds; an overrun is always noticed and is a refusal. Default 50 ms.
    pub deadline: Duration,
    /// Bytes that a Luau state may hold. Default 16 MiB, of which a fresh state takes less than one.
    pub memory_bytes: usize,
    /// Characters of a reason's text; more are cut off. Default 500.
    pub text_chars: usize,
    /// Characters of a reason's code; more are an error. Default 64.
    pub code_chars: usize,
    /// How many hosts placement's `filter` and `score` see at a time, the best by `rank` first; the policy can set its own
    /// number (`consider`), 0 for every host. Default 64.
    pub consider: usize,
    /// Terms of one ranking. Default 32.
    pub terms: usize,
    /// Placements of the same owner or group that placement's functions see as a list; `placements_total` says how many there
    /// are. Default 256.
    pub placements: usize,
    /// Hosts in the record of a placement that was not asked to explain. Default 8.
    pub recorded_hosts: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            deadline: Duration::from_millis(50),
            memory_bytes: 16 * 1024 * 1024,
            text_chars: 500,
            code_chars: 64,
            consider: 64,
            terms: 32,
            placements: 256,
            recorded_hosts: 8,
        }
    }
}

impl Limits {
    /// Every limit by name, with its unit in the name: what it is, and what it is by default.
    #[must_use]
    pub fn named(&self) -> Vec<(&'static str, u64, u64)> {
        let rows = |limits: &Self| {
            [
                ("deadline_ms", u64::try_from(limits.deadline.as_millis()).unwrap_or(u64::MAX)),
                ("memory_kib", limits.memory_bytes as u64 / 1024),
                ("text_characters", limits.text_chars as u64),
                ("code_characters", limits.code_chars as u64),
                ("hosts_considered", limits.consider as u64),
                ("ranking_terms", limits.terms as u64),
                ("placements_shown", limits.placements as u64),
                ("hosts_recorded", limits.recorded_hosts as u64),
            ]
        };
        rows(self).into_iter().zip(rows(&Self::default())).map(|((name, is), (_, default))| (name, is, default)).collect()
    }
}

/// The limits of a policy folder.
pub mod source_limits {
    /// Files of one set.
    pub const FILES: usize = 64;
    /// Bytes of one file.
    pub const FILE_BYTES: usize = 256 * 1024;
    /// Bytes of all files together.
    pub const TOTAL_BYTES: usize = 1024 * 1024;
}
