//! Finds what a set would fail at before anybody meets it: asks its policies about representative inputs and reports every failure
//! of a script. A refusal is an answer; only an error, an answer of a wrong shape or an overrun is a problem.
//!
//! Where the inputs come from: each verb with each role of a caller; each field of the schema once absent and once with each kind
//! of value; and the words and numbers that stand in the scripts themselves, in every place where such a word could come
//! from, so that `request.group == "students"` is both true and false once. Pure: the same set, the same findings.

use crate::coverage::Coverage;
use crate::evaluator::Evaluator;
use crate::facts::{Question, about_workspace};
use crate::fault::FaultKind;
use crate::problem::Problem;
use crate::sandbox::Stopwatch;
use crate::schema::{self, Field, Kind};
use crate::set::PolicySet;
use crate::verdict::micros_since;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use vws_domain::Verb;

/// Problems that are reported at most.
const PROBLEMS: usize = 50;
/// A policy that overran its limits this often is not asked again.
const OVERRUNS: usize = 2;
/// Words and numbers that are taken from the scripts.
const WORDS: usize = 64;
const NUMBERS: usize = 24;
/// Processor time after which no further questions are asked.
const PATIENCE: Duration = Duration::from_secs(5);
/// An amount that is more than anybody has.
const LARGE: u64 = 10_000_000;
/// Minutes between one question's `now` and the next one's: all hours and days of the week come by.
const STEP_MINUTES: u64 = 317;
const NOW: u64 = 1_800_000_000_000_000;

/// What an examination found.
#[derive(Clone, Debug, Default)]
pub struct Examination {
    /// Every failure, once for each place and text; `help` says with which input.
    pub problems: Vec<Problem>,
    /// How many questions were asked.
    pub questions: usize,
    /// Whether all were asked that there are.
    pub complete: bool,
    /// The lines that ran; empty unless the set counts them. What stands on the others was not examined.
    pub coverage: Coverage,
    /// How long it took.
    pub micros: u64,
}

/// Examines a set that loaded.
#[must_use]
pub fn examine(set: &Arc<PolicySet>) -> Examination {
    let start = Instant::now();
    let began = Stopwatch::start();
    let mut found = Examination { complete: true, ..Examination::default() };
    match set.evaluator(0) {
        Ok(mut evaluator) => {
            let mined = Mined::from(set);
            for policy in crate::POLICIES {
                let mut asker = Asker { evaluator: &mut evaluator, policy, overruns: 0, began, found: &mut found };
                asker.ask_all(&mined);
            }
            found.coverage = evaluator.coverage();
        }
        Err(problems) => found.problems = problems,
    }
    found.micros = micros_since(start);
    found
}

/// Asks one policy.
struct Asker<'a> {
    evaluator: &'a mut Evaluator,
    policy: &'static str,
    overruns: usize,
    began: Stopwatch,
    found: &'a mut Examination,
}

