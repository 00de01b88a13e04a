//! Figures of running machines: one call a host and period, the last two answers kept in memory.
//!
//! Owns: asking, and what is made of two answers (rates). Only hosts that are up and offer `stats` are asked, and always, not only
//! while somebody looks: a rate needs an earlier answer, and the file of metrics is written whether or not somebody looks. Nothing of
//! it is state: it is not in the ledger, and a restart forgets it.
//! Must not know: who may see a workspace, how figures are shown.

use super::Operate;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use vws_domain::{Connection, HostName, Timestamp, Workspace, WorkspaceId};
use vws_plugin_api::doc::{self, capabilities};

/// What was asked and kept, for all hosts.
#[derive(Default)]
pub struct Stats {
    hosts: Mutex<HashMap<HostName, Kept>>,
    calls: AtomicU64,
    failures: AtomicU64,
}

/// How often hosts were asked since the daemon started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatsCalls {
    /// Calls.
    pub calls: u64,
    /// Those of them that failed.
    pub failures: u64,
}

struct Kept {
    last: Arc<Answer>,
    before: Option<Arc<Answer>>,
}

/// A host's answer.
struct Answer {
    at: Timestamp,
    /// The same by a clock that nobody sets.
    clock: Instant,
    machines: HashMap<WorkspaceId, Sums>,
}

/// Figures of one machine at one instant. Sums run since its start; `None`: the hypervisor does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// CPU time used, in nanoseconds.
    pub cpu_time_ns: Option<u64>,
    /// Memory that it has, in MiB.
    pub memory_mib: Option<u64>,
    /// Memory of the host that it occupies, in MiB.
    pub resident_mib: Option<u64>,
    /// Bytes read from its disks.
    pub disk_read_bytes: Option<u64>,
    /// Bytes written to them.
    pub disk_written_bytes: Option<u64>,
    /// Bytes into the guest.
    pub net_received_bytes: Option<u64>,
    /// Bytes out of the guest.
    pub net_sent_bytes: Option<u64>,
}

/// What a machine does, from the last two answers of its host.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figures {
    /// The last answer.
    pub sums: Sums,
    /// When it came.
    pub at: Timestamp,
    /// CPU time per time, in percent of one CPU; 0 to 100 times its vCPUs.
    pub cpu_percent: Option<f64>,
    /// Bytes a second between the two answers, in the order of the sums.
    pub disk_read_rate: Option<u64>,
    /// Bytes a second.
    pub disk_written_rate: Option<u64>,
    /// Bytes a second.
    pub net_received_rate: Option<u64>,
    /// Bytes a second.
    pub net_sent_rate: Option<u64>,
}

