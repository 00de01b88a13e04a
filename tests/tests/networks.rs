//! Networks and their addresses, from outside: who gets which, how guests and hosts are told, and when they are free again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use serde_json::{Value, json};
use std::collections::BTreeSet;
use vws_tests::bus::{may_become_others, none, number, run, word};
use vws_tests::{Plan, Site, root, until};
use zbus::Variant;

/// A network with 64 addresses, and whatever else is wanted of it.
fn lan(more: &str) -> String {
    format!(
        "[lease]\ngrace-seconds = 0\n[networks.lan]\nkind = \"bridge\"\nsource = \"br0\"\nsubnet = \"10.0.0.0/24\"\n\
         gateway = \"10.0.0.1\"\ndns = [\"10.0.0.2\"]\nranges = [\"10.0.0.10-10.0.0.73\"]\n{more}\n"
    )
}

fn site(more: &str, settings: &str) -> Site {
    let site = Site::start(&Plan { config: lan(more), settings: settings.to_owned(), ..Plan::default() });
    site.import("tiny");
    site
}

const SMALL: &[&str] = &["--memory", "64M", "--nic", "network=lan"];

fn launch(site: &Site, name: &str) -> Value {
    site.run(&[&["launch", "tiny", "--name", name], SMALL].concat());
    nics(site, name)[0].clone()
}

fn nics(site: &Site, name: &str) -> Vec<Value> {
    site.ok(&["info", name])["nics"].as_array().unwrap().clone()
}

fn free(site: &Site) -> u64 {
    site.ok(&["network", "show", "lan"])["free"].as_u64().unwrap()
}

