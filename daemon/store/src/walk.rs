//! The ledger step by step: what each transaction changed of hosts, networks, addresses and reservations, so that a replay goes from one
//! decision's input to the next without building each anew.

use rusqlite::Connection;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use vws_domain::{Change, HostName, NetworkName, WorkspaceId};

use crate::fail::{Fail, Tried, int};
use crate::tables::{self, Cells};

/// One change of the ledger.
#[derive(Clone, Debug)]
pub struct Step {
    /// The transaction that made it.
    pub sequence: u64,
    /// What it changed.
    pub change: Change,
}

/// The changes after `from` up to `to`, in the order of the transactions.
pub(crate) fn steps(connection: &Connection, from: u64, to: u64) -> Tried<Vec<Step>> {
    let mut steps = Steps { connection, from, to, found: BTreeMap::new(), begun: BTreeSet::new() };
    steps.begun("hosts", "name", tables::SELECT_HOSTS, |cells| {
        let host = tables::host(cells)?;
        Ok((host.name.to_string(), Change::PutHost(Arc::new(host))))
    })?;
    steps.begun("networks", "name", tables::SELECT_NETWORKS, |cells| {
        let network = tables::network(cells)?;
        Ok((network.name.to_string(), Change::PutNetwork(Arc::new(network))))
    })?;
    // An address is never taken out alone: it goes with its network.
    steps.begun("addresses", "network, address", tables::SELECT_ADDRESSES, |cells| {
        let address = tables::address(cells)?;
        Ok((format!("{} {}", address.network, address.address), Change::PutAddress(Arc::new(address))))
    })?;
    steps.begun("reservations", "workspace", tables::SELECT_RESERVATIONS, |cells| {
        let reservation = tables::reservation(cells)?;
        Ok((reservation.workspace.to_string(), Change::PutReservation(Arc::new(reservation))))
    })?;
    steps.ended("hosts", "name", |key| HostName::parse(key).map(Change::RemoveHost))?;
    steps.ended("networks", "name", |key| NetworkName::parse(key).map(Change::RemoveNetwork))?;
    steps.ended("addresses", "network || ' ' || address", |key| {
        NetworkName::parse(key.split(' ').next().unwrap_or_default()).map(Change::RemoveNetwork)
    })?;
    steps.ended("reservations", "workspace", |key| WorkspaceId::parse(key).map(Change::ReleaseReservation))?;
    Ok(steps
        .found
        .into_iter()
        .flat_map(|(sequence, changes)| changes.into_iter().map(move |change| Step { sequence, change }))
        .collect())
}

struct Steps<'a> {
    connection: &'a Connection,
    from: u64,
    to: u64,
    found: BTreeMap<u64, Vec<Change>>,
    /// Table, key and number of each version that begins in between: one that ends there is replaced by it, and not taken out.
    begun: BTreeSet<(&'static str, String, u64)>,
}

impl Steps<'_> {
    /// Versions that begin.
    fn begun(
        &mut self,
        table: &'static str,
        key: &str,
        select: &str,
        take: fn(&mut Cells<'_>) -> Tried<(String, Change)>,
    ) -> Tried<()> {
        let condition = format!("WHERE sequence_from > ? AND sequence_from <= ? ORDER BY sequence_from, {key}");
        let range = [int(self.from)?, int(self.to)?];
        // The same rows in the same order: their columns are read in one place only.
        let numbers: Vec<u64> = self
            .connection
            .prepare_cached(&format!("SELECT sequence_from FROM {table} {condition}"))?
            .query_map(range, |row| row.get::<_, i64>(0))?
            .map(|number| number.map(|number| u64::try_from(number).unwrap_or(0)))
            .collect::<rusqlite::Result<_>>()?;
        let mut rows = Vec::with_capacity(numbers.len());
        crate::load::each(self.connection, select, &condition, range, |cells| {
            rows.push(take(cells)?);
            Ok(())
        })?;
        if rows.len() != numbers.len() {
            return Err(Fail::Row(format!("table `{table}` has {} versions and {} numbers of them", rows.len(), numbers.len())));
        }
        for (number, (key, change)) in numbers.into_iter().zip(rows) {
            self.begun.insert((table, key, number));
            self.found.entry(number).or_default().push(change);
        }
        Ok(())
    }

    /// Versions that end, and are followed by none.
    fn ended(&mut self, table: &'static str, key: &str, make: fn(&str) -> vws_domain::Result<Change>) -> Tried<()> {
        let sql = format!("SELECT {key}, sequence_to FROM {table} WHERE sequence_to > ? AND sequence_to <= ?");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query([int(self.from)?, int(self.to)?])?;
        while let Some(row) = rows.next()? {
            let key: String = row.get(0)?;
            let number = u64::try_from(row.get::<_, i64>(1)?).unwrap_or(0);
            if !self.begun.contains(&(table, key.clone(), number)) {
                let change = make(&key).map_err(|error| Fail::Row(error.to_string()))?;
                // First, so that what the same transaction puts anew stands.
                self.found.entry(number).or_default().insert(0, change);
            }
        }
        Ok(())
    }
}
