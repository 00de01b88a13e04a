//! Placement: filters, ranking, batches, ties, refusals; and that what is kept between decisions never changes an answer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]
mod common;
use common::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use vws_domain::*;
use vws_policy::{Evaluator, Limits, Placement};

fn chosen(placed: &Placement) -> &str {
    placed.host.as_ref().map_or("", HostName::as_str)
}

fn outcome<'a>(placed: &'a Placement, host: &str) -> &'a HostOutcome {
    &placed.hosts.iter().find(|judged| judged.host.as_str() == host).unwrap().outcome
}

fn filtered(placed: &Placement, host: &str) -> (String, String, Rule) {
    match outcome(placed, host) {
        HostOutcome::Filtered { rule, code, text } => (code.clone(), text.clone(), rule.clone()),
        other => panic!("{host}: {other:?}"),
    }
}

#[test]
fn ties_go_to_the_first_name_whatever_the_order_of_candidates() {
    for text in [ANY_HOST, "return { score = function() return 1 end }", "return { filter = function() return true end }"] {
        let mut evaluator = placement(text);
        for names in [["b", "a", "c"], ["a", "b", "c"], ["c", "b", "a"]] {
            let placed = evaluator.placement(&placement_input(), &hosts(&names), false);
            assert_eq!(chosen(&placed), "a", "{text} {names:?}");
        }
    }
    // 0 and -0 are one score.
    let mut evaluator = placement("return { score = function(input, host) return host.name == 'a' and -0.0 or 0 end }");
    assert_eq!(chosen(&evaluator.placement(&placement_input(), &hosts(&["b", "a"]), false)), "a");
}

#[test]
fn the_site_filters_with_its_reasons_and_scores_the_rest() {
    let text = "return {
  filter = function(input, host)
    if host.labels.pool == 'gpu' then
      return deny('gpu-only', 'host ' .. host.name .. ' is for gpus')
    end
    if host.name == 'd' then return false, 'maintenance', 'until noon' end
    return host.name ~= 'e'
  end,
  score = function(input, host) return host.free.vcpus end,
}";
    let candidates = vec![
        candidate(host("a", &[("pool", "gpu")]), Resources::default(), 0),
        candidate(host("b", &[]), Resources { vcpus: 4, ..Resources::default() }, 1),
        candidate(host("c", &[]), Resources { vcpus: 2, ..Resources::default() }, 1),
        candidate(host("d", &[]), Resources::default(), 0),
        candidate(host("e", &[]), Resources::default(), 0),
    ];
    let placed = placement(text).placement(&placement_input(), &candidates, true);
    assert_eq!(chosen(&placed), "c");
    assert_eq!(placed.verdict.text, "host `c`: the best of 5 that can take it, of 5; score 30.0000");
    assert_eq!(placed.verdict.rule, Rule { file: "placement.lua".to_owned(), line: 9 });
    assert_eq!(outcome(&placed, "b"), &HostOutcome::Scored(28.0));
    let at = |line| Rule { file: "placement.lua".to_owned(), line };
    assert_eq!(filtered(&placed, "a"), ("gpu-only".to_owned(), "host a is for gpus".to_owned(), at(4)));
    assert_eq!(filtered(&placed, "d"), ("maintenance".to_owned(), "until noon".to_owned(), at(2)));
    assert_eq!(filtered(&placed, "e").0, "site");
    // A record keeps the best few, best first.
    let placed = placement(text).placement(&placement_input(), &candidates, false);
    let names: Vec<&str> = placed.hosts.iter().map(|judged| judged.host.as_str()).collect();
    assert_eq!(names, ["c", "b", "a", "d", "e"]);
}

