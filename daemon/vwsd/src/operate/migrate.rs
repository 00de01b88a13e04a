//! Migrate: a running guest from one host to another. It runs on exactly one of them at any time, and the ledger says on which.
//!
//! The hypervisors move it between themselves, and go on when whoever asked dies. So nothing is concluded from how a call ended:
//! after it, and after each restart, both hosts are looked at ([`whose`]), and the job waits, saying for whom, until what they answer
//! leaves no doubt. Room is held on both hosts all the time, and given back when the absence of the machine was seen.

use super::args::{self, MigrateArgs};
use super::document;
use super::engine::{Edit, Effect, Ending, Run, Step, StepError, Undo, nothing};
use super::hosts::observed;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use vws_domain::{Error, ErrorKind, HostName, JobState, StateEvent};
use vws_plugin_api::doc::{self, MachineState, MachineStatus, MigrationOffer};

/// The table.
pub static STEPS: &[Step] = &[
    Step { name: "images", run: |run| Box::pin(images(run)), undo: Undo::By(|run| Box::pin(release(run))) },
    Step { name: "room", run: |run| Box::pin(room(run)), undo: Undo::Nothing(super::room::NO_UNDO) },
    Step { name: "prepare", run: |run| Box::pin(prepare(run)), undo: Undo::By(|run| Box::pin(unprepare(run))) },
    Step { name: "migrate", run: |run| Box::pin(migrate(run)), undo: Undo::By(|run| Box::pin(settle(run))) },
    Step {
        name: "forget",
        run: |run| Box::pin(leave(run)),
        undo: Undo::Never("the guest runs on the other host: what is left here is a copy"),
    },
];

/// Index of `forget` in the table.
const FORGET: u32 = 4;
/// What a plugin is given to join a migration that is at work before it is told to end it.
const JOIN: Duration = Duration::from_millis(500);
/// Pause before both hosts are looked at again.
const AGAIN: Duration = Duration::from_millis(100);
/// Code of a migration of which the plugin answered that it failed: nothing is at work any more.
const FAILED: &str = "migration-failed";
/// Looks at a guest that stands still on the target alone until it counts as having arrived so.
const STILL_LOOKS: u32 = 50;

/// What the steps leave for each other.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Scratch {
    /// What the target answered.
    offer: Option<MigrationOffer>,
    /// Whether the source may have been told to move it.
    begun: bool,
    /// Whether something may be left on the target, which did not answer.
    left: bool,
}

impl Scratch {
    fn of(run: &Run) -> Result<Self, StepError> {
        Ok(args::read(&run.job.scratch)?)
    }
}

/// The job's arguments and hosts.
struct Move {
    args: MigrateArgs,
    from: HostName,
    to: HostName,
}

impl Move {
    fn of(run: &Run) -> Result<Self, StepError> {
        let args: MigrateArgs = run.args()?;
        let (from, to) = (HostName::parse(&args.from)?, HostName::parse(&args.to)?);
        Ok(Self { args, from, to })
    }

    /// Whether the disks on both hosts are the same ones.
    fn keeps_disks(&self, scratch: &Scratch) -> bool {
        self.args.shares_storage() || scratch.offer.as_ref().is_some_and(|offer| offer.shared)
    }
}

async fn room(run: &Run) -> Result<Effect, StepError> {
    let Move { args, to, .. } = Move::of(run)?;
    super::room::made(run, &to, &args.room).await
}

async fn images(run: &Run) -> Result<Effect, StepError> {
    let Move { to, .. } = Move::of(run)?;
    super::image_cache::put_images(run, &to, run.workspace()?).await?;
    Ok(nothing())
}

/// The last undo. Images are a cache, so here nothing was made; what `prepare` made was removed, or is still accounted for.
async fn release(run: &Run) -> Result<Effect, StepError> {
    let left = Scratch::of(run)?.left;
    Ok(Box::new(move |edit| {
        if !left {
            edit.workspace(|workspace| workspace.also_on = None);
        }
        Ok(())
    }))
}

