//! Hosts as columns, kept between decisions: what the native filter and the ranking read of ten thousand hosts is a few
//! hundred kilobytes in a row instead of ten thousand records.
//!
//! A row is brought up to date when its candidate differs: another host record (records are immutable and shared, and a row
//! holds on to its record, so the same address is the same record) or other amounts. Scripts never see what is kept here.

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use vws_domain::{Candidate, Connection, Host, HostName, Request, Resources};

/// Hosts that are read together when everything is built anew.
const BLOCK: usize = 64;
/// Labels and capabilities that are kept as columns; more start anew.
const COLUMNS_KEPT: usize = 64;

/// Why a host cannot take a request, in the order in which `vws_domain::capacity_filter` says it; `Passes` if it can.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Fate {
    Passes,
    OtherHost,
    Apart,
    Leaves,
    Backend,
    Disabled,
    Unprobed,
    Down,
    Unsupported,
    TooLarge,
    NoRoom,
    /// The site's native label filter.
    Label,
}

impl Fate {
    /// The code, as the core's filter has it.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::Passes => "passes",
            Self::OtherHost => "other-host",
            Self::Apart => "apart",
            Self::Leaves => "leaves",
            Self::Backend => "backend",
            Self::Disabled => "disabled",
            Self::Unprobed => "unprobed",
            Self::Down => "down",
            Self::Unsupported => "unsupported",
            Self::TooLarge => "too-large",
            Self::NoRoom => "no-room",
            Self::Label => "label",
        }
    }
}

/// One label over all hosts: the id of its value on each, 0 where the host does not have it.
#[derive(Debug, Default)]
pub(crate) struct LabelColumn {
    pub(crate) ids: Vec<u32>,
    /// Id to value; the first is a place holder for "absent".
    pub(crate) values: Vec<String>,
    known: HashMap<String, u32>,
    /// The id that was given last.
    last: u32,
}

impl LabelColumn {
    fn with_capacity(hosts: usize) -> Self {
        Self { ids: Vec::with_capacity(hosts), values: vec![String::new()], ..Self::default() }
    }

    /// Appends these hosts. They have few labels each: looking through them takes less than a search.
    fn extend(&mut self, hosts: &[Arc<Host>], label: &str) {
        for host in hosts {
            let id = self.id_of(host.labels.iter().find(|(key, _)| *key == label).map(|(_, value)| value));
            self.ids.push(id);
            self.last = id;
        }
    }

    fn id_of(&mut self, value: Option<&String>) -> u32 {
        let Some(value) = value else { return 0 };
        // Neighbours by name often stand in the same rack.
        if self.last != 0 && self.values.get(self.last as usize) == Some(value) {
            return self.last;
        }
        if let Some(id) = self.known.get(value) {
            return *id;
        }
        let id = u32::try_from(self.values.len()).unwrap_or(0);
        self.values.push(value.clone());
        self.known.insert(value.clone(), id);
        id
    }

    /// The id of a value that some host has (or had).
    pub(crate) fn find(&self, value: &str) -> Option<u32> {
        self.known.get(value).copied()
    }
}

/// vCPUs, memory, disk as numbers for a ranking: a column each, because a term reads one of them.
#[derive(Debug, Default)]
pub(crate) struct Numbers([Vec<f64>; 3]);

impl Numbers {
    fn reserve(&mut self, count: usize) {
        self.0.iter_mut().for_each(|column| column.reserve_exact(count));
    }

    fn extend(&mut self, amounts: &[[f64; 3]]) {
        let [vcpus, memory, disk] = &mut self.0;
        vcpus.extend(amounts.iter().map(|[amount, _, _]| amount));
        memory.extend(amounts.iter().map(|[_, amount, _]| amount));
        disk.extend(amounts.iter().map(|[_, _, amount]| amount));
    }

    fn set(&mut self, index: usize, amounts: [f64; 3]) {
        self.0.iter_mut().zip(amounts).for_each(|(column, amount)| set(column, index, amount));
    }

    /// The amount at this place, for each host.
    pub(crate) fn column(&self, place: usize) -> &[f64] {
        self.0.get(place).map_or(&[], Vec::as_slice)
    }
}