#[test]
fn batches_go_on_until_the_filter_takes_one() {
    let text = "return { consider = 3, filter = function(input, host) return host.name == 'h17' end }";
    let names: Vec<String> = (0..20).map(|n| format!("h{n:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let placed = placement(text).placement(&placement_input(), &hosts(&names), true);
    assert_eq!(chosen(&placed), "h17");
    assert_eq!(filtered(&placed, "h16").0, "site");
    assert_eq!(outcome(&placed, "h18"), &HostOutcome::NotConsidered);
    assert_eq!(outcome(&placed, "h17"), &HostOutcome::Scored(0.0));
    let none = "return { consider = 3, filter = function(input, host) return false end }";
    let placed = placement(none).placement(&placement_input(), &hosts(&names), false);
    assert_eq!((placed.verdict.kind, placed.verdict.code.as_str()), (VerdictKind::Deny, "no-eligible-host"));
    assert_eq!(placed.verdict.text, "none of 20 hosts takes it: 20 site; host `h00`: refused by the site's filter");
    assert_eq!(placed.verdict.rule, Rule { file: "placement.lua".to_owned(), line: 1 });
}

#[test]
fn functions_see_the_best_by_rank_or_every_host() {
    let names: Vec<String> = (0..10).map(|n| format!("h{n}")).collect();
    let candidates: Vec<Candidate> = names
        .iter()
        .enumerate()
        .map(|(n, name)| candidate(host(name, &[("order", &n.to_string())]), Resources::default(), 0))
        .collect();
    let rank = "rank = function() return { { term = 'label_number', label = 'order', weight = 1 } } end, \
        score = function(input, host) return -tonumber(host.labels.order) end";
    for (consider, expected) in [("consider = 4,", "h6"), ("consider = 0,", "h0"), ("", "h0")] {
        let placed = placement(&format!("return {{ {consider} {rank} }}")).placement(&placement_input(), &candidates, false);
        assert_eq!(chosen(&placed), expected, "{consider}");
    }
}

#[test]
fn each_term_measures_what_the_manual_says() {
    let half = Resources { vcpus: 16, memory_mib: 32 * 1024, disk_gib: 490 };
    let candidates = vec![
        candidate(host("a", &[("rack", "r1"), ("price", "2.5")]), half, 3),
        candidate(host("b", &[("rack", "r1")]), Resources::default(), 0),
        candidate(host("c", &[("price", "cheap")]), Resources::default(), 0),
    ];
    let mut input = placement_input();
    input.request.labels.insert("app".to_owned(), "shop".to_owned());
    let mut shop = (*reservation(4, 77, "staff", "c")).clone();
    shop.labels.insert("app".to_owned(), "shop".to_owned());
    input.placements = vec![
        reservation(1, 1000, "staff", "a"),
        reservation(2, 1000, "other", "a"),
        reservation(3, 1000, "staff", "c"),
        Arc::new(shop),
        reservation(5, 1000, "staff", "gone"),
    ];
    for (term, expected) in [
        ("term = 'free_memory_ratio'", [30.0 / 64.0, 62.0 / 64.0, 62.0 / 64.0]),
        ("term = 'free_vcpus_ratio'", [14.0 / 32.0, 30.0 / 32.0, 30.0 / 32.0]),
        ("term = 'free_disk_ratio'", [0.5, 0.99, 0.99]),
        ("term = 'free_memory_mib'", [30.0 * 1024.0, 62.0 * 1024.0, 62.0 * 1024.0]),
        ("term = 'free_vcpus'", [14.0, 30.0, 30.0]),
        ("term = 'free_disk_gib'", [500.0, 990.0, 990.0]),
        ("term = 'workspaces'", [3.0, 0.0, 0.0]),
        ("term = 'label', label = 'rack'", [1.0, 1.0, 0.0]),
        ("term = 'label', label = 'rack', value = 'r1'", [1.0, 1.0, 0.0]),
        ("term = 'label', label = 'rack', value = 'r9'", [0.0, 0.0, 0.0]),
        ("term = 'label_number', label = 'price', missing = 9", [2.5, 9.0, 9.0]),
        ("term = 'placements', by = 'owner'", [2.0, 0.0, 1.0]),
        ("term = 'placements', by = 'owner', label = 'rack'", [2.0, 2.0, 1.0]),
        ("term = 'placements', by = 'group'", [1.0, 0.0, 2.0]),
        ("term = 'placements', by = 'label', match = 'app'", [0.0, 0.0, 1.0]),
        ("term = 'placements', by = 'label', match = 'tier'", [0.0, 0.0, 0.0]),
    ] {
        let text = format!("return {{ rank = function() return {{ {{ {term}, weight = 2 }} }} end }}");
        let placed = placement(&text).placement(&input, &candidates, true);
        for (name, value) in ["a", "b", "c"].into_iter().zip(expected) {
            match outcome(&placed, name) {
                HostOutcome::Scored(score) => assert!((score - 2.0 * value).abs() < 1e-9, "{term} {name}: {score}"),
                other => panic!("{term} {name}: {other:?}"),
            }
        }
    }
}

#[test]
fn the_owner_of_a_restored_workspace_is_its_owner() {
    let text = "return { rank = function() return { { term = 'placements', by = 'owner', weight = -1 } } end }";
    let mut input = placement_input();
    input.caller = caller(0, "root");
    input.workspace = Some(workspace(1000, Vec::new()));
    input.placements = vec![reservation(1, 1000, "staff", "a")];
    assert_eq!(chosen(&placement(text).placement(&input, &hosts(&["a", "b"]), false)), "b");
}

#[test]
fn label_conditions_are_native() {
    let candidates = vec![
        candidate(host("a", &[("pool", "gpu"), ("old", "1")]), Resources::default(), 0),
        candidate(host("b", &[("pool", "gpu")]), Resources::default(), 0),
        candidate(host("c", &[("pool", "general")]), Resources::default(), 0),
        candidate(host("d", &[]), Resources::default(), 0),
    ];
    for (needs, expected) in [
        ("{ pool = 'general' }", "c"),
        ("{ pool = { 'x', 'general' } }", "c"),
        ("{ pool = false }", "d"),
        ("{ pool = true, old = false }", "b"),
        ("function(input) return { pool = input.request.labels.pool } end", "c"),
        ("function(input) return nil end", "a"),
        ("{}", "a"),
    ] {
        let mut input = placement_input();
        input.request.labels.insert("pool".to_owned(), "general".to_owned());
        let placed = placement(&format!("return {{ needs_labels = {needs} }}")).placement(&input, &candidates, false);
        assert_eq!(chosen(&placed), expected, "{needs}: {:?}", placed.verdict);
    }
    let text = "return {\n  needs_labels = function() return { pool = 'big' } end }";
    let placed = placement(text).placement(&placement_input(), &candidates, true);
    assert_eq!(placed.verdict.code, "no-eligible-host");
    assert_eq!(placed.verdict.text, "none of 4 hosts takes it: 4 label; host `a`: label `pool` is `gpu`, `big` is needed");
    assert_eq!(placed.verdict.rule, Rule { file: "placement.lua".to_owned(), line: 2 });
    assert_eq!(filtered(&placed, "d").1, "label `pool` is missing, `big` is needed");
}

#[test]
fn refusals_say_what_would_help() {
    let mut evaluator = placement(ANY_HOST);
    let placed = evaluator.placement(&placement_input(), &[], false);
    assert_eq!((placed.verdict.kind, placed.verdict.code.as_str()), (VerdictKind::Deny, "no-host"));

    let mut input = placement_input();
    input.request.resources.memory_mib = 1 << 26;
    let candidates = hosts(&["a", "b"]);
    let placed = evaluator.placement(&input, &candidates, false);
    assert_eq!(placed.verdict.code, "too-large-for-every-host");
    assert_eq!(
        placed.verdict.text,
        "too large for every host (2 of 2); the nearest, `a`, gives out 65536 memory_mib at most, 67108864 asked"
    );
    assert_eq!(placed.verdict.rule, Rule { file: "native".to_owned(), line: 0 });

    // A host that is down and too small all the same does not make it look as if waiting would help; an unknown one does.
    let mut down = host("c", &[]);
    down.connection = Connection::Down("gone".to_owned());
    let mut with_down = candidates.clone();
    with_down.push(candidate(down, Resources::default(), 0));
    assert_eq!(evaluator.placement(&input, &with_down, false).verdict.code, "too-large-for-every-host");
    let mut unprobed = host("d", &[]);
    unprobed.connection = Connection::Unprobed;
    with_down.push(candidate(unprobed, Resources::default(), 0));
    assert_eq!(evaluator.placement(&input, &with_down, false).verdict.code, "no-eligible-host");

    let full = Resources { vcpus: 31, memory_mib: 1024, disk_gib: 0 };
    let candidates = vec![
        candidate(host("a", &[]), Resources { vcpus: 32, ..full }, 9),
        candidate(host("b", &[]), full, 9),
        candidate(Host { enabled: false, ..host("c", &[]) }, Resources::default(), 0),
    ];
    let placed = evaluator.placement(&placement_input(), &candidates, false);
    assert_eq!(placed.verdict.code, "no-room-now");
    assert_eq!(placed.verdict.text, "none of 3 hosts takes it: 2 no-room, 1 disabled; host `b`: 1 of 32 vcpus free, 2 asked");
    assert_eq!(placed.hosts[0].host.as_str(), "b");

    let placed = evaluator.placement(&placement_input(), &candidates[2..], false);
    assert_eq!(placed.verdict.code, "no-eligible-host");
    assert_eq!(placed.verdict.text, "none of 1 host takes it: 1 disabled; host `c`: takes no new workspaces");
}

#[test]
fn nonsense_of_the_policy_is_a_refusal_with_its_line() {
    for (text, part) in [
        ("return { score = function() return 0/0 end }", "score gave nan for host `a`, a finite number is needed"),
        ("return { score = function() return 1/0 end }", "score gave inf for host `a`"),
        ("return { score = function() return '5' end }", "score gave a string"),
        ("return { score = function() end }", "score gave nothing"),
        ("return { filter = function() end }", "filter gave nothing"),
        ("return { filter = function() return 1 end }", "filter gave a number"),
        ("return { filter = function() return restrict{ vcpus = 1 } end }", "filter gave restrict{}"),
        ("return { filter = function() return false, 5 end }", "filter gave false, a number"),
        ("return { filter = function() return false, 'a b', 'x' end }", "the code `a b` is not"),
        (
            "return { filter = function(input, host) return host.free.memory > 1 end }",
            "unknown field `memory` of amounts of a host",
        ),
        ("return { filter = function(input, host) return host.cpus end }", "unknown field `cpus` of host"),
        (
            "return { filter = function(input, host) return input.plcements end }",
            "unknown field `plcements` of the input of placement.lua; did you mean `placements`?",
        ),
        ("return { rank = function() end }", "rank gave nothing"),
        ("return { rank = function() return { term = 'workspaces', weight = 1 } end }", "is not a list of terms"),
        ("return { rank = function() return { 5 } end }", "term 1 of rank is a"),
        (
            "return { rank = function() return { { term = 'workspace', weight = 1 } } end }",
            "unknown term `workspace`; did you mean `workspaces`?",
        ),
        ("return { rank = function() return { { term = 'workspaces' } } end }", "has no `weight`"),
        ("return { rank = function() return { { weight = 1 } } end }", "has no `term`"),
        ("return { rank = function() return { { term = 'workspaces', weight = 0/0 } } end }", "`weight` is NaN"),
        ("return { rank = function() return { { term = 'workspaces', weight = 1, wieght = 2 } } end }", "unknown field `wieght`"),
        (
            "return { rank = function() return { { term = 'workspaces', weight = 1, label = 'x' } } end }",
            "`workspaces` has no use for `label`",
        ),
        ("return { rank = function() return { { term = 'label', weight = 1 } } end }", "`label` needs a `label`"),
        ("return { rank = function() return { { term = 'placements', weight = 1 } } end }", "`placements` needs `by`"),
        ("return { rank = function() return { { term = 'free_memory_mib', weight = 1e308 } } end }", "a finite number is needed"),
        (
            "return { rank = function() local t = {} for i = 1, 33 do t[i] = { term = 'workspaces', weight = 1 } end return t end }",
            "33 terms, 32 are allowed",
        ),
        ("return { needs_labels = function() return 5 end }", "needs_labels gave a number"),
        ("return { needs_labels = function() return { 5 } end }", "needs_labels is not a table of label = value"),
        ("return { needs_labels = function() return { a = 5 } end }", "needs_labels: `a` is a"),
    ] {
        let placed = placement(text).placement(&placement_input(), &hosts(&["a", "b"]), false);
        assert_eq!((placed.verdict.kind, &placed.host), (VerdictKind::Error, &None), "{text}: {:?}", placed.verdict);
        assert!(placed.verdict.text.contains(part), "{text}: {}", placed.verdict.text);
        assert!(placed.verdict.text.starts_with("placement.lua:1: "), "{text}: {}", placed.verdict.text);
        assert_eq!(placed.verdict.rule.line, 1);
    }
}

#[test]
fn functions_see_the_whole_host_and_the_placements_of_owner_and_group() {
    let text = r#"return { score = function(input, host)
        local p = input.placements
        error(table.concat({ host.name, host.backend, host.labels.rack, host.free.vcpus, host.capacity.memory_mib, host.workspaces,
            host.workspaces_of_owner, host.workspaces_of_group, host.accelerator, host.arch, host.hypervisor,
            tostring(host.capabilities["disk-limits"]), tostring(host.capabilities.uefi),
            #p, input.placements_total, p[1].name, p[1].owner, p[1].group, p[1].host, tostring(p[1].running), p[1].vcpus, tostring(p == input.placements) }, " "), 0)
    end }"#;
    let candidates = vec![candidate(host("a", &[("rack", "r1")]), Resources { vcpus: 2, ..Resources::default() }, 5)];
    let mut input = placement_input();
    input.placements =
        vec![reservation(1, 1000, "x", "a"), reservation(2, 1000, "staff", "a"), reservation(3, 1000, "staff", "b")];
    let limits = Limits { placements: 2, ..Limits::default() };
    let placed = evaluator_with(sources(PERMIT, PERMIT, text), limits).placement(&input, &candidates, false);
    assert_eq!(
        placed.verdict.text,
        "placement.lua: a sim r1 30 65536 5 2 1 kvm x86_64 sim 1 true nil 2 3 w1 1000 x a true 1 true (generation 7)"
    );
}

/// What a site may look like, small enough that ties and refusals are common.
fn any_host() -> impl Strategy<Value = (Host, Resources, u64)> {
    let connection = prop_oneof![
        6 => Just(Connection::Up),
        1 => Just(Connection::Unprobed),
        1 => Just(Connection::Down("x".to_owned())),
    ];
    let amounts =
        (0_u64..6, 0_u64..6, 0_u64..6).prop_map(|(vcpus, memory_mib, disk_gib)| Resources { vcpus, memory_mib, disk_gib });
    (
        prop_oneof![9 => Just(true), 1 => Just(false)],
        connection,
        amounts.clone(),
        amounts.clone(),
        amounts,
        prop_oneof![Just("sim"), Just("kvm")],
        proptest::option::of(0_u8..3),
        proptest::bool::ANY,
        0_u64..4,
    )
        .prop_map(|(enabled, connection, total, foreign, free, backend, rack, limits, workspaces)| {
            let mut record = host("x", &[]);
            record.enabled = enabled;
            record.connection = connection;
            record.facts.total = total;
            record.foreign.resources = foreign;
            record.backend = backend.to_owned();
            if let Some(rack) = rack {
                record.labels.insert("rack".to_owned(), rack.to_string());
            }
            if !limits {
                record.facts.capabilities = BTreeMap::new();
            }
            (record, free, workspaces)
        })
}

#[derive(Clone, Debug)]
enum Step {
    /// Replaces the host at this place.
    Host(usize, (Host, Resources, u64)),
    /// Changes the free amounts at this place.
    Free(usize, Resources, u64),
    Remove(usize),
    Add((Host, Resources, u64)),
    Reverse,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0_usize..8, any_host()).prop_map(|(at, host)| Step::Host(at, host)),
        4 => (0_usize..8, (0_u64..6, 0_u64..6, 0_u64..6), 0_u64..4)
            .prop_map(|(at, (vcpus, memory_mib, disk_gib), workspaces)| Step::Free(at, Resources { vcpus, memory_mib, disk_gib }, workspaces)),
        1 => (0_usize..8).prop_map(Step::Remove),
        1 => any_host().prop_map(Step::Add),
        1 => Just(Step::Reverse),
    ]
}

fn named((mut record, free, workspaces): (Host, Resources, u64), name: &str) -> Candidate {
    record.name = HostName::parse(name).unwrap();
    Candidate { host: Arc::new(record), free, workspaces }
}

fn apply(candidates: &mut Vec<Candidate>, step: Step, fresh: &mut u32) {
    match step {
        Step::Host(at, host) => {
            if let Some(slot) = candidates.get_mut(at) {
                let name = slot.host.name.as_str().to_owned();
                *slot = named(host, &name);
            }
        }
        Step::Free(at, free, workspaces) => {
            if let Some(slot) = candidates.get_mut(at) {
                slot.free = free;
                slot.workspaces = workspaces;
            }
        }
        Step::Remove(at) if at < candidates.len() => {
            candidates.remove(at);
        }
        Step::Remove(_) => {}
        Step::Add(host) => {
            *fresh += 1;
            candidates.push(named(host, &format!("n{fresh}")));
        }
        Step::Reverse => candidates.reverse(),
    }
}

const POLICIES: [&str; 5] = [
    "return { rank = function() return { { term = 'free_memory_ratio', weight = -1 }, { term = 'placements', by = 'owner', label = 'rack', weight = -0.5 }, { term = 'workspaces', weight = 0.25 } } end }",
    "return { needs_labels = { rack = { '0', '1' } }, consider = 2, rank = function() return { { term = 'label', label = 'rack', value = '1', weight = 1 } } end, \
       filter = function(input, host) return host.free.vcpus % 2 == 0 end }",
    "return { consider = 3, score = function(input, host) return host.free.memory_mib - host.workspaces_of_owner end }",
    "return { rank = function() return { { term = 'label_number', label = 'rack', weight = 1, missing = -1 } } end }",
    // Every host is as good as another: the name decides, and scores of 0 and -0 are one.
    "return { rank = function() return { { term = 'workspaces', weight = -0.0 } } end }",
];

/// An answer without the time it took.
fn answer(evaluator: &mut Evaluator, input: &PlacementInput, candidates: &[Candidate], explain: bool) -> Placement {
    let mut placed = evaluator.placement(input, candidates, explain);
    placed.verdict.micros = 0;
    placed
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn what_is_kept_never_changes_an_answer(
        // Few, and more than are read together.
        start in prop_oneof![4 => proptest::collection::vec(any_host(), 0..8), 1 => proptest::collection::vec(any_host(), 120..140)],
        steps in proptest::collection::vec((any_step(), 0_u64..4, 0_usize..9, proptest::bool::ANY), 1..12),
        policy in 0_usize..POLICIES.len(),
    ) {
        let text = POLICIES[policy];
        let mut kept = placement(text);
        let mut fresh_names = 0;
        let mut candidates: Vec<Candidate> =
            start.into_iter().enumerate().map(|(n, host)| named(host, &format!("h{n}"))).collect();
        for (step, asked, shape, explain) in steps {
            apply(&mut candidates, step, &mut fresh_names);
            let mut input = placement_input();
            input.request.resources = Resources { vcpus: asked, memory_mib: asked / 2, disk_gib: 0 };
            match shape {
                1 => input.request.needs = vec!["disk-limits".to_owned()],
                2 => input.request.backend = Some("kvm".to_owned()),
                3 => input.request.host = Some(HostName::parse("h1").unwrap()),
                4 => input.placements = vec![reservation(1, 1000, "staff", "h0"), reservation(2, 1000, "x", "h2"), reservation(3, 7, "staff", "n1")],
                5 => input.request.leaves = Some(HostName::parse("h0").unwrap()),
                6 => input.request.avoid = ["h1", "n1"].into_iter().map(|name| HostName::parse(name).unwrap()).collect(),
                7 => {
                    input.request.needs = vec!["disk-limits".to_owned(), "uefi".to_owned()];
                    input.request.leaves = Some(HostName::parse("h2").unwrap());
                }
                // Workspaces on hosts that are gone or were never there.
                8 => input.placements = vec![reservation(1, 1000, "staff", "h3"), reservation(2, 1000, "staff", "gone")],
                _ => {}
            }
            let first = answer(&mut kept, &input, &candidates, explain);
            let again = answer(&mut kept, &input, &candidates, explain);
            let other = answer(&mut placement(text), &input, &candidates, explain);
            prop_assert_eq!(&first, &again);
            prop_assert_eq!(&first, &other);
            // A reload: the new set's evaluator knows what the old one knew.
            let mut next = placement(text);
            next.take_over(&mut kept);
            prop_assert_eq!(&first, &answer(&mut next, &input, &candidates, explain));
            let mut prepared = placement(text);
            prepared.prepare(&candidates);
            prop_assert_eq!(&first, &answer(&mut prepared, &input, &candidates, explain));
            kept = next;
            // The native filter over columns is the core's filter.
            let passing: Vec<&Candidate> = candidates.iter().filter(|candidate| capacity_filter(&input.request, candidate).is_none()).collect();
            if let Some(host) = &first.host {
                prop_assert!(passing.iter().any(|candidate| candidate.host.name == *host));
            } else if policy != 1 {
                prop_assert!(passing.is_empty(), "{:?}", first.verdict);
            }
            if explain {
                prop_assert_eq!(first.hosts.len(), candidates.len());
                for judged in &first.hosts {
                    let candidate = candidates.iter().find(|candidate| candidate.host.name == judged.host).unwrap();
                    let native = capacity_filter(&input.request, candidate);
                    let said = match &judged.outcome {
                        outcome @ HostOutcome::Filtered { rule, .. } if rule.file == "native" => Some(outcome.clone()),
                        _ => None,
                    };
                    prop_assert_eq!(native, said);
                }
            }
        }
    }
}
