//! The schema's versions. Forward only: `PRAGMA user_version` is the number of the last migration that ran, and each runs in
//! a transaction of its own together with that number.

use rusqlite::Connection;

use crate::fail::Tried;

/// What marks a database as ours: `VWS1`.
pub(crate) const APPLICATION_ID: u32 = 0x5657_5331;

/// Every migration, in order. Released ones never change.
const MIGRATIONS: [&str; 1] = [include_str!("migrations/0001_init.sql")];

/// The version that this daemon writes.
#[expect(clippy::cast_possible_truncation, reason = "a handful of migrations")]
pub(crate) const VERSION: u32 = MIGRATIONS.len() as u32;

/// Brings a database of version `from` to [`VERSION`].
pub(crate) fn run(connection: &mut Connection, from: u32) -> Tried<()> {
    for (version, migration) in (1_u32..).zip(MIGRATIONS).filter(|(version, _)| *version > from) {
        let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        transaction.execute_batch(migration)?;
        if version == 1 {
            transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
            transaction.execute_batch(
                "INSERT INTO meta (key, value) VALUES ('event_sequence', 0), ('history_from', 0), ('generation', 0), ('clean', 1)",
            )?;
        }
        transaction.pragma_update(None, "user_version", version)?;
        transaction.commit()?;
        if from > 0 {
            tracing::info!(version, "the database's schema was brought forward");
        }
    }
    Ok(())
}
