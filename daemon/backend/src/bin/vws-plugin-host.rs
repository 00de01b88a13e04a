//! The child role as a program of its own: the same code as `vwsd plugin-host`, for places where the daemon's program is not
//! wanted in the plugin's process.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1).peekable();
    args.next_if(|first| first == "plugin-host");
    vws_backend::plugin_host_main(args)
}
