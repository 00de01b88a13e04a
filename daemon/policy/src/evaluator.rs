//! One Luau state at work: a question in, a verdict out. Whatever goes wrong in between is a refusal.

use crate::coverage::Coverage;
use crate::facts::Question;
use crate::fault::Fault;
use crate::placement::{Columns, Placement};
use crate::set::{PolicySet, Scripts};
use crate::verdict::{Opened, from_fault, from_opened, micros_since};
use mlua::Table;
use std::sync::Arc;
use vws_domain::{AccessInput, Candidate, Offer, PlacementInput, QuotaInput, Verdict};

/// Judges by one policy set, in one Luau state, one decision at a time. What it keeps between decisions (columns of hosts'
/// figures) is never seen by scripts.
pub struct Evaluator {
    pub(crate) set: Arc<PolicySet>,
    pub(crate) generation: u64,
    pub(crate) scripts: Scripts,
    pub(crate) columns: Columns,
    /// What went wrong in the last decision, if anything did.
    pub(crate) fault: Option<Fault>,
}

impl std::fmt::Debug for Evaluator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Evaluator").field("set", self.set.hash()).field("generation", &self.generation).finish_non_exhaustive()
    }
}

impl Evaluator {
    pub(crate) fn new(set: Arc<PolicySet>, generation: u64, scripts: Scripts) -> Self {
        Self { set, generation, scripts, columns: Columns::default(), fault: None }
    }

    /// The set it judges by.
    #[must_use]
    pub fn set(&self) -> &Arc<PolicySet> {
        &self.set
    }

    /// The set's generation, as named in its failures.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Takes over what another evaluator knows of the hosts. No set has a part in that and no script sees it: after a reload
    /// the first decision takes no longer than any other.
    pub fn take_over(&mut self, other: &mut Self) {
        self.columns = std::mem::take(&mut other.columns);
    }

    /// Looks at the hosts before the first decision has to.
    pub fn prepare(&mut self, candidates: &[Candidate]) {
        self.columns.prepare(candidates);
    }

    /// Asks access.lua.
    pub fn access(&mut self, input: &AccessInput) -> Verdict {
        self.judge("access", |scripts| scripts.sandbox.access_input(input))
    }

    /// Asks quota.lua.
    pub fn quota(&mut self, input: &QuotaInput) -> Verdict {
        self.judge("quota", |scripts| scripts.sandbox.quota_input(input))
    }

    /// Asks placement.lua: which of the candidates, if any. With `explain` every host's fate is told, otherwise the best few.
    pub fn placement(&mut self, input: &PlacementInput, candidates: &[Candidate], explain: bool) -> Placement {
        let start = self.scripts.sandbox.budget.start();
        self.fault = None;
        let mut placement = crate::placement::decide(self, input, candidates, explain);
        self.scripts.sandbox.tidy();
        placement.verdict.micros = micros_since(start);
        placement
    }

    /// Asks placement.lua again, when no host has room: which of the hosts that would have it without some pre-emptible workspaces.
    /// `first` is what it answered; it is the answer still when none of them is taken.
    pub fn displacement(&mut self, input: &PlacementInput, offers: Vec<Offer>, first: Verdict, explain: bool) -> Placement {
        let start = self.scripts.sandbox.budget.start();
        self.fault = None;
        let micros = first.micros;
        let mut placement = crate::placement::displace(self, input, offers, first, explain);
        self.scripts.sandbox.tidy();
        placement.verdict.micros = micros + micros_since(start);
        placement
    }

    /// Asks what the question is for. Access and quota answer without a host; placement is asked to explain.
    pub fn answer(&mut self, question: &Question) -> Placement {
        let alone = |verdict| Placement { verdict, host: None, hosts: Vec::new(), preempts: false };
        match question {
            Question::Access(input) => alone(self.access(input)),
            Question::Quota(input) => alone(self.quota(input)),
            Question::Placement(input, candidates) => self.placement(input, candidates, true),
        }
    }

    /// Bytes that its Luau state holds.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.scripts.sandbox.lua.used_memory()
    }

    /// How often each line of the set ran in this evaluator; empty unless the set counts.
    #[must_use]
    pub fn coverage(&self) -> Coverage {
        if self.set.counts() { self.scripts.coverage() } else { Coverage::default() }
    }

    /// The refusal that a failure is.
    pub(crate) fn refusal(&mut self, policy: &str, fault: Fault) -> Verdict {
        let verdict = from_fault(policy, &fault, self.generation);
        self.fault = Some(fault);
        verdict
    }

    fn judge(&mut self, policy: &str, document: impl Fn(&Scripts) -> mlua::Result<Table>) -> Verdict {
        let start = self.scripts.sandbox.budget.start();
        self.fault = None;
        let mut verdict = match self.opened(policy, document) {
            Ok(opened) => match from_opened(policy, &opened, &self.set.limits().clone()) {
                Ok(verdict) => verdict,
                Err(fault) => self.refusal(policy, fault),
            },
            Err(fault) => self.refusal(policy, fault),
        };
        self.scripts.sandbox.tidy();
        verdict.micros = micros_since(start);
        verdict
    }

    fn opened(&self, policy: &str, document: impl Fn(&Scripts) -> mlua::Result<Table>) -> Result<Opened, Fault> {
        let scripts = &self.scripts;
        let file = || format!("{policy}.lua");
        let opened = scripts
            .sandbox
            .building(|| Ok((scripts.fresh(policy)?, document(scripts)?)))
            .and_then(|(main, input)| scripts.sandbox.core.judge.call::<Opened>((policy, main, input)))
            .map_err(|error| self.set.fault(&error, &file()))?;
        // A script can swallow the interrupt's error and answer nevertheless: too late is too late.
        if scripts.sandbox.budget.over() {
            return Err(self.set.overrun(&file()));
        }
        Ok(opened)
    }
}
