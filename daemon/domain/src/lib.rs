//! The pure core: what a workspace, a host, a lease, a reservation, a decision *are*, and every rule that
//! can be stated without touching the world.
//!
//! Owns: the nouns, their validation, the lifecycle table, capacity arithmetic, the site's projection.
//! Must not know: clocks, random numbers, files, sockets, threads, serialization formats, Lua, SQL, D-Bus.
//! Time arrives as a [`Timestamp`], identity as a [`Caller`]; everything here is a function of its arguments.

mod account;
mod addresses;
mod allot;
mod bundle;
mod caller;
mod capacity;
mod cluster;
mod decision;
mod drain;
mod error;
mod event;
mod host;
mod id;
mod image;
mod image_cache;
mod job;
mod lease;
mod lifecycle;
mod network;
mod place;
mod preempt;
mod resize;
mod site;
mod snapshot;
mod spec;
mod workspace;

pub use account::{Account, Accounts, CHARGE_MINUTES_MOST, Period, Ran, accounts, merged};
pub use addresses::{Address, AddressBook};
pub use allot::{Allotment, Asker};
pub use bundle::{Bundle, BundleDisk, BundleFile, BundleImage, Manifest, Origin, needs_of_memory};
pub use caller::Caller;
pub use capacity::{Resources, Shortage};
pub use cluster::{Membership, Role, members, neighbours, peers};
pub use decision::{
    AccessInput, Before, Decision, HostJudgement, HostOutcome, PlacementInput, QuotaInput, Request, Restriction, Rule, Seen,
    UsageSet, Verb, Verdict, VerdictKind,
};
pub use drain::{Departure, Way, plan_departures, ways_off};
pub use error::{Error, ErrorKind, Result, shown};
pub use event::Event;
pub use host::{Accelerator, Connection, ForeignUse, Host, HostFacts};
pub use id::{BundleId, DecisionId, HostName, ImageId, JobId, NetworkName, PolicyHash, WorkspaceId};
pub use image::{Boot, DiskFormat, Firmware, Image, ImageState, Visibility};
pub use image_cache::{CachedImage, evicted};
pub use job::{Job, JobKind, JobState, Progress};
pub use lease::{EndAction, Lease, LeaseDue};
pub use lifecycle::{Illegal, State, StateEvent, Target};
pub use network::{AddressRange, Mac, Network, NetworkKind, Pool, Subnet, network_limits};
pub use place::{Candidate, capacity_filter, choose, growth_filter};
pub use preempt::{Exit, Offer, PREEMPTER, RoomWait, Victim, exit_of, leaves_for, offers, room_wait};
pub use resize::{DiskResize, NicResize, Part, Resize, Sizes, resized};
pub use site::{AnsweredRequest, Change, Reservation, Site, Usage};
pub use snapshot::{Snapshot, new_snapshot, snapshot_named};
pub use spec::{DataDisk, DiskLimits, DiskSource, Grant, ImageRef, Nic, NicLimits, NicNetwork, Right, Spec, Subject, limits};
pub use spec::{checked_catalogue_name, checked_digest, checked_labels, checked_nic, without_credentials};
pub use workspace::{Cause, Workspace};

/// Microseconds since the Unix epoch, UTC. The only notion of time in the core.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// This instant plus `seconds`, saturating at the end of time.
    #[must_use]
    pub fn plus_seconds(self, seconds: u64) -> Self {
        Self(self.0.saturating_add(seconds.saturating_mul(1_000_000)))
    }

    /// Seconds from `earlier` until this instant; 0 when `earlier` is later.
    #[must_use]
    pub fn seconds_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0) / 1_000_000
    }
}
