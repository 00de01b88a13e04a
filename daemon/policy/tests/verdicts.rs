//! What scripts see and what they may answer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]
mod common;
use common::*;
use vws_domain::*;
use vws_policy::{Limits, unavailable};

#[test]
fn permit_deny_and_restrict_carry_their_line() {
    let verdict = deciding("\nreturn permit()").access(&access_input(Verb::Launch));
    assert_eq!((verdict.kind, verdict.code.as_str(), verdict.text.as_str()), (VerdictKind::Permit, "permitted", ""));
    assert_eq!(verdict.rule, Rule { file: "access.lua".to_owned(), line: 3 });
    let verdict = deciding("local function no(text)\n  return deny('no', text)\nend\nreturn no('because')")
        .access(&access_input(Verb::Launch));
    assert_eq!((verdict.kind, verdict.code.as_str(), verdict.text.as_str()), (VerdictKind::Deny, "no", "because"));
    assert_eq!(verdict.rule.line, 3);
    let verdict =
        deciding("return restrict{ duration_seconds = 60, memory_mib = 512, vcpus = 1 }").access(&access_input(Verb::Launch));
    assert_eq!(verdict.kind, VerdictKind::Restrict);
    assert_eq!(
        verdict.restriction,
        Restriction { duration_seconds: Some(60), memory_mib: Some(512), vcpus: Some(1), preemptible: false }
    );
    assert_eq!(
        (verdict.code.as_str(), verdict.text.as_str()),
        ("restricted", "at most a lease of 60 s, 512 MiB of memory, 1 vCPUs")
    );
}

#[test]
fn a_verdict_from_a_module_names_the_module() {
    let mut set = sources("local m = require('lib/m') return { decide = function(input) return m.no() end }", PERMIT, ANY_HOST);
    set.files.insert("lib/m.lua".to_owned(), "return {\n no = function()\n  return deny('no', 'module') end }".to_owned());
    let mut evaluator = evaluator_with(set, Limits::default());
    let verdict = evaluator.access(&access_input(Verb::Launch));
    assert_eq!(verdict.rule, Rule { file: "lib/m.lua".to_owned(), line: 3 });
    assert_eq!(evaluator.set().source_line(&verdict.rule), Some("  return deny('no', 'module') end }"));
}

#[test]
fn wrong_answers_are_refusals_that_say_what_came() {
    for (body, part) in [
        ("", "access.lua:1: decide gave nothing; give back what permit(), deny() or restrict{} made"),
        ("return true", "decide gave a boolean"),
        ("return 'permit'", "decide gave a string"),
        ("return { kind = 0, code = 'x', text = '' }", "decide gave a table"),
        ("return permit", "decide gave a function"),
        ("return deny()", "access.lua:2: deny(code, text): the code is a nil, a string is needed"),
        ("return deny('x')", "the text is a nil"),
        ("return deny('two words', 'x')", "access.lua:2: the code `two words` is not 1 to 64 characters"),
        ("return deny('', 'x')", "the code `` is not"),
        ("return permit(1)", "the code is a number"),
        ("return permit('x', {})", "the text is a table"),
        ("return restrict{}", "access.lua:2: restrict{...}: names nothing to lower"),
        ("return restrict()", "got a nil, a table is needed"),
        ("return restrict{ memory = 1 }", "unknown field `memory`"),
        ("return restrict{ memroy_mib = 1 }", "unknown field `memroy_mib`; did you mean `memory_mib`?"),
        ("return restrict{ vcpus = 0 }", "`vcpus` is 0, a whole number from 1 is needed"),
        ("return restrict{ vcpus = 1.5 }", "`vcpus` is 1.5"),
        ("return restrict{ vcpus = 0/0 }", "`vcpus` is nan"),
        ("return restrict{ vcpus = 1e300 }", "`vcpus` is 1e+300"),
        ("return restrict{ vcpus = '2' }", "`vcpus` is a string"),
        ("return restrict(setmetatable({ vcpus = 1 }, { __index = function() return -5 end }))", "restrict"),
        ("local x = nil\nreturn x.cpus", "access.lua:3: attempt to index nil with 'cpus'"),
        ("return permitt()", "unknown global `permitt`; did you mean `permit`?"),
        (
            "return deny('x', input.request.memroy_mib)",
            "access.lua:2: unknown field `memroy_mib` of request; did you mean `memory_mib`?",
        ),
        ("return deny('x', input.usage)", "unknown field `usage` of the input of access.lua"),
        ("return deny('x', input.caller.name)", "unknown field `name` of caller"),
        ("return contains(nil, 1)", "contains(list, value): the list is a nil"),
    ] {
        let verdict = deciding(body).access(&access_input(Verb::Launch));
        assert_eq!(verdict.kind, VerdictKind::Error, "{body}: {verdict:?}");
        assert!(verdict.text.contains(part), "{body}: {}", verdict.text);
        assert!(verdict.text.ends_with("(generation 7)"), "{}", verdict.text);
    }
}

