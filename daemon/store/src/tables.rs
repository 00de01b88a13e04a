//! Tables and domain types: which column holds what, in both directions. One pair of functions a noun.

use rusqlite::{Row, params};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use vws_domain::{
    Address, AnsweredRequest, Bundle, Cause, Decision, Event, Host, Image, ImageId, Job, Network, Ran, Reservation, Resources,
    State, Timestamp, Workspace,
};

use crate::fail::{Fail, Tried, int};
use crate::packed;
use crate::rows::{self, Stored, from_json, to_json};
use crate::store::PolicyGeneration;
use crate::write::Statements;

/// Reads the columns of a row one after the other, in the order of the table's column list.
pub(crate) struct Cells<'a> {
    row: &'a Row<'a>,
    next: usize,
}

impl<'a> Cells<'a> {
    pub(crate) fn new(row: &'a Row<'a>) -> Self {
        Self { row, next: 0 }
    }

    fn get<T: rusqlite::types::FromSql>(&mut self) -> Tried<T> {
        let value = self.row.get(self.next)?;
        self.next += 1;
        Ok(value)
    }

    fn bad(&self, what: &str) -> Fail {
        let column = self.row.as_ref().column_name(self.next.saturating_sub(1)).unwrap_or("?");
        Fail::Row(format!("column `{column}` holds what cannot be read: {what}"))
    }

    fn uint(&mut self) -> Tried<u64> {
        let value: i64 = self.get()?;
        u64::try_from(value).map_err(|_| self.bad(&format!("{value} is below 0")))
    }

    fn opt_uint(&mut self) -> Tried<Option<u64>> {
        let value: Option<i64> = self.get()?;
        value.map(|v| u64::try_from(v).map_err(|_| self.bad(&format!("{v} is below 0")))).transpose()
    }

    /// A row's place in its table.
    pub(crate) fn position(&mut self) -> Tried<u64> {
        self.uint()
    }

    fn uint32(&mut self) -> Tried<u32> {
        let value: i64 = self.get()?;
        u32::try_from(value).map_err(|_| self.bad(&format!("{value} is outside 0 to 2^32-1")))
    }

    /// A text column that stands for `D`.
    fn text<D>(&mut self) -> Tried<D>
    where
        String: Stored<D>,
    {
        let text: String = self.get()?;
        text.back().map_err(|error| self.bad(&error))
    }

    fn opt_text<D>(&mut self) -> Tried<Option<D>>
    where
        String: Stored<D>,
    {
        let text: Option<String> = self.get()?;
        text.back().map_err(|error| self.bad(&error))
    }

    fn json<S: Stored<D> + DeserializeOwned, D>(&mut self) -> Tried<D> {
        let index = self.next;
        self.next += 1;
        let text = self.row.get_ref(index)?.as_str().map_err(|error| self.bad(&error.to_string()))?;
        from_json::<S, D>(text).map_err(|error| self.bad(&error))
    }
}

fn word<D>(value: &D) -> String
where
    String: Stored<D>,
{
    Stored::of(value)
}

fn opt_word<D>(value: Option<&D>) -> Option<String>
where
    String: Stored<D>,
{
    value.map(Stored::of)
}

/// `SELECT` over a table's columns.
macro_rules! select {
    ($table:literal, $first:literal $(, $column:literal)+) => {
        concat!("SELECT ", $first $(, ", ", $column)+, " FROM ", $table, " ")
    };
}

/// What follows `INSERT` or `REPLACE`: a table, its columns, and a place for each.
macro_rules! values {
    ($table:literal, $first:literal $(, $column:literal)+) => {
        concat!(" INTO ", $table, " (", $first $(, ", ", $column)+, ") VALUES (?", $(mark!($column),)+ ")")
    };
}

/// `INSERT` of a table's columns.
macro_rules! insert {
    ($table:literal, $first:literal $(, $column:literal)+) => {
        concat!("INSERT", values!($table, $first $(, $column)+))
    };
}

/// `INSERT` of a table's columns that replaces what stands under the same key, which is the first column.
macro_rules! upsert {
    ($table:literal, $first:literal $(, $column:literal)+) => {
        concat!(
            insert!($table, $first $(, $column)+),
            " ON CONFLICT (", $first, ") DO UPDATE SET ", $first, " = excluded.", $first,
            $(", ", $column, " = excluded.", $column),+
        )
    };
}

