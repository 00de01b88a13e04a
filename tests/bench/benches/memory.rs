//! Resident memory of the daemon: idle without a plugin, and with workspaces on a simulated host. Children are not counted.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a benchmark ends with its first failure")]

use vws_bench::{create, line, resident_kib, roomy, settled, title};
use vws_tests::{Plan, Site};

fn told(site: &Site) -> (u64, u64) {
    resident_kib(site.daemon_pid().as_raw_nonzero().get())
}

fn mib(kib: u64) -> String {
    #[allow(clippy::cast_precision_loss, reason = "kibibytes of memory")]
    let mib = kib as f64 / 1024.0;
    format!("{mib:.1} MiB")
}

fn main() {
    title("memory", "Resident memory of the daemon, without children");
    {
        let mut site = Site::prepare(&Plan { hosts: Vec::new(), ..Plan::default() });
        site.start_daemon();
        let (all, anonymous) = told(&site);
        line("idle, no host", &mib(all), &format!("{} of it no file's", mib(anonymous)), "20 MiB");
    }
    for (count, goal) in [(1000_usize, ""), (10_000, "")] {
        let site = Site::start(&roomy(vec!["h1"]));
        site.import("tiny");
        let (before, _) = told(&site);
        vws_tests::bus::run(async {
            let client = site.client().await;
            create(&client, count, 32, "running").await;
            settled(&client).await;
        });
        let (all, anonymous) = told(&site);
        let each = (all.saturating_sub(before)) as f64 / count as f64;
        line(
            &format!("{count} workspaces and their jobs"),
            &mib(all),
            &format!("{} of it no file's, {each:.1} KiB each", mib(anonymous)),
            goal,
        );
    }
}
