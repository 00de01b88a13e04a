//! `org.virtualworkspaces1.Workspace`: a virtual machine under a lease.

use super::accounts;
use super::call::{Call, Method, Outcome, Reply, later};
use super::decode;
use super::encode::{self, pairs, text};
use super::error::Failure;
use super::keys::{Dict, Keys};
use super::object::Object;
use super::value::{Property, Value};
use crate::service::{Action, CallOptions, SnapshotAct, WorkspaceChange};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use vws_bus::{keys, names};
use vws_domain::{HostName, Result as DomainResult, Visibility, Workspace};
use zbus::{Fd, Variant};

/// Its methods.
pub const METHODS: &[Method] = &[
    Method { name: "Start", run: |call| act(call, |_| Ok(Action::Start)) },
    Method { name: "Stop", run: |call| act(call, stop) },
    Method { name: "Reboot", run: |call| act(call, |_| Ok(Action::Reboot)) },
    Method { name: "Pause", run: |call| act(call, |_| Ok(Action::Pause)) },
    Method { name: "Resume", run: |call| act(call, resume) },
    Method { name: "Serialize", run: |call| act(call, |_| Ok(Action::Serialize)) },
    Method { name: "Migrate", run: |call| act(call, migrate) },
    Method { name: "Destroy", run: |call| act(call, |_| Ok(Action::Destroy)) },
    Method { name: "ExportBundle", run: |call| later(export_bundle(call)) },
    Method { name: "VerifyBundle", run: |call| later(verify_bundle(call)) },
    Method { name: "Renew", run: |call| later(renew(call)) },
    Method { name: "SaveImage", run: |call| later(save_image(call)) },
    Method { name: "Change", run: |call| later(change(call)) },
    Method { name: "Resize", run: |call| later(resize(call)) },
    Method { name: "Snapshot", run: |call| later(snapshot(call)) },
    Method { name: "Revert", run: |call| later(snapshot_act(call, SnapshotAct::Revert)) },
    Method { name: "RemoveSnapshot", run: |call| later(snapshot_act(call, SnapshotAct::Remove)) },
    Method { name: "OpenConsole", run: |call| later(open_console(call)) },
    Method { name: "Log", run: |call| later(log(call)) },
    Method { name: "Describe", run: |call| later(describe(call)) },
];

/// Its properties.
pub const PROPERTIES: &[Property<Workspace>] = &[
    Property { name: "Id", get: |workspace| workspace.id.to_string().into() },
    Property { name: "Name", get: |workspace| text(&workspace.spec.name) },
    Property { name: "Owner", get: |workspace| workspace.owner.into() },
    Property { name: "OwnerName", get: |workspace| text(&workspace.owner_name) },
    Property { name: "Group", get: |workspace| text(&workspace.group) },
    Property { name: "State", get: |workspace| workspace.state.name().into() },
    Property { name: "Target", get: |workspace| workspace.target.name().into() },
    Property { name: "Cause", get: |workspace| Variant::from((text_of(&workspace.cause.code), text_of(&workspace.cause.text))) },
    Property { name: "Host", get: |workspace| workspace.host.as_ref().map_or("", HostName::as_str).into() },
    Property { name: "AlsoOn", get: |workspace| workspace.also_on.as_ref().map_or("", HostName::as_str).into() },
    Property { name: "Job", get: |workspace| workspace.job.map_or_else(encode::none, encode::job).into() },
    Property { name: "Image", get: |workspace| workspace.spec.image.to_string().into() },
    Property { name: "Vcpus", get: |workspace| workspace.resources.vcpus.into() },
    Property { name: "MemoryMib", get: |workspace| workspace.resources.memory_mib.into() },
    Property { name: "VcpusMax", get: |workspace| workspace.spec.vcpus_max.max(workspace.resources.vcpus).into() },
    Property { name: "MemoryMaxMib", get: |workspace| workspace.spec.memory_max_mib.max(workspace.resources.memory_mib).into() },
    Property { name: "DiskGib", get: |workspace| workspace.resources.disk_gib.into() },
    Property { name: "LeaseUntil", get: |workspace| workspace.lease.until.map_or(0, |at| at.0).into() },
    Property { name: "LeaseAction", get: |workspace| workspace.lease.action.name().into() },
    Property { name: "Nics", get: |workspace| Variant::from(workspace.spec.nics.iter().map(encode::nic).collect::<Vec<_>>()) },
    Property { name: "Labels", get: |workspace| pairs(&workspace.spec.labels) },
    Property { name: "Snapshots", get: |workspace| encode::snapshots(&workspace.snapshots) },
    Property { name: "Cluster", get: |workspace| text(workspace.spec.membership.as_ref().map_or("", |member| &member.cluster)) },
    Property { name: "Role", get: |workspace| text(workspace.spec.membership.as_ref().map_or("", |member| &member.role)) },
    Property { name: "Preemptible", get: |workspace| workspace.spec.preemptible.into() },
    Property { name: "CreatedAt", get: |workspace| workspace.created_at.0.into() },
    Property { name: "ChangedAt", get: |workspace| workspace.changed_at.0.into() },
    Property { name: "Version", get: |workspace| workspace.version.into() },
];

