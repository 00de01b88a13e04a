//! Moving a guest between two real hosts: a live migration through the daemon, held against `virsh migrate` of the same guest on the
//! same hosts; and serializing and resuming it, held against `virsh save` and `restore`.
//!
//! The disks are in a folder that both hosts share, so that only memory moves. What `save` writes stays on the host, and a bundle
//! belongs to no host: its bytes come to this machine and go back. So there is a second peer, which does that with `virsh vol-download`
//! and `vol-upload`. The daemon's guest and the bare one, of one and the same definition, take turns. Needs root, libvirt and QEMU.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a benchmark ends with its first failure")]

use std::path::Path;
use std::time::Duration;
use vws_bench::{events, job_time, lab, least_and_median, line, ratio, roomy, shown, title};
use vws_tests::bus::{none, run};
use vws_tests::lab::Lab;
use vws_tests::libvirt::{KvmHost, guest};
use vws_tests::{Plan, Site};

const SHARED: &str = "/var/lib/vws-shared";
const HOSTS: [&str; 2] = ["a", "b"];
const ROUNDS: usize = 5;
const NAME: &str = "vws-bare";

fn main() {
    let Some(lab) = lab() else { return };
    let kvm = HOSTS.iter().map(|name| KvmHost { directory: SHARED.into(), ..Lab::host(name, lab.uri(name)) }).collect();
    let site = Site::start(&Plan { kvm, entrance: lab.entrance(), ..roomy(Vec::new()) });
    let part = |name: &str| guest().join(name).to_str().unwrap().to_owned();
    let (disk, kernel, initrd) = (part("guest.qcow2"), part("vmlinuz"), part("initrd.img"));
    let import = ["image", "import", "tiny", &disk, "--format", "qcow2", "--public"];
    let boot = ["--kernel", &kernel, "--initrd", &initrd, "--cmdline", "console=ttyS0 panic=-1 quiet no_timer_check"];
    site.run(&[import.as_slice(), &boot].concat());
    site.run(&["launch", "tiny", "--name", "one", "--memory", "128M", "--host", "a"]);
    site.until_tick("one", 2);
    let mut bare = Bare::start(&lab, &site);

    let (mut plain, mut ours) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        plain.push(bare.migrate());
        let to = HOSTS[(round + 1) % 2];
        ours.push(job(&site, |workspace| async move {
            let mut options = none();
            options.insert("host", zbus::Variant::from(to));
            workspace.migrate(&options).await
        }));
    }
    title("moves", &format!("A guest of 128 MiB between two hosts with shared storage ({ROUNDS} rounds, least and median)"));
    let floor = tell("virsh migrate --live --p2p", &plain, None, "");
    tell("the daemon: migrate, to the job's end", &ours, Some(floor), "1.05 x");

    let (mut here, mut carried, mut out, mut back) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        here.push(bare.save_and_restore(None));
        carried.push(bare.save_and_restore(Some(site.dir())));
        out.push(job(&site, |workspace| async move { workspace.serialize(&none()).await }));
        back.push(job(&site, |workspace| async move { workspace.resume(&none()).await }));
    }
    let both: Vec<Duration> = out.iter().zip(&back).map(|(out, back)| *out + *back).collect();
    let floor = tell("virsh save, restore: the bytes stay on the host", &here, None, "");
    let carried = tell("virsh save, its files to this machine and back, restore", &carried, None, "");
    tell("the daemon: serialize", &out, None, "");
    tell("the daemon: resume", &back, None, "");
    tell("the daemon: both, against save and restore", &both, Some(floor), "1.05 x");
    tell("the daemon: both, against the same with its bytes carried", &both, Some(carried), "");
    bare.end();
}

/// One line; the median.
fn tell(what: &str, times: &[Duration], peer: Option<(Duration, Duration)>, goal: &str) -> (Duration, Duration) {
    let (least, median) = least_and_median(times);
    let against =
        peer.map_or_else(String::new, |(low, middle)| format!("{:.2} x, {:.2} x", ratio(least, low), ratio(median, middle)));
    line(what, &format!("{} {}", shown(least), shown(median)), &against, goal);
    (least, median)
}

