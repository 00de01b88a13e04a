//! The site's own tests: `*_test.lua` beside the policies, each a list of cases, judged by the evaluator that the daemon uses.
//!
//! ```lua
//! -- quota_test.lua
//! return {
//!     { name = "the last vCPU is given, no more",
//!       input = { request = { vcpus = 2 }, usage = { owner = { vcpus = 63 } } },
//!       expect = { verdict = "deny", code = "vcpus-per-user", text = "63 of 64" } },
//! }
//! ```
//!
//! Owns: reading the cases (in the sandbox, under its limits), comparing. Inputs are read by `facts`.

use crate::coverage::Coverage;
use crate::evaluator::Evaluator;
use crate::facts::Question;
use crate::fault::{Fault, FaultKind};
use crate::placement::Placement;
use crate::problem::Problem;
use crate::sandbox::{Overrun, compiler};
use crate::set::{PolicySet, Scripts, syntax};
use crate::source::Sources;
use crate::suggest::nearest;
use crate::verdict::clean;
use crate::{POLICIES, limits::Limits};
use mlua::Value as Lua;
use serde_json::{Map, Value};
use std::sync::Arc;
use std::time::{Duration, Instant};
use vws_domain::{HostOutcome, Verdict};

/// Processor time that reading one test file may take: a file may make its cases in loops.
const READ_DEADLINE: Duration = Duration::from_secs(1);
/// Tables within tables in a test file.
const DEPTH: usize = 16;
/// Values in one test file.
const VALUES: usize = 200_000;

const CASE: [&str; 5] = ["name", "policy", "input", "hosts", "expect"];
const EXPECT: [&str; 9] = ["verdict", "code", "text", "duration_seconds", "memory_mib", "vcpus", "host", "refused", "ranking"];

/// What became of one test.
#[derive(Clone, Debug, PartialEq)]
pub struct TestResult {
    /// The file it stands in.
    pub file: String,
    /// The line of its name, from 1; 0 when unknown (a name that is made by the script).
    pub line: u32,
    /// Its name.
    pub name: String,
    /// The policy that was asked; empty when the case could not be read.
    pub policy: String,
    /// What was expected and is not so, a sentence each; empty: it passed.
    pub failures: Vec<String>,
    /// What the policy answered; `None` when the case could not be read.
    pub verdict: Option<Verdict>,
}

impl TestResult {
    /// Whether it is as expected.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.failures.is_empty()
    }
}

/// What became of the tests of a set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TestReport {
    /// Each test, in the order of files and of the cases in them.
    pub results: Vec<TestResult>,
    /// Test files that could not be read.
    pub problems: Vec<Problem>,
    /// Tests that the filter left out.
    pub filtered: usize,
    /// The lines of the set that the tests ran; empty unless the set counts them.
    pub coverage: Coverage,
    /// How long it took.
    pub micros: u64,
}

impl TestReport {
    /// Whether every file was read and every test passed.
    #[must_use]
    pub fn good(&self) -> bool {
        self.problems.is_empty() && self.failed() == 0
    }

    /// How many tests failed.
    #[must_use]
    pub fn failed(&self) -> usize {
        self.results.iter().filter(|result| !result.passed()).count()
    }
}

/// Runs the tests (see [`Sources::read_tests`]) against the set. `filter`: only tests whose `file: name` has this text in it.
/// The daemon runs the same before a set comes into force.
#[must_use]
pub fn run_tests(set: &Arc<PolicySet>, tests: &Sources, filter: Option<&str>) -> TestReport {
    let start = Instant::now();
    let mut report = TestReport::default();
    match set.evaluator(0) {
        Ok(mut evaluator) => {
            for (file, text) in &tests.files {
                match read(set, tests, file, text) {
                    Ok(cases) => run_file(&mut evaluator, file, text, &cases, filter, &mut report),
                    Err(problem) => report.problems.push(problem),
                }
            }
            report.coverage = evaluator.coverage();
        }
        Err(problems) => report.problems = problems,
    }
    report.micros = crate::verdict::micros_since(start);
    report
}

fn run_file(evaluator: &mut Evaluator, file: &str, text: &str, cases: &[Value], filter: Option<&str>, report: &mut TestReport) {
    for (number, case) in (1_usize..).zip(cases) {
        let named = case.get("name").and_then(Value::as_str);
        let name = named.map_or_else(|| format!("case {number}"), |name| clean(name.as_bytes(), 200));
        if filter.is_some_and(|filter| !format!("{file}: {name}").contains(filter)) {
            report.filtered += 1;
            continue;
        }
        let line = named.and_then(|name| line_of(text, name)).unwrap_or(0);
        let mut result =
            TestResult { file: file.to_owned(), line, name, policy: String::new(), failures: Vec::new(), verdict: None };
        if named.is_none() {
            result.failures.push("the case has no `name`".to_owned());
        }
        match question(file, case) {
            Err(problems) => result.failures.extend(problems),
            Ok((policy, question)) => {
                let answer = evaluator.answer(&question);
                compare(&answer, case.get("expect").unwrap_or(&Value::Null), &mut result.failures);
                result.policy = policy;
                result.verdict = Some(answer.verdict);
            }
        }
        report.results.push(result);
    }
}

