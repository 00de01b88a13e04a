//! Clusters, and verbs on many workspaces at once. A cluster's members are admitted in one transaction, all or none; each verb on many
//! is judged for each workspace on its own and never stops at the first that refuses.

use super::launch::{self, Pointers};
use super::{Action, CallOptions, Launched, Service, answered, digest_of, remember};
use crate::change;
use crate::operate::args::{self, ClusterArgs, MemberArgs};
use std::sync::Arc;
use vws_domain::{Caller, Error, ErrorKind, JobId, JobKind, Result, Role, Spec, Timestamp, Workspace, WorkspaceId, members};

/// The answer to an accepted cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaunchedCluster {
    /// Its members, in the order in which they were placed.
    pub members: Vec<Launched>,
    /// The job that sees all of them to their end.
    pub job: JobId,
}

/// What is done to many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManyAction {
    /// An action with a job.
    Act(Action),
    /// A new lease of so many seconds from now; 0: without end.
    Renew(u64),
}

/// What one of them answered.
#[derive(Clone, Debug)]
pub enum ManyAnswer {
    /// A job, or none because it was so already.
    Job(Option<JobId>),
    /// The end of its lease.
    Until(Option<Timestamp>),
}

impl Service {
    /// Creates a cluster: every member placed, or none.
    ///
    /// # Errors
    /// As for a launch; the message names the member.
    pub async fn launch_cluster(
        &self,
        caller: &Caller,
        name: &str,
        roles: Vec<Role>,
        options: CallOptions,
    ) -> Result<LaunchedCluster> {
        let specs = members(name, &roles)?;
        let digest = digest_of(&format!("cluster {name} {roles:?}"));
        let mut pointers = Vec::new();
        for spec in &specs {
            pointers.push(Pointers::look(spec, caller, &self.admission).await?);
        }
        let (caller, name) = (caller.clone(), name.to_owned());
        let policies = Arc::clone(&self.policies);
        let grace_seconds = self.admission.lease_grace_seconds;
        self.core
            .transact(move |tx| {
                if let Some(job) = answered(tx.site, &caller, &options, &digest)?.and_then(|known| known.job) {
                    let job = tx.site.job(job).ok_or_else(|| Error::not_found(format!("job {job}")))?;
                    return again(job.id, &args::read(&job.args)?);
                }
                free_name(tx.site, &caller, &name)?;
                let members: Vec<(Spec, Pointers)> = specs.into_iter().zip(pointers).collect();
                let names: Vec<String> = members.iter().map(|(spec, _)| spec.name.clone()).collect();
                let mut shortest: Option<Timestamp> = None;
                let mut endless = true;
                let launched = tx.each(members, |tx, (spec, pointers)| {
                    let member = spec.name.clone();
                    let (launched, until) = launch::admit_one(tx, &policies, &caller, spec, &pointers, grace_seconds)
                        .map_err(|error| Error { object: format!("member `{member}`: {}", error.object), ..error })?;
                    endless &= until.is_none();
                    shortest = shortest.into_iter().chain(until).min();
                    Ok(launched)
                })?;
                // One lease for all: the shortest that the policies gave one of them.
                if !endless {
                    let member = |id| launched.iter().any(|launched| launched.workspace == id);
                    tx.edit_workspaces(|workspace| {
                        // Not that of those who make room.
                        if member(workspace.id) {
                            workspace.lease.until = shortest;
                        }
                    });
                }
                let job = JobId(tx.id());
                let args = ClusterArgs {
                    cluster: name.clone(),
                    members: launched
                        .iter()
                        .zip(names)
                        .map(|(launched, name)| MemberArgs {
                            name,
                            workspace: launched.workspace.to_string(),
                            job: launched.job.to_string(),
                        })
                        .collect(),
                };
                let record = change::new_job(tx, job, JobKind::CreateCluster, &caller, args::write(&args)?);
                change::put_job(tx, record);
                remember(tx, &caller, &options, &digest, None, Some(job), None);
                Ok(LaunchedCluster { members: launched, job })
            })
            .await
    }

    /// Does one thing to many workspaces; each is judged and answers on its own.
    pub async fn act_on_many(
        &self,
        caller: &Caller,
        workspaces: Vec<Arc<Workspace>>,
        action: &ManyAction,
        options: &CallOptions,
    ) -> Vec<(Arc<Workspace>, Result<ManyAnswer>)> {
        let mut answers = Vec::with_capacity(workspaces.len());
        for workspace in workspaces {
            // Each gets a request id of its own, so that a repeat of the whole finds each one's first answer.
            let own = CallOptions { request_id: options.request_id.as_ref().map(|id| format!("{id}/{}", workspace.id)) };
            let answer = match action {
                ManyAction::Act(action) => self.act(caller, workspace.id, action.clone(), own).await.map(ManyAnswer::Job),
                ManyAction::Renew(seconds) => self.renew(caller, workspace.id, *seconds, own).await.map(ManyAnswer::Until),
            };
            answers.push((workspace, answer));
        }
        answers
    }
}

fn free_name(site: &vws_domain::Site, caller: &Caller, name: &str) -> Result<()> {
    let taken = site
        .workspaces_of(caller.uid)
        .any(|workspace| workspace.spec.membership.as_ref().is_some_and(|member| member.cluster == name));
    if !taken {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::AlreadyExists,
        format!("cluster `{name}`"),
        "you have members of one of this name",
        "choose another name, or destroy that cluster first",
    ))
}

fn again(job: JobId, args: &ClusterArgs) -> Result<LaunchedCluster> {
    let members = args
        .members
        .iter()
        .map(|member| Ok(Launched { workspace: WorkspaceId::parse(&member.workspace)?, job: JobId::parse(&member.job)? }))
        .collect::<Result<_>>()?;
    Ok(LaunchedCluster { members, job })
}
