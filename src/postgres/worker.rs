//! The worker: reaches the database, waits for its turn, and writes what the feed tells, batch by
//! batch. What goes wrong ends the connection; a new one begins where the database says it is. It
//! holds nothing back from the store and nothing over a connection.

use std::time::{Duration, Instant};

use tokio_postgres::{Client, GenericClient};

use super::{
    Error, Figures, Options, Phase,
    fold::{Rows, order_of, places_of},
    load,
    rows::{Statements, time},
    schema,
};
use crate::{Event, EventData, Feed, FeedError, Position, Sku, Tidegate};

/// The advisory lock of the database's one worker: "tidegate" as a number.
pub(super) const LOCK: i64 = 0x7469_6465_6761_7465;

/// How often a worker that waits tries to take over.
const TURN_EVERY: Duration = Duration::from_secs(1);

/// How often a worker with nothing to write notes how far it is.
const NOTE_EVERY: Duration = Duration::from_secs(1);

/// How often one that is no further says that it is still there.
const ALIVE_EVERY: Duration = Duration::from_secs(10);

/// The first pause after a failure; each further one is twice as long.
const PAUSE_MIN: Duration = Duration::from_millis(100);

/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Keeps one database up to date with one store. Of several, one works and the others wait.
pub struct Worker {
    options: Options,
    figures: Figures,
}

impl Worker {
    /// A worker for the database in `options`. It does nothing until it runs.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self { options, figures: Figures::new() }
    }

    /// Where its figures can be read while it runs.
    #[must_use]
    pub fn figures(&self) -> Figures {
        self.figures.clone()
    }

    /// Follows `gate` until it is closed; then everything that is on disk has been written, unless
    /// the database could not be reached. Meets outages by trying again. Dropping the future ends
    /// it at once and loses nothing: the next one goes on where the database is. It holds a handle
    /// of the store, so dropping all others does not stop the store.
    ///
    /// # Errors
    /// [`Error`], one of those that trying again does not mend ([`Error::is_final`]).
    pub async fn run(self, gate: Tidegate) -> Result<(), Error> {
        let Self { options, figures } = self;
        figures.begin(gate.events());
        let mut session = Session { options, figures, gate, load: false, pause: PAUSE_MIN };
        let ended = session.try_until_closed().await;
        session.figures.phase(Phase::Ended);
        ended
    }
}

/// What lasts over connections.
struct Session {
    options: Options,
    figures: Figures,
    gate: Tidegate,
    /// Whether everything is to be written anew.
    load: bool,
    pause: Duration,
}

impl Session {
    async fn try_until_closed(&mut self) -> Result<(), Error> {
        loop {
            let error = match self.connected().await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            self.figures.failed(&error);
            if error.is_final() {
                return Err(error);
            }
            self.load |= error.wants_load();
            let luck = self.pause.mul_f64(0.5 + fastrand::f64() / 2.0);
            self.pause = (self.pause * 2).min(PAUSE_MAX);
            tokio::select! {
                () = tokio::time::sleep(luck) => {}
                () = self.gate.events().closed() => return Ok(()),
            }
        }
    }

    /// One connection, until it or the store ends.
    async fn connected(&mut self) -> Result<(), Error> {
        let mut client = tokio::select! {
            client = self.options.address.connect() => client?,
            () = self.gate.events().closed() => return Ok(()),
        };
        if !self.wait_for_turn(&client).await? {
            return Ok(());
        }
        schema::migrate(&mut client).await?;
        let statements = Statements::prepare(&client).await?;
        let found = self.claim(&client).await?;
        found.into_iter().for_each(|position| self.figures.found(position));
        let position = match found.filter(|_| !self.load) {
            Some(position) => position,
            None => {
                self.figures.phase(Phase::Loading);
                let position = load::load(&mut client, &statements, &self.gate, found).await?;
                self.figures.loaded();
                tracing::info!(%position, "everything was written to PostgreSQL anew");
                position
            }
        };
        self.load = false;
        self.figures.moved(position, 0);
        self.figures.phase(Phase::Following);
        self.follow(&mut client, &statements, position).await
    }

    /// Waits until no other worker is at work; false if the store is closed first.
    async fn wait_for_turn(&self, client: &Client) -> Result<bool, Error> {
        let mut told = false;
        loop {
            let lock = "select pg_try_advisory_lock($1)";
            if client.query_one(lock, &[&LOCK]).await?.get(0) {
                return Ok(true);
            }
            self.figures.phase(Phase::Waiting);
            if !told {
                tracing::info!("another worker writes to PostgreSQL; this one waits for its turn");
                told = true;
            }
            tokio::select! {
                () = tokio::time::sleep(TURN_EVERY) => {}
                () = self.gate.events().closed() => return Ok(false),
            }
        }
    }

    /// Where the database is; `None` if everything is to be loaded. A new one begins with the
    /// journal, if that is whole.
    async fn claim(&self, client: &Client) -> Result<Option<Position>, Error> {
        let report = self.gate.report();
        let whole = report.oldest <= Position::ZERO.next();
        let begin = whole.then_some(0_i64);
        let insert = "insert into tidegate.sync (store_id, position) values ($1, $2) \
                      on conflict do nothing";
        client.execute(insert, &[&self.gate.id(), &begin]).await?;
        let select = "select store_id, position from tidegate.sync";
        let row = client.query_one(select, &[]).await?;
        let (theirs, position): (String, Option<i64>) = (row.get(0), row.get(1));
        if theirs != self.gate.id() {
            return Err(Error::OtherStore { ours: self.gate.id().to_owned(), theirs });
        }
        let position = position.map(|position| Position(position.max(0).unsigned_abs()));
        let ours = self.gate.events().durable();
        match position.filter(|theirs| *theirs > ours) {
            Some(theirs) => Err(Error::Ahead { ours, theirs }),
            None => Ok(position),
        }
    }

