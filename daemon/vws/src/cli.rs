//! The command line: global options and the list of verbs.

use crate::output::Format;
use crate::{screen, verbs};
use clap::{Parser, Subcommand};
use std::process::ExitCode;
use vws_bus::failure::{Failure, exit};

const EXIT_CODES: &str = "\
Exit codes:
  0 ok   1 failed   2 usage   3 not found   4 denied   5 quota   6 no host fits
  7 timed out waiting (the job goes on)   8 daemon or host unreachable   9 policy broken
  130 interrupted while following a job (the job goes on)

Data is written to stdout, talk to stderr. JSON and YAML have the names of the D-Bus contract
in snake_case; times are microseconds since 1970 UTC. NO_COLOR is honoured.
`vws VERB --help` tells more of a verb.";

/// Heading of the options that every verb has.
const GLOBAL: &str = "Everywhere";

/// Lease virtual machines
#[derive(Debug, Parser)]
#[command(name = "vws", version, about, after_help = EXIT_CODES, propagate_version = true, max_term_width = 110)]
pub(crate) struct Cli {
    /// Bus of the daemon: system, session, or a D-Bus address [default: system; for an ordinary user without a system service: session]
    #[arg(long, global = true, env = "VWS_BUS", hide_env_values = true, value_name = "BUS", help_heading = GLOBAL, display_order = 900)]
    pub(crate) bus: Option<String>,
    /// Form of the data on stdout, and of errors on stderr: table, json or yaml [default: table]
    #[arg(
        short, long, global = true, value_enum, default_value = "table", hide_default_value = true, hide_possible_values = true,
        value_name = "FORMAT", help_heading = GLOBAL, display_order = 901
    )]
    output: Format,
    /// Short for -o json
    #[arg(long, global = true, conflicts_with = "output", help_heading = GLOBAL, display_order = 902)]
    json: bool,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

impl Cli {
    /// The form that was asked for.
    pub(crate) fn format(&self) -> Format {
        if self.json { Format::Json } else { self.output }
    }
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Lease a new workspace and wait until it is there
    Launch(Box<verbs::launch::Launch>),
    /// List workspaces
    #[command(visible_alias = "ls")]
    List(verbs::list::List),
    /// Show everything about a workspace
    Info(verbs::info::Info),
    /// Show what the machines do: CPU, memory, disks, networks
    Top(verbs::top::Top),
    /// Start stopped workspaces
    Start(verbs::start::Start),
    /// Ask guests to shut down; force them off after a time
    Stop(verbs::stop::Stop),
    /// Reboot guests
    Reboot(verbs::reboot::Reboot),
    /// Let guests stand still, their memory stays on the host
    Pause(verbs::pause::Pause),
    /// Let a paused guest go on, or bring a serialized workspace back
    Resume(verbs::resume::Resume),
    /// Write memory, disks and identity into a bundle and leave the host
    Serialize(verbs::serialize::Serialize),
    /// Move a running workspace to another host
    Migrate(verbs::migrate::Migrate),
    /// Set a new end of the lease
    Renew(verbs::renew::Renew),
    /// End workspaces: machine, disks and bundle
    Destroy(verbs::destroy::Destroy),
    /// Change name, labels or access list of a workspace
    Change(verbs::change::Change),
    /// Clusters: launch, list, show, and the verbs of workspaces on all members
    #[command(subcommand)]
    Cluster(verbs::cluster::Cluster),
    /// Do one thing to many workspaces: a user's, a host's, a cluster's, or all
    Each(verbs::each::Each),
    /// Give a workspace more or less vCPUs, memory, disk or rates
    Resize(Box<verbs::resize::Resize>),
    /// Snapshots: create, list, revert, remove
    #[command(subcommand)]
    Snapshot(verbs::snapshot::Snapshot),
    /// Save the root disk of a stopped workspace as an image
    SaveImage(verbs::save_image::SaveImage),
    /// Open the serial console; Ctrl-] leaves
    Console(verbs::console::Console),
    /// Show what the guest wrote to its console
    Logs(verbs::logs::Logs),
    /// Wait until a workspace is in a state
    Wait(verbs::wait::Wait),
    /// Show what happened
    Events(verbs::events::Events),
    /// Show what happens, from now on
    Watch(verbs::watch::Watch),
    /// List jobs
    Jobs(verbs::jobs::Jobs),
    /// Show, follow or cancel one job
    Job(verbs::job::Job),
    /// Cancel a job: what it did is taken back
    Cancel(verbs::cancel::Cancel),
    /// Ask the policies what they would say, and change nothing
    Explain(verbs::explain::Explain),
    /// Show the decisions about a workspace, and the rules that made them
    Why(verbs::why::Why),
    /// List recorded decisions
    Decisions(verbs::decisions::Decisions),
    /// Images: import, list, info, verify, change, remove
    #[command(subcommand)]
    Image(verbs::image::Image),
    /// Bundles: export, import, verify, list, show
    #[command(subcommand)]
    Bundle(verbs::bundle::Bundle),
    /// Hosts: list, show, add, change, probe, enable, disable, drain, evacuate, remove
    #[command(subcommand)]
    Host(verbs::host::Host),
    /// Networks: list, show, add, change, enable, disable, remove
    #[command(subcommand)]
    Network(verbs::network::Network),
    /// Policies: status, reload; check, test, eval, new (without a daemon)
    #[command(subcommand)]
    Policy(verbs::policy::Policy),
    /// Backends: list
    #[command(subcommand)]
    Backend(verbs::backend::Backend),
    /// Compare ledger, database, hosts and policies, and name what is wrong
    Doctor(verbs::doctor::Doctor),
    /// Show used and reserved minutes, and what is held, by user and group
    Usage(verbs::usage::Usage),
    /// For administrators: backup, metrics
    #[command(subcommand)]
    Admin(verbs::admin::Admin),
    /// Print a completion script for a shell
    Completions(verbs::completions::Completions),
}

/// Says what is wrong with a command line, or prints the help that was asked for.
pub(crate) fn refuse(error: &clap::Error) -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    let json = words.iter().any(|word| word == "--json" || word == "-ojson" || word == "--output=json")
        || words
            .windows(2)
            .any(|pair| matches!(pair, [option, value] if (option == "-o" || option == "--output") && value == "json"));
    if error.use_stderr() && json {
        let text = error.to_string();
        let message = text.lines().next().unwrap_or("").trim_start_matches("error: ");
        screen::error(Format::Json, &Failure::of_kind("InvalidArgument", message));
        return ExitCode::from(exit::USAGE);
    }
    // A closed pipe is no reason to complain about help that nobody reads.
    let _unread = error.print();
    if error.use_stderr() { ExitCode::from(exit::USAGE) } else { ExitCode::SUCCESS }
}

#[cfg(test)]
mod tests {
    use super::Cli;
    use clap::{CommandFactory, Parser};

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_verb_and_option_has_help() {
        fn check(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{} has no help", command.get_name());
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{} {} has no help", command.get_name(), argument.get_id());
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }

    #[test]
    fn json_is_global() {
        let cli = Cli::try_parse_from(["vws", "list", "--json"]).unwrap();
        assert_eq!(cli.format(), super::Format::Json);
        assert!(Cli::try_parse_from(["vws", "list", "--json", "-o", "yaml"]).is_err());
    }
}
