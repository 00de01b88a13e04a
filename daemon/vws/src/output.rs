//! Data on stdout: a table, JSON or YAML.

use crate::record::Record;
use crate::{Result, screen};
use comfy_table::{Cell, Color, ContentArrangement, Table};
use serde_json::Value;
use std::io::{IsTerminal, Write};
use vws_bus::failure::Failure;

/// Name of the failure that a closed pipe is: nobody reads any more, so nothing is said.
pub(crate) const BROKEN_PIPE: &str = "broken pipe";
/// Its exit code: what a shell reports of a program that SIGPIPE ended.
pub(crate) const BROKEN_PIPE_EXIT: u8 = 141;

/// The form of data on stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
    /// For programs and people.
    Yaml,
}

/// Writes to stdout.
pub(crate) fn write(bytes: &[u8]) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|error| {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            Failure::new(BROKEN_PIPE, "")
        } else {
            Failure::new("org.freedesktop.DBus.Error.IOError", &format!("cannot write to standard output: {error}"))
        }
    })
}

/// Writes a line to stdout.
pub(crate) fn line(text: &str) -> Result<()> {
    write(format!("{text}\n").as_bytes())
}

/// Writes data: as a document, or as what `table` makes of it.
pub(crate) fn emit(format: Format, value: &Value, table: impl FnOnce() -> String) -> Result<()> {
    match format {
        Format::Table => {
            let text = table();
            if text.is_empty() { Ok(()) } else { line(text.trim_end_matches('\n')) }
        }
        Format::Json => line(&format!("{value:#}")),
        Format::Yaml => line(yaml(value).trim_end()),
    }
}

/// Writes one document of a stream: a line of JSON, or a YAML document.
pub(crate) fn emit_next(format: Format, value: &Value, text: impl FnOnce() -> String) -> Result<()> {
    match format {
        Format::Table => line(&text()),
        Format::Json => line(&value.to_string()),
        Format::Yaml => line(&format!("---\n{}", yaml(value).trim_end())),
    }
}

/// A value as YAML; as JSON, which is YAML too, if that fails.
pub(crate) fn yaml(value: &Value) -> String {
    serde_yaml_ng::to_string(value).unwrap_or_else(|_| value.to_string())
}

/// A table without frames: easy to read, and to cut with tools.
pub(crate) fn table(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.set_header(header.iter().map(Cell::new));
    finish(table, rows)
}

fn finish(mut table: Table, rows: Vec<Vec<String>>) -> String {
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.load_preset(comfy_table::presets::NOTHING);
    let colours = screen::colours(std::io::stdout().is_terminal());
    if colours {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    for row in rows {
        table.add_row(row.into_iter().map(|text| coloured(&screen::shown(&text), colours)));
    }
    let last = table.column_count().saturating_sub(1);
    for (at, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, if at == last { 0 } else { 2 }));
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// States and verdicts have colours; other words have none.
fn coloured(text: &str, colours: bool) -> Cell {
    let cell = Cell::new(text);
    if !colours {
        return cell;
    }
    match text {
        "running" | "up" | "ready" | "done" | "permit" | "good" => cell.fg(Color::Green),
        "paused" | "serialized" | "restrict" | "stale" | "queued" | "importing" | "unprobed" | "starting" | "stopping" => {
            cell.fg(Color::Yellow)
        }
        "broken" | "unknown" | "down" | "damaged" | "failed" | "deny" | "error" | "none" => cell.fg(Color::Red),
        _ => cell,
    }
}

/// `key  value` lines; empty values are left out.
pub(crate) fn fields(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(key, _)| key.len()).max().unwrap_or(0);
    pairs
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(key, value)| format!("{key:width$}  {}", screen::shown(value)))
        .collect::<Vec<_>>()
        .join("\n")
}

/// The last part of an object path, for people: an id or an escaped name; `-` for none.
pub(crate) fn leaf(path: &str) -> String {
    match vws_bus::path::Object::parse(path) {
        Some(vws_bus::path::Object::Host(name) | vws_bus::path::Object::Backend(name) | vws_bus::path::Object::Network(name)) => {
            name
        }
        Some(vws_bus::path::Object::Workspace(id) | vws_bus::path::Object::Image(id) | vws_bus::path::Object::Job(id)) => {
            format!("{id:032x}")
        }
        Some(vws_bus::path::Object::Root) => "-".to_owned(),
        None if path == "/" => "-".to_owned(),
        None => path.to_owned(),
    }
}

/// The row of a workspace in lists.
pub(crate) const WORKSPACE_HEADER: [&str; 9] = ["NAME", "STATE", "HOST", "VCPUS", "MEMORY", "LEFT", "CLASS", "OWNER", "ID"];

/// The same.
pub(crate) fn workspace_row(workspace: &Record, now: u64) -> Vec<String> {
    let or_dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    vec![
        workspace.text("name").to_owned(),
        workspace.text("state").to_owned(),
        or_dash(workspace.text("host")),
        workspace.number("vcpus").to_string(),
        crate::units::mib(workspace.number("memory_mib")),
        crate::units::left(workspace.number("lease_until"), now),
        if workspace.flag("preemptible") { "preemptible" } else { "-" }.to_owned(),
        or_dash(workspace.text("owner_name")),
        workspace.text("id").to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::{fields, leaf, table};

    #[test]
    fn tables_have_no_frame_and_no_trailing_space() {
        let text =
            table(&["NAME", "STATE"], vec![vec!["web".to_owned(), "running".to_owned()], vec!["a\nb".to_owned(), String::new()]]);
        assert_eq!(text, "NAME  STATE\nweb   running\na\\nb");
    }

    #[test]
    fn fields_leave_out_what_is_empty() {
        assert_eq!(fields(&[("name", "web".to_owned()), ("host", String::new()), ("id", "1".to_owned())]), "name  web\nid    1");
    }

    #[test]
    fn leaves_are_ids_or_names() {
        assert_eq!(leaf("/org/virtualworkspaces1/hosts/h_2d1"), "h-1");
        assert_eq!(leaf("/"), "-");
        assert_eq!(leaf("/org/virtualworkspaces1/jobs/j0000000000000000000000000000000a"), "0000000000000000000000000000000a");
    }
}
