//! The shipped policies, rule by rule, as a table.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]
mod common;
use common::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use vws_domain::*;
use vws_policy::{Evaluator, Limits};

fn evaluator() -> Evaluator {
    evaluator_with(shipped(), Limits::default())
}

fn grant(subject: Subject, right: Right) -> Vec<Grant> {
    vec![Grant { subject, right }]
}

#[test]
fn rights_map_to_verbs() {
    let mut evaluator = evaluator();
    // The access list's right, and the verbs that it opens to somebody else.
    let view = [Verb::View].as_slice();
    let using = [Verb::View, Verb::Start, Verb::Stop, Verb::Reboot, Verb::Pause, Verb::Resume, Verb::Console].as_slice();
    let managing: Vec<Verb> = Verb::ALL
        .into_iter()
        .filter(|verb| !verb.admins_only() && !matches!(verb, Verb::Launch | Verb::ImageImport | Verb::ImageManage))
        .collect();
    let table: [(Option<Right>, &[Verb]); 4] =
        [(None, &[]), (Some(Right::View), view), (Some(Right::Use), using), (Some(Right::Manage), &managing)];
    for (right, opened) in table {
        for subject in [Subject::User(1000), Subject::Group(50)] {
            let list = right.map(|right| grant(subject.clone(), right)).unwrap_or_default();
            for verb in Verb::ALL.into_iter().filter(|verb| !matches!(verb, Verb::Launch | Verb::ImageImport | Verb::ImageManage))
            {
                let mut input = access_input(verb);
                input.workspace = Some(workspace(2000, list.clone()));
                let verdict = evaluator.access(&input);
                let expected = if opened.contains(&verb) { VerdictKind::Permit } else { VerdictKind::Deny };
                assert_eq!(verdict.kind, expected, "{right:?} {} {verdict:?}", verb.name());
                assert!(verdict.rule.line > 0 && verdict.rule.file == "access.lua", "{verdict:?}");
            }
        }
    }
}

#[test]
fn owners_and_administrators_manage() {
    let mut evaluator = evaluator();
    for verb in Verb::ALL {
        let mut input = access_input(verb);
        input.workspace = Some(workspace(1000, Vec::new()));
        input.request.images = vec![image("mine", 1000, Visibility::Private)];
        let expected = if verb.admins_only() { VerdictKind::Deny } else { VerdictKind::Permit };
        assert_eq!(evaluator.access(&input).kind, expected, "{}", verb.name());
        input.caller = caller(0, "root");
        input.workspace = Some(workspace(2000, Vec::new()));
        assert_eq!(evaluator.access(&input).kind, VerdictKind::Permit, "{}", verb.name());
    }
}

#[test]
fn private_images_are_for_their_owners() {
    let mut evaluator = evaluator();
    let mut input = access_input(Verb::Launch);
    for (owner, visibility, expected) in [
        (1000, Visibility::Private, VerdictKind::Permit),
        (2000, Visibility::Private, VerdictKind::Deny),
        (2000, Visibility::Public, VerdictKind::Permit),
    ] {
        input.request.images = vec![image("fine", 1000, Visibility::Public), image("data", owner, visibility)];
        let verdict = evaluator.access(&input);
        assert_eq!(verdict.kind, expected, "{owner} {visibility:?} {verdict:?}");
        if expected == VerdictKind::Deny {
            assert_eq!(verdict.code, "image-private");
            assert!(verdict.text.contains("`data`") && verdict.text.contains("2000"), "{}", verdict.text);
        }
    }
    let mut input = access_input(Verb::ImageManage);
    input.request.images = vec![image("a", 2000, Visibility::Public)];
    assert_eq!(evaluator.access(&input).code, "image-owner");
}

fn quota_input(verb: Verb) -> QuotaInput {
    QuotaInput {
        request: request(verb),
        caller: caller(1000, "ann"),
        workspace: None,
        usage: UsageSet::default(),
        now: Timestamp(1_800_000_000_000_000),
    }
}

fn quota(change: &[(&str, &str)]) -> Evaluator {
    let mut sources = shipped();
    let text = sources.files.get_mut("quota.lua").unwrap();
    for (old, new) in change {
        assert!(text.contains(old), "{old}");
        *text = text.replace(old, new);
    }
    evaluator_with(sources, Limits::default())
}

