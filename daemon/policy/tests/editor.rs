//! What editors are told is what scripts see: the committed files are those that the schema makes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]
use std::path::Path;
use std::sync::Arc;
use vws_policy::{Limits, PolicySet, Sources, editor_files, examine, run_tests, scaffold};

/// `VWS_BLESS=1` writes them anew.
#[test]
fn the_committed_files_are_the_generated_ones() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies");
    for (name, text) in editor_files() {
        let path = folder.join(name);
        if std::env::var_os("VWS_BLESS").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &text).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(committed, text, "policies/{name} is not what the schema makes; VWS_BLESS=1 writes it anew");
    }
}

#[test]
fn a_new_folder_is_good() {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in scaffold() {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let set = Arc::new(PolicySet::load(Sources::read_dir(dir.path()).unwrap(), Limits::default()).unwrap());
    assert_eq!(examine(&set).problems, Vec::new());
    let report = run_tests(&set, &Sources::read_tests(dir.path()).unwrap(), None);
    assert!(report.good() && report.results.len() > 30, "{report:#?}");
    assert_eq!(set.sources().files.len(), 3, "stubs and tests are no part of the set");
}
