//! How a policy set comes into force: compile and check -> the set's own tests -> replay of recorded decisions -> stored -> swapped between two decisions -> watched.
//! And how an older one comes back: by an administrator, or because the new one's first decisions failed.
//!
//! Owns: the order of that, what blocks, the history, the events. All of it happens off the core's thread: decisions go on meanwhile under
//! the set in force. One at a time. Must not know: D-Bus, how files are watched (`reload`), how a decision is judged.

use crate::core::{About, Core};
use crate::policies::{Found, Gated, Policies, Reloaded, WatchRule};
use crate::replay::{self, Replayed};
use std::sync::Arc;
use std::time::Duration;
use vws_domain::{Error, ErrorKind, PolicyHash, Result};
use vws_policy::{PolicySet, Problem, Sources};
use vws_store::{DecisionFilter, PolicyGeneration, Store};

/// What a finding of the gate leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rigour {
    /// The set does not come into force.
    Block,
    /// It does, and the finding is told.
    Warn,
    /// It is not looked for.
    Off,
}

/// The gate's configuration.
#[derive(Clone, Copy, Debug)]
pub struct GateRules {
    /// What failures of the set's own tests lead to.
    pub tests: Rigour,
    /// What changes in replayed decisions lead to.
    pub replay: Rigour,
    /// Newest decisions that are replayed.
    pub replay_decisions: u64,
    /// With [`Rigour::Block`]: so many may change.
    pub replay_changes: u64,
    /// How the first decisions of a new set are watched.
    pub watch: WatchRule,
}

impl Default for GateRules {
    fn default() -> Self {
        Self {
            tests: Rigour::Block,
            replay: Rigour::Warn,
            replay_decisions: 2_000,
            replay_changes: 0,
            watch: WatchRule { decisions: 50, errors_percent: 10 },
        }
    }
}

/// A replay at the gate ends after so long: a set that makes each decision wait for its deadline must not hold up a reload for minutes.
pub const REPLAY_TIME: Duration = Duration::from_secs(5);

/// What asks for a reload.
#[derive(Clone, Debug)]
pub struct Asking {
    /// `files`, `start`, `reload`.
    pub cause: &'static str,
    /// Who: a user, or `vwsd`.
    pub actor: String,
    /// Look also at files that were refused, or that an older set was put back over.
    pub forced: bool,
    /// Take them whatever tests and replay say.
    pub accept: bool,
}

impl Asking {
    /// The daemon asks by itself.
    #[must_use]
    pub fn own(cause: &'static str) -> Self {
        Self { cause, actor: "vwsd".to_owned(), forced: false, accept: false }
    }
}

/// Which set is to come back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The newest one with other files than those in force.
    Previous,
    /// That of a generation.
    Generation(u64),
    /// The one whose hash begins so.
    Hash(String),
}

impl Target {
    /// Reads nothing, a number, or at least eight digits of a hash.
    ///
    /// # Errors
    /// InvalidArgument.
    pub fn parse(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Ok(Self::Previous);
        }
        if text.len() < 8
            && let Ok(generation) = text.parse()
        {
            return Ok(Self::Generation(generation));
        }
        if (8..=64).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Ok(Self::Hash(text.to_owned()));
        }
        Err(Error::invalid(
            format!("target `{}`", vws_domain::shown(text)),
            "is neither a generation nor 8 to 64 digits of a set's hash",
            "`vws policy history` shows them",
        ))
    }
}

/// The gate.
pub struct Gate {
    /// The set in force.
    pub policies: Arc<Policies>,
    /// For events.
    pub core: Arc<Core>,
    /// Decisions, sets, history.
    pub store: Arc<Store>,
    /// What blocks.
    pub rules: GateRules,
    /// One reload or rollback at a time.
    pub busy: tokio::sync::Mutex<()>,
}

async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::internal("the policies", error.to_string())),
    }
}

