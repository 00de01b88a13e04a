//! What the site is like in numbers, in the Prometheus text format (version 0.0.4): answered by `Manager.Metrics`, and written to a file
//! for a collector that reads files. The daemon listens on no port.
//!
//! Owns: names, units and the limit of what is told. Base units as the format wants them: seconds and bytes.
//! Must not know: how figures are come by, D-Bus.

use super::Service;
use crate::operate::Figures;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use vws_backend::PluginState;
use vws_domain::{Caller, Connection, Error, JobState, Resources, Result, State, Verb};

/// Workspaces whose own figures are told, unless configured otherwise. Each is eight series, and a monitoring system keeps all that it
/// ever saw; the sums by state are always told of all.
pub const WORKSPACES: usize = 1000;

/// Where and how often the file is written.
#[derive(Clone, Debug)]
pub struct MetricsFile {
    /// The file. A temporary one is written beside it.
    pub path: PathBuf,
    /// How often.
    pub every: Duration,
}

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

impl Service {
    /// The metrics, for administrators.
    ///
    /// # Errors
    /// AccessDenied.
    pub async fn metrics(&self, caller: &Caller) -> Result<String> {
        self.judge_site(caller, Verb::SiteManage, "metrics").await?;
        Ok(self.exposition())
    }

    /// The metrics, for nobody in particular.
    #[must_use]
    pub fn exposition(&self) -> String {
        let mut text = Exposition::default();
        text.family("vws_info", "gauge", "The daemon; always 1.");
        text.sample(&[("version", env!("CARGO_PKG_VERSION"))], "1");
        self.tell_site(&mut text);
        self.tell_hosts(&mut text);
        self.tell_backends(&mut text);
        self.tell_workspaces(&mut text);
        text.text
    }

    fn tell_site(&self, text: &mut Exposition) {
        let mut workspaces: BTreeMap<&str, u64> = State::ALL.into_iter().map(|state| (state.name(), 0)).collect();
        let mut jobs: BTreeMap<&str, u64> = JobState::ALL.into_iter().map(|state| (state.name(), 0)).collect();
        let sequence = self.core.read(|site| {
            for workspace in site.workspaces() {
                *workspaces.entry(workspace.state.name()).or_default() += 1;
            }
            for job in site.jobs() {
                *jobs.entry(job.state.name()).or_default() += 1;
            }
            site.event_sequence
        });
        text.family("vws_workspaces", "gauge", "Workspaces by state.");
        for (state, count) in workspaces {
            text.sample(&[("state", state)], count);
        }
        text.family("vws_jobs", "gauge", "Jobs by state; ended ones are kept for a while.");
        for (state, count) in jobs {
            text.sample(&[("state", state)], count);
        }
        let decisions = self.core.decisions();
        text.family("vws_decisions_total", "counter", "Recorded decisions by verdict, since the daemon started.");
        text.sample(&[("verdict", "permit")], decisions.permitted);
        text.sample(&[("verdict", "deny")], decisions.refused);
        let policy = self.policies.status();
        text.family("vws_reads_total", "counter", "Questions whether a workspace may be seen, since the daemon started.");
        text.sample(&[("answer", "judged")], policy.reads.judged);
        text.sample(&[("answer", "remembered")], policy.reads.remembered);
        text.family("vws_policy_generation", "gauge", "Generation of the policy set in force; 0: none ever was.");
        text.sample(&[], policy.generation);
        text.family("vws_policy_good", "gauge", "Whether the newest policy files are in force.");
        text.sample(&[], u8::from(policy.state == "good"));
        text.family("vws_event_sequence", "counter", "Number of the latest event.");
        text.sample(&[], sequence);
        let calls = self.operate.stats().calls();
        text.family(
            "vws_stats_calls_total",
            "counter",
            "Calls to hosts for the figures of all their machines, since the daemon started.",
        );
        text.sample(&[], calls.calls);
        text.family("vws_stats_failures_total", "counter", "Those of them that failed.");
        text.sample(&[], calls.failures);
    }

    fn tell_hosts(&self, text: &mut Exposition) {
        let hosts = self.hosts();
        let mut each = |name: &str, help: &str, value: &dyn Fn(&super::ShownHost) -> u64| {
            text.family(name, "gauge", help);
            for shown in &hosts {
                text.sample(&[("host", shown.host.name.as_str())], value(shown));
            }
        };
        each("vws_host_up", "Whether the host answers.", &|shown| u64::from(shown.host.connection == Connection::Up));
        each("vws_host_enabled", "Whether the host takes new workspaces.", &|shown| u64::from(shown.host.enabled));
        each("vws_host_workspaces", "Workspaces on the host.", &|shown| shown.workspaces);
        type Of = fn(&super::ShownHost) -> Resources;
        let sides: [(&str, &str, Of); 2] = [
            ("capacity", "What may be given out on the host when nothing is", |shown| shown.host.capacity()),
            ("free", "What may still be given out on the host", |shown| shown.free),
        ];
        for (side, help, of) in sides {
            each(&format!("vws_host_{side}_vcpus"), &format!("{help}: vCPUs."), &|shown| of(shown).vcpus);
            each(&format!("vws_host_{side}_memory_bytes"), &format!("{help}: memory."), &|shown| {
                of(shown).memory_mib.saturating_mul(MIB)
            });
            each(&format!("vws_host_{side}_disk_bytes"), &format!("{help}: disk."), &|shown| {
                of(shown).disk_gib.saturating_mul(GIB)
            });
        }
    }

