//! A host that is away while a job has to end something on it: the job waits until it answers again, and says for which host.
//!
//! Owns: how it is told that a host is away, the waiting, and who ends it. Nothing is concluded meanwhile: the workspace is unknown and
//! holds what it holds. What waits is the job as it stands on disk, so a restart of the daemon waits on.

use super::Operate;
use super::engine::Run;
use crate::change;
use vws_domain::{Connection, Error, ErrorKind, HostName, JobKind, Result, Site, StateEvent};

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// The host answers again.
    Back,
    /// The workspace's end was asked for meanwhile, and waits for the same host: it takes over.
    TakenOver,
}

/// Whether the failure may come from a host that is away. Whether it is, the host is asked.
fn may_be_away(error: &Error) -> bool {
    matches!(error.kind, ErrorKind::HostUnavailable | ErrorKind::TimedOut | ErrorKind::BackendFailure)
}

/// Whether a destroy of the job's workspace waits behind the job.
fn taken_over(site: &Site, run: &Run) -> bool {
    let behind = run.job.workspace.and_then(|id| site.workspace(id)).and_then(|workspace| workspace.job);
    behind.filter(|job| *job != run.job.id).and_then(|job| site.job(job)).is_some_and(|job| job.kind == JobKind::Destroy)
}

impl Operate {
    /// The host of the job that is away now, if its failure comes from that. A host that fails a call and answers when asked what it
    /// runs is not away.
    pub(super) async fn away(&self, run: &Run, error: &Error) -> Option<HostName> {
        if !may_be_away(error) {
            return None;
        }
        let hosts = match &run.workspace {
            Some(workspace) => [workspace.host.clone(), workspace.also_on.clone()],
            None => [run.job.host.clone(), None],
        };
        for host in hosts.into_iter().flatten() {
            let asked = match self.open_host(&host).await {
                Ok(()) => self.ask_for_listing(&host, &format!("{}/{}/away", run.job.id, run.step)).await.map(drop),
                Err(error) => Err(error),
            };
            if let Err(error) = asked
                && may_be_away(&error)
            {
                self.host_down(&host, &error.to_string()).await;
                return Some(host);
            }
        }
        None
    }

    /// Waits until the host answers again; the job's phase says for which it waits, and a workspace that is being taken back is unknown.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn wait_for(&self, run: &Run, host: &HostName) -> Result<Waited> {
        let standing = self.standing(host);
        let mut woken = run.cancel_flag();
        let said = self.core.read(|site| site.job(run.job.id).map(|job| job.progress.phase.clone())).unwrap_or_default();
        let plain = said.split(WAITS).next().unwrap_or_default().to_owned();
        self.tell_wait(run, format!("{plain}{WAITS} `{host}`"), Some(host.clone())).await?;
        loop {
            let back = standing.came_back.notified();
            tokio::pin!(back);
            // From here on no return is missed.
            back.as_mut().enable();
            let (down, over) = self.core.read(|site| {
                let down = site.host(host).is_some_and(|host| matches!(host.connection, Connection::Down(_)));
                (down, run.undoing() && taken_over(site, run))
            });
            if over {
                self.tell_wait(run, plain, None).await?;
                return Ok(Waited::TakenOver);
            }
            let returned = !down
                || tokio::select! {
                    () = back => true,
                    woken = woken.changed() => {
                        if woken.is_err() {
                            std::future::pending::<()>().await;
                        }
                        false
                    }
                };
            if returned {
                self.tell_wait(run, plain, None).await?;
                return Ok(Waited::Back);
            }
        }
    }

    /// Writes the job's phase; with a host that is waited for, what that means for the workspace as well.
    async fn tell_wait(&self, run: &Run, phase: String, waits_for: Option<HostName>) -> Result<()> {
        let undoing = run.undoing();
        if let Some(host) = &waits_for {
            tracing::warn!(job = %run.job.id, step = run.step, %host, "a job waits for a host");
        }
        self.edit(run.job.id, move |edit| {
            edit.job.progress.phase = phase;
            let Some(host) = waits_for.filter(|_| undoing) else { return Ok(()) };
            // What an earlier undo left in doubt stays said.
            let doubt = edit.in_doubt();
            if let Some(workspace) = edit.workspace.take() {
                let cause = workspace.cause.clone();
                let text = format!("host `{host}` does not answer; what was begun there is taken back when it does");
                let lost = workspace.state.next(StateEvent::ContactLost).is_ok_and(|next| next != workspace.state);
                let mut unknown =
                    if lost { change::after(workspace, StateEvent::ContactLost, "host-unreachable", &text)? } else { workspace };
                if doubt {
                    unknown.cause = cause;
                }
                edit.workspace = Some(unknown);
            }
            Ok(())
        })
        .await
    }
}

/// Between a step's name and the host that is waited for.
const WAITS: &str = ", waits for host";
