//! The site: the in-memory projection of the ledger. Fed by [`Change`]s and nothing else, so that it can be rebuilt at any
//! time; usage, free capacity and counts are derived from reservations. The sums kept per owner, group and host are an index
//! that [`Site::recomputed`] must always equal (`vws doctor` compares them).

use crate::Timestamp;
use crate::addresses::{Address, AddressBook};
use crate::bundle::Bundle;
use crate::capacity::Resources;
use crate::decision::Decision;
use crate::event::Event;
use crate::host::Host;
use crate::id::{BundleId, HostName, ImageId, JobId, NetworkName, WorkspaceId};
use crate::image::Image;
use crate::job::Job;
use crate::network::{Mac, Network};
use crate::place::Candidate;
use crate::workspace::Workspace;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

/// What a live workspace holds. One per workspace, from admission until its machine was seen to be gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// Whose.
    pub workspace: WorkspaceId,
    /// The workspace's name, for affinity rules.
    pub name: String,
    /// uid of its owner.
    pub owner: u32,
    /// Group that is charged.
    pub group: String,
    /// Where; `None` while it is serialized.
    pub host: Option<HostName>,
    /// A second host on which the same is held while it moves. Counts for that host's capacity, and for nobody's usage again.
    pub also_on: Option<HostName>,
    /// What it holds.
    pub resources: Resources,
    /// Whether it runs (or may run, when unknown).
    pub running: bool,
    /// Whether it may be displaced: see [`crate::offers`].
    pub preemptible: bool,
    /// Labels of the workspace.
    pub labels: BTreeMap<String, String>,
    /// When its lease began.
    pub lease_from: Timestamp,
    /// When its lease ends.
    pub lease_until: Option<Timestamp>,
    /// Addresses of pools that it holds, also while it is serialized.
    pub addresses: u64,
}

/// Sums over reservations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Live workspaces, serialized ones included.
    pub workspaces: u64,
    /// Those that run.
    pub running: u64,
    /// What they hold on hosts.
    pub resources: Resources,
    /// Minutes of running time that their leases still reserve, from lease begin to lease end, rounded up per workspace.
    pub reserved_minutes: u64,
    /// Addresses of pools that they hold, serialized ones included.
    pub addresses: u64,
}

impl Usage {
    /// Adds a reservation; `here`: to the sum of a host on which it holds room.
    fn add(&mut self, reservation: &Reservation, here: bool) {
        self.workspaces += 1;
        self.running += u64::from(reservation.running);
        if here || reservation.host.is_some() {
            self.resources = self.resources.plus(reservation.resources);
        }
        self.reserved_minutes += reservation.minutes();
        self.addresses += reservation.addresses;
    }

    fn remove(&mut self, reservation: &Reservation, here: bool) {
        self.workspaces -= 1;
        self.running -= u64::from(reservation.running);
        if here || reservation.host.is_some() {
            self.resources = self.resources.minus(reservation.resources);
        }
        self.reserved_minutes -= reservation.minutes();
        self.addresses -= reservation.addresses;
    }

    /// These sums without one reservation that is part of them.
    #[must_use]
    pub fn without(mut self, reservation: &Reservation) -> Self {
        self.remove(reservation, false);
        self
    }
}

impl Reservation {
    /// The hosts on which it holds room: none, one, or two while it moves.
    pub fn hosts(&self) -> impl Iterator<Item = &HostName> {
        let second = self.also_on.as_ref().filter(|second| self.host.as_ref() != Some(second));
        self.host.iter().chain(second)
    }

    /// Minutes that its lease reserves; 0 without an end.
    #[must_use]
    pub fn minutes(&self) -> u64 {
        self.lease_until.map_or(0, |until| until.seconds_since(self.lease_from).div_ceil(60))
    }
}

