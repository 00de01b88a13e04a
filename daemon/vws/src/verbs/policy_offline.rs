//! `vws policy check | test | eval | new`: a policy folder without a daemon, judged by the code that the daemon runs.

use crate::output::{self, Format, fields};
use crate::record::Record;
use crate::{Result, screen};
use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteDiagnostic, NamedSource, Report};
use serde_json::{Value, json};
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use vws_bus::failure::Failure;
use vws_policy::{Coverage, Limits, PolicySet, Problem, Question, Sources, TestReport, TestResult};

/// Verbs that need no daemon.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Offline {
    /// Check a policy folder: compile it, load it, ask it about inputs of every kind
    Check(Folder),
    /// Run the tests beside the policies (*_test.lua)
    Test(Test),
    /// Ask one policy about an input from a file
    Eval(Eval),
    /// Make a policy folder: the shipped policies, their tests, settings of editors
    New(New),
}

/// A policy folder.
#[derive(Debug, clap::Args)]
pub(crate) struct Folder {
    /// Folder with access.lua, quota.lua and placement.lua
    #[arg(default_value = "/etc/vws/policies")]
    directory: PathBuf,
}

/// Arguments of `vws policy test`.
#[derive(Debug, clap::Args)]
pub(crate) struct Test {
    #[command(flatten)]
    folder: Folder,
    /// Only tests whose `FILE: NAME` has this text in it
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Write the results as JUnit XML
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

/// Arguments of `vws policy eval`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The input is a JSON document of the manual's fields (`request`, `caller`, `workspace`, `usage`, ...) as far as \
they matter; the rest is a plain launch by `ann`. `hosts` are for placement: { \"h1\": { \"labels\": {...}, \"free\": {...} } }.\n\
A refusal is an answer: the exit code is 0 unless the policy fails (9)."
)]
pub(crate) struct Eval {
    #[command(flatten)]
    folder: Folder,
    /// Policy to ask: access, quota or placement
    #[arg(long, value_parser = vws_policy::POLICIES)]
    policy: String,
    /// File with the input; - for standard input
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
}

/// Arguments of `vws policy new`.
#[derive(Debug, clap::Args)]
pub(crate) struct New {
    /// Folder to make; it must not exist, or be empty
    directory: PathBuf,
}

/// Does it.
pub(crate) fn run(verb: &Offline, format: Format) -> Result<()> {
    match verb {
        Offline::Check(folder) => check(&folder.directory, format),
        Offline::Test(verb) => test(verb, format),
        Offline::Eval(verb) => eval(verb, format),
        Offline::New(verb) => new(&verb.directory, format),
    }
}

/// The set of a folder whose lines are counted, and its sources; or what is wrong with it, with the sources as far as they were read.
fn load(directory: &Path) -> std::result::Result<Arc<PolicySet>, (Vec<Problem>, Sources)> {
    let sources = Sources::read_dir(directory).map_err(|problems| (problems, Sources::default()))?;
    PolicySet::load_counting(sources.clone(), Limits::default()).map(Arc::new).map_err(|problems| (problems, sources))
}

fn check(directory: &Path, format: Format) -> Result<()> {
    let set = match load(directory) {
        Ok(set) => set,
        Err((found, sources)) => return refuse(directory, &found, &sources, format),
    };
    let examined = vws_policy::examine(&set);
    if !examined.problems.is_empty() {
        return refuse(directory, &examined.problems, set.sources(), format);
    }
    let files: Vec<&str> = set.sources().files.keys().map(String::as_str).collect();
    let unreached = unreached(&examined.coverage);
    let value = json!({
        "directory": directory.display().to_string(), "good": true, "hash": set.hash().0, "files": files, "problems": [],
        "questions": examined.questions, "complete": examined.complete, "unreached": unreached.json(),
        "micros": examined.micros, "limits": limits(set.limits()),
    });
    output::emit(format, &value, || {
        let mut text = format!(
            "good: {} ({})\n{} questions in {} ms, none failed",
            files.join(" "),
            set.hash().0,
            examined.questions,
            examined.micros / 1000
        );
        if !examined.complete {
            text.push_str("; not all were asked, the policies are too slow");
        }
        if !unreached.0.is_empty() {
            text.push_str(&format!(
                "\nnot reached by any of them, so not examined: {}; a test can ask (`vws policy test`)",
                unreached.text()
            ));
        }
        text
    })
}

