//! `tidegate topics watch`: prints the messages of a topic as they come. It is no consumer: nothing
//! is acknowledged, and who runs it again says where to go on.

use std::io::{ErrorKind, Write, stdout};

use anyhow::{Context, bail};
use clap::Args;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Verdict,
    remote::{Remote, problem, segment},
};

#[derive(Args)]
pub(super) struct WatchArguments {
    /// The topic.
    topic: String,
    /// After the message with this id, or `oldest` for all that are kept. Default: only messages
    /// from now on.
    #[arg(long, value_name = "ID")]
    after: Option<String>,
    /// Stop after so many.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
}

/// A frame of server-sent events, as it comes line by line.
#[derive(Debug, Default, PartialEq)]
struct Frame {
    id: String,
    event: String,
    data: String,
}

/// What is shown of a message.
#[derive(Deserialize)]
struct Shown<'a> {
    id: String,
    key: Option<String>,
    published_at: String,
    #[serde(borrow)]
    payload: &'a RawValue,
}

/// Prints a line for each message: with `json`, the message as the server has it.
pub(super) fn watch(
    remote: &Remote,
    arguments: &WatchArguments,
    json: bool,
) -> anyhow::Result<Verdict> {
    let WatchArguments { topic, after, count } = arguments;
    let mut path = format!("/v1/topics/{}/stream", segment(topic));
    if let Some(after) = after {
        path += &format!("?after={}", segment(after));
    }
    let (mut frame, mut seen) = (Frame::default(), 0);
    for line in remote.lines(&path)? {
        let line = line.with_context(|| frame.go_on("the connection broke off"))?;
        if !frame.take(&line) {
            continue;
        }
        match frame.event.as_str() {
            "message" => {
                let shown = frame.shown(json)?;
                match stdout().write_all(shown.as_bytes()) {
                    // Who reads it has seen enough.
                    Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                        return Ok(Verdict::Good);
                    }
                    written => written.context("stdout")?,
                }
                seen += 1;
            }
            "error" => {
                let why = serde_json::from_str(&frame.data).ok().as_ref().and_then(problem);
                bail!(frame.go_on(&why.unwrap_or_else(|| "the stream has failed".to_owned())));
            }
            // It only says where to go on.
            _ => {}
        }
        if count.is_some_and(|count| seen >= count) {
            return Ok(Verdict::Good);
        }
        frame.next();
    }
    bail!(frame.go_on("the server has ended the stream"))
}

impl Frame {
    /// Takes a line in; whether the frame is whole.
    fn take(&mut self, line: &str) -> bool {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "id" => value.clone_into(&mut self.id),
            "event" => value.clone_into(&mut self.event),
            "data" => {
                if !self.data.is_empty() {
                    self.data.push('\n');
                }
                self.data.push_str(value);
            }
            // A comment, or what a later server says.
            _ => {}
        }
        line.is_empty()
    }

    /// Begins the next frame; the place stays until it says another.
    fn next(&mut self) {
        self.event.clear();
        self.data.clear();
    }

    /// A message as one line.
    fn shown(&self, json: bool) -> anyhow::Result<String> {
        // Line breaks in JSON are as good as spaces.
        let data = self.data.replace('\n', " ");
        if json {
            return Ok(data + "\n");
        }
        let said = "the server said something else than a message";
        let Shown { id, key, published_at, payload } = serde_json::from_str(&data).context(said)?;
        let key = key.map(|key| format!("{key}: ")).unwrap_or_default();
        Ok(format!("{id:>12}  {published_at}  {key}{payload}\n"))
    }

    fn go_on(&self, why: &str) -> String {
        match self.id.as_str() {
            "" => why.to_owned(),
            id => format!("{why}; go on with --after {id}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_line_by_line() {
        let mut frame = Frame::default();
        for line in ["id: 7", ": heartbeat", "event: message", "data: {\"payload\":", "data: 1,"] {
            assert!(!frame.take(line), "{line}");
        }
        frame.take(r#"data:"id": "7", "published_at": "then", "key": "ann"}"#);
        assert!(frame.take(""));
        assert_eq!(frame.shown(false).unwrap(), "           7  then  ann: 1\n");
        let json = r#"{"payload": 1, "id": "7", "published_at": "then", "key": "ann"}"#;
        assert_eq!(frame.shown(true).unwrap(), format!("{json}\n"));
        frame.next();
        assert_eq!(frame, Frame { id: "7".to_owned(), ..Frame::default() });
        assert_eq!(frame.go_on("over"), "over; go on with --after 7");
    }
}