/// A job of the daemon's guest: from the request to the signal of its end.
fn job<F, R>(site: &Site, request: F) -> Duration
where
    F: FnOnce(vws_bus::client::WorkspaceProxy<'static>) -> R,
    R: Future<Output = zbus::Result<zbus::OwnedObjectPath>>,
{
    let path = site.ok(&["info", "one"])["path"].as_str().unwrap().to_owned();
    run(async {
        let client = site.client().await;
        let workspace = client.workspace(&path).await.unwrap();
        let mut events = events(&client).await;
        job_time(&mut events, &path, request(workspace)).await
    })
}

/// The same guest without the daemon.
struct Bare<'a> {
    lab: &'a Lab,
    uris: [String; 2],
    at: usize,
}

impl<'a> Bare<'a> {
    /// The daemon's guest's definition and disk under other names.
    fn start(lab: &'a Lab, site: &Site) -> Self {
        let id = site.ok(&["info", "one"])["id"].as_str().unwrap().to_owned();
        let xml = lab.virsh("a", &["dumpxml", "--inactive", &format!("vws-{id}")]);
        let uuid = format!("{}-{}-{}-{}-{}", &id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..]);
        let xml =
            xml.replace(&format!("vws-{id}"), NAME).replace(&uuid, "7f1de5a4-0000-4000-8000-00000000ba5e").replace(&id, "bare");
        let file = site.dir().join("bare.xml");
        std::fs::write(&file, xml).unwrap();
        // A clone as the daemon makes it, and the same seed.
        let disk = format!("{SHARED}/vws-{id}-disk-0.qcow2");
        let info = lab.hosts(&["exec", "a", "qemu-img", "info", "-U", "--output=json", &disk]);
        let info: serde_json::Value = serde_json::from_str(&info).unwrap();
        let (image, bytes) = (info["full-backing-filename"].as_str().unwrap(), info["virtual-size"].as_u64().unwrap());
        let script = format!(
            "cd {SHARED} && qemu-img create -q -f qcow2 -F qcow2 -b {image} {NAME}-disk-0.qcow2 {bytes} && \
             cp vws-{id}-seed.img {NAME}-seed.img && : >{NAME}-console.log"
        );
        lab.hosts(&["exec", "a", "sh", "-c", &script]);
        let begun = Self { lab, uris: HOSTS.map(|host| lab.uri(host)), at: 0 };
        begun.virsh(&["create", file.to_str().unwrap()]);
        let counts = || lab.hosts(&["exec", "a", "cat", &format!("{SHARED}/{NAME}-console.log")]);
        vws_tests::libvirt::until("the bare guest counts", || counts().contains("TICK 2").then_some(()));
        begun
    }

    /// Runs `virsh`, and takes the time there, so that the way into the hosts' network is not in it.
    fn virsh(&self, words: &[&str]) -> Duration {
        let timed = "begin=$EPOCHREALTIME && virsh -q -c \"$@\" >&2 && echo $begin $EPOCHREALTIME";
        let output = self.lab.enter(&[["bash", "-c", timed, "virsh", &self.uris[self.at]].as_slice(), words].concat());
        assert!(output.status.success(), "virsh {words:?}: {}", String::from_utf8_lossy(&output.stderr));
        let micros: Vec<u64> = String::from_utf8(output.stdout)
            .unwrap()
            .split_whitespace()
            .map(|seconds| seconds.replace('.', "").parse().unwrap())
            .collect();
        Duration::from_micros(micros[1] - micros[0])
    }

    /// To the other host.
    fn migrate(&mut self) -> Duration {
        let to = 1 - self.at;
        let uri = &self.uris[to];
        let stream = format!("tcp://{}", uri.trim_start_matches("qemu+tcp://").split('/').next().unwrap());
        let time = self.virsh(&["migrate", "--live", "--p2p", NAME, uri, &stream]);
        self.at = to;
        time
    }

    /// Into a file on the host and back; on the way the bytes of memory and disk may come to a folder of this machine.
    fn save_and_restore(&self, carry: Option<&Path>) -> Duration {
        let memory = format!("{SHARED}/{NAME}-memory.save");
        let mut time = self.virsh(&["save", NAME, &memory]);
        if let Some(folder) = carry {
            time += self.virsh(&["pool-refresh", "shared"]);
            for name in ["memory.save", "disk-0.qcow2"] {
                let (volume, copy) = (format!("{NAME}-{name}"), folder.join(name));
                let copy = copy.to_str().unwrap();
                time += self.virsh(&["vol-download", "--pool", "shared", "--sparse", &volume, copy]);
                time += self.virsh(&["vol-upload", "--pool", "shared", "--sparse", &volume, copy]);
            }
        }
        time + self.virsh(&["restore", &memory])
    }

    fn end(&self) {
        self.virsh(&["destroy", NAME]);
    }
}