fn text_of(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

fn stop(options: &mut Keys) -> DomainResult<Action> {
    let guest_timeout_ms = options.number(keys::GUEST_TIMEOUT_MS).unwrap_or(names::GUEST_TIMEOUT_MS);
    Ok(Action::Stop { guest_timeout_ms })
}

fn resume(options: &mut Keys) -> DomainResult<Action> {
    let host = options.text(keys::HOST).map(|host| HostName::parse(&host)).transpose()?;
    Ok(Action::Resume { host })
}

fn migrate(options: &mut Keys) -> DomainResult<Action> {
    let host = options.text(keys::HOST).map(|host| HostName::parse(&host)).transpose()?;
    Ok(Action::Migrate { host, mib_per_second: options.number(keys::MIB_PER_SECOND).unwrap_or(0) })
}

/// The verbs that answer with a job: `/` when the workspace is so already.
fn act(call: Call, action: fn(&mut Keys) -> DomainResult<Action>) -> Outcome {
    later(async move {
        let (options,): (Dict,) = call.arguments()?;
        let mut options = call.options(names::WORKSPACE, options)?;
        let action = action(&mut options)?;
        let options = decode::call_options(&mut options)?;
        let job = call.state.service.act(&call.caller, workspace(&call)?.id, action, options).await?;
        call.reply(&(job.map_or_else(encode::none, encode::job),))
    })
}

async fn export_bundle(call: Call) -> Reply {
    let (file, options): (zbus::OwnedFd, Dict) = call.arguments()?;
    let mut options = call.options(names::WORKSPACE, options)?;
    let with_images = options.flag(keys::WITH_IMAGES).unwrap_or(true);
    let options = decode::call_options(&mut options)?;
    let file = File::from(OwnedFd::from(file));
    let job = call.state.service.export_bundle(&call.caller, workspace(&call)?.id, file, with_images, options).await?;
    call.reply(&(encode::job(job),))
}

async fn verify_bundle(call: Call) -> Reply {
    let (options,): (Dict,) = call.arguments()?;
    let options = decode::call_options(&mut call.options(names::WORKSPACE, options)?)?;
    let job = call.state.service.verify_bundle(&call.caller, workspace(&call)?.id, options).await?;
    call.reply(&(encode::job(job),))
}

async fn renew(call: Call) -> Reply {
    let (seconds, options): (u64, Dict) = call.arguments()?;
    call.options(names::WORKSPACE, options)?;
    let until = call.state.service.renew(&call.caller, workspace(&call)?.id, seconds, CallOptions::default()).await?;
    call.reply(&(until.map_or(0, |at| at.0),))
}

async fn save_image(call: Call) -> Reply {
    let (name, options): (String, Dict) = call.arguments()?;
    let mut options = call.options(names::WORKSPACE, options)?;
    let visibility = decode::visibility(&mut options)?.unwrap_or(Visibility::Private);
    let options = decode::call_options(&mut options)?;
    let id = workspace(&call)?.id;
    let (image, job) = call.state.service.save_image(&call.caller, id, &name, visibility, options).await?;
    call.reply(&(encode::image(image), encode::job(job)))
}

async fn change(call: Call) -> Reply {
    let (changes, options): (Dict, Dict) = call.arguments()?;
    call.options(names::WORKSPACE, options)?;
    let mut changes = Keys::new("changes", changes, &[keys::WORKSPACE_CHANGES])?;
    let access = match decode::access(&mut changes)? {
        Some(access) => Some(accounts::resolve(access).await?),
        None => None,
    };
    let change = WorkspaceChange { name: changes.text(keys::NAME), labels: changes.pairs(keys::LABELS), access };
    let id = workspace(&call)?.id;
    call.state.service.change_workspace(&call.caller, id, change, CallOptions::default()).await?;
    call.reply(&())
}

async fn resize(call: Call) -> Reply {
    let (changes, options): (Dict, Dict) = call.arguments()?;
    let options = decode::call_options(&mut call.options(names::WORKSPACE, options)?)?;
    let change = decode::resize("changes", changes)?;
    let job = call.state.service.resize(&call.caller, workspace(&call)?.id, change, options).await?;
    call.reply(&(job.map_or_else(encode::none, encode::job),))
}

async fn snapshot(call: Call) -> Reply {
    let (name, options): (String, Dict) = call.arguments()?;
    let mut options = call.options(names::WORKSPACE, options)?;
    let memory = options.flag(keys::MEMORY).unwrap_or(false);
    let options = decode::call_options(&mut options)?;
    let id = workspace(&call)?.id;
    let job = call.state.service.snapshot(&call.caller, id, &name, SnapshotAct::Make { memory }, options).await?;
    call.reply(&(encode::job(job),))
}

async fn snapshot_act(call: Call, act: SnapshotAct) -> Reply {
    let (name, options): (String, Dict) = call.arguments()?;
    let options = decode::call_options(&mut call.options(names::WORKSPACE, options)?)?;
    let job = call.state.service.snapshot(&call.caller, workspace(&call)?.id, &name, act, options).await?;
    call.reply(&(encode::job(job),))
}

async fn open_console(call: Call) -> Reply {
    let (options,): (Dict,) = call.arguments()?;
    call.options(names::WORKSPACE, options)?;
    let console = call.state.service.console(&call.caller, workspace(&call)?.id).await?;
    call.reply(&(Fd::from(console),))
}

async fn log(call: Call) -> Reply {
    let (options,): (Dict,) = call.arguments()?;
    call.options(names::WORKSPACE, options)?;
    let (text, omitted) = call.state.service.log(&call.caller, workspace(&call)?.id).await?;
    call.reply(&(text_of(&text), omitted))
}

async fn describe(call: Call) -> Reply {
    let (options,): (Dict,) = call.arguments()?;
    call.options(names::WORKSPACE, options)?;
    let workspace = workspace(&call)?;
    let (reservation, job, bundle) = call.state.service.read(|site| {
        let reservation = site.reservation(workspace.id).cloned();
        let job = workspace.job.and_then(|id| site.job(id).cloned());
        (reservation, job, workspace.bundle.and_then(|id| site.bundle(id).cloned()))
    });
    let job = job.filter(|job| call.state.service.may_view_job(&call.caller, job)).map(Value::Job);
    let job = job.as_ref().map(|job| job.all().0.into_iter().collect());
    call.reply(&(encode::description(workspace, reservation.as_deref(), job, bundle.as_deref()),))
}

fn workspace(call: &Call) -> Result<&Arc<Workspace>, Failure> {
    match &call.object {
        Object::One(Value::Workspace(workspace)) => Ok(workspace),
        _ => Err(Failure::misrouted()),
    }
}