#[test]
fn limits_are_refused_with_their_numbers() {
    let used = |workspaces, running, vcpus, memory_mib, disk_gib, reserved_minutes| Usage {
        workspaces,
        running,
        resources: Resources { vcpus, memory_mib, disk_gib },
        reserved_minutes,
        addresses: 0,
    };
    let table = [
        (
            used(50, 0, 0, 0, 0, 0),
            "workspaces-per-user",
            "user `ann` has 50 of 50 workspaces, 1 asked; at most 0 more are possible",
        ),
        (
            used(1, 25, 0, 0, 0, 0),
            "running-per-user",
            "user `ann` has 25 of 25 running workspaces, 1 asked; at most 0 more are possible",
        ),
        (used(1, 1, 63, 0, 0, 0), "vcpus-per-user", "user `ann` has 63 of 64 vCPUs, 2 asked; at most 1 more are possible"),
        (
            used(1, 1, 1, 262_000, 0, 0),
            "memory-mib-per-user",
            "user `ann` has 262000 of 262144 MiB of memory, 2048 asked; at most 144 more are possible",
        ),
        (
            used(1, 1, 1, 1, 1995, 0),
            "disk-gib-per-user",
            "user `ann` has 1995 of 2000 GiB of disk, 10 asked; at most 5 more are possible",
        ),
        (
            used(1, 1, 1, 1, 1, 503_950),
            "reserved-minutes-per-user",
            "user `ann` has 503950 of 504000 reserved minutes, 60 asked; at most 50 more are possible",
        ),
    ];
    let mut evaluator = quota(&[]);
    for (owner, code, text) in table {
        let mut input = quota_input(Verb::Launch);
        input.usage.owner = owner;
        let verdict = evaluator.quota(&input);
        assert_eq!((verdict.kind, verdict.code.as_str(), verdict.text.as_str()), (VerdictKind::Deny, code, text));
        assert!(evaluator.set().source_line(&verdict.rule).unwrap().contains("deny("), "{:?}", verdict.rule);
    }
    let mut input = quota_input(Verb::Launch);
    input.usage.owner.addresses = 99;
    input.request.addresses = 2;
    let verdict = evaluator.quota(&input);
    let text = "user `ann` has 99 of 100 addresses, 2 asked; at most 1 more are possible";
    assert_eq!((verdict.code.as_str(), verdict.text.as_str()), ("addresses-per-user", text));
    let mut input = quota_input(Verb::Launch);
    input.usage.owner = used(49, 24, 62, 260_096, 1990, 503_940);
    assert_eq!(evaluator.quota(&input).kind, VerdictKind::Permit, "the limit itself is allowed");
}

#[test]
fn groups_and_exceptions_count() {
    let mut evaluator = quota(&[
        ("-- students = { running = 20", "staff = { running = 20"),
        ("-- ann = { vcpus = 128 }", "ann = { vcpus = 128 }"),
    ]);
    let mut input = quota_input(Verb::Launch);
    input.usage.owner.resources.vcpus = 100;
    assert_eq!(evaluator.quota(&input).kind, VerdictKind::Permit);
    input.usage.group.resources.vcpus = 39;
    let verdict = evaluator.quota(&input);
    assert_eq!(verdict.code, "vcpus-per-group");
    assert_eq!(verdict.text, "group `staff` has 39 of 40 vCPUs, 2 asked; at most 1 more are possible");
}

#[test]
fn leases_get_a_default_and_a_maximum() {
    let mut evaluator = quota(&[]);
    for (verb, asked, expected) in [
        (Verb::Launch, 0, Some(("lease-default", 28_800))),
        (Verb::Launch, 3600, None),
        (Verb::Launch, 1_209_601, Some(("lease-maximum", 1_209_600))),
        (Verb::Renew, 9_999_999, Some(("lease-maximum", 1_209_600))),
        (Verb::Restore, 0, Some(("lease-default", 28_800))),
        (Verb::Start, 0, None),
    ] {
        let mut input = quota_input(verb);
        input.request.duration_seconds = asked;
        let verdict = evaluator.quota(&input);
        match expected {
            None => assert_eq!(verdict.kind, VerdictKind::Permit, "{verdict:?}"),
            Some((code, seconds)) => {
                assert_eq!((verdict.kind, verdict.code.as_str()), (VerdictKind::Restrict, code));
                assert_eq!(verdict.restriction, Restriction { duration_seconds: Some(seconds), ..Restriction::default() });
                assert!(verdict.text.contains(&seconds.to_string()), "{}", verdict.text);
            }
        }
    }
}

#[test]
fn a_resize_counts_what_grows() {
    let mut evaluator = quota(&[]);
    let mut input = quota_input(Verb::Resize);
    let owned = workspace(1000, Vec::new());
    let held = owned.resources;
    input.workspace = Some(owned);
    input.request.resources = Resources { memory_mib: held.memory_mib + 1024, ..held };
    input.usage.owner.resources = Resources { vcpus: 9999, memory_mib: 1, disk_gib: 9999 };
    assert_eq!(evaluator.quota(&input).code, "within-limits", "only the memory grows, and there is room for that");
    input.usage.owner.resources.memory_mib = 262_144;
    assert_eq!(evaluator.quota(&input).code, "memory-mib-per-user");
    input.request.resources.memory_mib = 1;
    assert_eq!(evaluator.quota(&input).code, "within-limits", "shrinking is never refused");
}

