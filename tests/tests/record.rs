//! What can be looked up afterwards, at any size: decisions about what is gone, lists by pages, jobs that failed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use std::collections::BTreeSet;
use vws_bus::client::Dict;
use vws_tests::bus::{may_become_others, none};
use vws_tests::{Plan, Site, until};
use zbus::Variant;

#[test]
fn decisions_about_what_is_gone_are_found_by_its_name() {
    let site = Site::start(&Plan::default());
    site.import("tiny");
    site.run(&["launch", "tiny", "--name", "brief"]);
    let id = site.ok(&["info", "brief"])["id"].as_str().unwrap().to_owned();
    site.run(&["destroy", "brief"]);
    until("it is gone", || (site.state("brief") == "gone").then_some(()));
    let verbs = |arguments: &[&str]| -> Vec<String> {
        let found = site.ok(arguments);
        found.as_array().unwrap().iter().map(|decision| decision["verb"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(verbs(&["why", "brief"]), ["destroy", "launch"]);
    assert_eq!(verbs(&["why", &id]), ["destroy", "launch"]);
    assert_eq!(verbs(&["decisions", "--name", "brief", "--caller", "0"]), ["destroy", "launch"]);
    assert!(verbs(&["decisions", "--name", "brief", "--caller", "1"]).is_empty());
    assert!(verbs(&["decisions", "--name", "brief", "--until", "1h"]).is_empty());
    assert_eq!(site.vws(&["why", "never"]).code, 3);
}

#[test]
fn everything_is_listed_page_by_page() {
    let site = Site::start(&Plan {
        hosts: vec!["h1", "h2", "h3"],
        config:
            "[networks.n1]\nkind = \"user\"\n[networks.n2]\nkind = \"user\"\n[networks.n3]\nkind = \"bridge\"\nsource = \"br0\"\n"
                .to_owned(),
        ..Plan::default()
    });
    for name in ["a", "b", "c"] {
        site.import(name);
    }
    let paths = |page: &[Dict]| -> Vec<String> {
        page.iter().map(|dict| format!("{:?}", dict.get("Path").expect("each has its path"))).collect()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = site.client().await;
        let manager = client.manager().await.unwrap();
        for noun in ["images", "hosts", "networks", "jobs"] {
            let (mut seen, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
            loop {
                let mut options = none();
                options.insert("limit", Variant::from(1_u64));
                options.insert("cursor", Variant::from(cursor.clone()));
                let (page, next) = match noun {
                    "images" => manager.list_images(&none(), &options).await.unwrap(),
                    "hosts" => manager.list_hosts(&none(), &options).await.unwrap(),
                    "networks" => manager.list_networks(&none(), &options).await.unwrap(),
                    _ => manager.list_jobs(&none(), &options).await.unwrap(),
                };
                assert!(page.len() <= 1, "{noun}");
                seen.extend(paths(&page));
                pages += 1;
                if next.is_empty() {
                    break;
                }
                cursor = next;
            }
            // Three imports and three probes are six jobs.
            let expected = if noun == "jobs" { 6 } else { 3 };
            assert_eq!((seen.len(), seen.iter().collect::<BTreeSet<_>>().len()), (expected, expected), "{noun}: {seen:?}");
            assert!(pages >= expected, "{noun}");
        }
        let one = |key: &'static str, value: &'static str| -> std::collections::BTreeMap<&'static str, Variant<'static>> {
            [(key, Variant::from(value))].into()
        };
        assert_eq!(manager.list_images(&one("name", "b"), &none()).await.unwrap().0.len(), 1);
        assert_eq!(manager.list_images(&one("visibility", "private"), &none()).await.unwrap().0.len(), 0);
        assert_eq!(manager.list_hosts(&one("state", "up"), &none()).await.unwrap().0.len(), 3);
        assert_eq!(manager.list_networks(&one("kind", "bridge"), &none()).await.unwrap().0.len(), 1);
        let wrong = manager.list_networks(&one("kind", "bridg"), &none()).await.unwrap_err();
        assert!(format!("{wrong:?}").contains("did you mean `bridge`?"), "{wrong:?}");
        assert_eq!(manager.list_jobs(&one("kind", "probe-host"), &none()).await.unwrap().0.len(), 3);
        let at_work = [("ended", Variant::from(false))].into();
        assert_eq!(manager.list_jobs(&at_work, &none()).await.unwrap().0.len(), 0);
        let wrong = manager.list_jobs(&one("state", "don"), &none()).await.unwrap_err();
        assert!(format!("{wrong:?}").contains("did you mean `done`?"), "{wrong:?}");
    });
    let names = |list: serde_json::Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(site.ok(&["host", "list"])), ["h1", "h2", "h3"]);
    assert_eq!(names(site.ok(&["network", "list"])), ["n1", "n2", "n3"]);
    assert_eq!(names(site.ok(&["image", "list"])), ["a", "b", "c"]);
    assert_eq!(site.ok(&["jobs"]).as_array().unwrap().len(), 0);
    assert_eq!(site.ok(&["jobs", "--all"]).as_array().unwrap().len(), 6);
    assert_eq!(site.ok(&["backend", "list"]).as_array().unwrap().len(), 1);
}

#[test]
fn reads_are_counted() {
    if !may_become_others() {
        return;
    }
    let site = Site::start(&Plan::default());
    site.import("tiny");
    site.run(&["launch", "tiny", "--name", "mine", "--target", "stopped"]);
    let counted = || {
        let status = site.ok(&["policy", "status"]);
        ["reads_judged", "reads_remembered", "reads_refused"].map(|key| status[key].as_u64().unwrap())
    };
    assert_eq!(counted(), [0, 0, 0], "an administrator sees everything and is not judged");
    let list =
        || site.as_user(2, |client| async move { client.manager().await.unwrap().list(&none(), &none()).await.unwrap().0.len() });
    assert_eq!((list(), list()), (0, 0));
    assert_eq!(counted(), [1, 1, 2]);
}
