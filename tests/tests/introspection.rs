//! The contract as a real client gets it: the introspection data of every interface from the running daemon, compared with the
//! committed `golden/introspection.xml`. `VWS_BLESS=1` writes that file anew; read the difference before you commit it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use vws_bus::interfaces;
use vws_tests::bus::{run, tree};
use vws_tests::{Plan, Site, root};

const GOLDEN: &str = "tests/golden/introspection.xml";

/// The interface elements of an object's data, by name, as they stand there.
fn elements(xml: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for part in xml.split("  <interface name=\"").skip(1) {
        let name = part.split('"').next().unwrap().to_owned();
        let end = part.find("  </interface>\n").unwrap_or_else(|| panic!("interface {name} does not end: {xml}"));
        let element = format!("  <interface name=\"{}  </interface>\n", &part[..end]);
        assert!(found.insert(name.clone(), element).is_none(), "interface {name} stands there twice");
    }
    found
}

#[test]
fn a_client_is_told_the_contract_that_is_committed() {
    let site = Site::start(&Plan::default());
    site.import("tiny");
    site.run(&["launch", "tiny", "--name", "one", "--memory", "64M"]);
    site.run(&["network", "add", "lan", "--kind", "bridge", "--source", "br0", "--subnet", "10.0.0.0/24"]);
    let tree = run(async { tree(&site.client().await).await });
    let mut all = BTreeMap::new();
    for (path, xml) in &tree {
        for (name, element) in elements(xml) {
            let known = all.entry(name.clone()).or_insert_with(|| element.clone());
            assert_eq!(known, &element, "{path} says something else of {name}");
        }
    }
    let promised: BTreeSet<&str> = interfaces::ALL.iter().map(|(name, _)| *name).collect();
    let missing: Vec<_> = promised.iter().filter(|name| !all.contains_key(**name)).collect();
    assert!(missing.is_empty(), "no object of the running daemon has {missing:?}");

    let said: String = all.into_values().collect();
    let said = format!("<node>\n{said}</node>\n");
    let path = root().join(GOLDEN);
    if std::env::var_os("VWS_BLESS").is_some() {
        std::fs::write(&path, said).unwrap();
        return;
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{GOLDEN}: {error}; VWS_BLESS=1 writes it"));
    let differs = said.lines().zip(golden.lines()).position(|(said, golden)| said != golden);
    let differs = differs.or((said != golden).then(|| said.lines().count().min(golden.lines().count())));
    if let Some(line) = differs {
        let at = |text: &str| text.lines().nth(line).unwrap_or("(the end)").to_owned();
        panic!("{GOLDEN}:{}\ngolden: {}\nserved: {}\nVWS_BLESS=1 takes what is served", line + 1, at(&golden), at(&said));
    }
}