    fn tell_backends(&self, text: &mut Exposition) {
        let backends = self.backends.status();
        text.family("vws_backend_failed", "gauge", "Whether the plugin cannot be used now.");
        for plugin in &backends {
            text.sample(&[("backend", &plugin.name)], u8::from(matches!(plugin.state, PluginState::Failed(_))));
        }
        text.family(
            "vws_backend_restarts_total",
            "counter",
            "Processes of the plugin that were replaced, since the daemon started.",
        );
        for plugin in &backends {
            text.sample(&[("backend", &plugin.name)], plugin.restarts);
        }
    }

    fn tell_workspaces(&self, text: &mut Exposition) {
        let running: Vec<_> = self.core.read(|site| site.workspaces().filter(|one| one.host.is_some()).cloned().collect());
        let with: Vec<_> =
            running.iter().filter_map(|one| self.operate.stats().figures(one).map(|figures| (one, figures))).collect();
        let told = with.get(..with.len().min(self.admission.metrics_workspaces)).unwrap_or_default();
        text.family(
            "vws_workspace_figures_omitted",
            "gauge",
            "Workspaces whose figures are left out below, by the limit `workspaces`.",
        );
        text.sample(&[], with.len() - told.len());
        let now = self.env.now();
        type Of = fn(&Figures) -> Option<u64>;
        let families: [(&str, &str, &str, Of); 6] = [
            ("memory_bytes", "gauge", "Memory that the machine has.", |f| f.sums.memory_mib.map(|mib| mib.saturating_mul(MIB))),
            ("resident_bytes", "gauge", "Memory of the host that the machine occupies.", |f| {
                f.sums.resident_mib.map(|mib| mib.saturating_mul(MIB))
            }),
            ("disk_read_bytes_total", "counter", "Bytes read from the disks since the machine's start.", |f| {
                f.sums.disk_read_bytes
            }),
            ("disk_written_bytes_total", "counter", "Bytes written to the disks since the machine's start.", |f| {
                f.sums.disk_written_bytes
            }),
            ("net_received_bytes_total", "counter", "Bytes into the guest since the machine's start.", |f| {
                f.sums.net_received_bytes
            }),
            ("net_sent_bytes_total", "counter", "Bytes out of the guest since the machine's start.", |f| f.sums.net_sent_bytes),
        ];
        let labels = |text: &mut Exposition, one: &vws_domain::Workspace, value: String| {
            let (id, owner) = (one.id.to_string(), one.owner.to_string());
            let host = one.host.as_ref().map_or("", |host| host.as_str());
            text.sample(&[("workspace", &id), ("name", &one.spec.name), ("owner", &owner), ("host", host)], value);
        };
        text.family("vws_workspace_cpu_seconds_total", "counter", "CPU time used since the machine's start.");
        for (one, figures) in told {
            if let Some(ns) = figures.sums.cpu_time_ns {
                labels(text, one, format!("{}.{:09}", ns / 1_000_000_000, ns % 1_000_000_000));
            }
        }
        for (name, kind, help, of) in families {
            text.family(&format!("vws_workspace_{name}"), kind, help);
            for (one, figures) in told {
                if let Some(value) = of(figures) {
                    labels(text, one, value.to_string());
                }
            }
        }
        text.family("vws_workspace_stats_age_seconds", "gauge", "How old the machine's figures are.");
        for (one, figures) in told {
            let age = now.0.saturating_sub(figures.at.0);
            labels(text, one, format!("{}.{:06}", age / 1_000_000, age % 1_000_000));
        }
    }
}

/// The text so far.
#[derive(Default)]
struct Exposition {
    text: String,
    /// Of the metric that was begun last.
    name: String,
}

impl Exposition {
    /// Begins a metric; its samples follow at once.
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a text cannot fail.
        let _written = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        name.clone_into(&mut self.name);
    }

    /// A sample of the metric that was begun last.
    fn sample(&mut self, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        self.text.push_str(&self.name);
        for (at, (label, text)) in labels.iter().enumerate() {
            let _written = write!(self.text, "{}{label}=\"{}\"", if at == 0 { '{' } else { ',' }, escaped(text));
        }
        let _written = writeln!(self.text, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }
}

/// A label's value as the format wants it.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Writes the metrics to a file again and again.
pub async fn write_file(service: Arc<Service>, file: MetricsFile) {
    let mut beats = tokio::time::interval(file.every);
    beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut failed = false;
    loop {
        beats.tick().await;
        let (service, path) = (Arc::clone(&service), file.path.clone());
        let written = crate::operate::blocking(move || {
            let text = service.exposition();
            replace(&path, text.as_bytes())
                .map_err(|error| Error::internal(format!("metrics file `{}`", path.display()), error.to_string()))
        })
        .await;
        match written {
            Ok(()) => failed = false,
            // Once is enough: it will fail again and again for the same reason.
            Err(error) if !failed => {
                failed = true;
                tracing::error!(path = %file.path.display(), error = %error.detail, "the metrics cannot be written");
            }
            Err(_) => {}
        }
    }
}

/// Puts a file in the place of another: who reads has the old one or the new one.
fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    // Not `*.prom`: a collector must not take it for another file of metrics.
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    std::fs::write(&beside, bytes)?;
    std::fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use super::{Exposition, escaped};

    #[test]
    fn a_sample_has_the_name_of_its_family() {
        let mut text = Exposition::default();
        text.family("a_total", "counter", "As.");
        text.sample(&[], 3);
        text.family("b", "gauge", "Bs.");
        text.sample(&[("of", "x"), ("by", "y\"z\\\n")], 1.5);
        text.sample(&[("of", "# TYPE c")], 2);
        assert_eq!(
            text.text,
            "# HELP a_total As.\n# TYPE a_total counter\na_total 3\n# HELP b Bs.\n# TYPE b gauge\n\
             b{of=\"x\",by=\"y\\\"z\\\\\\n\"} 1.5\nb{of=\"# TYPE c\"} 2\n"
        );
        assert_eq!(escaped("plain"), "plain");
    }
}
