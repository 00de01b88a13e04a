//! Durable commits a second: one submitter that waits for each, and 64 at once, held against each other and against the bare
//! fsync rate of the same device in the same run.
//!
//!     cargo run --release -p vws-store --example commit_rate [FOLDER]
#![allow(clippy::unwrap_used, reason = "a measurement ends with its first failure")]

use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use vws_domain::{Change, Event, Timestamp};
use vws_store::{Batch, Store};

const MEASURED: Duration = Duration::from_secs(3);
const ROUNDS: usize = 3;

fn main() {
    let folder = std::env::args().nth(1).map_or_else(std::env::temp_dir, Into::into);
    for round in 1..=ROUNDS {
        let scratch = tempfile::tempdir_in(&folder).unwrap();
        let bare = fsync_rate(scratch.path());
        let one = commit_rate(&scratch.path().join("one.db"), 1);
        let many = commit_rate(&scratch.path().join("many.db"), 64);
        println!(
            "round {round}: bare fdatasync {bare:.0}/s; 1 submitter {one:.0}/s ({:.2} of it); 64 submitters {many:.0}/s ({:.1} times one)",
            one / bare,
            many / one
        );
    }
}

/// Overwrites of 4 KiB with fdatasync.
fn fsync_rate(folder: &Path) -> f64 {
    let mut file = std::fs::File::create(folder.join("bare")).unwrap();
    file.write_all(&[1; 4096]).unwrap();
    file.sync_all().unwrap();
    let begin = Instant::now();
    let mut count = 0_u32;
    while begin.elapsed() < MEASURED {
        file.seek(SeekFrom::Start(0)).unwrap();
        file.write_all(&count.to_le_bytes().repeat(1024)).unwrap();
        file.sync_data().unwrap();
        count += 1;
    }
    f64::from(count) / begin.elapsed().as_secs_f64()
}

fn commit_rate(path: &Path, submitters: usize) -> f64 {
    let (store, _) = Store::open(path).unwrap();
    let (store, next) = (Arc::new(store), Arc::new(Mutex::new(1_u64)));
    let begin = Instant::now();
    let threads: Vec<_> = (0..submitters)
        .map(|_| {
            let (store, next) = (Arc::clone(&store), Arc::clone(&next));
            std::thread::spawn(move || {
                let mut count = 0_u32;
                while begin.elapsed() < MEASURED {
                    let (told, heard) = std::sync::mpsc::sync_channel(1);
                    {
                        // Numbers are given out in the order of the submissions, as the daemon's core does.
                        let mut next = next.lock().unwrap();
                        store.commit(batch(*next), move |outcome| told.send(outcome).unwrap());
                        *next += 1;
                    }
                    heard.recv().unwrap().unwrap();
                    count += 1;
                }
                count
            })
        })
        .collect();
    let count: u32 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    f64::from(count) / begin.elapsed().as_secs_f64()
}

fn batch(sequence: u64) -> Batch {
    let event = Event {
        sequence,
        at: Timestamp(sequence),
        kind: "measured".to_owned(),
        workspace: None,
        job: None,
        host: None,
        image: None,
        owner: 0,
        text: "x".repeat(300),
    };
    Batch { sequence, at: Timestamp(sequence), changes: vec![Change::Event(Arc::new(event))] }
}
