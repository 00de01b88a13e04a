//! A linked clone deployed through the daemon, held against a bare program that does the same with the same libvirt: `qemu-img
//! create` and the creation of the very same domain. Both take turns.
//!
//! From the request to "running", as a client of the bus sees it. The machine boots a small guest under emulation; it is ended
//! and removed between two rounds, outside of the measured time. Needs root (or a session libvirt), libvirt, QEMU, and the guest
//! image that `tests/run` makes (`target/guest`, or `VWS_TEST_GUEST`).
#![allow(clippy::unwrap_used, clippy::panic, reason = "a benchmark ends with its first failure")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use virt::connect::Connect;
use virt::domain::DomainState;
use vws_bench::{events, least_and_median, line, median, next_event, ratio, shown, title};
use vws_tests::bus::{none, run};
use vws_tests::{Plan, Site, root, until};

const ROUNDS: usize = 15;
/// Files of a workspace on its host.
const DISK: &str = "disk-0.qcow2";
const SEED: &str = "seed.img";
const CONSOLE: &str = "console.log";
/// Definitions without what libvirt adds when it starts one.
const INACTIVE: u32 = virt::sys::VIR_DOMAIN_XML_INACTIVE;

fn main() {
    let guest = std::env::var_os("VWS_TEST_GUEST").map_or_else(|| root().join("target/guest"), PathBuf::from);
    let image = guest.join("guest.qcow2");
    if !image.exists() {
        eprintln!("deploy: skipped: {} is missing; examples/guest/make {} makes it", image.display(), guest.display());
        return;
    }
    let lab = Lab::start();
    let mut site = Site::prepare(&Plan { hosts: Vec::new(), ..Plan::default() });
    plugin_into(&site.dir().join("plugins"));
    let config = format!(
        "[hosts.here]\nbackend = \"kvm\"\n[hosts.here.settings]\nuri = \"{}\"\ndirectory = \"{}\"\n",
        lab.uri,
        site.dir().join("host").display()
    );
    std::fs::write(site.dir().join("vwsd.toml"), config).unwrap();
    site.start_daemon();
    until("the host is up", || (site.ok(&["host", "show", "here"])["state"] == "up").then_some(()));
    site.run(&["image", "import", "guest", image.to_str().unwrap(), "--format", "qcow2", "--public"]);

    let connection = Connect::open(Some(&lab.uri)).unwrap();
    let mut bare = Bare::learn(&site, &connection);
    let (mut plain, mut ours, mut steps) = (Vec::new(), Vec::new(), BTreeMap::<String, Vec<Duration>>::new());
    for round in 0..ROUNDS {
        plain.push(bare.deploy(&connection));
        let (time, parts) = deployed(&site, &format!("round{round}"));
        ours.push(time);
        for (name, time) in parts {
            steps.entry(name).or_default().push(time);
        }
    }
    title("deploy", &format!("A linked clone, from the request to running ({ROUNDS} rounds)"));
    let ((least, plain), (least_ours, ours)) = (least_and_median(&plain), least_and_median(&ours));
    for (which, plain, ours) in [("median", plain, ours), ("least", least, least_ours)] {
        line(&format!("bare: qemu-img create, createXML ({which})"), &shown(plain), "", "");
        let more = ours.saturating_sub(plain);
        let percent = (ratio(ours, plain) - 1.0) * 100.0;
        let against = format!("{:.3} x bare: {} more, {percent:.1} %", ratio(ours, plain), shown(more));
        line(&format!("the daemon ({which})"), &shown(ours), &against, "15 ms or 3 % more");
    }
    for (name, times) in steps {
        line(&format!("  {name}"), &shown(median(times)), "", "");
    }
}

/// A libvirt of its own, ended with this.
struct Lab {
    folder: tempfile::TempDir,
    uri: String,
}

impl Lab {
    fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("vws-bench").tempdir_in("/tmp").unwrap();
        let uri = Self::script(folder.path(), "start").trim().to_owned();
        Self { folder, uri }
    }

    fn script(folder: &Path, verb: &str) -> String {
        let output = Command::new(root().join("tests/lab/libvirt-private")).arg(folder).arg(verb).output().unwrap();
        assert!(output.status.success(), "libvirt-private {verb}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        Self::script(self.folder.path(), "stop");
    }
}

