//! The trouble that a host is told to make: latency, failures, hangs, deaths; and, while it runs, its cable.
//!
//! A host with a `directory` is unreachable as long as the file `cable` is in its folder there. What stands in it says how: nothing or
//! `refused` (it answers at once that it is not there), `silent` (no answer; a cancel ends the call), `deaf` (not even that does).

use crate::settings::Settings;
use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use vws_plugin_api::doc::{Failure, Retry, codes};
use vws_plugin_api::sdk::Call;

/// How often a waiting call looks whether it was cancelled.
const LOOK: Duration = Duration::from_millis(2);

/// A host's chance and its counts of calls.
pub struct Trouble {
    counts: HashMap<String, u64>,
    chance: u64,
}

/// What a call has to go through before it does anything.
pub struct Ordeal {
    latency: Duration,
    failure: Option<Failure>,
    /// Whether a cancel ends the hang.
    hang: Option<bool>,
    die: Option<PathBuf>,
    cable: Option<PathBuf>,
    host: String,
}

impl Trouble {
    /// Trouble that begins anew.
    pub fn new(seed: u64) -> Self {
        Self { counts: HashMap::new(), chance: seed }
    }

    /// A number from 0 to 1 (splitmix64).
    fn next(&mut self) -> f64 {
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.chance;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        f64::from(u32::try_from(z >> 32).unwrap_or(0)) / f64::from(u32::MAX)
    }

    /// What is in store for the next call of `method`.
    pub fn ordeal(&mut self, settings: &Settings, host: &str, method: &str) -> Ordeal {
        let count = self.counts.entry(method.to_owned()).or_insert(0);
        *count += 1;
        let count = *count;
        if settings.journal {
            journal(settings, host, method);
        }
        let mut failure = None;
        for rule in settings.fail.iter().filter(|rule| rule.method == method) {
            let hit = match (rule.nth, rule.probability) {
                (Some(nth), _) => nth == count,
                (None, Some(probability)) => self.next() < probability,
                (None, None) => true,
            };
            if hit && failure.is_none() {
                let retry = if rule.code == codes::UNREACHABLE { Retry::Later } else { Retry::Never };
                failure = Some(
                    Failure::new(&rule.code, format!("call {count} of `{method}` fails, as the host's settings say"))
                        .about(format!("host `{host}`"))
                        .retry(retry),
                );
            }
        }
        let hang = settings
            .hang
            .iter()
            .find(|rule| rule.method == method && rule.nth.is_none_or(|nth| nth == count))
            .map(|rule| rule.heeds_cancel);
        Ordeal {
            latency: Duration::from_millis(settings.latency_ms),
            failure,
            hang,
            cable: settings.directory.as_ref().map(|directory| directory.join(host).join("cable")),
            host: host.to_owned(),
            die: if settings.die.as_deref() == Some(method) { marker(settings, host, method, "before") } else { None },
        }
    }
}

/// Notes a call in the host's folder, for who counts them. What cannot be noted is not: the call itself is not about that.
fn journal(settings: &Settings, host: &str, method: &str) {
    use std::io::Write;
    let Some(path) = settings.directory.as_ref().map(|directory| directory.join(host).join("calls")) else { return };
    let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
    let _noted = file.and_then(|mut file| file.write_all(format!("{method}\n").as_bytes()));
}

fn marker(settings: &Settings, host: &str, method: &str, when: &str) -> Option<PathBuf> {
    settings.directory.as_ref().map(|directory| directory.join(host).join(format!("died-{when}-{method}")))
}

impl Ordeal {
    /// Waits or fails while the cable is cut.
    fn reach(&self, call: &Call) -> Result<(), Failure> {
        let Some(cable) = &self.cable else { return Ok(()) };
        loop {
            match std::fs::read_to_string(cable).as_deref().map(str::trim) {
                Err(_) => return Ok(()),
                Ok("silent") => call.check()?,
                Ok("deaf") => {}
                Ok(_) => {
                    return Err(Failure::new(codes::UNREACHABLE, "its cable is cut")
                        .about(format!("host `{}`", self.host))
                        .remedy("remove the file `cable` from its folder")
                        .retry(Retry::Later));
                }
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Goes through it.
    pub fn endure(self, call: &Call) -> Result<(), Failure> {
        if let Some(marker) = &self.die {
            die_once(marker);
        }
        match self.hang {
            Some(true) => loop {
                call.check()?;
                std::thread::sleep(LOOK);
            },
            Some(false) => loop {
                std::thread::sleep(Duration::from_secs(3600));
            },
            None => {}
        }
        self.reach(call)?;
        wait(call, self.latency)?;
        // It may have been cut meanwhile.
        self.reach(call)?;
        self.failure.map_or(Ok(()), Err)
    }
}

/// Dies after the deed, if the settings say so.
pub fn after(settings: &Settings, host: &str, method: &str) {
    if settings.die_after.as_deref() == Some(method)
        && let Some(marker) = marker(settings, host, method, "after")
    {
        die_once(&marker);
    }
}

fn die_once(marker: &std::path::Path) {
    if std::fs::OpenOptions::new().write(true).create_new(true).open(marker).is_ok() {
        std::process::abort();
    }
}

/// Waits, as a call does: until the time is over, or it is cancelled.
pub fn wait(call: &Call, time: Duration) -> Result<(), Failure> {
    let end = Instant::now() + time;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        call.check()?;
        std::thread::sleep(left.min(LOOK));
    }
}