macro_rules! mark {
    ($column:literal) => {
        ", ?"
    };
}

macro_rules! workspaces {
    ($sql:ident) => {
        $sql!(
            "workspaces",
            "id",
            "owner",
            "owner_name",
            "\"group\"",
            "name",
            "spec",
            "user_data",
            "images",
            "vcpus",
            "memory_mib",
            "disk_gib",
            "state",
            "target",
            "cause_code",
            "cause_text",
            "host",
            "also_on",
            "job",
            "lease",
            "bundle",
            "snapshots",
            "cpu",
            "plugin_state",
            "deployments",
            "version",
            "created_at",
            "changed_at"
        )
    };
}
pub(crate) const SELECT_WORKSPACES: &str = workspaces!(select);
const UPSERT_WORKSPACE: &str = workspaces!(upsert);

pub(crate) fn put_workspace(out: &mut Statements, w: &Workspace) -> Tried<()> {
    // What only a deployment needs is not kept when there will be none.
    let user_data = if w.state == State::Gone { "" } else { &w.spec.user_data };
    out.push(
        UPSERT_WORKSPACE,
        params![
            word(&w.id),
            w.owner,
            w.owner_name,
            w.group,
            w.spec.name,
            to_json::<rows::Spec, _>(&w.spec)?,
            user_data,
            to_json::<Vec<Option<String>>, _>(&w.images)?,
            int(w.resources.vcpus)?,
            int(w.resources.memory_mib)?,
            int(w.resources.disk_gib)?,
            word(&w.state),
            word(&w.target),
            w.cause.code,
            w.cause.text,
            opt_word(w.host.as_ref()),
            opt_word(w.also_on.as_ref()),
            opt_word(w.job.as_ref()),
            to_json::<rows::Lease, _>(&w.lease)?,
            opt_word(w.bundle.as_ref()),
            to_json::<Vec<rows::Snapshot>, _>(&w.snapshots)?,
            w.cpu,
            w.plugin_state,
            int(w.deployments)?,
            int(w.version)?,
            int(w.created_at.0)?,
            int(w.changed_at.0)?,
        ],
    )
}

pub(crate) fn workspace(cells: &mut Cells<'_>) -> Tried<Workspace> {
    let id = cells.text()?;
    let owner = cells.uint32()?;
    let owner_name = cells.text()?;
    let group = cells.text()?;
    let _name: String = cells.text()?;
    let mut spec = cells.json::<rows::Spec, vws_domain::Spec>()?;
    spec.user_data = cells.text()?;
    Ok(Workspace {
        id,
        owner,
        owner_name,
        group,
        spec,
        images: cells.json::<Vec<Option<String>>, _>()?,
        resources: Resources { vcpus: cells.uint()?, memory_mib: cells.uint()?, disk_gib: cells.uint()? },
        state: cells.text()?,
        target: cells.text()?,
        cause: Cause { code: cells.text()?, text: cells.text()? },
        host: cells.opt_text()?,
        also_on: cells.opt_text()?,
        job: cells.opt_text()?,
        lease: cells.json::<rows::Lease, _>()?,
        bundle: cells.opt_text()?,
        snapshots: cells.json::<Vec<rows::Snapshot>, _>()?,
        cpu: cells.text()?,
        plugin_state: cells.text()?,
        deployments: cells.uint()?,
        version: cells.uint()?,
        created_at: Timestamp(cells.uint()?),
        changed_at: Timestamp(cells.uint()?),
    })
}

macro_rules! reservations {
    ($sql:ident) => {
        $sql!(
            "reservations",
            "workspace",
            "name",
            "owner",
            "\"group\"",
            "host",
            "also_on",
            "vcpus",
            "memory_mib",
            "disk_gib",
            "running",
            "preemptible",
            "labels",
            "lease_from",
            "lease_until",
            "addresses",
            "sequence_from",
            "at_from"
        )
    };
}
pub(crate) const SELECT_RESERVATIONS: &str = reservations!(select);
const INSERT_RESERVATION: &str = reservations!(insert);