/// Says what is wrong, and fails.
fn refuse(directory: &Path, found: &[Problem], sources: &Sources, format: Format) -> Result<()> {
    let directory = directory.display().to_string();
    let value = json!({ "directory": directory, "good": false, "problems": found.iter().map(problem_json).collect::<Vec<_>>() });
    output::emit(format, &value, || {
        found
            .iter()
            .map(|problem| render(problem, sources.files.get(&problem.file).map(String::as_str)))
            .collect::<Vec<_>>()
            .join("\n")
    })?;
    let count = if found.len() == 1 { "1 problem".to_owned() } else { format!("{} problems", found.len()) };
    Err(Failure::of_kind("PolicyFailure", format!("policies in `{directory}`: {count}")))
}

fn problem_json(problem: &Problem) -> Value {
    let span = problem.span();
    // Columns are of characters, from 1.
    let chars = |end: usize| problem.source.get(..end).map_or(0, |text| text.chars().count());
    let (from, to) = (chars(span.start), chars(span.end));
    json!({
        "file": problem.file, "line": problem.line, "column": if problem.line == 0 { 0 } else { from + 1 }, "width": to - from,
        "code": problem.code, "text": problem.text, "source": problem.source, "help": problem.help,
    })
}

/// A problem with its line and carets. Without the file's text its line alone is shown.
fn render(problem: &Problem, text: Option<&str>) -> String {
    let shown = Problem { text: screen::shown_lines(&problem.text), help: screen::shown_lines(&problem.help), ..problem.clone() };
    let mut diagnostic = MietteDiagnostic::new(&shown.text).with_code(format!("policy::{}", screen::shown(&problem.code)));
    if !shown.help.is_empty() {
        diagnostic = diagnostic.with_help(&shown.help);
    }
    let before = usize::try_from(problem.line.saturating_sub(1)).unwrap_or(0);
    // Nothing but the line: it stands where it stood.
    let source = text.map_or_else(|| format!("{}{}\n", "\n".repeat(before.min(100_000)), problem.source), str::to_owned);
    let mut out = String::new();
    if problem.line > 0 {
        let start: usize = source.split_inclusive('\n').take(before).map(str::len).sum();
        let span = problem.span();
        diagnostic = diagnostic.with_label(LabeledSpan::underline(start + span.start..start + span.end));
    } else {
        diagnostic.message = format!("{}: {}", screen::shown(&problem.file), diagnostic.message);
    }
    let source: String = source.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { ' ' } else { c }).collect();
    let report = Report::new(diagnostic).with_source_code(NamedSource::new(screen::shown(&problem.file), source));
    let theme = if screen::colours(std::io::stdout().is_terminal()) {
        GraphicalTheme::unicode()
    } else {
        GraphicalTheme::unicode_nocolor()
    };
    let handler = GraphicalReportHandler::new_themed(theme)
        .with_width(110)
        .with_context_lines(usize::from(text.is_some()))
        .with_links(false);
    // Writing to a String cannot fail.
    let _ = handler.render_report(&mut out, report.as_ref());
    out
}

/// Problems as the daemon tells them, with the lines they are in.
pub(crate) fn problems(found: &[Record]) -> String {
    let one = |record: &Record| {
        let problem = Problem {
            file: record.text("file").to_owned(),
            line: u32::try_from(record.number("line")).unwrap_or(0),
            code: record.text("code").to_owned(),
            text: record.text("text").to_owned(),
            source: record.text("source").to_owned(),
            help: record.text("help").to_owned(),
        };
        render(&problem, None)
    };
    found.iter().map(one).collect::<Vec<_>>().join("\n")
}

