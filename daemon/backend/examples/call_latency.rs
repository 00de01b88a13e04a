//! How long a plugin call takes: through a child, and on the daemon's own threads.
//!
//! `cargo run --release -p vws-backend --example call_latency`. Prints microseconds a call; asserts nothing.

use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use vws_backend::{Backends, CallError, Isolation, PluginConfig};
use vws_plugin_api::doc::{MachineStatus, WorkspaceRef, methods};

const CALLS: usize = 20_000;
const WARM_UP: usize = 2_000;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|first| first == "plugin-host") {
        return vws_backend::plugin_host_main(args);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    // In a task, as the daemon's calls are, not on the main thread.
    match runtime.block_on(async { tokio::spawn(measure()).await }) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn sim() -> PathBuf {
    let name = "libvws_plugin_sim.so";
    let folder = std::env::current_exe().ok().and_then(|program| program.parent().map(PathBuf::from)).unwrap_or_default();
    let target = folder.parent().map(PathBuf::from).unwrap_or_default();
    [target.join("deps").join(name), target.join(name)]
        .into_iter()
        .find(|file| file.exists())
        .unwrap_or_else(|| PathBuf::from(name))
}

async fn measure() -> Result<(), CallError> {
    for isolation in [Isolation::Process, Isolation::InProcess] {
        let (events, _kept) = tokio::sync::mpsc::unbounded_channel();
        let backends = Backends::new(events);
        let mut config = PluginConfig::new("sim", sim());
        config.isolation = isolation;
        let began = Instant::now();
        backends.add_plugin(config).await?;
        let inspected = began.elapsed();
        backends.open_host("sim", "h", json!({})).await?;
        let ask =
            WorkspaceRef { host: "h".into(), workspace: "0123456789abcdef0123456789abcdef".into(), plugin_state: Value::Null };
        let mut times = Vec::with_capacity(CALLS);
        for number in 0..WARM_UP + CALLS {
            let began = Instant::now();
            let id = format!("job/{number}");
            let (_status, _fds): (MachineStatus, _) =
                backends.call("h", methods::INSPECT, &id, &ask, Duration::from_secs(10), Vec::new()).await?;
            if number >= WARM_UP {
                times.push(began.elapsed());
            }
        }
        times.sort_unstable();
        let at = |per_mille: usize| times.get(times.len() * per_mille / 1000).map_or(0.0, |time| time.as_secs_f64() * 1e6);
        println!(
            "{isolation:?}: median {:.1} us, 90 % {:.1} us, 99 % {:.1} us, inspected in {:.1} ms",
            at(500),
            at(900),
            at(990),
            inspected.as_secs_f64() * 1e3
        );
        backends.shutdown().await;
    }
    Ok(())
}
