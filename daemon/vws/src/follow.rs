//! Following a job to its end: signals say when to look, and a look now and then covers lost signals, progress figures and a
//! daemon that is being restarted. The job is the daemon's; leaving here never stops it.

use crate::context::Context;
use crate::output::{Format, leaf};
use crate::record::Record;
use crate::units::{bytes, duration};
use crate::{Result, screen};
use futures_util::StreamExt;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep_until, timeout};
use vws_bus::client::Args;
use vws_bus::failure::{Failure, exit};
use vws_bus::{keys, names};
use zbus::{MatchRule, MessageStream, Variant};

/// Name of the failure that Ctrl-C is.
pub(crate) const INTERRUPTED: &str = "interrupted";
/// Its exit code: what a shell reports of a program that SIGINT ended.
pub(crate) const INTERRUPTED_EXIT: u8 = 130;
/// How often a job is looked at without a signal.
const LOOK: Duration = Duration::from_millis(500);
/// How long a daemon may be away in the middle.
const AWAY: Duration = Duration::from_secs(60);

/// How to go along with a job.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Wait {
    /// Do not wait: print the job and go
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// Wait so long at most, for instance 5m; the job goes on
    #[arg(long, value_parser = duration, value_name = "TIME", conflicts_with = "no_wait")]
    timeout: Option<Duration>,
    /// A word of your own that makes this request safe to repeat: the same word gets the same job
    #[arg(long, value_name = "WORD")]
    request_id: Option<String>,
}

impl Wait {
    /// The options that go to the daemon.
    pub(crate) fn options(&self) -> Args<'static> {
        self.request_id.iter().map(|word| (keys::REQUEST_ID, Variant::from(word.clone()))).collect()
    }
}

/// Waits for a job's end as `wait` says and returns the job; a job that did not end well is a failure.
pub(crate) async fn follow(context: &Context, path: &str, title: &str, wait: &Wait) -> Result<Record> {
    if wait.no_wait {
        return look(context, path).await;
    }
    let rule = MatchRule::builder().msg_type(zbus::message::Type::Signal).path(path.to_owned()).build()?;
    let mut signals = MessageStream::for_match_rule(rule, context.client.connection(), None).await?;
    context.subscribe().await?;
    let deadline = wait.timeout.map(|time| Instant::now() + time);
    let mut progress = Progress::new(context, title);
    let mut away_since: Option<Instant> = None;
    let mut interrupts = interrupts()?;
    loop {
        match look(context, path).await {
            Ok(job) if matches!(job.text("state"), "done" | "failed" | "cancelled") => {
                progress.end();
                return ended(context, job);
            }
            Ok(job) => {
                if away_since.take().is_some() {
                    // A new daemon knows nothing of the old one's subscribers.
                    context.subscribe().await?;
                }
                progress.show(&job);
            }
            Err(failure) if failure.exit_code() == exit::UNREACHABLE => {
                let since = *away_since.get_or_insert_with(Instant::now);
                progress.away();
                if since.elapsed() > AWAY {
                    progress.end();
                    context.say(&format!("job {} is durable: the daemon takes it up again when it is back", leaf(path)));
                    return Err(failure);
                }
            }
            Err(failure) => {
                progress.end();
                return Err(failure);
            }
        }
        let far = Instant::now() + Duration::from_secs(86_400);
        tokio::select! {
            _ = timeout(LOOK, signals.next()) => {}
            () = sleep_until(deadline.unwrap_or(far)), if deadline.is_some() => {
                progress.end();
                return Err(Failure::of_kind(
                    "WaitTimedOut",
                    format!("job {id}: not ended in time; it goes on: `vws job show {id} --follow`, or `vws cancel {id}`", id = leaf(path)),
                ));
            }
            Some(()) = interrupts.recv() => {
                progress.end();
                context.say(&format!("job {id} goes on: `vws job show {id} --follow` goes along again, `vws cancel {id}` stops it", id = leaf(path)));
                return Err(Failure::new(INTERRUPTED, ""));
            }
        }
    }
}

/// Ctrl-C, from now on; one that comes while something else is done is not lost.
pub(crate) fn interrupts() -> Result<Signal> {
    signal(SignalKind::interrupt())
        .map_err(|error| Failure::new("org.freedesktop.DBus.Error.Failed", &format!("cannot listen for Ctrl-C: {error}")))
}

async fn look(context: &Context, path: &str) -> Result<Record> {
    Ok(Record::new(&context.client.properties(path, names::JOB).await?).with("path", path.into()))
}

/// What there is to look at and to do after a job that did not end well, or that is at work; empty for one that is done.
pub(crate) fn next(job: &Record) -> String {
    let id = job.text("id");
    let workspace = leaf(job.text("workspace"));
    let of_workspace = !matches!(workspace.as_str(), "" | "-");
    let more = match job.text("kind") {
        "create" => format!("`vws why {workspace}` shows where it was to run; launch it again when the cause is gone"),
        "probe-host" => "`vws host list` shows the host; probe it again with `vws host probe NAME`".to_owned(),
        _ if of_workspace => format!("`vws info {workspace}` shows what became of the workspace"),
        _ => "repeat the request when the cause is gone".to_owned(),
    };
    match job.text("state") {
        "done" => String::new(),
        "cancelled" => format!("what it did was taken back; {more}"),
        "failed" => format!("failed at {}, and what it did was taken back; `vws job show {id}` shows it; {more}", failed_at(job)),
        _ => format!("`vws job show {id} --follow` goes along, `vws cancel {id}` stops it"),
    }
}

