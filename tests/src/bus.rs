//! The bus as other users see it: a thread takes another uid, and the connection it makes has that identity.
//!
//! Owns: becoming somebody else, plain calls, and the words in properties. Nothing here is cached.

use crate::{Site, skipped};
use std::collections::BTreeMap;
use std::future::Future;
use vws_bus::client::{Args, Bus, Client, Dict};
use vws_bus::failure::Failure;
use vws_bus::names;
use zbus::Variant;

/// Whether this process may become other users; says so when it may not.
#[must_use]
pub fn may_become_others() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        skipped("needs root");
    }
    root
}

impl Site {
    /// Does something on a connection of another user.
    ///
    /// # Panics
    /// When that user cannot be become, or what is done panics.
    pub fn as_user<T: Send + 'static, F: Future<Output = T>>(
        &self,
        uid: u32,
        act: impl FnOnce(Client) -> F + Send + 'static,
    ) -> T {
        let address = self.address();
        std::thread::spawn(move || {
            // Linux has identities per thread; these calls change this one only, and the threads that it starts.
            if rustix::process::geteuid().as_raw() != uid {
                rustix::thread::set_thread_groups(&[]).unwrap();
                rustix::thread::set_thread_gid(rustix::process::Gid::from_raw(uid)).unwrap();
                rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(uid)).unwrap();
            }
            run(async move { act(Client::connect(&Bus::Address(address)).await.unwrap()).await })
        })
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// Runs a future to its end on this thread.
pub fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Calls any method; the reply's body is not looked at.
///
/// # Errors
/// What the daemon answers.
pub async fn call<B>(client: &Client, path: &str, interface: &str, member: &str, body: &B) -> Result<zbus::Message, Failure>
where
    B: serde::Serialize + zbus::DynamicType,
{
    Ok(client.connection().call_method(Some(names::BUS), path, Some(interface), member, body).await?)
}

/// No options.
#[must_use]
pub fn none() -> Args<'static> {
    BTreeMap::new()
}

/// A word of a dictionary, or empty.
#[must_use]
pub fn word(dict: &Dict, key: &str) -> String {
    match dict.get(key).map(|value| &**value) {
        Some(Variant::Str(text)) => text.to_string(),
        Some(Variant::ObjectPath(path)) => path.to_string(),
        _ => String::new(),
    }
}

/// A number of a dictionary, or 0.
#[must_use]
pub fn number(dict: &Dict, key: &str) -> u64 {
    match dict.get(key).map(|value| &**value) {
        Some(Variant::U32(number)) => u64::from(*number),
        Some(Variant::U64(number)) => *number,
        _ => 0,
    }
}

/// Every object that a client finds, by walking the tree down from `/`: path to introspection data.
pub async fn tree(client: &Client) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut left = vec!["/".to_owned()];
    while let Some(path) = left.pop() {
        let reply = call(client, &path, names::INTROSPECTABLE, "Introspect", &()).await;
        let reply = reply.unwrap_or_else(|failure| panic!("{path} cannot be introspected: {failure:?}"));
        let xml: String = reply.body().deserialize().unwrap();
        for part in xml.split("<node name=\"").skip(1) {
            let name = part.split('"').next().unwrap_or_default();
            left.push(format!("{}/{name}", path.trim_end_matches('/')));
        }
        found.insert(path, xml);
    }
    found
}
