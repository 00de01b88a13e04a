//! `vws list`: workspaces, once or as they change. Changes come from signals, never from asking again and again.

use crate::context::Context;
use crate::launch::{labels, pair};
use crate::output::{Format, WORKSPACE_HEADER, emit_next, table, workspace_row};
use crate::record::{self, Record};
use crate::units::now;
use crate::{Result, find};
use futures_util::StreamExt;
use std::collections::BTreeMap;
use vws_bus::client::Args;
use vws_bus::path::Object;
use vws_bus::{keys, names};
use zbus::{MatchRule, MessageStream, Variant};

/// Arguments of `vws list`.
#[derive(Debug, clap::Args)]
pub(crate) struct List {
    /// Go on with a line for each change
    #[arg(short, long)]
    watch: bool,
    /// Only in this state
    #[arg(long)]
    state: Option<String>,
    /// Only on this host
    #[arg(long)]
    host: Option<String>,
    /// Only of this user id
    #[arg(long, value_name = "UID")]
    owner: Option<u32>,
    /// Only with this label; repeatable
    #[arg(long, value_parser = pair, value_name = "KEY=VALUE")]
    label: Vec<(String, String)>,
}

/// Does it.
pub(crate) async fn run(context: &Context, verb: &List) -> Result<()> {
    let mut filter = Args::new();
    if let Some(state) = &verb.state {
        filter.insert(keys::STATE, Variant::from(state.clone()));
    }
    if let Some(host) = &verb.host {
        filter.insert(keys::HOST, Variant::from(host.clone()));
    }
    if let Some(owner) = verb.owner {
        filter.insert(keys::OWNER, Variant::from(owner));
    }
    if !verb.label.is_empty() {
        filter.insert(keys::LABEL, labels(&verb.label));
    }
    if verb.watch {
        return watch(context, verb, &filter).await;
    }
    let mut all = find::workspaces(context, &filter).await?;
    all.sort_by(|a, b| (a.text("name"), a.text("id")).cmp(&(b.text("name"), b.text("id"))));
    context.emit(&record::array(&all), || rows(&all))?;
    if all.is_empty() {
        context.say("no workspaces; `vws launch IMAGE` makes one, `vws image list` shows images");
    }
    Ok(())
}

fn rows(all: &[Record]) -> String {
    let now = now();
    table(&WORKSPACE_HEADER, all.iter().map(|workspace| workspace_row(workspace, now)).collect())
}

async fn watch(context: &Context, verb: &List, filter: &Args<'_>) -> Result<()> {
    // Signals first, then the list: nothing is lost in between.
    let rule =
        MatchRule::builder().msg_type(zbus::message::Type::Signal).sender(names::BUS).path_namespace(names::ROOT).build()?;
    let mut signals = MessageStream::for_match_rule(rule, context.client.connection(), None).await?;
    context.subscribe().await?;
    let mut known: BTreeMap<String, Record> = BTreeMap::new();
    let all = find::workspaces(context, filter).await?;
    if context.format == Format::Table {
        crate::output::line(&columns(&WORKSPACE_HEADER.map(str::to_owned)))?;
    }
    for workspace in all {
        emit_next(context.format, &workspace.0, || columns(&workspace_row(&workspace, now())))?;
        known.insert(workspace.text("path").to_owned(), workspace);
    }
    let mut interrupts = crate::follow::interrupts()?;
    loop {
        let signal = tokio::select! {
            signal = signals.next() => signal,
            Some(()) = interrupts.recv() => return Ok(()),
        };
        let Some(signal) = signal else {
            return Err(vws_bus::failure::Failure::new(
                "org.freedesktop.DBus.Error.Disconnected",
                "the bus closed the connection",
            ));
        };
        let Some(path) = changed(&signal?) else { continue };
        let Some(object @ Object::Workspace(_)) = Object::parse(&path) else { continue };
        let record = match find::at(context, &object).await? {
            Some(found) => found.record,
            None => match known.remove(&path) {
                Some(record) => record.with("state", "gone".into()),
                None => continue,
            },
        };
        // Only the last state of what is listed is of interest, once.
        let same = known.get(&path).is_some_and(|old| workspace_row(old, 0) == workspace_row(&record, 0));
        let fits = wanted(verb, &record) || known.contains_key(&path) || record.text("state") == "gone";
        if same || !fits {
            continue;
        }
        emit_next(context.format, &record.0, || columns(&workspace_row(&record, now())))?;
        if record.text("state") != "gone" {
            known.insert(path, record);
        }
    }
}

/// The object that a signal is about.
fn changed(signal: &zbus::Message) -> Option<String> {
    let header = signal.header();
    match header.member()?.as_str() {
        "PropertiesChanged" => Some(header.path()?.to_string()),
        "InterfacesAdded" | "InterfacesRemoved" => {
            match signal.body().deserialize::<zbus::Structure<'_>>().ok()?.fields().first()? {
                Variant::ObjectPath(path) => Some(path.to_string()),
                _ => None,
            }
        }
        _ => None,
    }
}

fn wanted(verb: &List, workspace: &Record) -> bool {
    let labels = workspace.inner("labels");
    verb.state.as_ref().is_none_or(|state| state == workspace.text("state"))
        && verb.host.as_ref().is_none_or(|host| host == workspace.text("host"))
        && verb.owner.is_none_or(|owner| u64::from(owner) == workspace.number("owner"))
        && verb.label.iter().all(|(key, value)| labels.text(key) == value)
}

/// A row in columns that are fixed beforehand: nobody knows the words that will come.
fn columns(row: &[String]) -> String {
    let widths = [16, 12, 12, 6, 7, 7, 10];
    let cells: Vec<String> = row
        .iter()
        .enumerate()
        .map(|(at, text)| format!("{:1$}", crate::screen::shown(text), widths.get(at).copied().unwrap_or(0)))
        .collect();
    cells.join("  ").trim_end().to_owned()
}