impl Asker<'_> {
    fn ask_all(&mut self, mined: &Mined) {
        let verbs: Vec<Verb> = Verb::ALL
            .into_iter()
            .filter(|verb| match self.policy {
                "quota" => verb.takes_quota(),
                "placement" => verb.takes_host(),
                _ => true,
            })
            .collect();
        let fields = variants_of_input(self.policy);
        for verb in verbs {
            for shape in roles() {
                self.ask(verb, &shape, &mined.hosts);
            }
            // What holds for one verb with a workspace holds for the others.
            if matches!(verb, Verb::Launch | Verb::Restore) {
                for shape in &fields {
                    self.ask(verb, shape, &mined.hosts);
                }
            }
            let about = match self.policy {
                "access" => Verb::Start,
                "quota" => Verb::Renew,
                _ => Verb::Migrate,
            };
            if verb == Verb::Launch || verb == about {
                for shape in &mined.shapes {
                    self.ask(verb, shape, &mined.hosts);
                }
            }
        }
        if self.policy == "placement" {
            self.ask(Verb::Launch, &json!({}), &json!({}));
        }
    }

    fn ask(&mut self, verb: Verb, shape: &Value, hosts: &Value) {
        if self.overruns >= OVERRUNS || self.found.problems.len() >= PROBLEMS || self.began.elapsed() > PATIENCE {
            self.found.complete = false;
            return;
        }
        let mut input = shape.as_object().cloned().unwrap_or_default();
        let known: Vec<&str> =
            schema::document(&format!("{}_input", self.policy)).map(|d| d.names().collect()).unwrap_or_default();
        input.retain(|key, _| known.contains(&key.as_str()));
        if !about_workspace(verb) {
            input.remove("workspace");
        } else if input.get("workspace").is_some_and(Value::is_null) {
            // The daemon never asks so.
            return;
        }
        let request = input.entry("request").or_insert_with(|| Value::Object(Map::new()));
        if let Some(request) = request.as_object_mut() {
            request.insert("verb".to_owned(), Value::from(verb.name()));
        }
        let steps = self.found.questions as u64;
        input.entry("now").or_insert_with(|| Value::from(NOW + steps * STEP_MINUTES * 60_000_000));
        let input = Value::Object(input);
        // A word of a script need not be one that the field can have.
        let Ok(question) = Question::read(self.policy, &input, hosts) else { return };
        self.found.questions += 1;
        self.evaluator.answer(&question);
        let Some(fault) = self.evaluator.fault.take() else { return };
        if matches!(fault.kind, FaultKind::Deadline | FaultKind::Memory) {
            self.overruns += 1;
        }
        let code = match &fault.text {
            text if text.starts_with("unknown field") => "unknown-field",
            text if text.starts_with("unknown global") => "unknown-global",
            _ => fault.kind.code(),
        };
        let place = |problem: &Problem| problem.file == fault.file && problem.line == fault.line && problem.text == fault.text;
        if !self.found.problems.iter().any(place) {
            let problem = fault.problem(self.evaluator.set().sources());
            let help = format!("seen when {}.lua is asked {input}", self.policy);
            self.found.problems.push(Problem { code: code.to_owned(), help, ..problem });
        }
    }
}

/// Callers of every kind, and the requests that differ by them.
fn roles() -> Vec<Value> {
    let bob = json!({ "user": "bob", "gids": [1001, 60], "groups": ["bob", "guests"] });
    let granted = |kind: &str, id: u32, right: &str| json!({ "caller": bob, "workspace": { "access": [{ "kind": kind, "id": id, "right": right }] } });
    vec![
        json!({}),
        json!({ "caller": { "uid": 0 } }),
        json!({ "caller": { "user": "carla", "uid": 1002, "admin": true } }),
        json!({ "caller": bob }),
        json!({ "caller": { "user": "dave", "uid": 1003, "gids": [50], "groups": ["staff"] } }),
        json!({ "caller": { "uid": 0, "user": "vwsd/lease", "gids": [], "groups": [], "admin": true, "system": true } }),
        granted("user", 1001, "view"),
        granted("user", 1001, "use"),
        granted("group", 60, "manage"),
        json!({ "request": { "duration_seconds": 0, "group": null }, "workspace": { "group": null, "lease_until": null } }),
        json!({ "request": { "duration_seconds": LARGE }, "usage": full() }),
        json!({ "request": { "vcpus": LARGE, "memory_mib": LARGE, "disk_gib": LARGE, "addresses": 1000 } }),
        json!({ "request": { "vcpus": 0, "memory_mib": 0, "disk_gib": 0, "target": "stopped" }, "usage": full() }),
        json!({ "request": { "images": [] , "nics": [] } }),
    ]
}

fn full() -> Value {
    let sums = json!({
        "workspaces": LARGE, "running": LARGE, "vcpus": LARGE, "memory_mib": LARGE, "disk_gib": LARGE,
        "reserved_minutes": LARGE, "addresses": LARGE,
    });
    json!({ "owner": sums, "group": sums, "site": sums })
}

/// One input for each way in which a field can differ.
fn variants_of_input(policy: &str) -> Vec<Value> {
    let Some(document) = schema::document(&format!("{policy}_input")) else { return Vec::new() };
    document.fields.iter().flat_map(|field| variants(field).into_iter().map(|value| json!({ (field.name): value }))).collect()
}

