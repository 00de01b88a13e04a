//! Which call may run now: what a plugin declared about concurrency, and fairness among its hosts.
//!
//! Owns: the queues of a plugin's process. A pure structure: no threads, no sockets, no clock.
//!
//! A call has a key (workspace or host, by [`Concurrency`]); calls of one key run one after the other, in order of arrival.
//! A host has at most [`MAX_CALLS_PER_HOST`] calls running, so that a host that hangs cannot take every thread.

use std::collections::{HashMap, VecDeque};
use vws_plugin_api::doc::Concurrency;

/// Calls of one host that run at once in one process.
pub const MAX_CALLS_PER_HOST: usize = 8;

/// A call to be run.
#[derive(Debug)]
pub(crate) struct Job<T> {
    pub(crate) call: u64,
    pub(crate) key: String,
    pub(crate) host: String,
    pub(crate) what: T,
}

/// The queues.
pub(crate) struct Schedule<T> {
    concurrency: Concurrency,
    /// Keys that are taken (by a call that runs or waits for its host) and who waits for them.
    keys: HashMap<String, VecDeque<Job<T>>>,
    hosts: HashMap<String, HostQueue<T>>,
    runnable: VecDeque<Job<T>>,
}

struct HostQueue<T> {
    running: usize,
    waiting: VecDeque<Job<T>>,
}

impl<T> Schedule<T> {
    pub(crate) fn new(concurrency: Concurrency) -> Self {
        Self { concurrency, keys: HashMap::new(), hosts: HashMap::new(), runnable: VecDeque::new() }
    }

    /// Takes a call in.
    pub(crate) fn submit(&mut self, call: u64, host: &str, workspace: &str, what: T) {
        let key = match self.concurrency {
            Concurrency::Serial => String::new(),
            Concurrency::PerWorkspace if workspace.is_empty() => format!("h {host}"),
            Concurrency::PerWorkspace => format!("w {workspace}"),
            Concurrency::Parallel => format!("c {call}"),
        };
        let job = Job { call, key, host: host.to_owned(), what };
        match self.keys.get_mut(&job.key) {
            Some(waiting) => waiting.push_back(job),
            None => {
                self.keys.insert(job.key.clone(), VecDeque::new());
                self.queue_at_host(job);
            }
        }
    }

    fn queue_at_host(&mut self, job: Job<T>) {
        let host = self.hosts.entry(job.host.clone()).or_insert_with(|| HostQueue { running: 0, waiting: VecDeque::new() });
        if host.running < MAX_CALLS_PER_HOST {
            host.running += 1;
            self.runnable.push_back(job);
        } else {
            host.waiting.push_back(job);
        }
    }

    /// The next call to run; [`Schedule::finish`] it with the same key and host.
    pub(crate) fn take(&mut self) -> Option<Job<T>> {
        self.runnable.pop_front()
    }

    /// Gives back what [`Schedule::take`] gave, to be the next again.
    pub(crate) fn put_back(&mut self, job: Job<T>) {
        self.runnable.push_front(job);
    }

    /// Whether [`Schedule::take`] would give one.
    pub(crate) fn has_runnable(&self) -> bool {
        !self.runnable.is_empty()
    }

    /// A call that was taken has ended.
    pub(crate) fn finish(&mut self, key: &str, host: &str) {
        if let Some(queue) = self.hosts.get_mut(host) {
            match queue.waiting.pop_front() {
                Some(next) => self.runnable.push_back(next),
                None => {
                    queue.running = queue.running.saturating_sub(1);
                    if queue.running == 0 {
                        self.hosts.remove(host);
                    }
                }
            }
        }
        self.free_key(key);
    }

    fn free_key(&mut self, key: &str) {
        match self.keys.get_mut(key).and_then(VecDeque::pop_front) {
            Some(next) => self.queue_at_host(next),
            None => {
                self.keys.remove(key);
            }
        }
    }

