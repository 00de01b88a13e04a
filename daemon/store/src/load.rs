//! The projection from the tables: the present one, or hosts, networks, addresses and reservations as they were at a sequence number.

use rusqlite::{Connection, Params};
use std::sync::Arc;
use vws_domain::{Change, Site};

use crate::fail::{Fail, Tried, int};
use crate::tables::{self, Cells};

/// Sequence number of the last transaction.
pub(crate) fn sequence(connection: &Connection) -> Tried<u64> {
    let last: Option<i64> = connection.query_row("SELECT max(sequence) FROM transactions", [], |row| row.get(0))?;
    unsigned(last.unwrap_or(0))
}

/// Number of the last event, also when it was pruned.
pub(crate) fn event_sequence(connection: &Connection) -> Tried<u64> {
    let last: Option<i64> = connection.query_row("SELECT max(sequence) FROM events", [], |row| row.get(0))?;
    Ok(unsigned(last.unwrap_or(0))?.max(meta(connection, "event_sequence")?))
}

/// Generation of the policies that decided last, also when the decision was pruned.
pub(crate) fn generation(connection: &Connection) -> Tried<u64> {
    let newest = "SELECT max(coalesce((SELECT generation FROM decisions ORDER BY position DESC LIMIT 1), 0), \
         coalesce((SELECT max(generation) FROM policy_generations), 0))";
    let last: i64 = connection.query_row(newest, [], |row| row.get(0))?;
    Ok(unsigned(last)?.max(meta(connection, "generation")?))
}

/// A number of `meta`.
pub(crate) fn meta(connection: &Connection, key: &str) -> Tried<u64> {
    let value = connection.prepare_cached("SELECT value FROM meta WHERE key = ?")?.query_row([key], |row| row.get(0))?;
    unsigned(value)
}

fn unsigned(value: i64) -> Tried<u64> {
    u64::try_from(value).map_err(|_| Fail::Row(format!("a sequence number is {value}, below 0")))
}

/// Everything that is live. The caller holds a transaction, so that all tables are of one instant.
pub(crate) fn site(connection: &Connection) -> Tried<Site> {
    let mut site = Site::default();
    site.sequence = sequence(connection)?;
    site.event_sequence = event_sequence(connection)?;
    let mut apply = |change: Change| site.apply(&change);
    let c = connection;
    each(c, tables::SELECT_HOSTS, "WHERE sequence_to IS NULL", [], |cells| {
        tables::host(cells).map(|host| apply(Change::PutHost(Arc::new(host))))
    })?;
    each(c, tables::SELECT_NETWORKS, "WHERE sequence_to IS NULL", [], |cells| {
        tables::network(cells).map(|network| apply(Change::PutNetwork(Arc::new(network))))
    })?;
    each(c, tables::SELECT_ADDRESSES, "WHERE sequence_to IS NULL", [], |cells| {
        tables::address(cells).map(|address| apply(Change::PutAddress(Arc::new(address))))
    })?;
    each(c, tables::SELECT_IMAGES, "", [], |cells| tables::image(cells).map(|image| apply(Change::PutImage(Arc::new(image)))))?;
    each(c, tables::SELECT_BUNDLES, "WHERE consumed_at IS NULL", [], |cells| {
        tables::bundle(cells).map(|bundle| apply(Change::PutBundle(Arc::new(bundle))))
    })?;
    each(c, tables::SELECT_WORKSPACES, "WHERE state <> 'gone'", [], |cells| {
        tables::workspace(cells).map(|workspace| apply(Change::PutWorkspace(Arc::new(workspace))))
    })?;
    each(c, tables::SELECT_RESERVATIONS, "WHERE sequence_to IS NULL", [], |cells| {
        tables::reservation(cells).map(|reservation| apply(Change::PutReservation(Arc::new(reservation))))
    })?;
    each(c, tables::SELECT_JOBS, "WHERE shown = 1", [], |cells| {
        tables::job(cells).map(|job| apply(Change::PutJob(Arc::new(job))))
    })?;
    each(c, tables::SELECT_REQUESTS, "", [], |cells| {
        tables::request(cells).map(|request| apply(Change::PutRequest(Arc::new(request))))
    })?;
    Ok(site)
}

/// Hosts, networks, addresses and reservations as the decision saw them that stood at `at`.
pub(crate) fn site_at(connection: &Connection, at: u64) -> Tried<Site> {
    let mut site = Site::default();
    site.sequence = at;
    let then = [int(at)?];
    for in_force in ["WHERE sequence_to IS NULL AND sequence_from <= ?1", "WHERE sequence_to > ?1 AND sequence_from <= ?1"] {
        each(connection, tables::SELECT_HOSTS, in_force, then, |cells| {
            tables::host(cells).map(|host| site.apply(&Change::PutHost(Arc::new(host))))
        })?;
        each(connection, tables::SELECT_NETWORKS, in_force, then, |cells| {
            tables::network(cells).map(|network| site.apply(&Change::PutNetwork(Arc::new(network))))
        })?;
        each(connection, tables::SELECT_ADDRESSES, in_force, then, |cells| {
            tables::address(cells).map(|address| site.apply(&Change::PutAddress(Arc::new(address))))
        })?;
        each(connection, tables::SELECT_RESERVATIONS, in_force, then, |cells| {
            tables::reservation(cells).map(|reservation| site.apply(&Change::PutReservation(Arc::new(reservation))))
        })?;
    }
    Ok(site)
}

/// Calls `take` with each row of `select` under `condition`.
pub(crate) fn each(
    connection: &Connection,
    select: &str,
    condition: &str,
    parameters: impl Params,
    mut take: impl FnMut(&mut Cells<'_>) -> Tried<()>,
) -> Tried<()> {
    let mut statement = connection.prepare_cached(&format!("{select}{condition}"))?;
    let mut rows = statement.query(parameters)?;
    while let Some(row) = rows.next()? {
        take(&mut Cells::new(row))?;
    }
    Ok(())
}

/// Every row of `select` under `condition`, read by `take`.
pub(crate) fn all<T>(
    connection: &Connection,
    select: &str,
    condition: &str,
    parameters: impl Params,
    take: fn(&mut Cells<'_>) -> Tried<T>,
) -> Tried<Vec<T>> {
    let mut found = Vec::new();
    each(connection, select, condition, parameters, |cells| {
        found.push(take(cells)?);
        Ok(())
    })?;
    Ok(found)
}
