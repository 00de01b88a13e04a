//! One change, one statement or two: how a [`Change`] becomes rows. The sequence number of the transaction versions hosts,
//! networks, addresses and reservations.
//!
//! In two parts: statements and their values are made by whoever hands a batch in, JSON and all; the writer thread, which everybody
//! waits for, only runs them.

use rusqlite::types::{ToSqlOutput, Value};
use rusqlite::{Connection, ToSql, params, params_from_iter};
use std::collections::BTreeMap;
use vws_domain::{Change, Timestamp};

use crate::fail::{Fail, Tried, int};
use crate::store::{Batch, PolicyGeneration};
use crate::tables;

/// Statements with their values, in order.
#[derive(Default)]
pub(crate) struct Statements(Vec<(&'static str, Vec<Value>)>);

impl Statements {
    /// One more at the end.
    pub(crate) fn push(&mut self, statement: &'static str, values: &[&dyn ToSql]) -> Tried<()> {
        let owned = |value: &&dyn ToSql| match value.to_sql()? {
            ToSqlOutput::Owned(value) => Ok(value),
            ToSqlOutput::Borrowed(value) => Value::try_from(value).map_err(|error| Fail::Value(error.to_string())),
            other => Err(Fail::Value(format!("{other:?} cannot be stored"))),
        };
        self.0.push((statement, values.iter().map(owned).collect::<Tried<_>>()?));
        Ok(())
    }

    /// Runs all of them.
    pub(crate) fn run(&self, connection: &Connection) -> Tried<()> {
        for (statement, values) in &self.0 {
            connection.prepare_cached(statement)?.execute(params_from_iter(values))?;
        }
        Ok(())
    }
}

/// The statements for everything of `batch`. Workspaces first, because reservations refer to them; otherwise in the given order.
pub(crate) fn batch(batch: &Batch) -> Tried<Statements> {
    let mut out = Statements::default();
    out.push("INSERT INTO transactions (sequence, at) VALUES (?, ?)", params![int(batch.sequence)?, int(batch.at.0)?])?;
    let mut ledger = Ledger { sequence: batch.sequence, at: batch.at, begun: Vec::new() };
    let (workspaces, others): (Vec<&Change>, Vec<&Change>) =
        batch.changes.iter().partition(|change| matches!(change, Change::PutWorkspace(_)));
    workspaces.into_iter().chain(others).try_for_each(|change| write(&mut out, change, &mut ledger))?;
    Ok(out)
}

fn write(out: &mut Statements, change: &Change, ledger: &mut Ledger) -> Tried<()> {
    match change {
        Change::PutWorkspace(workspace) => tables::put_workspace(out, workspace),
        Change::PutReservation(reservation) => {
            ledger.begin(out, &RESERVATIONS, [reservation.workspace.to_string(), String::new()])?;
            tables::insert_reservation(out, reservation, ledger.sequence, ledger.at)
        }
        Change::ReleaseReservation(id) => ledger.end(out, &RESERVATIONS, &[id.to_string(), String::new()]),
        Change::PutHost(host) => {
            ledger.begin(out, &HOSTS, [host.name.to_string(), String::new()])?;
            tables::insert_host(out, host, ledger.sequence)
        }
        Change::RemoveHost(name) => ledger.end(out, &HOSTS, &[name.to_string(), String::new()]),
        Change::PutNetwork(network) => {
            ledger.begin(out, &NETWORKS, [network.name.to_string(), String::new()])?;
            tables::insert_network(out, network, ledger.sequence)
        }
        Change::RemoveNetwork(name) => {
            ledger.end(out, &NETWORKS, &[name.to_string(), String::new()])?;
            ledger.end(out, &ADDRESSES_OF, &[name.to_string(), String::new()])
        }
        Change::PutAddress(address) => {
            ledger.begin(out, &ADDRESSES, [address.network.to_string(), address.address.to_string()])?;
            tables::insert_address(out, address, ledger.sequence)
        }
        Change::PutImage(image) => tables::put_image(out, image),
        Change::RemoveImage(id) => out.push("DELETE FROM images WHERE id = ?", params![id.to_string()]),
        Change::PutBundle(bundle) => tables::put_bundle(out, bundle),
        Change::RemoveBundle(id) => out.push("DELETE FROM bundles WHERE id = ?", params![id.to_string()]),
        Change::PutJob(job) => tables::put_job(out, job),
        Change::ForgetJob(id) => out.push("UPDATE jobs SET shown = 0 WHERE id = ?", params![id.to_string()]),
        Change::PutDecision(decision) => tables::put_decision(out, decision),
        Change::PutRequest(request) => tables::put_request(out, request),
        Change::Event(event) => tables::insert_event(out, event),
    }
}

/// The statements that end the present version of a row of the ledger.
struct Versioned {
    /// A version that began in this very transaction was never in force: it goes.
    drop: &'static str,
    /// An older one ends here.
    end: &'static str,
}

/// The statements for a table and the condition that finds a row by its key, `?1` and, if the key has two parts, `?2`; `?3` is
/// the sequence number and `?4` the time. (All are named in any case, so that the number of parameters is the same.)
macro_rules! versioned {
    ($table:literal, $key:literal, $ended:literal) => {
        Versioned {
            drop: concat!(
                "DELETE FROM ",
                $table,
                " WHERE ",
                $key,
                " AND ?2 IS NOT NULL AND ?4 IS NOT NULL AND sequence_from = ?3"
            ),
            end: concat!(
                "UPDATE ",
                $table,
                " SET sequence_to = ?3",
                $ended,
                " WHERE ",
                $key,
                " AND ?2 IS NOT NULL AND ?4 IS NOT NULL AND sequence_to IS NULL"
            ),
        }
    };
}

/// Reservations also keep the time of their end.
const RESERVATIONS: Versioned = versioned!("reservations", "workspace = ?1", ", at_to = ?4");
const HOSTS: Versioned = versioned!("hosts", "name = ?1", "");
const NETWORKS: Versioned = versioned!("networks", "name = ?1", "");
const ADDRESSES: Versioned = versioned!("addresses", "network = ?1 AND address = ?2", "");
const ADDRESSES_OF: Versioned = versioned!("addresses", "network = ?1", "");

/// The ledger in one transaction.
struct Ledger {
    sequence: u64,
    at: Timestamp,
    /// Versions that begin in this transaction: how they end, and their keys.
    begun: Vec<(&'static str, [String; 2])>,
}

impl Ledger {
    /// A new version is about to be written: the present one ends, unless it began in this very transaction; then it goes.
    fn begin(&mut self, out: &mut Statements, table: &Versioned, key: [String; 2]) -> Tried<()> {
        let begun = (table.end, key);
        if self.begun.contains(&begun) {
            return self.close(out, table.drop, &begun.1);
        }
        self.close(out, table.end, &begun.1)?;
        self.begun.push(begun);
        Ok(())
    }

    /// The present version ends, whenever it began.
    fn end(&self, out: &mut Statements, table: &Versioned, key: &[String; 2]) -> Tried<()> {
        self.close(out, table.drop, key)?;
        self.close(out, table.end, key)
    }

    fn close(&self, out: &mut Statements, statement: &'static str, [first, second]: &[String; 2]) -> Tried<()> {
        out.push(statement, params![first, second, int(self.sequence)?, int(self.at.0)?])
    }
}

/// The statements that keep the sources of a policy set, once, and that it came into force.
pub(crate) fn policy_set(
    hash: &str,
    files: &BTreeMap<String, String>,
    generation: Option<&PolicyGeneration>,
) -> Tried<Statements> {
    let files = crate::rows::to_json::<BTreeMap<String, String>, _>(files)?;
    let mut out = Statements::default();
    out.push("INSERT INTO policy_sets (hash, files) VALUES (?, ?) ON CONFLICT (hash) DO NOTHING", params![hash, files])?;
    if let Some(entry) = generation {
        out.push(
            "INSERT INTO policy_generations (generation, hash, at, cause, actor, report, pinned_over) VALUES (?, ?, ?, ?, ?, ?, ?)",
            params![
                int(entry.generation)?,
                entry.hash.0,
                int(entry.at.0)?,
                entry.cause,
                entry.actor,
                entry.report,
                entry.pinned_over
            ],
        )?;
    }
    Ok(out)
}
