//! `vws info`: everything about a workspace.

use crate::context::Context;
use crate::output::{fields, leaf, table};
use crate::record::Record;
use crate::units::{bytes, left, local, mib, now};
use crate::{Result, find};
use vws_bus::client::Args;

/// Arguments of `vws info`.
#[derive(Debug, clap::Args)]
pub(crate) struct Info {
    /// Name or id of the workspace
    workspace: String,
}

/// Does it.
pub(crate) async fn run(context: &Context, verb: &Info) -> Result<()> {
    let found = find::workspace(context, &verb.workspace).await?;
    let description = Record::new(&context.client.workspace(&found.path).await?.describe(&Args::new()).await?);
    let record = found.record.with("description", description.0.clone());
    context.emit(&record.0, || text(&record, &description))
}

fn text(workspace: &Record, description: &Record) -> String {
    let cause = workspace.texts("cause");
    let until = workspace.number("lease_until");
    let spec = description.inner("spec");
    let lease = if until == 0 {
        "no end".to_owned()
    } else {
        format!("until {} ({} left), then {}", local(until), left(until, now()), workspace.text("lease_action"))
    };
    let number = |n: u64| if n == 0 { String::new() } else { n.to_string() };
    let mut parts = vec![fields(&[
        ("name", workspace.text("name").to_owned()),
        ("id", workspace.text("id").to_owned()),
        ("state", workspace.text("state").to_owned()),
        ("target", workspace.text("target").to_owned()),
        ("cause", cause.iter().rev().copied().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(" - ")),
        ("host", workspace.text("host").to_owned()),
        ("job", if workspace.text("job") == "/" { String::new() } else { leaf(workspace.text("job")) }),
        ("owner", format!("{} (uid {})", workspace.text("owner_name"), workspace.number("owner"))),
        ("group", workspace.text("group").to_owned()),
        ("image", workspace.text("image").to_owned()),
        ("vcpus", workspace.number("vcpus").to_string()),
        ("cpu shares", number(spec.number("cpu_shares"))),
        ("memory", mib(workspace.number("memory_mib"))),
        ("disk", format!("{}G", workspace.number("disk_gib"))),
        ("lease", lease),
        ("class", if workspace.flag("preemptible") { "pre-emptible" } else { "" }.to_owned()),
        ("labels", workspace.pairs("labels")),
        ("guest", spec.text("operating_system").to_owned()),
        (
            "user data",
            number(description.number("user_data_bytes")).trim().to_owned()
                + if description.number("user_data_bytes") > 0 { " bytes" } else { "" },
        ),
        (
            "deployed",
            match description.number("deployments") {
                0 => String::new(),
                1 => "once".to_owned(),
                n => format!("{n} times"),
            },
        ),
        ("created", local(workspace.number("created_at"))),
        ("changed", local(workspace.number("changed_at"))),
    ])];
    let nics = spec.list("nics");
    if !nics.is_empty() {
        let limit = |n: u64| if n == 0 { "-".to_owned() } else { format!("{n} KiB/s") };
        let rows = nics
            .iter()
            .map(|nic| {
                vec![
                    if nic.has("network") { nic.text("network") } else { nic.text("kind") }.to_owned(),
                    nic.text("source").to_owned(),
                    nic.text("address").to_owned(),
                    nic.text("mac").to_owned(),
                    limit(nic.number("inbound_kib_per_second")),
                    limit(nic.number("outbound_kib_per_second")),
                ]
            })
            .collect();
        parts.push(table(&["NIC", "SOURCE", "ADDRESS", "MAC", "IN", "OUT"], rows));
    }
    let bundle = description.inner("bundle");
    if bundle.has("id") {
        parts.push(fields(&[
            ("bundle", bundle.text("id").to_owned()),
            ("backend", bundle.text("backend").to_owned()),
            ("complete", local(bundle.number("created_at"))),
        ]));
        let files = bundle.list("files");
        let rows = files
            .iter()
            .map(|file| vec![file.text("name").to_owned(), bytes(file.number("size_bytes")), file.text("digest").to_owned()])
            .collect();
        parts.push(table(&["FILE", "SIZE", "SHA256"], rows));
    }
    parts.join("\n\n")
}
