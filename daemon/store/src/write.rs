//! One change, one statement or two: how a [`Change`] becomes rows. The sequence number of the transaction versions hosts,
//! networks, addresses and reservations.

use rusqlite::{Connection, params};
use std::collections::BTreeMap;
use vws_domain::{Change, Timestamp};

use crate::fail::{Tried, int};
use crate::store::Batch;
use crate::tables;

/// Writes everything of `batch`. Workspaces first, because reservations refer to them; otherwise in the given order.
pub(crate) fn batch(connection: &Connection, batch: &Batch) -> Tried<()> {
    connection
        .prepare_cached("INSERT INTO transactions (sequence, at) VALUES (?, ?)")?
        .execute(params![int(batch.sequence)?, int(batch.at.0)?])?;
    let (workspaces, others): (Vec<&Change>, Vec<&Change>) =
        batch.changes.iter().partition(|change| matches!(change, Change::PutWorkspace(_)));
    workspaces.into_iter().chain(others).try_for_each(|change| write(connection, change, batch.sequence, batch.at))
}

fn write(connection: &Connection, change: &Change, sequence: u64, at: Timestamp) -> Tried<()> {
    match change {
        Change::PutWorkspace(workspace) => tables::put_workspace(connection, workspace),
        Change::PutReservation(reservation) => {
            end_version(connection, &RESERVATIONS, [&reservation.workspace.to_string(), ""], sequence)?;
            tables::insert_reservation(connection, reservation, sequence, at)
        }
        Change::ReleaseReservation(id) => end_version(connection, &RESERVATIONS, [&id.to_string(), ""], sequence),
        Change::PutHost(host) => {
            end_version(connection, &HOSTS, [host.name.as_str(), ""], sequence)?;
            tables::insert_host(connection, host, sequence)
        }
        Change::RemoveHost(name) => end_version(connection, &HOSTS, [name.as_str(), ""], sequence),
        Change::PutNetwork(network) => {
            end_version(connection, &NETWORKS, [network.name.as_str(), ""], sequence)?;
            tables::insert_network(connection, network, sequence)
        }
        Change::RemoveNetwork(name) => {
            end_version(connection, &NETWORKS, [name.as_str(), ""], sequence)?;
            end_version(connection, &ADDRESSES_OF, [name.as_str(), ""], sequence)
        }
        Change::PutAddress(address) => {
            end_version(connection, &ADDRESSES, [address.network.as_str(), &address.address.to_string()], sequence)?;
            tables::insert_address(connection, address, sequence)
        }
        Change::PutImage(image) => tables::put_image(connection, image),
        Change::RemoveImage(id) => run(connection, "DELETE FROM images WHERE id = ?", &id.to_string()),
        Change::PutBundle(bundle) => tables::put_bundle(connection, bundle),
        Change::RemoveBundle(id) => run(connection, "DELETE FROM bundles WHERE id = ?", &id.to_string()),
        Change::PutJob(job) => tables::put_job(connection, job),
        Change::ForgetJob(id) => run(connection, "UPDATE jobs SET shown = 0 WHERE id = ?", &id.to_string()),
        Change::PutDecision(decision) => {
            tables::put_decision(connection, decision)?;
            at_least(connection, "generation", decision.generation)
        }
        Change::PutRequest(request) => tables::put_request(connection, request),
        Change::Event(event) => tables::insert_event(connection, event),
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
/// the sequence number. (`?2` is named in any case, so that the number of parameters is the same.)
macro_rules! versioned {
    ($table:literal, $key:literal) => {
        Versioned {
            drop: concat!("DELETE FROM ", $table, " WHERE ", $key, " AND ?2 IS NOT NULL AND sequence_from = ?3"),
            end: concat!("UPDATE ", $table, " SET sequence_to = ?3 WHERE ", $key, " AND ?2 IS NOT NULL AND sequence_to IS NULL"),
        }
    };
}

/// Reservations also keep the time of their end: the transaction that ends one is written already.
const RESERVATIONS: Versioned = Versioned {
    end: "UPDATE reservations SET sequence_to = ?3, at_to = (SELECT at FROM transactions WHERE sequence = ?3) \
          WHERE workspace = ?1 AND ?2 IS NOT NULL AND sequence_to IS NULL",
    ..versioned!("reservations", "workspace = ?1")
};
const HOSTS: Versioned = versioned!("hosts", "name = ?1");
const NETWORKS: Versioned = versioned!("networks", "name = ?1");
const ADDRESSES: Versioned = versioned!("addresses", "network = ?1 AND address = ?2");
const ADDRESSES_OF: Versioned = versioned!("addresses", "network = ?1");

fn end_version(connection: &Connection, table: &Versioned, key: [&str; 2], sequence: u64) -> Tried<()> {
    let [first, second] = key;
    for statement in [table.drop, table.end] {
        connection.prepare_cached(statement)?.execute(params![first, second, int(sequence)?])?;
    }
    Ok(())
}

/// Raises a number of `meta`.
fn at_least(connection: &Connection, key: &str, value: u64) -> Tried<()> {
    connection.prepare_cached("UPDATE meta SET value = ?2 WHERE key = ?1 AND value < ?2")?.execute(params![key, int(value)?])?;
    Ok(())
}

fn run(connection: &Connection, statement: &str, key: &str) -> Tried<()> {
    connection.prepare_cached(statement)?.execute([key])?;
    Ok(())
}

/// Keeps the sources of a policy set, once.
pub(crate) fn policy_set(connection: &Connection, hash: &str, files: &BTreeMap<String, String>) -> Tried<()> {
    let files = crate::rows::to_json::<BTreeMap<String, String>, _>(files)?;
    connection
        .prepare_cached("INSERT INTO policy_sets (hash, files) VALUES (?, ?) ON CONFLICT (hash) DO NOTHING")?
        .execute([hash, &files])?;
    Ok(())
}
