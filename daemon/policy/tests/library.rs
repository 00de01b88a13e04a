//! The site policies of `examples/policies` and the shipped ones: each is good, is tested, and is in the table.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]
use std::path::{Path, PathBuf};
use std::sync::Arc;
use vws_policy::{Limits, PolicySet, Sources, examine, run_tests};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn examples() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join("examples/policies")).unwrap();
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}

#[test]
fn every_set_is_checked_and_tested() {
    let folders: Vec<PathBuf> = examples().into_iter().chain([root().join("policies")]).collect();
    assert!(folders.len() > 12, "{} sets", folders.len());
    let mut wrong = Vec::new();
    for folder in folders {
        let name = folder.display();
        let sources = match Sources::read_dir(&folder) {
            Ok(sources) => sources,
            Err(problems) => {
                wrong.push(format!("{name}: {problems:#?}"));
                continue;
            }
        };
        let set = match PolicySet::load_counting(sources, Limits::default()) {
            Ok(set) => Arc::new(set),
            Err(problems) => {
                wrong.push(format!("{name}: {problems:#?}"));
                continue;
            }
        };
        let examined = examine(&set);
        wrong.extend(examined.problems.iter().map(|problem| format!("{name}: {problem}; {}", problem.help)));
        let tests = Sources::read_tests(&folder).unwrap();
        let report = run_tests(&set, &tests, None);
        wrong.extend(report.problems.iter().map(|problem| format!("{name}: {problem}")));
        for result in report.results.iter().filter(|result| !result.passed()) {
            wrong.push(format!("{name}: {}:{} {}: {:#?}", result.file, result.line, result.name, result.failures));
        }
        if report.results.len() < 3 {
            wrong.push(format!("{name}: {} tests", report.results.len()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_table_has_every_set() {
    let table = std::fs::read_to_string(root().join("examples/policies/README.md")).unwrap();
    for folder in examples() {
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        assert!(table.contains(&format!("| [`{name}`]({name})")), "{name} is not in the table");
    }
}

/// Examples build on the shipped policies by a copy in `lib/`.
#[test]
fn copies_of_shipped_policies_are_copies() {
    let mut copies = 0;
    for folder in examples() {
        for policy in vws_policy::POLICIES {
            if let Ok(copy) = std::fs::read_to_string(folder.join(format!("lib/shipped_{policy}.lua"))) {
                let shipped = std::fs::read_to_string(root().join(format!("policies/{policy}.lua"))).unwrap();
                assert_eq!(copy, shipped, "{}", folder.display());
                copies += 1;
            }
        }
    }
    assert!(copies > 0);
}
