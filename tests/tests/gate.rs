//! No way round the policies, on a real bus: whatever the introspection data offers that may change something is called by a user
//! whom access.lua refuses, and each call ends in a refusal that is recorded as a decision. Nothing here knows the methods: what an
//! interface gains is called as well. Needs root to become that user.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use serde_json::Value;
use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use vws_bus::client::Client;
use vws_bus::{interfaces, names};
use vws_tests::bus::{may_become_others, none, tree};
use vws_tests::{Plan, Site, until};
use zbus::Variant;

/// User `bin`.
const BOB: u32 = 2;

/// Refuses everything; objects can be seen, so that what is tried on them comes as far as it can.
const DENY_ALL: &str = "return { decide = function(input)\n  if input.request.verb == \"view\" then return permit(\"see\") end\n  \
                        return deny(\"closed\", \"nobody may do anything\")\nend }\n";
/// Refuses even to look.
const DENY_SIGHT: &str = "return { decide = function() return deny(\"closed\", \"nobody may do anything\") end }\n";

/// A method that may change something: interface, name, and its arguments' names and types.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Method {
    interface: String,
    name: String,
    arguments: Vec<(String, String)>,
}

/// The methods of an object's introspection data that are not annotated as reading.
fn changing(xml: &str) -> Vec<Method> {
    let mut found: Vec<(Method, bool)> = Vec::new();
    let mut interface = String::new();
    let mut reader = quick_xml::Reader::from_str(xml);
    loop {
        let event = reader.read_event().unwrap();
        let (quick_xml::events::Event::Start(tag) | quick_xml::events::Event::Empty(tag)) = &event else {
            if event == quick_xml::events::Event::Eof {
                break;
            }
            continue;
        };
        let attribute = |key: &str| {
            let value = tag.attributes().map(Result::unwrap).find(|one| one.key.as_ref() == key);
            value.map_or_else(String::new, |one| one.value.into_owned())
        };
        match tag.name().as_ref() {
            "interface" => interface = attribute("name"),
            "method" => {
                found.push((Method { interface: interface.clone(), name: attribute("name"), arguments: Vec::new() }, true));
            }
            "annotation" if attribute("name") == names::READS_ANNOTATION && attribute("value") == "true" => {
                found.last_mut().expect("an annotation of a method").1 = false;
            }
            "arg" if attribute("direction") == "in" => {
                found.last_mut().expect("an argument of a method").0.arguments.push((attribute("name"), attribute("type")));
            }
            _ => {}
        }
    }
    // The standard interfaces' methods read, but for one that is refused as a whole: there is no writable property.
    found
        .into_iter()
        .filter(|(method, changes)| *changes && method.interface.starts_with(names::BUS))
        .map(|(method, _)| method)
        .collect()
}

/// A value for an argument: what its type allows, and for dictionaries the keys without which a request says nothing.
fn value(method: &Method, argument: &str, signature: &str) -> Variant<'static> {
    let file = || Variant::from(zbus::Fd::from(OwnedFd::from(tempfile::tempfile().unwrap())));
    match (signature, method.name.as_str(), argument) {
        ("h", ..) => file(),
        ("s", "Act", "verb") => Variant::from("pause"),
        ("s", ..) => Variant::from("a-name"),
        ("t", ..) => Variant::from(60_u64),
        ("a{ss}", ..) => Variant::from(std::collections::BTreeMap::<String, String>::new()),
        ("a{sv}", name, argument) => {
            let mut keys = none();
            match (name, argument) {
                ("CreateWorkspace", "spec") => drop(keys.insert("image", Variant::from("tiny"))),
                ("ImportImage", "source") => {
                    keys.insert("file", file());
                    keys.insert("format", Variant::from("raw"));
                }
                ("CreateCluster", "cluster") => {
                    let role = |key: &str, value: &str| (key.to_owned(), Variant::from(value.to_owned()));
                    let role: std::collections::BTreeMap<String, Variant<'static>> =
                        [role("role", "head"), role("image", "tiny")].into();
                    keys.insert("roles", Variant::from(vec![role]));
                }
                ("Act", "filter") => drop(keys.insert("all", Variant::from(true))),
                ("AddNetwork", "network") => drop(keys.insert("kind", Variant::from("user"))),
                ("AddHost", "host") => drop(keys.insert("backend", Variant::from("sim"))),
                ("Resize", "changes") => drop(keys.insert("vcpus", Variant::from(1_u64))),
                ("Change", "changes") if method.interface == names::HOST || method.interface == names::NETWORK => {
                    drop(keys.insert("enabled", Variant::from(false)))
                }
                ("Change", "changes") => drop(keys.insert("name", Variant::from("other"))),
                _ => {}
            }
            Variant::from(keys)
        }
        (other, ..) => panic!("{method:?}: no value is known for an argument of type `{other}`: give one here"),
    }
}

