//! Reading, compiling and checking a set: every problem is found, with its line.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]
mod common;
use common::*;
use std::fs;
use std::os::unix::fs::symlink;
use vws_policy::{Limits, PolicySet, Problem, Sources, source_limits};

fn problems(sources: Sources) -> Vec<Problem> {
    PolicySet::load(sources, Limits::default()).unwrap_err()
}

#[test]
fn every_problem_is_found_at_once() {
    let mut set =
        sources("return {\n  decide = function(input)\n    return permit(\n  end\n}", "return {}", "return { rank = 5 }");
    set.files.insert("lib/x.lua".to_owned(), "\n\nlocal = 5".to_owned());
    set.files.remove("placement.lua");
    let found = problems(set);
    let shown: Vec<(String, u32, String)> = found.iter().map(|p| (p.file.clone(), p.line, p.code.clone())).collect();
    assert_eq!(
        shown,
        [
            ("placement.lua".to_owned(), 0, "missing-file".to_owned()),
            ("access.lua".to_owned(), 4, "syntax".to_owned()),
            ("lib/x.lua".to_owned(), 3, "syntax".to_owned()),
            ("quota.lua".to_owned(), 0, "shape".to_owned()),
        ]
    );
    assert_eq!(found[1].source, "  end");
    assert!(found[3].text.contains("has no function `decide`"), "{}", found[3].text);
}

#[test]
fn tables_are_checked() {
    for (access, placement, part) in [
        ("", ANY_HOST, "the file returns a nil; end it with `return { decide = function ... end }`"),
        ("return 5", ANY_HOST, "the file returns a number"),
        ("return { decide = 5 }", ANY_HOST, "`decide` is a number, a function is needed"),
        ("return { decide = function() end, decid = 1 }", ANY_HOST, "unknown member `decid`"),
        (
            PERMIT,
            "return { ranks = function() end }",
            "unknown member `ranks` in the table that the file returns; did you mean `rank`?",
        ),
        (PERMIT, "return { consider = 1.5 }", "`consider` is not a whole number from 0"),
        (PERMIT, "return { needs_labels = 'gpu' }", "`needs_labels` is a string"),
        (PERMIT, "return { needs_labels = { 5 } }", "needs_labels is not a table of label = value"),
        (PERMIT, "return { needs_labels = { pool = 5 } }", "needs_labels: `pool` is a"),
        ("error('boom') return {}", ANY_HOST, "boom"),
        ("local x = y return {}", ANY_HOST, "unknown global `y`"),
        ("return require('lib/none')", ANY_HOST, "unknown global `require`"),
    ] {
        let found = problems(sources(access, PERMIT, placement));
        assert_eq!(found.len(), 1);
        assert!(found[0].text.contains(part), "{access} {placement}: {}", found[0].text);
    }
}

#[test]
fn a_problem_has_its_line_and_says_where_in_it() {
    let found = problems(sources("local limit = 5\n\tlocal x = nil + limit\nreturn {}", PERMIT, ANY_HOST));
    assert_eq!((found[0].line, found[0].code.as_str()), (2, "runtime"));
    assert_eq!((found[0].source.as_str(), found[0].span()), ("\tlocal x = nil + limit", 1..22));
    assert!(!found[0].help.is_empty());
    assert!(found[0].to_string().starts_with("access.lua:2: attempt to perform arithmetic"), "{}", found[0]);
}

#[test]
fn modules_are_found_in_the_set_and_nowhere_else() {
    let mut set = sources("local m = require('helper') return { decide = m.decide }", PERMIT, ANY_HOST);
    set.files.insert("helper.lua".to_owned(), "return require('lib/deep')".to_owned());
    set.files.insert("lib/deep.lua".to_owned(), "return { decide = function() return permit('deep') end }".to_owned());
    let mut evaluator = evaluator_with(set.clone(), Limits::default());
    assert_eq!(evaluator.access(&access_input(vws_domain::Verb::View)).code, "deep");
    set.files.insert("access.lua".to_owned(), "local m = require('../../etc/passwd') return m".to_owned());
    let found = problems(set.clone());
    assert!(found[0].text.contains("`../../etc/passwd` leads out of the policy folder"), "{}", found[0].text);
    for (asked, part) in [
        ("/etc/passwd", "leads out of the policy folder"),
        ("./../policies/access", "leads out of the policy folder"),
        ("lib/../helper", "leads out of the policy folder"),
        ("./lib/none", "the set has no file `lib/none.lua`; it has helper, lib/deep"),
    ] {
        set.files.insert("access.lua".to_owned(), format!("return require('{asked}')"));
        let found = problems(set.clone());
        assert!(found[0].text.contains(part), "{asked}: {}", found[0].text);
    }
    // `./` is relative to the file that asks.
    set.files.insert("access.lua".to_owned(), "local m = require('./lib/first') return { decide = m.decide }".to_owned());
    set.files.insert("lib/first.lua".to_owned(), "return require('./deep')".to_owned());
    let mut evaluator = evaluator_with(set.clone(), Limits::default());
    assert_eq!(evaluator.access(&access_input(vws_domain::Verb::View)).code, "deep");
    set.files.insert("access.lua".to_owned(), "return require('helper')".to_owned());
    set.files.insert("lib/deep.lua".to_owned(), "return require('helper')".to_owned());
    let found = problems(set);
    assert!(found[0].text.contains("`helper` requires itself"), "{}", found[0].text);
}

