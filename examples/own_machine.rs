//! A durable, sharded, supervised actor of your own, with the public API only: a queue at the door
//! that gives out numbers. Its rules are one pure machine; journal, batching, snapshots, recovery,
//! supervision and back-pressure come with Tidegate.
//!
//! `cargo run --example own_machine`

use std::{collections::BTreeMap, convert::Infallible};

use serde::{Deserialize, Serialize};
use tidegate::{
    Tidegate,
    machine::{Answer, Decision, Durable, Kind, Machine, Timestamp, shard_of},
};

/// The doors of some halls, each with its queue.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Doors {
    /// Guests of each hall, in the order in which they came.
    queues: BTreeMap<String, Vec<String>>,
}

enum Command {
    /// Queue up. Again, it gives the number given before.
    QueueUp { hall: String, guest: String },
    /// How many have queued up?
    Count { hall: String },
}

#[derive(Serialize, Deserialize)]
enum Event {
    QueuedUp { hall: String, guest: String, at: Timestamp },
}

#[derive(Clone, Debug, PartialEq)]
enum Refusal {
    Full,
}

const HALL_GUESTS_MAX: usize = 3;

impl Machine for Doors {
    type Command = Command;
    type Event = Event;
    type Reply = usize;
    type Rejection = Refusal;
    type Effect = Infallible;

    fn decide(&self, command: &Command, now: Timestamp) -> Result<Decision<Self>, Refusal> {
        match command {
            Command::Count { hall } => {
                Ok(Decision::reply(self.queues.get(hall).map_or(0, Vec::len)))
            }
            Command::QueueUp { hall, guest } => {
                let queue = self.queues.get(hall).map_or(&[][..], Vec::as_slice);
                if let Some(before) = queue.iter().position(|queued| queued == guest) {
                    return Ok(Decision::reply(before + 1));
                }
                if queue.len() == HALL_GUESTS_MAX {
                    return Err(Refusal::Full);
                }
                let number = queue.len() + 1;
                let (hall, guest) = (hall.clone(), guest.clone());
                let event = Event::QueuedUp { hall, guest, at: now };
                Ok(Decision::event(event).answered(Answer::Now(number)))
            }
        }
    }

    fn apply(&mut self, event: &Event) {
        let Event::QueuedUp { hall, guest, .. } = event;
        self.queues.entry(hall.clone()).or_default().push(guest.clone());
    }

    fn outstanding(&self) -> Vec<Infallible> {
        Vec::new()
    }
}

impl Durable for Doors {
    const KIND: Kind = Kind::FIRST_FREE;
    const NAME: &'static str = "doors";
}

const SHARDS: u16 = 2;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    for run in 1..=2 {
        // The second run finds what the first one has left.
        let builder = Tidegate::builder(folder.path());
        let gate = builder.machine(SHARDS, |_shard| Doors::default()).open().await?;
        let doors = gate.shards_of::<Doors>().ok_or("no doors")?;
        let home = |hall: &str| shard_of(hall.as_bytes(), SHARDS);

        for guest in ["ada", "bob", "cleo", "dan"] {
            let command = Command::QueueUp { hall: "north".into(), guest: guest.into() };
            match doors.ask(home("north"), command).await {
                Ok(number) => println!("run {run}: {guest} is number {number}"),
                Err(error) => println!("run {run}: {guest} must go home: {:?}", error.rejection()),
            }
        }
        let count = doors.ask(home("north"), Command::Count { hall: "north".into() }).await;
        assert_eq!(count.ok(), Some(HALL_GUESTS_MAX));
        gate.close().await?;
    }
    Ok(())
}