/// The line on which the name stands as text.
fn line_of(text: &str, name: &str) -> Option<u32> {
    let quoted = [format!("\"{name}\""), format!("'{name}'")];
    let at = text.lines().position(|line| quoted.iter().any(|quoted| line.contains(quoted)))?;
    u32::try_from(at + 1).ok()
}

/// The policy that the case is for, and what it is asked.
fn question(file: &str, case: &Value) -> Result<(String, Question), Vec<String>> {
    let Some(map) = case.as_object() else { return Err(vec!["the case is not a table".to_owned()]) };
    let mut problems = Vec::new();
    unknown("the case", map, &CASE, &mut problems);
    // `quota_test.lua` is about quota.lua unless a case says otherwise.
    let of_file = POLICIES.into_iter().find(|policy| file.starts_with(policy)).unwrap_or_default();
    let policy = map.get("policy").and_then(Value::as_str).unwrap_or(of_file);
    match map.get("expect").and_then(Value::as_object) {
        Some(expect) if !expect.is_empty() => unknown("expect", expect, &EXPECT, &mut problems),
        _ => problems.push("the case expects nothing: give `expect = { verdict = ... }`".to_owned()),
    }
    if policy.is_empty() {
        problems.push(format!("the case does not say which `policy` it is for: {}", POLICIES.join(", ")));
        return Err(problems);
    }
    let empty = Value::Object(Map::new());
    match Question::read(policy, map.get("input").unwrap_or(&empty), map.get("hosts").unwrap_or(&Value::Null)) {
        Ok(question) if problems.is_empty() => Ok((policy.to_owned(), question)),
        Ok(_) => Err(problems),
        Err(found) => {
            problems.extend(found);
            Err(problems)
        }
    }
}

fn unknown(what: &str, map: &Map<String, Value>, known: &[&str], problems: &mut Vec<String>) {
    for key in map.keys().filter(|key| !known.contains(&key.as_str())) {
        let meant = nearest(key, known.iter().copied());
        let meant = meant.map_or_else(String::new, |meant| format!("; did you mean `{meant}`?"));
        problems.push(format!("{what}: unknown field `{}`{meant}", vws_domain::shown(key)));
    }
}

/// Says what is not as expected.
fn compare(answer: &Placement, expect: &Value, failures: &mut Vec<String>) {
    let verdict = &answer.verdict;
    let came = format!("{} `{}` ({}): {}", verdict.kind.name(), verdict.code, verdict.rule, verdict.text);
    let mut differs = |what: &str, wanted: &Value, is: &str| {
        let wanted = wanted.as_str().map_or_else(|| wanted.to_string(), str::to_owned);
        failures.push(format!("{what}: `{wanted}` is expected, it is {is}; {came}"));
    };
    for (field, wanted) in expect.as_object().into_iter().flatten() {
        let amount = match field.as_str() {
            "duration_seconds" => Some(verdict.restriction.duration_seconds),
            "memory_mib" => Some(verdict.restriction.memory_mib),
            "vcpus" => Some(verdict.restriction.vcpus),
            _ => None,
        };
        if let Some(amount) = amount {
            if amount.is_none() || wanted.as_u64() != amount {
                differs(field, wanted, &amount.map_or_else(|| "not lowered".to_owned(), |amount| amount.to_string()));
            }
            continue;
        }
        match field.as_str() {
            "verdict" if wanted.as_str() != Some(verdict.kind.name()) => differs(field, wanted, verdict.kind.name()),
            "code" if wanted.as_str() != Some(&verdict.code) => differs(field, wanted, &format!("`{}`", verdict.code)),
            "text" if !wanted.as_str().is_some_and(|part| verdict.text.contains(part)) => {
                differs(field, wanted, "not in the text")
            }
            "host" => {
                let host = answer.host.as_ref().map(vws_domain::HostName::as_str);
                if wanted.as_str() != host && !(wanted == &Value::Bool(false) && host.is_none()) {
                    differs(field, wanted, host.unwrap_or("none"));
                }
            }
            "refused" => refused(answer, wanted, &mut differs),
            "ranking" => ranking(answer, wanted, &mut differs),
            _ => {}
        }
    }
}

/// Hosts that are expected to be refused: a list of names, or name to code.
fn refused(answer: &Placement, wanted: &Value, differs: &mut impl FnMut(&str, &Value, &str)) {
    let pairs: Vec<(String, Option<&Value>)> = match wanted {
        Value::Object(map) => map.iter().map(|(host, code)| (host.clone(), Some(code))).collect(),
        Value::Array(list) => list.iter().map(|host| (host.as_str().unwrap_or_default().to_owned(), None)).collect(),
        _ => return differs("refused", wanted, "not a list of hosts, nor a table of host = code"),
    };
    for (host, code) in pairs {
        let outcome = answer.hosts.iter().find(|judged| judged.host.as_str() == host).map(|judged| &judged.outcome);
        let what = format!("refused.{host}");
        let any = Value::String("a refusal".to_owned());
        let code = code.filter(|code| **code != Value::Bool(true));
        match outcome {
            Some(HostOutcome::Filtered { code: is, text, .. }) => {
                if let Some(code) = code
                    && code.as_str() != Some(is)
                {
                    differs(&what, code, &format!("`{is}` ({text})"));
                }
            }
            Some(HostOutcome::Scored(score)) => differs(&what, code.unwrap_or(&any), &format!("eligible, with score {score:.4}")),
            Some(HostOutcome::NotConsidered | HostOutcome::Displaces { .. }) => differs(&what, code.unwrap_or(&any), "eligible"),
            None => differs(&what, code.unwrap_or(&any), "not one of the test's hosts"),
        }
    }
}

