//! Durable creations a second through the daemon, on a simulated host: one client that waits for each reply, and 64 at once, held
//! against each other and against the bare fdatasync rate of the same device in the same run. `TMPDIR` names the device.
//!
//! A reply says that workspace, reservation, job and decision are on disk. The jobs run meanwhile, and write as well.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a benchmark ends with its first failure")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use vws_bench::{fdatasync_rate, line, roomy, settled, title};
use vws_tests::Site;
use vws_tests::bus::{none, run};

const MEASURED: Duration = Duration::from_secs(3);
const ROUNDS: usize = 5;
const MANY: usize = 64;

fn main() {
    let mut rounds: Vec<[f64; 3]> = (0..ROUNDS).map(|_| round()).collect();
    title("creates", &format!("Durable creations through the daemon (median of {ROUNDS} rounds)"));
    let mut middle = |value: fn(&[f64; 3]) -> f64| {
        rounds.sort_by(|a, b| value(a).total_cmp(&value(b)));
        value(&rounds[ROUNDS / 2])
    };
    line("bare fdatasync of 4 KiB", &format!("{:.0}/s", middle(|r| r[0])), "", "");
    line("one client", &format!("{:.0}/s", middle(|r| r[1])), &format!("{:.2} of the bare rate", middle(|r| r[1] / r[0])), "");
    line("64 clients", &format!("{:.0}/s", middle(|r| r[2])), &format!("{:.1} x one client", middle(|r| r[2] / r[1])), "20 x");
    line("", "", &format!("{:.2} x the bare rate", middle(|r| r[2] / r[0])), "");
}

fn round() -> [f64; 3] {
    let scratch = tempfile::tempdir().unwrap();
    let bare = fdatasync_rate(scratch.path(), Duration::from_secs(2));
    let site = Site::start(&roomy(vec!["h1"]));
    site.import("tiny");
    let names = AtomicUsize::new(0);
    let one = run(rate(&site, 1, &names));
    [bare, one, run(rate(&site, MANY, &names))]
}

/// Replies a second to so many clients, each on a connection of its own.
async fn rate(site: &Site, clients: usize, names: &AtomicUsize) -> f64 {
    let mut managers = Vec::new();
    for _ in 0..clients {
        managers.push(site.client().await.manager().await.unwrap());
    }
    let begin = Instant::now();
    let client = |manager: vws_bus::client::ManagerProxy<'static>| async move {
        let mut count = 0_u32;
        while begin.elapsed() < MEASURED {
            let mut spec = none();
            spec.insert("image", zbus::Variant::from("tiny"));
            spec.insert("memory-mib", zbus::Variant::from(64_u64));
            spec.insert("target", zbus::Variant::from("stopped"));
            let name = format!("w{}", names.fetch_add(1, Ordering::Relaxed));
            manager.create_workspace(&name, &spec, &none()).await.unwrap();
            count += 1;
        }
        count
    };
    let counts = futures_util::future::join_all(managers.into_iter().map(client)).await;
    let rate = f64::from(counts.iter().sum::<u32>()) / begin.elapsed().as_secs_f64();
    settled(&site.client().await).await;
    rate
}
