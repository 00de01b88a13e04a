//! `org.virtualworkspaces1.Policy`, on the root object: the policies in force.

use super::accounts;
use super::call::{Call, Method, Reply, later};
use super::encode::{self, Map, text};
use super::keys::Dict;
use super::manager::find_verb;
use super::value::Property;
use crate::gate::Target;
use crate::policies::PolicyStatus;
use crate::service::ReplayQuery;
use std::collections::{BTreeMap, HashMap};
use vws_bus::{keys, names};
use vws_domain::{Caller, Result, Timestamp};
use zbus::Variant;

/// Decisions that a replay looks at when no number is named.
const REPLAY_DECISIONS: u64 = 100_000;

/// Its methods.
pub const METHODS: &[Method] = &[
    Method { name: "Reload", run: |call| later(reload(call)) },
    Method { name: "Check", run: |call| later(check(call)) },
    Method { name: "History", run: |call| later(history(call)) },
    Method { name: "Rollback", run: |call| later(rollback(call)) },
    Method { name: "Replay", run: |call| later(replay(call)) },
    Method { name: "StartShadow", run: |call| later(start_shadow(call)) },
    Method { name: "Shadow", run: |call| later(shadow(call)) },
    Method { name: "StopShadow", run: |call| later(stop_shadow(call)) },
    Method { name: "Audit", run: |call| later(audit(call)) },
];

/// Its properties.
pub const PROPERTIES: &[Property<PolicyStatus>] = &[
    Property { name: "Generation", get: |status| status.generation.into() },
    Property { name: "Hash", get: |status| text(&status.hash) },
    Property { name: "LoadedAt", get: |status| status.loaded_at.0.into() },
    Property { name: "State", get: |status| text(&status.state) },
    Property { name: "Errors", get: |status| Variant::from(status.problems.iter().map(encode::problem).collect::<Vec<_>>()) },
    Property { name: "Directory", get: |status| Variant::from(status.directory.to_string_lossy().replace('\0', "\u{fffd}")) },
    Property { name: "Files", get: |status| Variant::from(status.files.iter().map(String::as_str).collect::<Vec<_>>()) },
    Property { name: "PinnedOver", get: |status| text(&status.pinned_over) },
    Property { name: "LastReload", get: |status| encode::gated(&status.gated).into() },
    Property { name: "ReadsJudged", get: |status| status.reads.judged.into() },
    Property { name: "ReadsRemembered", get: |status| status.reads.remembered.into() },
    Property { name: "ReadsRefused", get: |status| status.reads.refused.into() },
];

async fn reload(call: Call) -> Reply {
    let (options,): (Dict,) = call.arguments()?;
    let accept = call.options(names::POLICY, options)?.flag(keys::ACCEPT).unwrap_or(false);
    let generation = call.state.service.reload_policies(&call.caller, accept).await?;
    call.reply(&(generation,))
}

async fn check(call: Call) -> Reply {
    let (sources, options): (HashMap<String, String>, Dict) = call.arguments()?;
    call.options(names::POLICY, options)?;
    let problems = call.state.service.check_policies(&call.caller, sources.into_iter().collect()).await?;
    let problems: Vec<Map<'_>> = problems.iter().map(encode::problem).collect();
    call.reply(&(problems,))
}

async fn history(call: Call) -> Reply {
    let (options,): (Dict,) = call.arguments()?;
    call.options(names::POLICY, options)?;
    let history = call.state.service.policy_history(&call.caller).await?;
    call.reply(&(history.iter().map(encode::policy_generation).collect::<Vec<_>>(),))
}

async fn rollback(call: Call) -> Reply {
    let (target, options): (String, Dict) = call.arguments()?;
    call.options(names::POLICY, options)?;
    let generation = call.state.service.roll_back_policies(&call.caller, Target::parse(&target)).await?;
    call.reply(&(generation,))
}

async fn replay(call: Call) -> Reply {
    let (sources, options): (HashMap<String, String>, Dict) = call.arguments()?;
    let mut options = call.options(names::POLICY, options)?;
    let mut query = || -> Result<ReplayQuery> {
        Ok(ReplayQuery {
            since: options.number(keys::SINCE).map(Timestamp),
            verb: options.text(keys::VERB).map(|verb| find_verb(&verb)).transpose()?,
            caller: options.id(keys::CALLER),
            limit: options.limit(REPLAY_DECISIONS, u64::MAX)?,
        })
    };
    let query = query();
    let found = call.state.service.replay(&call.caller, sources.into_iter().collect(), query).await?;
    call.reply(&(encode::replayed(&found),))
}

async fn start_shadow(call: Call) -> Reply {
    let (sources, options): (HashMap<String, String>, Dict) = call.arguments()?;
    call.options(names::POLICY, options)?;
    let hash = call.state.service.start_shadow(&call.caller, sources.into_iter().collect()).await?;
    call.reply(&(hash,))
}

async fn shadow(call: Call) -> Reply {
    let (options,): (Dict,) = call.arguments()?;
    call.options(names::POLICY, options)?;
    let found = call.state.service.shadow(&call.caller).await?;
    call.reply(&(found.as_ref().map(encode::shadow).unwrap_or_default(),))
}

async fn stop_shadow(call: Call) -> Reply {
    let (options,): (Dict,) = call.arguments()?;
    call.options(names::POLICY, options)?;
    call.state.service.stop_shadow(&call.caller).await?;
    call.reply(&())
}

async fn audit(call: Call) -> Reply {
    let (sources, options): (HashMap<String, String>, Dict) = call.arguments()?;
    call.options(names::POLICY, options)?;
    let mut owners = BTreeMap::new();
    for uid in call.state.service.audited_owners(&call.caller).await? {
        let account = accounts::look_up(uid, None).await?;
        let admin = call.state.admins.include(uid, &account.groups);
        let owner = Caller {
            uid,
            user: account.user,
            gids: account.gids,
            groups: account.groups,
            pid: 0,
            label: String::new(),
            admin,
            system: false,
        };
        owners.insert(uid, owner);
    }
    let (refused, judged) = call.state.service.audit(sources.into_iter().collect(), owners).await?;
    call.reply(&(refused.iter().map(encode::audited).collect::<Vec<_>>(), judged))
}
