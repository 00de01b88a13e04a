//! Accounts against a reference that walks from unit to unit, and the laws that hold for any ledger.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use proptest::collection::vec;
use proptest::prelude::*;
use vws_domain::{Account, Accounts, HostName, Period, Ran, Reservation, Resources, Timestamp, WorkspaceId, accounts, merged};

const MINUTE: u64 = 60_000_000;

fn ran() -> impl Strategy<Value = Ran> {
    (0_u128..4, 0_u32..3, 0_u8..2, 0_u64..40 * MINUTE, proptest::option::of(0_u64..40 * MINUTE)).prop_map(
        |(workspace, owner, group, from, until)| Ran {
            workspace: WorkspaceId(workspace),
            owner,
            owner_name: format!("u{owner}"),
            group: format!("g{group}"),
            from: Timestamp(from),
            // Also intervals that end before they begin, as a clock that was set back makes them.
            until: until.map(Timestamp),
        },
    )
}

fn period() -> impl Strategy<Value = Period> {
    (0_u64..50 * MINUTE, 0_u64..50 * MINUTE).prop_map(|(a, b)| Period { since: Timestamp(a.min(b)), until: Timestamp(a.max(b)) })
}

/// Minutes of one interval, unit by unit.
fn walked(one: &Ran, period: Period, now: Timestamp, charge_minutes: u64) -> u64 {
    let end = one.until.unwrap_or(now).min(now);
    let mut begins = one.from;
    let mut minutes = 0;
    while begins < end {
        if period.since <= begins && begins < period.until {
            minutes += charge_minutes;
        }
        begins = Timestamp(begins.0 + charge_minutes * MINUTE);
    }
    minutes
}

fn used(all: &Accounts) -> (Vec<(u32, u64)>, Vec<(String, u64)>) {
    (
        all.owners.iter().map(|(uid, account)| (*uid, account.used_minutes)).collect(),
        all.groups.iter().map(|(group, account)| (group.clone(), account.used_minutes)).collect(),
    )
}

fn none<'a>() -> std::iter::Empty<&'a Reservation> {
    std::iter::empty()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn minutes_are_those_that_a_walk_counts(all in vec(ran(), 0..8), period in period(), now in 0_u64..50 * MINUTE, unit in 1_u64..9) {
        let now = Timestamp(now);
        let told = accounts(&all, none(), period, now, unit);
        for owner in 0..3 {
            let walked: u64 = all.iter().filter(|one| one.owner == owner).map(|one| walked(one, period, now, unit)).sum();
            prop_assert_eq!(told.owners.get(&owner).map_or(0, |account| account.used_minutes), walked);
        }
        for group in ["g0", "g1"] {
            let walked: u64 = all.iter().filter(|one| one.group == group).map(|one| walked(one, period, now, unit)).sum();
            prop_assert_eq!(told.groups.get(group).map_or(0, |account| account.used_minutes), walked);
        }
    }

    #[test]
    fn periods_that_follow_one_another_add_up(all in vec(ran(), 0..8), period in period(), cut in 0_u64..50 * MINUTE, unit in 1_u64..9) {
        let now = Timestamp(45 * MINUTE);
        let cut = Timestamp(cut.clamp(period.since.0, period.until.0));
        let whole = accounts(&all, none(), period, now, unit);
        let mut sum = accounts(&all, none(), Period { until: cut, ..period }, now, unit);
        for (uid, account) in accounts(&all, none(), Period { since: cut, ..period }, now, unit).owners {
            sum.owners.entry(uid).or_default().used_minutes += account.used_minutes;
        }
        prop_assert_eq!(used(&sum).0, used(&whole).0);
    }

    #[test]
    fn what_is_used_and_what_is_ahead_are_the_whole_lease(from in 0_u64..20, lease in 1_u64..30, later in 0_u64..30, unit in 1_u64..9, odd in 0_u64..MINUTE) {
        let from = Timestamp(from * MINUTE + odd);
        let until = from.plus_seconds(lease * 60);
        let now = Timestamp(from.0 + later.min(lease) * MINUTE);
        let one = Ran { workspace: WorkspaceId(1), owner: 1, owner_name: String::new(), group: "g".to_owned(), from, until: None };
        let held = Reservation {
            workspace: WorkspaceId(1), name: "w".to_owned(), owner: 1, group: "g".to_owned(),
            host: Some(HostName::parse("h").unwrap()), resources: Resources { vcpus: 1, memory_mib: 2, disk_gib: 3 },
            also_on: None,
            preemptible: false,
            running: true, labels: Default::default(), lease_from: from, lease_until: Some(until), addresses: 0,
        };
        let all = Period { since: Timestamp(0), until: Timestamp(u64::MAX) };
        let account = accounts(&[one], [&held].into_iter(), all, now, unit).owners[&1];
        prop_assert_eq!(account.used_minutes + account.ahead_minutes, lease.div_ceil(unit) * unit);
        let held = Account { used_minutes: 0, ahead_minutes: 0, workspaces: 1, running: 1, resources: held.resources };
        prop_assert_eq!(Account { used_minutes: 0, ahead_minutes: 0, ..account }, held);
    }

    #[test]
    fn cutting_an_interval_into_versions_changes_nothing(from in 0_u64..MINUTE, lengths in vec(1_u64..3 * MINUTE, 1..6)) {
        let mut at = from;
        let mut versions = Vec::new();
        for length in &lengths {
            versions.push(Ran {
                workspace: WorkspaceId(1), owner: 1, owner_name: String::new(), group: "g".to_owned(),
                from: Timestamp(at), until: Some(Timestamp(at + length)),
            });
            at += length;
        }
        let whole = Ran { until: Some(Timestamp(at)), ..versions[0].clone() };
        prop_assert_eq!(merged(versions), vec![whole]);
    }
}

#[test]
fn another_workspace_owner_or_a_gap_begins_a_new_interval() {
    let ran = |workspace: u128, owner, from, until| Ran {
        workspace: WorkspaceId(workspace),
        owner,
        owner_name: String::new(),
        group: "g".to_owned(),
        from: Timestamp(from),
        until: Some(Timestamp(until)),
    };
    let apart = vec![ran(1, 1, 0, 5), ran(2, 1, 5, 9), ran(2, 2, 9, 10), ran(2, 2, 11, 12)];
    assert_eq!(merged(apart.clone()), apart);
}
