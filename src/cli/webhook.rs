//! `tidegate webhook`: looks at the endpoints of a running server, tries one, makes secrets. Where
//! messages go is in the server's configuration.

use std::fmt::Write;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tidegate::webhooks::Secret;

use super::{
    Verdict, print, print_json,
    remote::{Remote, RemoteArguments, segment},
};

#[derive(Args)]
pub(super) struct WebhookArguments {
    #[command(subcommand)]
    command: WebhookCommand,
    #[command(flatten)]
    server: RemoteArguments,
    /// Print one JSON object on stdout instead of the report.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum WebhookCommand {
    /// Every endpoint: what it took, what failed, whether it is left alone.
    List,
    /// The last attempts to deliver to an endpoint, the latest first.
    Deliveries {
        /// The endpoint's name.
        name: String,
        /// How many at most, up to 1000.
        #[arg(long, default_value_t = 20)]
        limit: u64,
    },
    /// Post a message of the kind `webhook.test` to an endpoint, once. Exits with 1 if it fails.
    Test {
        /// The endpoint's name.
        name: String,
    },
    /// Make a secret, for the configuration and for whoever checks signatures. Asks no server.
    NewSecret,
}

/// Runs the command.
pub(super) async fn run(arguments: WebhookArguments) -> anyhow::Result<Verdict> {
    // One request after the other, on a thread that may wait.
    tokio::task::spawn_blocking(move || ask(&arguments)).await?
}

fn ask(arguments: &WebhookArguments) -> anyhow::Result<Verdict> {
    let (mut good, asked) = (true, || Remote::new(&arguments.server));
    let (answer, text) = match &arguments.command {
        WebhookCommand::List => {
            let answer: Value = asked()?.get("/v1/webhooks")?;
            let lines = answer["webhooks"].as_array().into_iter().flatten().map(endpoint);
            let text = lines.collect::<Result<String, _>>()?;
            let none = "no webhook is configured: see [webhooks] in `tidegate config defaults`\n";
            (answer, if text.is_empty() { none.to_owned() } else { text })
        }
        WebhookCommand::Deliveries { name, limit } => {
            let path = format!("/v1/webhooks/{}/deliveries?limit={limit}", segment(name));
            let answer: Value = asked()?.get(&path)?;
            let lines = answer["deliveries"].as_array().into_iter().flatten().map(delivery);
            let text = lines.collect();
            (answer, text)
        }
        WebhookCommand::Test { name } => {
            let path = format!("/v1/webhooks/{}/test", segment(name));
            let answer: Value = asked()?.ask("POST", &path, None)?;
            good = answer["error"].is_null();
            let text = delivery(&answer);
            (answer, text)
        }
        WebhookCommand::NewSecret => {
            let secret = Secret::random()?.reveal();
            (json!({"secret": secret}), format!("{secret}\n"))
        }
    };
    if arguments.json {
        print_json(&answer)?;
    } else {
        print(&text)?;
    }
    Ok(Verdict::of(good))
}

/// How an endpoint fares.
fn endpoint(of: &Value) -> Result<String, std::fmt::Error> {
    let word = |name: &str| of[name].as_str().unwrap_or_default().to_owned();
    let count = |name: &str| of[name].as_u64().unwrap_or_default();
    let mut text = String::new();
    writeln!(text, "{:>20}  topic {}, group {}", word("name"), word("topic"), word("group"))?;
    let (delivered, failed) = (count("delivered"), count("failed"));
    writeln!(text, "{:>20}  {delivered} messages; {failed} attempts failed", "took")?;
    if of["left_alone"] == true {
        let row = count("failures_in_a_row");
        writeln!(text, "{:>20}  after {row} failures in a row", "LEFT ALONE")?;
    }
    if let Some(trouble) = of["trouble"].as_str() {
        writeln!(text, "{:>20}  {}", "TROUBLE", trouble.escape_debug())?;
    }
    if !of["last_delivery"].is_null() {
        write!(text, "{:>20}  {}", "last", delivery(&of["last_delivery"]))?;
    }
    Ok(text)
}

/// An attempt in a line.
fn delivery(of: &Value) -> String {
    let word = |name: &str| of[name].as_str().unwrap_or_default().to_owned();
    let count = |name: &str| of[name].as_u64().unwrap_or_default();
    let (at, id, kind) = (word("at"), word("id"), word("kind"));
    let (attempt, took) = (count("attempt"), count("took_ms"));
    // What an endpoint said must not speak to the terminal.
    let came = match of["error"].as_str() {
        Some(error) => format!("FAILED: {}", error.escape_debug()),
        None => format!("taken, {}", count("status")),
    };
    format!("{at}  {kind} {id}, attempt {attempt}, {took} ms: {came}\n")
}