#[test]
fn launches_at_once_get_addresses_of_their_own() {
    // No limits: it is the pool that ends.
    let read = |name: &str| std::fs::read_to_string(root().join("policies").join(name)).unwrap();
    let quota = "return { decide = function(input) return permit() end }".to_owned();
    let site = Site::start(&Plan {
        config: lan(""),
        settings: "vcpus = 256".to_owned(),
        policies: vec![("access.lua", read("access.lua")), ("quota.lua", quota), ("placement.lua", read("placement.lua"))],
        ..Plan::default()
    });
    site.import("tiny");
    assert_eq!(free(&site), 64);
    let refused = run(async {
        // A connection has 64 calls at a time.
        let clients = [site.client().await, site.client().await];
        let asks = (0..70).map(|n| {
            let client = clients[n % 2].clone();
            async move {
                let mut spec = none();
                spec.insert("image", Variant::from("tiny"));
                spec.insert("memory-mib", Variant::from(64_u64));
                let nic = std::collections::BTreeMap::from([("network".to_owned(), Variant::from("lan"))]);
                spec.insert("nics", Variant::from(vec![nic]));
                let manager = client.manager().await.unwrap();
                manager.create_workspace(&format!("w{n}"), &spec, &none()).await.map_err(|error| error.to_string())
            }
        });
        let asked: Vec<_> = asks.map(tokio::spawn).collect();
        let mut refused = Vec::new();
        for answer in asked {
            refused.extend(answer.await.unwrap().err());
        }
        refused
    });
    assert_eq!(refused.len(), 6, "{refused:?}");
    assert!(refused.iter().all(|text| text.contains("network `lan`: 0 of 64 addresses are free")), "{refused:?}");
    let said = site.vws(&[&["launch", "tiny", "--name", "late"], SMALL].concat());
    let (name, code, message) = said.error();
    assert_eq!((said.code, name.as_str(), code.as_str()), (6, "NoAddress", "pool-empty"), "{message}");
    assert!(message.contains("decision"), "it is recorded: {message}");
    let listed = site.ok(&["list"]);
    let names: Vec<&str> = listed.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names.len(), 64);
    let shown = site.ok(&["network", "show", "lan"]);
    let column = |key: &str| -> BTreeSet<String> {
        shown["addresses"].as_array().unwrap().iter().map(|one| one[key].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!((column("address").len(), column("mac").len(), column("workspace").len()), (64, 64, 64));
    assert_eq!(site.findings(), Vec::<String>::new());
    let all: Vec<&str> = ["destroy"].into_iter().chain(names).collect();
    site.run(&all);
    assert_eq!(free(&site), 64);
    site.assert_empty(&["h1"]);
}

#[test]
fn guests_and_hosts_are_told_and_what_was_given_stays() {
    let mut site = site(
        "[networks.lan.labels]\nzone = \"blue\"\n[networks.san]\nkind = \"network\"\nsource = \"default\"\nsubnet = \"10.1.0.0/24\"\ndhcp = true",
        "",
    );
    let explained = site.ok(&[&["explain", "launch", "tiny", "--name", "web"], SMALL].concat());
    assert!(explained.to_string().contains("10.0.0.10 ("), "an explanation shows the address: {explained}");
    site.run(&[&["launch", "tiny", "--name", "web", "--nic", "network=san", "--nic", "user"], SMALL].concat());
    let before = nics(&site, "web");
    assert_eq!(
        before.iter().map(|nic| (&nic["network"], &nic["address"])).collect::<Vec<_>>(),
        [(&json!("san"), &json!("10.1.0.1")), (&Value::Null, &Value::Null), (&json!("lan"), &json!("10.0.0.10"))]
    );
    let machine = site.machines("h1")[0].1["doc"].clone();
    let told: Vec<_> = machine["nics"]
        .as_array()
        .unwrap()
        .iter()
        .map(|nic| (&nic["kind"], &nic["source"], &nic["addresses"], &nic["dhcp"], &nic["anti_spoofing"]))
        .collect();
    assert_eq!(told[0], (&json!("network"), &json!("default"), &json!(["10.1.0.1/24"]), &json!(true), &json!(true)));
    assert_eq!(told[2], (&json!("bridge"), &json!("br0"), &json!(["10.0.0.10/24"]), &json!(false), &json!(true)));
    let config: Value = serde_json::from_str(machine["seed"]["network_config"].as_str().unwrap()).unwrap();
    assert_eq!(config["ethernets"]["nic2"]["match"]["macaddress"], before[2]["mac"]);
    assert_eq!(config["ethernets"]["nic2"]["routes"][0]["via"], "10.0.0.1");

    // In a bundle it keeps them, also over a restart, and nobody takes the network away under it.
    site.run(&["serialize", "web"]);
    assert_eq!(free(&site), 63);
    site.kill_daemon();
    site.start_daemon();
    let (name, code, message) = site.vws(&["network", "remove", "lan"]).error();
    assert_eq!((name.as_str(), code.as_str()), ("InvalidState", "addresses-held"));
    assert!(message.contains("1 workspaces are on it and hold 1 of its addresses"), "{message}");
    let (name, _, message) = site.vws(&["network", "change", "lan", "--gateway", "10.0.0.10"]).error();
    assert_eq!(name, "InvalidState", "{message}");
    assert!(message.contains("10.0.0.10 of workspace `web`"), "{message}");
    site.run(&["resume", "web"]);
    assert_eq!(nics(&site, "web"), before);
    assert_eq!(site.machines("h1")[0].1["doc"]["nics"][2]["addresses"], json!(["10.0.0.10/24"]));

    // Once it is gone its pair is remembered, and comes back to the same name.
    site.run(&["destroy", "web"]);
    assert_eq!(free(&site), 64);
    assert_eq!(launch(&site, "other")["address"], "10.0.0.10", "the same owner has what the owner had");
    site.run(&[
        "launch",
        "tiny",
        "--name",
        "own",
        "--memory",
        "64M",
        "--nic",
        "network=lan",
        "--network-config",
        root().join("Cargo.toml").to_str().unwrap(),
    ]);
    assert_eq!(nics(&site, "own")[0]["address"], "10.0.0.11", "held and shown, whatever the guest is told");
    site.run(&["destroy", "own", "other"]);
    assert_eq!(launch(&site, "own")["address"], "10.0.0.11");
    site.run(&["destroy", "own"]);
    site.assert_empty(&["h1"]);
    site.run(&["network", "remove", "lan"]);
    assert_eq!(site.ok(&["network", "list"]).as_array().unwrap().len(), 1);
    assert_eq!(site.findings(), Vec::<String>::new());
}

#[test]
fn a_network_is_configured_while_the_daemon_runs() {
    let site = site("", "");
    let add = [
        "network",
        "add",
        "dmz",
        "--kind",
        "bridge",
        "--source",
        "br1",
        "--subnet",
        "192.168.7.0/29",
        "--gateway",
        "192.168.7.1",
    ];
    let added = site.ok(&add);
    assert_eq!((&added["size"], &added["free"], &added["anti_spoofing"]), (&json!(5), &json!(5), &json!(true)));
    assert_eq!(site.vws(&add).error().0, "AlreadyExists");
    site.run(&["launch", "tiny", "--name", "a", "--memory", "64M", "--nic", "network=dmz,address=192.168.7.6"]);
    let changed = site.ok(&["network", "change", "dmz", "--range", "192.168.7.2-192.168.7.3"]);
    assert_eq!(
        (&changed["size"], &changed["free"], &changed["held"]),
        (&json!(2), &json!(2), &json!(1)),
        "held outside of the ranges"
    );
    site.run(&["network", "disable", "dmz"]);
    let (name, code, _) = site.vws(&["launch", "tiny", "--name", "b", "--memory", "64M", "--nic", "network=dmz"]).error();
    assert_eq!((name.as_str(), code.as_str()), ("InvalidState", "network-disabled"));
    for (bad, what) in [
        (["--subnet", "192.168.8.0/24"], "a subnet without what is held"),
        (["--subnet", ""], "no subnet"),
        (["--dns", "192.168.7.6"], "a name server that has a workspace's address"),
        (["--range", "10.0.0.1-10.0.0.2"], "a range elsewhere"),
    ] {
        assert_ne!(site.vws(&[["network", "change", "dmz"].as_slice(), &bad].concat()).code, 0, "{what}");
    }
    assert_eq!(site.vws(&["launch", "tiny", "--name", "b", "--nic", "network=lam"]).error().0, "NotFound");
    assert_eq!(site.vws(&["network", "show", "dmx"]).code, 3);
    site.run(&["destroy", "a"]);
    site.assert_empty(&["h1"]);
}

#[test]
fn addresses_by_name_are_for_those_whom_the_policy_lets() {
    if !may_become_others() {
        return;
    }
    let site = site("", "");
    let ask = |name: &'static str, address: &'static str| {
        site.as_user(1, move |client| async move {
            let mut spec = none();
            spec.insert("image", Variant::from("tiny"));
            spec.insert("memory-mib", Variant::from(64_u64));
            let mut nic = std::collections::BTreeMap::from([("network".to_owned(), Variant::from("lan"))]);
            if !address.is_empty() {
                nic.insert("address".to_owned(), Variant::from(address));
            }
            spec.insert("nics", Variant::from(vec![nic]));
            let manager = client.manager().await.unwrap();
            manager.create_workspace(name, &spec, &none()).await.map(|_| ()).map_err(|error| error.to_string())
        })
    };
    site.run(&["launch", "tiny", "--name", "roots", "--memory", "64M", "--nic", "network=lan,address=10.0.0.50"]);
    let refused = ask("hers", "10.0.0.51").unwrap_err();
    assert!(refused.contains("naming one is for administrators here") && refused.contains("access.lua:"), "{refused}");
    ask("hers", "").unwrap();
    site.run(&["network", "change", "lan", "--label", "static-addresses=yes"]);
    ask("second", "10.0.0.51").unwrap();
    let taken = ask("third", "10.0.0.50").unwrap_err();
    assert!(taken.contains("address 10.0.0.50 of network `lan`: is taken"), "a stranger is told no name: {taken}");
    for (address, why) in
        [("10.0.0.1", "is the gateway"), ("10.0.1.9", "is not in subnet"), ("10.0.0.255", "is the broadcast address")]
    {
        let refused = ask("third", address).unwrap_err();
        assert!(refused.contains(why), "{address}: {refused}");
    }
    // Everybody sees networks; whose an address is, who may see the workspace.
    let seen = site.as_user(1, |client| async move {
        let network = client.network("/org/virtualworkspaces1/networks/lan").await.unwrap();
        assert!(network.remove(&none()).await.unwrap_err().to_string().contains("network-manage"), "for administrators");
        let mut seen: Vec<String> = network.addresses(&none()).await.unwrap().iter().map(|one| word(one, "name")).collect();
        seen.sort();
        seen
    });
    assert_eq!(seen, ["hers", "second"]);
}

#[test]
fn a_limit_of_addresses_is_a_policys() {
    let site = site("", "");
    let shipped = std::fs::read_to_string(root().join("policies/quota.lua")).unwrap();
    std::fs::write(site.policy("quota.lua"), shipped.replace("addresses = 100", "addresses = 1")).unwrap();
    site.run(&["policy", "reload"]);
    launch(&site, "one");
    let said = site.vws(&[&["launch", "tiny", "--name", "two"], SMALL].concat());
    let (name, code, message) = said.error();
    assert_eq!((name.as_str(), code.as_str()), ("QuotaExceeded", "addresses-per-user"));
    assert!(message.contains("has 1 of 1 addresses, 1 asked"), "{message}");
    site.run(&["launch", "tiny", "--name", "two", "--memory", "64M"]);
}

#[test]
fn placement_takes_a_host_that_has_the_network() {
    let host = |name: &str, inside: &str| format!("[hosts.{name}]\nbackend = \"sim\"\n[hosts.{name}.settings]\n{inside}\n");
    let config = lan("")
        + &host("aa", "bridges = [\"br1\"]")
        + &host("bb", "bridges = [\"br0\"]")
        + &host("cc", "bridges = [\"br0\"]\ncannot = { anti-spoofing = \"no nwfilter\" }");
    // The harness's own host has a bridge of another name as well.
    let settings = "bridges = [\"br9\"]".to_owned();
    let site = Site::start(&Plan { config, settings, ..Plan::default() });
    for host in ["aa", "bb", "cc"] {
        until("a host is probed", || (site.ok(&["host", "show", host])["state"] == "up").then_some(()));
    }
    site.import("tiny");
    let said = site.ok(&[&["explain", "launch", "tiny", "--name", "a"], SMALL].concat());
    let text = said.to_string();
    assert!(text.contains("has no bridge `br0` (it has br1)"), "{text}");
    assert!(text.contains("`anti-spoofing`: no nwfilter"), "{text}");
    launch(&site, "a");
    assert_eq!(site.ok(&["info", "a"])["host"], "bb");
    site.run(&["launch", "tiny", "--name", "b", "--memory", "64M", "--nic", "bridge=br1"]);
    assert_eq!(site.ok(&["info", "b"])["host"], "aa");
}

/// The daemon dies in the middle of a destroy: the address is not free before the machine is gone.
#[test]
fn an_address_is_free_when_its_machine_is_gone_and_not_before() {
    let mut site = site("", "latency_ms = 300");
    // Not the configured one: a start of the daemon brings that back to what the file says.
    site.run(&["network", "add", "one", "--kind", "bridge", "--source", "br0", "--subnet", "10.9.0.0/24", "--range", "10.9.0.7"]);
    let on_one = ["--memory", "64M", "--nic", "network=one"];
    site.run(&[["launch", "tiny", "--name", "old"].as_slice(), &on_one].concat());
    let old = site.machines("h1")[0].0.clone();
    run(async {
        let client = site.client().await;
        let path = site.ok(&["info", "old"])["path"].as_str().unwrap().to_owned();
        let job = client.workspace(&path).await.unwrap().destroy(&none()).await.unwrap().to_string();
        loop {
            let seen = client.object(&job).await.unwrap();
            assert_eq!(number(&seen, "EndedAt"), 0, "it was too fast to be killed");
            if word(&seen, "Phase") == "machine" {
                break;
            }
        }
    });
    site.kill_daemon();
    site.start_daemon();
    let mut refused = 0;
    until("the address is free", || {
        let there = site.machines("h1").iter().any(|(id, _)| *id == old);
        let said = site.vws(&[["launch", "tiny", "--no-wait", "--name", "new"].as_slice(), &on_one].concat());
        if said.code == 0 {
            assert!(site.machines("h1").iter().all(|(id, _)| *id != old), "given away under a machine");
            return Some(());
        }
        assert_eq!(said.error().0, "NoAddress");
        refused += u32::from(there);
        None
    });
    assert!(refused > 0, "nobody asked while the machine was there: this proves nothing");
    site.until_state("new", "running");
    assert_eq!(nics(&site, "new")[0]["address"], "10.9.0.7");
    assert_eq!(site.findings(), Vec::<String>::new());
}

#[test]
fn an_imported_bundle_holds_the_address_that_its_guest_has() {
    let here = site("", "");
    launch(&here, "first");
    let had = launch(&here, "web");
    assert_eq!(had["address"], "10.0.0.11");
    here.run(&["serialize", "web"]);
    let file = here.dir().join("web.vwsb");
    let file = file.to_str().unwrap();
    here.run(&["bundle", "export", "web", file]);
    assert_eq!(here.ok(&["network", "show", "lan"])["held"], 1, "an exported one holds nothing here");

    let there = Site::start(&Plan::default());
    there.import("tiny");
    let refused = there.vws(&["bundle", "import", file]).error();
    assert_eq!(refused.0, "NotFound", "{refused:?}");
    assert!(refused.2.contains("network `lan`") && refused.2.contains("10.0.0.11"), "{refused:?}");
    let add = |range: &str| {
        there.run(&["network", "add", "lan", "--kind", "bridge", "--source", "br0", "--subnet", "10.0.0.0/24", "--range", range]);
    };
    there.run(&["network", "add", "lan", "--kind", "bridge", "--source", "br0"]);
    let refused = there.vws(&["bundle", "import", file]).error();
    assert!(refused.0 == "InvalidArgument" && refused.2.contains("gives out none"), "{refused:?}");
    there.run(&["network", "remove", "lan"]);
    add("10.0.0.11-10.0.0.12");
    launch(&there, "other");
    let refused = there.vws(&["bundle", "import", file]).error();
    assert_eq!((refused.0.as_str(), refused.1.as_str()), ("Conflict", "address-taken"), "{refused:?}");
    assert!(refused.2.contains("workspace `other`"), "{refused:?}");
    assert_eq!(there.state("web"), "gone");
    there.run(&["destroy", "other"]);

    there.run(&["bundle", "import", file]);
    assert_eq!(there.findings(), Vec::<String>::new());
    let shown = there.ok(&["network", "show", "lan"]);
    assert_eq!((&shown["held"], &shown["free"]), (&json!(1), &json!(1)), "{shown}");
    assert_eq!(launch(&there, "next")["address"], "10.0.0.12", "nobody gets what is held");
    there.run(&["resume", "web"]);
    let nic = nics(&there, "web")[0].clone();
    assert_eq!((&nic["address"], &nic["mac"]), (&had["address"], &had["mac"]));
    there.run(&["destroy", "web", "next"]);
    assert_eq!(there.ok(&["network", "show", "lan"])["held"], 0);
    there.assert_empty(&["h1"]);
}
