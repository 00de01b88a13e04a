//! The rules of the house: who may depend on whom, and who may name what. Read from cargo and from the sources.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use cargo_metadata::{DependencyKind, MetadataCommand, Package};
use std::path::{Path, PathBuf};
use vws_tests::root;

/// Package -> the packages of the workspace that it may depend on, to run. Tests may lean on more.
const MAY_USE: &[(&str, &[&str])] = &[
    ("vws-domain", &[]),
    ("vws-plugin-api", &[]),
    ("vws-bus", &[]),
    ("vws-policy", &["vws-domain"]),
    ("vws-store", &["vws-domain"]),
    ("vws-library", &["vws-domain"]),
    ("vws-bundle", &["vws-domain"]),
    ("vws-backend", &["vws-domain", "vws-plugin-api"]),
    ("vws", &["vws-bus", "vws-policy", "vws-bundle"]),
    ("vws-plugin-sim", &["vws-plugin-api"]),
    ("vws-plugin-kvm", &["vws-plugin-api"]),
    ("vws-tests", &["vws-bus"]),
    ("vws-bench", &["vws-domain", "vws-policy", "vws-store", "vws-backend", "vws-plugin-api", "vws-bus", "vws-tests"]),
    ("vwsd", &["vws-domain", "vws-policy", "vws-store", "vws-library", "vws-bundle", "vws-backend", "vws-bus", "vws-plugin-api"]),
];

/// A crate that is somebody's business -> the only packages that may depend on it.
const ONLY: &[(&str, &[&str])] = &[
    ("mlua", &["vws-policy"]),
    ("rusqlite", &["vws-store"]),
    ("zbus", &["vwsd", "vws-bus", "vws", "vws-tests", "vws-bench"]),
    // The benchmark holds the daemon against a bare program that uses libvirt.
    ("virt", &["vws-plugin-kvm", "vws-bench"]),
    ("virt-sys", &["vws-plugin-kvm"]),
    ("libloading", &["vws-backend"]),
];

/// The only sources with unsafe code; `glue.rs` calls the C interface as a foreign host would.
const UNSAFE: &[&str] =
    &["plugin-api/src/abi.rs", "plugin-api/tests/glue.rs", "daemon/backend/src/load.rs", "plugins/kvm/src/events.rs"];

fn packages() -> Vec<Package> {
    MetadataCommand::new().manifest_path(root().join("Cargo.toml")).no_deps().exec().unwrap().packages
}

fn uses(package: &Package, kinds: &[DependencyKind]) -> Vec<String> {
    package.dependencies.iter().filter(|used| kinds.contains(&used.kind)).map(|used| used.name.clone()).collect()
}

/// Every source file below a folder, by its path from the root.
fn sources(below: &str) -> Vec<(String, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                if !entry.ends_with("target") && !entry.file_name().unwrap().to_string_lossy().starts_with('.') {
                    walk(&entry, found);
                }
            } else if entry.extension().is_some_and(|extension| extension == "rs") {
                found.push(entry);
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join(below), &mut found);
    assert!(!found.is_empty(), "no sources below {below}");
    found
        .into_iter()
        .map(|path| (path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned(), std::fs::read_to_string(&path).unwrap()))
        .collect()
}

/// Code without comments and without the words in quotation marks.
fn code(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let mut quoted = false;
        let mut before = ' ';
        let mut rest = line.chars().peekable();
        while let Some(c) = rest.next() {
            if c == '"' && before != '\\' && before != '\'' {
                quoted = !quoted;
            }
            if !quoted && c == '/' && rest.peek() == Some(&'/') {
                break;
            }
            if !quoted {
                out.push(c);
            }
            before = c;
        }
        out.push('\n');
    }
    out
}

/// Whether a text names a word, as a word.
fn names(text: &str, word: &str) -> bool {
    let part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    text.match_indices(word).any(|(at, _)| !part(text[..at].chars().next_back()) && !part(text[at + word.len()..].chars().next()))
}

#[test]
fn packages_depend_only_on_what_they_may() {
    let packages = packages();
    let ours: Vec<String> = packages.iter().map(|package| package.name.to_string()).collect();
    let mut wrong = Vec::new();
    for package in &packages {
        let Some((_, may)) = MAY_USE.iter().find(|(name, _)| *name == package.name.as_str()) else {
            wrong.push(format!("{}: no rule says what it may use", package.name));
            continue;
        };
        for used in uses(package, &[DependencyKind::Normal, DependencyKind::Build]) {
            if ours.contains(&used) && !may.contains(&used.as_str()) {
                wrong.push(format!("{} depends on {used}", package.name));
            }
        }
    }
    for (name, _) in MAY_USE {
        assert!(ours.iter().any(|one| one == name), "a rule is about {name}, which does not exist");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn what_is_somebodys_business_stays_there() {
    let mut wrong = Vec::new();
    for package in packages() {
        for used in uses(&package, &[DependencyKind::Normal, DependencyKind::Build, DependencyKind::Development]) {
            if ONLY.iter().any(|(name, may)| *name == used && !may.contains(&package.name.as_str())) {
                wrong.push(format!("{} depends on {used}", package.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_core_has_no_clock_no_chance_no_files() {
    let mut wrong = Vec::new();
    for (path, text) in sources("daemon/domain/src") {
        for word in ["std::fs", "std::net", "std::process", "std::thread", "SystemTime", "Instant", "tokio", "serde", "rand"] {
            if names(&code(&text), word) {
                wrong.push(format!("{path} names {word}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn parts_of_the_daemon_do_not_know_each_other() {
    let mut wrong = Vec::new();
    for (path, text) in sources("daemon/vwsd/src") {
        let text = code(&text);
        if path.contains("/operate/") {
            wrong.extend(
                ["crate::bus", "crate::policies", "crate::admit", "crate::service"]
                    .iter()
                    .filter(|word| text.contains(**word))
                    .map(|word| format!("{path} names {word}")),
            );
        }
        if !path.contains("/bus/") && names(&text, "zbus") {
            wrong.push(format!("{path} names zbus"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn unsafe_code_is_where_it_is_expected() {
    let mut wrong = Vec::new();
    let mut seen = Vec::new();
    for folder in ["daemon", "plugin-api", "plugins", "tests"] {
        for (path, text) in sources(folder) {
            if names(&code(&text), "unsafe") {
                if UNSAFE.contains(&path.as_str()) { seen.push(path) } else { wrong.push(path) }
            }
        }
    }
    assert!(wrong.is_empty(), "unsafe code in {wrong:#?}");
    for path in UNSAFE {
        assert!(seen.iter().any(|one| one == path), "{path} has no unsafe code any more: take it off the list");
    }
}

#[test]
fn every_source_says_what_it_owns() {
    let mute: Vec<String> = ["daemon", "plugin-api", "plugins", "tests"]
        .into_iter()
        .flat_map(sources)
        .filter(|(_, text)| !text.starts_with("//!"))
        .map(|(path, _)| path)
        .collect();
    assert!(mute.is_empty(), "{mute:#?}");
}

#[test]
fn the_reading_of_code_can_fail() {
    assert!(names(&code("let x = unsafe { 1 }; // safe"), "unsafe"));
    assert!(!names(&code("// unsafe\nlet unsafe_ = \"unsafe\";"), "unsafe"));
}