#[test]
fn text_is_bounded() {
    let verdict = deciding("return deny('x', string.rep('ä', 10000))").access(&access_input(Verb::Launch));
    assert_eq!(verdict.text.chars().count(), 501);
    assert!(verdict.text.ends_with('…'));
}

#[test]
fn every_documented_field_is_there() {
    let mut input = access_input(Verb::Restore);
    input.request.images = vec![image("debian", 5, Visibility::Public)];
    input.request.labels = [("tier".to_owned(), "gold".to_owned())].into();
    input.request.host = Some(HostName::parse("h1").unwrap());
    input.request.needs = vec!["disk-limits".to_owned()];
    input.request.access = vec![Grant { subject: Subject::Group(50), right: Right::Use }];
    input.request.nics = vec![Nic {
        network: NicNetwork::Bridge("br0".to_owned()),
        address: None,
        mac: "52:54:00:00:00:01".to_owned(),
        limits: NicLimits { inbound_kib_per_second: 1, outbound_kib_per_second: 2 },
    }];
    input.request.addresses = 3;
    let mut record = (*workspace(1000, vec![Grant { subject: Subject::User(7), right: Right::View }])).clone();
    record.lease.until = Some(Timestamp(2_000_000));
    record.spec.labels = [("a".to_owned(), "b".to_owned())].into();
    input.workspace = Some(std::sync::Arc::new(record));
    let body = r##"
local r, c, w = input.request, input.caller, input.workspace
local function all(...) local out = {} for i = 1, select("#", ...) do out[i] = tostring((select(i, ...))) end return table.concat(out, " ") end
local one = all(r.verb, r.name, r.memory_mib, r.vcpus, r.disk_gib, r.duration_seconds, r.end_action, r.operating_system, r.group, r.target,
    r.host, r.backend, #r.needs, r.needs[1], r.labels.tier, r.labels.none, #r.access, r.access[1].kind, r.access[1].id, r.access[1].right)
local i, n = r.images[1], r.nics[1]
local two = all(#i.id, i.name, #i.digest, i.owner, i.visibility, i.format, i.size_mib, i.size_bytes,
    n.kind, n.source, n.mac, n.inbound_kib_per_second, n.outbound_kib_per_second, n.network, n.address, n.labels.none, r.addresses)
local three = all(c.uid, c.user, #c.gids, c.gids[2], c.groups[2], c.admin, c.system, contains(c.groups, "staff"), contains(c.groups, "wheel"))
local four = all(#w.id, w.name, w.owner, w.owner_name, w.group, w.state, w.target, w.host, w.labels.a, w.access[1].right, w.operating_system,
    w.image, w.vcpus, w.memory_mib, w.disk_gib, w.lease_from, w.lease_until, w.end_action, w.created_at)
return permit("all", table.concat({ one, two, three, four, tostring(input.now) }, "|"))"##;
    let verdict = deciding(body).access(&input);
    assert_eq!(
        verdict.text,
        "restore web 2048 2 10 3600 stop debian-12 staff running h1 nil 1 disk-limits gold nil 1 group 50 use\
         |32 debian 64 5 public qcow2 2048 1073741824 bridge br0 52:54:00:00:00:01 1 2 nil nil nil 3\
         |1000 ann 2 50 staff false false true false\
         |32 web 1000 ann staff running running h1 b view nil debian 2 2048 10 1000000 2000000 stop 1000000\
         |1800000000000000"
    );
}

#[test]
fn the_same_input_gives_the_same_answer_in_every_state() {
    let text = r#"return { decide = function(input)
        local names = {}
        for name, value in pairs(input.request.labels) do names[#names + 1] = name .. "=" .. value end
        return permit("order", table.concat(names, " "))
    end }"#;
    let mut input = access_input(Verb::Launch);
    input.request.labels = (0..40).map(|n| (format!("label-{}", n * 7919 % 41), n.to_string())).collect();
    let first = access(text).access(&input).text;
    for _ in 0..5 {
        let mut other = access(text);
        other.access(&access_input(Verb::View));
        assert_eq!(other.access(&input).text, first);
        assert_eq!(other.access(&input).text, first);
    }
}

#[test]
fn without_a_set_everything_is_refused_with_the_reason() {
    let verdict = unavailable("quota", 0, &[]);
    assert_eq!((verdict.kind, verdict.code.as_str()), (VerdictKind::Error, "policy-unavailable"));
    let problems = vws_policy::PolicySet::load(sources(PERMIT, "return {", ANY_HOST), Limits::default()).unwrap_err();
    let verdict = unavailable("access", 4, &problems);
    assert!(verdict.text.contains("quota.lua:1: ") && verdict.text.contains("(generation 4)"), "{}", verdict.text);
    assert_eq!(verdict.rule, Rule { file: "quota.lua".to_owned(), line: 1 });
}