impl Gate {
    /// At the start: what was in force when the daemon ended is so again, before the folder is looked at. So a folder that was broken
    /// meanwhile, or an older set that was put back, is what it would have been without the restart.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub async fn start(&self) -> Result<()> {
        let (policies, store) = (Arc::clone(&self.policies), Arc::clone(&self.store));
        off_thread(move || {
            let reader = store.reader()?;
            let Some(last) = reader.policy_history(1)?.into_iter().next() else { return Ok(()) };
            let Some(files) = reader.policy_set(&last.hash)? else { return Ok(()) };
            let loaded = PolicySet::load(Sources { files }, policies.limits()).and_then(|set| {
                policies.put_in_force(&Arc::new(set), last.generation, None, |status| {
                    status.loaded_at = last.at;
                    if !last.pinned_over.is_empty() {
                        "pinned".clone_into(&mut status.state);
                        status.pinned_over.clone_from(&last.pinned_over);
                        status.gated = Gated {
                            at: last.at,
                            hash: last.pinned_over.clone(),
                            outcome: pinned_outcome(&last.cause).to_owned(),
                            ..Gated::default()
                        };
                    }
                })
            });
            if let Err(problems) = loaded {
                let problem = problems.first().map(ToString::to_string).unwrap_or_default();
                tracing::warn!(generation = last.generation, problem, "the set that was in force before cannot be any more");
            }
            Ok(())
        })
        .await?;
        self.reload(Asking::own("start")).await
    }

    /// Looks at the folder and puts what is new there in force, if it is good; tells what came of it.
    ///
    /// # Errors
    /// When the outcome cannot be written to the store.
    pub async fn reload(&self, asking: Asking) -> Result<()> {
        let _alone = self.busy.lock().await;
        let (policies, store, rules) = (Arc::clone(&self.policies), Arc::clone(&self.store), self.rules);
        let outcome = off_thread(move || pass(&policies, &store, rules, &asking)).await?;
        let (kind, text) = match outcome {
            Reloaded::Unchanged => return Ok(()),
            Reloaded::Loaded(generation, report) => {
                tracing::info!(generation, report, "policies loaded");
                let report = if report.is_empty() { report } else { format!("; {report}") };
                ("policy.loaded", format!("generation {generation} is in force{report}"))
            }
            Reloaded::Rejected { problem, kept } => {
                let rest =
                    if kept { "the last good set stays in force" } else { "nothing is in force and every decision is refused" };
                tracing::error!(%problem, "policies refused: {rest}");
                ("policy.rejected", format!("{problem}; {rest}"))
            }
        };
        self.tell(kind, text).await
    }

    async fn tell(&self, kind: &'static str, text: String) -> Result<()> {
        self.core
            .transact(move |tx| {
                tx.event(kind, About::default(), 0, text);
                Ok(())
            })
            .await
    }

    /// Puts an older set in force again. It stays until the folder's files change or `reload` is asked for. Answers its new generation.
    ///
    /// # Errors
    /// NotFound: no such set is kept; PolicyFailure: it cannot be loaded.
    pub async fn roll_back(&self, target: Target, cause: &'static str, actor: String, why: String) -> Result<u64> {
        let _alone = self.busy.lock().await;
        let (policies, store) = (Arc::clone(&self.policies), Arc::clone(&self.store));
        let (by, reason) = (actor.clone(), why.clone());
        let (generation, old) = off_thread(move || {
            let reader = store.reader()?;
            let history = reader.policy_history(usize::MAX)?;
            let status = policies.status();
            let found = history.iter().find(|entry| match &target {
                Target::Previous => entry.hash.0 != status.hash && entry.hash.0 != status.gated.hash,
                Target::Generation(generation) => entry.generation == *generation,
                Target::Hash(hash) => entry.hash.0.starts_with(hash.as_str()),
            });
            let missing = |fact: &str| {
                Error::new(
                    ErrorKind::NotFound,
                    "the policy set to go back to",
                    fact,
                    "`vws policy history` shows those that are kept",
                )
            };
            let old = found.ok_or_else(|| missing("is not in the history"))?.clone();
            let files = reader.policy_set(&old.hash)?.ok_or_else(|| missing("has been forgotten"))?;
            let failed = |problems: Vec<Problem>| {
                let problem = problems.first().map(ToString::to_string).unwrap_or_default();
                Error::new(ErrorKind::PolicyFailure, format!("policy set {}", old.hash.0), problem, "choose another set")
            };
            let set = Arc::new(PolicySet::load(Sources { files }, policies.limits()).map_err(failed)?);
            let pinned_over = policies.folder_hash();
            let pinned = pinned_over != set.hash().0;
            let entry = PolicyGeneration {
                generation: status.generation + 1,
                hash: set.hash().clone(),
                at: policies.now(),
                cause: cause.to_owned(),
                actor: by,
                report: reason.clone(),
                pinned_over: if pinned { pinned_over } else { String::new() },
            };
            store.put_policy_generation(entry.clone(), &set.sources().files)?;
            policies
                .put_in_force(&set, entry.generation, None, |status| {
                    status.gated = Gated {
                        at: entry.at,
                        hash: entry.pinned_over.clone(),
                        outcome: pinned_outcome(cause).to_owned(),
                        tests: String::new(),
                        replay: reason,
                    };
                    if pinned {
                        "pinned".clone_into(&mut status.state);
                        status.pinned_over.clone_from(&entry.pinned_over);
                    }
                })
                .map_err(failed)?;
            Ok((entry.generation, old.generation))
        })
        .await?;
        let why = if why.is_empty() { why } else { format!(": {why}") };
        let text = format!("generation {generation} is in force: the set of generation {old} was put back by {actor}{why}");
        tracing::warn!(generation, of = old, actor, "{text}");
        self.tell(if cause == "put-back" { "policy.put-back" } else { "policy.rolled-back" }, text).await?;
        Ok(generation)
    }

    /// Puts the set before back when too many of a new one's first decisions have failed. For ever.
    pub async fn guard(self: Arc<Self>) {
        loop {
            let why = self.policies.alarmed().await;
            let generation = self.policies.status().generation;
            tracing::error!(generation, why, "the new policies fail: the set before is put back");
            if let Err(error) = self.roll_back(Target::Previous, "put-back", "vwsd".to_owned(), why).await {
                tracing::error!(generation, %error, "no set could be put back: the failing one stays in force");
            }
        }
    }
}

