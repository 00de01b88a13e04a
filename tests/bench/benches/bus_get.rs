//! `Properties.Get` on a workspace, asked by its owner, who is no administrator: held against the same call to a bare program on
//! the same bus that answers every message at once and judges nothing.
//!
//! Once with the access policy's view remembered, as it is from the second look on, and once with every look judged anew by the
//! script. Needs root, to be somebody else. This program is the bare one too: started with `bare` and a bus address.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a benchmark ends with its first failure")]

use futures_util::StreamExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use vws_bench::{create, line, median, ratio, roomy, settled, shown, title};
use vws_bus::client::Client;
use vws_bus::names;
use vws_tests::Site;
use vws_tests::bus::{may_become_others, run};

const BARE: &str = "org.virtualworkspaces1.Bare";
const OWNER: u32 = 1;
const WORKSPACES: usize = 500;
const ROUNDS: usize = 12;

fn main() {
    let mut args = std::env::args().skip(1);
    if args.next().as_deref() == Some("bare") {
        return serve_bare(&args.next().unwrap());
    }
    if !may_become_others() {
        return;
    }
    let site = Site::start(&roomy(vec!["h1"]));
    site.import("tiny");
    let mut bare =
        Command::new(std::env::current_exe().unwrap()).arg("bare").arg(site.address()).stdout(Stdio::piped()).spawn().unwrap();
    let paths = site.as_user(OWNER, |client| async move {
        let paths = create(&client, WORKSPACES, 16, "stopped").await;
        settled(&client).await;
        paths
    });
    let (mut floor, mut remembered, mut judged) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        new_generation(&site, round);
        let paths = paths.clone();
        // The client runs on one thread, as a simple program's does. The three take turns, so that each sees the same machine.
        let times = site.as_user(OWNER, move |client| async move {
            let mut times = Vec::new();
            for path in &paths {
                let bare = get(&client, BARE, path).await;
                let judged = get(&client, names::BUS, path).await;
                times.push([bare, judged, get(&client, names::BUS, path).await]);
            }
            times
        });
        for [bare, anew, again] in times {
            floor.push(bare);
            judged.push(anew);
            remembered.push(again);
        }
    }
    let (floor, remembered, judged) = (median(floor), median(remembered), median(judged));
    bare.kill().unwrap();
    bare.wait().unwrap();
    title("bus_get", &format!("Get of a workspace's property by its owner (median of {})", WORKSPACES * ROUNDS));
    line("a bare program that judges nothing", &shown(floor), "", "");
    let tell =
        |what: &str, time: Duration, goal: &str| line(what, &shown(time), &format!("{:.2} x bare", ratio(time, floor)), goal);
    tell("the daemon, its view remembered", remembered, "1.15 x");
    tell("the daemon, its view judged by access.lua in this call", judged, "");
}

async fn get(client: &Client, service: &str, path: &str) -> Duration {
    let begin = Instant::now();
    let connection = client.connection();
    let reply = connection.call_method(Some(service), path, Some(names::PROPERTIES), "Get", &(names::WORKSPACE, "State")).await;
    let reply = reply.unwrap();
    let time = begin.elapsed();
    assert_eq!(reply.body().signature().to_string(), "v");
    time
}

/// Changes the access policy by a comment: every view has to be judged anew.
fn new_generation(site: &Site, round: usize) {
    let text = std::fs::read_to_string(vws_tests::root().join("policies/access.lua")).unwrap();
    std::fs::write(site.policy("access.lua"), format!("{text}\n-- round {round}\n")).unwrap();
    run(async {
        let policy = site.client().await.policy().await.unwrap();
        let end = Instant::now() + Duration::from_secs(30);
        while policy.generation().await.unwrap() < round as u64 + 2 {
            assert!(Instant::now() < end, "the policies are not taken");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
}

/// Answers every call with a variant that holds a word.
fn serve_bare(address: &str) {
    // The runtime of the daemon.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let connection = zbus::connection::Builder::address(address).build().await.unwrap();
        let mut messages = zbus::MessageStream::from(&connection);
        connection.request_name(BARE).await.unwrap();
        let serving = tokio::spawn(async move {
            while let Some(Ok(message)) = messages.next().await {
                if message.message_type() == zbus::message::Type::MethodCall {
                    let (_interface, _property): (String, String) = message.body().deserialize().unwrap();
                    let reply = zbus::Message::method_return(&message.header());
                    let reply = reply.build(&(zbus::Variant::from("stopped"),)).unwrap();
                    connection.send(&reply).await.unwrap();
                }
            }
        });
        serving.await.unwrap();
    });
}
