//! Reading what is committed: a connection of its own that never waits for the writer.

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use vws_domain::{
    Bundle, BundleId, Decision, DecisionId, Error, ErrorKind, Event, HostName, ImageId, Job, JobId, PolicyHash, Ran, Result,
    Site, Timestamp, Verb, Workspace, WorkspaceId,
};

use crate::fail::{Fail, Tried, int};
use crate::rows::{Stored, from_json};
use crate::store::PolicyGeneration;
use crate::tables::{self, Cells};
use crate::walk::Step;
use crate::{load, open};

/// Which decisions. Everything that is set must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DecisionFilter {
    /// About this workspace.
    pub workspace: Option<WorkspaceId>,
    /// About something of this name: a workspace, image, host or set of policies, also one that is gone.
    pub name: Option<String>,
    /// Asked by this user.
    pub uid: Option<u32>,
    /// About this verb.
    pub verb: Option<Verb>,
    /// Permitted, or refused.
    pub permitted: Option<bool>,
    /// Decided by this policy set.
    pub policy: Option<PolicyHash>,
    /// Not before this instant.
    pub since: Option<Timestamp>,
    /// Not after this instant.
    pub until: Option<Timestamp>,
    /// Recorded before this decision: the cursor of the next page.
    pub before: Option<DecisionId>,
}

/// A decision and where it stands in the record.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// Counts up, with gaps.
    pub position: u64,
    /// The decision.
    pub decision: Decision,
}

/// A reader. Cheap to make; may be sent to another thread, not shared.
#[derive(Debug)]
pub struct Reader {
    connection: Connection,
    path: PathBuf,
}

