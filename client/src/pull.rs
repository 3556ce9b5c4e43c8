//! Batches that are asked for.

use std::time::Duration;

use http::{HeaderMap, Method, StatusCode};

use crate::{Answer, Bus, Error, ReceivedEvent};

/// How a batch is asked for.
#[derive(Clone, Debug)]
pub struct Pull {
    /// How long the bus waits for an event before it answers that there is none; a minute at most. It must be shorter than
    /// what a request may take.
    pub wait: Duration,
    /// How many events it has at most, if the subscription does not allow fewer.
    pub max: Option<u32>,
    /// How long it may take until it is acknowledged, before it is given out again.
    pub lease: Option<Duration>,
}

impl Default for Pull {
    fn default() -> Self {
        Self { wait: Duration::from_secs(20), max: None, lease: None }
    }
}

/// Some events of a queue, in its order.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Its `Webhook-Id`, by which it is acknowledged; the same whenever it is given out.
    pub id: String,
    /// How often it was given out, from 1.
    pub attempt: u32,
    pub headers: HeaderMap,
    /// A JSON array, or what the subscription's format says.
    pub body: Vec<u8>,
}

impl Batch {
    fn of(answer: Answer) -> Result<Self, Error> {
        let header = |name| answer.headers.get(name).and_then(|value| value.to_str().ok());
        let id = header("webhook-id").map(str::to_owned);
        let id = id.ok_or_else(|| Error::Misunderstood("the batch has no `Webhook-Id`".into()))?;
        let attempt = header("routemaster-attempt").and_then(|attempt| attempt.parse().ok());
        Ok(Self { id, attempt: attempt.unwrap_or(1), headers: answer.headers, body: answer.body })
    }

    /// Its events, if they come in the bus's own format.
    ///
    /// # Errors
    /// If they do not.
    pub fn events(&self) -> Result<Vec<ReceivedEvent>, Error> {
        serde_json::from_slice(&self.body).map_err(|error| Error::Misunderstood(error.to_string()))
    }
}

/// The batches of the client's own subscription, one after the other. A batch that is not acknowledged comes again.
#[derive(Debug)]
pub struct Batches {
    bus: Bus,
    pull: Pull,
    /// What the next request acknowledges.
    done: Option<String>,
}

impl Batches {
    /// Asks a bus for batches in a way of its own.
    pub fn new(bus: Bus, pull: Pull) -> Self {
        Self { bus, pull, done: None }
    }

    /// The next batch, waited for until there is one.
    ///
    /// # Errors
    /// As [`Batches::ask`].
    pub async fn next(&mut self) -> Result<Batch, Error> {
        loop {
            if let Some(batch) = self.ask().await? {
                return Ok(batch);
            }
        }
    }

    /// The next batch, if there is one within [`Pull::wait`]. What was said to be done is acknowledged in the same step.
    ///
    /// # Errors
    /// If the bus does not answer or refuses: with `409` while a batch is out somewhere, which [`Error::may_pass`] does not
    /// know of, because it may be for long.
    pub async fn ask(&mut self) -> Result<Option<Batch>, Error> {
        let mut path = format!("/subscription/batch?wait={}", self.pull.wait.as_millis());
        if let Some(max) = self.pull.max {
            path.push_str(&format!("&max={max}"));
        }
        if let Some(lease) = self.pull.lease {
            path.push_str(&format!("&lease={}", lease.as_millis()));
        }
        if let Some(done) = &self.done {
            path.push_str(&format!("&ack={done}"));
        }
        let answer = self.bus.send(Method::POST, &path, None).await?;
        match answer.status {
            StatusCode::OK => {
                self.done = None;
                Batch::of(answer).map(Some)
            }
            StatusCode::NO_CONTENT => {
                self.done = None;
                Ok(None)
            }
            // It was acknowledged before, or its lease was another's by then: it comes again.
            StatusCode::GONE if self.done.take().is_some() => Ok(None),
            _ => Err(Error::Refused(Box::new(answer))),
        }
    }

    /// Says that a batch is done: the next request tells the bus. [`Batches::end`] does so if there is none.
    pub fn acknowledge(&mut self, batch: &Batch) {
        self.done = Some(batch.id.clone());
    }

    /// Gives a batch back: it is due again at once.
    ///
    /// # Errors
    /// If the bus does not answer or refuses; then it comes again when its lease is over.
    pub async fn release(&mut self, batch: &Batch) -> Result<(), Error> {
        let path = format!("/subscription/batch/{}/release", batch.id);
        self.bus.send(Method::POST, &path, None).await?.done().map(drop)
    }

    /// Acknowledges what is done and not told yet.
    ///
    /// # Errors
    /// If the bus does not answer or refuses; then the batch comes again.
    pub async fn end(mut self) -> Result<(), Error> {
        let Some(done) = self.done.take() else { return Ok(()) };
        let path = format!("/subscription/batch/{done}");
        self.bus.send(Method::DELETE, &path, None).await?.done().map(drop)
    }
}
