//! 64 launches of one image over three real hosts, from the first request until the last machine is there: held against the time that
//! the slowest host's own libvirt takes for its share, one after the other: a clone of the image's volume and the creation of the same
//! domain, by one `virsh` on each host. The hosts share this machine's CPUs, so the three of them are measured at work together, and
//! the slowest alone beside it.
//!
//! The machines stand still from their start on: what is measured is not their guests' work. Needs root, libvirt and QEMU.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a benchmark ends with its first failure")]

use std::fmt::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use vws_bench::{events, lab, line, next_event, roomy, shown, title};
use vws_tests::bus::{none, run};
use vws_tests::lab::{HOSTS, Lab};
use vws_tests::{Plan, Site};

const LAUNCHES: usize = 64;
const MEMORY_MIB: u64 = 16;
const ROUNDS: usize = 1;

fn main() {
    let Some(lab) = lab() else { return };
    let kvm = HOSTS.iter().map(|name| Lab::host(name, lab.uri(name))).collect();
    let site = Site::start(&Plan { kvm, entrance: lab.entrance(), ..roomy(Vec::new()) });
    for host in HOSTS {
        site.run(&["host", "change", host, "--cpu-overcommit-percent", "10000", "--memory-overcommit-percent", "1000"]);
    }
    site.import("tiny");
    let patterns: Vec<_> = HOSTS.iter().map(|host| Pattern::learn(&lab, &site, host)).collect();
    // Once before: the image is on the hosts, and every library of QEMU's in the page cache.
    let shares: Vec<_> = (0..HOSTS.len()).map(|host| (0..LAUNCHES).filter(|n| n % HOSTS.len() == host).count()).collect();
    let (mut together, mut ours, mut alone) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let times: Vec<_> = std::thread::scope(|scope| {
            let all: Vec<_> =
                patterns.iter().zip(&shares).map(|(pattern, share)| scope.spawn(|| pattern.deploy(&lab, *share))).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        patterns.iter().zip(&shares).for_each(|(pattern, share)| pattern.remove(&lab, *share));
        eprintln!("bare: {times:?}");
        let slowest = times.iter().max().copied().unwrap();
        let which = times.iter().position(|time| *time == slowest).unwrap();
        together.push(slowest);
        ours.push(launch(&site));
        eprintln!("the daemon: {:?}", ours.last());
        destroy(&site);
        alone.push(patterns[which].deploy(&lab, shares[which]));
        patterns[which].remove(&lab, shares[which]);
    }
    title("fleet", &format!("{LAUNCHES} launches over three hosts, paused machines of {MEMORY_MIB} MiB (rounds: {ROUNDS})"));
    let told = |times: &[Duration]| {
        let (least, median) = vws_bench::least_and_median(times);
        (median, format!("{} {}", shown(least), shown(median)))
    };
    let (floor, text) = told(&together);
    line("the slowest host's serial libvirt time, all at work", &text, "", "");
    let (single, text) = told(&alone);
    line("the same host, alone on this machine", &text, "", "");
    let (time, text) = told(&ours);
    let against = format!("{:.2} x all at work, {:.2} x alone", vws_bench::ratio(time, floor), vws_bench::ratio(time, single));
    line("the daemon, 64 requests at once", &text, &against, "1.2 x");
}

/// From the first request until the last machine is there.
fn launch(site: &Site) -> Duration {
    run(async {
        let client = site.client().await;
        let manager = client.manager().await.unwrap();
        let mut events = events(&client).await;
        let begin = Instant::now();
        let requests = (0..LAUNCHES).map(|n| {
            let manager = manager.clone();
            async move {
                let mut spec = none();
                spec.insert("image", zbus::Variant::from("tiny"));
                spec.insert("memory-mib", zbus::Variant::from(MEMORY_MIB));
                spec.insert("target", zbus::Variant::from("paused"));
                spec.insert("host", zbus::Variant::from(HOSTS[n % HOSTS.len()]));
                manager.create_workspace(&format!("fleet-{n}"), &spec, &none()).await.unwrap();
            }
        });
        // Events are taken while requests are made: what nobody takes is dropped.
        let paused = async {
            let mut last = begin;
            for _ in 0..LAUNCHES {
                last = next_event(&mut events, "workspace.state", "is paused").await;
            }
            last
        };
        let (_, last) = futures_util::future::join(futures_util::future::join_all(requests), paused).await;
        last - begin
    })
}

fn destroy(site: &Site) {
    site.run(&["each", "destroy", "--all"]);
}

/// What a bare libvirt needs to make such a machine itself.
struct Pattern {
    host: &'static str,
    uri: String,
    pool: String,
    image: String,
    capacity: String,
    xml: String,
    id: String,
}

impl Pattern {
    /// Has the daemon make one machine there, and takes its definition and its files as the pattern.
    fn learn(lab: &Lab, site: &Site, host: &'static str) -> Self {
        site.run(&[
            "launch",
            "tiny",
            "--name",
            "pattern",
            "--memory",
            &format!("{MEMORY_MIB}M"),
            "--host",
            host,
            "--target",
            "paused",
        ]);
        let id = site.ok(&["info", "pattern"])["id"].as_str().unwrap().to_owned();
        let xml = lab.virsh(host, &["dumpxml", "--inactive", &format!("vws-{id}")]);
        let image = lab.files(host).into_iter().find(|file| file.starts_with("vws-image-") && !file.contains('.')).unwrap();
        // It stays on the host beside its name: the pattern's seed is every machine's.
        let script = format!("cp /var/lib/vws-pool/vws-{id}-seed.img /var/lib/vws-pool/bare-seed.img");
        lab.hosts(&["exec", host, "sh", "-c", &script]);
        let disk = format!("/var/lib/vws-pool/vws-{id}-disk-0.qcow2");
        let info = lab.hosts(&["exec", host, "qemu-img", "info", "-U", "--output=json", &disk]);
        let info: serde_json::Value = serde_json::from_str(&info).unwrap();
        site.run(&["destroy", "pattern"]);
        let xml = xml.replace(&format!("vws-{id}-seed.img"), "bare-seed.img");
        Self { host, uri: lab.uri(host), pool: "vws".to_owned(), image, capacity: info["virtual-size"].to_string(), xml, id }
    }

    fn name(n: usize) -> String {
        format!("{:032x}", 0xbabe_0000 + n)
    }

    /// Makes so many machines one after the other; how long that took, the start of `virsh` left out of it as far as one can: there is one.
    fn deploy(&self, lab: &Lab, count: usize) -> Duration {
        let folder = tempfile::tempdir().unwrap();
        let uuid = |id: &str| format!("{}-{}-{}-{}-{}", &id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..]);
        let mut script = String::new();
        for n in 0..count {
            let id = Self::name(n);
            let xml = self.xml.replace(&self.id, &id).replace(&uuid(&self.id), &uuid(&id));
            // Not one of the daemon's, which would look after it.
            let xml = xml.replace(&format!("<name>vws-{id}"), &format!("<name>bare-{id}"));
            let path = folder.path().join(format!("{id}.xml"));
            std::fs::write(&path, xml).unwrap();
            let Self { pool, image, capacity, .. } = self;
            writeln!(
                script,
                "vol-create-as {pool} vws-{id}-disk-0.qcow2 {capacity} --format qcow2 --backing-vol {image} --backing-vol-format raw\n\
                 create --paused {}",
                path.display()
            )
            .unwrap();
        }
        let begin = Instant::now();
        self.virsh(lab, &script);
        let time = begin.elapsed();
        let running = lab.domains(self.host).iter().filter(|name| name.starts_with("bare-")).count();
        assert_eq!(running, count, "machines on {}", self.host);
        time
    }

    fn remove(&self, lab: &Lab, count: usize) {
        let script = (0..count).fold(String::new(), |mut script, n| {
            let id = Self::name(n);
            writeln!(script, "destroy bare-{id}\nvol-delete --pool {} vws-{id}-disk-0.qcow2", self.pool).unwrap();
            script
        });
        self.virsh(lab, &script);
        lab.hosts(&["exec", self.host, "sh", "-c", "rm -f /var/lib/vws-pool/vws-*0babe*-console.log"]);
    }

    /// One `virsh` that is told what to do.
    fn virsh(&self, lab: &Lab, script: &str) {
        use std::io::Write;
        let entrance = lab.entrance();
        let mut command = Command::new(&entrance[0]);
        command.args(&entrance[1..]).args(["virsh", "-q", "-c", &self.uri]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        let said = child.wait_with_output().unwrap();
        assert!(said.stderr.is_empty(), "virsh on {}: {}", self.host, String::from_utf8_lossy(&said.stderr));
    }
}