async fn prepare(run: &Run) -> Result<Effect, StepError> {
    let Move { args, to, .. } = Move::of(run)?;
    let mut scratch = Scratch::of(run)?;
    let machine = machine(run)?;
    let ask = doc::MigratePrepare { host: to.to_string(), machine, source_storage_id: args.from_storage };
    let (offer, _): (MigrationOffer, _) =
        run.call(&to, doc::methods::MIGRATE_PREPARE, &ask, run.operate.limits.long_deadline, Vec::new()).await?;
    scratch.offer = Some(offer);
    keep(scratch)
}

/// Removes what was made on the target. A target that does not answer keeps its room until it does: see `forget`.
async fn unprepare(run: &Run) -> Result<Effect, StepError> {
    let at = Move::of(run)?;
    let mut scratch = Scratch::of(run)?;
    match forget(run, &at.to, at.keeps_disks(&scratch)).await {
        Ok(()) => Ok(Box::new(|edit| {
            edit.workspace(|workspace| workspace.also_on = None);
            Ok(())
        })),
        Err(error) => {
            scratch.left = true;
            let text = format!("host `{}` keeps room for it until it answers: {error}", at.to);
            let scratch = args::write(&scratch)?;
            Ok(Box::new(move |edit| {
                edit.job.message = text;
                edit.job.scratch = scratch;
                Ok(())
            }))
        }
    }
}

