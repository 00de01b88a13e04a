//! Calls to a healthy host while another one hangs, held against the same calls while it does not: the 99th percentile.
//!
//! Two simulated hosts in one plugin's child. A client pauses and resumes a workspace on the one, job by job, and reads its state;
//! others do the same on the other host all the time. While that one hangs, no call to it is answered, not even a cancelled one: calls
//! run into their deadline, and the child is replaced.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a benchmark ends with its first failure")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use vws_bench::{create_on, events, job_time, line, median, p99, ratio, roomy, settled, shown, title};
use vws_bus::client::Client;
use vws_bus::names;
use vws_tests::bus::{none, run};
use vws_tests::{Plan, Site};

/// Workspaces on the other host, each with a client that calls all the time.
const OTHERS: usize = 8;
/// Pairs of pause and resume in one phase.
const PAIRS: usize = 25;
/// Pairs of phases.
const ROUNDS: usize = 2;

fn main() {
    let mut plan = roomy(vec!["good", "bad"]);
    plan.config.push_str("[operate]\ncall-seconds = 2\nlong-call-seconds = 4\nreconcile-seconds = 1\n");
    let site = Site::start(&Plan { ..plan });
    site.import("tiny");
    let (mine, theirs) = run(async {
        let client = site.client().await;
        let mine = create_on(&client, 1, 1, "running", Some("good")).await.remove(0);
        let theirs = create_on(&client, OTHERS, OTHERS, "running", Some("bad")).await;
        settled(&client).await;
        (mine, theirs)
    });
    let over = AtomicBool::new(false);
    let (quiet, hanging) = std::thread::scope(|scope| {
        for path in &theirs {
            scope.spawn(|| run(bother(&site, path, &over)));
        }
        let cable = site.dir().join("sim/bad/cable");
        let (mut quiet, mut hanging) = (Times::default(), Times::default());
        for _ in 0..ROUNDS {
            run(measure(&site, &mine, &mut quiet));
            std::fs::write(&cable, "deaf").unwrap();
            run(measure(&site, &mine, &mut hanging));
            std::fs::remove_file(&cable).unwrap();
            vws_tests::until("the other host is back", || (site.ok(&["host", "show", "bad"])["state"] == "up").then_some(()));
        }
        over.store(true, Ordering::Relaxed);
        (quiet, hanging)
    });
    title("bad_host", &format!("Calls to a healthy host while another hangs ({ROUNDS} phases of each kind in turn)"));
    for (what, quiet, hanging) in
        [("pause or resume, to the job's end", quiet.jobs, hanging.jobs), ("Get of its state", quiet.reads, hanging.reads)]
    {
        let (floor, p) = (p99(quiet.clone()), p99(hanging.clone()));
        let of = |times: &[Duration]| format!("median {} of {}", shown(median(times.to_vec())), times.len());
        line(&format!("{what}: p99, all is well"), &shown(floor), &of(&quiet), "");
        line(&format!("{what}: p99, the other hangs"), &shown(p), &format!("{:.2} x; {}", ratio(p, floor), of(&hanging)), "2 x");
    }
}

#[derive(Default)]
struct Times {
    jobs: Vec<Duration>,
    reads: Vec<Duration>,
}

async fn measure(site: &Site, path: &str, times: &mut Times) {
    let client = site.client().await;
    let workspace = client.workspace(path).await.unwrap();
    let mut events = events(&client).await;
    for _ in 0..PAIRS {
        times.jobs.push(job_time(&mut events, path, workspace.pause(&none())).await);
        times.reads.push(read(&client, path).await);
        times.jobs.push(job_time(&mut events, path, workspace.resume(&none())).await);
        times.reads.push(read(&client, path).await);
    }
}

async fn read(client: &Client, path: &str) -> Duration {
    let begin = Instant::now();
    let state =
        client.connection().call_method(Some(names::BUS), path, Some(names::PROPERTIES), "Get", &(names::WORKSPACE, "State"));
    state.await.unwrap();
    begin.elapsed()
}

/// Pauses and resumes a workspace again and again, whatever comes of it, with a short rest in between.
async fn bother(site: &Site, path: &str, over: &AtomicBool) {
    let client = site.client().await;
    let workspace = client.workspace(path).await.unwrap();
    while !over.load(Ordering::Relaxed) {
        // Refused where the host is unknown to be there, or a job is at work.
        let _refused = workspace.pause(&none()).await;
        let _refused = workspace.resume(&none()).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
