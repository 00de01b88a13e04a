//! Who may be displaced is the site's say: without `preempt` nobody is; hosts are ranked as they would be; and what is said of others'
//! workspaces is a number.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]
mod common;
use common::*;
use std::sync::Arc;
use vws_domain::*;
use vws_policy::{Limits, Placement, PolicySet};

fn victim(id: u128, owner: u32, exit: Exit) -> Victim {
    let mut one = workspace(owner, Vec::new()).as_ref().clone();
    one.id = WorkspaceId(id);
    one.spec.name = format!("v{id}");
    one.spec.preemptible = true;
    Victim { workspace: Arc::new(one), exit }
}

/// A host with so many vCPUs in use once these of Ann's have left it.
fn offer(name: &str, labels: &[(&str, &str)], used: u64, victims: &[u128]) -> Offer {
    Offer {
        candidate: candidate(host(name, labels), Resources { vcpus: used, memory_mib: used * 1024, disk_gib: 0 }, 1),
        victims: victims.iter().map(|id| victim(*id, 1000, Exit::Serialize)).collect(),
        leaving: Vec::new(),
    }
}

fn first() -> Verdict {
    Verdict {
        policy: "placement".to_owned(),
        kind: VerdictKind::Deny,
        code: "no-room-now".to_owned(),
        text: "none of 2 hosts takes it".to_owned(),
        rule: Rule { file: "native".to_owned(), line: 0 },
        restriction: Restriction::default(),
        micros: 0,
    }
}

fn displaced(text: &str, offers: Vec<Offer>) -> Placement {
    placement(text).displacement(&placement_input(), offers, first(), true)
}

fn chosen(placed: &Placement) -> &str {
    placed.host.as_ref().map_or("", HostName::as_str)
}

#[test]
fn without_a_say_nobody_is_displaced() {
    for (text, say) in [
        ("return {}", false),
        ("return { preempt = false }", false),
        ("return { preempt = true }", true),
        ("return { preempt = function() return false end }", true),
    ] {
        let mut full = hosts(&["a"]);
        full[0].free = Resources::default();
        let placed = placement(text).placement(&placement_input(), &full, false);
        assert_eq!((placed.verdict.code.as_str(), placed.preempts), ("no-room-now", say), "{text}");
        assert_eq!(placement(text).placement(&placement_input(), &hosts(&["a"]), false).preempts, say, "{text}");
    }
}

#[test]
fn hosts_are_ranked_as_they_would_be_and_ties_go_to_the_fewest_victims_then_to_the_name() {
    let offers =
        || vec![offer("a", &[], 8, &[1, 2]), offer("c", &[], 8, &[4]), offer("b", &[], 8, &[3]), offer("d", &[], 20, &[5, 6, 7])];
    assert_eq!(
        chosen(&displaced("return { preempt = true }", offers())),
        "b",
        "all are equal: the fewest victims, then the name"
    );
    let filling = "return { preempt = true, rank = function() return { { term = 'free_vcpus', weight = -1 } } end }";
    let placed = displaced(filling, offers());
    assert_eq!(chosen(&placed), "d");
    assert_eq!((placed.verdict.kind, placed.verdict.code.as_str()), (VerdictKind::Permit, "displaces"));
    let scored = "return { preempt = true, score = function(input, host) return host.name == 'a' and 1 or 0 end }";
    assert_eq!(chosen(&displaced(scored, offers())), "a");
    // The order in which the core names them does not matter.
    let mut turned = offers();
    turned.reverse();
    assert_eq!(chosen(&displaced("return { preempt = true }", turned)), "b");
}