/// The hosts of the last decision.
#[derive(Debug, Default)]
pub(crate) struct Columns {
    pub(crate) hosts: Vec<Arc<Host>>,
    free: Vec<Resources>,
    pub(crate) workspaces: Vec<u64>,
    /// What is free.
    pub(crate) free_numbers: Numbers,
    /// 1 / capacity, 0 where there is none: a ranking multiplies by it.
    pub(crate) per_capacity: Numbers,
    /// What may ever be given out.
    ceiling: Vec<Resources>,
    /// Whether the host can be used at all: `Passes`, `Disabled`, `Unprobed`, `Down`.
    usable: Vec<Fate>,
    /// Made when a tie asks for it: many a decision has none.
    names: OnceCell<Names>,
    /// Host indices that were looked for by name.
    found: RefCell<HashMap<HostName, u32>>,
    labels: HashMap<String, LabelColumn>,
    capabilities: HashMap<String, Vec<bool>>,
    /// Room for what a decision finds out about each host, given back by the last one: fresh memory costs more than the scan.
    pub(crate) spare_fates: Vec<Fate>,
    pub(crate) spare_scores: Vec<f64>,
}

/// The hosts in the order of their names.
#[derive(Debug)]
struct Names {
    /// Host indices by name.
    by_name: Vec<u32>,
    /// Each host's position by name.
    positions: Vec<u32>,
}

impl Names {
    fn of(hosts: &[Arc<Host>]) -> Self {
        let count = u32::try_from(hosts.len()).unwrap_or(u32::MAX);
        let mut by_name: Vec<u32> = (0..count).collect();
        // In time that grows with their number if they stand in order already, as a site's do.
        by_name.sort_by(|a, b| name(hosts, *a).cmp(name(hosts, *b)));
        let mut positions = vec![0; hosts.len()];
        for (position, index) in (0_u32..).zip(&by_name) {
            set(&mut positions, *index as usize, position);
        }
        Self { by_name, positions }
    }
}

/// vCPUs, memory, disk as numbers for a ranking.
pub(crate) fn numbers(amounts: Resources) -> [f64; 3] {
    [amounts.vcpus as f64, amounts.memory_mib as f64, amounts.disk_gib as f64]
}

fn per(capacity: Resources) -> [f64; 3] {
    numbers(capacity).map(|amount| if amount > 0.0 { 1.0 / amount } else { 0.0 })
}

/// All three are compared always: that is cheaper than three guesses which comparison ends it.
fn fits(asked: Resources, room: Resources) -> bool {
    (asked.vcpus <= room.vcpus) & (asked.memory_mib <= room.memory_mib) & (asked.disk_gib <= room.disk_gib)
}

fn usable(host: &Host) -> Fate {
    match &host.connection {
        _ if !host.enabled => Fate::Disabled,
        Connection::Up => Fate::Passes,
        Connection::Unprobed => Fate::Unprobed,
        Connection::Down(_) => Fate::Down,
    }
}

impl Columns {
    /// Looks at the hosts before the first decision asks for them, and at all of their labels, up to half of what is kept.
    pub(crate) fn prepare(&mut self, candidates: &[Candidate]) {
        let labels: BTreeSet<&str> =
            candidates.iter().flat_map(|candidate| candidate.host.labels.keys()).map(String::as_str).collect();
        let labels: Vec<&str> = labels.into_iter().take(COLUMNS_KEPT / 2).collect();
        self.sync(candidates, &labels);
        self.names();
    }

    /// Brings every row in line with its candidate, and has columns of these labels.
    pub(crate) fn sync(&mut self, candidates: &[Candidate], labels: &[&str]) {
        self.bound();
        self.sync_rows(candidates, labels);
        for label in labels {
            if !self.labels.contains_key(*label) {
                let mut column = LabelColumn::with_capacity(self.hosts.len());
                column.extend(&self.hosts, label);
                self.labels.insert((*label).to_owned(), column);
            }
        }
    }