/// The eligible hosts, best first.
fn ranking(answer: &Placement, wanted: &Value, differs: &mut impl FnMut(&str, &Value, &str)) {
    let mut scored: Vec<(&str, f64)> = answer
        .hosts
        .iter()
        .filter_map(|judged| match judged.outcome {
            HostOutcome::Scored(score) => Some((judged.host.as_str(), score)),
            _ => None,
        })
        .collect();
    scored.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(b.0)));
    let names: Vec<Value> = scored.iter().map(|(name, _)| Value::from(*name)).collect();
    if *wanted != Value::Array(names) {
        let is: Vec<String> = scored.iter().map(|(name, score)| format!("{name} ({score:.4})")).collect();
        differs("ranking", wanted, &is.join(", "));
    }
}

/// Runs a test file in the sandbox and reads the list that it returns.
fn read(set: &PolicySet, tests: &Sources, file: &str, text: &str) -> Result<Vec<Value>, Problem> {
    let limits = Limits { deadline: READ_DEADLINE, ..*set.limits() };
    let mut sources = set.sources().clone();
    sources.files.extend(tests.files.clone());
    let code = compiler(false).compile(text).map_err(|error| syntax(file, &error, &sources, &limits))?;
    let scripts = Scripts::new(set).map_err(|problems| {
        problems.into_iter().next().unwrap_or_else(|| Problem::new(file, "state", "no Luau state could be made", ""))
    })?;
    scripts.sandbox.budget.start_with(READ_DEADLINE);
    let mut ran = scripts.sandbox.load(file, &code).and_then(|chunk| scripts.ready(&chunk)).and_then(|main| main.call::<Lua>(()));
    if scripts.sandbox.budget.over() && ran.is_ok() {
        ran = Err(mlua::Error::external(Overrun { place: String::new() }));
    }
    let value = ran.map_err(|error| {
        let fault = Fault::from_lua(&error, file, &sources, limits.text_chars);
        Problem { help: "a test file returns a list of cases".to_owned(), ..fault.problem(&sources) }
    })?;
    let shape = |text: String| Problem {
        help: "a test file returns a list of cases: `return { { name = ..., input = {...}, expect = {...} } }`".to_owned(),
        ..Fault::of(FaultKind::Shape, file, text).problem(&sources)
    };
    let mut left = VALUES;
    match plain(&value, DEPTH, &mut left).map_err(shape)? {
        Value::Array(cases) => Ok(cases),
        _ => Err(shape("the file does not return a list of cases".to_owned())),
    }
}

/// A value of a script as a document.
fn plain(value: &Lua, depth: usize, left: &mut usize) -> Result<Value, String> {
    let Some(rest) = left.checked_sub(1) else { return Err(format!("the file has more than {VALUES} values")) };
    *left = rest;
    let Some(deeper) = depth.checked_sub(1) else { return Err(format!("tables are nested more than {DEPTH} deep")) };
    match value {
        Lua::Nil => Ok(Value::Null),
        Lua::Boolean(flag) => Ok(Value::Bool(*flag)),
        Lua::Integer(number) => Ok(Value::from(*number)),
        // Whole amounts are whole numbers, so that they compare as such.
        Lua::Number(number) if number.fract() == 0.0 && (0.0..9.1e15).contains(number) => Ok(Value::from(*number as u64)),
        Lua::Number(number) => Ok(Value::from(*number)),
        Lua::String(text) => Ok(Value::String(text.to_string_lossy())),
        Lua::Table(table) => {
            let length = table.raw_len();
            let mut list = Vec::new();
            let mut map = Map::new();
            for pair in table.pairs::<Lua, Lua>() {
                let (key, value) = pair.map_err(|error| error.to_string())?;
                let value = plain(&value, deeper, left)?;
                match key {
                    Lua::String(key) => {
                        map.insert(key.to_string_lossy(), value);
                    }
                    // In order: these come first, from 1.
                    Lua::Integer(_) | Lua::Number(_) => list.push(value),
                    other => return Err(format!("a {} is the key of a table", other.type_name())),
                }
            }
            match (map.is_empty(), list.is_empty()) {
                (true, _) if list.len() == length => Ok(Value::Array(list)),
                (false, true) => Ok(Value::Object(map)),
                _ => Err("a table is half a list".to_owned()),
            }
        }
        other => Err(format!("a {} is no part of a case", other.type_name())),
    }
}
