//! SIGKILL of the KVM plugin's child process in the middle of a deploy: the daemon answers other calls, and the workspace runs.

use rustix::process::Signal;
use std::sync::atomic::{AtomicBool, Ordering};
use vws_tests::Plan;
use vws_tests::Site;
use vws_tests::bus::{number, run, word};
use vws_tests::libvirt::{Libvirt, until};

#[test]
fn a_deploy_survives_the_plugins_child() {
    let Some(libvirt) = Libvirt::start(&[]) else { return };
    let host = libvirt.host("here");
    for phase in ["images", "stage", "start"] {
        // A daemon of its own for each: one that ends three times within a minute is rightly left alone for a while.
        let site = Site::start(&Plan { hosts: Vec::new(), kvm: vec![host.clone()], ..Plan::default() });
        site.import_guest();
        let launched = site.ok(&["launch", "guest", "--name", "one", "--memory", "128M", "--no-wait"]);
        let job = launched["job"]["path"].as_str().unwrap().to_owned();
        let hit = run(async {
            let client = site.client().await;
            loop {
                let seen = client.object(&job).await.unwrap();
                if word(&seen, "Phase") == phase || number(&seen, "EndedAt") > 0 {
                    return word(&seen, "Phase");
                }
            }
        });
        let old = site.hit_plugin_child(Signal::KILL);
        let over = AtomicBool::new(false);
        let answered = std::thread::scope(|scope| {
            let calls = scope.spawn(|| {
                let mut answered = 0;
                while !over.load(Ordering::Acquire) {
                    assert_eq!(site.ok(&["list"])[0]["name"], "one", "killed at {hit}\n{}", site.log());
                    answered += 1;
                }
                answered
            });
            until(&format!("the job whose plugin was killed at {hit} has ended"), || {
                let seen = run(async { site.client().await.object(&job).await.unwrap() });
                (number(&seen, "EndedAt") > 0).then_some(())
            });
            over.store(true, Ordering::Release);
            calls.join().unwrap()
        });
        assert!(answered > 0, "nothing was answered meanwhile");
        let ended = run(async { site.client().await.object(&job).await.unwrap() });
        assert_eq!(word(&ended, "State"), "done", "killed at {hit}: {ended:?}\n{}", site.log());
        site.until_tick("one", 2);
        assert_eq!(site.boots("one"), 1, "killed at {hit}: {}", site.console("one"));
        assert!(!site.plugin_children().contains(&old), "killed at {hit}: the old child is still there");
        assert_eq!((libvirt.domains().len(), libvirt.guests(), host.kept().len()), (1, 1, 1), "killed at {hit}");
        assert_eq!(site.findings(), Vec::<String>::new(), "killed at {hit}");
        site.run(&["destroy", "one"]);
        site.assert_empty_on(&libvirt, std::slice::from_ref(&host));
        if phase == "start" {
            assert_eq!(hit, "start", "the child was to be killed while the machine starts");
        }
    }
}
