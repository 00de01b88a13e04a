//! How long a plugin call takes through the plugin's child process, held against the same call on the daemon's own threads and
//! against a message over a socket to another thread and back, which is the floor of any child.
//!
//! This program is its own plugin host: started with `plugin-host` it is the child.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a benchmark ends with its first failure")]

use serde_json::{Value, json};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use vws_backend::{Backends, Isolation, PluginConfig};
use vws_bench::{line, median, ratio, shown, title};
use vws_plugin_api::doc::{MachineStatus, WorkspaceRef, methods};

const CALLS: usize = 20_000;
const WARM_UP: usize = 2_000;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|first| first == "plugin-host") {
        return vws_backend::plugin_host_main(args);
    }
    title("plugin_call", &format!("A plugin call (median of {CALLS})"));
    let floor = ping_pong();
    line("128 bytes over a socket and back, two threads", &shown(floor), "", "");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    // In a task, as the daemon's calls are, not on the main thread.
    let here = runtime.block_on(async { tokio::spawn(measure(Isolation::InProcess)).await.unwrap() });
    let child = runtime.block_on(async { tokio::spawn(measure(Isolation::Process)).await.unwrap() });
    line("a call on the daemon's own threads", &shown(here), &format!("{:.2} x the socket", ratio(here, floor)), "");
    let against = format!("{:.2} x the socket, {:.2} x in-process", ratio(child, floor), ratio(child, here));
    line("a call through the child", &shown(child), &against, "45 us");
    ExitCode::SUCCESS
}

fn ping_pong() -> Duration {
    let (mut here, mut there) = UnixStream::pair().unwrap();
    let echo = std::thread::spawn(move || {
        let mut bytes = [0; 128];
        while there.read_exact(&mut bytes).is_ok() {
            there.write_all(&bytes).unwrap();
        }
    });
    let mut bytes = [7; 128];
    let mut times = Vec::with_capacity(CALLS);
    for number in 0..WARM_UP + CALLS {
        let began = Instant::now();
        here.write_all(&bytes).unwrap();
        here.read_exact(&mut bytes).unwrap();
        if number >= WARM_UP {
            times.push(began.elapsed());
        }
    }
    drop(here);
    echo.join().unwrap();
    median(times)
}

async fn measure(isolation: Isolation) -> Duration {
    let (events, _kept) = tokio::sync::mpsc::unbounded_channel();
    let backends = Backends::new(events);
    let mut config = PluginConfig::new("sim", vws_tests::program("libvws_plugin_sim.so"));
    config.isolation = isolation;
    backends.add_plugin(config).await.unwrap();
    backends.open_host("sim", "h", json!({})).await.unwrap();
    let ask = WorkspaceRef { host: "h".into(), workspace: "0123456789abcdef0123456789abcdef".into(), plugin_state: Value::Null };
    let mut times = Vec::with_capacity(CALLS);
    for number in 0..WARM_UP + CALLS {
        let began = Instant::now();
        let id = format!("job/{number}");
        let (_status, _fds): (MachineStatus, _) =
            backends.call("h", methods::INSPECT, &id, &ask, Duration::from_secs(10), Vec::new()).await.unwrap();
        if number >= WARM_UP {
            times.push(began.elapsed());
        }
    }
    backends.shutdown().await;
    median(times)
}
