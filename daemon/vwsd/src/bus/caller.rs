//! Who sent a message: the bus is asked for the credentials of the sender's connection, nothing is taken from the message
//! itself, from an argument, or from a process id.
//!
//! Owns: [`Caller`]s as they are made, and the rule who is an administrator. The dispatcher keeps what is made here for as
//! long as the connection lives.

use super::accounts;
use std::collections::HashMap;
use vws_domain::{Caller, Error, Result};
use zbus::{Connection, OwnedVariant, Variant};

/// Who is an administrator.
#[derive(Clone, Debug)]
pub struct Admins {
    /// Name of the administrators' group; empty for none.
    pub group: String,
    /// uid that the daemon itself runs as: on a private or session bus, its user administers it.
    pub own_uid: u32,
}

impl Admins {
    /// Whether a user with these groups is an administrator.
    pub fn include(&self, uid: u32, groups: &[String]) -> bool {
        uid == 0 || uid == self.own_uid || (!self.group.is_empty() && groups.contains(&self.group))
    }
}

/// Credentials as the bus reports them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Credentials {
    uid: Option<u32>,
    gids: Option<Vec<u32>>,
    pid: u32,
    label: String,
}

/// Asks the bus who `sender` (a unique name) is.
///
/// # Errors
/// [`vws_domain::ErrorKind::Internal`] when the bus does not know the connection any more or cannot tell its user: such a
/// caller is not served.
pub async fn identify(connection: &Connection, sender: &str, admins: &Admins) -> Result<Caller> {
    let object = || format!("connection {sender}");
    let reply = connection
        .call_method(
            Some("org.freedesktop.DBus"),
            "/org/freedesktop/DBus",
            Some("org.freedesktop.DBus"),
            "GetConnectionCredentials",
            &(sender,),
        )
        .await
        .map_err(|error| Error::internal(object(), error.to_string()))?;
    let body = reply.body();
    let (map,): (HashMap<String, OwnedVariant>,) =
        body.deserialize().map_err(|error| Error::internal(object(), error.to_string()))?;
    let credentials = read(map);
    let uid = credentials.uid.ok_or_else(|| Error::internal(object(), "the bus does not tell its user"))?;
    let account = accounts::look_up(uid, credentials.gids).await?;
    let admin = admins.include(uid, &account.groups);
    Ok(Caller {
        uid,
        user: account.user,
        gids: account.gids,
        groups: account.groups,
        pid: credentials.pid,
        label: credentials.label,
        admin,
        system: false,
    })
}

fn read(map: HashMap<String, OwnedVariant>) -> Credentials {
    let mut credentials = Credentials::default();
    for (key, value) in map {
        match (key.as_str(), Variant::from(value)) {
            ("UnixUserID", Variant::U32(uid)) => credentials.uid = Some(uid),
            ("ProcessID", Variant::U32(pid)) => credentials.pid = pid,
            ("UnixGroupIDs", value) => credentials.gids = Vec::try_from(value).ok(),
            ("LinuxSecurityLabel", value) => {
                let bytes = Vec::<u8>::try_from(value).unwrap_or_default();
                let label = String::from_utf8_lossy(&bytes);
                credentials.label = label.trim_end_matches('\0').to_owned();
            }
            _ => {}
        }
    }
    credentials
}

#[cfg(test)]
mod tests {
    use super::{Admins, Credentials, read};
    use zbus::{OwnedVariant, Variant};

    #[test]
    fn root_the_daemons_user_and_the_group_administer() {
        let admins = Admins { group: "vws-admin".into(), own_uid: 1000 };
        let member = ["users".to_owned(), "vws-admin".to_owned()];
        assert!(admins.include(0, &[]));
        assert!(admins.include(1000, &[]));
        assert!(admins.include(1001, &member));
        assert!(!admins.include(1001, &member[..1]));
        let none = Admins { group: String::new(), own_uid: 0 };
        assert!(!none.include(1001, &[String::new()]), "an empty group name is no group");
    }

    #[test]
    fn credentials_are_read_as_the_bus_gives_them() {
        let owned = |value: Variant<'_>| OwnedVariant::try_from(value).unwrap();
        let map = [
            ("UnixUserID".to_owned(), owned(1000_u32.into())),
            ("UnixGroupIDs".to_owned(), owned(vec![100_u32, 1000].into())),
            ("ProcessID".to_owned(), owned(42_u32.into())),
            ("LinuxSecurityLabel".to_owned(), owned(b"unconfined\0".to_vec().into())),
            ("WindowsSID".to_owned(), owned("S-1".into())),
        ];
        let expected = Credentials { uid: Some(1000), gids: Some(vec![100, 1000]), pid: 42, label: "unconfined".into() };
        assert_eq!(read(map.into()), expected);
        assert_eq!(read([("UnixUserID".to_owned(), owned("0".into()))].into()), Credentials::default());
    }
}