/// Lines that nobody ran: file, first, last.
struct Unreached(Vec<(String, u32, u32)>);

impl Unreached {
    fn json(&self) -> Value {
        self.0.iter().map(|(file, first, last)| json!({ "file": file, "first": first, "last": last })).collect()
    }

    fn text(&self) -> String {
        let one = |(file, first, last): &(String, u32, u32)| {
            if first == last { format!("{file}:{first}") } else { format!("{file}:{first}-{last}") }
        };
        let shown: Vec<String> = self.0.iter().take(12).map(one).collect();
        let more = self.0.len().saturating_sub(shown.len());
        shown.join(", ") + &if more == 0 { String::new() } else { format!(" and {more} more") }
    }
}

fn unreached(coverage: &Coverage) -> Unreached {
    let of =
        |file: &String| coverage.missed(file).into_iter().map(|(first, last)| (file.clone(), first, last)).collect::<Vec<_>>();
    Unreached(coverage.files.keys().flat_map(of).collect())
}

fn limits(limits: &Limits) -> Value {
    limits
        .named()
        .into_iter()
        .map(|(name, value, _)| (name.to_owned(), Value::from(value)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn test(verb: &Test, format: Format) -> Result<()> {
    let directory = &verb.folder.directory;
    let set = match load(directory) {
        Ok(set) => set,
        Err((found, sources)) => return refuse(directory, &found, &sources, format),
    };
    let tests = match Sources::read_tests(directory) {
        Ok(tests) => tests,
        Err(found) => return refuse(directory, &found, &Sources::default(), format),
    };
    let report = vws_policy::run_tests(&set, &tests, verb.filter.as_deref());
    if let Some(path) = &verb.junit {
        write_file(path, &junit(&report))?;
    }
    let (ran, lines) = report.coverage.lines();
    let never = unreached(&report.coverage);
    let value = json!({
        "directory": directory.display().to_string(), "good": report.good(), "tests": report.results.len(),
        "failed": report.failed(), "filtered": report.filtered, "results": report.results.iter().map(result_json).collect::<Vec<_>>(),
        "problems": report.problems.iter().map(problem_json).collect::<Vec<_>>(),
        "coverage": { "lines": lines, "ran": ran, "never": never.json() }, "micros": report.micros,
    });
    output::emit(format, &value, || {
        let mut text = String::new();
        for problem in &report.problems {
            text.push_str(&render(problem, tests.files.get(&problem.file).map(String::as_str)));
            text.push('\n');
        }
        text + &table(&report, ran, lines, &never)
    })?;
    if report.results.is_empty() && report.problems.is_empty() {
        let why = if report.filtered > 0 { "the filter leaves none of the tests" } else { "there are no tests (*_test.lua)" };
        return Err(Failure::of_kind("PolicyFailure", format!("policies in `{}`: {why}", directory.display())));
    }
    if report.good() {
        return Ok(());
    }
    let mut what = Vec::new();
    if report.failed() > 0 {
        what.push(format!("{} of {} tests failed", report.failed(), report.results.len()));
    }
    if !report.problems.is_empty() {
        what.push(format!("{} test files could not be read", report.problems.len()));
    }
    Err(Failure::of_kind("PolicyFailure", format!("policies in `{}`: {}", directory.display(), what.join(", "))))
}

fn result_json(result: &TestResult) -> Value {
    json!({
        "file": result.file, "line": result.line, "name": result.name, "policy": result.policy, "passed": result.passed(),
        "failures": result.failures, "micros": result.verdict.as_ref().map_or(0, |verdict| verdict.micros),
    })
}

fn table(report: &TestReport, ran: usize, lines: usize, never: &Unreached) -> String {
    let mut text = String::new();
    let mut file = "";
    for result in &report.results {
        if result.file != file {
            file = &result.file;
            text.push_str(&format!("{}\n", screen::shown(file)));
        }
        let word = if result.passed() { "ok  " } else { "FAIL" };
        let place =
            if result.passed() || result.line == 0 { String::new() } else { format!("  ({}:{})", result.file, result.line) };
        text.push_str(&format!("  {word}  {}{}\n", screen::shown(&result.name), screen::shown(&place)));
        for failure in &result.failures {
            text.push_str(&format!("        {}\n", screen::shown(failure)));
        }
    }
    text.push_str(&format!(
        "{} tests, {} failed{}, {} ms",
        report.results.len(),
        report.failed(),
        if report.filtered > 0 { format!(", {} left out", report.filtered) } else { String::new() },
        report.micros / 1000
    ));
    if lines > 0 {
        text.push_str(&format!("; they ran {ran} of {lines} lines"));
        if !never.0.is_empty() && report.filtered == 0 {
            text.push_str(&format!(", never {}", never.text()));
        }
    }
    text
}

/// The results as JUnit XML: a suite a file.
fn junit(report: &TestReport) -> String {
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let errors = report.problems.len();
    text.push_str(&format!(
        "<testsuites tests=\"{}\" failures=\"{}\" errors=\"{errors}\">\n",
        report.results.len(),
        report.failed()
    ));
    for problem in &report.problems {
        let file = xml(&problem.file);
        text.push_str(&format!(
            "  <testsuite name=\"{file}\" tests=\"1\" failures=\"0\" errors=\"1\">\n    <testcase classname=\"{file}\" name=\"{file}\">\
             <error type=\"{}\" message=\"{}\"/></testcase>\n  </testsuite>\n",
            xml(&problem.code),
            xml(&problem.to_string())
        ));
    }
    for suite in report.results.chunk_by(|one, other| one.file == other.file) {
        let Some(first) = suite.first() else { continue };
        let failed = suite.iter().filter(|result| !result.passed()).count();
        let file = xml(&first.file);
        text.push_str(&format!("  <testsuite name=\"{file}\" tests=\"{}\" failures=\"{failed}\" errors=\"0\">\n", suite.len()));
        for result in suite {
            let seconds = result.verdict.as_ref().map_or(0, |verdict| verdict.micros) as f64 / 1e6;
            text.push_str(&format!("    <testcase classname=\"{file}\" name=\"{}\" time=\"{seconds:.6}\"", xml(&result.name)));
            if result.passed() {
                text.push_str("/>\n");
            } else {
                let all = result.failures.join("\n");
                let place = format!("{}:{}", result.file, result.line);
                text.push_str(&format!("><failure message=\"{}\">{}</failure></testcase>\n", xml(&all), xml(&place)));
            }
        }
        text.push_str("  </testsuite>\n");
    }
    text.push_str("</testsuites>\n");
    text
}

fn xml(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push_str("&#10;"),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

fn io(what: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::new("org.freedesktop.DBus.Error.IOError", &format!("`{}`: cannot {what}: {error}", path.display()))
}

fn write_file(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(|error| io("be written", path, &error))
}

/// Bytes of an input that are read.
const INPUT_BYTES: u64 = 4 * 1024 * 1024;

fn eval(verb: &Eval, format: Format) -> Result<()> {
    let directory = &verb.folder.directory;
    let set = match load(directory) {
        Ok(set) => set,
        Err((found, sources)) => return refuse(directory, &found, &sources, format),
    };
    let mut text = String::new();
    let read = if verb.input.as_os_str() == "-" {
        std::io::stdin().lock().take(INPUT_BYTES).read_to_string(&mut text)
    } else {
        std::fs::File::open(&verb.input).and_then(|file| file.take(INPUT_BYTES).read_to_string(&mut text))
    };
    read.map_err(|error| io("be read", &verb.input, &error))?;
    let wrong = |fact: String| Failure::of_kind("InvalidArgument", format!("input `{}`: {fact}", verb.input.display()));
    let mut input: Value = serde_json::from_str(&text).map_err(|error| wrong(format!("is not JSON: {error}")))?;
    let hosts = input.as_object_mut().and_then(|map| map.remove("hosts")).unwrap_or(Value::Null);
    let question = Question::read(&verb.policy, &input, &hosts).map_err(|found| wrong(found.join("; ")))?;
    let answer = set
        .evaluator(0)
        .map_err(|found| Failure::of_kind("PolicyFailure", found.iter().map(Problem::to_string).collect::<Vec<_>>().join("; ")))?
        .answer(&question);
    let verdict = &answer.verdict;
    let line = set.source_line(&verdict.rule).unwrap_or_default();
    let asked = question.request();
    let hosts: Vec<Value> = answer.hosts.iter().map(host_json).collect();
    let lowered = verdict.restriction;
    let value = json!({
        "policy": verdict.policy, "verdict": verdict.kind.name(), "code": verdict.code, "text": verdict.text,
        "rule": { "file": verdict.rule.file, "line": verdict.rule.line, "source": line },
        "restriction": { "duration_seconds": lowered.duration_seconds, "memory_mib": lowered.memory_mib, "vcpus": lowered.vcpus },
        "host": answer.host.as_ref().map(ToString::to_string), "hosts": hosts, "micros": verdict.micros,
        "asked": { "verb": asked.verb.name(), "user": question.caller().user, "group": asked.group, "vcpus": asked.resources.vcpus,
            "memory_mib": asked.resources.memory_mib, "disk_gib": asked.resources.disk_gib, "duration_seconds": asked.duration_seconds },
        "limits": limits(set.limits()),
    });
    output::emit(format, &value, || {
        let amounts = asked.resources;
        let mut lower = Vec::new();
        lower.extend(lowered.duration_seconds.map(|n| format!("lease {n} s")));
        lower.extend(lowered.memory_mib.map(|n| format!("{n} MiB of memory")));
        lower.extend(lowered.vcpus.map(|n| format!("{n} vCPUs")));
        let budget: Vec<String> = set.limits().named().into_iter().take(4).map(|(name, is, _)| format!("{name} {is}")).collect();
        let mut text = fields(&[
            ("verdict", format!("{} {}", verdict.kind.name(), verdict.code)),
            ("because", verdict.text.clone()),
            ("at most", lower.join(", ")),
            ("rule", verdict.rule.to_string()),
            ("line", line.trim().to_owned()),
            (
                "asked",
                format!(
                    "{} by {}, group {}: {} vCPUs, {} MiB, {} GiB, lease {} s",
                    asked.verb.name(),
                    question.caller().user,
                    if asked.group.is_empty() { "none" } else { &asked.group },
                    amounts.vcpus,
                    amounts.memory_mib,
                    amounts.disk_gib,
                    asked.duration_seconds
                ),
            ),
            ("took", format!("{} us", verdict.micros)),
            ("limits", budget.join(", ")),
        ]);
        if !hosts.is_empty() {
            let rows = hosts.iter().map(|host| {
                let text = |key: &str| {
                    host.get(key)
                        .map_or_else(String::new, |value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
                };
                vec![text("host"), text("outcome"), text("rule"), text("text")]
            });
            text.push_str("\n\n");
            text.push_str(&output::table(&["HOST", "OUTCOME", "RULE", "WHY"], rows.collect()));
        }
        text
    })?;
    if verdict.kind.name() == "error" {
        return Err(Failure::of_kind("PolicyFailure", format!("policy `{}` failed: {}", verdict.policy, verdict.text)));
    }
    Ok(())
}

fn host_json(judged: &vws_policy::HostJudgement) -> Value {
    let host = judged.host.to_string();
    match &judged.outcome {
        vws_policy::HostOutcome::Filtered { rule, code, text } => {
            json!({ "host": host, "outcome": code, "rule": rule.to_string(), "text": text })
        }
        vws_policy::HostOutcome::Scored(score) => {
            json!({ "host": host, "outcome": "eligible", "score": score, "text": format!("score {score:.4}") })
        }
        vws_policy::HostOutcome::Displaces { score, text } => {
            json!({ "host": host, "outcome": "displaces", "score": score, "text": text })
        }
        vws_policy::HostOutcome::NotConsidered => {
            json!({ "host": host, "outcome": "not-considered", "text": "ranked below those that were looked at" })
        }
    }
}

fn new(directory: &Path, format: Format) -> Result<()> {
    let shown = directory.display().to_string();
    let taken = || Failure::of_kind("AlreadyExists", format!("folder `{shown}` is not empty; name another, or empty it"));
    match std::fs::read_dir(directory) {
        Ok(mut entries) => {
            if entries.next().is_some() {
                return Err(taken());
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(io("be listed", directory, &error)),
    }
    let files = vws_policy::scaffold();
    for (name, text) in &files {
        let path = directory.join(name);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|error| io("be made", folder, &error))?;
        }
        write_file(&path, text)?;
    }
    let names: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
    output::emit(format, &json!({ "directory": shown, "files": names }), || {
        format!(
            "{}\nnext: vws policy check {shown} && vws policy test {shown}",
            names.iter().map(|name| format!("{shown}/{name}")).collect::<Vec<_>>().join("\n")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::{junit, problem_json, problems, render};
    use crate::record::Record;
    use serde_json::json;
    use vws_policy::{Problem, TestReport, TestResult};

    fn problem() -> Problem {
        Problem {
            file: "quota.lua".to_owned(),
            line: 3,
            code: "unknown-field".to_owned(),
            text: "unknown field `memroy` of request; did you mean `memory_mib`?".to_owned(),
            source: "    local m = input.request.memroy".to_owned(),
            help: "mend it".to_owned(),
        }
    }

    #[test]
    fn a_problem_points_at_its_word() {
        let text = "-- a\nlocal function decide(input)\n    local m = input.request.memroy\nend\n";
        let shown = render(&problem(), Some(text));
        assert!(shown.contains("policy::unknown-field") && shown.contains("quota.lua:3:29"), "{shown}");
        assert!(shown.contains(" 3 │     local m = input.request.memroy\n   ·                             ──────"), "{shown}");
        assert!(shown.contains("2 │ local function") && shown.contains("help: mend it"), "{shown}");
        // As told by the daemon: the line alone.
        let record = Record(
            json!({ "file": "quota.lua", "line": 3, "code": "runtime", "text": "nil", "source": "\tlocal x = y.z", "help": "" }),
        );
        let shown = problems(&[record]);
        assert!(shown.contains("quota.lua:3:") && shown.contains("local x = y.z") && !shown.contains("help"), "{shown}");
        let whole = render(&Problem { line: 0, ..problem() }, None);
        assert!(whole.contains("quota.lua: unknown field"), "{whole}");
        assert_eq!(problem_json(&problem())["column"], 29);
        assert_eq!(problem_json(&problem())["width"], 6);
    }

    #[test]
    fn a_line_cannot_send_escape_sequences() {
        let evil = Problem { source: "x = \u{1b}[31m".to_owned(), text: "\u{1b}[2J".to_owned(), ..problem() };
        assert!(!render(&evil, Some("\n\nx = \u{1b}[31m\n")).contains('\u{1b}'));
    }

    #[test]
    fn junit_is_well_formed() {
        let result = |name: &str, failures: &[&str]| TestResult {
            file: "quota_test.lua".to_owned(),
            line: 2,
            name: name.to_owned(),
            policy: "quota".to_owned(),
            failures: failures.iter().map(|text| (*text).to_owned()).collect(),
            verdict: None,
        };
        let report = TestReport {
            results: vec![result("a < \"b\"", &[]), result("c", &["x & y", "z"])],
            problems: vec![problem()],
            ..TestReport::default()
        };
        let text = junit(&report);
        assert!(text.contains("<testsuites tests=\"2\" failures=\"1\" errors=\"1\">"), "{text}");
        assert!(text.contains("name=\"a &lt; &quot;b&quot;\" time=\"0.000000\"/>"), "{text}");
        assert!(text.contains("<failure message=\"x &amp; y&#10;z\">quota_test.lua:2</failure>"), "{text}");
        assert_eq!(text.matches("<testsuite ").count(), text.matches("</testsuite>").count());
    }
}