#[test]
fn the_sites_conditions_and_filter_hold_for_what_would_be() {
    let text = "return {
  preempt = true,
  needs_labels = { pool = 'general' },
  filter = function(input, host) return host.free.vcpus >= 20 end,
}";
    let offers = vec![
        offer("a", &[("pool", "gpu")], 0, &[1]),
        offer("b", &[("pool", "general")], 16, &[2]),
        offer("c", &[("pool", "general")], 4, &[3, 4]),
    ];
    let placed = displaced(text, offers);
    assert_eq!(chosen(&placed), "c");
    let codes: Vec<_> = placed
        .hosts
        .iter()
        .map(|judged| match &judged.outcome {
            HostOutcome::Filtered { code, .. } => code.clone(),
            HostOutcome::Displaces { text, .. } => text.clone(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(codes, ["label", "site", "`v3` (serialize), `v4` (serialize)"]);
}

#[test]
fn the_function_sees_the_request_the_host_as_it_would_be_and_the_victims() {
    let text = r#"return { preempt = function(input, host, victims)
    if host.name == "a" then
        return deny("kept", string.format("%s %d %d %s %s %s", input.request.name, host.free.vcpus, #victims,
            victims[2].name, victims[1].owner_name, tostring(victims[1].preemptible)))
    end
    return permit()
end }"#;
    let placed = displaced(text, vec![offer("a", &[], 8, &[1, 2])]);
    assert_eq!((chosen(&placed), placed.verdict.kind, placed.verdict.code.as_str()), ("", VerdictKind::Deny, "no-room-now"));
    let said = "none of 2 hosts takes it; host `a` would have room without `v1` (serialize), `v2` (serialize): \
                web 24 2 v2 ann true (placement.lua:3)";
    assert_eq!(placed.verdict.text, said);
    assert_eq!(placed.verdict.rule, Rule { file: "placement.lua".to_owned(), line: 3 });
    let placed = displaced(text, vec![offer("a", &[], 8, &[1, 2]), offer("b", &[], 8, &[1, 2, 3])]);
    assert_eq!((chosen(&placed), placed.verdict.rule.line), ("b", 1), "the next best host");
    // Where nobody new has to leave there is nothing to ask.
    let placed = displaced(text, vec![Offer { leaving: vec![(WorkspaceId(5), JobId(6))], ..offer("a", &[], 8, &[]) }]);
    assert_eq!(chosen(&placed), "a");
    assert!(placed.verdict.text.contains("displaces nobody more; 1 leave already"), "{}", placed.verdict.text);
}

#[test]
fn what_is_no_answer_is_a_failure_that_names_the_line() {
    for (body, said) in [
        ("return 1", "preempt gave a number"),
        ("return", "preempt gave nothing"),
        ("return restrict{ vcpus = 1 }", "preempt gave restrict{}, which has no meaning for a host"),
        ("return false, 1, 'x'", "preempt gave false, a number, a string"),
        ("return victims[1].nmae == 'x'", "unknown field `nmae` of workspace; did you mean `name`?"),
        ("while true do end", "still running after 50 ms"),
    ] {
        let text = format!("return {{ preempt = function(input, host, victims) {body} end }}");
        let placed = displaced(&text, vec![offer("a", &[], 8, &[1])]);
        assert_eq!((placed.verdict.kind, placed.host), (VerdictKind::Error, None), "{body}");
        assert!(placed.verdict.text.contains(said), "{body}: {}", placed.verdict.text);
        assert_eq!(placed.verdict.rule.file, "placement.lua");
    }
    let problems = PolicySet::load(sources(PERMIT, PERMIT, "return { preempt = 'yes' }"), Limits::default()).unwrap_err();
    assert!(problems[0].to_string().contains("`preempt` is a string, true, false or a function is needed"), "{}", problems[0]);
}

#[test]
fn others_workspaces_are_named_to_administrators_alone() {
    let mixed = || Offer {
        victims: vec![victim(1, 1000, Exit::Serialize), victim(2, 5, Exit::Destroy), victim(3, 6, Exit::Serialize)],
        ..offer("a", &[], 8, &[])
    };
    let said = |input: &PlacementInput| {
        let placed = placement("return { preempt = true }").displacement(input, vec![mixed()], first(), false);
        match &placed.hosts[0].outcome {
            HostOutcome::Displaces { text, .. } => (text.clone(), placed.verdict.text),
            other => panic!("{other:?}"),
        }
    };
    let mut input = placement_input();
    let (judged, verdict) = said(&input);
    assert_eq!(judged, "`v1` (serialize), 2 of others");
    assert!(!verdict.contains("v2") && !verdict.contains("v3"), "{verdict}");
    input.caller.admin = true;
    assert_eq!(said(&input).0, "`v1` (serialize), `v2` (destroy), `v3` (serialize)");
}

#[test]
fn requests_workspaces_and_placements_say_their_class_and_restrict_can_lower_to_it() {
    let body = "return permit('all', tostring(input.request.preemptible) .. tostring(input.workspace.preemptible))";
    let mut input = access_input(Verb::View);
    input.request.preemptible = true;
    input.workspace = Some(workspace(5, Vec::new()));
    assert_eq!(deciding(body).access(&input).text, "truefalse");
    let near = "return { filter = function(input) return input.placements[1].preemptible == false end }";
    let mut asked = placement_input();
    asked.placements = vec![reservation(1, 1000, "staff", "a")];
    assert_eq!(placement(near).placement(&asked, &hosts(&["a"]), false).verdict.kind, VerdictKind::Permit);
    let verdict = deciding("return restrict{ preemptible = true }").access(&input);
    assert_eq!((verdict.kind, verdict.restriction.preemptible), (VerdictKind::Restrict, true));
    assert_eq!(verdict.text, "only as a pre-emptible workspace");
    let wrong = deciding("return restrict{ preemptible = false }").access(&input);
    assert!(wrong.kind == VerdictKind::Error && wrong.text.contains("can only be true"), "{}", wrong.text);
}