/// What the gate found, in one line.
fn sentences(gated: &Gated) -> String {
    let found = [gated.tests.as_str(), gated.replay.as_str()].into_iter().filter(|text| !text.is_empty());
    found.collect::<Vec<_>>().join("; ")
}

fn pinned_outcome(cause: &str) -> &'static str {
    if cause == "put-back" { "put-back" } else { "rolled-back" }
}

/// The whole way of the folder's files into force.
fn pass(policies: &Policies, store: &Store, rules: GateRules, asking: &Asking) -> Result<Reloaded> {
    let set = match policies.candidate(asking.forced) {
        Found::Unchanged => return Ok(Reloaded::Unchanged),
        Found::Broken(rejected) => {
            policies.report(Gated { at: policies.now(), outcome: "broken".to_owned(), ..Gated::default() });
            return Ok(rejected);
        }
        Found::New(set) => set,
    };
    let status = policies.status();
    let mut gated = Gated { at: policies.now(), hash: set.hash().0.clone(), outcome: "in-force".to_owned(), ..Gated::default() };
    if rules.tests != Rigour::Off {
        let (sentence, failures) = own_tests(policies, &set);
        gated.tests = sentence;
        if !failures.is_empty() && rules.tests == Rigour::Block && !asking.accept {
            "blocked".clone_into(&mut gated.outcome);
            let rejected = policies.reject(set.hash().clone(), failures);
            policies.report(gated);
            return Ok(rejected);
        }
    }
    if rules.replay != Rigour::Off {
        let replayed = replay_newest(store, &set, rules.replay_decisions)?;
        gated.replay = replayed.sentence();
        if replayed.changed > rules.replay_changes && rules.replay == Rigour::Block && !asking.accept {
            return Ok(blocked(policies, gated, &replayed, rules.replay_changes));
        }
    }
    let entry = PolicyGeneration {
        generation: status.generation + 1,
        hash: set.hash().clone(),
        at: gated.at,
        cause: asking.cause.to_owned(),
        actor: asking.actor.clone(),
        report: sentences(&gated),
        pinned_over: String::new(),
    };
    // First on disk: a decision must never name a set that nobody can read any more.
    store.put_policy_generation(entry.clone(), &set.sources().files)?;
    let report = sentences(&gated);
    // Where nothing was in force before, there is nothing to put back.
    let watch = (!status.hash.is_empty()).then_some(rules.watch);
    match policies.put_in_force(&set, entry.generation, watch, |status| status.gated = gated) {
        Ok(()) => Ok(Reloaded::Loaded(entry.generation, report)),
        Err(problems) => Ok(policies.reject(set.hash().clone(), problems)),
    }
}

