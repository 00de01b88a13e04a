//! Accounts as people ask for them: what ran is charged, what is gone stays charged, and nobody sees another's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use serde_json::{Value, json};
use vws_tests::bus::{may_become_others, none};
use vws_tests::{Plan, Site};

fn row(site: &Site, kind: &str, more: &[&str]) -> Value {
    let all = site.ok(&[["usage"].as_slice(), more].concat());
    all.as_array().unwrap().iter().find(|one| one["kind"] == kind).cloned().unwrap_or(Value::Null)
}

#[test]
fn what_ran_is_charged_in_whole_units_also_after_it_is_gone_and_after_a_restart() {
    let config = "[lease]\ngrace-seconds = 0\ncharge-minutes = 15\n".to_owned();
    let mut site = Site::start(&Plan { config, ..Plan::default() });
    site.import("tiny");
    assert_eq!(site.ok(&["usage"]), json!([]), "nothing was used yet");
    site.run(&["launch", "tiny", "--name", "one", "--memory", "64M", "--disk", "1G", "--lease", "1h"]);
    site.run(&["launch", "tiny", "--name", "off", "--memory", "64M", "--disk", "1G", "--lease", "1h", "--target", "stopped"]);
    let now = row(&site, "owner", &[]);
    let expected = json!({ "used": 15, "ahead": 45 + 60, "workspaces": 2, "running": 1, "vcpus": 2, "memory": 128, "disk": 2 });
    let told = |row: &Value| {
        json!({
            "used": row["used_minutes"], "ahead": row["ahead_minutes"], "workspaces": row["workspaces"], "running": row["running"],
            "vcpus": row["vcpus"], "memory": row["memory_mib"], "disk": row["disk_gib"],
        })
    };
    assert_eq!(told(&now), expected, "{now}");
    assert_eq!((&now["charge_minutes"], now["name"].as_str()), (&json!(15), Some("root")));
    assert_eq!(told(&row(&site, "group", &[])), expected, "all of it is charged to one group");

    // A new name is no new interval; a stop and a start are.
    site.run(&["change", "one", "--name", "uno"]);
    assert_eq!(row(&site, "owner", &[])["used_minutes"], 15);
    site.run(&["stop", "uno"]);
    site.run(&["start", "uno"]);
    assert_eq!(row(&site, "owner", &[])["used_minutes"], 30);
    for name in ["uno", "off"] {
        site.run(&["destroy", name]);
    }
    let after = row(&site, "owner", &[]);
    assert_eq!(
        told(&after),
        json!({ "used": 30, "ahead": 0, "workspaces": 0, "running": 0, "vcpus": 0, "memory": 0, "disk": 0 })
    );
    site.kill_daemon();
    site.start_daemon();
    assert_eq!(told(&row(&site, "owner", &[])), told(&after), "accounts are of the ledger, not of the process");

    // Of other times, users and groups there is nothing.
    assert_eq!(site.ok(&["usage", "--until", "1d"]), json!([]));
    assert_eq!(site.ok(&["usage", "--owner", "4711"]), json!([]));
    assert_eq!(site.ok(&["usage", "--group", "nobody"]), json!([]));
    assert_eq!(site.ok(&["usage", "--owner", "0"]).as_array().unwrap().len(), 1, "a user's account alone");
    let said = site.vws(&["usage", "--since", "1h", "--until", "2h"]);
    assert!(said.code != 0 && said.error().2.contains("ends before it begins"), "{said:?}");
}

#[test]
fn one_sees_oneself_and_the_sums_of_ones_groups() {
    if !may_become_others() {
        return;
    }
    let site = Site::start(&Plan::default());
    site.import("tiny");
    site.run(&["launch", "tiny", "--name", "roots", "--memory", "64M"]);
    let ask = |uid: u32, filter: &'static [(&'static str, u32)]| {
        site.as_user(uid, move |client| async move {
            let filter = filter.iter().map(|(key, uid)| (*key, zbus::Variant::from(*uid))).collect();
            match client.manager().await.unwrap().usage(&filter, &none()).await {
                Ok(rows) => format!("{} rows: {rows:?}", rows.len()),
                Err(error) => format!("{error:?}"),
            }
        })
    };
    let launch = |uid: u32| {
        site.as_user(uid, |client| async move {
            let mut spec = none();
            spec.insert("image", zbus::Variant::from("tiny"));
            spec.insert("memory-mib", zbus::Variant::from(64_u64));
            client.manager().await.unwrap().create_workspace("own", &spec, &none()).await.unwrap();
        });
    };
    launch(1);
    launch(2);
    assert_eq!(site.ok(&["usage"]).as_array().unwrap().len(), 6, "three users and their groups");
    let own = ask(1, &[]);
    assert!(own.starts_with("2 rows") && own.contains("daemon") && !own.contains("root"), "{own}");
    assert!(ask(1, &[("owner", 1)]).starts_with("1 rows"));
    for foreign in [0, 2] {
        let filter: &'static [(&str, u32)] = if foreign == 0 { &[("owner", 0)] } else { &[("owner", 2)] };
        let told = ask(1, filter);
        assert!(told.contains("AccessDenied") && told.contains("for administrators"), "{told}");
    }
}