    /// Takes a call out that has not begun; `None` if it runs or is not known.
    pub(crate) fn withdraw(&mut self, call: u64) -> Option<T> {
        for waiting in self.keys.values_mut() {
            if let Some(at) = waiting.iter().position(|job| job.call == call) {
                return waiting.remove(at).map(|job| job.what);
            }
        }
        for queue in self.hosts.values_mut() {
            if let Some(at) = queue.waiting.iter().position(|job| job.call == call) {
                let job = queue.waiting.remove(at)?;
                self.free_key(&job.key);
                return Some(job.what);
            }
        }
        let at = self.runnable.iter().position(|job| job.call == call)?;
        let job = self.runnable.remove(at)?;
        self.finish(&job.key, &job.host);
        Some(job.what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(schedule: &mut Schedule<()>) -> Vec<Job<()>> {
        std::iter::from_fn(|| schedule.take()).collect()
    }

    fn numbers(jobs: &[Job<()>]) -> Vec<u64> {
        jobs.iter().map(|job| job.call).collect()
    }

    #[test]
    fn serial_runs_one_at_a_time_in_order() {
        let mut schedule = Schedule::new(Concurrency::Serial);
        for call in 1..=3 {
            schedule.submit(call, "h", "", ());
        }
        let first = taken(&mut schedule);
        assert_eq!(numbers(&first), [1]);
        schedule.finish(&first[0].key, &first[0].host);
        assert_eq!(numbers(&taken(&mut schedule)), [2]);
    }

    #[test]
    fn workspaces_run_beside_each_other_and_calls_of_one_do_not() {
        let mut schedule = Schedule::new(Concurrency::PerWorkspace);
        schedule.submit(1, "h", "a", ());
        schedule.submit(2, "h", "a", ());
        schedule.submit(3, "h", "b", ());
        schedule.submit(4, "h", "", ());
        schedule.submit(5, "h", "", ());
        schedule.submit(6, "i", "", ());
        let first = taken(&mut schedule);
        assert_eq!(numbers(&first), [1, 3, 4, 6]);
        schedule.finish(&first[2].key, "h");
        assert_eq!(numbers(&taken(&mut schedule)), [5]);
        schedule.finish(&first[0].key, "h");
        assert_eq!(numbers(&taken(&mut schedule)), [2]);
    }

    #[test]
    fn one_host_cannot_take_everything() {
        let mut schedule = Schedule::new(Concurrency::Parallel);
        for call in 0..20 {
            schedule.submit(call, "slow", "", ());
        }
        schedule.submit(99, "quick", "", ());
        let first = taken(&mut schedule);
        assert_eq!(first.len(), MAX_CALLS_PER_HOST + 1);
        assert_eq!(first.last().unwrap().call, 99);
        schedule.finish(&first[0].key, "slow");
        assert_eq!(numbers(&taken(&mut schedule)), [8]);
    }

    #[test]
    fn a_call_is_withdrawn_from_wherever_it_waits_and_nothing_sticks() {
        let mut schedule = Schedule::new(Concurrency::PerWorkspace);
        schedule.submit(1, "h", "a", ());
        schedule.submit(2, "h", "a", ());
        schedule.submit(3, "h", "a", ());
        assert!(schedule.withdraw(2).is_some(), "waits for its key");
        assert!(schedule.withdraw(1).is_some(), "runnable, not taken");
        let next = taken(&mut schedule);
        assert_eq!(numbers(&next), [3]);
        assert!(schedule.withdraw(3).is_none(), "it runs");
        for call in 10..20 {
            schedule.submit(call, "h", &format!("w{call}"), ());
        }
        schedule.submit(20, "h", "w19", ());
        assert!(schedule.withdraw(19).is_some(), "waits for its host");
        let mut running = taken(&mut schedule);
        schedule.finish(&next[0].key, "h");
        running.extend(taken(&mut schedule));
        let mut seen = numbers(&running);
        while let Some(job) = running.pop() {
            schedule.finish(&job.key, &job.host);
            let more = taken(&mut schedule);
            seen.extend(numbers(&more));
            running.extend(more);
        }
        seen.sort_unstable();
        assert_eq!(seen, [10, 11, 12, 13, 14, 15, 16, 17, 18, 20]);
        assert!(schedule.keys.is_empty() && schedule.hosts.is_empty(), "nothing sticks");
    }
}
