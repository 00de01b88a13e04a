//! `vws policy`: the policies in force, and a check of others without a daemon.

use crate::context::Context;
use crate::output::{self, Format, fields};
use crate::record::Record;
use crate::units::local;
use crate::{Result, screen};
use serde_json::json;
use std::path::PathBuf;
use vws_bus::client::Args;
use vws_bus::failure::Failure;
use vws_bus::names;

/// Verbs of `vws policy`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Policy {
    /// Show which policies are in force, and what is wrong with newer files
    Status,
    /// Read the policy folder now; for administrators
    Reload,
    /// Check a policy folder as the daemon would; needs no daemon
    Check(Check),
}

/// Arguments of `vws policy check`.
#[derive(Debug, clap::Args)]
pub(crate) struct Check {
    /// Folder with access.lua, quota.lua and placement.lua
    #[arg(default_value = "/etc/vws/policies")]
    directory: PathBuf,
}

/// Does it.
pub(crate) async fn run(context: &Context, verb: &Policy) -> Result<()> {
    match verb {
        Policy::Status => status(context).await,
        Policy::Reload => match context.client.policy().await?.reload(&Args::new()).await.map_err(Failure::from) {
            Ok(generation) => context.emit(&json!({ "generation": generation }), || format!("generation {generation}")),
            Err(failure) => {
                if failure.is_kind("PolicyFailure") && context.format == Format::Table {
                    let record = Record::new(&context.client.properties(names::ROOT, names::POLICY).await?);
                    screen::say(&problems(&record.list("errors")));
                }
                Err(failure)
            }
        },
        Policy::Check(verb) => check(verb, context.format),
    }
}

async fn status(context: &Context) -> Result<()> {
    let record = Record::new(&context.client.properties(names::ROOT, names::POLICY).await?);
    context.emit(&record.0, || {
        let state = match record.text("state") {
            "good" => "good: the newest files are in force",
            "stale" => "stale: the newest files are not in force, the last good ones are",
            "none" => "none: no policy is in force, every request is refused",
            other => other,
        };
        let mut text = fields(&[
            ("state", state.to_owned()),
            ("generation", record.number("generation").to_string()),
            ("hash", record.text("hash").to_owned()),
            ("in force since", local(record.number("loaded_at"))),
            ("folder", record.text("directory").to_owned()),
            ("files", record.texts("files").join(" ")),
            ("reads", reads(&record)),
        ]);
        let errors = record.list("errors");
        if !errors.is_empty() {
            text.push_str("\n\n");
            text.push_str(&problems(&errors));
        }
        text
    })
}

/// How often the policies were asked who may see what.
fn reads(record: &Record) -> String {
    format!(
        "{} judged, {} answered from memory, {} refused",
        record.number("reads_judged"),
        record.number("reads_remembered"),
        record.number("reads_refused")
    )
}

/// Problems with the lines they are in.
fn problems(problems: &[Record]) -> String {
    let one = |problem: &Record| {
        let place = crate::decision::rule(problem);
        let mut text = format!("{}: {}", screen::shown(&place), screen::shown_lines(problem.text("text")));
        if !problem.text("code").is_empty() {
            text.push_str(&format!(" [{}]", screen::shown(problem.text("code"))));
        }
        let source = problem.text("source");
        if !source.trim().is_empty() {
            let line = problem.number("line").to_string();
            let shown = screen::shown(&source.replace('\t', "    "));
            let trimmed = shown.trim();
            let indent = shown.chars().take_while(|c| c.is_whitespace()).count();
            text.push_str(&format!(
                "\n {line} | {shown}\n {:w$} | {:indent$}{}",
                "",
                "",
                "^".repeat(trimmed.chars().count()),
                w = line.len()
            ));
        }
        if !problem.text("help").is_empty() {
            text.push_str(&format!("\n help: {}", screen::shown_lines(problem.text("help"))));
        }
        text
    };
    problems.iter().map(one).collect::<Vec<_>>().join("\n\n")
}

/// Checks a folder with the daemon's own code.
pub(crate) fn check(verb: &Check, format: Format) -> Result<()> {
    let directory = verb.directory.display().to_string();
    let loaded = vws_policy::Sources::read_dir(&verb.directory)
        .and_then(|sources| vws_policy::PolicySet::load(sources, vws_policy::Limits::default()));
    match loaded {
        Ok(set) => {
            let files: Vec<&str> = set.sources().files.keys().map(String::as_str).collect();
            let hash = &set.hash().0;
            output::emit(
                format,
                &json!({ "directory": directory, "good": true, "hash": hash, "files": files, "problems": [] }),
                || format!("good: {} ({hash})", files.join(" ")),
            )
        }
        Err(found) => {
            let found: Vec<Record> = found
                .iter()
                .map(|p| Record(json!({ "file": p.file, "line": p.line, "code": p.code, "text": p.text, "source": p.source, "help": p.help })))
                .collect();
            let value = json!({ "directory": directory, "good": false, "problems": crate::record::array(&found) });
            output::emit(format, &value, || problems(&found))?;
            let count = if found.len() == 1 { "1 problem".to_owned() } else { format!("{} problems", found.len()) };
            Err(Failure::of_kind(
                "PolicyFailure",
                format!("policies in `{directory}`: {count}; the daemon would keep the last good set"),
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::problems;
    use crate::record::Record;
    use serde_json::json;

    #[test]
    fn a_problem_points_at_its_line() {
        let problem =
            Record(json!({ "file": "quota.lua", "line": 12, "text": "nil", "code": "runtime", "source": "\tlocal x = y.z" }));
        assert_eq!(problems(&[problem]), "quota.lua:12: nil [runtime]\n 12 |     local x = y.z\n    |     ^^^^^^^^^^^^^");
    }
}
