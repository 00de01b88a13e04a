//! Durable commits a second: one submitter that waits for each, and 64 at once, held against each other and against the bare
//! fdatasync rate of the same device in the same run. `TMPDIR` names the device.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a benchmark ends with its first failure")]

#[path = "../../../daemon/policy/tests/common/mod.rs"]
mod common;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use vws_bench::{fdatasync_rate, line, title};
use vws_domain::*;
use vws_store::{Batch, Store};

const MEASURED: Duration = Duration::from_secs(2);
const ROUNDS: usize = 5;
const MANY: usize = 64;

/// What one commit holds.
type Shape = fn(u64) -> Vec<Change>;

fn main() {
    title(
        "commits",
        &format!("Durable commits (median of {ROUNDS} rounds; in each the bare rate, one submitter, {MANY} of them)"),
    );
    for (name, shape) in
        [("one event", one_event as Shape), ("a creation: workspace, reservation, job, decision, events", creation)]
    {
        let mut rounds: Vec<[f64; 4]> = (0..ROUNDS).map(|_| round(shape)).collect();
        println!("  {name}");
        let mut middle = |value: fn(&[f64; 4]) -> f64| {
            rounds.sort_by(|a, b| value(a).total_cmp(&value(b)));
            value(&rounds[ROUNDS / 2])
        };
        line("  bare fdatasync of 4 KiB", &format!("{:.0}/s", middle(|r| r[0])), "", "");
        line(
            "  one submitter",
            &format!("{:.0}/s", middle(|r| r[1])),
            &format!("{:.2} of the bare rate", middle(|r| r[1] / r[0])),
            "",
        );
        line(
            "  64 submitters",
            &format!("{:.0}/s", middle(|r| r[2])),
            &format!("{:.1} x one submitter", middle(|r| r[2] / r[1])),
            "20 x",
        );
        line("", "", &format!("{:.1} x the bare rate", middle(|r| r[2] / r[0])), "");
        line("  processor time of the writer for one", &format!("{:.1} us", middle(|r| r[3])), "", "");
    }
}

fn round(shape: Shape) -> [f64; 4] {
    let scratch = tempfile::tempdir().unwrap();
    let bare = fdatasync_rate(scratch.path(), MEASURED);
    let (one, _) = commit_rate(&scratch.path().join("one.db"), 1, shape);
    let (many, micros) = commit_rate(&scratch.path().join("many.db"), MANY, shape);
    [bare, one, many, micros]
}

/// Commits a second, and the processor time in microseconds that the writer took for one.
fn commit_rate(path: &Path, submitters: usize, shape: Shape) -> (f64, f64) {
    let (store, _) = Store::open(path).unwrap();
    let (store, next) = (Arc::new(store), Arc::new(Mutex::new(1_u64)));
    let begin = Instant::now();
    let threads: Vec<_> = (0..submitters)
        .map(|_| {
            let (store, next) = (Arc::clone(&store), Arc::clone(&next));
            std::thread::spawn(move || {
                let mut count = 0_u32;
                while begin.elapsed() < MEASURED {
                    let (told, heard) = std::sync::mpsc::sync_channel(1);
                    {
                        // Numbers are given out in the order of the submissions, as the daemon's core does.
                        let mut next = next.lock().unwrap();
                        let batch = Batch { sequence: *next, at: Timestamp(*next), changes: shape(*next) };
                        store.commit(batch, move |outcome| told.send(outcome).unwrap());
                        *next += 1;
                    }
                    heard.recv().unwrap().unwrap();
                    count += 1;
                }
                count
            })
        })
        .collect();
    let count: u32 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    let rate = f64::from(count) / begin.elapsed().as_secs_f64();
    (rate, writer_micros() / f64::from(count))
}

/// Processor time of the one store's writer that runs now, user's and system's. The kernel counts it in nanoseconds.
fn writer_micros() -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().map(|entry| entry.unwrap().path());
    let writer =
        |task: &std::path::PathBuf| std::fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == "store-writer");
    let task = tasks.into_iter().find(writer).unwrap();
    let ran = std::fs::read_to_string(task.join("schedstat")).unwrap();
    ran.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1000.0
}

fn event(sequence: u64, kind: &str, text: String) -> Change {
    Change::Event(Arc::new(Event {
        sequence,
        at: Timestamp(sequence),
        kind: kind.to_owned(),
        workspace: None,
        job: None,
        host: None,
        image: None,
        owner: 0,
        text,
    }))
}

fn one_event(sequence: u64) -> Vec<Change> {
    vec![event(sequence, "measured", "x".repeat(300))]
}

/// What the daemon writes when it accepts a workspace. Ids are spread as those of the daemon are.
fn creation(sequence: u64) -> Vec<Change> {
    let id = (u128::from(sequence) << 64) | u128::from(sequence.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let mut workspace = (*common::workspace(1000, Vec::new())).clone();
    workspace.id = WorkspaceId(id);
    workspace.spec.name = format!("web-{sequence}");
    let reservation = (*common::reservation(id, 1000, "staff", "h1")).clone();
    let job = Job {
        id: JobId(id),
        kind: JobKind::Create,
        workspace: Some(workspace.id),
        image: None,
        host: workspace.host.clone(),
        owner: 1000,
        actor: "ann".to_owned(),
        args: "{\"imports\":[]}".to_owned(),
        state: JobState::Queued,
        step: 0,
        scratch: "{}".to_owned(),
        progress: Progress::default(),
        cancel_requested: false,
        error: None,
        message: String::new(),
        created_at: Timestamp(sequence),
        ended_at: None,
    };
    let verdict = |policy: &str| Verdict {
        policy: policy.to_owned(),
        kind: VerdictKind::Permit,
        code: "owner".to_owned(),
        text: "what the rule says of it".to_owned(),
        rule: Rule { file: format!("{policy}.lua"), line: 30 },
        restriction: Restriction::default(),
        micros: 10,
    };
    let decision = Decision {
        id: DecisionId(id),
        at: Timestamp(sequence),
        ledger: sequence,
        request: common::request(Verb::Launch),
        before: vws_domain::Before::default(),
        seen: None,
        caller: common::caller(1000, "ann"),
        workspace: Some(workspace.id),
        policy: PolicyHash("0".repeat(64)),
        generation: 1,
        verdicts: ["access", "quota", "placement"].map(verdict).to_vec(),
        permitted: true,
        native: false,
        host: workspace.host.clone(),
        hosts: vec![HostJudgement { host: HostName::parse("h1").unwrap(), outcome: HostOutcome::Scored(1.0) }; 4],
    };
    vec![
        Change::PutDecision(Arc::new(decision)),
        Change::PutWorkspace(Arc::new(workspace)),
        Change::PutReservation(Arc::new(reservation)),
        event(2 * sequence, "workspace.state", format!("workspace `web-{sequence}` is reserved")),
        Change::PutJob(Arc::new(job)),
        event(2 * sequence + 1, "job.accepted", "create accepted".to_owned()),
    ]
}
