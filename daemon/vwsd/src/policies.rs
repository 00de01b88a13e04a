//! The policy set in force, its generation, and the swap that puts a new one in force between two decisions. What has to be good before is
//! `gate`'s.
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
    /// `good`: the newest files are in force; `stale`: the newest files are broken or blocked, the last good set is in force; `pinned`: an
    /// older set was put back; `none`: nothing is.
    pub state: String,
    /// What is wrong with the newest files.
    pub problems: Vec<Problem>,
    /// The folder.
    pub directory: PathBuf,
    /// The files of the set in force.
    pub files: Vec<String>,
    /// Hash of the folder's files over which an older set was put back; empty: none was.
    pub pinned_over: String,
    /// What became of the newest files.
    pub gated: Gated,
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
    /// A new set is in force: its generation, and what the gate found.
    Loaded(u64, String),
    /// The files are broken; the sentence says how. Whether an older set stays in force.
    Rejected {
        /// The first problem.
        problem: String,
        /// Whether a set is in force.
        kept: bool,
    },
}

/// What the folder holds.
pub enum Found {
    /// What is in force, what was refused before, or what an older set was put back over.
    Unchanged,
    /// Broken files; what is in force stays.
    Broken(Reloaded),
    /// A set that compiles and checks.
    New(Arc<PolicySet>),
}

/// When the first decisions of a new set are too bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchRule {
    /// Decisions that are watched; 0: none.
    pub decisions: u64,
    /// The set is put back when more than so many percent of them fail.
    pub errors_percent: u64,
}

/// The first decisions of a new set.
#[derive(Clone, Copy, Debug)]
struct Watch {
    rule: WatchRule,
    decided: u64,
    failed: u64,
}

impl Watch {
    /// Counts a decision. Whether the set is to be put back: more failed than all that are watched may.
    fn count(&mut self, failed: bool) -> bool {
        self.decided += 1;
        self.failed += u64::from(failed);
        failed && self.failed * 100 > self.rule.errors_percent * self.rule.decisions
    }
}

/// What became of the newest files, for `vws policy status`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gated {
    /// When.
    pub at: Timestamp,
    /// Hash of the files.
    pub hash: String,
    /// `in-force`, `blocked`, `put-back`, `rolled-back`, or empty: nothing since the start.
    pub outcome: String,
    /// What the set's own tests said; empty: not asked.
    pub tests: String,
    /// What the replay said; empty: not asked.
    pub replay: String,
}

struct Seat {
    set: Arc<PolicySet>,
    evaluator: Evaluator,
    watch: Option<Watch>,
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
    alarm: tokio::sync::Notify,
    alarm_text: Mutex<String>,
}

/// The set in force, held for one decision.
pub struct Judge<'a> {
    evaluator: Option<&'a mut Evaluator>,
    /// Whether a script failed.
    failed: bool,
    /// Its generation.
    pub generation: u64,
    /// Its hash; empty when none is in force.
    pub hash: PolicyHash,
    problems: &'a [Problem],
}

impl<'a> Judge<'a> {
    /// A judge by another set than the one in force: for replays and audits.
    pub fn by(evaluator: &'a mut Evaluator) -> Self {
        let (generation, hash) = (evaluator.generation(), evaluator.set().hash().clone());
        Self { evaluator: Some(evaluator), failed: false, generation, hash, problems: &[] }
    }
}