/// A new version, in force from `sequence`, which was written at `at`.
pub(crate) fn insert_reservation(out: &mut Statements, r: &Reservation, sequence: u64, at: Timestamp) -> Tried<()> {
    out.push(
        INSERT_RESERVATION,
        params![
            word(&r.workspace),
            r.name,
            r.owner,
            r.group,
            opt_word(r.host.as_ref()),
            opt_word(r.also_on.as_ref()),
            int(r.resources.vcpus)?,
            int(r.resources.memory_mib)?,
            int(r.resources.disk_gib)?,
            r.running,
            r.preemptible,
            to_json::<BTreeMap<String, String>, _>(&r.labels)?,
            int(r.lease_from.0)?,
            r.lease_until.map(|until| int(until.0)).transpose()?,
            int(r.addresses)?,
            int(sequence)?,
            int(at.0)?,
        ],
    )
}

pub(crate) fn reservation(cells: &mut Cells<'_>) -> Tried<Reservation> {
    Ok(Reservation {
        workspace: cells.text()?,
        name: cells.text()?,
        owner: cells.uint32()?,
        group: cells.text()?,
        host: cells.opt_text()?,
        also_on: cells.opt_text()?,
        resources: Resources { vcpus: cells.uint()?, memory_mib: cells.uint()?, disk_gib: cells.uint()? },
        running: cells.get()?,
        preemptible: cells.get()?,
        labels: cells.json::<BTreeMap<String, String>, _>()?,
        lease_from: Timestamp(cells.uint()?),
        lease_until: cells.opt_uint()?.map(Timestamp),
        addresses: cells.uint()?,
    })
}

/// Running versions of the ledger; the names of owners are the workspaces'.
pub(crate) const SELECT_RAN: &str = "SELECT r.workspace, r.owner, w.owner_name, r.\"group\", r.at_from, r.at_to \
     FROM reservations r JOIN workspaces w ON w.id = r.workspace ";

pub(crate) fn ran(cells: &mut Cells<'_>) -> Tried<Ran> {
    Ok(Ran {
        workspace: cells.text()?,
        owner: cells.uint32()?,
        owner_name: cells.text()?,
        group: cells.text()?,
        from: Timestamp(cells.uint()?),
        until: cells.opt_uint()?.map(Timestamp),
    })
}

/// The images of the workspaces that are or were on a host, and when they were there last: NULL is now.
pub(crate) const SELECT_IMAGE_USE: &str = "SELECT w.images, CASE WHEN max(r.at_to IS NULL) THEN NULL ELSE max(r.at_to) END \
     FROM reservations r JOIN workspaces w ON w.id = r.workspace ";

pub(crate) fn image_use(cells: &mut Cells<'_>) -> Tried<(Vec<ImageId>, Option<Timestamp>)> {
    let images: Vec<Option<ImageId>> = cells.json::<Vec<Option<String>>, _>()?;
    Ok((images.into_iter().flatten().collect(), cells.opt_uint()?.map(Timestamp)))
}

macro_rules! hosts {
    ($sql:ident) => {
        $sql!(
            "hosts",
            "name",
            "backend",
            "settings",
            "labels",
            "cpu_overcommit_percent",
            "memory_overcommit_percent",
            "reserve",
            "image_cache_gib",
            "enabled",
            "facts",
            "foreign_use",
            "connection",
            "version",
            "seen_at",
            "sequence_from"
        )
    };
}
pub(crate) const SELECT_HOSTS: &str = hosts!(select);
const INSERT_HOST: &str = hosts!(insert);

/// A new version, in force from `sequence`.
pub(crate) fn insert_host(out: &mut Statements, h: &Host, sequence: u64) -> Tried<()> {
    out.push(
        INSERT_HOST,
        params![
            word(&h.name),
            h.backend,
            h.settings,
            to_json::<BTreeMap<String, String>, _>(&h.labels)?,
            int(h.cpu_overcommit_percent)?,
            int(h.memory_overcommit_percent)?,
            to_json::<rows::Resources, _>(&h.reserve)?,
            int(h.image_cache_gib)?,
            h.enabled,
            to_json::<rows::HostFacts, _>(&h.facts)?,
            to_json::<rows::ForeignUse, _>(&h.foreign)?,
            to_json::<rows::Connection, _>(&h.connection)?,
            int(h.version)?,
            int(h.seen_at.0)?,
            int(sequence)?,
        ],
    )
}