/// What a field can be.
fn variants(field: &Field) -> Vec<Value> {
    let mut values = match (field.kind, field.name) {
        (_, "now" | "verb" | "placements_total" | "id") => return Vec::new(),
        // Together or not at all.
        (_, "cluster" | "role") => return Vec::new(),
        (Kind::Text, name) => sample(name).into_iter().map(Value::from).collect(),
        (Kind::Words(words), _) => words.iter().map(|word| Value::from(*word)).collect(),
        (Kind::Number, "uid" | "owner") => vec![json!(0), json!(1001)],
        (Kind::Number, "lease_from" | "lease_until" | "created_at") => vec![json!(0), json!(NOW)],
        (Kind::Number, _) => vec![json!(0), json!(LARGE)],
        (Kind::Flag, _) => vec![json!(true), json!(false)],
        (Kind::Labels, _) => vec![json!({}), json!({ "app": "web", "rack": "r1" })],
        (Kind::Names, _) => vec![json!([]), json!(["disk-limits"])],
        (Kind::Texts, "groups") => vec![json!([]), json!(["guests"])],
        (Kind::Texts, _) => vec![json!([]), json!(["disk-limits"])],
        (Kind::Numbers, _) => vec![json!([]), json!([60])],
        (Kind::One(key), _) => members(key),
        (Kind::Many(key), _) => [json!([])].into_iter().chain(members(key).into_iter().map(|one| json!([one, {}]))).collect(),
    };
    if field.optional {
        values.push(Value::Null);
    }
    if field.name == "request" {
        values.push(json!({ "cluster": "db", "role": "head" }));
    }
    values
}

/// A document for each variant of each of its fields.
fn members(key: &str) -> Vec<Value> {
    let Some(document) = schema::document(key) else { return Vec::new() };
    let mut all: Vec<Value> = Vec::new();
    for field in document.fields {
        for value in variants(field) {
            // Labels of a NIC are those of a network.
            all.push(match (key, field.name) {
                ("nic", "labels" | "address") => json!({ (field.name): value, "network": "lan" }),
                ("nic", "kind") => json!({ "kind": value, "source": "br0" }),
                _ => json!({ (field.name): value }),
            });
        }
    }
    all
}

/// Texts that the field can have.
fn sample(name: &str) -> Vec<&'static str> {
    match name {
        "host" => vec!["h1"],
        "mac" => vec!["52:54:00:00:00:01"],
        "address" => vec!["10.0.0.9"],
        "network" => vec!["lan"],
        "state" => vec!["stopped", "paused", "serialized", "broken", "unknown"],
        "target" => vec!["stopped", "paused"],
        "digest" => vec![""],
        "operating_system" => vec!["windows-11", "ubuntu-24.04"],
        _ => vec!["other"],
    }
}

/// What the scripts themselves speak of.
struct Mined {
    shapes: Vec<Value>,
    hosts: Value,
}

impl Mined {
    fn from(set: &PolicySet) -> Self {
        let mut words = BTreeSet::new();
        let mut numbers = BTreeSet::new();
        for text in set.sources().files.values() {
            literals(text, &mut words, &mut numbers);
        }
        let words: Vec<String> = words.into_iter().take(WORDS).collect();
        let mut shapes = Vec::new();
        for word in &words {
            shapes.push(with_word(word, 1000, Value::Null));
            shapes.push(with_word(word, 0, full()));
            // One word as a label's name and another as its value.
            shapes.extend(labelled(word, &words));
        }
        for number in numbers.into_iter().take(NUMBERS) {
            shapes.push(
                json!({ "request": { "vcpus": number, "memory_mib": number, "disk_gib": number, "duration_seconds": number } }),
            );
            let more = number.saturating_add(1);
            shapes.push(json!({ "request": { "vcpus": more, "memory_mib": more, "disk_gib": more, "duration_seconds": more } }));
        }
        Self { shapes, hosts: hosts(&words) }
    }
}

