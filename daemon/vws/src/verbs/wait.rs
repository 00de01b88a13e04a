//! `vws wait`: until a workspace is in a state.

use crate::context::Context;
use crate::units::duration;
use crate::{Result, find, screen};
use futures_util::StreamExt;
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout};
use vws_bus::failure::Failure;
use vws_bus::path::Object;
use zbus::{MatchRule, MessageStream};

/// How often it is looked at without a signal: a daemon that was restarted knows nothing of its subscribers.
const LOOK: Duration = Duration::from_secs(2);

/// Arguments of `vws wait`.
#[derive(Debug, clap::Args)]
pub(crate) struct Wait {
    /// Name or id of the workspace
    workspace: String,
    /// State to wait for
    #[arg(long = "for", default_value = "running", value_parser = ["running", "stopped", "paused", "serialized", "gone"], value_name = "STATE")]
    state: String,
    /// Wait so long at most, for instance 5m
    #[arg(long, value_parser = duration, value_name = "TIME")]
    timeout: Option<Duration>,
}

/// Does it.
pub(crate) async fn run(context: &Context, verb: &Wait) -> Result<()> {
    let found = match find::workspace(context, &verb.workspace).await {
        Err(failure) if failure.is_kind("NotFound") && verb.state == "gone" => {
            context.say(&failure.message);
            return Ok(());
        }
        found => found?,
    };
    let Some(object) = Object::parse(&found.path) else {
        return Err(Failure::new(
            "org.freedesktop.DBus.Error.Failed",
            &format!("the daemon named an odd path, `{}`", found.path),
        ));
    };
    let rule = MatchRule::builder().msg_type(zbus::message::Type::Signal).path(found.path.clone()).build()?;
    let mut signals = MessageStream::for_match_rule(rule, context.client.connection(), None).await?;
    context.subscribe().await?;
    let deadline = verb.timeout.map(|time| Instant::now() + time);
    loop {
        let record = find::at(context, &object).await?.map(|found| found.record);
        let state = record.as_ref().map_or("gone", |record| record.text("state"));
        if state == verb.state {
            let record = record.unwrap_or_else(|| found.record.clone().with("state", "gone".into()));
            return context.emit(&record.0, String::new);
        }
        let name = screen::shown(found.record.text("name"));
        if matches!(state, "broken" | "gone") {
            let cause = record
                .as_ref()
                .and_then(|record| record.texts("cause").get(1).map(|text| screen::shown(text)))
                .unwrap_or_default();
            return Err(Failure::of_kind(
                "InvalidState",
                format!("workspace `{name}`: is {state} and will not be {}; {cause}; `vws info {name}` tells more", verb.state),
            ));
        }
        let far = Instant::now() + Duration::from_secs(86_400);
        tokio::select! {
            _ = timeout(LOOK, signals.next()) => {}
            () = sleep_until(deadline.unwrap_or(far)), if deadline.is_some() => {
                return Err(Failure::of_kind("WaitTimedOut", format!("workspace `{name}`: is still {state}, not {}; `vws info {name}` tells more", verb.state)));
            }
        }
    }
}