    fn sync_rows(&mut self, candidates: &[Candidate], labels: &[&str]) {
        if self.hosts.len() != candidates.len() {
            self.rebuild(candidates, labels);
            return;
        }
        let mut changed = Vec::new();
        let kept = self.hosts.iter().zip(&self.free).zip(&self.workspaces);
        for ((index, candidate), ((host, free), workspaces)) in candidates.iter().enumerate().zip(kept) {
            let same = Arc::ptr_eq(host, &candidate.host) && *free == candidate.free && *workspaces == candidate.workspaces;
            if !same {
                changed.push(index);
            }
        }
        for index in changed {
            let (Some(candidate), Some(host)) = (candidates.get(index), self.hosts.get(index)) else { continue };
            if Arc::ptr_eq(host, &candidate.host) {
                self.refill(index, candidate);
            } else if host.name == candidate.host.name {
                self.replace(index, candidate);
            } else {
                self.rebuild(candidates, labels);
                return;
            }
        }
    }

    /// Other amounts on the same host.
    fn refill(&mut self, index: usize, candidate: &Candidate) {
        set(&mut self.free, index, candidate.free);
        set(&mut self.workspaces, index, candidate.workspaces);
        self.free_numbers.set(index, numbers(candidate.free));
    }

    /// Everything anew. The records are scattered over memory: they are read a block at a time, in loops so short that the
    /// processor fetches those of several hosts at once.
    fn rebuild(&mut self, candidates: &[Candidate], labels: &[&str]) {
        *self = Self::default();
        let count = candidates.len();
        self.hosts.reserve_exact(count);
        self.free.reserve_exact(count);
        self.workspaces.reserve_exact(count);
        self.free_numbers.reserve(count);
        self.per_capacity.reserve(count);
        self.ceiling.reserve_exact(count);
        self.usable.reserve_exact(count);
        let mut wanted: BTreeMap<&str, LabelColumn> =
            labels.iter().map(|label| (*label, LabelColumn::with_capacity(count))).collect();
        for block in candidates.chunks(BLOCK) {
            let hosts = block.iter().map(|candidate| &*candidate.host);
            let capacities: Vec<Resources> = hosts.clone().map(Host::capacity).collect();
            self.per_capacity.extend(&capacities.iter().map(|capacity| per(*capacity)).collect::<Vec<_>>());
            let begin = self.ceiling.len();
            self.ceiling.extend(hosts.clone().zip(&capacities).map(|(host, capacity)| capacity.plus(host.foreign.resources)));
            self.usable.extend(hosts.map(usable));
            self.free.extend(block.iter().map(|candidate| candidate.free));
            self.free_numbers.extend(&block.iter().map(|candidate| numbers(candidate.free)).collect::<Vec<_>>());
            self.workspaces.extend(block.iter().map(|candidate| candidate.workspaces));
            self.hosts.extend(block.iter().map(|candidate| Arc::clone(&candidate.host)));
            for (label, column) in &mut wanted {
                column.extend(self.hosts.get(begin..).unwrap_or_default(), label);
            }
        }
        self.labels = wanted.into_iter().map(|(label, column)| (label.to_owned(), column)).collect();
    }

    /// Another record of the same host.
    fn replace(&mut self, index: usize, candidate: &Candidate) {
        let host = &candidate.host;
        let ceiling = host.ceiling();
        set(&mut self.hosts, index, Arc::clone(host));
        self.per_capacity.set(index, per(host.capacity()));
        set(&mut self.ceiling, index, ceiling);
        self.refill(index, candidate);
        set(&mut self.usable, index, usable(host));
        let count = self.hosts.len();
        // Values that no host has any more are forgotten with their column.
        self.labels.retain(|_, column| column.values.len() <= 2 * count + COLUMNS_KEPT);
        for (label, column) in &mut self.labels {
            let id = column.id_of(host.labels.get(label));
            set(&mut column.ids, index, id);
        }
        for (capability, column) in &mut self.capabilities {
            set(column, index, host.cannot(capability).is_none());
        }
    }

    /// The label's column, if it was wanted.
    pub(crate) fn label(&self, label: &str) -> Option<&LabelColumn> {
        self.labels.get(label)
    }

    /// Forgets columns when there are too many.
    fn bound(&mut self) {
        if self.labels.len() > COLUMNS_KEPT {
            self.labels.clear();
        }
        if self.capabilities.len() > COLUMNS_KEPT {
            self.capabilities.clear();
        }
    }

    fn names(&self) -> &Names {
        self.names.get_or_init(|| Names::of(&self.hosts))
    }

