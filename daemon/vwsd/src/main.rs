//! `vwsd`: arguments -> the child role of a plugin, or the daemon.

use clap::Parser;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use vwsd::{Options, run};

/// The virtual workspace daemon.
#[derive(Parser)]
#[command(
    name = "vwsd",
    version,
    about = "Leases virtual machines over D-Bus, judged by the site's Lua policies, deployed by backend plugins"
)]
struct Arguments {
    /// Configuration file [default: /etc/vws/vwsd.toml, or below $XDG_CONFIG_HOME for an ordinary user]
    #[arg(long, env = "VWSD_CONFIG")]
    config: Option<PathBuf>,
    /// Folder with access.lua, quota.lua and placement.lua
    #[arg(long)]
    policies: Option<PathBuf>,
    /// Folder with backend plugins
    #[arg(long)]
    plugins: Option<PathBuf>,
    /// State folder: database and library
    #[arg(long)]
    state: Option<PathBuf>,
    /// Bus to serve on: `system`, `session`, or an address [default: system]
    #[arg(long, env = "VWS_BUS", default_value = "system")]
    bus: String,
    /// Print the introspection data of every interface and end
    #[arg(long)]
    dump_introspection: bool,
}

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    if words.next().is_some_and(|word| word == "plugin-host") {
        return vws_backend::plugin_host_main(words);
    }
    let arguments = Arguments::parse();
    if arguments.dump_introspection {
        for (name, xml) in vws_bus::interfaces::ALL {
            println!("<!-- {name} -->\n{xml}");
        }
        return ExitCode::SUCCESS;
    }
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .with_env_filter(tracing_subscriber::EnvFilter::try_from_env("VWSD_LOG").unwrap_or_else(|_| "info".into()))
        .init();
    let options = Options {
        config: arguments.config,
        policies: arguments.policies,
        plugins: arguments.plugins,
        state: arguments.state,
        bus: arguments.bus,
    };
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vwsd: {error}");
            if !error.detail.is_empty() {
                eprintln!("vwsd: {}", error.detail);
            }
            ExitCode::FAILURE
        }
    }
}
