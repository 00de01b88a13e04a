//! From a path to the object that a caller finds there, or does not find because there is none or it may not see it.

use super::State;
use super::value::Value;
use std::sync::Arc;
use vws_bus::{names, path};
use vws_domain::{Caller, HostName, ImageId, JobId, NetworkName, WorkspaceId};

/// A node of the tree that has no interface of its own and only leads on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Branch {
    /// `/`.
    Top,
    /// `/org`.
    Org,
    /// One of [`path::COLLECTIONS`], below the root object.
    Collection(&'static str),
}

/// What is at a path.
#[derive(Clone)]
pub enum Object {
    /// Leads on.
    Branch(Branch),
    /// The root object.
    Root,
    /// Any other object, by its one interface.
    One(Value),
}

/// Interfaces of the root object.
const ROOT: &[&str] = &[names::OBJECT_MANAGER, names::MANAGER, names::POLICY];

impl Object {
    /// What the caller finds at `path`.
    pub fn find(state: &Arc<State>, caller: &Caller, path: &str) -> Option<Self> {
        let Some(place) = path::Object::parse(path) else { return branch(path).map(Self::Branch) };
        let value = match &place {
            path::Object::Root => return Some(Self::Root),
            path::Object::Workspace(id) => {
                let id = WorkspaceId(*id);
                Value::Workspace(state.service.read(|site| site.workspace(id).cloned())?)
            }
            path::Object::Image(id) => Value::Image(state.service.read(|site| site.image(ImageId(*id)).cloned())?),
            path::Object::Job(id) => Value::Job(state.service.read(|site| site.job(JobId(*id)).cloned())?),
            path::Object::Network(name) => Value::Network(Arc::new(state.service.network(&NetworkName::parse(name).ok()?).ok()?)),
            path::Object::Host(name) => Value::Host(Arc::new(state.service.host(&HostName::parse(name).ok()?).ok()?)),
            path::Object::Backend(name) => {
                let plugin = state.service.backends().into_iter().find(|plugin| plugin.name == *name)?;
                Value::Backend(Arc::new(plugin))
            }
        };
        value.visible(state, caller).then_some(Self::One(value))
    }

    /// Its interfaces beside the standard ones.
    pub fn interfaces(&self) -> &'static [&'static str] {
        match self {
            Self::Branch(_) => &[],
            Self::Root => ROOT,
            Self::One(Value::Manager(_) | Value::Policy(_)) => ROOT,
            Self::One(Value::Workspace(_)) => &[names::WORKSPACE],
            Self::One(Value::Host(_)) => &[names::HOST],
            Self::One(Value::Image(_)) => &[names::IMAGE],
            Self::One(Value::Job(_)) => &[names::JOB],
            Self::One(Value::Backend(_)) => &[names::BACKEND],
            Self::One(Value::Network(_)) => &[names::NETWORK],
        }
    }
}

/// Whether judging who may see it can run a policy: then it is done in a task, so that no script holds up the dispatcher.
pub fn judged(path: &str) -> bool {
    matches!(path::Object::parse(path), Some(path::Object::Workspace(_) | path::Object::Job(_) | path::Object::Image(_)))
        || branch(path).is_some()
}

fn branch(path: &str) -> Option<Branch> {
    match path {
        "/" => Some(Branch::Top),
        "/org" => Some(Branch::Org),
        _ => {
            let name = path.strip_prefix(names::ROOT)?.strip_prefix('/')?;
            path::COLLECTIONS.into_iter().find(|collection| *collection == name).map(Branch::Collection)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Branch, branch, judged};

    #[test]
    fn branches_lead_to_the_objects() {
        assert_eq!(branch("/"), Some(Branch::Top));
        assert_eq!(branch("/org"), Some(Branch::Org));
        assert_eq!(branch("/org/virtualworkspaces1/jobs"), Some(Branch::Collection("jobs")));
        for path in ["/org/virtualworkspaces1/users", "/org/virtualworkspaces1/jobs/", "/orga", "/org/virtualworkspaces1"] {
            assert_eq!(branch(path), None, "{path}");
        }
    }

    #[test]
    fn what_a_policy_judges_is_not_judged_in_the_dispatcher() {
        assert!(judged("/org/virtualworkspaces1/workspaces/w00000000000000000000000000000001"));
        assert!(judged("/org/virtualworkspaces1/workspaces"));
        assert!(!judged("/org/virtualworkspaces1"));
        assert!(!judged("/org/virtualworkspaces1/hosts/node"));
    }
}