/// Calls it, with the interface named or left out; the error's name and message.
async fn refused(client: &Client, path: &str, method: &Method, named: bool) -> (String, String) {
    let mut body = zbus::wire::StructureBuilder::new();
    for (argument, signature) in &method.arguments {
        body.push_value(value(method, argument, signature));
    }
    let interface = named.then_some(method.interface.as_str());
    let called = match method.arguments.len() {
        0 => client.connection().call_method(Some(names::BUS), path, interface, method.name.as_str(), &()).await,
        _ => {
            client.connection().call_method(Some(names::BUS), path, interface, method.name.as_str(), &body.build().unwrap()).await
        }
    };
    match called {
        // Answers for each workspace on its own.
        Ok(reply) if method.name == "Act" => {
            let results: Vec<std::collections::HashMap<String, zbus::OwnedVariant>> = reply.body().deserialize().unwrap();
            let told = |key: &str| {
                let mut texts = results.iter().map(|one| one.get(key).map_or_else(String::new, |text| text.to_string()));
                let first = texts.next().unwrap_or_default();
                assert!(texts.all(|text| text == first), "{results:?}");
                first.trim_matches('"').to_owned()
            };
            (told("error").rsplit('.').next().unwrap_or_default().to_owned(), told("message"))
        }
        Ok(reply) => panic!("{method:?} on {path} was not refused: {reply:?}"),
        Err(error) => {
            let failure = vws_bus::failure::Failure::from(error);
            (failure.name.rsplit('.').next().unwrap_or_default().to_owned(), failure.message)
        }
    }
}

/// Every method that may change something, of every object that the caller finds, with the object's path.
async fn offered(client: &Client) -> Vec<(Method, String)> {
    let mut offered = Vec::new();
    let mut seen = BTreeSet::new();
    for (path, xml) in tree(client).await {
        let has = |name: &&str| xml.contains(&format!("<interface name=\"{name}\""));
        seen.extend(interfaces::ALL.iter().map(|(name, _)| *name).filter(has));
        offered.extend(changing(&xml).into_iter().map(|method| (method, path.clone())));
    }
    let unseen: Vec<_> = interfaces::ALL.iter().map(|(name, _)| *name).filter(|name| !seen.contains(name)).collect();
    assert!(unseen.is_empty(), "no object with {unseen:?} was found: nothing of them is checked");
    offered
}

/// Bob's decisions that are recorded, newest first.
fn decisions_of_bob(site: &Site) -> Vec<Value> {
    site.ok(&["decisions", "--limit", "1000"]).as_array().unwrap().iter().filter(|one| one["uid"] == BOB).cloned().collect()
}

/// What must stay as it is.
fn everything(site: &Site) -> Vec<Value> {
    vec![
        site.ok(&["list"]),
        site.ok(&["image", "list"]),
        site.ok(&["jobs", "--all"]),
        site.ok(&["host", "list"]),
        site.ok(&["policy", "status"])["generation"].clone(),
        serde_json::to_value(site.machines("h1")).unwrap(),
    ]
}

/// Puts an access.lua in force.
fn in_force(site: &Site, text: &str, generation: u64) {
    std::fs::write(site.policy("access.lua"), text).unwrap();
    until("the policy is in force", || (site.ok(&["policy", "status"])["generation"] == generation).then_some(()));
}