pub(crate) fn host(cells: &mut Cells<'_>) -> Tried<Host> {
    Ok(Host {
        name: cells.text()?,
        backend: cells.text()?,
        settings: cells.text()?,
        labels: cells.json::<BTreeMap<String, String>, _>()?,
        cpu_overcommit_percent: cells.uint()?,
        memory_overcommit_percent: cells.uint()?,
        reserve: cells.json::<rows::Resources, _>()?,
        image_cache_gib: cells.uint()?,
        enabled: cells.get()?,
        facts: cells.json::<rows::HostFacts, _>()?,
        foreign: cells.json::<rows::ForeignUse, _>()?,
        connection: cells.json::<rows::Connection, _>()?,
        version: cells.uint()?,
        seen_at: Timestamp(cells.uint()?),
    })
}

macro_rules! networks {
    ($sql:ident) => {
        $sql!(
            "networks",
            "name",
            "kind",
            "source",
            "pool",
            "dhcp",
            "anti_spoofing",
            "labels",
            "enabled",
            "version",
            "sequence_from"
        )
    };
}
pub(crate) const SELECT_NETWORKS: &str = networks!(select);
const INSERT_NETWORK: &str = networks!(insert);

/// A new version, in force from `sequence`.
pub(crate) fn insert_network(out: &mut Statements, n: &Network, sequence: u64) -> Tried<()> {
    out.push(
        INSERT_NETWORK,
        params![
            word(&n.name),
            word(&n.kind),
            n.source,
            n.pool.as_ref().map(to_json::<rows::Pool, _>).transpose()?,
            n.dhcp,
            n.anti_spoofing,
            to_json::<BTreeMap<String, String>, _>(&n.labels)?,
            n.enabled,
            int(n.version)?,
            int(sequence)?,
        ],
    )
}

pub(crate) fn network(cells: &mut Cells<'_>) -> Tried<Network> {
    Ok(Network {
        name: cells.text()?,
        kind: cells.text()?,
        source: cells.text()?,
        pool: {
            let text: Option<String> = cells.get()?;
            text.map(|text| from_json::<rows::Pool, _>(&text).map_err(|error| cells.bad(&error))).transpose()?
        },
        dhcp: cells.get()?,
        anti_spoofing: cells.get()?,
        labels: cells.json::<BTreeMap<String, String>, _>()?,
        enabled: cells.get()?,
        version: cells.uint()?,
    })
}

macro_rules! addresses {
    ($sql:ident) => {
        $sql!(
            "addresses",
            "network",
            "address",
            "mac",
            "workspace",
            "nic",
            "owner",
            "name",
            "since",
            "released_at",
            "sequence_from"
        )
    };
}
pub(crate) const SELECT_ADDRESSES: &str = addresses!(select);
const INSERT_ADDRESS: &str = addresses!(insert);

/// A new version, in force from `sequence`.
pub(crate) fn insert_address(out: &mut Statements, a: &Address, sequence: u64) -> Tried<()> {
    out.push(
        INSERT_ADDRESS,
        params![
            word(&a.network),
            word(&a.address),
            word(&a.mac),
            word(&a.workspace),
            a.nic,
            a.owner,
            a.name,
            int(a.since.0)?,
            a.released_at.map(|at| int(at.0)).transpose()?,
            int(sequence)?,
        ],
    )
}

pub(crate) fn address(cells: &mut Cells<'_>) -> Tried<Address> {
    Ok(Address {
        network: cells.text()?,
        address: cells.text()?,
        mac: cells.text()?,
        workspace: cells.text()?,
        nic: cells.uint32()?,
        owner: cells.uint32()?,
        name: cells.text()?,
        since: vws_domain::Timestamp(cells.uint()?),
        released_at: cells.opt_uint()?.map(vws_domain::Timestamp),
    })
}

macro_rules! images {
    ($sql:ident) => {
        $sql!(
            "images",
            "id",
            "name",
            "digest",
            "format",
            "size_bytes",
            "virtual_size_mib",
            "boot",
            "owner",
            "visibility",
            "state",
            "source",
            "created_at"
        )
    };
}
pub(crate) const SELECT_IMAGES: &str = images!(select);
const UPSERT_IMAGE: &str = images!(upsert);

pub(crate) fn put_image(out: &mut Statements, i: &Image) -> Tried<()> {
    out.push(
        UPSERT_IMAGE,
        params![
            word(&i.id),
            i.name,
            i.digest,
            word(&i.format),
            int(i.size_bytes)?,
            int(i.virtual_size_mib)?,
            to_json::<rows::Boot, _>(&i.boot)?,
            i.owner,
            word(&i.visibility),
            word(&i.state),
            i.source,
            int(i.created_at.0)?,
        ],
    )
}

