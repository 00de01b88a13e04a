//! Figures of machines: one call a host and period whatever is on it, who may see them, and the site in the Prometheus text format, read
//! by a parser of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};
use vws_bus::client::Args;
use vws_tests::bus::may_become_others;
use vws_tests::{Plan, Site, until};

fn plan(hosts: Vec<&'static str>) -> Plan {
    Plan {
        hosts,
        settings: "journal = true".to_owned(),
        config: "[operate]\nstats-seconds = 1\n[metrics]\nseconds = 1\nworkspaces = 2\nfile = \"@METRICS@\"\n".to_owned(),
        ..Plan::default()
    }
}

/// How often a method was called on a simulated host.
fn called(site: &Site, host: &str, method: &str) -> usize {
    let path = site.dir().join("sim").join(host).join("calls");
    std::fs::read_to_string(path).unwrap_or_default().lines().filter(|line| *line == method).count()
}

/// A metric as it was read.
#[derive(Debug, Default)]
struct Family {
    kind: String,
    help: String,
    samples: Vec<(BTreeMap<String, String>, f64)>,
}

fn is_name(name: &str, colon: bool) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '_' || (colon && c == ':');
    !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit()) && name.chars().all(good)
}

/// Reads `{label="value",...}` up to what follows it.
fn labels(text: &str) -> (BTreeMap<String, String>, &str) {
    let Some(mut rest) = text.strip_prefix('{') else { return (BTreeMap::new(), text) };
    let mut found = BTreeMap::new();
    loop {
        let (name, after) = rest.split_once("=\"").expect("a label has a value in quotes");
        assert!(is_name(name, false), "label `{name}`");
        let mut value = String::new();
        let mut chars = after.char_indices();
        let end = loop {
            match chars.next().expect("a value ends with a quote") {
                (at, '"') => break at,
                (_, '\\') => value.push(match chars.next().expect("something follows a backslash").1 {
                    'n' => '\n',
                    c @ ('\\' | '"') => c,
                    other => panic!("no escape: \\{other}"),
                }),
                (_, c) => value.push(c),
            }
        };
        assert!(found.insert(name.to_owned(), value).is_none(), "label `{name}` twice");
        let after = &after[end + 1..];
        match (after.strip_prefix(','), after.strip_prefix('}')) {
            (Some(next), _) => rest = next,
            (None, Some(next)) => return (found, next),
            (None, None) => panic!("after a label: {after}"),
        }
    }
}

/// Reads the text format, version 0.0.4, as strictly as it can be.
fn parse(text: &str) -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut open = String::new();
    assert!(text.ends_with('\n'), "the last line ends");
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("a help has a text");
            assert!(is_name(name, true), "{line}");
            assert!(!help.is_empty() && !families.contains_key(name), "a metric begins once: {line}");
            families.entry(name.to_owned()).or_default().help = help.to_owned();
            name.clone_into(&mut open);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a type has a word");
            assert_eq!(name, open, "TYPE follows HELP");
            assert!(["counter", "gauge"].contains(&kind), "{line}");
            let family = families.get_mut(name).unwrap();
            assert!(family.kind.is_empty() && family.samples.is_empty(), "{line}");
            kind.clone_into(&mut family.kind);
        } else {
            let end = line.find(['{', ' ']).expect("a sample has a value");
            let (name, rest) = line.split_at(end);
            assert_eq!(name, open, "samples stand with their metric: {line}");
            let (labels, rest) = labels(rest);
            let value: f64 = rest.strip_prefix(' ').expect("a blank").parse().unwrap_or_else(|_| panic!("no number: {line}"));
            let family = families.get_mut(name).unwrap();
            assert!(family.samples.iter().all(|(other, _)| *other != labels), "a series twice: {line}");
            family.samples.push((labels, value));
        }
    }
    for (name, family) in &families {
        assert!(!family.kind.is_empty(), "{name} has no type");
        assert!(family.kind != "counter" || name.ends_with("_total") || name == "vws_event_sequence", "{name}");
        assert!(family.samples.iter().all(|(_, value)| value.is_finite() && *value >= 0.0), "{name}");
    }
    families
}

