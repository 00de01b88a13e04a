//! `org.virtualworkspaces1.Manager`, on the root object: the way in.

use super::accounts;
use super::call::{Call, Method, Reply, later, now};
use super::encode::{self, Map};
use super::keys::{Dict, Keys};
use super::value::Property;
use super::{State, decode, lists, many};
use crate::service::{DecisionQuery, ExplainRequest, NewOwner, UsageQuery};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use vws_bus::{keys, names, path};
use vws_domain::{DecisionId, Error, HostName, NetworkName, Result, Timestamp, Verb, WorkspaceId, shown};
use zbus::OwnedObjectPath;

/// Its methods.
pub const METHODS: &[Method] = &[
    Method { name: "CreateWorkspace", run: |call| later(create_workspace(call)) },
    Method { name: "CreateCluster", run: |call| later(many::create_cluster(call)) },
    Method { name: "Act", run: |call| later(many::act(call)) },
    Method { name: "ImportImage", run: |call| later(import_image(call)) },
    Method { name: "ImportBundle", run: |call| later(import_bundle(call)) },
    Method { name: "ListBundles", run: |call| later(list_bundles(call)) },
    Method { name: "Explain", run: |call| later(explain(call)) },
    Method { name: "List", run: |call| later(lists::workspaces(call)) },
    Method { name: "ListImages", run: |call| later(lists::images(call)) },
    Method { name: "ListHosts", run: |call| later(lists::hosts(call)) },
    Method { name: "ListNetworks", run: |call| later(lists::networks(call)) },
    Method { name: "ListJobs", run: |call| later(lists::jobs(call)) },
    Method { name: "Stats", run: |call| later(lists::stats(call)) },
    Method { name: "Metrics", run: |call| later(metrics(call)) },
    Method { name: "Decisions", run: |call| later(decisions(call)) },
    // At once, in the order of the calls: what a client starts after it has subscribed, it is told of.
    Method { name: "Subscribe", run: |call| now(subscribe(&call)) },
    Method { name: "Unsubscribe", run: |call| now(unsubscribe(&call)) },
    Method { name: "EventsSince", run: |call| later(events_since(call)) },
    Method { name: "AddHost", run: |call| later(add_host(call)) },
    Method { name: "AddNetwork", run: |call| later(add_network(call)) },
    Method { name: "Backup", run: |call| later(backup(call)) },
    Method { name: "Doctor", run: |call| later(doctor(call)) },
    Method { name: "Usage", run: |call| later(usage(call)) },
];

/// Its properties.
pub const PROPERTIES: &[Property<State>] = &[
    Property { name: "Version", get: |state| state.version.as_str().into() },
    Property { name: "StartedAt", get: |state| state.started_at.0.into() },
    Property { name: "EventSequence", get: |state| state.service.read(|site| site.event_sequence).into() },
];

async fn create_workspace(call: Call) -> Reply {
    let (name, spec, options): (String, Dict, Dict) = call.arguments()?;
    let options = decode::call_options(&mut call.options(names::MANAGER, options)?)?;
    let (mut spec, access) = decode::spec(&name, spec)?;
    spec.access = accounts::resolve(access).await?;
    let launched = call.state.service.launch(&call.caller, spec, options).await?;
    call.reply(&(encode::workspace(launched.workspace), encode::job(launched.job)))
}

async fn import_image(call: Call) -> Reply {
    let (name, source, options): (String, Dict, Dict) = call.arguments()?;
    let options = decode::call_options(&mut call.options(names::MANAGER, options)?)?;
    let import = decode::image_import(&name, source)?;
    let (image, job) = call.state.service.import_image(&call.caller, import, options).await?;
    call.reply(&(encode::image(image), encode::job(job)))
}

async fn import_bundle(call: Call) -> Reply {
    let (file, options): (zbus::OwnedFd, Dict) = call.arguments()?;
    let mut options = call.options(names::MANAGER, options)?;
    let uid = options.id(keys::OWNER).unwrap_or(call.caller.uid);
    let name = options.text(keys::NAME);
    let options = decode::call_options(&mut options)?;
    let account = accounts::look_up(uid, None).await?;
    let group = account.groups.into_iter().next().unwrap_or_default();
    let owner = NewOwner { uid, name: account.user, group };
    let file = File::from(OwnedFd::from(file));
    let (workspace, job) = call.state.service.import_bundle(&call.caller, file, owner, name, options).await?;
    call.reply(&(encode::workspace(workspace), encode::job(job)))
}

async fn list_bundles(call: Call) -> Reply {
    let (filter, options): (Dict, Dict) = call.arguments()?;
    let limit = call.options(names::MANAGER, options)?.limit(names::LIST_LIMIT, names::LIST_LIMIT_MAX)?;
    let mut filter = Keys::new("filter", filter, &[keys::BUNDLES_FILTER])?;
    let about = asked_workspace(&mut filter)?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let bundles = call.state.service.bundles(&call.caller, about, limit)?;
    let bundles: Vec<Map<'_>> = bundles.iter().map(encode::bundle).collect();
    call.reply(&(bundles,))
}