    /// Writes what happens after `position`, until the store is closed.
    async fn follow(
        &mut self,
        client: &mut Client,
        statements: &Statements,
        mut position: Position,
    ) -> Result<(), Error> {
        // It gathers a batch anyway.
        let mut feed = self.gate.events().after(position).patient();
        let mut noted = Instant::now();
        loop {
            let Gathered { events, closed } = gather(&mut feed, &self.options).await?;
            let place = feed.cursor().position;
            if !events.is_empty() {
                let batch = client.transaction().await?;
                let rows = rows_of(&batch, statements, &events, Position::ZERO).await?;
                let rows = priced(rows, &self.gate).await?;
                statements.write(&batch, &rows).await?;
                let at = events.last().map(|event| time(event.at));
                let store = self.gate.events().durable();
                statements.move_on(&batch, Some(position), place, at, store).await?;
                batch.commit().await?;
            } else if place > position || noted.elapsed() >= ALIVE_EVERY {
                let store = self.gate.events().durable();
                statements.move_on(&*client, Some(position), place, None, store).await?;
            }
            if !events.is_empty() || place > position || noted.elapsed() >= ALIVE_EVERY {
                noted = Instant::now();
                (position, self.pause) = (place, PAUSE_MIN);
                self.figures.moved(position, events.len());
            }
            if closed {
                return Ok(());
            }
        }
    }
}

/// Events for one transaction.
struct Gathered {
    /// Whole records.
    events: Vec<Event>,
    closed: bool,
}

/// Waits for events, but not for ever: what is no event moves the cursor too.
async fn gather(feed: &mut Feed, options: &Options) -> Result<Gathered, Error> {
    let mut gathered = Gathered { events: Vec::new(), closed: false };
    let mut wait = NOTE_EVERY;
    let mut begun = Instant::now();
    while let Ok(next) = tokio::time::timeout(wait, feed.next()).await {
        match next {
            Ok(event) => {
                if gathered.events.is_empty() {
                    begun = Instant::now();
                }
                let record_ends = event.cursor().within.is_none();
                gathered.events.push(event);
                let full = gathered.events.len() >= options.batch_events_max;
                if record_ends && (full || begun.elapsed() >= options.batch_wait) {
                    break;
                }
                // The rest of a record is there already.
                wait = if record_ends { options.batch_wait } else { NOTE_EVERY };
            }
            Err(FeedError::Closed) => {
                gathered.closed = true;
                break;
            }
            // What was read before an error is whole; the error comes again.
            Err(_) if !gathered.events.is_empty() => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(gathered)
}

/// The rows that `events` touch, as they are after them.
pub(super) async fn rows_of(
    client: &impl GenericClient,
    statements: &Statements,
    events: &[Event],
    loaded: Position,
) -> Result<Rows, Error> {
    let mut rows = Rows { loaded, ..Rows::default() };
    let mut orders: Vec<_> = events.iter().filter_map(|event| order_of(&event.data)).collect();
    let mut holds: Vec<_> = events.iter().filter_map(|event| event.data.hold()).collect();
    let skus = events.iter().filter_map(|event| match &event.data {
        EventData::StockDefined { sku, .. } => Some(sku.clone()),
        _ => None,
    });
    let mut skus: Vec<Sku> = skus.collect();
    orders.sort_unstable();
    orders.dedup();
    holds.sort_unstable();
    holds.dedup();
    skus.sort_unstable();
    skus.dedup();
    (rows.orders, rows.holds) = tokio::try_join!(
        statements.read_orders(client, &orders),
        statements.read_holds(client, &holds)
    )?;
    let mut places: Vec<_> = events.iter().flat_map(|event| places_of(&event.data)).collect();
    // What is released or sold is named by the order or the hold alone.
    let lines = rows.orders.values().flat_map(|order| &order.lines);
    places.extend(lines.map(|line| (line.sku.clone(), line.location.clone())));
    let held = rows.holds.values().map(|hold| &hold.line);
    places.extend(held.map(|line| (line.sku.clone(), line.location.clone())));
    places.sort_unstable();
    places.dedup();
    (rows.skus, rows.stock) = tokio::try_join!(
        statements.read_skus(client, &skus),
        statements.read_stock(client, &places)
    )?;
    events.iter().try_for_each(|event| rows.fold(event))?;
    Ok(rows)
}

/// Asks the store for amounts that the events did not tell, because its worker came in between:
/// once an order is accepted they never change.
pub(super) async fn priced(mut rows: Rows, gate: &Tidegate) -> Result<Rows, Error> {
    for id in std::mem::take(&mut rows.unpriced) {
        let order = gate.orders().get(id).await;
        let order = order.map_err(|error| Error::Store(error.to_string()))?;
        if let Some(row) = rows.orders.get_mut(&id) {
            row.lines_changed = true;
            for (line, whole) in row.lines.iter_mut().zip(&order.lines) {
                line.amount_minor = whole.amount_minor;
            }
        }
    }
    Ok(rows)
}
