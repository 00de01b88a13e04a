//! The policy set in force, its generation, and how a new one comes into force: read, compile, check, swap at once; on any
//! problem the last good set stays and the problem is shown.
//!
//! Owns: the evaluators (one for decisions, one for views) and the memory of views. Must not know: what is decided, D-Bus, SQL.
//! A decision holds its evaluator's lock from its first verdict to its last, so it finishes on the set that it began with.

use crate::env::Env;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use vws_domain::{
    AccessInput, Caller, Candidate, Offer, PlacementInput, PolicyHash, QuotaInput, Request, Timestamp, Verb, Verdict,
    VerdictKind, Workspace, WorkspaceId,
};
use vws_policy::{Evaluator, Limits, Placement, PolicySet, Problem, Sources};

/// Views that are remembered before the memory is emptied.
pub const VIEWS_REMEMBERED: usize = 200_000;

/// What is in force, for `vws policy status`.
#[derive(Clone, Debug)]
pub struct PolicyStatus {
    /// Rises by one with each set that comes into force; 0: none ever did.
    pub generation: u64,
    /// Hash of the set in force; empty: none.
    pub hash: String,
    /// When it came into force.
    pub loaded_at: Timestamp,
    /// `good`: the newest files are in force; `stale`: the newest files are broken, the last good set is in force; `none`: nothing is.
    pub state: String,
    /// What is wrong with the newest files.
    pub problems: Vec<Problem>,
    /// The folder.
    pub directory: PathBuf,
    /// The files of the set in force.
    pub files: Vec<String>,
    /// How views were answered.
    pub reads: Reads,
}

/// How often somebody asked whether a workspace may be seen, since the daemon started. Administrators see everything and are not judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reads {
    /// Judged by the access policy.
    pub judged: u64,
    /// Answered from memory.
    pub remembered: u64,
    /// Of both, those that were refused.
    pub refused: u64,
}

/// The counters behind [`Reads`].
#[derive(Default)]
struct ReadCounters {
    judged: AtomicU64,
    remembered: AtomicU64,
    refused: AtomicU64,
}

impl ReadCounters {
    /// Counts one answer; `from` is where it came from.
    fn count(&self, from: &AtomicU64, answer: bool) -> bool {
        from.fetch_add(1, Ordering::Relaxed);
        if !answer {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        answer
    }
}

/// What a reload did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reloaded {
    /// The files are those in force already.
    Unchanged,
    /// A new set is in force: its generation.
    Loaded(u64),
    /// The files are broken; the sentence says how. Whether an older set stays in force.
    Rejected {
        /// The first problem.
        problem: String,
        /// Whether a set is in force.
        kept: bool,
    },
}

struct Seat {
    set: Arc<PolicySet>,
    evaluator: Evaluator,
}

/// A remembered view: the workspace's version and the policies' generation that it was judged with, and the answer.
type View = (u64, u64, bool);

/// The policies.
pub struct Policies {
    directory: PathBuf,
    limits: Limits,
    env: Arc<Env>,
    status: RwLock<PolicyStatus>,
    deciding: Mutex<Option<Seat>>,
    viewing: Mutex<Option<Seat>>,
    views: Mutex<HashMap<(u64, WorkspaceId), View>>,
    reads: ReadCounters,
    refused: Mutex<PolicyHash>,
}

/// The set in force, held for one decision.
pub struct Judge<'a> {
    seat: Option<&'a mut Seat>,
    /// Its generation.
    pub generation: u64,
    /// Its hash; empty when none is in force.
    pub hash: PolicyHash,
    problems: &'a [Problem],
}

