//! `tidegate topics`: looks at the consumer groups of a running server, publishes, moves groups;
//! what is printed as it comes is in `watch`.
//! Dead letters have a command of their own.

use std::{fmt::Write, io::Read};

use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::{Value, json, value::RawValue};

use super::{
    Verdict, grouped, print, print_json,
    remote::{Remote, RemoteArguments, segment},
    watch::{WatchArguments, watch},
};

#[derive(Args)]
pub(super) struct TopicsArguments {
    #[command(subcommand)]
    command: TopicsCommand,
    #[command(flatten)]
    server: RemoteArguments,
    /// Print one JSON object on stdout instead of the report.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum TopicsCommand {
    /// Every consumer group: how far it is, what it lacks, what is in hands, dead letters.
    List {
        /// Only those of this topic.
        topic: Option<String>,
    },
    /// One consumer group.
    Show(GroupArguments),
    /// Publish a message; it is on disk when this returns.
    Publish {
        /// The topic; it needs no making.
        topic: String,
        /// The message, as JSON; `-` reads it from stdin.
        payload: String,
        /// Messages of one key are consumed one after the other.
        #[arg(long)]
        key: Option<String>,
        /// Publish it so much later, in milliseconds.
        #[arg(long, value_name = "MS")]
        delay_ms: Option<u64>,
        /// The same key with the same message publishes it once, however often this is run.
        #[arg(long, value_name = "KEY")]
        idempotency_key: Option<String>,
    },
    /// Print the messages of a topic as they come; with --json a line of JSON for each.
    Watch(WatchArguments),
    /// Hand nothing out to a group until it is resumed, over a restart as well.
    Pause(GroupArguments),
    /// End a pause.
    Resume(GroupArguments),
    /// Let a group go on elsewhere, forward or back.
    ///
    /// Messages that consumers have at that moment are acknowledged too late. What was consumed
    /// after the place is consumed again; what lies between is not, if the place is ahead.
    Seek {
        #[command(flatten)]
        group: GroupArguments,
        /// `oldest`, `now`, or a message's id, to go on after it.
        to: String,
    },
}

/// A group of consumers of a topic.
#[derive(Args)]
pub(super) struct GroupArguments {
    /// The topic.
    topic: String,
    /// The group.
    group: String,
}

impl GroupArguments {
    /// Where the server has it.
    pub(super) fn path(&self) -> String {
        format!("/v1/topics/{}/groups/{}", segment(&self.topic), segment(&self.group))
    }
}

/// Runs the command.
pub(super) async fn run(arguments: TopicsArguments) -> anyhow::Result<Verdict> {
    // One request after the other, on a thread that may wait.
    tokio::task::spawn_blocking(move || ask(&arguments)).await?
}

fn ask(arguments: &TopicsArguments) -> anyhow::Result<Verdict> {
    let remote = Remote::new(&arguments.server)?;
    let answer: Value = match &arguments.command {
        TopicsCommand::List { topic: None } => remote.get("/v1/groups")?,
        TopicsCommand::List { topic: Some(topic) } => {
            remote.get(&format!("/v1/topics/{}/groups", segment(topic)))?
        }
        TopicsCommand::Show(group) => remote.get(&group.path())?,
        TopicsCommand::Publish { topic, payload, key, delay_ms, idempotency_key } => {
            let path = format!("/v1/topics/{}/messages", segment(topic));
            let body = message(payload, key.as_deref(), *delay_ms)?;
            let keyed = idempotency_key.iter().map(|key| ("idempotency-key", key.as_str()));
            remote.ask_with("POST", &path, Some(body), &keyed.collect::<Vec<_>>())?
        }
        TopicsCommand::Watch(watched) => return watch(&remote, watched, arguments.json),
        TopicsCommand::Pause(group) => {
            remote.ask("POST", &format!("{}/pause", group.path()), None)?
        }
        TopicsCommand::Resume(group) => {
            remote.ask("POST", &format!("{}/resume", group.path()), None)?
        }
        TopicsCommand::Seek { group, to } => {
            let body = json!({"to": to}).to_string();
            remote.ask("POST", &format!("{}/seek", group.path()), Some(body))?
        }
    };
    if arguments.json {
        print_json(&answer)?;
    } else {
        print(&readable(&answer)?)?;
    }
    Ok(Verdict::Good)
}

/// With the payload as it was typed.
fn message(payload: &str, key: Option<&str>, delay_ms: Option<u64>) -> anyhow::Result<String> {
    let mut typed = String::new();
    let payload = match payload {
        "-" => {
            std::io::stdin().read_to_string(&mut typed).context("stdin")?;
            typed.as_str()
        }
        payload => payload,
    };
    let hint = "the payload is no JSON; a text needs quotes of its own: '\"like this\"'";
    let payload: &RawValue = serde_json::from_str(payload).context(hint)?;
    #[derive(serde::Serialize)]
    struct Message<'a> {
        payload: &'a RawValue,
        key: Option<&'a str>,
        delay_ms: Option<u64>,
    }
    Ok(serde_json::to_string(&Message { payload, key, delay_ms })?)
}

fn readable(answer: &Value) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    if let Some(groups) = answer["groups"].as_array() {
        if groups.is_empty() {
            writeln!(text, "no consumer groups")?;
        }
        groups.iter().try_for_each(|group| describe(&mut text, group))?;
    } else if answer["group"].is_string() {
        describe(&mut text, answer)?;
    } else {
        let (topic, number) = (plain(&answer["topic"]), count(&answer["number"]));
        writeln!(
            text,
            "published to {topic} as number {number}, due {}",
            plain(&answer["due_at"])
        )?;
    }
    Ok(text)
}

/// A group in some lines.
fn describe(text: &mut String, group: &Value) -> std::fmt::Result {
    let paused = if group["paused"] == true { "  PAUSED" } else { "" };
    writeln!(text, "{}/{}{paused}", plain(&group["topic"]), plain(&group["group"]))?;
    let position = plain(&group["position"]);
    writeln!(text, "{:>20}  {position}; {} done", "position", count(&group["done"]))?;
    let open = &group["open"];
    if open.is_null() {
        writeln!(text, "{:>20}  unknown: nobody has asked for the group lately", "lag")?;
    } else {
        let least = if open["lag_is_exact"] == true { "" } else { "at least " };
        let (lag, leased) = (count(&open["lag"]), count(&open["leased"]));
        writeln!(text, "{:>20}  {least}{lag} messages, {leased} of them in hands", "lag")?;
        if let Some(oldest) = open["oldest_at"].as_str() {
            writeln!(text, "{:>20}  published {oldest}", "oldest")?;
        }
    }
    writeln!(text, "{:>20}  {}", "dead letters", count(&group["dead_letters"]))
}

fn count(number: &Value) -> String {
    number.as_u64().map_or_else(|| "?".to_owned(), grouped)
}

/// A text as it is, anything else as JSON.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_are_sent_as_typed_and_only_json_is() {
        let sent = message(r#"{"b": 1.00, "a": 2}"#, Some("k"), None).unwrap();
        assert_eq!(sent, r#"{"payload":{"b": 1.00, "a": 2},"key":"k","delay_ms":null}"#);
        let error = message("hello", None, None).unwrap_err().to_string();
        assert!(error.contains("quotes"), "{error}");
    }
}