impl Judge<'_> {
    fn noted(&mut self, verdict: Verdict) -> Verdict {
        self.failed |= verdict.kind == VerdictKind::Error;
        verdict
    }

    /// What access.lua says.
    pub fn access(&mut self, input: &AccessInput) -> Verdict {
        let verdict = match &mut self.evaluator {
            Some(evaluator) => evaluator.access(input),
            None => vws_policy::unavailable("access", self.generation, self.problems),
        };
        self.noted(verdict)
    }

    /// What quota.lua says.
    pub fn quota(&mut self, input: &QuotaInput) -> Verdict {
        let verdict = match &mut self.evaluator {
            Some(evaluator) => evaluator.quota(input),
            None => vws_policy::unavailable("quota", self.generation, self.problems),
        };
        self.noted(verdict)
    }

    /// Which host placement.lua chooses.
    pub fn placement(&mut self, input: &PlacementInput, candidates: &[Candidate], explain: bool) -> Placement {
        let placement = match &mut self.evaluator {
            Some(evaluator) => evaluator.placement(input, candidates, explain),
            None => Placement {
                verdict: vws_policy::unavailable("placement", self.generation, self.problems),
                host: None,
                hosts: Vec::new(),
                preempts: false,
            },
        };
        self.failed |= placement.verdict.kind == VerdictKind::Error;
        placement
    }

    /// Which host placement.lua chooses of those that would have room without some pre-emptible workspaces; `first` is what it said of
    /// the hosts as they are.
    pub fn displacement(&mut self, input: &PlacementInput, offers: Vec<Offer>, first: Verdict, explain: bool) -> Placement {
        let placement = match &mut self.evaluator {
            Some(evaluator) => evaluator.displacement(input, offers, first, explain),
            None => Placement { verdict: first, host: None, hosts: Vec::new(), preempts: false },
        };
        self.failed |= placement.verdict.kind == VerdictKind::Error;
        placement
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
                pinned_over: String::new(),
                gated: Gated::default(),
                reads: Reads::default(),
            }),
            deciding: Mutex::new(None),
            viewing: Mutex::new(None),
            views: Mutex::new(HashMap::new()),
            reads: ReadCounters::default(),
            refused: Mutex::new(PolicyHash::default()),
            alarm: tokio::sync::Notify::new(),
            alarm_text: Mutex::new(String::new()),
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
            evaluator: seat.as_mut().map(|seat| &mut seat.evaluator),
            failed: false,
            generation: status.generation,
            hash: PolicyHash(status.hash),
            problems: &status.problems,
        };
        let decided = decide(&mut judge);
        let failed = judge.failed;
        if let Some(seat) = seat.as_mut()
            && let Some(watch) = &mut seat.watch
        {
            if watch.count(failed) {
                *self.alarm_text.lock().unwrap_or_else(PoisonError::into_inner) =
                    format!("{} of its first {} decisions failed", watch.failed, watch.decided);
                seat.watch = None;
                self.alarm.notify_one();
            } else if watch.decided >= watch.rule.decisions {
                seat.watch = None;
            }
        }
        decided
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

    /// Reads the folder: is there something new that could come into force? `forced`: also what was refused or passed over before.
    pub fn candidate(&self, forced: bool) -> Found {
        match Sources::read_dir(&self.directory) {
            Ok(sources) => {
                let hash = sources.hash();
                let status = self.status();
                if !forced && !hash.0.is_empty() && status.pinned_over == hash.0 {
                    // An older set was put back over these very files.
                    return Found::Unchanged;
                }
                if status.hash == hash.0 && !hash.0.is_empty() {
                    if status.state != "good" {
                        self.note(&hash, |status| {
                            status.state = "good".to_owned();
                            status.pinned_over.clear();
                            status.problems.clear();
                        });
                    }
                    return Found::Unchanged;
                }
                let known = *self.refused.lock().unwrap_or_else(PoisonError::into_inner) == hash;
                if !forced && status.state != "good" && known {
                    // The same broken files again: said already.
                    return Found::Unchanged;
                }
                match PolicySet::load(sources, self.limits) {
                    Ok(set) => Found::New(Arc::new(set)),
                    Err(problems) => Found::Broken(self.reject(hash, problems)),
                }
            }
            Err(problems) => {
                let known = self.status().problems == problems;
                let rejected = self.reject(PolicyHash::default(), problems);
                if known { Found::Unchanged } else { Found::Broken(rejected) }
            }
        }
    }

    /// Hash of the files that are in the folder now; empty when they cannot be read.
    #[must_use]
    pub fn folder_hash(&self) -> String {
        Sources::read_dir(&self.directory).map_or_else(|_| String::new(), |sources| sources.hash().0)
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.env.now()
    }

    /// The limits of each decision.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Looks at the hosts before the first placement has to.
    pub fn prepare(&self, candidates: &[Candidate]) {
        if let Some(seat) = self.deciding.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            seat.evaluator.prepare(candidates);
        }
    }

    /// Puts a set in force: everything is made ready first, then swapped between two decisions. With `watch`, its first decisions are
    /// looked at, and [`Policies::alarmed`] tells when too many of them fail.
    ///
    /// # Errors
    /// When no state can be made (memory): what was in force stays.
    pub fn put_in_force(
        &self,
        set: &Arc<PolicySet>,
        generation: u64,
        watch: Option<WatchRule>,
        change: impl FnOnce(&mut PolicyStatus),
    ) -> Result<(), Vec<Problem>> {
        let seat = |watch: Option<WatchRule>| -> Result<Seat, Vec<Problem>> {
            let watch = watch.filter(|rule| rule.decisions > 0).map(|rule| Watch { rule, decided: 0, failed: 0 });
            Ok(Seat { evaluator: set.evaluator(generation)?, set: Arc::clone(set), watch })
        };
        let (mut deciding, viewing) = (seat(watch)?, seat(None)?);
        let mut decide = self.deciding.lock().unwrap_or_else(PoisonError::into_inner);
        let mut view = self.viewing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = decide.as_mut() {
            deciding.evaluator.take_over(&mut old.evaluator);
        }
        *decide = Some(deciding);
        *view = Some(viewing);
        let mut status = self.status.write().unwrap_or_else(PoisonError::into_inner);
        status.generation = generation;
        status.hash = set.hash().0.clone();
        status.loaded_at = self.env.now();
        status.state = "good".to_owned();
        status.problems.clear();
        status.pinned_over.clear();
        status.files = set.sources().files.keys().cloned().collect();
        change(&mut status);
        Ok(())
    }

    /// Changes what is shown of the last reload.
    pub fn report(&self, gated: Gated) {
        self.status.write().unwrap_or_else(PoisonError::into_inner).gated = gated;
    }

    /// Completes when too many of the first decisions of a set that is watched have failed.
    pub async fn alarmed(&self) -> String {
        self.alarm.notified().await;
        self.alarm_text.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Refuses the newest files for these reasons; what is in force stays.
    pub fn reject(&self, hash: PolicyHash, problems: Vec<Problem>) -> Reloaded {
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
