//! Accounts: what users and groups have used and still hold, derived from intervals of the ledger and never counted.
//!
//! The charge unit: a workspace is charged from the start of a running interval, in whole units; a unit that has begun is charged in
//! full. A period charges the units that *begin* in it, on the interval's own grid, so accounts of periods that follow one another
//! add up to the account of both together, wherever they are cut.

use crate::Timestamp;
use crate::capacity::Resources;
use crate::id::WorkspaceId;
use crate::site::Reservation;
use std::collections::BTreeMap;

/// Longest charge unit in minutes: a day.
pub const CHARGE_MINUTES_MOST: u64 = 1440;

/// A time in which a workspace ran, or may have run, with everything about it that is charged unchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// Which workspace.
    pub workspace: WorkspaceId,
    /// uid that is charged.
    pub owner: u32,
    /// Its name, for display.
    pub owner_name: String,
    /// Group that is charged.
    pub group: String,
    /// From when.
    pub from: Timestamp,
    /// Until when, exclusive; `None` while it goes on.
    pub until: Option<Timestamp>,
}

/// The instants from `since` up to, not including, `until`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    /// First instant.
    pub since: Timestamp,
    /// First instant after it.
    pub until: Timestamp,
}

/// What one user or group has used and holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Minutes charged in the period.
    pub used_minutes: u64,
    /// Minutes that the present leases may still be charged: the units that would begin until their ends. Leases without an end
    /// count none.
    pub ahead_minutes: u64,
    /// Workspaces now, serialized ones included.
    pub workspaces: u64,
    /// Those that run now, or may run.
    pub running: u64,
    /// What they hold on hosts now.
    pub resources: Resources,
}

/// Accounts by user and by group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accounts {
    /// By uid.
    pub owners: BTreeMap<u32, Account>,
    /// By group.
    pub groups: BTreeMap<String, Account>,
}

/// One interval where versions of the ledger follow one another without a gap and charge the same: a change of name or size begins
/// no new unit. `versions` are ordered by workspace and time.
#[must_use]
pub fn merged(versions: Vec<Ran>) -> Vec<Ran> {
    let mut whole: Vec<Ran> = Vec::with_capacity(versions.len());
    for next in versions {
        match whole.last_mut() {
            Some(last)
                if (last.workspace, last.owner, &last.group) == (next.workspace, next.owner, &next.group)
                    && last.until == Some(next.from) =>
            {
                last.until = next.until;
            }
            _ => whole.push(next),
        }
    }
    whole
}

/// Units that begin in `period`, of an interval that began at `from` and lasts until `until`.
fn units(from: Timestamp, until: Timestamp, period: Period, unit_us: u64) -> u64 {
    let begun_before = |instant: Timestamp| instant.0.saturating_sub(from.0).div_ceil(unit_us);
    begun_before(until.min(period.until)).saturating_sub(begun_before(period.since))
}

/// The accounts of `period`, from running intervals ([`merged`]) and the present reservations. Nothing is charged after `now`.
/// `charge_minutes` is the charge unit, at least 1.
#[must_use]
pub fn accounts<'a>(
    ran: &[Ran],
    present: impl Iterator<Item = &'a Reservation>,
    period: Period,
    now: Timestamp,
    charge_minutes: u64,
) -> Accounts {
    let charge_minutes = charge_minutes.max(1);
    let unit_us = charge_minutes.saturating_mul(60_000_000);
    let mut accounts = Accounts::default();
    let mut goes_on = BTreeMap::new();
    for one in ran {
        if one.until.is_none() {
            goes_on.insert(one.workspace, one.from);
        }
        let minutes = charge_minutes.saturating_mul(units(one.from, one.until.unwrap_or(now).min(now), period, unit_us));
        if minutes > 0 {
            accounts.both(one.owner, &one.group, |account| {
                account.used_minutes = account.used_minutes.saturating_add(minutes);
            });
        }
    }
    for held in present {
        let began = goes_on.get(&held.workspace).filter(|_| held.running).copied().unwrap_or(now);
        let ahead = held
            .lease_until
            .map_or(0, |until| units(began, until, Period { since: now, until }, unit_us).saturating_mul(charge_minutes));
        accounts.both(held.owner, &held.group, |account| {
            account.ahead_minutes = account.ahead_minutes.saturating_add(ahead);
            account.workspaces += 1;
            account.running += u64::from(held.running);
            if held.host.is_some() {
                account.resources = account.resources.plus(held.resources);
            }
        });
    }
    accounts
}

impl Accounts {
    fn both(&mut self, owner: u32, group: &str, mut add: impl FnMut(&mut Account)) {
        add(self.owners.entry(owner).or_default());
        if !self.groups.contains_key(group) {
            self.groups.insert(group.to_owned(), Account::default());
        }
        if let Some(account) = self.groups.get_mut(group) {
            add(account);
        }
    }
}
