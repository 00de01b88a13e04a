//! The verbs, one a file. Each is a clap argument struct and a `run` that does it.

pub(crate) mod admin;
pub(crate) mod backend;
pub(crate) mod bundle;
pub(crate) mod cancel;
pub(crate) mod change;
pub(crate) mod cluster;
pub(crate) mod completions;
pub(crate) mod console;
pub(crate) mod decisions;
pub(crate) mod destroy;
pub(crate) mod doctor;
pub(crate) mod drain;
pub(crate) mod each;
pub(crate) mod events;
pub(crate) mod explain;
pub(crate) mod host;
pub(crate) mod image;
pub(crate) mod info;
pub(crate) mod job;
pub(crate) mod jobs;
pub(crate) mod launch;
pub(crate) mod list;
pub(crate) mod logs;
pub(crate) mod migrate;
pub(crate) mod network;
pub(crate) mod pause;
pub(crate) mod policy;
pub(crate) mod policy_gate;
pub(crate) mod policy_offline;
pub(crate) mod reboot;
pub(crate) mod renew;
pub(crate) mod resize;
pub(crate) mod resume;
pub(crate) mod save_image;
pub(crate) mod serialize;
pub(crate) mod snapshot;
pub(crate) mod start;
pub(crate) mod stop;
pub(crate) mod top;
pub(crate) mod usage;
pub(crate) mod wait;
pub(crate) mod watch;
pub(crate) mod why;

use crate::Result;
use crate::cli::{Cli, Verb};
use crate::context::Context;

/// Does what the command line says.
pub(crate) async fn run(cli: Cli) -> Result<()> {
    let format = cli.format();
    // These need no daemon.
    match &cli.verb {
        Verb::Completions(verb) => return completions::run(verb),
        Verb::Policy(policy::Policy::Offline(verb)) => return policy_offline::run(verb, format),
        Verb::Bundle(verb) => {
            if let Some(path) = verb.offline() {
                return bundle::run_offline(format, verb, path);
            }
        }
        _ => {}
    }
    let c = &Context::connect(cli.bus.as_deref(), format).await?;
    match cli.verb {
        Verb::Launch(verb) => launch::run(c, &verb).await,
        Verb::List(verb) => list::run(c, &verb).await,
        Verb::Info(verb) => info::run(c, &verb).await,
        Verb::Top(verb) => top::run(c, &verb).await,
        Verb::Start(verb) => start::run(c, &verb).await,
        Verb::Stop(verb) => stop::run(c, &verb).await,
        Verb::Reboot(verb) => reboot::run(c, &verb).await,
        Verb::Pause(verb) => pause::run(c, &verb).await,
        Verb::Resume(verb) => resume::run(c, &verb).await,
        Verb::Serialize(verb) => serialize::run(c, &verb).await,
        Verb::Cluster(verb) => cluster::run(c, &verb).await,
        Verb::Each(verb) => each::run(c, &verb).await,
        Verb::Resize(verb) => resize::run(c, &verb).await,
        Verb::Snapshot(verb) => snapshot::run(c, &verb).await,
        Verb::Migrate(verb) => migrate::run(c, &verb).await,
        Verb::Renew(verb) => renew::run(c, &verb).await,
        Verb::Destroy(verb) => destroy::run(c, &verb).await,
        Verb::Change(verb) => change::run(c, &verb).await,
        Verb::SaveImage(verb) => save_image::run(c, &verb).await,
        Verb::Console(verb) => console::run(c, &verb).await,
        Verb::Logs(verb) => logs::run(c, &verb).await,
        Verb::Wait(verb) => wait::run(c, &verb).await,
        Verb::Events(verb) => events::run(c, &verb).await,
        Verb::Watch(verb) => watch::run(c, &verb).await,
        Verb::Jobs(verb) => jobs::run(c, &verb).await,
        Verb::Job(verb) => job::run(c, &verb).await,
        Verb::Cancel(verb) => cancel::run(c, &verb).await,
        Verb::Explain(verb) => explain::run(c, &verb).await,
        Verb::Why(verb) => why::run(c, &verb).await,
        Verb::Decisions(verb) => decisions::run(c, &verb).await,
        Verb::Image(verb) => image::run(c, &verb).await,
        Verb::Bundle(verb) => bundle::run(c, &verb).await,
        Verb::Host(verb) => host::run(c, &verb).await,
        Verb::Network(verb) => network::run(c, &verb).await,
        Verb::Policy(verb) => policy::run(c, &verb).await,
        Verb::Backend(verb) => backend::run(c, &verb).await,
        Verb::Doctor(verb) => doctor::run(c, &verb).await,
        Verb::Usage(verb) => usage::run(c, &verb).await,
        Verb::Admin(verb) => admin::run(c, &verb).await,
        Verb::Completions(verb) => completions::run(&verb),
    }
}