/// The value of the sample with these labels.
fn value(families: &BTreeMap<String, Family>, name: &str, labels: &[(&str, &str)]) -> f64 {
    let family = families.get(name).unwrap_or_else(|| panic!("no metric {name}"));
    let found =
        family.samples.iter().find(|(has, _)| labels.iter().all(|(key, value)| has.get(*key).is_some_and(|v| v == value)));
    found.unwrap_or_else(|| panic!("no sample of {name} with {labels:?}: {family:?}")).1
}

fn metrics(site: &Site) -> BTreeMap<String, Family> {
    parse(site.ok(&["admin", "metrics"])["text"].as_str().unwrap())
}

/// A site whose metrics go into a file of its folder.
fn start(plan: &Plan) -> Site {
    let mut site = Site::prepare(plan);
    let config = site.dir().join("vwsd.toml");
    let file = site.dir().join("metrics.prom");
    let text = std::fs::read_to_string(&config).unwrap().replace("@METRICS@", file.to_str().unwrap());
    std::fs::write(config, text).unwrap();
    site.start_daemon();
    for host in &plan.hosts {
        until("a host is probed", || (site.ok(&["host", "show", host])["state"] == "up").then_some(()));
    }
    site
}

fn no_remnant(folder: &Path) -> bool {
    !folder.join("metrics.prom.new").exists()
}

#[test]
fn a_host_is_asked_once_a_period_whatever_is_on_it() {
    let site = start(&plan(vec!["h1", "h2", "h3"]));
    site.import("tiny");
    // Ten on one host, none on another.
    for n in 0..10 {
        site.run(&["launch", "tiny", "--name", &format!("w{n}"), "--memory", "64M", "--host", "h1", "--no-wait"]);
    }
    for n in 0..10 {
        site.until_state(&format!("w{n}"), "running");
    }
    let before = ["h1", "h2", "h3"].map(|host| called(&site, host, "host.stats"));
    let counted = value(&metrics(&site), "vws_stats_calls_total", &[]);
    let began = Instant::now();
    until("some periods have passed", || (called(&site, "h2", "host.stats") >= before[1] + 5).then_some(()));
    // What is shown is taken from memory: looking asks no host.
    for _ in 0..10 {
        assert!(site.ok(&["top"]).as_array().unwrap().len() <= 10);
    }
    let periods = usize::try_from(began.elapsed().as_millis().div_ceil(1000)).unwrap();
    for (host, before) in ["h1", "h2", "h3"].into_iter().zip(before) {
        let calls = called(&site, host, "host.stats") - before;
        assert!(calls >= 4 && calls <= periods + 2, "{host}: {calls} calls in {periods} periods");
    }
    assert_eq!(called(&site, "h1", "workspace.inspect"), 0, "no machine is asked alone");
    assert!(value(&metrics(&site), "vws_stats_calls_total", &[]) > counted);
}

#[test]
fn figures_are_shown_to_those_who_see_the_workspace() {
    let site = start(&plan(vec!["h1"]));
    site.import("tiny");
    for name in ["one", "off"] {
        site.run(&["launch", "tiny", "--name", name, "--memory", "64M"]);
    }
    site.run(&["stop", "off"]);
    let one = until("two answers have come", || {
        let all = site.ok(&["top", "--sort", "name"]);
        let all = all.as_array().unwrap().clone();
        assert!(all.len() <= 2, "{all:?}");
        (all.len() == 1 && all[0].get("cpu_percent").is_some()).then(|| all[0].clone())
    });
    assert_eq!(one["name"], "one", "what does not run has no figures: {one}");
    // The simulated guest works for a hundredth of its time, writes 512 bytes and sends 64 each tenth of a second.
    let near = |value: &serde_json::Value, wanted: f64| {
        let value = value.as_f64().unwrap_or_else(|| panic!("{one}"));
        assert!((value - wanted).abs() <= wanted * 0.5, "{value}, not about {wanted}: {one}");
    };
    near(&one["cpu_percent"], 1.0);
    near(&one["disk_written_bytes_per_second"], 5120.0);
    near(&one["net_sent_bytes_per_second"], 640.0);
    assert_eq!((&one["memory_mib"], &one["resident_mib"], &one["vcpus"]), (&64.into(), &32.into(), &1.into()), "{one}");
    assert_eq!(one["disk_read_bytes_per_second"], 0, "{one}");
    assert!(one.get("net_received_bytes").is_none(), "what the hypervisor does not tell is left out: {one}");
    assert!(one["age_ms"].as_u64().unwrap() < 5000, "{one}");
    if !may_become_others() {
        return;
    }
    site.as_user(65_534, |client| async move {
        let manager = client.manager().await.unwrap();
        let (seen, _) = manager.stats(&Args::new(), &Args::new()).await.unwrap();
        assert!(seen.is_empty(), "{seen:?}");
        let refused = manager.metrics(&Args::new()).await.unwrap_err();
        assert!(refused.to_string().contains("AccessDenied"), "{refused}");
    });
}