async fn migrate(run: &Run) -> Result<Effect, StepError> {
    let at = Move::of(run)?;
    let mut scratch = Scratch::of(run)?;
    if scratch.begun {
        // Taken up after a restart: it may have arrived, or be on its way.
        if let Found::Target(status) = look(run, &at, false).await? {
            return arrived(&at, &scratch, &status);
        }
    } else {
        scratch.begun = true;
        let text = args::write(&scratch)?;
        run.operate
            .edit(run.job.id, move |edit| {
                edit.job.scratch = text;
                Ok(())
            })
            .await?;
    }
    let mut tries = 0;
    let mut pause = AGAIN;
    loop {
        let failed = ask_to_move(run, &at, &scratch, Ending::WithJob).await?;
        let answered = failed.as_ref().is_none_or(|(_, answered)| *answered);
        match (look(run, &at, answered).await?, failed) {
            (Found::Target(status), _) => return arrived(&at, &scratch, &status),
            (Found::AtWork, _) => {}
            (Found::Source(_), Some((error, true))) => return Err(StepError { error: ended(error), may_pass: false }),
            (Found::Source(_), Some((error, false))) => {
                tries += 1;
                if tries >= run.operate.limits.step_tries {
                    return Err(StepError { error, may_pass: false });
                }
            }
            (Found::Source(status), None) => {
                let fact = format!("the backend says that it moved, and it is {} on host `{}`", word(status.state), at.from);
                let error =
                    Error::new(ErrorKind::BackendFailure, run.workspace()?.object(), fact, "report it to the plugin's vendor");
                return Err(StepError { error, may_pass: false });
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(run.operate.limits.retry_most);
    }
}

/// A failure after which nothing is at work.
fn ended(error: Error) -> Error {
    error.with_code(FAILED)
}

/// Tells the source to move it, or to go on with it. `None`: it says that it did; else why not, and whether that was its answer.
async fn ask_to_move(run: &Run, at: &Move, scratch: &Scratch, ending: Ending) -> Result<Option<(Error, bool)>, StepError> {
    let workspace = run.workspace()?;
    let offer =
        scratch.offer.clone().ok_or_else(|| Error::internal(workspace.object(), "moves without an offer of the target"))?;
    let ask = doc::MigrateArgs {
        host: at.from.to_string(),
        machine: machine(run)?,
        offer,
        mib_per_second: at.args.mib_per_second,
        plugin_state: document::plugin_state(workspace),
    };
    let deadline = run.operate.limits.long_deadline;
    let asked: std::result::Result<(MachineStatus, _), _> =
        run.ask(&at.from, doc::methods::MIGRATE, &ask, deadline, Vec::new(), ending).await;
    Ok(asked.err().map(|failed| (failed.error.error, failed.answered)))
}

/// The guest runs on the target: from here on that is where the workspace is.
fn arrived(at: &Move, scratch: &Scratch, status: &MachineStatus) -> Result<Effect, StepError> {
    let (from, to) = (at.from.clone(), at.to.clone());
    let state = document::kept_state(&status.plugin_state)?;
    let event = observed(status.state).unwrap_or(StateEvent::SeenRunning);
    let scratch = args::write(scratch)?;
    let cpu = status.cpu.clone();
    Ok(Box::new(move |edit| {
        edit.job.message = format!("runs on host `{to}`");
        edit.job.scratch = scratch;
        let text = format!("moved from host `{from}` to `{to}`");
        edit.workspace(|workspace| {
            workspace.host = Some(to);
            workspace.also_on = Some(from);
            workspace.plugin_state = state;
            workspace.cpu = cpu;
        });
        edit.state(event, "requested", &text)
    }))
}

/// The undo of `migrate`: whatever is at work is ended, and where the guest is then is the truth. If it has moved, the job goes on.
async fn settle(run: &Run) -> Result<Effect, StepError> {
    let at = Move::of(run)?;
    let scratch = Scratch::of(run)?;
    if !scratch.begun {
        return Ok(nothing());
    }
    let mut answered = run.job.error.as_ref().is_some_and(|error| error.code == FAILED);
    let mut found = look(run, &at, answered).await?;
    let mut pause = AGAIN;
    while !(answered && matches!(found, Found::Source(_)) || matches!(found, Found::Target(_))) {
        let failed = ask_to_move(run, &at, &scratch, Ending::After(JOIN)).await?;
        answered = failed.is_none_or(|(_, answered)| answered);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(run.operate.limits.retry_most);
        found = look(run, &at, answered).await?;
    }
    if let Found::Target(status) = found {
        let effect = arrived(&at, &scratch, &status)?;
        return Ok(Box::new(move |edit| {
            effect(edit)?;
            edit.job.message = format!("{}; it had moved before it could be stopped", edit.job.message);
            go_on(edit);
            Ok(())
        }));
    }
    let Found::Source(status) = found else { return Ok(nothing()) };
    let why = run.job.error.as_ref().map(ToString::to_string).unwrap_or_default();
    Ok(Box::new(move |edit| {
        edit.job.message = format!("is on host `{}`, as before", at.from);
        match observed(status.state) {
            Some(event) => edit.state(event, "migrate-failed", &format!("migrate failed: {why}")),
            None => Ok(()),
        }
    }))
}

/// Forward again, from the step after the move.
fn go_on(edit: &mut Edit<'_, '_>) {
    edit.job.state = JobState::Running;
    edit.job.step = FORGET;
    edit.job.error = None;
    edit.job.cancel_requested = false;
    edit.job.progress.step = FORGET;
    edit.job.progress.phase = "forget".to_owned();
}

/// Removes what is left on the source. One that does not answer keeps the room until it does: see `forget`.
async fn leave(run: &Run) -> Result<Effect, StepError> {
    let at = Move::of(run)?;
    let scratch = Scratch::of(run)?;
    let left = forget(run, &at.from, at.keeps_disks(&scratch)).await.err();
    Ok(Box::new(move |edit| {
        match left {
            None => edit.workspace(|workspace| workspace.also_on = None),
            Some(error) => {
                edit.job.message =
                    format!("{}; what is left on host `{}` is removed when it answers: {error}", edit.job.message, at.from);
            }
        }
        Ok(())
    }))
}

/// Removes what is on a host that the guest does not run on, tried as often as a step is.
async fn forget(run: &Run, host: &HostName, keep_disks: bool) -> Result<(), Error> {
    let workspace = run.workspace()?;
    let mut pause = run.operate.limits.retry_first;
    for tries in 1.. {
        let error = match remove_left(run, host, &workspace.id.to_string(), keep_disks).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        if tries >= run.operate.limits.step_tries {
            return Err(error);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(run.operate.limits.retry_most);
    }
    Ok(())
}

/// One try; answers when the host reported the machine's absence.
pub async fn remove_left(run: &Run, host: &HostName, workspace: &str, keep_disks: bool) -> Result<(), Error> {
    let ask = doc::WorkspaceForget {
        host: host.to_string(),
        workspace: workspace.to_owned(),
        keep_disks,
        // What the plugin left belongs to the machine on the other host.
        plugin_state: serde_json::Value::Null,
    };
    let asked: std::result::Result<(MachineStatus, _), _> =
        run.ask(host, doc::methods::FORGET, &ask, run.operate.limits.call_deadline, Vec::new(), Ending::Never).await;
    let (status, _) = asked.map_err(|failed| failed.error.error)?;
    if status.state == MachineState::Absent {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::BackendFailure,
        format!("workspace {workspace}"),
        format!("is still {} on host `{host}`", word(status.state)),
        "it is tried again",
    ))
}

fn machine(run: &Run) -> Result<doc::MachineDoc, StepError> {
    let workspace = run.workspace()?;
    Ok(run.operate.core.read(|site| document::machine(site, workspace))?)
}

fn keep(scratch: Scratch) -> Result<Effect, StepError> {
    let text = args::write(&scratch)?;
    Ok(Box::new(move |edit| {
        edit.job.scratch = text;
        Ok(())
    }))
}

/// Where the guest was found.
enum Found {
    Source(MachineStatus),
    Target(MachineStatus),
    AtWork,
}

/// Looks on both hosts until there is no doubt. `answered`: the source has said that no migration is at work.
async fn look(run: &Run, at: &Move, answered: bool) -> Result<Found, StepError> {
    let mut pause = run.operate.limits.retry_first;
    let mut still = 0;
    let mut said = String::new();
    loop {
        let (source, target) = tokio::join!(inspect(run, &at.from), inspect(run, &at.to));
        let state = |seen: &Result<MachineStatus, Error>| seen.as_ref().ok().map(|status| status.state);
        let whose = whose(state(&source), state(&target), answered);
        let waits_for = match (whose, source, target) {
            (Whose::Source, Ok(status), _) => return Ok(Found::Source(status)),
            (Whose::Target, _, Ok(status)) => return Ok(Found::Target(status)),
            (Whose::AtWork, _, _) => return Ok(Found::AtWork),
            (Whose::Still, _, Ok(status)) => {
                still += 1;
                if still >= STILL_LOOKS {
                    return Ok(Found::Target(status));
                }
                tokio::time::sleep(AGAIN).await;
                continue;
            }
            (_, Ok(_), Ok(_)) => format!("runs on host `{}` and on `{}`, as they say", at.from, at.to),
            (_, Err(error), _) => format!("waits for host `{}`, which alone knows whether it runs there: {error}", at.from),
            (_, _, Err(error)) => format!("waits for host `{}`, which alone knows whether it runs there: {error}", at.to),
        };
        if said != waits_for {
            said.clone_from(&waits_for);
            tracing::warn!(job = %run.job.id, "a migration {waits_for}");
            run.operate
                .edit(run.job.id, move |edit| {
                    edit.job.message.clone_from(&waits_for);
                    edit.workspace(|workspace| {
                        workspace.cause = vws_domain::Cause { code: "migration-waits".to_owned(), text: waits_for };
                    });
                    Ok(())
                })
                .await?;
        }
        let (source, target) = (run.operate.standing(&at.from), run.operate.standing(&at.to));
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = source.came_back.notified() => {}
            () = target.came_back.notified() => {}
        }
        pause = (pause * 2).min(run.operate.limits.retry_most);
    }
}

async fn inspect(run: &Run, host: &HostName) -> Result<MachineStatus, Error> {
    let workspace = run.workspace()?;
    let ask = document::reference(host, workspace);
    let asked: std::result::Result<(MachineStatus, _), _> =
        run.ask(host, doc::methods::INSPECT, &ask, run.operate.limits.call_deadline, Vec::new(), Ending::Never).await;
    asked.map(|(status, _)| status).map_err(|failed| failed.error.error)
}

fn word(state: MachineState) -> &'static str {
    match state {
        MachineState::Running => "running",
        MachineState::Paused => "paused",
        MachineState::Stopped => "stopped",
        MachineState::Saved => "saved",
        MachineState::Absent => "absent",
    }
}