/// Runs the folder's `*_test.lua` against the set: a sentence (empty: there are none), and what failed.
fn own_tests(policies: &Policies, set: &Arc<PolicySet>) -> (String, Vec<Problem>) {
    let tests = match Sources::read_tests(policies.directory()) {
        Ok(tests) if tests.files.is_empty() => return (String::new(), Vec::new()),
        Ok(tests) => tests,
        Err(problems) => return ("the tests cannot be read".to_owned(), problems),
    };
    let report = vws_policy::run_tests(set, &tests, None);
    let (all, failed) = (report.results.len(), report.failed());
    let mut problems = report.problems;
    problems.extend(report.results.iter().filter(|result| !result.passed()).map(|result| Problem {
        file: result.file.clone(),
        line: result.line,
        code: "test-failed".to_owned(),
        text: format!("test `{}`: {}", vws_domain::shown(&result.name), result.failures.join("; ")),
        source: String::new(),
        help: "mend the policy or the test; `vws policy reload --accept` takes the files all the same".to_owned(),
    }));
    let sentence = if problems.is_empty() { format!("{all} tests passed") } else { format!("{failed} of {all} tests failed") };
    (sentence, problems)
}

fn replay_newest(store: &Store, set: &Arc<PolicySet>, most: u64) -> Result<Replayed> {
    let mut evaluator = set
        .evaluator(0)
        .map_err(|problems| Error::internal("the policies", problems.first().map(ToString::to_string).unwrap_or_default()))?;
    replay::replay(store.reader()?, &mut evaluator, &DecisionFilter::default(), most, REPLAY_TIME)
}

fn blocked(policies: &Policies, mut gated: Gated, replayed: &Replayed, most: u64) -> Reloaded {
    "blocked".clone_into(&mut gated.outcome);
    let text = format!("the files are good and would change decisions: {}; at most {most} may", replayed.sentence());
    let mut problems = vec![Problem {
        file: "replay".to_owned(),
        line: 0,
        code: "replay-blocked".to_owned(),
        text,
        source: String::new(),
        help: "`vws policy replay` shows which; `vws policy reload --accept` takes the files all the same".to_owned(),
    }];
    problems.extend(replayed.examples.iter().take(8).map(|example| Problem {
        file: "replay".to_owned(),
        line: 0,
        code: "replay-blocked".to_owned(),
        text: format!(
            "{}: {} of `{}` by {}: was {}; is {} (decision {})",
            example.kind,
            example.verb.name(),
            vws_domain::shown(&example.name),
            example.user,
            example.was,
            example.is,
            example.id
        ),
        source: String::new(),
        help: String::new(),
    }));
    let rejected = policies.reject(PolicyHash(gated.hash.clone()), problems);
    policies.report(gated);
    rejected
}