/// An input in which everything that can be named is called `word`; the caller is 1000.
fn with_word(word: &str, image_owner: u32, usage: Value) -> Value {
    let labels = json!({ (word): "1", "app": word });
    json!({
        "request": {
            "group": word, "operating_system": word, "labels": labels, "needs": [word],
            "images": [{ "name": word, "digest": word, "visibility": "private", "owner": image_owner }],
            "nics": [{ "network": "lan", "address": "10.0.0.9", "labels": labels }, { "kind": "bridge", "source": word }],
        },
        "caller": { "user": word, "uid": 1000, "gids": [50, 60], "groups": ["staff", word] },
        "workspace": { "group": word, "owner_name": word, "labels": labels, "operating_system": word },
        "usage": usage,
        "placements": [
            { "host": "h1", "labels": labels, "group": word }, { "host": "h2", "owner": 7 }, { "labels": labels, "running": false },
        ],
    })
}

fn labelled(word: &str, words: &[String]) -> Option<Value> {
    let others: Map<String, Value> = words.iter().map(|other| (other.clone(), Value::from(word))).collect();
    (!others.is_empty()).then(|| json!({ "request": { "labels": others }, "workspace": { "labels": others } }))
}

/// Hosts of every kind.
fn hosts(words: &[String]) -> Value {
    let all = |value: &str| -> Map<String, Value> { words.iter().map(|word| (word.clone(), Value::from(value))).collect() };
    let mut hosts = BTreeMap::from([
        ("h1".to_owned(), json!({ "labels": { "rack": "r1" }, "workspaces": 3 })),
        ("h2".to_owned(), json!({ "labels": { "rack": "r2" }, "free": { "vcpus": 3, "memory_mib": 3000, "disk_gib": 20 } })),
        ("h3".to_owned(), json!({ "accelerator": null, "hypervisor": null, "arch": null, "capabilities": ["disk-limits"] })),
        ("h4".to_owned(), json!({ "labels": all("1"), "capacity": { "vcpus": LARGE, "memory_mib": LARGE, "disk_gib": LARGE } })),
        ("h5".to_owned(), json!({ "labels": all("true") })),
        ("h6".to_owned(), json!({ "enabled": false })),
        ("h7".to_owned(), json!({ "up": false })),
    ]);
    for (number, word) in words.iter().take(8).enumerate() {
        hosts.insert(format!("w{number}"), json!({ "labels": { "rack": word, "pool": word } }));
    }
    json!(hosts)
}

/// The words and whole numbers that stand in a script, as far as its comments and long strings are told apart.
fn literals(text: &str, words: &mut BTreeSet<String>, numbers: &mut BTreeSet<u64>) {
    for line in text.lines() {
        let mut rest = line.char_indices().peekable();
        while let Some((at, c)) = rest.next() {
            match c {
                '-' if line.get(at..).is_some_and(|rest| rest.starts_with("--")) => break,
                '"' | '\'' => {
                    let mut word = String::new();
                    while let Some((_, inner)) = rest.next_if(|(_, inner)| *inner != c) {
                        word.push(inner);
                    }
                    rest.next();
                    // Sentences and formats are for people.
                    if !word.is_empty() && word.len() <= 64 && !word.contains([' ', '%', '\\']) {
                        words.insert(word);
                    }
                }
                // Letters before the digits: a name.
                'a'..='z' | 'A'..='Z' | '_' => while rest.next_if(|(_, c)| c.is_ascii_alphanumeric() || *c == '_').is_some() {},
                '0'..='9' => {
                    let mut digits = c.to_string();
                    while let Some((_, digit)) = rest.next_if(|(_, c)| c.is_ascii_digit() || *c == '_') {
                        digits.push(digit);
                    }
                    numbers.extend(digits.replace('_', "").parse::<u64>().ok().filter(|number| *number < 1 << 50));
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::literals;
    use std::collections::BTreeSet;

    #[test]
    fn words_and_numbers_of_a_script_are_found() {
        let (mut words, mut numbers) = (BTreeSet::new(), BTreeSet::new());
        let text = "local x2 = { ['ann'] = 16, b = \"two words\" } -- \"no\" 99\nif g == \"students\" then return 8 * 1_024 end";
        literals(text, &mut words, &mut numbers);
        assert_eq!(words.into_iter().collect::<Vec<_>>(), ["ann", "students"]);
        assert_eq!(numbers.into_iter().collect::<Vec<_>>(), [8, 16, 1024]);
    }
}