/// Who has the guest, by what the two hosts answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    /// The source: running, paused, or off there and nowhere else.
    Source,
    /// The target: it runs there.
    Target,
    /// It is on its way.
    AtWork,
    /// It stands still on the target and is off on the source: it is about to go on there, or to be given up.
    Still,
    /// What they answer leaves a doubt.
    Doubt,
}

/// A pure function of what the hosts answer (`None`: no answer). `answered`: the source has said that no migration is at work.
///
/// A target lets a guest run only after the source has handed it over; until then it stands still there. A source that stands still may
/// have handed it over.
fn whose(source: Option<MachineState>, target: Option<MachineState>, answered: bool) -> Whose {
    use MachineState as M;
    match (source, target) {
        (Some(M::Running), Some(M::Running)) => Whose::Doubt,
        (_, Some(M::Running)) => Whose::Target,
        (Some(M::Running | M::Paused), Some(M::Paused)) => Whose::AtWork,
        (Some(M::Running), None) if !answered => Whose::AtWork,
        (Some(M::Running), _) => Whose::Source,
        (Some(M::Paused), Some(_)) => Whose::Source,
        (Some(_), Some(M::Paused)) => Whose::Still,
        (Some(_), Some(_)) => Whose::Source,
        (None, _) | (_, None) => Whose::Doubt,
    }
}