impl Figures {
    /// Of an answer, and the one before it with the time between the two. A sum that went down belongs to another start of the machine:
    /// it has no rate.
    fn of(sums: Sums, at: Timestamp, before: Option<(Sums, Duration)>) -> Self {
        let seconds = before.map_or(0.0, |(_, between)| between.as_secs_f64());
        let grown = |of: fn(&Sums) -> Option<u64>| {
            let (old, _) = before?;
            let grown = of(&sums)?.checked_sub(of(&old)?)?;
            (seconds > 0.0).then(|| as_float(grown) / seconds)
        };
        let rate = |of| grown(of).map(rounded);
        Self {
            sums,
            at,
            cpu_percent: grown(|sums| sums.cpu_time_ns).map(|per_second| per_second / 1e7),
            disk_read_rate: rate(|sums| sums.disk_read_bytes),
            disk_written_rate: rate(|sums| sums.disk_written_bytes),
            net_received_rate: rate(|sums| sums.net_received_bytes),
            net_sent_rate: rate(|sums| sums.net_sent_bytes),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate is read by people: 53 bits are enough")]
fn as_float(number: u64) -> f64 {
    number as f64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates, and is not negative")]
fn rounded(number: f64) -> u64 {
    number.round() as u64
}

impl Stats {
    fn hosts(&self) -> MutexGuard<'_, HashMap<HostName, Kept>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, host: &HostName, answer: Answer) {
        let last = Arc::new(answer);
        let mut hosts = self.hosts();
        match hosts.get_mut(host) {
            Some(kept) => kept.before = Some(std::mem::replace(&mut kept.last, last)),
            None => drop(hosts.insert(host.clone(), Kept { last, before: None })),
        }
    }

    /// What the workspace's machine does, if its host has told.
    #[must_use]
    pub fn figures(&self, workspace: &Workspace) -> Option<Figures> {
        let (last, before) = {
            let hosts = self.hosts();
            let kept = hosts.get(workspace.host.as_ref()?)?;
            (Arc::clone(&kept.last), kept.before.clone())
        };
        let sums = *last.machines.get(&workspace.id)?;
        let before = before.and_then(|before| {
            let sums = *before.machines.get(&workspace.id)?;
            Some((sums, last.clock.saturating_duration_since(before.clock)))
        });
        Some(Figures::of(sums, last.at, before))
    }

    /// How often hosts were asked.
    #[must_use]
    pub fn calls(&self) -> StatsCalls {
        StatsCalls { calls: self.calls.load(Ordering::Relaxed), failures: self.failures.load(Ordering::Relaxed) }
    }

    /// Forgets a host that was removed.
    pub(super) fn forget(&self, host: &HostName) {
        self.hosts().remove(host);
    }
}

/// When the first call to a host is made: hosts are spread over the period, so that they are not all asked at once.
fn first_after(host: &HostName, every: Duration) -> Duration {
    let mut hasher = DefaultHasher::new();
    host.hash(&mut hasher);
    let thousandth = u32::try_from(hasher.finish() % 1000).unwrap_or(0);
    every * thousandth / 1000
}

impl Operate {
    /// The figures of machines.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Asks a host for its figures, for ever; one call is under way at a time.
    pub(super) async fn ask_stats(&self, host: &HostName) {
        let Some(every) = self.limits.stats_every else { return std::future::pending().await };
        tokio::time::sleep(first_after(host, every)).await;
        let mut beats = tokio::time::interval(every);
        beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            beats.tick().await;
            let asked = self.core.read(|site| {
                site.host(host)
                    .is_some_and(|host| host.connection == Connection::Up && host.cannot(capabilities::STATS).is_none())
            });
            if asked {
                self.ask_stats_once(host).await;
            }
        }
    }

    async fn ask_stats_once(&self, host: &HostName) {
        self.stats.calls.fetch_add(1, Ordering::Relaxed);
        let ask = doc::HostRef { host: host.to_string() };
        let id = format!("stats/{host}");
        let answer: Result<(doc::HostStats, _), _> =
            self.backends.call(host.as_str(), doc::methods::HOST_STATS, &id, &ask, self.limits.call_deadline, Vec::new()).await;
        match answer {
            Ok((told, _)) => {
                let machines = told.workspaces.into_iter().filter_map(|machine| {
                    let id = WorkspaceId::parse(&machine.workspace).ok()?;
                    let sums = Sums {
                        cpu_time_ns: machine.cpu_time_ns,
                        memory_mib: machine.memory_mib,
                        resident_mib: machine.resident_mib,
                        disk_read_bytes: machine.disk_read_bytes,
                        disk_written_bytes: machine.disk_written_bytes,
                        net_received_bytes: machine.net_received_bytes,
                        net_sent_bytes: machine.net_sent_bytes,
                    };
                    Some((id, sums))
                });
                self.stats.keep(host, Answer { at: self.env.now(), clock: Instant::now(), machines: machines.collect() });
            }
            Err(error) => {
                // Whether the host answers is found out by asking what it runs; here only the figures grow old.
                self.stats.failures.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(%host, %error, "a host told no figures");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Figures, Sums, first_after};
    use std::time::Duration;
    use vws_domain::{HostName, Timestamp};

    #[test]
    fn rates_are_of_the_time_between_two_answers() {
        let old = Sums { cpu_time_ns: Some(1_000_000_000), disk_read_bytes: Some(500), ..Sums::default() };
        let new = Sums { cpu_time_ns: Some(4_000_000_000), disk_read_bytes: Some(2500), net_sent_bytes: Some(7), ..old };
        let figures = Figures::of(new, Timestamp(9), Some((old, Duration::from_secs(2))));
        assert_eq!(figures.cpu_percent, Some(150.0));
        assert_eq!(figures.disk_read_rate, Some(1000));
        assert_eq!((figures.net_sent_rate, figures.disk_written_rate), (None, None), "one answer, or none, has no rate");
        assert_eq!(Figures::of(new, Timestamp(9), None).cpu_percent, None);
        assert_eq!(Figures::of(new, Timestamp(9), Some((old, Duration::ZERO))).cpu_percent, None);
        assert_eq!(Figures::of(old, Timestamp(9), Some((new, Duration::from_secs(2)))).cpu_percent, None, "it was started anew");
    }

    #[test]
    fn hosts_are_spread_over_the_period() {
        let every = Duration::from_secs(10);
        let firsts: Vec<Duration> = (0..100).map(|n| first_after(&HostName::parse(&format!("h{n}")).unwrap(), every)).collect();
        assert!(firsts.iter().all(|first| *first < every));
        let early = firsts.iter().filter(|first| **first < every / 2).count();
        assert!((20..80).contains(&early), "{early} of 100 in the first half");
    }
}