impl Judge<'_> {
    /// What access.lua says.
    pub fn access(&mut self, input: &AccessInput) -> Verdict {
        match &mut self.seat {
            Some(seat) => seat.evaluator.access(input),
            None => vws_policy::unavailable("access", self.generation, self.problems),
        }
    }

    /// What quota.lua says.
    pub fn quota(&mut self, input: &QuotaInput) -> Verdict {
        match &mut self.seat {
            Some(seat) => seat.evaluator.quota(input),
            None => vws_policy::unavailable("quota", self.generation, self.problems),
        }
    }

    /// Which host placement.lua chooses.
    pub fn placement(&mut self, input: &PlacementInput, candidates: &[Candidate], explain: bool) -> Placement {
        match &mut self.seat {
            Some(seat) => seat.evaluator.placement(input, candidates, explain),
            None => Placement {
                verdict: vws_policy::unavailable("placement", self.generation, self.problems),
                host: None,
                hosts: Vec::new(),
                preempts: false,
            },
        }
    }

    /// Which host placement.lua chooses of those that would have room without some pre-emptible workspaces; `first` is what it said of
    /// the hosts as they are.
    pub fn displacement(&mut self, input: &PlacementInput, offers: Vec<Offer>, first: Verdict, explain: bool) -> Placement {
        match &mut self.seat {
            Some(seat) => seat.evaluator.displacement(input, offers, first, explain),
            None => Placement { verdict: first, host: None, hosts: Vec::new(), preempts: false },
        }
    }
}

impl Policies {
    /// Policies of `directory`, nothing in force yet. Generations go on after `last_generation`.
    #[must_use]
    pub fn new(directory: &Path, limits: Limits, env: Arc<Env>, last_generation: u64) -> Self {
        Self {
            directory: directory.to_owned(),
            limits,
            env,
            status: RwLock::new(PolicyStatus {
                generation: last_generation,
                hash: String::new(),
                loaded_at: Timestamp::default(),
                state: "none".to_owned(),
                problems: Vec::new(),
                directory: directory.to_owned(),
                files: Vec::new(),
                reads: Reads::default(),
            }),
            deciding: Mutex::new(None),
            viewing: Mutex::new(None),
            views: Mutex::new(HashMap::new()),
            reads: ReadCounters::default(),
            refused: Mutex::new(PolicyHash::default()),
        }
    }

    /// The folder.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// What is in force and what is wrong with the newest files.
    #[must_use]
    pub fn status(&self) -> PolicyStatus {
        let mut status = self.status.read().unwrap_or_else(PoisonError::into_inner).clone();
        let now = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        status.reads =
            Reads { judged: now(&self.reads.judged), remembered: now(&self.reads.remembered), refused: now(&self.reads.refused) };
        status
    }

