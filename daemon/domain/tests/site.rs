//! The projection: whatever is booked and released, its kept sums are those of its reservations.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use vws_domain::{
    Change, Connection, ForeignUse, Host, HostFacts, HostName, Reservation, Resources, Site, Timestamp, WorkspaceId,
};

fn host(name: &str, vcpus: u64) -> Arc<Host> {
    Arc::new(Host {
        name: HostName::parse(name).unwrap(),
        backend: "sim".to_owned(),
        settings: String::new(),
        labels: BTreeMap::new(),
        cpu_overcommit_percent: 150,
        memory_overcommit_percent: 100,
        reserve: Resources { vcpus: 1, memory_mib: 1024, disk_gib: 0 },
        image_cache_gib: 0,
        enabled: true,
        facts: HostFacts { total: Resources { vcpus, memory_mib: 65_536, disk_gib: 1000 }, ..HostFacts::default() },
        foreign: ForeignUse::default(),
        connection: Connection::Up,
        version: 1,
        seen_at: Timestamp(0),
    })
}

fn change() -> impl Strategy<Value = Change> {
    let reservation = (0_u128..6, 0_u32..3, (0_usize..4, 0_usize..4), 1_u64..9, any::<[bool; 2]>(), 0_u64..10_000).prop_map(
        |(id, owner, (place, second), vcpus, [running, preemptible], until)| {
            Change::PutReservation(Arc::new(Reservation {
                workspace: WorkspaceId(id),
                name: format!("w{id}"),
                owner,
                group: format!("g{}", owner % 2),
                host: ["a", "b", "c"].get(place).map(|name| HostName::parse(name).unwrap()),
                also_on: ["a", "b", "c"].get(second).map(|name| HostName::parse(name).unwrap()),
                resources: Resources { vcpus, memory_mib: vcpus * 512, disk_gib: vcpus },
                running,
                preemptible,
                labels: BTreeMap::new(),
                lease_from: Timestamp(0),
                lease_until: (until > 0).then(|| Timestamp(0).plus_seconds(until)),
                addresses: vcpus % 3,
            }))
        },
    );
    prop_oneof![
        4 => reservation,
        2 => (0_u128..6).prop_map(|id| Change::ReleaseReservation(WorkspaceId(id))),
        1 => (0_usize..3, 1_u64..64).prop_map(|(place, vcpus)| Change::PutHost(host(["a", "b", "c"][place], vcpus))),
        1 => (0_usize..3).prop_map(|place| Change::RemoveHost(HostName::parse(["a", "b", "c"][place]).unwrap())),
    ]
}

proptest! {
    #[test]
    fn kept_sums_are_those_of_the_reservations(changes in proptest::collection::vec(change(), 0..60)) {
        let mut site = Site::default();
        for change in &changes {
            site.apply(change);
            prop_assert!(site.same_sums(&site.recomputed()));
        }
        for candidate in site.candidates() {
            prop_assert_eq!(candidate.free, site.free_on(&candidate.host));
        }
        let names: Vec<_> = site.candidates().iter().map(|candidate| candidate.host.name.clone()).collect();
        prop_assert!(names.is_sorted());
    }

    #[test]
    fn nothing_is_left_when_everything_is_released(changes in proptest::collection::vec(change(), 0..40)) {
        let mut site = Site::default();
        changes.iter().for_each(|change| site.apply(change));
        for id in 0..6 {
            site.apply(&Change::ReleaseReservation(WorkspaceId(id)));
        }
        prop_assert_eq!(site.usage_of_site(), vws_domain::Usage::default());
    }
}