#[test]
fn the_hash_is_of_names_and_texts() {
    let one = sources("a", "b", "c");
    assert_eq!(one.hash(), sources("a", "b", "c").hash());
    assert_eq!(one.hash().0.len(), 64);
    assert_ne!(one.hash(), sources("ab", "", "c").hash());
    let mut other = one.clone();
    other.files.insert("lib/x.lua".to_owned(), String::new());
    assert_ne!(one.hash(), other.hash());
}

#[test]
fn a_folder_is_read_through_links_without_what_is_not_policy() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    fs::create_dir(path.join("v1")).unwrap();
    fs::create_dir(path.join("v1/lib")).unwrap();
    for (name, text) in
        [("access.lua", "a"), ("quota_test.lua", "t"), ("notes.txt", "n"), ("lib/x.lua", "x"), ("lib/.#x.lua", "lock")]
    {
        fs::write(path.join("v1").join(name), text).unwrap();
    }
    symlink("/nonexistent", path.join("v1/.#access.lua")).unwrap();
    fs::write(path.join("shared.lua"), "q").unwrap();
    symlink("../shared.lua", path.join("v1/quota.lua")).unwrap();
    symlink("v1", path.join("current")).unwrap();
    let sources = Sources::read_dir(&path.join("current")).unwrap();
    let found: Vec<(&str, &str)> = sources.files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    assert_eq!(found, [("access.lua", "a"), ("lib/x.lua", "x"), ("quota.lua", "q")]);
}

#[test]
fn a_module_is_not_taken_from_outside_the_folder() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("policies");
    fs::create_dir_all(path.join("lib")).unwrap();
    fs::write(dir.path().join("secret.lua"), "return 'secret'").unwrap();
    fs::write(path.join("inside.lua"), "return 'inside'").unwrap();
    symlink("../inside.lua", path.join("lib/inside.lua")).unwrap();
    assert_eq!(Sources::read_dir(&path).unwrap().files.len(), 2, "links within the folder are good");
    symlink("../../secret.lua", path.join("lib/secret.lua")).unwrap();
    let found = Sources::read_dir(&path).unwrap_err();
    assert_eq!((found[0].file.as_str(), found[0].code.as_str()), ("lib/secret.lua", "outside"), "{found:?}");
}

#[test]
fn what_cannot_be_read_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    let found = Sources::read_dir(&path.join("none")).unwrap_err();
    assert_eq!(found[0].code, "unreadable");
    assert!(found[0].file.ends_with("none"));
    fs::write(path.join("access.lua"), [0xff, 0xfe]).unwrap();
    fs::write(path.join("quota.lua"), vec![b' '; source_limits::FILE_BYTES + 1]).unwrap();
    symlink("/nonexistent", path.join("placement.lua")).unwrap();
    fs::create_dir(path.join("x.lua")).unwrap();
    let found = Sources::read_dir(path).unwrap_err();
    let shown: Vec<(&str, &str)> = found.iter().map(|p| (p.file.as_str(), p.code.as_str())).collect();
    assert_eq!(
        shown,
        [("access.lua", "not-text"), ("placement.lua", "unreadable"), ("quota.lua", "too-large"), ("x.lua", "unreadable")]
    );
}

#[test]
fn a_folder_has_limits() {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..=source_limits::FILES {
        fs::write(dir.path().join(format!("f{n:03}.lua")), "").unwrap();
    }
    let found = Sources::read_dir(dir.path()).unwrap_err();
    assert_eq!((found.len(), found[0].code.as_str()), (1, "too-many-files"));
    let dir = tempfile::tempdir().unwrap();
    for n in 0..5 {
        fs::write(dir.path().join(format!("f{n}.lua")), vec![b' '; source_limits::FILE_BYTES]).unwrap();
    }
    let found = Sources::read_dir(dir.path()).unwrap_err();
    assert_eq!((found[0].code.as_str(), found[0].file.as_str()), ("too-large", "f4.lua"));
}

#[test]
fn an_empty_folder_says_which_files_are_missing() {
    let dir = tempfile::tempdir().unwrap();
    let found = problems(Sources::read_dir(dir.path()).unwrap());
    let files: Vec<&str> = found.iter().map(|p| p.file.as_str()).collect();
    assert_eq!(files, ["access.lua", "quota.lua", "placement.lua"]);
    assert!(found.iter().all(|p| p.code == "missing-file"));
}

#[test]
fn sets_and_evaluators_cross_threads() {
    fn send<T: Send>() {}
    fn sync<T: Sync>() {}
    send::<vws_policy::Evaluator>();
    send::<PolicySet>();
    sync::<PolicySet>();
}