#[test]
fn a_start_counts_running_and_a_renewal_counts_minutes_only() {
    let mut evaluator = quota(&[]);
    let full = Usage {
        workspaces: 50,
        running: 24,
        resources: Resources { vcpus: 64, memory_mib: 262_144, disk_gib: 2000 },
        reserved_minutes: 503_940,
        addresses: 100,
    };
    for (verb, running, expected) in [
        (Verb::Start, 24, "within-limits"),
        (Verb::Start, 25, "running-per-user"),
        (Verb::Renew, 25, "within-limits"),
        (Verb::Launch, 0, "workspaces-per-user"),
    ] {
        let mut input = quota_input(verb);
        input.usage.owner = Usage { running, ..full };
        assert_eq!(evaluator.quota(&input).code, expected, "{} {running}", verb.name());
    }
    let mut input = quota_input(Verb::Renew);
    input.usage.owner = full;
    input.request.duration_seconds = 7200;
    assert_eq!(evaluator.quota(&input).code, "reserved-minutes-per-user");
    // A stopped workspace takes no running place.
    let mut input = quota_input(Verb::Launch);
    input.usage.owner.running = 25;
    input.request.target = "stopped".to_owned();
    assert_eq!(evaluator.quota(&input).kind, VerdictKind::Permit);
}

#[test]
fn an_address_that_is_named_is_for_administrators_or_networks_that_allow_it() {
    let mut evaluator = evaluator();
    let mut lan = Network {
        name: NetworkName::parse("lan").unwrap(),
        kind: NetworkKind::Bridge,
        source: "br0".to_owned(),
        pool: None,
        dhcp: false,
        anti_spoofing: true,
        labels: BTreeMap::new(),
        enabled: true,
        version: 1,
    };
    let mut judge = |network: &Network, admin: bool, address: Option<&str>| {
        let mut request = request(Verb::Launch);
        request.nics = vec![Nic {
            address: address.map(|address| address.parse().unwrap()),
            ..Nic::on(NicNetwork::Named(network.name.clone()))
        }];
        request.networks = vec![Arc::new(network.clone())];
        let caller = Caller { admin, ..caller(1000, "ann") };
        evaluator.access(&AccessInput { request, caller, workspace: None, now: Timestamp(0) })
    };
    assert_eq!(judge(&lan, false, None).code, "launch");
    let refused = judge(&lan, false, Some("10.0.0.9"));
    assert_eq!((refused.kind, refused.code.as_str()), (VerdictKind::Deny, "static-address"));
    assert!(refused.text.starts_with("address 10.0.0.9 on network `lan` was named"), "{}", refused.text);
    assert_eq!(judge(&lan, true, Some("10.0.0.9")).code, "administrator");
    lan.labels.insert("static-addresses".to_owned(), "yes".to_owned());
    assert_eq!(judge(&lan, false, Some("10.0.0.9")).code, "launch");
    lan.labels.insert("groups".to_owned(), "physics chemistry".to_owned());
    let refused = judge(&lan, false, None);
    assert_eq!(refused.text, "network `lan` is for the groups physics chemistry; user `ann` is in none of them");
    lan.labels.insert("groups".to_owned(), "physics staff".to_owned());
    assert_eq!(judge(&lan, false, None).code, "launch");
}

#[test]
fn placement_fills_hosts_and_spreads_an_owner_over_racks() {
    let mut evaluator = evaluator();
    let half = Resources { vcpus: 16, memory_mib: 32 * 1024, disk_gib: 100 };
    let candidates = vec![
        candidate(host("a", &[("rack", "r1")]), Resources::default(), 0),
        candidate(host("b", &[("rack", "r1")]), half, 4),
        candidate(host("c", &[("rack", "r2")]), Resources { vcpus: 12, ..half }, 3),
    ];
    let mut input = placement_input();
    let placed = evaluator.placement(&input, &candidates, false);
    assert_eq!(placed.host.unwrap().as_str(), "b", "best fit");
    assert_eq!(placed.verdict.rule.file, "placement.lua");
    input.placements = vec![reservation(1, 1000, "staff", "a")];
    assert_eq!(evaluator.placement(&input, &candidates, false).host.unwrap().as_str(), "c", "the owner has one in rack r1");
    input.placements = vec![reservation(1, 4, "staff", "a")];
    assert_eq!(evaluator.placement(&input, &candidates, false).host.unwrap().as_str(), "b", "somebody else's does not count");
}

#[test]
fn shipped_policies_keep_to_the_lua_5_1_subset() {
    for (file, text) in shipped().files {
        for word in ["continue", "+=", "-=", "//", "`{", "if not ... then", ": number", "export type"] {
            assert!(!text.lines().any(|line| line.split("--").next().unwrap().contains(word)), "{file} uses {word}");
        }
    }
}