/// The workspace under `workspace` of a filter.
fn asked_workspace(filter: &mut Keys) -> Result<Option<WorkspaceId>> {
    match filter.text(keys::WORKSPACE) {
        None => Ok(None),
        Some(text) => match path::Object::parse(&text) {
            Some(path::Object::Workspace(id)) => Ok(Some(WorkspaceId(id))),
            _ => Err(filter.invalid(
                keys::WORKSPACE,
                format!("is `{}`, not a workspace", shown(&text)),
                "give the workspace's path",
            )),
        },
    }
}

async fn explain(call: Call) -> Reply {
    let (verb, object, request, options): (String, OwnedObjectPath, Dict, Dict) = call.arguments()?;
    call.options(names::MANAGER, options)?;
    let verb = find_verb(&verb)?;
    let workspace = explained_object(verb, object.as_str())?;
    let mut asked = ExplainRequest { verb, workspace, spec: None, lease_seconds: None, host: None, resize: None, name: None };
    match verb {
        Verb::Launch => {
            let (mut spec, access) = decode::launch_request(request)?;
            spec.access = accounts::resolve(access).await?;
            asked.spec = Some(spec);
        }
        Verb::Renew => {
            let mut request = Keys::new("request", request, &[keys::EXPLAIN_RENEW])?;
            asked.lease_seconds = request.number(keys::LEASE_SECONDS);
        }
        Verb::Resume | Verb::Restore | Verb::Migrate => {
            let mut request = Keys::new("request", request, &[keys::EXPLAIN_RESUME])?;
            asked.host = request.text(keys::HOST).map(|host| HostName::parse(&host)).transpose()?;
        }
        Verb::Resize => asked.resize = Some(decode::resize("request", request)?),
        _ => drop(Keys::new("request", request, &[])?),
    }
    if workspace.is_none() {
        asked.name = object.as_str().rsplit('/').next().map(str::to_owned);
    }
    let decision = call.state.service.explain(&call.caller, asked).await?;
    call.reply(&(encode::explanation(&decision),))
}

pub(super) fn find_verb(word: &str) -> Result<Verb> {
    Verb::ALL.into_iter().find(|verb| verb.name() == word).ok_or_else(|| {
        let known: Vec<&str> = Verb::ALL.into_iter().map(Verb::name).collect();
        let near = keys::nearest(word, known.iter().copied());
        let remedy = near.map_or_else(|| "choose one of them".to_owned(), |near| format!("did you mean `{near}`?"));
        Error::invalid(format!("verb `{}`", shown(word)), format!("is not one of {}", known.join(", ")), remedy)
    })
}

/// The workspace that an explanation is about, if its verb is one of a workspace.
fn explained_object(verb: Verb, object: &str) -> Result<Option<WorkspaceId>> {
    let place = path::Object::parse(object);
    let wrong = |fact: String, remedy: &str| Err(Error::invalid(format!("object `{}`", shown(object)), fact, remedy));
    match verb {
        Verb::Launch | Verb::ImageImport | Verb::BundleImport if object != path::NONE => {
            wrong(format!("cannot be for {}, which makes an object", verb.name()), "give `/`")
        }
        Verb::Launch | Verb::ImageImport | Verb::BundleImport => Ok(None),
        // These are judged by who asks, whatever object it is.
        Verb::ImageManage | Verb::HostManage | Verb::PolicyManage | Verb::SiteManage | Verb::NetworkManage | Verb::Drain => {
            Ok(None)
        }
        _ => match place {
            Some(path::Object::Workspace(id)) => Ok(Some(WorkspaceId(id))),
            _ => wrong(format!("is not a workspace, which {} is about", verb.name()), "give the workspace's path"),
        },
    }
}

async fn decisions(call: Call) -> Reply {
    let (filter, options): (Dict, Dict) = call.arguments()?;
    let limit = call.options(names::MANAGER, options)?.limit(names::DECISIONS_LIMIT, names::DECISIONS_LIMIT_MAX)?;
    let mut filter = Keys::new("filter", filter, &[keys::DECISIONS_FILTER])?;
    let workspace = asked_workspace(&mut filter)?;
    let permitted = filter.word(keys::VERDICT, &["permit", "deny"], |word| match word {
        "permit" => Some(true),
        "deny" => Some(false),
        _ => None,
    })?;
    let query = DecisionQuery {
        id: filter.text(keys::ID).map(|id| DecisionId::parse(&id)).transpose()?,
        workspace,
        name: filter.text(keys::NAME),
        caller: filter.id(keys::CALLER),
        permitted,
        verb: filter.text(keys::VERB).map(|verb| find_verb(&verb)).transpose()?,
        since: filter.number(keys::SINCE).map(Timestamp),
        until: filter.number(keys::UNTIL).map(Timestamp),
        limit,
    };
    let decisions = call.state.service.decisions(&call.caller, query).await?;
    let decisions: Vec<Map<'_>> = decisions.iter().map(encode::decision).collect();
    call.reply(&(decisions,))
}

