//! Clusters: sets of workspaces that are admitted together and know each other. A cluster has no record of its own: it is what its
//! members say they belong to, and ends with the last of them.

use crate::error::{Error, ErrorKind, Result, shown};
use crate::id::{HostName, WorkspaceId};
use crate::site::Site;
use crate::spec::{Spec, checked_workspace_name, limits};
use crate::workspace::Workspace;
use std::collections::BTreeSet;
use std::sync::Arc;

/// That a workspace is a member of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Membership {
    /// Name of the cluster, unique among its owner's.
    pub cluster: String,
    /// Its role there.
    pub role: String,
    /// Its number within the role, from 0.
    pub index: u64,
    /// Roles (its own among them, perhaps) whose members must not be on its host.
    pub apart_from: Vec<String>,
    /// Roles whose members must be on its host.
    pub together_with: Vec<String>,
}

/// A role of a cluster that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// How many members.
    pub count: u64,
    /// What each is; its name is made.
    pub spec: Spec,
    /// See [`Membership::apart_from`].
    pub apart_from: Vec<String>,
    /// See [`Membership::together_with`].
    pub together_with: Vec<String>,
}

/// The members of a cluster, in the order in which they are placed: who others must be beside comes first, then the larger.
///
/// # Errors
/// `InvalidArgument` naming the role and what is wrong with it.
pub fn members(cluster: &str, roles: &[Role]) -> Result<Vec<Spec>> {
    let wrong = |object: String, fact: String, remedy: &str| Err(Error::invalid(object, fact, remedy));
    checked_workspace_name(cluster)?;
    let names: BTreeSet<&str> = roles.iter().map(|role| role.name.as_str()).collect();
    let total = roles.iter().fold(0_u64, |sum, role| sum.saturating_add(role.count));
    if roles.is_empty() || names.len() != roles.len() {
        return wrong(format!("cluster `{cluster}`"), "has no role, or two of one name".to_owned(), "name each role once");
    }
    if total == 0 || total > limits::CLUSTER_MEMBERS {
        let fact = format!("has {total} members; 1 to {} are possible", limits::CLUSTER_MEMBERS);
        return wrong(format!("cluster `{cluster}`"), fact, "change the counts");
    }
    let mut members = Vec::new();
    for role in roles {
        for other in role.apart_from.iter().chain(&role.together_with) {
            if !names.contains(other.as_str()) {
                let fact = format!("names role `{}`, which the cluster does not have", shown(other));
                return wrong(format!("role `{}`", shown(&role.name)), fact, "name one of its roles");
            }
        }
        if let Some(both) = role.apart_from.iter().find(|other| role.together_with.contains(other)) {
            let fact = format!("is to be apart from `{}` and together with it", shown(both));
            return wrong(format!("role `{}`", shown(&role.name)), fact, "choose one");
        }
        for index in 0..role.count {
            let mut spec = role.spec.clone();
            spec.name =
                if role.count == 1 { format!("{cluster}-{}", role.name) } else { format!("{cluster}-{}-{index}", role.name) };
            spec.membership = Some(Membership {
                cluster: cluster.to_owned(),
                role: role.name.clone(),
                index,
                apart_from: role.apart_from.clone(),
                together_with: role.together_with.clone(),
            });
            members.push(spec.validated()?);
        }
    }
    let follows = |spec: &Spec| spec.membership.as_ref().is_some_and(|member| !member.together_with.is_empty());
    members.sort_by_key(|spec| (follows(spec), std::cmp::Reverse((spec.memory_mib, spec.vcpus))));
    Ok(members)
}

/// The other live members of a workspace's cluster, by name.
#[must_use]
pub fn peers(site: &Site, owner: u32, membership: &Membership, itself: Option<WorkspaceId>) -> Vec<Arc<Workspace>> {
    let mut peers: Vec<_> = site
        .workspaces_of(owner)
        .filter(|other| Some(other.id) != itself)
        .filter(|other| other.spec.membership.as_ref().is_some_and(|member| member.cluster == membership.cluster))
        .cloned()
        .collect();
    peers.sort_by(|one, two| one.spec.name.cmp(&two.spec.name));
    peers
}

/// Where a member must not be, and where it must be, because of the others. A rule holds both ways.
///
/// # Errors
/// `NoHost`: those that it must be beside are on different hosts.
pub fn neighbours(
    site: &Site,
    owner: u32,
    membership: &Membership,
    itself: Option<WorkspaceId>,
) -> Result<(BTreeSet<HostName>, Option<HostName>)> {
    let mut avoid = BTreeSet::new();
    let mut beside: BTreeSet<HostName> = BTreeSet::new();
    for peer in peers(site, owner, membership, itself) {
        let (Some(other), Some(host)) = (&peer.spec.membership, &peer.host) else { continue };
        if membership.apart_from.contains(&other.role) || other.apart_from.contains(&membership.role) {
            avoid.insert(host.clone());
        }
        if membership.together_with.contains(&other.role) || other.together_with.contains(&membership.role) {
            beside.insert(host.clone());
        }
    }
    if beside.len() > 1 {
        let hosts: Vec<&str> = beside.iter().map(HostName::as_str).collect();
        return Err(Error::new(
            ErrorKind::NoHost,
            format!("role `{}` of cluster `{}`", membership.role, membership.cluster),
            format!("has to be together with members that are on {}", hosts.join(" and ")),
            "take `together-with` out, or make that role a single member",
        )
        .with_code("together"));
    }
    Ok((avoid, beside.into_iter().next()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::ImageRef;

    fn role(name: &str, count: u64, memory_mib: u64) -> Role {
        let mut spec = Spec::new("x", ImageRef::Name("debian".to_owned()));
        spec.memory_mib = memory_mib;
        Role { name: name.to_owned(), count, spec, apart_from: Vec::new(), together_with: Vec::new() }
    }

    #[test]
    fn members_are_named_after_their_role_and_the_larger_are_placed_first() {
        let specs = members("calc", &[role("worker", 2, 64), role("head", 1, 512)]).unwrap();
        let names: Vec<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
        assert_eq!(names, ["calc-head", "calc-worker-0", "calc-worker-1"]);
    }

    #[test]
    fn wrong_clusters_are_refused_by_name() {
        let refused = |roles: &[Role]| members("calc", roles).unwrap_err().to_string();
        assert!(refused(&[]).contains("no role"));
        assert!(refused(&[role("a", 0, 64)]).contains("0 members"));
        assert!(refused(&[role("a", 100_000, 64)]).contains("100000 members"));
        assert!(refused(&[role("a", 1, 64), role("a", 1, 64)]).contains("two of one name"));
        let mut lost = role("a", 1, 64);
        lost.apart_from.push("b".to_owned());
        assert!(refused(&[lost]).contains("role `b`"));
        assert!(refused(&[role("a b", 1, 64)]).contains("calc-a b"));
    }
}
