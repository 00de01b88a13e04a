//! `Manager.List` and its kin, `ListImages`, `ListHosts`, `ListNetworks` and `ListJobs`: the objects of one kind that the caller may
//! see, ordered by id, a page at a time. One way of paging for all: a page ends when it is full or when it has looked at enough.

use super::call::{Call, Reply};
use super::encode::{self, Map};
use super::keys::{Dict, Keys};
use super::value::{Properties, Value};
use super::{State, limits};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use vws_bus::{keys, names};
use vws_domain::{HostName, ImageId, JobId, JobKind, JobState, NetworkKind, NetworkName, Result, Workspace, WorkspaceId, shown};
use zbus::Variant;

/// What a listed object must be like, in terms of its properties.
#[derive(Debug, Default)]
struct Filter {
    /// Property and value.
    equal: Vec<(&'static str, Variant<'static>)>,
    labels: BTreeMap<String, String>,
    ended: Option<bool>,
}

impl Filter {
    fn text(&mut self, given: &mut Keys, key: &str, property: &'static str) {
        self.equal.extend(given.text(key).map(|text| (property, Variant::from(text))));
    }

    fn word(&mut self, given: &mut Keys, key: &str, property: &'static str, words: &[&'static str]) -> Result<()> {
        let word = given.word(key, words, |text| words.iter().copied().find(|word| *word == text))?;
        self.equal.extend(word.map(|word| (property, Variant::from(word))));
        Ok(())
    }

    fn owner(&mut self, given: &mut Keys) {
        self.equal.extend(given.id(keys::OWNER).map(|uid| ("Owner", Variant::from(uid))));
    }

    fn takes(&self, value: &Value) -> bool {
        let ended = |value: &Value| value.get("EndedAt") != Some(Variant::from(0_u64));
        self.equal.iter().all(|(property, wanted)| value.get(property).as_ref() == Some(wanted))
            && (self.labels.is_empty() || has_labels(value, &self.labels))
            && self.ended.is_none_or(|wanted| ended(value) == wanted)
    }
}

