//! `org.virtualworkspaces1.Job`: one durable operation. It stays readable for a while after its end.

use super::call::{Call, Method, Reply, later};
use super::encode::{self, text};
use super::error;
use super::error::Failure;
use super::keys::Dict;
use super::object::Object;
use super::value::{Property, Value};
use crate::service::CallOptions;
use vws_bus::names;
use vws_domain::{Job, JobId};
use zbus::Variant;

/// Its methods.
pub const METHODS: &[Method] = &[Method { name: "Cancel", run: |call| later(cancel(call)) }];

/// Its properties.
pub const PROPERTIES: &[Property<Job>] = &[
    Property { name: "Id", get: |job| job.id.to_string().into() },
    Property { name: "Kind", get: |job| job.kind.name().into() },
    Property { name: "Workspace", get: |job| job.workspace.map_or_else(encode::none, encode::workspace).into() },
    Property { name: "Image", get: |job| job.image.map_or_else(encode::none, encode::image).into() },
    Property { name: "Owner", get: |job| job.owner.into() },
    Property { name: "Actor", get: |job| text(&job.actor) },
    Property { name: "State", get: |job| job.state.name().into() },
    Property { name: "Phase", get: |job| text(&job.progress.phase) },
    Property { name: "Step", get: |job| job.progress.step.into() },
    Property { name: "Steps", get: |job| job.progress.steps.into() },
    Property { name: "Done", get: |job| job.progress.done.into() },
    Property { name: "Total", get: |job| job.progress.total.into() },
    Property { name: "Error", get: |job| Variant::from(failure(job)) },
    Property { name: "Message", get: |job| text(&job.message) },
    Property { name: "CreatedAt", get: |job| job.created_at.0.into() },
    Property { name: "EndedAt", get: |job| job.ended_at.map_or(0, |at| at.0).into() },
];

/// Why it failed: full error name, message, stable code; all empty when it did not.
pub fn failure(job: &Job) -> (String, String, String) {
    job.error.as_ref().map_or_else(Default::default, |failed| {
        (error::name(failed.kind), error::text(failed), failed.code.replace('\0', "\u{fffd}"))
    })
}

async fn cancel(call: Call) -> Reply {
    let (options,): (Dict,) = call.arguments()?;
    call.options(names::JOB, options)?;
    call.state.service.cancel_job(&call.caller, id(&call)?, CallOptions::default()).await?;
    call.reply(&())
}

fn id(call: &Call) -> Result<JobId, Failure> {
    match &call.object {
        Object::One(Value::Job(job)) => Ok(job.id),
        _ => Err(Failure::misrouted()),
    }
}
