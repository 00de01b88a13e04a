//! The lifecycle as a table: every state and every event. A change of the table is a change of `lifecycle.golden`, to be looked at.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use std::fmt::Write;
use vws_domain::{State, StateEvent};

fn table() -> String {
    let mut table = String::new();
    for state in State::ALL {
        writeln!(table, "{}", state.name()).unwrap();
        for event in StateEvent::ALL {
            if let Ok(next) = state.next(event) {
                let same = if next == state { " (stays)" } else { "" };
                writeln!(table, "    {event:?} -> {}{same}", next.name()).unwrap();
            }
        }
    }
    table
}

#[test]
fn the_table_is_the_reviewed_one() {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lifecycle.golden");
    if std::env::var_os("VWS_BLESS").is_some() {
        std::fs::write(golden, table()).unwrap();
    }
    let reviewed = std::fs::read_to_string(golden).unwrap();
    assert_eq!(table(), reviewed, "the lifecycle changed: look at it, then run this test with VWS_BLESS=1");
}

#[test]
fn every_state_but_the_last_can_be_ended() {
    for state in State::ALL.into_iter().filter(|state| *state != State::Gone) {
        let destroying = state.next(StateEvent::DestroyBegan).unwrap();
        assert_eq!(destroying.next(StateEvent::Destroyed), Ok(State::Gone), "{state:?}");
    }
}

#[test]
fn an_unreachable_host_makes_nothing_stopped() {
    for state in State::ALL {
        let after = state.next(StateEvent::ContactLost).unwrap();
        assert!(after == State::Unknown || after == state, "{state:?} became {after:?}");
    }
}

#[test]
fn words_lead_back_to_states() {
    for state in State::ALL {
        assert_eq!(State::from_name(state.name()), Some(state));
    }
}