impl Reader {
    /// A reader of the database at `path`, which may be a live one or a backup.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self { connection: open::reader(path)?, path: path.to_owned() })
    }

    /// Decisions under `filter`, newest first, at most `limit`.
    ///
    /// # Errors
    /// The database cannot be read, or the filter's cursor is unknown ([`ErrorKind::NotFound`]).
    pub fn decisions(&self, filter: &DecisionFilter, limit: usize) -> Result<Vec<Decision>> {
        let (condition, mut values) = self.condition(filter, None)?;
        values.push(most(limit));
        self.all(tables::SELECT_DECISIONS, &format!("{condition}ORDER BY position DESC LIMIT ?"), values, tables::decision)
    }

    /// Decisions under `filter` that were recorded after position `after`, oldest first, at most `limit`, each with its position.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn decisions_after(&self, filter: &DecisionFilter, after: u64, limit: usize) -> Result<Vec<Recorded>> {
        let (condition, mut values) = self.condition(filter, Some(after))?;
        values.push(most(limit));
        let found = self.all(
            &tables::SELECT_DECISIONS.replacen("SELECT ", "SELECT position, ", 1),
            &format!("{condition}ORDER BY position LIMIT ?"),
            values,
            |cells| Ok(Recorded { position: cells.position()?, decision: tables::decision(cells)? }),
        )?;
        Ok(found)
    }

    /// The position after which the newest `count` decisions under `filter` were recorded: 0 when there are fewer.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn position_before_newest(&self, filter: &DecisionFilter, count: u64) -> Result<u64> {
        let (condition, mut values) = self.condition(filter, None)?;
        values.push(most(count));
        let sql = format!("SELECT position FROM decisions {condition}ORDER BY position DESC LIMIT 1 OFFSET ?");
        let ask = || -> Tried<u64> {
            let mut statement = self.connection.prepare_cached(&sql)?;
            let mut rows = statement.query(params_from_iter(values))?;
            let found: Option<i64> = rows.next()?.map(|row| row.get(0)).transpose()?;
            Ok(found.and_then(|position| u64::try_from(position).ok()).unwrap_or(0))
        };
        self.told(ask())
    }

    /// How many decisions under `filter` were recorded after position `after`.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn count_after(&self, filter: &DecisionFilter, after: u64) -> Result<u64> {
        let (condition, values) = self.condition(filter, Some(after))?;
        let ask = || -> Tried<i64> {
            let mut statement = self.connection.prepare_cached(&format!("SELECT count(*) FROM decisions {condition}"))?;
            Ok(statement.query_row(params_from_iter(values), |row| row.get(0))?)
        };
        Ok(u64::try_from(self.told(ask())?).unwrap_or(0))
    }

    /// Another reader of the same database.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn again(&self) -> Result<Self> {
        Self::open(&self.path)
    }

    /// `WHERE ...` of a filter, and its values.
    fn condition(&self, filter: &DecisionFilter, after: Option<u64>) -> Result<(String, Vec<Value>)> {
        let mut conditions: Vec<&str> = Vec::new();
        let mut values: Vec<Value> = Vec::new();
        let mut and = |condition, value: Value| {
            conditions.push(condition);
            values.push(value);
        };
        if let Some(id) = filter.workspace {
            and("workspace = ?", Value::Text(id.to_string()));
        }
        if let Some(name) = &filter.name {
            and("name = ?", Value::Text(name.clone()));
        }
        if let Some(uid) = filter.uid {
            and("uid = ?", Value::Integer(uid.into()));
        }
        if let Some(verb) = &filter.verb {
            and("verb = ?", Value::Text(Stored::of(verb)));
        }
        if let Some(permitted) = filter.permitted {
            and("permitted = ?", Value::Integer(permitted.into()));
        }
        if let Some(policy) = &filter.policy {
            and("policy = ?", Value::Text(policy.0.clone()));
        }
        if let Some(since) = filter.since {
            and("at >= ?", Value::Integer(self.told(int(since.0))?));
        }
        if let Some(until) = filter.until {
            and("at <= ?", most(until.0));
        }
        if let Some(before) = filter.before {
            let position = "SELECT position FROM decisions WHERE id = ?";
            let position = self.optional(position, &before.to_string(), |row| row.get(0))?;
            let position = position.ok_or_else(|| Error::not_found(format!("decision `{before}`")))?;
            and("position < ?", Value::Integer(position));
        }
        if let Some(after) = after {
            and("position > ?", most(after));
        }
        let condition = match conditions.is_empty() {
            true => String::new(),
            false => format!("WHERE {} ", conditions.join(" AND ")),
        };
        Ok((condition, values))
    }

    /// A decision.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn decision(&self, id: DecisionId) -> Result<Option<Decision>> {
        self.one(tables::SELECT_DECISIONS, &id.to_string(), tables::decision)
    }

    /// Events with a number above `sequence`, oldest first, at most `limit`.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn events_since(&self, sequence: u64, limit: usize) -> Result<Vec<Event>> {
        let values = vec![most(sequence), most(limit)];
        self.all(tables::SELECT_EVENTS, "WHERE sequence > ? ORDER BY sequence LIMIT ?", values, tables::event)
    }

    /// Number of the oldest event that is kept: a cursor more than one below it has missed some.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn oldest_event(&self) -> Result<Option<u64>> {
        let events = self.all(tables::SELECT_EVENTS, "ORDER BY sequence LIMIT 1", Vec::new(), tables::event)?;
        Ok(events.first().map(|event| event.sequence))
    }

    /// The highest generation of the policies that ever decided something here; 0 for none. It outlives the decisions.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn last_generation(&self) -> Result<u64> {
        self.told(load::generation(&self.connection))
    }

    /// A job, also one that is no longer shown.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn job(&self, id: JobId) -> Result<Option<Job>> {
        self.one(tables::SELECT_JOBS, &id.to_string(), tables::job)
    }

    /// A workspace, also one that is gone (without its user data).
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn workspace(&self, id: WorkspaceId) -> Result<Option<Workspace>> {
        self.one(tables::SELECT_WORKSPACES, &id.to_string(), tables::workspace)
    }

    /// Gone workspaces of this name, newest first, at most `limit`: `vws why` of something that is no more.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn gone_workspaces(&self, name: &str, limit: usize) -> Result<Vec<Workspace>> {
        let values = vec![Value::Text(name.to_owned()), most(limit)];
        let condition = "WHERE state = 'gone' AND name = ? ORDER BY changed_at DESC, id DESC LIMIT ?";
        self.all(tables::SELECT_WORKSPACES, condition, values, tables::workspace)
    }

    /// A bundle, also a consumed one.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn bundle(&self, id: BundleId) -> Result<Option<Bundle>> {
        self.one(tables::SELECT_BUNDLES, &id.to_string(), tables::bundle)
    }

    /// The projection, built anew from the tables.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn rebuild(&self) -> Result<Site> {
        self.at_one_instant(load::site)
    }

    /// Hosts, networks, addresses and reservations as they were when the ledger stood at `sequence`: what a decision that saw that number saw.
    /// Nothing else is in the result.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when the ledger has not come to that number, or no longer reaches back to it.
    pub fn rebuild_at(&self, sequence: u64) -> Result<Site> {
        let (from, last, site) = self.at_one_instant(|connection| {
            let from = load::meta(connection, "history_from")?;
            let last = load::sequence(connection)?;
            let site = if (from..=last).contains(&sequence) { Some(load::site_at(connection, sequence)?) } else { None };
            Ok((from, last, site))
        })?;
        site.ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                format!("ledger at {sequence}"),
                format!("is not kept: the ledger reaches from {from} to {last}"),
                "choose a decision that saw a number in that range",
            )
            .with_code("ledger-range")
        })
    }

    /// The times in which workspaces ran, as far as they reach into the time after `since`: of this owner and this group if one is
    /// named; with the instant from which the ledger is complete for accounts.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn ran(&self, since: Timestamp, owner: Option<u32>, group: Option<&str>) -> Result<(Vec<Ran>, Timestamp)> {
        let mut values = vec![most(since.0)];
        let mut condition = "WHERE r.running = 1 AND (r.at_to IS NULL OR r.at_to > ?)".to_owned();
        if let Some(owner) = owner {
            condition += " AND r.owner = ?";
            values.push(Value::Integer(owner.into()));
        }
        if let Some(group) = group {
            condition += " AND r.\"group\" = ?";
            values.push(Value::Text(group.to_owned()));
        }
        condition += " ORDER BY r.workspace, r.sequence_from";
        self.at_one_instant(|connection| {
            let versions = load::all(connection, tables::SELECT_RAN, &condition, params_from_iter(values), tables::ran)?;
            Ok((vws_domain::merged(versions), Timestamp(load::meta(connection, "accounts_from")?)))
        })
    }

    /// The images of each workspace that is or was on the host, and when it was there last (`None`: now), as far as the ledger reaches.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn image_use(&self, host: &HostName) -> Result<Vec<(Vec<ImageId>, Option<Timestamp>)>> {
        let values = vec![Value::Text(host.to_string())];
        self.all(tables::SELECT_IMAGE_USE, "WHERE r.host = ? GROUP BY r.workspace", values, tables::image_use)
    }

    /// The sources of a policy set: file name to text.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn policy_set(&self, hash: &PolicyHash) -> Result<Option<BTreeMap<String, String>>> {
        let text: Option<String> = self.optional("SELECT files FROM policy_sets WHERE hash = ?", &hash.0, |row| row.get(0))?;
        text.map(|text| from_json::<BTreeMap<String, String>, _>(&text).map_err(Fail::Row))
            .transpose()
            .map_err(|fail| self.about(&fail))
    }

    /// Which sets were in force, newest first, at most `limit`.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn policy_history(&self, limit: usize) -> Result<Vec<PolicyGeneration>> {
        let sql = "SELECT generation, hash, at, cause, actor, report, pinned_over FROM policy_generations ";
        self.all(sql, "ORDER BY generation DESC LIMIT ?", vec![most(limit)], tables::policy_generation)
    }

    /// What changed in hosts, networks, addresses and reservations by the transactions after `from` up to `to`, in their order.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn steps(&self, from: u64, to: u64) -> Result<Vec<Step>> {
        self.at_one_instant(|connection| crate::walk::steps(connection, from, to))
    }

    /// The ledger's numbers that can be rebuilt: from, to.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn ledger_range(&self) -> Result<(u64, u64)> {
        self.at_one_instant(|connection| Ok((load::meta(connection, "history_from")?, load::sequence(connection)?)))
    }

    fn one<T>(&self, select: &str, id: &str, take: fn(&mut Cells<'_>) -> Tried<T>) -> Result<Option<T>> {
        Ok(self.all(select, "WHERE id = ?", vec![Value::Text(id.to_owned())], take)?.into_iter().next())
    }

    fn all<T>(&self, select: &str, condition: &str, values: Vec<Value>, take: fn(&mut Cells<'_>) -> Tried<T>) -> Result<Vec<T>> {
        self.told(load::all(&self.connection, select, condition, params_from_iter(values), take))
    }

    fn optional<T>(&self, sql: &str, key: &str, take: fn(&rusqlite::Row<'_>) -> rusqlite::Result<T>) -> Result<Option<T>> {
        let ask = || -> Tried<Option<T>> {
            let mut statement = self.connection.prepare_cached(sql)?;
            let mut rows = statement.query([key])?;
            Ok(rows.next()?.map(take).transpose()?)
        };
        self.told(ask())
    }

    fn at_one_instant<T>(&self, read: impl FnOnce(&Connection) -> Tried<T>) -> Result<T> {
        let ask = || -> Tried<T> {
            let instant = self.connection.unchecked_transaction()?;
            let value = read(&instant)?;
            instant.finish()?;
            Ok(value)
        };
        self.told(ask())
    }

    fn told<T>(&self, outcome: Tried<T>) -> Result<T> {
        outcome.map_err(|fail| self.about(&fail))
    }

    fn about(&self, fail: &Fail) -> Error {
        fail.about(open::object(&self.path))
    }
}

/// A bound for SQL: what is above the largest stored number bounds nothing.
fn most(bound: impl TryInto<i64>) -> Value {
    Value::Integer(bound.try_into().unwrap_or(i64::MAX))
}