#[test]
fn every_method_that_changes_something_passes_the_gate() {
    if !may_become_others() {
        return;
    }
    let site = Site::start(&Plan::default());
    site.import("tiny");
    // Bob has one of everything, made while he might.
    let file = std::fs::File::open(site.disk("own.raw")).unwrap();
    site.as_user(BOB, move |client| async move {
        let manager = client.manager().await.unwrap();
        let mut source = none();
        source.insert("file", Variant::from(zbus::Fd::from(OwnedFd::from(file))));
        source.insert("format", Variant::from("raw"));
        manager.import_image("own", &source, &none()).await.unwrap();
        let mut spec = none();
        spec.insert("image", Variant::from("tiny"));
        spec.insert("memory-mib", Variant::from(64_u64));
        manager.create_workspace("his", &spec, &none()).await.unwrap();
    });
    site.until_state("his", "running");
    let ready = |image: &Value| image["name"] == "own" && image["state"] == "ready";
    until("the image is ready", || site.ok(&["image", "list"]).as_array().unwrap().iter().any(ready).then_some(()));
    site.run(&["network", "add", "lab", "--kind", "user"]);
    in_force(&site, DENY_ALL, 2);
    let before = everything(&site);
    let methods = site.as_user(BOB, |client| async move { offered(&client).await });
    let distinct: BTreeSet<&Method> = methods.iter().map(|(method, _)| method).collect();
    assert!(distinct.len() >= 20, "too few to be all of them: {distinct:#?}");
    let mut wrong = Vec::new();
    for (method, path) in &methods {
        for named in [true, false] {
            let known = decisions_of_bob(&site).len();
            let (on, what) = (path.clone(), method.clone());
            let (name, message) = site.as_user(BOB, move |client| async move { refused(&client, &on, &what, named).await });
            let told = format!("{}.{} on {path}: {name}: {message}", method.interface, method.name);
            let decisions = decisions_of_bob(&site);
            if name != "AccessDenied" {
                wrong.push(format!("not refused by the gate: {told}"));
            } else if decisions.len() != known + 1 || decisions[0]["permitted"] != false {
                wrong.push(format!("not recorded: {told}"));
            } else if !message.contains(decisions[0]["id"].as_str().unwrap()) {
                wrong.push(format!("does not say under which decision it can be read: {told}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(everything(&site), before, "a refused call changed something");

    // Who may not even look does not find his own workspace and job; what he finds all the same refuses as before.
    in_force(&site, DENY_SIGHT, 3);
    let before = everything(&site)[..4].to_vec();
    let blind = site.as_user(BOB, move |client| async move {
        let mut answers = BTreeSet::new();
        // `Act` does nothing to what he does not see, and says so with an empty list.
        for (method, path) in methods.iter().filter(|(method, _)| method.name != "Act") {
            let (name, _) = refused(&client, path, method, true).await;
            answers.insert((path.split('/').nth(3).unwrap_or("root").to_owned(), name));
        }
        answers
    });
    let answer = |of: &str, name: &str| (of.to_owned(), name.to_owned());
    let expected = [
        answer("hosts", "AccessDenied"),
        answer("images", "AccessDenied"),
        // His own jobs he finds; what they work on he does not.
        answer("jobs", "AccessDenied"),
        answer("networks", "AccessDenied"),
        answer("root", "AccessDenied"),
        answer("workspaces", "UnknownObject"),
    ];
    assert_eq!(blind, BTreeSet::from(expected));
    assert_eq!(everything(&site)[..4].to_vec(), before);
}

/// The shipped access.lua with its permissions turned into refusals of a code of their own: who would pass is seen, and nothing is done.
fn telling_who_would_pass() -> String {
    let shipped = std::fs::read_to_string(vws_tests::root().join("policies/access.lua")).unwrap();
    let end = "return { decide = decide }";
    assert!(shipped.contains(end), "access.lua ends otherwise now");
    let begin = "local real, verb = permit, \"\"\nlocal permit = function(...) if verb == \"view\" then return real(...) end \
                 return deny(\"would-pass\", \"permitted\") end\n";
    let told = "return { decide = function(input) verb = input.request.verb return decide(input) end }";
    format!("{begin}{}", shipped.replace(end, told))
}

/// What a role is answered: `yes`, `no`, or `-` for an object that it does not find.
async fn answered(client: &Client, path: &str, method: &Method) -> &'static str {
    let mut arguments = zbus::wire::StructureBuilder::new();
    for (name, signature) in &method.arguments {
        arguments.push_value(value(method, name, signature));
    }
    let interface = Some(method.interface.as_str());
    let called = match method.arguments.len() {
        0 => client.connection().call_method(Some(names::BUS), path, interface, method.name.as_str(), &()).await,
        _ => {
            client
                .connection()
                .call_method(Some(names::BUS), path, interface, method.name.as_str(), &arguments.build().unwrap())
                .await
        }
    };
    match called {
        Ok(_) => "yes",
        Err(error) => {
            let failure = vws_bus::failure::Failure::from(error);
            match failure.name.rsplit('.').next().unwrap_or_default() {
                "AccessDenied" if failure.code == "would-pass" => "yes",
                "AccessDenied" => "no",
                "UnknownObject" => "-",
                // Past the gate, and not possible for another reason.
                _ => "yes",
            }
        }
    }
}

/// User and what the workspace's access list says of him. As the test becomes a user, its group is that of the same number.
const ROLES: [(&str, u32); 8] =
    [("owner", 1), ("view", 5), ("use", 6), ("manage", 7), ("group-use", 8), ("other", BOB), ("admin", 3), ("root", 0)];

#[test]
fn each_role_may_what_the_table_says_and_nothing_else() {
    if !may_become_others() {
        return;
    }
    let config = "admin-group = \"sys\"\n".to_owned();
    let mut rows: std::collections::BTreeMap<String, Vec<&str>> = std::collections::BTreeMap::new();
    // An administrator's native way does what it is asked: each of them gets a site of his own.
    for roles in [&ROLES[..7], &ROLES[7..]] {
        let site = Site::start(&Plan { config: config.clone(), ..Plan::default() });
        site.import("tiny");
        site.run(&["network", "add", "lab", "--kind", "user"]);
        site.as_user(1, |client| async move {
            let manager = client.manager().await.unwrap();
            let mut spec = none();
            spec.insert("image", Variant::from("tiny"));
            spec.insert("memory-mib", Variant::from(64_u64));
            spec.insert("target", Variant::from("stopped"));
            manager.create_workspace("hers", &spec, &none()).await.unwrap();
        });
        site.until_state("hers", "stopped");
        let grants = ["user:games=view", "user:man=use", "user:lp=manage", "group:mail=use"];
        let mut change = vec!["change", "hers"];
        grants.iter().for_each(|grant| change.extend(["--grant", grant]));
        site.run(&change);
        std::fs::create_dir_all(site.dir().join("policies/lib")).unwrap();
        in_force(&site, &telling_who_would_pass(), 2);
        // The owner's objects where she has some, so that her job is the one of her workspace.
        let mut found: std::collections::BTreeMap<Method, String> = std::collections::BTreeMap::new();
        for uid in [1, 0] {
            for (path, xml) in site.as_user(uid, |client| async move { tree(&client).await }) {
                for method in changing(&xml).into_iter().filter(|method| method.name != "Act") {
                    found.entry(method).or_insert_with(|| path.clone());
                }
            }
        }
        let last = |method: &Method| matches!(method.name.as_str(), "Destroy" | "Remove" | "Drain" | "Stop");
        let mut order: Vec<(Method, String)> = found.into_iter().collect();
        order.sort_by_key(|(method, _)| (last(method), method.interface != names::WORKSPACE));
        for (_, uid) in roles {
            let calls = order.clone();
            let answers = site.as_user(*uid, |client| async move {
                let mut answers = Vec::new();
                for (method, path) in calls {
                    let answer = answered(&client, &path, &method).await;
                    answers.push((
                        format!("{}.{}", method.interface.trim_start_matches("org.virtualworkspaces1."), method.name),
                        answer,
                    ));
                }
                answers
            });
            for (method, answer) in answers {
                rows.entry(method).or_default().push(answer);
            }
        }
    }
    let line = |name: &str, cells: &[&str]| {
        let cells: String = cells.iter().map(|cell| format!(" {cell:>9}")).collect();
        format!("{name:<28}{cells}\n")
    };
    let mut table = line("", &ROLES.map(|(role, _)| role));
    rows.iter().for_each(|(method, cells)| table.push_str(&line(method, cells)));
    let golden = vws_tests::root().join("tests/golden/roles.txt");
    if std::env::var_os("VWS_BLESS").is_some() {
        std::fs::write(&golden, table).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(&golden).unwrap_or_default();
    assert_eq!(table, expected, "VWS_BLESS=1 takes what is the case; read the difference before you commit it\n{table}");
}
