//! `Manager.CreateCluster` and `Manager.Act`: what is about many workspaces at once.

use super::accounts;
use super::call::{Call, Reply};
use super::decode;
use super::encode::{self, Map, text};
use super::error::{self, Failure};
use super::keys::{Dict, Keys};
use super::lists;
use crate::service::{Action, ManyAction, ManyAnswer};
use vws_bus::{keys, names};
use vws_domain::{Error, Result, Role, limits, shown};
use zbus::Variant;

/// Most workspaces that one call acts on; a larger site is worked through with a narrower filter.
pub const ACTED_ON: usize = 10_000;

/// `Manager.CreateCluster`.
pub async fn create_cluster(call: Call) -> Reply {
    let (name, cluster, options): (String, Dict, Dict) = call.arguments()?;
    let options = decode::call_options(&mut call.options(names::MANAGER, options)?)?;
    let mut roles: Vec<Role> = Vec::new();
    for (mut role, access) in decode::cluster(cluster)? {
        role.spec.access = accounts::resolve(access).await?;
        roles.push(role);
    }
    let launched = call.state.service.launch_cluster(&call.caller, &name, roles, options).await?;
    let members: Vec<_> = launched.members.iter().map(|member| encode::workspace(member.workspace)).collect();
    call.reply(&(members, encode::job(launched.job)))
}

/// `Manager.Act`.
pub async fn act(call: Call) -> Reply {
    let (verb, filter, options): (String, Dict, Dict) = call.arguments()?;
    let mut options = call.options(names::MANAGER, options)?;
    let action = action(&verb, &mut options)?;
    let options = decode::call_options(&mut options)?;
    let chosen = lists::chosen(&call, filter, ACTED_ON)?;
    let answers = call.state.service.act_on_many(&call.caller, chosen, &action, &options).await;
    let results: Vec<Map<'_>> = answers
        .iter()
        .map(|(workspace, answer)| {
            let mut result = Map::from([
                ("workspace", encode::workspace(workspace.id).into()),
                ("name", text(&workspace.spec.name)),
                ("owner", workspace.owner.into()),
                ("job", encode::none().into()),
            ]);
            match answer {
                Ok(ManyAnswer::Job(job)) => {
                    if let Some(job) = job {
                        result.insert("job", encode::job(*job).into());
                    }
                }
                Ok(ManyAnswer::Until(until)) => {
                    result.insert("until", until.map_or(0, |at| at.0).into());
                }
                Err(error) => {
                    result.insert("error", error::name(error.kind).into());
                    result.insert("message", Variant::from(Failure::Domain(error.clone()).name_and_text().1));
                }
            }
            result
        })
        .collect();
    call.reply(&(results,))
}

const VERBS: [&str; 8] = ["start", "stop", "reboot", "pause", "resume", "serialize", "destroy", "renew"];

fn action(verb: &str, options: &mut Keys) -> Result<ManyAction> {
    let lease = options.number(keys::LEASE_SECONDS);
    let timeout = options.number(keys::GUEST_TIMEOUT_MS);
    if lease.is_some() && verb != "renew" {
        return Err(options.invalid(keys::LEASE_SECONDS, "goes with renew", "leave it out"));
    }
    if timeout.is_some() && verb != "stop" {
        return Err(options.invalid(keys::GUEST_TIMEOUT_MS, "goes with stop", "leave it out"));
    }
    let action = match verb {
        "start" => Action::Start,
        "stop" => Action::Stop { guest_timeout_ms: timeout.unwrap_or(names::GUEST_TIMEOUT_MS) },
        "reboot" => Action::Reboot,
        "pause" => Action::Pause,
        "resume" => Action::Resume { host: None },
        "serialize" => Action::Serialize,
        "destroy" => Action::Destroy,
        "renew" => {
            return match lease {
                Some(seconds) => Ok(ManyAction::Renew(seconds)),
                None => Err(options.invalid(keys::LEASE_SECONDS, "is required with renew", "add it; 0 asks for no end")),
            };
        }
        other => {
            let near = keys::nearest(other, VERBS);
            let remedy = near.map_or_else(|| "choose one of them".to_owned(), |near| format!("did you mean `{near}`?"));
            return Err(Error::invalid(
                format!("verb `{}`", shown(other)),
                format!("cannot be done to many; {} can", VERBS.join(", ")),
                remedy,
            ));
        }
    };
    Ok(ManyAction::Act(action))
}

/// Roles of a cluster, at most.
pub const ROLES: usize = limits::CLUSTER_MEMBERS as usize;