fn has_labels(value: &Value, wanted: &BTreeMap<String, String>) -> bool {
    let labels = match value {
        Value::Workspace(workspace) => &workspace.spec.labels,
        Value::Host(shown) => &shown.host.labels,
        Value::Network(shown) => &shown.network.labels,
        _ => return false,
    };
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// What ids a list is ordered by, and how it goes on after one.
struct Order<K> {
    parse: fn(&str) -> Result<K>,
    /// So many objects after this one, with their ids.
    after: fn(&State, Option<&K>, usize) -> Vec<(K, Value)>,
}

fn workspaces_filter(given: &mut Keys) -> Result<Filter> {
    let mut filter = Filter::default();
    filter.text(given, keys::NAME, "Name");
    filter.owner(given);
    filter.word(given, keys::STATE, "State", &vws_domain::State::ALL.map(vws_domain::State::name))?;
    filter.text(given, keys::HOST, "Host");
    filter.text(given, keys::CLUSTER, "Cluster");
    filter.labels = given.pairs(keys::LABEL).unwrap_or_default();
    Ok(filter)
}

/// The workspaces that a filter of `Manager.Act` means, of those that the caller may see.
///
/// # Errors
/// [`vws_domain::ErrorKind::InvalidArgument`] for a filter that means all without saying so, `Busy` for more than `most`.
pub fn chosen(call: &Call, given: Dict, most: usize) -> Result<Vec<Arc<Workspace>>> {
    let mut given = Keys::new("filter", given, &[keys::LIST_FILTER, keys::ACT_FILTER])?;
    let all = given.flag(keys::ALL).unwrap_or(false);
    let filter = workspaces_filter(&mut given)?;
    if !all && filter.equal.is_empty() && filter.labels.is_empty() {
        return Err(given.invalid(keys::ALL, "is required when nothing else is named", "name what you mean, or say `all`"));
    }
    let every: Vec<_> = call.state.service.read(|site| site.workspaces().cloned().collect());
    let found: Vec<_> = every
        .into_iter()
        .filter(|workspace| {
            let value = Value::Workspace(Arc::clone(workspace));
            filter.takes(&value) && value.visible(&call.state, &call.caller)
        })
        .collect();
    if found.len() > most {
        return Err(vws_domain::Error::new(
            vws_domain::ErrorKind::Busy,
            "the filter",
            format!("means {} workspaces, one call acts on {most} at most", found.len()),
            "narrow it, for instance to one host or owner",
        ));
    }
    Ok(found)
}

/// `Manager.List`.
pub async fn workspaces(call: Call) -> Reply {
    let (given, options): (Dict, Dict) = call.arguments()?;
    let filter = list_filter(given)?;
    page(call, &filter, options, &workspace_order()).await
}

/// `Manager.Stats`: the workspaces of which there are figures, with their figures.
pub async fn stats(call: Call) -> Reply {
    let (given, options): (Dict, Dict) = call.arguments()?;
    let filter = list_filter(given)?;
    let service = &call.state.service;
    let figures = |value: &Value| match value {
        Value::Workspace(workspace) => service.figures(workspace),
        _ => None,
    };
    let takes = |value: &Value| filter.takes(value) && figures(value).is_some();
    let (found, next) = walk(&call, takes, options, &workspace_order()).await?;
    let now = service.env.now();
    let found: Vec<Map<'_>> = found
        .iter()
        .filter_map(|value| match value {
            // Asked once more: what stands in the answer is never older than what was looked at.
            Value::Workspace(workspace) => Some(encode::figures(workspace, &service.figures(workspace)?, now)),
            _ => None,
        })
        .collect();
    call.reply(&(found, next))
}

fn list_filter(given: Dict) -> Result<Filter> {
    let mut given = Keys::new("filter", given, &[keys::LIST_FILTER])?;
    workspaces_filter(&mut given)
}

fn workspace_order() -> Order<WorkspaceId> {
    Order {
        parse: WorkspaceId::parse,
        after: |state, cursor, most| {
            let chunk: Vec<_> = state.service.read(|site| site.workspaces_after(cursor.copied()).take(most).cloned().collect());
            chunk.into_iter().map(|workspace| (workspace.id, Value::Workspace(workspace))).collect()
        },
    }
}

/// `Manager.ListImages`.
pub async fn images(call: Call) -> Reply {
    let (given, options): (Dict, Dict) = call.arguments()?;
    let mut given = Keys::new("filter", given, &[keys::IMAGES_FILTER])?;
    let mut filter = Filter::default();
    filter.text(&mut given, keys::NAME, "Name");
    filter.owner(&mut given);
    filter.word(&mut given, keys::STATE, "State", &["importing", "ready", "damaged"])?;
    filter.word(&mut given, keys::VISIBILITY, "Visibility", &["private", "public"])?;
    let order = Order {
        parse: ImageId::parse,
        after: |state, cursor, most| {
            let chunk: Vec<_> = state.service.read(|site| site.images_after(cursor.copied()).take(most).cloned().collect());
            chunk.into_iter().map(|image| (image.id, Value::Image(image))).collect()
        },
    };
    page(call, &filter, options, &order).await
}

/// `Manager.ListHosts`.
pub async fn hosts(call: Call) -> Reply {
    let (given, options): (Dict, Dict) = call.arguments()?;
    let mut given = Keys::new("filter", given, &[keys::HOSTS_FILTER])?;
    let mut filter = Filter::default();
    filter.text(&mut given, keys::NAME, "Name");
    filter.text(&mut given, keys::BACKEND, "Backend");
    filter.word(&mut given, keys::STATE, "State", &["unprobed", "up", "down"])?;
    filter.labels = given.pairs(keys::LABEL).unwrap_or_default();
    let order = Order {
        parse: HostName::parse,
        after: |state, cursor, most| {
            let chunk = state.service.hosts_after(cursor, most);
            chunk.into_iter().map(|shown| (shown.host.name.clone(), Value::Host(Arc::new(shown)))).collect()
        },
    };
    page(call, &filter, options, &order).await
}

/// `Manager.ListNetworks`.
pub async fn networks(call: Call) -> Reply {
    let (given, options): (Dict, Dict) = call.arguments()?;
    let mut given = Keys::new("filter", given, &[keys::NETWORKS_FILTER])?;
    let mut filter = Filter::default();
    filter.text(&mut given, keys::NAME, "Name");
    filter.word(&mut given, keys::KIND, "Kind", &NetworkKind::ALL.map(NetworkKind::name))?;
    filter.labels = given.pairs(keys::LABEL).unwrap_or_default();
    let order = Order {
        parse: NetworkName::parse,
        after: |state, cursor, most| {
            let chunk = state.service.networks_after(cursor, most);
            chunk.into_iter().map(|shown| (shown.network.name.clone(), Value::Network(Arc::new(shown)))).collect()
        },
    };
    page(call, &filter, options, &order).await
}

/// `Manager.ListJobs`.
pub async fn jobs(call: Call) -> Reply {
    let (given, options): (Dict, Dict) = call.arguments()?;
    let mut given = Keys::new("filter", given, &[keys::JOBS_FILTER])?;
    let mut filter = Filter { ended: given.flag(keys::ENDED), ..Filter::default() };
    filter.owner(&mut given);
    filter.word(&mut given, keys::KIND, "Kind", &JobKind::ALL.map(JobKind::name))?;
    filter.word(&mut given, keys::STATE, "State", &JobState::ALL.map(JobState::name))?;
    if let Some(workspace) = given.text(keys::WORKSPACE) {
        let path = zbus::ObjectPath::try_from(workspace)
            .map_err(|error| given.invalid(keys::WORKSPACE, error.to_string(), "give its path"))?;
        filter.equal.push(("Workspace", Variant::from(path)));
    }
    let order = Order {
        parse: JobId::parse,
        after: |state, cursor, most| {
            let chunk: Vec<_> = state.service.read(|site| site.jobs_after(cursor.copied()).take(most).cloned().collect());
            chunk.into_iter().map(|job| (job.id, Value::Job(job))).collect()
        },
    };
    page(call, &filter, options, &order).await
}

/// A page: as many visible ones as `limit`, or as were found among [`limits::LOOKED_AT`].
async fn page<K: Clone + ToString>(call: Call, filter: &Filter, options: Dict, order: &Order<K>) -> Reply {
    let (found, next) = walk(&call, |value| filter.takes(value), options, order).await?;
    let found: Vec<Properties<'_>> = found.iter().map(listed).collect();
    call.reply(&(found, next))
}

/// The visible ones of a page, and the cursor of the next.
async fn walk<K: Clone + ToString>(
    call: &Call,
    takes: impl Fn(&Value) -> bool,
    options: Dict,
    order: &Order<K>,
) -> Result<(Vec<Value>, String)> {
    let mut options = call.options(names::MANAGER, options)?;
    let limit = usize::try_from(options.limit(names::LIST_LIMIT, names::LIST_LIMIT_MAX)?).unwrap_or(usize::MAX);
    let mut cursor = match options.text(keys::CURSOR).filter(|cursor| !cursor.is_empty()) {
        Some(text) => Some((order.parse)(&text).map_err(|_| {
            options.invalid(
                keys::CURSOR,
                format!("is `{}`, which no page ended with", shown(&text)),
                "give what the last page returned, or leave it out",
            )
        })?),
        None => None,
    };
    let mut found: Vec<Value> = Vec::new();
    let mut looked_at = 0;
    let mut more = true;
    while more && found.len() < limit && looked_at < limits::LOOKED_AT {
        let chunk = (order.after)(&call.state, cursor.as_ref(), limits::JUDGED_AT_ONCE);
        looked_at += chunk.len();
        let whole = chunk.len() == limits::JUDGED_AT_ONCE;
        let walked = chunk.into_iter().try_for_each(|(id, value)| {
            if found.len() == limit {
                return ControlFlow::Break(());
            }
            cursor = Some(id);
            if takes(&value) && value.visible(&call.state, &call.caller) {
                found.push(value);
            }
            ControlFlow::Continue(())
        });
        more = whole || walked.is_break();
        tokio::task::yield_now().await;
    }
    let next = cursor.filter(|_| more).map(|id| id.to_string()).unwrap_or_default();
    Ok((found, next))
}

fn listed(value: &Value) -> Properties<'_> {
    let mut properties = value.all();
    properties.0.push(("Path", value.path().into()));
    properties
}