    /// Holds the set in force for one decision.
    pub fn decide<R>(&self, decide: impl FnOnce(&mut Judge<'_>) -> R) -> R {
        let mut seat = self.deciding.lock().unwrap_or_else(PoisonError::into_inner);
        // Read after the seat is held: the swap changes both under that lock.
        let status = self.status();
        let mut judge = Judge {
            seat: seat.as_mut(),
            generation: status.generation,
            hash: PolicyHash(status.hash),
            problems: &status.problems,
        };
        decide(&mut judge)
    }

    /// Whether the caller may see the workspace. Pure in (set, caller, version of the workspace), so it is remembered by them; the
    /// script's `now` is the instant at which the workspace last changed.
    pub fn may_view(&self, caller: &Caller, workspace: &Arc<Workspace>) -> bool {
        if caller.admin {
            return true;
        }
        let mut hasher = DefaultHasher::new();
        (caller.uid, &caller.gids).hash(&mut hasher);
        let key = (hasher.finish(), workspace.id);
        let generation = self.status.read().unwrap_or_else(PoisonError::into_inner).generation;
        let remembered = self.views.lock().unwrap_or_else(PoisonError::into_inner).get(&key).copied();
        if let Some((version, of_generation, answer)) = remembered
            && version == workspace.version
            && of_generation == generation
        {
            return self.reads.count(&self.reads.remembered, answer);
        }
        let input = AccessInput {
            request: view_request(workspace),
            caller: caller.clone(),
            workspace: Some(Arc::clone(workspace)),
            now: workspace.changed_at,
        };
        let answer = {
            let mut seat = self.viewing.lock().unwrap_or_else(PoisonError::into_inner);
            match seat.as_mut() {
                Some(seat) => matches!(seat.evaluator.access(&input).kind, VerdictKind::Permit | VerdictKind::Restrict),
                None => false,
            }
        };
        let mut views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        if views.len() >= VIEWS_REMEMBERED {
            views.clear();
        }
        views.insert(key, (workspace.version, generation, answer));
        self.reads.count(&self.reads.judged, answer)
    }

    /// Reads the folder and puts it in force if it is good. Answers what it did, and the set if it is new.
    pub fn reload(&self) -> (Reloaded, Option<Arc<PolicySet>>) {
        match Sources::read_dir(&self.directory) {
            Ok(sources) => {
                let hash = sources.hash();
                let status = self.status();
                if status.hash == hash.0 && !hash.0.is_empty() {
                    if status.state != "good" {
                        self.note(&hash, |status| {
                            status.state = "good".to_owned();
                            status.problems.clear();
                        });
                    }
                    return (Reloaded::Unchanged, None);
                }
                if status.state != "good" && *self.refused.lock().unwrap_or_else(PoisonError::into_inner) == hash {
                    // The same broken files again: said already.
                    return (Reloaded::Unchanged, None);
                }
                match self.seats(sources) {
                    Ok((deciding, viewing, set)) => self.swap(deciding, viewing, set),
                    Err(problems) => (self.reject(hash, problems), None),
                }
            }
            Err(problems) => {
                let known = self.status().problems == problems;
                let rejected = self.reject(PolicyHash::default(), problems);
                (if known { Reloaded::Unchanged } else { rejected }, None)
            }
        }
    }

    fn seats(&self, sources: Sources) -> Result<(Seat, Seat, Arc<PolicySet>), Vec<Problem>> {
        let generation = self.status().generation + 1;
        let set = Arc::new(PolicySet::load(sources, self.limits)?);
        let seat = || -> Result<Seat, Vec<Problem>> { Ok(Seat { evaluator: set.evaluator(generation)?, set: Arc::clone(&set) }) };
        Ok((seat()?, seat()?, Arc::clone(&set)))
    }

    /// Looks at the hosts before the first placement has to.
    pub fn prepare(&self, candidates: &[Candidate]) {
        if let Some(seat) = self.deciding.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            seat.evaluator.prepare(candidates);
        }
    }

    fn swap(&self, mut deciding: Seat, viewing: Seat, set: Arc<PolicySet>) -> (Reloaded, Option<Arc<PolicySet>>) {
        let mut decide = self.deciding.lock().unwrap_or_else(PoisonError::into_inner);
        let mut view = self.viewing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = decide.as_mut() {
            deciding.evaluator.take_over(&mut old.evaluator);
        }
        *decide = Some(deciding);
        *view = Some(viewing);
        let mut status = self.status.write().unwrap_or_else(PoisonError::into_inner);
        status.generation += 1;
        status.hash = set.hash().0.clone();
        status.loaded_at = self.env.now();
        status.state = "good".to_owned();
        status.problems.clear();
        status.files = set.sources().files.keys().cloned().collect();
        (Reloaded::Loaded(status.generation), Some(set))
    }

    fn reject(&self, hash: PolicyHash, problems: Vec<Problem>) -> Reloaded {
        let problem = problems.first().map_or_else(String::new, ToString::to_string);
        let kept = self.deciding.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        self.note(&hash, |status| {
            status.state = if kept { "stale" } else { "none" }.to_owned();
            status.problems = problems;
        });
        Reloaded::Rejected { problem, kept }
    }

    fn note(&self, hash: &PolicyHash, change: impl FnOnce(&mut PolicyStatus)) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = hash.clone();
        change(&mut self.status.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// The source line of a rule of the set in force.
    #[must_use]
    pub fn source_line(&self, rule: &vws_domain::Rule) -> String {
        let seat = self.deciding.lock().unwrap_or_else(PoisonError::into_inner);
        seat.as_ref().and_then(|seat| seat.set.source_line(rule).map(str::to_owned)).unwrap_or_default()
    }
}

fn view_request(workspace: &Workspace) -> Request {
    crate::admit::request_about(Verb::View, workspace, Vec::new())
}