/// Builds the plugin as this program was built, and puts it where the daemon looks.
fn plugin_into(folder: &Path) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().to_owned();
    let mut command = Command::new(cargo);
    command.current_dir(root()).args(["build", "--quiet", "-p", "vws-plugin-kvm", "--target-dir"]).arg(built.parent().unwrap());
    if built.ends_with("release") {
        command.arg("--release");
    }
    assert!(command.status().unwrap().success(), "the plugin does not build");
    std::os::unix::fs::symlink(built.join("libvws_plugin_kvm.so"), folder.join("libvws_plugin_kvm.so")).unwrap();
}

/// One deployment through the daemon: its time, and the parts of it between the events that tell of its steps.
fn deployed(site: &Site, name: &str) -> (Duration, Vec<(String, Duration)>) {
    let measured = run(async {
        let client = site.client().await;
        let manager = client.manager().await.unwrap();
        let mut events = events(&client).await;
        let spec = spec();
        let begin = Instant::now();
        manager.create_workspace(name, &spec, &none()).await.unwrap();
        let mut last = Instant::now();
        let mut parts = vec![("1 accepted".to_owned(), last - begin)];
        for (part, kind, text) in [
            ("2 images at hand", "workspace.state", "is staging"),
            ("3 staged: disks, seed, definition", "workspace.state", "is starting"),
            ("4 started", "workspace.state", "is running"),
        ] {
            let seen = next_event(&mut events, kind, text).await;
            parts.push((part.to_owned(), seen - last));
            last = seen;
        }
        (last - begin, parts)
    });
    site.run(&["destroy", name]);
    measured
}

fn spec() -> vws_bus::client::Args<'static> {
    let mut spec = none();
    spec.insert("image", zbus::Variant::from("guest"));
    spec.insert("memory-mib", zbus::Variant::from(128_u64));
    spec
}

/// The bare program: what it needs to make the same machine by itself.
struct Bare {
    xml: String,
    folder: PathBuf,
    image: PathBuf,
    size_bytes: u64,
    seed: Vec<u8>,
    id: String,
    number: u32,
}

impl Bare {
    /// Has the daemon make one machine, and takes its definition as the pattern.
    fn learn(site: &Site, connection: &Connect) -> Self {
        site.run(&["launch", "guest", "--name", "pattern", "--memory", "128M"]);
        let info = site.ok(&["info", "pattern"]);
        let id = info["id"].as_str().unwrap().to_owned();
        let domain = connection.lookup_domain_by_name(&format!("vws-{id}")).unwrap();
        let xml = domain.xml_desc(INACTIVE).unwrap();
        let folder = site.dir().join("host");
        let is_image = |path: &PathBuf| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.starts_with("vws-image-") && !name.contains('.')
        };
        let image = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).find(is_image).unwrap();
        let sizes =
            Command::new("qemu-img").args(["info", "-U", "--output=json"]).arg(file(&folder, &id, DISK)).output().unwrap();
        let sizes: serde_json::Value = serde_json::from_slice(&sizes.stdout).unwrap();
        let seed = std::fs::read(file(&folder, &id, SEED)).unwrap();
        site.run(&["destroy", "pattern"]);
        Self { xml, folder, image, size_bytes: sizes["virtual-size"].as_u64().unwrap(), seed, id, number: 0 }
    }

    fn deploy(&mut self, connection: &Connect) -> Duration {
        self.number += 1;
        let id = format!("{:032x}", 0xbabe_0000 + self.number);
        let uuid = |id: &str| format!("{}-{}-{}-{}-{}", &id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..]);
        // The pattern with its name, uuid and paths replaced: the same devices, the same limits.
        let xml = self.xml.replace(&self.id, &id).replace(&uuid(&self.id), &uuid(&id));
        std::fs::write(file(&self.folder, &id, SEED), &self.seed).unwrap();
        let begin = Instant::now();
        let made = Command::new("qemu-img")
            .args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"])
            .arg(&self.image)
            .arg(file(&self.folder, &id, DISK))
            .arg(self.size_bytes.to_string())
            .stdin(Stdio::null())
            .status();
        assert!(made.unwrap().success());
        let domain = connection.create_domain_xml(&xml, 0).unwrap();
        let (state, _) = domain.state().unwrap();
        let time = begin.elapsed();
        assert_eq!(state.known(), Some(DomainState::Running));
        domain.destroy().unwrap();
        for name in [SEED, DISK, CONSOLE] {
            std::fs::remove_file(file(&self.folder, &id, name)).unwrap();
        }
        time
    }
}

/// A workspace's file in the host's folder.
fn file(folder: &Path, id: &str, name: &str) -> PathBuf {
    folder.join(format!("vws-{id}-{name}"))
}
