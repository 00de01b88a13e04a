//! Signals reach those who asked for them and may see what they are about, and nobody else: counted on the wire, byte by byte.
//! Needs root to become several users.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use futures_util::StreamExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use vws_bus::client::Client;
use vws_tests::bus::{may_become_others, none};
use vws_tests::{PATIENCE, Plan, Site};
use zbus::message::Type;
use zbus::{Message, MessageStream};

/// User `bin`.
const BOB: u32 = 2;
/// Name of Ann's workspace: in every event about it.
const SECRET: &str = "kept-to-herself";

/// A signal of the daemon.
#[derive(Debug)]
struct Heard {
    member: String,
    /// The whole message, header and body.
    bytes: Vec<u8>,
}

impl Heard {
    fn names(&self, text: &str) -> bool {
        self.bytes.windows(text.len()).any(|window| window == text.as_bytes())
    }
}

fn heard(message: &Message) -> Option<Heard> {
    let header = message.header();
    let of_bus = header.sender().is_some_and(|sender| sender.as_str() == "org.freedesktop.DBus");
    (message.message_type() == Type::Signal && !of_bus).then(|| Heard {
        member: header.member().map_or_else(String::new, |member| member.to_string()),
        bytes: message.data().bytes().to_vec(),
    })
}

/// Subscribes, says so, and hears everything up to the event about the image `last`.
async fn listen(client: Client, ready: mpsc::Sender<()>) -> Vec<Heard> {
    let mut stream = MessageStream::from(client.connection());
    client.manager().await.unwrap().subscribe(&none()).await.unwrap();
    ready.send(()).unwrap();
    let mut all = Vec::new();
    loop {
        let next = tokio::time::timeout(PATIENCE, stream.next()).await;
        let message = next.unwrap_or_else(|_| panic!("the last signal did not come; {} came", all.len())).unwrap().unwrap();
        if let Some(signal) = heard(&message) {
            let last = signal.member == "Event" && signal.names("image.ready") && signal.names("`last`");
            all.push(signal);
            if last {
                return all;
            }
        }
    }
}

/// Calls the daemon, so that it knows the connection, but does not subscribe; hears what comes until `over`.
async fn overhear(client: Client, ready: mpsc::Sender<()>, over: Arc<AtomicBool>) -> Vec<Heard> {
    let mut stream = MessageStream::from(client.connection());
    let manager = client.manager().await.unwrap();
    manager.list(&none(), &none()).await.unwrap();
    ready.send(()).unwrap();
    let mut all = Vec::new();
    loop {
        let ends = over.load(Ordering::Acquire);
        // Whatever was sent before the answer to this call has come before it.
        manager.list(&none(), &none()).await.unwrap();
        while let Ok(Some(message)) = tokio::time::timeout(Duration::from_millis(20), stream.next()).await {
            all.extend(heard(&message.unwrap()));
        }
        if ends {
            return all;
        }
    }
}

/// What is done while they listen; the path of the workspace.
fn act(site: &Site) -> String {
    let launched = site.ok(&["launch", "tiny", "--name", SECRET, "--memory", "64M", "--label", "colour=ultramarine"]);
    for verb in ["pause", "resume", "serialize", "resume"] {
        site.run(&[verb, SECRET]);
    }
    launched["workspace"]["path"].as_str().unwrap().to_owned()
}

/// Words that tell of the workspace: its name, a label, its id, and the ids of its jobs.
fn words(site: &Site, path: &str) -> Vec<String> {
    let id = |path: &str| path.rsplit('/').next().unwrap()[1..].to_owned();
    let mut words = vec![SECRET.to_owned(), "ultramarine".to_owned(), id(path)];
    let jobs = site.ok(&["jobs", "--all"]);
    let jobs = jobs.as_array().unwrap().iter().filter(|job| job["workspace"] == path);
    words.extend(jobs.map(|job| job["id"].as_str().unwrap().to_owned()));
    assert!(words.len() > 6, "jobs are missing: {words:?}");
    words
}

/// The members of the signals in which one of the words stands.
fn about<'a>(heard: &'a [Heard], words: &[String]) -> Vec<&'a str> {
    let about = heard.iter().filter(|one| words.iter().any(|text| one.names(text)));
    about.map(|one| one.member.as_str()).collect()
}

#[test]
fn nobody_hears_of_what_he_may_not_see_or_did_not_ask_for() {
    if !may_become_others() {
        return;
    }
    let site = Site::start(&Plan::default());
    site.import("tiny");
    let (told, ready) = mpsc::channel();
    let over = Arc::new(AtomicBool::new(false));
    let (root, bob, silent, path) = std::thread::scope(|scope| {
        let site = &site;
        let subscriber = |uid: u32| {
            let told = told.clone();
            scope.spawn(move || site.as_user(uid, move |client| listen(client, told)))
        };
        let (root, bob) = (subscriber(0), subscriber(BOB));
        let (silently, until) = (told.clone(), Arc::clone(&over));
        let silent = scope.spawn(move || site.as_user(0, move |client| overhear(client, silently, until)));
        for _ in 0..3 {
            ready.recv_timeout(PATIENCE).expect("everybody listens");
        }
        let path = act(site);
        site.run(&["destroy", SECRET]);
        site.import("last");
        let (root, bob) = (root.join().unwrap(), bob.join().unwrap());
        over.store(true, Ordering::Release);
        (root, bob, silent.join().unwrap(), path)
    });
    // The owner heard of all of it: otherwise what the others did not hear would prove nothing.
    let words = words(&site, &path);
    let owners = about(&root, &words);
    for member in ["Event", "PropertiesChanged", "InterfacesAdded", "InterfacesRemoved", "Completed"] {
        assert!(owners.contains(&member), "the owner heard no {member}: {owners:?}");
    }
    assert_eq!(about(&bob, &words), Vec::<&str>::new(), "signals delivered to another uid");
    assert!(bob.iter().any(|one| one.names("`last`")), "he hears of what he may see");
    assert!(silent.is_empty(), "signals without a subscription: {silent:?}");
}

#[test]
fn what_is_shared_is_heard_of_and_what_is_taken_back_is_not() {
    if !may_become_others() {
        return;
    }
    let site = Site::start(&Plan::default());
    site.import("tiny");
    let path = act(&site);
    let (told, ready) = mpsc::channel();
    let bob = std::thread::scope(|scope| {
        let site = &site;
        let bob = scope.spawn(move || site.as_user(BOB, move |client| listen(client, told)));
        ready.recv_timeout(PATIENCE).expect("Bob listens");
        site.run(&["pause", SECRET]);
        site.run(&["change", SECRET, "--grant", "user:bin=view"]);
        site.run(&["resume", SECRET]);
        site.run(&["change", SECRET, "--no-grants"]);
        site.run(&["pause", SECRET]);
        site.run(&["destroy", SECRET]);
        site.import("last");
        bob.join().unwrap()
    });
    let words = words(&site, &path);
    let heard = about(&bob, &words);
    let count = |member: &str| heard.iter().filter(|one| **one == member).count();
    assert_eq!(heard.first(), Some(&"InterfacesAdded"), "it appears when it is shared: {heard:?}");
    assert!(count("PropertiesChanged") > 0, "what happens to it is told: {heard:?}");
    let gone = bob.iter().position(|one| one.member == "InterfacesRemoved" && one.names(&path));
    let gone = gone.unwrap_or_else(|| panic!("it disappears when it is taken back: {heard:?}"));
    assert_eq!(about(&bob[gone + 1..], &words), Vec::<&str>::new(), "after it was taken back");
}
