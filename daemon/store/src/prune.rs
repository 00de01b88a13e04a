//! Retention: what is old goes, a bounded number of records stays. Nothing that is part of the projection is touched.

use rusqlite::Connection;

use crate::fail::{Tried, int};
use crate::limits::Limits;
use crate::load;

/// Tables whose rows are versions of the ledger.
const VERSIONED: [&str; 4] = ["hosts", "networks", "addresses", "reservations"];

/// Removes what exceeds `limits`. In one transaction of its own.
pub(crate) fn run(connection: &mut Connection, limits: &Limits) -> Tried<()> {
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    // Not with each event and decision: it would cost every commit a page more.
    for (key, value) in [("event_sequence", load::event_sequence(&transaction)?), ("generation", load::generation(&transaction)?)]
    {
        transaction.execute("UPDATE meta SET value = ? WHERE key = ?", rusqlite::params![int(value)?, key])?;
    }
    let keep_newest = [
        (
            limits.events,
            "DELETE FROM events WHERE sequence <= (SELECT sequence FROM events ORDER BY sequence DESC LIMIT 1 OFFSET ?)",
        ),
        (
            limits.decisions,
            "DELETE FROM decisions WHERE position <= (SELECT position FROM decisions ORDER BY position DESC LIMIT 1 OFFSET ?)",
        ),
        (
            limits.ended_jobs,
            "DELETE FROM jobs WHERE shown = 0 AND ended_at IS NOT NULL AND (ended_at, id) <= (SELECT ended_at, id FROM jobs \
             WHERE shown = 0 AND ended_at IS NOT NULL ORDER BY ended_at DESC, id DESC LIMIT 1 OFFSET ?)",
        ),
        (
            limits.consumed_bundles,
            // The id stays for ever: a bundle that lived here does not come in a second time.
            "UPDATE bundles SET manifest = '', files = '[]' WHERE consumed_at IS NOT NULL AND manifest <> '' AND (consumed_at, id) <= (SELECT consumed_at, id FROM bundles \
             WHERE consumed_at IS NOT NULL ORDER BY consumed_at DESC, id DESC LIMIT 1 OFFSET ?)",
        ),
        (
            limits.policy_sets,
            // The first condition is an index's look-up for each set: there are few sets and many decisions.
            "DELETE FROM policy_sets WHERE NOT EXISTS (SELECT 1 FROM decisions WHERE policy = policy_sets.hash) \
             AND hash NOT IN (SELECT hash FROM policy_generations ORDER BY generation DESC LIMIT ?1) AND position <= \
             (SELECT position FROM policy_sets ORDER BY position DESC LIMIT 1 OFFSET ?1)",
        ),
        (
            limits.policy_generations,
            "DELETE FROM policy_generations WHERE generation <= \
             (SELECT generation FROM policy_generations ORDER BY generation DESC LIMIT 1 OFFSET ?)",
        ),
    ];
    if limits.decision_seconds > 0 {
        let age = int(limits.decision_seconds.saturating_mul(1_000_000).min(u64::from(u32::MAX) * 1_000_000))?;
        // By position, which is the order of time, so that it ends at the first that is young enough.
        transaction.execute(
            "DELETE FROM decisions WHERE position < coalesce((SELECT position FROM decisions WHERE at >= (SELECT max(at) FROM transactions) - ? \
             ORDER BY position LIMIT 1), 0)",
            [age],
        )?;
    }
    for (limit, statement) in keep_newest {
        transaction.execute(statement, [int(limit)?])?;
    }
    history(&transaction, limits)?;
    // After the history: a record stays as long as an old version of its reservation does.
    transaction.execute(
        "DELETE FROM workspaces WHERE state = 'gone' AND (changed_at, id) <= (SELECT changed_at, id FROM workspaces \
         WHERE state = 'gone' ORDER BY changed_at DESC, id DESC LIMIT 1 OFFSET ?) \
         AND NOT EXISTS (SELECT 1 FROM reservations WHERE workspace = workspaces.id)",
        [int(limits.gone_workspaces)?],
    )?;
    transaction.commit()?;
    Ok(())
}

/// Old versions of the ledger are kept as far back as the oldest kept decision, but never more than the limit.
fn history(connection: &Connection, limits: &Limits) -> Tried<()> {
    let number = |statement: &str, limit: Option<u64>| -> Tried<Option<i64>> {
        let parameters: Vec<i64> = limit.map(int).transpose()?.into_iter().collect();
        let mut statement = connection.prepare(statement)?;
        let mut rows = statement.query(rusqlite::params_from_iter(parameters))?;
        Ok(rows.next()?.map(|row| row.get(0)).transpose()?.flatten())
    };
    let last = number("SELECT max(sequence) FROM transactions", None)?.unwrap_or(0);
    let mut floor = number("SELECT ledger FROM decisions ORDER BY position LIMIT 1", None)?.unwrap_or(last).min(last);
    for table in VERSIONED {
        let beyond =
            format!("SELECT sequence_to FROM {table} WHERE sequence_to IS NOT NULL ORDER BY sequence_to DESC LIMIT 1 OFFSET ?");
        floor = floor.max(number(&beyond, Some(limits.ledger_versions))?.unwrap_or(0));
    }
    let before = number("SELECT value FROM meta WHERE key = 'history_from'", None)?.unwrap_or(0);
    for table in VERSIONED.iter().filter(|table| **table != "reservations") {
        connection.execute(&format!("DELETE FROM {table} WHERE sequence_to <= ?"), [floor])?;
    }
    // Below the former floor nothing but running versions is left.
    connection.execute("DELETE FROM reservations WHERE sequence_to > ? AND sequence_to <= ? AND running = 0", [before, floor])?;
    accounts(connection, limits, floor)?;
    connection.execute("DELETE FROM transactions WHERE sequence < ?", [floor])?;
    connection.execute("UPDATE meta SET value = max(value, ?) WHERE key = 'history_from'", [floor])?;
    Ok(())
}

/// Running versions below the ledger's floor stay for accounts, but no longer and no more than the limits say. `accounts_from` in `meta`
/// is the instant from which accounts are complete.
fn accounts(connection: &Connection, limits: &Limits, floor: i64) -> Tried<()> {
    let age = int(limits.account_seconds.saturating_mul(1_000_000).min(u64::from(u32::MAX) * 1_000_000))?;
    let newest: i64 = connection.query_row("SELECT coalesce(max(at), 0) FROM transactions", [], |row| row.get(0))?;
    let beyond = connection
        .prepare("SELECT at_to FROM reservations WHERE at_to IS NOT NULL ORDER BY at_to DESC LIMIT 1 OFFSET ?")?
        .query_map([int(limits.account_versions)?], |row| row.get::<_, i64>(0))?
        .next()
        .transpose()?;
    let oldest = beyond.unwrap_or(0).max(newest.saturating_sub(age));
    if connection.execute("DELETE FROM reservations WHERE at_to <= ? AND sequence_to <= ?", [oldest, floor])? > 0 {
        connection.execute("UPDATE meta SET value = max(value, ?) WHERE key = 'accounts_from'", [oldest])?;
    }
    Ok(())
}

/// Forgets request ids older than the limit, counted from the newest. Only while opening: the projection never forgets one.
pub(crate) fn requests(connection: &Connection, limits: &Limits) -> Tried<()> {
    let age = int(limits.request_seconds.saturating_mul(1_000_000).min(u64::from(u32::MAX) * 1_000_000))?;
    connection.execute("DELETE FROM requests WHERE at < (SELECT max(at) FROM transactions) - ?", [age])?;
    Ok(())
}
