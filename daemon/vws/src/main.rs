//! `vws`, the command line of virtual workspaces: speaks D-Bus to `vwsd`, and checks policies offline.
//!
//! Owns: the verbs, their options, what is printed where (data on stdout, talk on stderr) and the exit codes.
//! Must not know: the daemon's insides. Everything it shows it was told over the bus.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking"))]

mod action;
mod cli;
mod context;
mod decision;
mod find;
mod follow;
mod launch;
mod output;
mod record;
mod screen;
mod units;
mod verbs;

use clap::Parser;
use std::process::ExitCode;
use vws_bus::failure::{Failure, exit};

/// What a verb ends with.
pub(crate) type Result<T> = std::result::Result<T, Failure>;

fn main() -> ExitCode {
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return cli::refuse(&error),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            screen::error(cli.format(), &Failure::new("org.freedesktop.DBus.Error.Failed", &format!("cannot start: {error}")));
            return ExitCode::from(exit::FAILED);
        }
    };
    let format = cli.format();
    let ended = runtime.block_on(verbs::run(cli));
    // A read of the terminal may still wait in a thread; nobody waits for it.
    runtime.shutdown_background();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) if failure.name == output::BROKEN_PIPE => ExitCode::from(output::BROKEN_PIPE_EXIT),
        Err(failure) if failure.name == follow::INTERRUPTED => ExitCode::from(follow::INTERRUPTED_EXIT),
        Err(failure) => {
            screen::error(format, &failure);
            ExitCode::from(failure.exit_code())
        }
    }
}