#[test]
fn the_metrics_are_well_formed_and_say_what_is() {
    let site = start(&plan(vec!["h1", "h2"]));
    site.import("tiny");
    for name in ["a", "b", "c"] {
        site.run(&["launch", "tiny", "--name", name, "--memory", "64M", "--vcpus", "1", "--host", "h1"]);
    }
    site.run(&["pause", "c"]);
    assert_ne!(site.vws(&["launch", "tiny", "--name", "huge", "--memory", "9999G"]).code, 0);
    until("figures of all three are there", || (site.ok(&["top"]).as_array().unwrap().len() == 3).then_some(()));
    let seen = metrics(&site);
    assert_eq!(value(&seen, "vws_workspaces", &[("state", "running")]) as u64, 2);
    assert_eq!(value(&seen, "vws_workspaces", &[("state", "paused")]) as u64, 1);
    assert_eq!(value(&seen, "vws_host_up", &[("host", "h2")]) as u64, 1);
    assert_eq!(value(&seen, "vws_host_workspaces", &[("host", "h1")]) as u64, 3);
    let free = |name: &str, host: &str| value(&seen, name, &[("host", host)]);
    assert_eq!(free("vws_host_capacity_vcpus", "h1") - free("vws_host_free_vcpus", "h1"), 3.0);
    let bytes = free("vws_host_capacity_memory_bytes", "h1") - free("vws_host_free_memory_bytes", "h1");
    assert_eq!(bytes, 3.0 * 64.0 * 1024.0 * 1024.0);
    assert!(value(&seen, "vws_jobs", &[("state", "done")]) >= 5.0, "import, launches, pause");
    assert!(value(&seen, "vws_decisions_total", &[("verdict", "permit")]) >= 5.0);
    assert_eq!(value(&seen, "vws_decisions_total", &[("verdict", "deny")]) as u64, 1);
    assert_eq!(value(&seen, "vws_policy_generation", &[]) as u64, 1);
    assert_eq!(value(&seen, "vws_policy_good", &[]) as u64, 1);
    assert!(value(&seen, "vws_event_sequence", &[]) > 5.0);
    assert_eq!(value(&seen, "vws_backend_failed", &[("backend", "sim")]) as u64, 0);
    // Two are told of, by the configuration; that one is left out is said.
    let names: BTreeSet<String> =
        seen["vws_workspace_memory_bytes"].samples.iter().map(|(labels, _)| labels["name"].clone()).collect();
    assert_eq!(names, ["a", "b"].map(str::to_owned).into());
    assert_eq!(value(&seen, "vws_workspace_figures_omitted", &[]) as u64, 1);
    assert!(value(&seen, "vws_workspace_cpu_seconds_total", &[("name", "a"), ("host", "h1")]) < 60.0);

    // The file: always whole, and it goes on.
    let path = site.dir().join("metrics.prom");
    let first = until("the file is there", || std::fs::read_to_string(&path).ok().map(|text| parse(&text)));
    let calls = value(&first, "vws_stats_calls_total", &[]);
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let now = parse(&std::fs::read_to_string(&path).expect("it is never away"));
        if value(&now, "vws_stats_calls_total", &[]) > calls {
            break;
        }
        assert!(Instant::now() < end, "the file stands still");
    }
    until("nothing is left beside it", || no_remnant(site.dir()).then_some(()));
}
