//! The policies as a product: their history, going back, what others would have decided or would decide, and what they say of what exists.
//!
//! All of it is an administrator's, judged at the gate like anything else; going back works with the native way when every script is broken.

use super::{CHECK_BYTES, Service};
use crate::admit::{self, Asked};
use crate::gate::Target;
use crate::policies::Judge;
use crate::replay::{self, Follower, Replayed};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use vws_domain::{Caller, Change, Error, ErrorKind, Result, Site, Timestamp, Verb, Workspace, WorkspaceId};
use vws_policy::{Evaluator, PolicySet, Sources, source_limits};
use vws_store::{DecisionFilter, PolicyGeneration};

/// Entries of the history that one question is answered with.
const HISTORY_MOST: usize = 1000;
/// A replay that somebody asked for ends after so long.
const REPLAY_TIME: Duration = Duration::from_secs(60);

/// Which decisions to replay.
#[derive(Clone, Debug, Default)]
pub struct ReplayQuery {
    /// Not older than.
    pub since: Option<Timestamp>,
    /// Only of this verb.
    pub verb: Option<Verb>,
    /// Only of this user.
    pub caller: Option<u32>,
    /// The newest so many.
    pub limit: u64,
}

/// A shadow at work.
pub struct Shadow {
    hash: String,
    since: Timestamp,
    found: Arc<Mutex<Replayed>>,
    task: tokio::task::AbortHandle,
}

/// What a shadow has found.
#[derive(Clone, Debug)]
pub struct ShadowStatus {
    /// Hash of its set.
    pub hash: String,
    /// Since when it judges.
    pub since: Timestamp,
    /// What it found; the newest differences are shown.
    pub found: Replayed,
}

/// A workspace that would not be launched today.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audited {
    /// Which.
    pub workspace: WorkspaceId,
    /// Its name.
    pub name: String,
    /// Whose.
    pub owner: String,
    /// `access`, `quota`, `placement`.
    pub policy: String,
    /// The refusal's code.
    pub code: String,
    /// Its text.
    pub text: String,
    /// The rule.
    pub rule: String,
    /// The rule's line.
    pub source: String,
}

impl Service {
    /// Sets that were in force, newest first.
    ///
    /// # Errors
    /// AccessDenied.
    pub async fn policy_history(&self, caller: &Caller) -> Result<Vec<PolicyGeneration>> {
        self.judge_site(caller, Verb::PolicyManage, "policies").await?;
        let store = Arc::clone(&self.store);
        crate::operate::blocking(move || store.reader()?.policy_history(HISTORY_MOST)).await
    }

    /// Puts an older set in force again; answers its new generation.
    ///
    /// # Errors
    /// AccessDenied, NotFound, PolicyFailure.
    pub async fn roll_back_policies(&self, caller: &Caller, target: Result<Target>) -> Result<u64> {
        self.gate_site(caller, Verb::PolicyManage, "policies").await?;
        self.gate.roll_back(target?, "rollback", caller.user.clone(), String::new()).await
    }

    /// Judges recorded decisions again by another set: what would have come out otherwise. Nothing changes.
    ///
    /// # Errors
    /// AccessDenied, InvalidArgument, PolicyFailure: the other set is broken.
    pub async fn replay(&self, caller: &Caller, files: BTreeMap<String, String>, query: Result<ReplayQuery>) -> Result<Replayed> {
        self.gate_site(caller, Verb::PolicyManage, "policies").await?;
        let query = query?;
        let (store, limits) = (Arc::clone(&self.store), self.policies.limits());
        crate::operate::blocking(move || {
            let mut evaluator = evaluator(files, limits)?;
            let filter = DecisionFilter { since: query.since, verb: query.verb, uid: query.caller, ..DecisionFilter::default() };
            replay::replay(store.reader()?, &mut evaluator, &filter, query.limit, REPLAY_TIME)
        })
        .await
    }

    /// Lets another set judge beside the one in force from now on; it decides nothing. Takes the place of one that is at work. Answers
    /// its hash.
    ///
    /// # Errors
    /// AccessDenied, InvalidArgument, PolicyFailure: the other set is broken.
    pub async fn start_shadow(&self, caller: &Caller, files: BTreeMap<String, String>) -> Result<String> {
        self.gate_site(caller, Verb::PolicyManage, "policies").await?;
        let (store, limits) = (Arc::clone(&self.store), self.policies.limits());
        let (follower, hash) = crate::operate::blocking(move || {
            let evaluator = evaluator(files, limits)?;
            let hash = evaluator.set().hash().0.clone();
            Ok((Follower::new(store.reader()?, evaluator)?, hash))
        })
        .await?;
        let found = Arc::new(Mutex::new(Replayed::default()));
        let task = tokio::spawn(follow(Arc::clone(&self.core), follower, Arc::clone(&found))).abort_handle();
        let shadow = Shadow { hash: hash.clone(), since: self.env.now(), found, task };
        let before = self.shadow.lock().unwrap_or_else(PoisonError::into_inner).replace(shadow);
        if let Some(before) = before {
            before.task.abort();
        }
        Ok(hash)
    }

    /// What the shadow has found; `None`: there is none.
    ///
    /// # Errors
    /// AccessDenied.
    pub async fn shadow(&self, caller: &Caller) -> Result<Option<ShadowStatus>> {
        self.judge_site(caller, Verb::PolicyManage, "policies").await?;
        let shadow = self.shadow.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(shadow.as_ref().map(|shadow| ShadowStatus {
            hash: shadow.hash.clone(),
            since: shadow.since,
            found: shadow.found.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }))
    }

