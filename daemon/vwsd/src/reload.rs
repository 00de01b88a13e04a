//! Hot reload: notify -> settle -> [`Gate::reload`].
//!
//! Owns: watching. A watched file dies with its first atomic save, so folders are watched: the policy folder, its parent (the folder
//! itself may be swapped), and the folders that links in them lead to; all are found anew after each reload. Our own reads come back
//! as access events and are ignored. What notifications miss, a slow poll finds.

use crate::gate::{Asking, Gate};
use notify::{EventKind, RecursiveMode, Watcher};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;

/// Quiet time after the last change before a reload.
pub const SETTLE: Duration = Duration::from_millis(200);
/// A reload is not put off longer than this by ever new changes.
pub const SETTLE_MOST: Duration = Duration::from_secs(2);
/// How often the folder is looked at without a notification.
pub const POLL: Duration = Duration::from_secs(30);

/// Watches for ever. `poke` asks for a reload from elsewhere (a signal).
pub async fn watch(gate: Arc<Gate>, mut poke: mpsc::UnboundedReceiver<()>) {
    let policies = Arc::clone(&gate.policies);
    let (changed, mut changes) = mpsc::unbounded_channel();
    let ours = Arc::new(Mutex::new(BTreeSet::new()));
    let about = Arc::clone(&ours);
    let mut watcher = match notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // A parent folder may be a busy one: what happens to others in it is nothing to us.
        let ours = about.lock().unwrap_or_else(PoisonError::into_inner);
        let matters = event.as_ref().map_or(true, |event| {
            !matches!(event.kind, EventKind::Access(_)) && event.paths.iter().any(|path| is_ours(&ours, path))
        });
        if matters {
            let _ = changed.send(());
        }
    }) {
        Ok(watcher) => Some(watcher),
        Err(error) => {
            tracing::warn!(%error, "policy files cannot be watched; they are looked at every {} s", POLL.as_secs());
            None
        }
    };
    let mut watched = BTreeSet::new();
    loop {
        *ours.lock().unwrap_or_else(PoisonError::into_inner) = paths(policies.directory());
        if let Some(watcher) = &mut watcher {
            rearm(watcher, policies.directory(), &mut watched);
        }
        tokio::select! {
            Some(()) = changes.recv() => settle(&mut changes).await,
            Some(()) = poke.recv() => {}
            () = tokio::time::sleep(POLL) => {}
        }
        // A watch on a folder that was replaced is dead although its path is the same.
        if let Some(watcher) = &mut watcher {
            for path in std::mem::take(&mut watched) {
                let _ = watcher.unwatch(&path);
            }
            rearm(watcher, policies.directory(), &mut watched);
        }
        if let Err(error) = gate.reload(Asking::own("files")).await {
            tracing::error!(%error, "the outcome of a policy reload could not be recorded");
        }
        // Arming and reading made events of their own: creations and changes among them are seen by the next round's settle.
    }
}

async fn settle(changes: &mut mpsc::UnboundedReceiver<()>) {
    let give_up = tokio::time::Instant::now() + SETTLE_MOST;
    while tokio::time::Instant::now() < give_up {
        match tokio::time::timeout(SETTLE, changes.recv()).await {
            Ok(Some(())) => {}
            Ok(None) | Err(_) => return,
        }
    }
}

fn rearm(watcher: &mut impl Watcher, directory: &Path, watched: &mut BTreeSet<PathBuf>) {
    for path in places(directory) {
        if watched.contains(&path) {
            continue;
        }
        match watcher.watch(&path, RecursiveMode::NonRecursive) {
            Ok(()) => {
                watched.insert(path);
            }
            Err(error) => tracing::debug!(%error, path = %path.display(), "not watched"),
        }
    }
}

/// The paths whose changes matter: the folder, where it really is, and what links in it lead to.
fn paths(directory: &Path) -> BTreeSet<PathBuf> {
    let mut paths = BTreeSet::from([directory.to_owned()]);
    paths.extend(directory.canonicalize());
    for folder in [directory.to_owned(), directory.join("lib")] {
        let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        paths.extend(
            entries.map(|entry| entry.path()).filter(|path| path.is_symlink()).filter_map(|path| path.canonicalize().ok()),
        );
    }
    paths
}

fn is_ours(ours: &BTreeSet<PathBuf>, path: &Path) -> bool {
    path.ancestors().any(|ancestor| ours.contains(ancestor))
}

/// The folders to watch: those of [`paths`] and the parents of all of them.
fn places(directory: &Path) -> BTreeSet<PathBuf> {
    let mut places = BTreeSet::new();
    for path in paths(directory) {
        places.extend(path.parent().filter(|parent| !parent.as_os_str().is_empty()).map(Path::to_owned));
        places.insert(path);
    }
    places.insert(directory.join("lib"));
    places.retain(|path| path.is_dir());
    places
}
