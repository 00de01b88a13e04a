//! Accounts: who has used and holds how much. Administrators see everybody; others themselves, and the sums of their groups.

use super::Service;
use std::collections::BTreeMap;
use std::sync::Arc;
use vws_domain::{Account, Caller, Error, ErrorKind, Period, Reservation, Result, Timestamp, accounts, shown};

/// Which accounts.
#[derive(Clone, Debug, Default)]
pub struct UsageQuery {
    /// Of this user.
    pub owner: Option<u32>,
    /// Charged to this group.
    pub group: Option<String>,
    /// First instant; without it all that the ledger keeps.
    pub since: Option<Timestamp>,
    /// First instant after the period; without it now.
    pub until: Option<Timestamp>,
}

/// Who is charged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Charged {
    /// A user: uid and name.
    Owner(u32, String),
    /// A group.
    Group(String),
}

/// Accounts of a period.
#[derive(Clone, Debug)]
pub struct UsageReport {
    /// The period. It begins later than asked where the ledger does not reach so far back.
    pub period: Period,
    /// The charge unit.
    pub charge_minutes: u64,
    /// Users by uid, then groups by name.
    pub accounts: Vec<(Charged, Account)>,
}

impl Service {
    /// Used minutes of a period and what is held now, by user and by group. With an owner, its account alone.
    ///
    /// # Errors
    /// AccessDenied: accounts of another user, or of a group of others, are for administrators. InvalidArgument: the period ends before
    /// it begins. Internal: the store cannot be read.
    pub async fn usage(&self, caller: &Caller, query: UsageQuery) -> Result<UsageReport> {
        if let Some(uid) = query.owner.filter(|uid| !caller.admin && *uid != caller.uid) {
            return Err(denied(format!("accounts of user {uid}")));
        }
        if let Some(group) = query.group.as_ref().filter(|group| !caller.admin && !caller.groups.contains(group)) {
            return Err(denied(format!("accounts of group `{}`", shown(group))));
        }
        let now = self.env.now();
        let until = query.until.unwrap_or(now);
        if query.since.is_some_and(|since| since > until) {
            return Err(Error::invalid("the period", "ends before it begins", "give `until` an instant after `since`"));
        }
        let store = Arc::clone(&self.store);
        let (owner, group, since) = (query.owner, query.group.clone(), query.since.unwrap_or_default());
        let (ran, from) = crate::operate::blocking(move || store.reader()?.ran(since, owner, group.as_deref())).await?;
        let mine = |held: &Reservation| {
            query.owner.is_none_or(|owner| owner == held.owner) && query.group.as_ref().is_none_or(|group| *group == held.group)
        };
        let (present, mut names) = self.core.read(|site| {
            let present: Vec<Arc<Reservation>> = site.reservations().filter(|held| mine(held)).cloned().collect();
            let names: BTreeMap<u32, String> =
                site.workspaces().map(|workspace| (workspace.owner, workspace.owner_name.clone())).collect();
            (present, names)
        });
        for one in &ran {
            names.entry(one.owner).or_insert_with(|| one.owner_name.clone());
        }
        names.insert(caller.uid, caller.user.clone());
        let period = Period { since: since.max(from).min(until), until };
        let charge_minutes = self.admission.charge_minutes;
        let all = accounts(&ran, present.iter().map(Arc::as_ref), period, now, charge_minutes);
        let visible_owner = |uid: &u32| caller.admin || *uid == caller.uid;
        let owners = all.owners.into_iter().filter(|(uid, _)| visible_owner(uid));
        let mut told: Vec<(Charged, Account)> =
            owners.map(|(uid, account)| (Charged::Owner(uid, names.remove(&uid).unwrap_or_default()), account)).collect();
        if query.owner.is_none() {
            let groups = all.groups.into_iter().filter(|(group, _)| caller.admin || caller.groups.contains(group));
            told.extend(groups.map(|(group, account)| (Charged::Group(group), account)));
        }
        Ok(UsageReport { period, charge_minutes, accounts: told })
    }
}

fn denied(object: String) -> Error {
    Error::new(
        ErrorKind::AccessDenied,
        object,
        "are for administrators",
        "leave it out: `vws usage` shows your own and your groups'",
    )
}
