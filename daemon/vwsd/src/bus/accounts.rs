//! Users and groups of the system: who a uid is, which groups it has, which ids a name has.
//!
//! The look-ups go through the system's name service (files, LDAP, ...), may take long, and therefore run on the blocking
//! threads. Nothing is kept here: an identity lives as long as its connection, see `caller.rs`.

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};
use std::ffi::CString;
use vws_domain::{Error, Grant, Result, Right, Subject, shown};

/// Whom an entry of an access list names, as the client wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// A user by uid.
    Uid(u32),
    /// A group by gid.
    Gid(u32),
    /// A user by name.
    User(String),
    /// A group by name.
    Group(String),
}

/// A user as the system knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Its name; the uid in digits when it has none.
    pub user: String,
    /// Its groups, the primary one first.
    pub gids: Vec<u32>,
    /// Their names, in the same order; the gid in digits where there is none.
    pub groups: Vec<String>,
}

/// Who `uid` is. `gids` are the groups that the bus reported for its process; without them, the groups that the system's
/// data base gives the user.
///
/// # Errors
/// [`vws_domain::ErrorKind::Internal`] when the name service fails: an identity with a group missing would be a wrong one.
pub async fn look_up(uid: u32, gids: Option<Vec<u32>>) -> Result<Account> {
    blocking(move || account(uid, gids)).await
}

/// The access list with ids instead of names.
///
/// # Errors
/// [`vws_domain::ErrorKind::InvalidArgument`] naming the user or group that does not exist.
pub async fn resolve(entries: Vec<(Who, Right)>) -> Result<Vec<Grant>> {
    if entries.iter().all(|(who, _)| matches!(who, Who::Uid(_) | Who::Gid(_))) {
        return grants(entries);
    }
    blocking(move || grants(entries)).await
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::internal("user data base", error.to_string())),
    }
}

fn account(uid: u32, gids: Option<Vec<u32>>) -> Result<Account> {
    let failed = |errno: nix::Error| Error::internal(format!("user {uid}"), format!("the name service failed: {errno}"));
    let user = User::from_uid(Uid::from_raw(uid)).map_err(failed)?;
    let primary = user.as_ref().map(|user| user.gid.as_raw());
    let mut gids = match (gids, &user) {
        (Some(gids), _) => gids,
        (None, None) => Vec::new(),
        (None, Some(user)) => {
            let name =
                CString::new(user.name.as_str()).map_err(|error| Error::internal(format!("user {uid}"), error.to_string()))?;
            getgrouplist(&name, user.gid).map_err(failed)?.into_iter().map(Gid::as_raw).collect()
        }
    };
    // The bus sorts the groups by number; the first of ours is the one that is charged.
    if let Some(at) = primary.and_then(|primary| gids.iter().position(|gid| *gid == primary)) {
        gids[..=at].rotate_right(1);
    }
    let mut groups = Vec::with_capacity(gids.len());
    for gid in &gids {
        let group = Group::from_gid(Gid::from_raw(*gid)).map_err(failed)?;
        groups.push(group.map_or_else(|| gid.to_string(), |group| group.name));
    }
    Ok(Account { user: user.map_or_else(|| uid.to_string(), |user| user.name), gids, groups })
}

fn grants(entries: Vec<(Who, Right)>) -> Result<Vec<Grant>> {
    entries.into_iter().map(|(who, right)| Ok(Grant { subject: subject(who)?, right })).collect()
}

fn subject(who: Who) -> Result<Subject> {
    let unknown = |noun: &str, name: &str| {
        Error::invalid(format!("{noun} `{}`", shown(name)), "does not exist on this system", "check the name, or give the number")
    };
    let failed = |name: &str, errno: nix::Error| {
        Error::internal(format!("account `{}`", shown(name)), format!("the name service failed: {errno}"))
    };
    match who {
        Who::Uid(uid) => Ok(Subject::User(uid)),
        Who::Gid(gid) => Ok(Subject::Group(gid)),
        Who::User(name) if name.contains('\0') => Err(unknown("user", &name)),
        Who::Group(name) if name.contains('\0') => Err(unknown("group", &name)),
        Who::User(name) => match User::from_name(&name).map_err(|errno| failed(&name, errno))? {
            Some(user) => Ok(Subject::User(user.uid.as_raw())),
            None => Err(unknown("user", &name)),
        },
        Who::Group(name) => match Group::from_name(&name).map_err(|errno| failed(&name, errno))? {
            Some(group) => Ok(Subject::Group(group.gid.as_raw())),
            None => Err(unknown("group", &name)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::{Who, account, grants};
    use vws_domain::{ErrorKind, Grant, Right, Subject};

    #[test]
    fn names_become_ids_and_unknown_ones_are_refused() {
        let known = grants(vec![
            (Who::User("root".into()), Right::Manage),
            (Who::Group("root".into()), Right::View),
            (Who::Uid(4_000_000), Right::Use),
        ]);
        let expected = vec![
            Grant { subject: Subject::User(0), right: Right::Manage },
            Grant { subject: Subject::Group(0), right: Right::View },
            Grant { subject: Subject::User(4_000_000), right: Right::Use },
        ];
        assert_eq!(known.unwrap(), expected);
        for who in [Who::User("no such user".into()), Who::Group("no such group".into()), Who::User("ro\0ot".into())] {
            let error = grants(vec![(who, Right::View)]).unwrap_err();
            assert_eq!(error.kind, ErrorKind::InvalidArgument);
            assert_eq!(error.fact, "does not exist on this system");
        }
    }

    #[test]
    fn the_primary_group_comes_first() {
        let root = account(0, Some(vec![4_000_001, 4_000_000, 0])).unwrap();
        assert_eq!(root.user, "root");
        assert_eq!(root.gids, [0, 4_000_001, 4_000_000]);
        assert_eq!(root.groups, ["root", "4000001", "4000000"]);
    }

    #[test]
    fn a_uid_without_a_name_is_its_number() {
        let nobody = account(4_000_000, None).unwrap();
        assert_eq!((nobody.user.as_str(), nobody.gids.len()), ("4000000", 0));
        let root = account(0, None).unwrap();
        assert_eq!(root.groups.first().map(String::as_str), Some("root"));
    }
}