/// The step that failed: a job that is taken back keeps it as its phase.
fn failed_at(job: &Record) -> String {
    match job.text("phase").trim_start_matches("undo ") {
        "" => "its beginning".to_owned(),
        phase => format!("`{phase}`"),
    }
}

fn ended(context: &Context, job: Record) -> Result<Record> {
    let error = job.texts("error");
    let (name, message, code) = match error.as_slice() {
        [name, message, code] => (*name, *message, *code),
        _ => ("", "", ""),
    };
    match job.text("state") {
        "done" => {
            if !job.text("message").is_empty() {
                context.say(&screen::shown(job.text("message")));
            }
            Ok(job)
        }
        "cancelled" if name.is_empty() => {
            Err(Failure::of_kind("Cancelled", format!("job {}: was cancelled; what it did is taken back", job.text("id"))))
        }
        _ => {
            context.say(&screen::shown(&format!("job {}: {}", job.text("id"), next(&job))));
            let mut failure = Failure::new(if name.is_empty() { "org.freedesktop.DBus.Error.Failed" } else { name }, message);
            if failure.code.is_empty() {
                code.clone_into(&mut failure.code);
            }
            Err(failure)
        }
    }
}

/// How far it is: a bar on a terminal, otherwise a line for each phase; nothing for programs.
struct Progress {
    bar: Option<ProgressBar>,
    quiet: bool,
    title: String,
    said: String,
}

impl Progress {
    fn new(context: &Context, title: &str) -> Self {
        let quiet = context.format != Format::Table;
        let terminal = std::io::stderr().is_terminal();
        let bar = (!quiet && terminal).then(|| {
            let bar = ProgressBar::new_spinner();
            let template = if screen::colours(terminal) {
                "{spinner:.cyan} {prefix}: {msg} {elapsed}"
            } else {
                "{spinner} {prefix}: {msg} {elapsed}"
            };
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar.set_prefix(title.to_owned());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Self { bar, quiet, title: title.to_owned(), said: String::new() }
    }

    fn show(&mut self, job: &Record) {
        let phase = phase(job);
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{phase}{}", amount(job)));
        } else if !self.quiet && phase != self.said {
            screen::say(&format!("{}: {phase}", self.title));
        }
        self.said = phase;
    }

    fn away(&mut self) {
        let text = "the daemon does not answer, waiting for it";
        if let Some(bar) = &self.bar {
            bar.set_message(text);
        } else if !self.quiet && self.said != text {
            screen::say(&format!("{}: {text}", self.title));
        }
        text.clone_into(&mut self.said);
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// `stage (2/5)`, `undoing: stage`, `queued`.
fn phase(job: &Record) -> String {
    let phase = screen::shown(job.text("phase"));
    match (job.text("state"), phase.as_str()) {
        ("running", "") | ("queued", _) => job.text("state").to_owned(),
        ("undoing", _) => format!("taking back: {phase}"),
        _ if job.number("steps") > 0 => {
            let at = (job.number("step") + 1).min(job.number("steps"));
            format!("{phase} ({at}/{})", job.number("steps"))
        }
        _ => phase,
    }
}

fn amount(job: &Record) -> String {
    match job.number("total") {
        0 => String::new(),
        total => format!(", {} of {}", bytes(job.number("done")), bytes(total)),
    }
}

#[cfg(test)]
mod tests {
    use super::{next, phase};
    use crate::record::Record;
    use serde_json::json;

    #[test]
    fn the_end_of_a_job_says_what_next() {
        let job = |kind: &str, state: &str| {
            let workspace = "/org/virtualworkspaces1/workspaces/w0000000000000000000000000000000a";
            next(&Record(json!({ "id": "7", "kind": kind, "state": state, "phase": "undo stage", "workspace": workspace })))
        };
        assert_eq!(job("start", "done"), "");
        let failed = job("start", "failed");
        assert!(failed.contains("failed at `stage`") && failed.contains("`vws job show 7`"), "{failed}");
        assert!(failed.contains("`vws info 0000000000000000000000000000000a`"), "{failed}");
        assert!(job("create", "failed").contains("`vws why "), "{}", job("create", "failed"));
        assert!(job("start", "running").contains("`vws cancel 7`"));
    }

    #[test]
    fn phases_are_counted_from_one() {
        let job = |state: &str, step: u32| Record(json!({ "state": state, "phase": "stage", "step": step, "steps": 4 }));
        assert_eq!(phase(&job("running", 0)), "stage (1/4)");
        assert_eq!(phase(&job("running", 4)), "stage (4/4)");
        assert_eq!(phase(&job("undoing", 1)), "taking back: stage");
        assert_eq!(phase(&job("queued", 0)), "queued");
    }
}