/// One thing that a transaction writes. Each carries the whole new value, so that applying is replacing.
#[derive(Clone, Debug)]
pub enum Change {
    /// A workspace is new or has changed. One that is `gone` leaves the projection; the store keeps its record.
    PutWorkspace(Arc<Workspace>),
    /// A reservation is new or has changed.
    PutReservation(Arc<Reservation>),
    /// The machine was seen to be gone.
    ReleaseReservation(WorkspaceId),
    /// A host is new or has changed.
    PutHost(Arc<Host>),
    /// A host was removed.
    RemoveHost(HostName),
    /// A network is new or has changed.
    PutNetwork(Arc<Network>),
    /// A network was removed, with the pairs that it remembered.
    RemoveNetwork(NetworkName),
    /// An address was given out or released.
    PutAddress(Arc<Address>),
    /// An image is new or has changed.
    PutImage(Arc<Image>),
    /// An image was removed.
    RemoveImage(ImageId),
    /// A bundle is new or has changed. A consumed one leaves the projection.
    PutBundle(Arc<Bundle>),
    /// A bundle was removed.
    RemoveBundle(BundleId),
    /// A job is new or has changed. An ended one stays in the projection until [`Change::ForgetJob`].
    PutJob(Arc<Job>),
    /// An ended job is no longer shown on the bus; the store keeps its record for its retention time.
    ForgetJob(JobId),
    /// A decision was made.
    PutDecision(Arc<Decision>),
    /// A client's request id and the answer that it got.
    PutRequest(Arc<AnsweredRequest>),
    /// Something to tell.
    Event(Arc<Event>),
}

/// A request id that was used: the same id with the same request gets the same answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnsweredRequest {
    /// uid of the caller.
    pub uid: u32,
    /// The id that the client chose.
    pub request_id: String,
    /// sha256 of the request, as 64 digits.
    pub digest: String,
    /// The workspace of the answer.
    pub workspace: Option<WorkspaceId>,
    /// The job of the answer.
    pub job: Option<JobId>,
    /// The image of the answer.
    pub image: Option<ImageId>,
    /// When.
    pub at: Timestamp,
}

/// The projection.
#[derive(Clone, Debug, Default)]
pub struct Site {
    /// Sequence number of the last transaction applied.
    pub sequence: u64,
    /// Sequence number of the last event.
    pub event_sequence: u64,
    hosts: BTreeMap<HostName, Arc<Host>>,
    workspaces: BTreeMap<WorkspaceId, Arc<Workspace>>,
    reservations: BTreeMap<WorkspaceId, Arc<Reservation>>,
    images: BTreeMap<ImageId, Arc<Image>>,
    bundles: BTreeMap<BundleId, Arc<Bundle>>,
    jobs: BTreeMap<JobId, Arc<Job>>,
    requests: BTreeMap<(u32, String), Arc<AnsweredRequest>>,
    networks: BTreeMap<NetworkName, Arc<Network>>,
    addresses: AddressBook,
    /// MACs of the NICs of live workspaces: an index.
    macs: BTreeMap<Mac, BTreeSet<WorkspaceId>>,
    by_owner: BTreeMap<u32, Sum>,
    by_group: BTreeMap<String, Sum>,
    by_host: BTreeMap<HostName, Sum>,
    /// The pre-emptible of those on each host.
    preemptible: BTreeMap<HostName, BTreeSet<WorkspaceId>>,
    all: Sum,
    /// Every host with what is free on it, by name: kept so that placement need not build it anew for each request.
    candidates: Vec<Candidate>,
}

/// A sum and whose reservations it is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Sum {
    usage: Usage,
    members: BTreeSet<WorkspaceId>,
}

impl Sum {
    fn add(&mut self, reservation: &Reservation, here: bool) {
        self.usage.add(reservation, here);
        self.members.insert(reservation.workspace);
    }

    fn remove(&mut self, reservation: &Reservation, here: bool) {
        self.usage.remove(reservation, here);
        self.members.remove(&reservation.workspace);
    }
}

