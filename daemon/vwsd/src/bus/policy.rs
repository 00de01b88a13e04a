//! `org.virtualworkspaces1.Policy`, on the root object: the policies in force.

use super::call::{Call, Method, Reply, later};
use super::encode::{self, Map, text};
use super::keys::Dict;
use super::value::Property;
use crate::policies::PolicyStatus;
use std::collections::HashMap;
use vws_bus::names;
use zbus::Variant;

/// Its methods.
pub const METHODS: &[Method] =
    &[Method { name: "Reload", run: |call| later(reload(call)) }, Method { name: "Check", run: |call| later(check(call)) }];

/// Its properties.
pub const PROPERTIES: &[Property<PolicyStatus>] = &[
    Property { name: "Generation", get: |status| status.generation.into() },
    Property { name: "Hash", get: |status| text(&status.hash) },
    Property { name: "LoadedAt", get: |status| status.loaded_at.0.into() },
    Property { name: "State", get: |status| text(&status.state) },
    Property { name: "Errors", get: |status| Variant::from(status.problems.iter().map(encode::problem).collect::<Vec<_>>()) },
    Property { name: "Directory", get: |status| Variant::from(status.directory.to_string_lossy().replace('\0', "\u{fffd}")) },
    Property { name: "Files", get: |status| Variant::from(status.files.iter().map(String::as_str).collect::<Vec<_>>()) },
    Property { name: "ReadsJudged", get: |status| status.reads.judged.into() },
    Property { name: "ReadsRemembered", get: |status| status.reads.remembered.into() },
    Property { name: "ReadsRefused", get: |status| status.reads.refused.into() },
];

async fn reload(call: Call) -> Reply {
    let (options,): (Dict,) = call.arguments()?;
    call.options(names::POLICY, options)?;
    let generation = call.state.service.reload_policies(&call.caller).await?;
    call.reply(&(generation,))
}

async fn check(call: Call) -> Reply {
    let (sources, options): (HashMap<String, String>, Dict) = call.arguments()?;
    call.options(names::POLICY, options)?;
    let problems = call.state.service.check_policies(&call.caller, sources.into_iter().collect()).await?;
    let problems: Vec<Map<'_>> = problems.iter().map(encode::problem).collect();
    call.reply(&(problems,))
}