pub(crate) fn image(cells: &mut Cells<'_>) -> Tried<Image> {
    Ok(Image {
        id: cells.text()?,
        name: cells.text()?,
        digest: cells.text()?,
        format: cells.text()?,
        size_bytes: cells.uint()?,
        virtual_size_mib: cells.uint()?,
        boot: cells.json::<rows::Boot, _>()?,
        owner: cells.uint32()?,
        visibility: cells.text()?,
        state: cells.text()?,
        source: cells.text()?,
        created_at: Timestamp(cells.uint()?),
    })
}

macro_rules! bundles {
    ($sql:ident) => {
        $sql!("bundles", "id", "workspace", "backend", "manifest", "files", "created_at", "consumed_at")
    };
}
pub(crate) const SELECT_BUNDLES: &str = bundles!(select);
const UPSERT_BUNDLE: &str = bundles!(upsert);

pub(crate) fn put_bundle(out: &mut Statements, b: &Bundle) -> Tried<()> {
    out.push(
        UPSERT_BUNDLE,
        params![
            word(&b.id),
            word(&b.workspace),
            b.backend,
            b.manifest,
            to_json::<Vec<rows::BundleFile>, _>(&b.files)?,
            int(b.created_at.0)?,
            b.consumed_at.map(|at| int(at.0)).transpose()?,
        ],
    )
}

pub(crate) fn bundle(cells: &mut Cells<'_>) -> Tried<Bundle> {
    Ok(Bundle {
        id: cells.text()?,
        workspace: cells.text()?,
        backend: cells.text()?,
        manifest: cells.text()?,
        files: cells.json::<Vec<rows::BundleFile>, _>()?,
        created_at: Timestamp(cells.uint()?),
        consumed_at: cells.opt_uint()?.map(Timestamp),
    })
}

macro_rules! jobs {
    ($sql:ident) => {
        $sql!(
            "jobs",
            "id",
            "kind",
            "workspace",
            "image",
            "host",
            "owner",
            "actor",
            "args",
            "state",
            "step",
            "scratch",
            "progress",
            "cancel_requested",
            "error",
            "message",
            "created_at",
            "ended_at",
            "shown"
        )
    };
}
pub(crate) const SELECT_JOBS: &str = jobs!(select);
const UPSERT_JOB: &str = jobs!(upsert);

pub(crate) fn put_job(out: &mut Statements, j: &Job) -> Tried<()> {
    out.push(
        UPSERT_JOB,
        params![
            word(&j.id),
            word(&j.kind),
            opt_word(j.workspace.as_ref()),
            opt_word(j.image.as_ref()),
            opt_word(j.host.as_ref()),
            j.owner,
            j.actor,
            j.args,
            word(&j.state),
            j.step,
            j.scratch,
            to_json::<rows::Progress, _>(&j.progress)?,
            j.cancel_requested,
            j.error.as_ref().map(to_json::<rows::Error, _>).transpose()?,
            j.message,
            int(j.created_at.0)?,
            j.ended_at.map(|at| int(at.0)).transpose()?,
            true,
        ],
    )
}

pub(crate) fn job(cells: &mut Cells<'_>) -> Tried<Job> {
    Ok(Job {
        id: cells.text()?,
        kind: cells.text()?,
        workspace: cells.opt_text()?,
        image: cells.opt_text()?,
        host: cells.opt_text()?,
        owner: cells.uint32()?,
        actor: cells.text()?,
        args: cells.text()?,
        state: cells.text()?,
        step: cells.uint32()?,
        scratch: cells.text()?,
        progress: cells.json::<rows::Progress, _>()?,
        cancel_requested: cells.get()?,
        error: {
            let text: Option<String> = cells.get()?;
            text.map(|text| from_json::<rows::Error, _>(&text).map_err(|error| cells.bad(&error))).transpose()?
        },
        message: cells.text()?,
        created_at: Timestamp(cells.uint()?),
        ended_at: cells.opt_uint()?.map(Timestamp),
    })
}

macro_rules! decisions {
    ($sql:ident) => {
        $sql!(
            "decisions",
            "id",
            "at",
            "ledger",
            "verb",
            "name",
            "uid",
            "workspace",
            "policy",
            "generation",
            "permitted",
            "native",
            "host",
            "body"
        )
    };
}
pub(crate) const SELECT_DECISIONS: &str = decisions!(select);
const UPSERT_DECISION: &str = decisions!(upsert);