impl Site {
    /// Applies one change. `PutDecision` and `Event` change nothing here but the event number.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::PutWorkspace(workspace) => {
                let old = if workspace.state == crate::State::Gone {
                    self.workspaces.remove(&workspace.id)
                } else {
                    self.workspaces.insert(workspace.id, Arc::clone(workspace))
                };
                let gone = workspace.state == crate::State::Gone;
                if gone || old.as_ref().is_none_or(|old| old.spec.nics != workspace.spec.nics) {
                    self.unplug(old.as_deref());
                    if !gone {
                        self.plug(workspace);
                    }
                }
            }
            Change::PutReservation(reservation) => {
                self.unbook(reservation.workspace);
                self.book(reservation);
                self.reservations.insert(reservation.workspace, Arc::clone(reservation));
            }
            Change::ReleaseReservation(id) => self.unbook(*id),
            Change::PutHost(host) => {
                self.hosts.insert(host.name.clone(), Arc::clone(host));
                self.offer(&host.name);
            }
            Change::RemoveHost(name) => {
                self.hosts.remove(name);
                self.offer(name);
            }
            Change::PutNetwork(network) => {
                self.networks.insert(network.name.clone(), Arc::clone(network));
            }
            Change::RemoveNetwork(name) => {
                self.networks.remove(name);
                self.addresses.forget_network(name);
            }
            Change::PutAddress(address) => self.addresses.put(address),
            Change::PutImage(image) => {
                self.images.insert(image.id, Arc::clone(image));
            }
            Change::RemoveImage(id) => {
                self.images.remove(id);
            }
            Change::PutBundle(bundle) => {
                if bundle.consumed_at.is_some() {
                    self.bundles.remove(&bundle.id);
                } else {
                    self.bundles.insert(bundle.id, Arc::clone(bundle));
                }
            }
            Change::RemoveBundle(id) => {
                self.bundles.remove(id);
            }
            Change::PutJob(job) => {
                self.jobs.insert(job.id, Arc::clone(job));
            }
            Change::ForgetJob(id) => {
                self.jobs.remove(id);
            }
            Change::PutRequest(request) => {
                self.requests.insert((request.uid, request.request_id.clone()), Arc::clone(request));
            }
            Change::PutDecision(_) => {}
            Change::Event(event) => self.event_sequence = self.event_sequence.max(event.sequence),
        }
    }

    /// Enters the MACs of a workspace's NICs.
    fn plug(&mut self, workspace: &Workspace) {
        for mac in macs_of(workspace) {
            self.macs.entry(mac).or_default().insert(workspace.id);
        }
    }

    fn unplug(&mut self, old: Option<&Workspace>) {
        let Some(old) = old else { return };
        for mac in macs_of(old) {
            if let Some(who) = self.macs.get_mut(&mac) {
                who.remove(&old.id);
                if who.is_empty() {
                    self.macs.remove(&mac);
                }
            }
        }
    }

    fn book(&mut self, reservation: &Reservation) {
        self.all.add(reservation, false);
        self.by_owner.entry(reservation.owner).or_default().add(reservation, false);
        self.by_group.entry(reservation.group.clone()).or_default().add(reservation, false);
        for host in reservation.hosts() {
            self.by_host.entry(host.clone()).or_default().add(reservation, true);
            if reservation.preemptible {
                self.preemptible.entry(host.clone()).or_default().insert(reservation.workspace);
            }
            self.offer(host);
        }
    }

    /// Brings the host's candidate in line with the host and its reservations.
    fn offer(&mut self, name: &HostName) {
        let place = self.candidates.binary_search_by(|candidate| candidate.host.name.cmp(name));
        let Some(host) = self.hosts.get(name) else {
            if let Ok(index) = place {
                self.candidates.remove(index);
            }
            return;
        };
        let usage = self.by_host.get(name).map(|sum| sum.usage).unwrap_or_default();
        let candidate =
            Candidate { host: Arc::clone(host), free: host.capacity().minus(usage.resources), workspaces: usage.workspaces };
        match place {
            Ok(index) => {
                if let Some(slot) = self.candidates.get_mut(index) {
                    *slot = candidate;
                }
            }
            Err(index) => self.candidates.insert(index, candidate),
        }
    }

    fn unbook(&mut self, id: WorkspaceId) {
        let Some(old) = self.reservations.remove(&id) else { return };
        self.all.remove(&old, false);
        take(&mut self.by_owner, &old.owner, &old, false);
        take(&mut self.by_group, &old.group, &old, false);
        for host in old.hosts() {
            take(&mut self.by_host, host, &old, true);
            if let Some(there) = self.preemptible.get_mut(host) {
                there.remove(&id);
                if there.is_empty() {
                    self.preemptible.remove(host);
                }
            }
            self.offer(host);
        }
    }

    /// The same projection with every index built anew from workspaces, reservations and addresses.
    #[must_use]
    pub fn recomputed(&self) -> Self {
        let mut fresh = self.clone();
        fresh.by_owner.clear();
        fresh.by_group.clear();
        fresh.by_host.clear();
        fresh.preemptible.clear();
        fresh.all = Sum::default();
        fresh.candidates.clear();
        for name in self.hosts.keys() {
            fresh.offer(name);
        }
        for reservation in self.reservations.values() {
            fresh.book(reservation);
        }
        fresh.addresses = self.addresses.recomputed();
        fresh.macs.clear();
        for workspace in self.workspaces.values() {
            fresh.plug(workspace);
        }
        fresh
    }

    /// Whether the kept sums and indexes equal those of `other`.
    #[must_use]
    pub fn same_sums(&self, other: &Self) -> bool {
        self.all == other.all
            && self.by_owner == other.by_owner
            && self.by_group == other.by_group
            && self.by_host == other.by_host
            && self.preemptible == other.preemptible
            && self.addresses == other.addresses
            && self.macs == other.macs
            && self.candidates.len() == other.candidates.len()
            && self
                .candidates
                .iter()
                .zip(&other.candidates)
                .all(|(one, two)| one.host == two.host && one.free == two.free && one.workspaces == two.workspaces)
    }

    /// A live workspace.
    #[must_use]
    pub fn workspace(&self, id: WorkspaceId) -> Option<&Arc<Workspace>> {
        self.workspaces.get(&id)
    }
    /// Every live workspace, by id.
    pub fn workspaces(&self) -> impl Iterator<Item = &Arc<Workspace>> {
        self.workspaces.values()
    }
    /// Live workspaces with an id above `cursor`.
    pub fn workspaces_after(&self, cursor: Option<WorkspaceId>) -> impl Iterator<Item = &Arc<Workspace>> {
        after(&self.workspaces, cursor.as_ref())
    }
    /// Hosts whose names come after `cursor`, by name.
    pub fn hosts_after(&self, cursor: Option<&HostName>) -> impl Iterator<Item = &Arc<Host>> {
        after(&self.hosts, cursor)
    }
    /// Images whose ids come after `cursor`, by id.
    pub fn images_after(&self, cursor: Option<ImageId>) -> impl Iterator<Item = &Arc<Image>> {
        after(&self.images, cursor.as_ref())
    }
    /// Jobs whose ids come after `cursor`, by id.
    pub fn jobs_after(&self, cursor: Option<JobId>) -> impl Iterator<Item = &Arc<Job>> {
        after(&self.jobs, cursor.as_ref())
    }
    /// Live workspaces, counted.
    #[must_use]
    pub fn workspace_count(&self) -> usize {
        self.workspaces.len()
    }
    /// A host.
    #[must_use]
    pub fn host(&self, name: &HostName) -> Option<&Arc<Host>> {
        self.hosts.get(name)
    }
    /// Every host, by name.
    pub fn hosts(&self) -> impl Iterator<Item = &Arc<Host>> {
        self.hosts.values()
    }
    /// A network.
    #[must_use]
    pub fn network(&self, name: &NetworkName) -> Option<&Arc<Network>> {
        self.networks.get(name)
    }
    /// Every network, by name.
    pub fn networks(&self) -> impl Iterator<Item = &Arc<Network>> {
        self.networks.values()
    }
    /// Networks whose names come after `cursor`, by name.
    pub fn networks_after(&self, cursor: Option<&NetworkName>) -> impl Iterator<Item = &Arc<Network>> {
        after(&self.networks, cursor)
    }
    /// Who has which address.
    #[must_use]
    pub fn addresses(&self) -> &AddressBook {
        &self.addresses
    }
    /// A live workspace that has a NIC with this MAC.
    #[must_use]
    pub fn nic_with(&self, mac: Mac) -> Option<WorkspaceId> {
        self.macs.get(&mac).and_then(|who| who.first().copied())
    }
    /// A reservation.
    #[must_use]
    pub fn reservation(&self, id: WorkspaceId) -> Option<&Arc<Reservation>> {
        self.reservations.get(&id)
    }
    /// Every reservation, by workspace id.
    pub fn reservations(&self) -> impl Iterator<Item = &Arc<Reservation>> {
        self.reservations.values()
    }
    /// The reservations on a host, by workspace id.
    pub fn reservations_on(&self, host: &HostName) -> impl Iterator<Item = &Arc<Reservation>> {
        let ids = self.by_host.get(host).map(|sum| &sum.members);
        ids.into_iter().flatten().filter_map(|id| self.reservations.get(id))
    }
    /// Hosts with pre-emptible workspaces on them, by name, and these by id.
    pub fn preemptible(&self) -> impl Iterator<Item = (&HostName, &BTreeSet<WorkspaceId>)> {
        self.preemptible.iter()
    }
    /// An image.
    #[must_use]
    pub fn image(&self, id: ImageId) -> Option<&Arc<Image>> {
        self.images.get(&id)
    }
    /// The image with this name.
    #[must_use]
    pub fn image_named(&self, name: &str) -> Option<&Arc<Image>> {
        self.images.values().find(|image| image.name == name)
    }
    /// Every image.
    pub fn images(&self) -> impl Iterator<Item = &Arc<Image>> {
        self.images.values()
    }
    /// A bundle that waits to be resumed.
    #[must_use]
    pub fn bundle(&self, id: BundleId) -> Option<&Arc<Bundle>> {
        self.bundles.get(&id)
    }
    /// Every bundle that waits.
    pub fn bundles(&self) -> impl Iterator<Item = &Arc<Bundle>> {
        self.bundles.values()
    }
    /// A job.
    #[must_use]
    pub fn job(&self, id: JobId) -> Option<&Arc<Job>> {
        self.jobs.get(&id)
    }
    /// Every job that is shown.
    pub fn jobs(&self) -> impl Iterator<Item = &Arc<Job>> {
        self.jobs.values()
    }
    /// The answer that a request id got.
    #[must_use]
    pub fn answered(&self, uid: u32, request_id: &str) -> Option<&Arc<AnsweredRequest>> {
        self.requests.get(&(uid, request_id.to_owned()))
    }
    /// Usage of an owner.
    #[must_use]
    pub fn usage_of_owner(&self, uid: u32) -> Usage {
        self.by_owner.get(&uid).map(|sum| sum.usage).unwrap_or_default()
    }
    /// Usage of a group.
    #[must_use]
    pub fn usage_of_group(&self, group: &str) -> Usage {
        self.by_group.get(group).map(|sum| sum.usage).unwrap_or_default()
    }
    /// Usage of the whole site.
    #[must_use]
    pub fn usage_of_site(&self) -> Usage {
        self.all.usage
    }
    /// What is placed on a host.
    #[must_use]
    pub fn usage_of_host(&self, host: &HostName) -> Usage {
        self.by_host.get(host).map(|sum| sum.usage).unwrap_or_default()
    }
    /// What is free on a host for new workspaces.
    #[must_use]
    pub fn free_on(&self, host: &Host) -> Resources {
        host.capacity().minus(self.usage_of_host(&host.name).resources)
    }
    /// Every host as a candidate for placement, by name.
    #[must_use]
    pub fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }
    /// The host of this name as a candidate.
    #[must_use]
    pub fn candidate(&self, name: &HostName) -> Option<&Candidate> {
        let index = self.candidates.binary_search_by(|candidate| candidate.host.name.cmp(name)).ok()?;
        self.candidates.get(index)
    }
    /// The reservations of an owner and of a group, by workspace id: what affinity rules look at.
    #[must_use]
    pub fn placements_near(&self, owner: u32, group: &str) -> Vec<Arc<Reservation>> {
        let owners = self.by_owner.get(&owner).map(|sum| &sum.members);
        let groups = self.by_group.get(group).map(|sum| &sum.members);
        let ids: BTreeSet<&WorkspaceId> = owners.into_iter().chain(groups).flatten().collect();
        ids.into_iter().filter_map(|id| self.reservations.get(id)).cloned().collect()
    }
    /// The live workspaces of an owner.
    pub fn workspaces_of(&self, owner: u32) -> impl Iterator<Item = &Arc<Workspace>> {
        let ids = self.by_owner.get(&owner).map(|sum| &sum.members);
        ids.into_iter().flatten().filter_map(|id| self.workspaces.get(id))
    }
}

fn take<K: Ord + Clone>(sums: &mut BTreeMap<K, Sum>, key: &K, old: &Reservation, here: bool) {
    if let Some(sum) = sums.get_mut(key) {
        sum.remove(old, here);
        if sum.members.is_empty() {
            sums.remove(key);
        }
    }
}

/// What stands behind `cursor`, in order.
fn after<'a, K: Ord, V>(all: &'a BTreeMap<K, Arc<V>>, cursor: Option<&K>) -> impl Iterator<Item = &'a Arc<V>> + use<'a, K, V> {
    let from = cursor.map_or(Bound::Unbounded, Bound::Excluded);
    all.range((from, Bound::Unbounded)).map(|(_, value)| value)
}

fn macs_of(workspace: &Workspace) -> impl Iterator<Item = Mac> + '_ {
    workspace.spec.nics.iter().filter_map(|nic| Mac::parse(&nic.mac).ok())
}
