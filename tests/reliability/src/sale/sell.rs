//! The process that is mistreated: opens the store, lets many clients sell, and says on stdout what
//! was asked and what was answered, a line each, written at once. It never repeats a request whose
//! outcome is unknown; the check does.

use std::{io::Write, path::PathBuf, time::Duration};

use clap::Args;
use tidegate::Tidegate;
use tokio::task::JoinSet;

use super::{
    plan::Plan,
    step::{self, Done, Trouble},
    store,
};
use crate::Verdict;

/// How long a client waits after it was told that there are too many.
const BUSY_WAIT: Duration = Duration::from_millis(2);

/// What a seller does.
#[derive(Args, Clone, Debug)]
pub(crate) struct Arguments {
    /// The store's folder.
    pub(crate) folder: PathBuf,
    /// The carts are named after this.
    #[arg(long)]
    pub(crate) name: String,
    /// Clients that sell at the same time.
    #[arg(long)]
    pub(crate) clients: u64,
    /// Carts of each client.
    #[arg(long)]
    pub(crate) carts: u64,
    /// Closes the store after this time, in milliseconds; else when every cart is done.
    #[arg(long)]
    pub(crate) close_after_ms: Option<u64>,
    /// How long each client rests between two carts, in milliseconds.
    #[arg(long, default_value_t = 0)]
    pub(crate) rest_ms: u64,
    /// Takes a snapshot whenever the journal has grown by this, in KiB.
    #[arg(long, default_value_t = 256)]
    pub(crate) snapshot_every_kib: u64,
}

/// Sells until the store closes. Storage that fails is said and is no error of this process.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<Verdict> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(sell(arguments))
}

async fn sell(arguments: &Arguments) -> anyhow::Result<Verdict> {
    let every_bytes = arguments.snapshot_every_kib << 10;
    let opening = store(&arguments.folder).snapshot_every_bytes(every_bytes).open();
    let gate = match opening.await {
        Ok(gate) => gate,
        Err(error) => {
            say(&format!("failed opening: {error}"));
            return Ok(Verdict::Held);
        }
    };
    say("ready");
    match step::stock_up(&gate).await {
        Ok(()) => serve(&gate, arguments).await,
        Err(trouble) => drop(tell(&trouble)),
    }
    say("closing");
    match gate.close().await {
        Ok(()) => say("closed"),
        Err(error) => say(&format!("failed closing: {error}")),
    }
    Ok(Verdict::Held)
}

/// Lets the clients sell until they are done, or until it is time to close the store under them.
async fn serve(gate: &Tidegate, arguments: &Arguments) {
    let mut clients = JoinSet::new();
    for client in 0..arguments.clients {
        let (gate, arguments) = (gate.clone(), arguments.clone());
        clients.spawn(async move {
            for number in 0..arguments.carts {
                let name = format!("{}-{client}-{number}", arguments.name);
                if !buy(&gate, &name).await {
                    break;
                }
                if arguments.rest_ms > 0 {
                    tokio::time::sleep(Duration::from_millis(arguments.rest_ms)).await;
                }
            }
        });
    }
    let all = async { while clients.join_next().await.is_some() {} };
    match arguments.close_after_ms {
        Some(ms) => drop(tokio::time::timeout(Duration::from_millis(ms), all).await),
        None => all.await,
    }
    clients.detach_all();
}

/// Takes a cart through all its steps. False if there is no use in going on.
async fn buy(gate: &Tidegate, name: &str) -> bool {
    let plan = Plan::of(name);
    let mut order = None;
    for (number, step) in plan.steps.iter().enumerate() {
        say(&format!("ask {name} {number}"));
        let done = loop {
            match step::take(gate, name, &plan, *step, order).await {
                Err(Trouble::Busy) => tokio::time::sleep(BUSY_WAIT).await,
                other => break other,
            }
        };
        match done {
            Ok(Done::Placed(id)) => {
                order = Some(id);
                say(&format!("answer {name} {number} {id}"));
            }
            Ok(Done::Changed) => say(&format!("answer {name} {number} -")),
            Ok(Done::SoldOut) => {
                say(&format!("refused {name}"));
                return true;
            }
            Err(trouble) => return tell(&trouble),
        }
    }
    true
}

fn tell(trouble: &Trouble) -> bool {
    match trouble {
        Trouble::Busy | Trouble::Closing => {}
        Trouble::Unknown(why) => say(&format!("failed asking: {why}")),
        Trouble::Wrong(what) => say(&format!("wrong {what}")),
    }
    false
}

/// One line, in one write, so that a kill leaves it whole or away.
fn say(line: &str) {
    let line = format!("{}\n", line.replace('\n', " "));
    // Whoever listened has gone: there is nobody to tell.
    let _ = std::io::stdout().lock().write_all(line.as_bytes());
}
