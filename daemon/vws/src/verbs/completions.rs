//! `vws completions`: scripts for shells, made from the command line's own description.

use crate::cli::Cli;
use crate::{Result, output};
use clap::CommandFactory;
use clap_complete::Shell;

/// Arguments of `vws completions`.
#[derive(Debug, clap::Args)]
#[command(after_help = "bash: vws completions bash > ~/.local/share/bash-completion/completions/vws\n\
    zsh:  vws completions zsh > a folder of $fpath, as _vws\n\
    fish: vws completions fish > ~/.config/fish/completions/vws.fish")]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Does it.
pub(crate) fn run(verb: &Completions) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(verb.shell, &mut Cli::command(), "vws", &mut script);
    output::write(&script)
}