#[cfg(test)]
mod tests {
    use super::{Whose, whose};
    use vws_plugin_api::doc::MachineState as M;

    const SEEN: [Option<M>; 6] = [None, Some(M::Running), Some(M::Paused), Some(M::Stopped), Some(M::Saved), Some(M::Absent)];

    #[test]
    fn nothing_is_concluded_from_silence() {
        for answered in [false, true] {
            for seen in SEEN {
                let on_target = whose(None, seen, answered);
                assert_eq!(on_target == Whose::Target, seen == Some(M::Running), "source silent, target {seen:?}");
                assert_ne!(on_target, Whose::Source, "source silent, target {seen:?}");
                let on_source = whose(seen, None, answered);
                assert_ne!(on_source, Whose::Target, "source {seen:?}, target silent");
                let known = answered && seen == Some(M::Running);
                assert_eq!(on_source == Whose::Source, known, "source {seen:?}, target silent");
            }
        }
    }

    #[test]
    fn who_runs_it_has_it() {
        for answered in [false, true] {
            for other in [Some(M::Stopped), Some(M::Saved), Some(M::Absent)] {
                assert_eq!(whose(Some(M::Running), other, answered), Whose::Source);
                assert_eq!(whose(Some(M::Paused), other, answered), Whose::Source);
                assert_eq!(whose(other, Some(M::Running), answered), Whose::Target);
                assert_eq!(whose(other, Some(M::Paused), answered), Whose::Still);
                assert_eq!(whose(other, other, answered), Whose::Source);
            }
            assert_eq!(whose(Some(M::Running), Some(M::Running), answered), Whose::Doubt);
            assert_eq!(whose(Some(M::Running), Some(M::Paused), answered), Whose::AtWork);
        }
    }
}
