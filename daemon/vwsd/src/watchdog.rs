//! Tells the service manager that the daemon is well: not that some thread still runs, but that the core still decides. A ping goes
//! out only after a look at the pending projection has come back from the core's own thread.

use crate::core::Core;
use std::sync::Arc;
use std::time::Duration;

/// Pings for ever at half the time that the service manager allows; returns at once when it has not asked for pings.
pub async fn watch(core: Arc<Core>) {
    let Some(allowed) = sd_notify::watchdog_enabled().filter(|allowed| !allowed.is_zero()) else { return };
    tracing::info!(allowed_ms = allowed.as_millis(), "the service manager watches");
    ping(&core, allowed / 2, || {
        if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]) {
            tracing::warn!(%error, "the service manager could not be told that the daemon is well");
        }
    })
    .await;
}

async fn ping(core: &Core, every: Duration, tell: impl Fn()) {
    let mut beats = tokio::time::interval(every);
    beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        beats.tick().await;
        // A core that is stuck does not answer; then nothing is said, and the service manager acts.
        match core.consider(|_, _| Ok(())).await {
            Ok(()) => tell(),
            Err(error) => return tracing::error!(%error, "the core does not answer; the service manager is told nothing more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Env;
    use tokio::sync::mpsc;

    #[test]
    fn a_core_that_is_stuck_is_not_reported_as_well() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let (store, site) = vws_store::Store::open(&folder.path().join("vws.db")).unwrap();
            let core = Core::start(Arc::new(store), site, Arc::new(Env::system()), mpsc::unbounded_channel().0).unwrap();
            let (told, mut pings) = mpsc::unbounded_channel();
            let pinged = Arc::clone(&core);
            let pinging = tokio::spawn(async move {
                ping(&pinged, Duration::from_millis(1), || told.send(()).unwrap()).await;
            });
            for _ in 0..3 {
                pings.recv().await.unwrap();
            }
            let (release, released) = std::sync::mpsc::channel::<()>();
            let (began, begun) = tokio::sync::oneshot::channel();
            let stuck = tokio::spawn({
                let core = Arc::clone(&core);
                async move {
                    core.consider(move |_, _| {
                        began.send(()).unwrap();
                        released.recv().unwrap();
                        Ok(())
                    })
                    .await
                }
            });
            begun.await.unwrap();
            while pings.try_recv().is_ok() {}
            // At most the one that was answered before the core stood still is on its way.
            let mut came = 0;
            let window = tokio::time::sleep(Duration::from_millis(200));
            tokio::pin!(window);
            loop {
                tokio::select! {
                    () = &mut window => break,
                    _ = pings.recv() => came += 1,
                }
            }
            assert!(came <= 1, "{came} pings while the core stood still");
            release.send(()).unwrap();
            stuck.await.unwrap().unwrap();
            pings.recv().await.unwrap();
            pinging.abort();
        });
    }
}