    /// Ends the shadow.
    ///
    /// # Errors
    /// AccessDenied; NotFound: there is none.
    pub async fn stop_shadow(&self, caller: &Caller) -> Result<()> {
        self.gate_site(caller, Verb::PolicyManage, "policies").await?;
        if self.end_shadow() {
            Ok(())
        } else {
            Err(Error::new(ErrorKind::NotFound, "a shadow", "there is none", "`vws policy shadow start`"))
        }
    }

    /// Ends the shadow, if there is one.
    pub fn end_shadow(&self) -> bool {
        let shadow = self.shadow.lock().unwrap_or_else(PoisonError::into_inner).take();
        shadow.map(|shadow| shadow.task.abort()).is_some()
    }

    /// The owners of workspaces, for whom an audit needs to know who they are now.
    ///
    /// # Errors
    /// AccessDenied.
    pub async fn audited_owners(&self, caller: &Caller) -> Result<Vec<u32>> {
        self.gate_site(caller, Verb::PolicyManage, "policies").await?;
        let mut owners: Vec<u32> = self.core.read(|site| site.workspaces().map(|workspace| workspace.owner).collect());
        owners.sort_unstable();
        owners.dedup();
        Ok(owners)
    }

    /// Judges every workspace as if it were launched now by its owner, its own usage taken out: what would be refused, and the number of
    /// workspaces that were judged. Without `files` by the set in force.
    ///
    /// # Errors
    /// InvalidArgument, PolicyFailure.
    pub async fn audit(&self, files: BTreeMap<String, String>, owners: BTreeMap<u32, Caller>) -> Result<(Vec<Audited>, u64)> {
        let (site, now) = self.core.consider(|site, now| Ok((site.clone(), now))).await?;
        let (store, limits, in_force) = (Arc::clone(&self.store), self.policies.limits(), self.policies.status());
        crate::operate::blocking(move || {
            let files = if files.is_empty() {
                let hash = vws_domain::PolicyHash(in_force.hash);
                store.reader()?.policy_set(&hash)?.ok_or_else(|| {
                    Error::new(ErrorKind::PolicyFailure, "the policies", "none are in force", "`vws policy status` says why")
                })?
            } else {
                files
            };
            let mut evaluator = evaluator(files, limits)?;
            Ok(audit(site, now, &mut evaluator, &owners))
        })
        .await
    }
}

/// Follows the record until it is aborted.
async fn follow(core: Arc<crate::core::Core>, mut follower: Follower, found: Arc<Mutex<Replayed>>) {
    loop {
        core.decided().await;
        let caught = crate::operate::blocking(move || {
            let outcome = follower.catch_up();
            Ok((follower, outcome))
        })
        .await;
        match caught {
            Ok((back, outcome)) => {
                follower = back;
                if let Err(error) = outcome {
                    tracing::warn!(%error, "the policies' shadow could not read what was decided; it goes on with the next decision");
                }
                *found.lock().unwrap_or_else(PoisonError::into_inner) = follower.found.clone();
            }
            Err(error) => {
                tracing::error!(%error, "the policies' shadow has ended");
                return;
            }
        }
    }
}

/// An evaluator of a set that somebody handed in.
fn evaluator(files: BTreeMap<String, String>, limits: vws_policy::Limits) -> Result<Evaluator> {
    let bytes: usize = files.values().map(String::len).sum();
    if bytes > CHECK_BYTES.min(source_limits::TOTAL_BYTES) || files.len() > source_limits::FILES {
        return Err(Error::invalid(
            "policy sources",
            format!(
                "{} files of {bytes} bytes given; {} files of {} bytes are a set's limit",
                files.len(),
                source_limits::FILES,
                source_limits::TOTAL_BYTES
            ),
            "give fewer",
        ));
    }
    let broken = |problems: Vec<vws_policy::Problem>| {
        let problem = problems.first().map(ToString::to_string).unwrap_or_default();
        Error::new(ErrorKind::PolicyFailure, "the given policies", problem, "`vws policy check DIR` shows all of it")
    };
    let set = Arc::new(PolicySet::load(Sources { files }, limits).map_err(broken)?);
    set.evaluator(0).map_err(broken)
}

/// Every workspace as if it were launched now.
fn audit(mut site: Site, now: Timestamp, evaluator: &mut Evaluator, owners: &BTreeMap<u32, Caller>) -> (Vec<Audited>, u64) {
    let workspaces: Vec<Arc<Workspace>> = site.workspaces().cloned().collect();
    let mut refused = Vec::new();
    let mut count = 0;
    for workspace in workspaces {
        let Some(owner) = owners.get(&workspace.owner) else { continue };
        count += 1;
        let held = site.reservation(workspace.id).cloned();
        site.apply(&Change::ReleaseReservation(workspace.id));
        let images: Vec<_> = workspace.images.iter().map(|id| id.and_then(|id| site.image(id)).cloned()).collect();
        let mut request = admit::request_launch(&site, &workspace.spec, &workspace.group, &images);
        request.resources = workspace.resources;
        request.host = None;
        let asked = Asked { request, caller: owner.clone(), workspace: None, fresh: None, neighbours: Some(Default::default()) };
        let judged = admit::judge(&mut Judge::by(evaluator), &site, now, asked, false);
        if let Some(held) = held {
            site.apply(&Change::PutReservation(held));
        }
        if judged.refusal.is_none() {
            continue;
        }
        let Some(verdict) = judged.verdicts.last() else { continue };
        refused.push(Audited {
            workspace: workspace.id,
            name: workspace.spec.name.clone(),
            owner: workspace.owner_name.clone(),
            policy: verdict.policy.clone(),
            code: verdict.code.clone(),
            text: verdict.text.clone(),
            rule: verdict.rule.to_string(),
            source: evaluator.set().source_line(&verdict.rule).unwrap_or_default().trim().to_owned(),
        });
    }
    (refused, count)
}