pub(crate) fn put_decision(out: &mut Statements, d: &Decision) -> Tried<()> {
    out.push(
        UPSERT_DECISION,
        params![
            word(&d.id),
            int(d.at.0)?,
            int(d.ledger)?,
            word(&d.request.verb),
            d.request.name,
            d.caller.uid,
            opt_word(d.workspace.as_ref()),
            d.policy.0,
            int(d.generation)?,
            d.permitted,
            d.native,
            opt_word(d.host.as_ref()),
            packed::body(d)?,
        ],
    )
}

pub(crate) fn decision(cells: &mut Cells<'_>) -> Tried<Decision> {
    let id = cells.text()?;
    let at = Timestamp(cells.uint()?);
    let ledger = cells.uint()?;
    // These stand inside the request and the caller; their columns are for searching.
    let _verb: String = cells.text()?;
    let _name: String = cells.text()?;
    let _uid = cells.uint32()?;
    let (workspace, policy, generation) = (cells.opt_text()?, cells.text()?, cells.uint()?);
    let (permitted, native, host) = (cells.get()?, cells.get()?, cells.opt_text()?);
    let bytes: Vec<u8> = cells.get()?;
    let body = packed::read(&bytes).map_err(|error| cells.bad(&error))?;
    Ok(Decision {
        id,
        at,
        ledger,
        request: body.request,
        before: body.before,
        caller: body.caller,
        seen: body.seen,
        workspace,
        policy,
        generation,
        verdicts: body.verdicts,
        permitted,
        native,
        host,
        hosts: body.hosts,
    })
}

macro_rules! events {
    ($sql:ident) => {
        $sql!("events", "sequence", "at", "kind", "workspace", "job", "host", "image", "owner", "text")
    };
}
pub(crate) const SELECT_EVENTS: &str = events!(select);
const INSERT_EVENT: &str = events!(insert);

pub(crate) fn insert_event(out: &mut Statements, e: &Event) -> Tried<()> {
    out.push(
        INSERT_EVENT,
        params![
            int(e.sequence)?,
            int(e.at.0)?,
            e.kind,
            opt_word(e.workspace.as_ref()),
            opt_word(e.job.as_ref()),
            opt_word(e.host.as_ref()),
            opt_word(e.image.as_ref()),
            e.owner,
            e.text,
        ],
    )
}

pub(crate) fn event(cells: &mut Cells<'_>) -> Tried<Event> {
    Ok(Event {
        sequence: cells.uint()?,
        at: Timestamp(cells.uint()?),
        kind: cells.text()?,
        workspace: cells.opt_text()?,
        job: cells.opt_text()?,
        host: cells.opt_text()?,
        image: cells.opt_text()?,
        owner: cells.uint32()?,
        text: cells.text()?,
    })
}

macro_rules! requests {
    ($sql:ident) => {
        $sql!("requests", "uid", "request_id", "digest", "workspace", "job", "image", "at")
    };
}
pub(crate) const SELECT_REQUESTS: &str = requests!(select);
const REPLACE_REQUEST: &str = concat!("REPLACE", requests!(values));

pub(crate) fn put_request(out: &mut Statements, r: &AnsweredRequest) -> Tried<()> {
    out.push(
        REPLACE_REQUEST,
        params![
            r.uid,
            r.request_id,
            r.digest,
            opt_word(r.workspace.as_ref()),
            opt_word(r.job.as_ref()),
            opt_word(r.image.as_ref()),
            int(r.at.0)?,
        ],
    )
}

pub(crate) fn request(cells: &mut Cells<'_>) -> Tried<AnsweredRequest> {
    Ok(AnsweredRequest {
        uid: cells.uint32()?,
        request_id: cells.text()?,
        digest: cells.text()?,
        workspace: cells.opt_text()?,
        job: cells.opt_text()?,
        image: cells.opt_text()?,
        at: Timestamp(cells.uint()?),
    })
}

pub(crate) fn policy_generation(cells: &mut Cells<'_>) -> Tried<PolicyGeneration> {
    Ok(PolicyGeneration {
        generation: cells.uint()?,
        hash: cells.text()?,
        at: Timestamp(cells.uint()?),
        cause: cells.text()?,
        actor: cells.text()?,
        report: cells.text()?,
        pinned_over: cells.text()?,
    })
}