fn subscribe(call: &Call) -> Reply {
    let (options,): (Dict,) = call.arguments()?;
    call.options(names::MANAGER, options)?;
    call.state.subscriptions.add(&call.state, call.sender(), Arc::clone(&call.caller))?;
    call.reply(&())
}

fn unsubscribe(call: &Call) -> Reply {
    let (options,): (Dict,) = call.arguments()?;
    call.options(names::MANAGER, options)?;
    call.state.subscriptions.remove(&call.sender());
    call.reply(&())
}

async fn events_since(call: Call) -> Reply {
    let (sequence, options): (u64, Dict) = call.arguments()?;
    let limit = call.options(names::MANAGER, options)?.limit(names::LIST_LIMIT, names::LIST_LIMIT_MAX)?;
    let (events, last) = call.state.service.events_since(&call.caller, sequence, limit).await?;
    let events: Vec<Map<'_>> = events.iter().map(encode::event).collect();
    call.reply(&(events, last))
}

async fn add_host(call: Call) -> Reply {
    let (name, host, options): (String, Dict, Dict) = call.arguments()?;
    let options = decode::call_options(&mut call.options(names::MANAGER, options)?)?;
    let name = HostName::parse(&name)?;
    let host = decode::host(host)?;
    let job = call.state.service.add_host(&call.caller, name.clone(), host, options).await?;
    call.reply(&(encode::host(&name), encode::job(job)))
}

async fn add_network(call: Call) -> Reply {
    let (name, network, options): (String, Dict, Dict) = call.arguments()?;
    let options = decode::call_options(&mut call.options(names::MANAGER, options)?)?;
    let name = NetworkName::parse(&name)?;
    let network = decode::network(network)?;
    call.state.service.add_network(&call.caller, name.clone(), network, options).await?;
    call.reply(&(encode::network(&name),))
}

async fn backup(call: Call) -> Reply {
    let (file, options): (zbus::OwnedFd, Dict) = call.arguments()?;
    call.options(names::MANAGER, options)?;
    call.state.service.backup(&call.caller, File::from(OwnedFd::from(file))).await?;
    call.reply(&())
}

async fn doctor(call: Call) -> Reply {
    let (options,): (Dict,) = call.arguments()?;
    call.options(names::MANAGER, options)?;
    let findings = call.state.service.doctor(&call.caller).await?;
    let findings: Vec<Map<'_>> = findings.iter().map(encode::finding).collect();
    call.reply(&(findings,))
}

async fn usage(call: Call) -> Reply {
    let (filter, options): (Dict, Dict) = call.arguments()?;
    call.options(names::MANAGER, options)?;
    let mut filter = Keys::new("filter", filter, &[keys::USAGE_FILTER])?;
    let query = UsageQuery {
        owner: filter.id(keys::OWNER),
        group: filter.text(keys::GROUP),
        since: filter.number(keys::SINCE).map(Timestamp),
        until: filter.number(keys::UNTIL).map(Timestamp),
    };
    let report = call.state.service.usage(&call.caller, query).await?;
    let accounts: Vec<Map<'_>> =
        report.accounts.iter().map(|(charged, account)| encode::account(&report, charged, account)).collect();
    call.reply(&(accounts,))
}

async fn metrics(call: Call) -> Reply {
    let (options,): (Dict,) = call.arguments()?;
    call.options(names::MANAGER, options)?;
    let text = call.state.service.metrics(&call.caller).await?;
    call.reply(&(text,))
}

#[cfg(test)]
mod tests {
    use super::{explained_object, find_verb};
    use vws_domain::{Verb, WorkspaceId};

    #[test]
    fn an_explanation_is_about_the_right_kind_of_object() {
        let path = "/org/virtualworkspaces1/workspaces/w00000000000000000000000000000005";
        assert_eq!(explained_object(Verb::Renew, path).unwrap(), Some(WorkspaceId(5)));
        assert_eq!(explained_object(Verb::Launch, "/").unwrap(), None);
        assert!(explained_object(Verb::Launch, path).is_err());
        assert!(explained_object(Verb::Destroy, "/").is_err());
        assert_eq!(find_verb("lunch").unwrap_err().remedy, "did you mean `launch`?");
        assert_eq!(find_verb("save-image").unwrap(), Verb::SaveImage);
    }
}
