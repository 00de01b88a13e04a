//! What every verb has: the connection to the daemon, the form of the output, and the warning about policies.

use crate::output::{self, Format};
use crate::{Result, screen};
use serde_json::{Value, json};
use vws_bus::client::{Args, Bus, Client};
use vws_bus::failure::{Failure, exit};
use vws_bus::names;

/// The daemon, and how to answer.
pub(crate) struct Context {
    /// The bus.
    pub(crate) client: Client,
    /// Form of the data.
    pub(crate) format: Format,
}

impl Context {
    /// Connects, and warns when the newest policy files are not in force.
    pub(crate) async fn connect(bus: Option<&str>, format: Format) -> Result<Self> {
        let (bus, connected) = match bus {
            Some(text) => {
                let bus = Bus::parse(text);
                let connected = Client::connect(&bus).await;
                (bus, connected)
            }
            None => default_bus().await,
        };
        let client = connected.map_err(|failure| unreachable(&bus, &failure))?;
        let state = match client.policy().await?.state().await.map_err(Failure::from) {
            Ok(state) => state,
            Err(failure) if failure.exit_code() == exit::UNREACHABLE => return Err(unreachable(&bus, &failure)),
            Err(failure) => return Err(failure),
        };
        let warning = match state.as_str() {
            "stale" => "the newest policy files are not in force, the last good ones are: `vws policy status`",
            "none" => "no policy is in force, every request is refused: `vws policy status`",
            _ => "",
        };
        if !warning.is_empty() {
            match format {
                Format::Table => screen::say(&format!("vws: warning: {warning}")),
                Format::Json | Format::Yaml => screen::say(&json!({ "warning": warning }).to_string()),
            }
        }
        Ok(Self { client, format })
    }

    /// Says a line to a person; programs that read JSON or YAML do not want it.
    pub(crate) fn say(&self, text: &str) {
        if self.format == Format::Table {
            screen::say(text);
        }
    }

    /// Writes data.
    pub(crate) fn emit(&self, value: &Value, table: impl FnOnce() -> String) -> Result<()> {
        output::emit(self.format, value, table)
    }

    /// Asks for signals. A daemon with too many subscribers is no reason to fail: the caller looks again now and then.
    pub(crate) async fn subscribe(&self) -> Result<()> {
        match self.client.manager().await?.subscribe(&Args::new()).await.map_err(Failure::from) {
            Ok(()) => Ok(()),
            Err(failure) if failure.is_kind("Busy") => Ok(()),
            Err(failure) => Err(failure),
        }
    }
}

/// The system bus; for an ordinary user the session bus, unless the service is on the system bus.
async fn default_bus() -> (Bus, Result<Client>) {
    let system = Client::connect(&Bus::System).await;
    if rustix::process::getuid().is_root() {
        return (Bus::System, system);
    }
    if let Ok(client) = &system
        && serves(client).await
    {
        return (Bus::System, system);
    }
    (Bus::Session, Client::connect(&Bus::Session).await)
}

/// Whether the service is on this bus, or would be started by it.
async fn serves(client: &Client) -> bool {
    let Ok(bus) = zbus::fdo::DBusProxy::new(client.connection()).await else { return false };
    let Ok(name) = zbus::names::BusName::try_from(names::BUS) else { return false };
    if bus.name_has_owner(name).await.unwrap_or(false) {
        return true;
    }
    bus.list_activatable_names().await.is_ok_and(|known| known.iter().any(|known| known.as_str() == names::BUS))
}

fn unreachable(bus: &Bus, failure: &Failure) -> Failure {
    Failure {
        name: failure.name.clone(),
        message: format!(
            "the daemon cannot be reached on bus `{bus}`: {}; start `vwsd --bus {bus}`, or name its bus with --bus or VWS_BUS",
            failure.message.trim_end_matches('.')
        ),
        code: failure.code.clone(),
    }
}