    /// Breaks ties by how the hosts stand, and not by their names.
    pub(crate) fn ties_as_they_stand(&mut self) {
        let mut names = Names::of(&self.hosts);
        names.positions = (0..).take(self.hosts.len()).collect();
        self.names = OnceCell::from(names);
    }

    /// The host's position by name: ties go to the lower.
    pub(crate) fn position(&self, index: usize) -> u32 {
        self.names().positions.get(index).copied().unwrap_or(u32::MAX)
    }

    /// The index of the host of that name.
    pub(crate) fn find(&self, host: &HostName) -> Option<usize> {
        if let Some(index) = self.found.borrow().get(host) {
            return Some(*index as usize);
        }
        // A site's candidates stand in the order of their names. If these do not, the search may miss one that is there.
        let as_they_stand = self.hosts.binary_search_by(|there| there.name.cmp(host)).ok().and_then(|at| u32::try_from(at).ok());
        let index = as_they_stand.or_else(|| {
            let by_name = &self.names().by_name;
            let at = by_name.binary_search_by(|index| name(&self.hosts, *index).cmp(host.as_str())).ok()?;
            by_name.get(at).copied()
        })?;
        self.found.borrow_mut().insert(host.clone(), index);
        Some(index as usize)
    }

    /// What the core's filter says of each host. What weighs less is written first.
    pub(crate) fn fates(&mut self, request: &Request) -> Vec<Fate> {
        let mut fates = std::mem::take(&mut self.spare_fates);
        fates.clear();
        let asked = request.resources;
        fates.extend(self.usable.iter().zip(&self.free).zip(&self.ceiling).map(|((usable, free), ceiling)| {
            let by_room = if fits(asked, *free) { Fate::Passes } else { Fate::NoRoom };
            let by_size = if fits(asked, *ceiling) { by_room } else { Fate::TooLarge };
            if *usable == Fate::Passes { by_size } else { *usable }
        }));
        for need in &request.needs {
            let hosts = &self.hosts;
            let able = || hosts.iter().map(|host| host.cannot(need).is_none()).collect();
            let column = self.capabilities.entry(need.clone()).or_insert_with(able);
            for ((fate, able), usable) in fates.iter_mut().zip(column).zip(&self.usable) {
                if !*able && *usable == Fate::Passes {
                    *fate = Fate::Unsupported;
                }
            }
        }
        if request.host.is_some() || request.leaves.is_some() || request.backend.is_some() || !request.avoid.is_empty() {
            for (index, fate) in fates.iter_mut().enumerate() {
                *fate = self.elsewhere(index, request).unwrap_or(*fate);
            }
        }
        fates
    }

    /// Whether the request is bound to another host or backend, or away from this one.
    fn elsewhere(&self, index: usize, request: &Request) -> Option<Fate> {
        let host = self.hosts.get(index)?;
        if request.host.as_ref().is_some_and(|wanted| *wanted != host.name) {
            Some(Fate::OtherHost)
        } else if request.avoid.contains(&host.name) {
            Some(Fate::Apart)
        } else if request.leaves.as_ref() == Some(&host.name) {
            Some(Fate::Leaves)
        } else if request.backend.as_ref().is_some_and(|wanted| *wanted != host.backend) {
            Some(Fate::Backend)
        } else {
            None
        }
    }

    /// What is free on the host.
    pub(crate) fn free(&self, index: usize) -> Resources {
        self.free.get(index).copied().unwrap_or_default()
    }

    /// Whether more is asked than the host may ever give out.
    pub(crate) fn exceeds(&self, index: usize, asked: Resources) -> bool {
        self.ceiling.get(index).is_some_and(|ceiling| !fits(asked, *ceiling))
    }

    /// What the host may ever give out.
    pub(crate) fn ceiling(&self, index: usize) -> Resources {
        self.ceiling.get(index).copied().unwrap_or_default()
    }
}

fn name(hosts: &[Arc<Host>], index: u32) -> &str {
    hosts.get(index as usize).map_or("", |host| host.name.as_str())
}

fn set<T>(column: &mut [T], index: usize, value: T) {
    if let Some(slot) = column.get_mut(index) {
        *slot = value;
    }
}
