//! `tidegate dead-letters`: what groups of a running server have given up, to be looked at, tried
//! again or forgotten. It decides nothing about a message by itself.

use std::fmt::Write;

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

use super::{
    Verdict, print, print_json,
    remote::{Remote, RemoteArguments, segment},
    topics::GroupArguments,
};

/// Most dead letters that a server gives at a time.
const PAGE: usize = 100;

/// Characters of a cause in a list.
const CAUSE_CHARS: usize = 120;

#[derive(Args)]
pub(super) struct DeadLettersArguments {
    #[command(subcommand)]
    command: DeadLettersCommand,
    #[command(flatten)]
    server: RemoteArguments,
    /// Print one JSON object on stdout instead of the report.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum DeadLettersCommand {
    /// A group's dead letters: when they were given up, how often they were tried, why they failed.
    List(GroupArguments),
    /// One dead letter, with its payload.
    Show {
        #[command(flatten)]
        group: GroupArguments,
        /// The message's id.
        id: String,
    },
    /// Try dead letters again, from the first attempt on: when what they failed of is mended.
    Replay(ChoiceArguments),
    /// Forget dead letters, for good.
    Discard(ChoiceArguments),
}

#[derive(Args)]
struct ChoiceArguments {
    #[command(flatten)]
    group: GroupArguments,
    /// The messages' ids.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    ids: Vec<String>,
    /// All dead letters of the group.
    #[arg(long)]
    all: bool,
}

/// Runs the command.
pub(super) async fn run(arguments: DeadLettersArguments) -> anyhow::Result<Verdict> {
    // One request after the other, on a thread that may wait.
    tokio::task::spawn_blocking(move || ask(&arguments)).await?
}

fn ask(arguments: &DeadLettersArguments) -> anyhow::Result<Verdict> {
    let remote = Remote::new(&arguments.server)?;
    match &arguments.command {
        DeadLettersCommand::List(group) => {
            let dead_letters = list(&remote, group)?;
            let lines =
                dead_letters.iter().map(|dead| line(dead)).collect::<Result<String, _>>()?;
            let next_cursor = None;
            arguments.tell(&Page { dead_letters, next_cursor }, &lines)?;
        }
        DeadLettersCommand::Show { group, id } => {
            let dead: Dead = remote.get(&path(group, id))?;
            arguments.tell(&dead, &readable(&dead)?)?;
        }
        DeadLettersCommand::Replay(choice) => {
            let replayed = each(&remote, choice, "POST", "/replay")?;
            let text = format!("{} to be tried again\n", replayed.len());
            arguments.tell(&serde_json::json!({"replayed": replayed}), &text)?;
        }
        DeadLettersCommand::Discard(choice) => {
            let discarded = each(&remote, choice, "DELETE", "")?;
            let text = format!("{} forgotten\n", discarded.len());
            arguments.tell(&serde_json::json!({"discarded": discarded}), &text)?;
        }
    }
    Ok(Verdict::Good)
}

impl DeadLettersArguments {
    fn tell(&self, answer: &impl Serialize, text: &str) -> anyhow::Result<()> {
        if self.json {
            return print_json(answer);
        }
        print(text)
    }
}

/// Some dead letters, each as the server wrote it: a payload keeps every digit.
#[derive(Deserialize, Serialize)]
struct Page {
    dead_letters: Vec<Box<RawValue>>,
    #[serde(skip_serializing)]
    next_cursor: Option<String>,
}

/// A dead letter, likewise.
#[derive(Deserialize, Serialize)]
struct Dead {
    id: String,
    number: Option<u64>,
    key: Option<String>,
    published_at: String,
    attempts: u32,
    cause: String,
    died_at: String,
    payload: Box<RawValue>,
}

fn path(group: &GroupArguments, id: &str) -> String {
    format!("{}/dead-letters/{}", group.path(), segment(id))
}

/// All of them, page by page.
fn list(remote: &Remote, group: &GroupArguments) -> anyhow::Result<Vec<Box<RawValue>>> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("{}/dead-letters?limit={PAGE}{cursor}", group.path());
        let mut page: Page = remote.get(&path)?;
        all.append(&mut page.dead_letters);
        match page.next_cursor {
            Some(next) => cursor = format!("&cursor={}", segment(&next)),
            None => return Ok(all),
        }
    }
}

/// Asks for each that was chosen, until one is refused; those before it are done then.
fn each(
    remote: &Remote,
    choice: &ChoiceArguments,
    method: &str,
    what: &str,
) -> anyhow::Result<Vec<String>> {
    let ids = match choice.all {
        true => {
            let all = list(remote, &choice.group)?;
            all.iter().map(|dead| Ok(read(dead)?.id)).collect::<anyhow::Result<Vec<_>>>()?
        }
        false => choice.ids.clone(),
    };
    for id in &ids {
        remote.ask::<Value>(method, &format!("{}{what}", path(&choice.group, id)), None)?;
    }
    Ok(ids)
}

/// A dead letter in a line.
fn line(dead: &RawValue) -> anyhow::Result<String> {
    let Dead { id, died_at, attempts, cause, .. } = read(dead)?;
    let cause: String = cause.chars().take(CAUSE_CHARS).collect();
    let cause = cause.escape_debug();
    Ok(format!("{id:>12}  {died_at}  after {attempts} attempts: {cause}\n"))
}

fn read(dead: &RawValue) -> anyhow::Result<Dead> {
    Ok(serde_json::from_str(dead.get())?)
}

fn readable(dead: &Dead) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    writeln!(text, "{:>20}  {}", "id", dead.id)?;
    if let Some(number) = dead.number {
        writeln!(text, "{:>20}  {number}", "number")?;
    }
    if let Some(key) = &dead.key {
        writeln!(text, "{:>20}  {key}", "key")?;
    }
    writeln!(text, "{:>20}  {}", "published", dead.published_at)?;
    writeln!(text, "{:>20}  {}, after {} attempts", "given up", dead.died_at, dead.attempts)?;
    // Both are whatever others said, and must not speak to the terminal.
    writeln!(text, "{:>20}  {}", "cause", dead.cause.escape_debug())?;
    let control = |c: char| c.is_control() && c != '\n';
    writeln!(text, "{:>20}  {}", "payload", dead.payload.get().replace(control, "\u{fffd}"))?;
    Ok(text)
}
