//! `tidegate config`: checks a configuration, prints the defaults, makes API keys. It serves
//! nothing.

use anyhow::Context;

use super::{ConfigCommand, ServeArguments, Verdict, print};
use crate::{
    config::{Config, DEFAULTS, Flags, Role, check_name, sha256},
    http,
};

/// Runs the command.
pub(super) fn run(command: ConfigCommand) -> anyhow::Result<Verdict> {
    match command {
        ConfigCommand::Check(ServeArguments { config, data, listen }) => {
            let config = Config::load(&Flags { config, data, listen }).context("configuration")?;
            for warning in &config.warnings {
                eprintln!("tidegate: {warning}");
            }
            http::check_tls(&config).context("configuration: tls")?;
            let scheme = if config.tls.is_some() { "https" } else { "http" };
            let (listen, data) = (config.listen, config.data.display());
            let keys = config.access.keys.len();
            print(&format!(
                "ok: would listen on {scheme}://{listen}, with {keys} API keys, data in {data}\n"
            ))?;
        }
        ConfigCommand::Defaults => print(DEFAULTS)?,
        ConfigCommand::NewKey { name, role } => new_key(&name, role)?,
    }
    Ok(Verdict::Good)
}

/// Prints a new key, which is kept nowhere, and what to put into the configuration.
fn new_key(name: &str, role: Role) -> anyhow::Result<()> {
    check_name(name).context("the name")?;
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(|error| anyhow::anyhow!("no random source: {error}"))?;
    let key = format!("tg_{}", hex(&secret));
    let role = role.name();
    eprintln!(
        "The key for clients, shown this once; then what goes into the server's configuration:"
    );
    let hash = hex(&sha256(key.as_bytes()));
    print(&format!(
        "{key}\n\n[[access.keys]]\nname = {name:?}\nrole = {role:?}\nsha256 = {hash:?}\n"
    ))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
