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
                "INSERT INTO meta (key, value) VALUES ('event_sequence', 0), ('history_from', 0), ('accounts_from', 0), ('generation', 0), ('clean', 1)",
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Every table and index as the migrations leave them.
    fn schema_of(connection: &Connection) -> String {
        let mut statement = connection
            .prepare("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' ORDER BY tbl_name, rowid")
            .unwrap();
        let rows: Vec<String> = statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        rows.iter().map(|sql| format!("{sql};\n\n")).collect()
    }

    /// `schema.sql` is the present schema in one place, for readers. A migration comes with its share of it.
    #[test]
    fn all_migrations_in_order_make_the_schema_as_written_down() {
        let mut connection = Connection::open_in_memory().unwrap();
        run(&mut connection, 0).unwrap();
        let made = schema_of(&connection);
        let written = Connection::open_in_memory().unwrap();
        written.execute_batch(include_str!("schema.sql")).unwrap();
        assert_eq!(made, schema_of(&written), "src/schema.sql is not what the migrations make; this is:\n{made}");
        let version: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
        let application: u32 = connection.pragma_query_value(None, "application_id", |row| row.get(0)).unwrap();
        assert_eq!((version, application), (VERSION, APPLICATION_ID));
    }

    #[test]
    fn a_migration_that_ran_does_not_run_again() {
        let mut connection = Connection::open_in_memory().unwrap();
        run(&mut connection, 0).unwrap();
        run(&mut connection, VERSION).unwrap();
    }
}
