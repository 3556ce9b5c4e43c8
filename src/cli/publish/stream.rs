//! Publishes the events of standard input, in their order, one request at a time.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use bytes::Bytes;
use reqwest::StatusCode;
use tokio::sync::mpsc::Receiver;

use crate::bus::topic::TopicName;
use crate::cli::connect::{Answer, Bus};
use crate::cli::publish::chunk::Chunk;
use crate::cli::publish::lines::{self, Line, LineError};
use crate::cli::publish::path;
use crate::cli::publish::progress::Progress;
use crate::cli::refusals::{may_pass, refusal};
use crate::cli::trouble::Trouble;
use crate::note;

/// How long the first event of a chunk waits for others, so that a slow source is not held up.
const GATHER_FOR: Duration = Duration::from_millis(50);
/// The pause before the first try again; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Trouble that is over sooner is not worth a line.
const TOLD_AFTER: Duration = Duration::from_secs(1);

/// Publishes until the input ends.
///
/// `retry_for`: how long one chunk is tried while the bus cannot be reached or is too busy.
pub async fn publish(bus: &Bus, topic: &TopicName, retry_for: Duration) -> anyhow::Result<()> {
    if std::io::stdin().is_terminal() {
        note!("reading events from the terminal, one JSON object a line; Ctrl-D ends");
    }
    let mut sender = Sender { bus, topic, retry_for, progress: Progress::start() };
    let result = sender.send_all(&mut Lines::new(lines::from_stdin())).await;
    sender.progress.end();
    let (events, seconds) = (sender.progress.events(), sender.progress.elapsed().as_secs_f64());
    match result {
        Ok(()) => {
            super::report(&format!("published {} to `{topic}` in {seconds:.1} s", count(events)))
        }
        Err(error) => {
            Err(error.context(format!("published {} to `{topic}`, then stopped", count(events))))
        }
    }
}

fn count(events: u64) -> String {
    if events == 1 { "1 event".into() } else { format!("{events} events") }
}

/// The input, with one place for a line that did not fit into a chunk any more.
struct Lines {
    receiver: Receiver<Result<Line, LineError>>,
    put_back: Option<Line>,
    /// Why the input ended early; reported once the lines before are published.
    failure: Option<LineError>,
}

impl Lines {
    fn new(receiver: Receiver<Result<Line, LineError>>) -> Self {
        Self { receiver, put_back: None, failure: None }
    }

    async fn next(&mut self) -> Option<Line> {
        if let Some(line) = self.put_back.take() {
            return Some(line);
        }
        if self.failure.is_some() {
            return None;
        }
        match self.receiver.recv().await? {
            Ok(line) => Some(line),
            Err(failure) => {
                self.failure = Some(failure);
                None
            }
        }
    }

    /// Waits for a line and gathers what follows it closely. Empty at the end of the input.
    async fn next_chunk(&mut self) -> Chunk {
        let mut chunk = Chunk::default();
        let mut deadline = None;
        while !chunk.is_full() {
            let line = match deadline {
                None => self.next().await,
                // Nothing is lost when the time is over: a line is taken out of the channel or
                // stays in it.
                Some(at) => tokio::time::timeout_at(at, self.next()).await.unwrap_or(None),
            };
            let Some(line) = line else { break };
            deadline.get_or_insert_with(|| tokio::time::Instant::now() + GATHER_FOR);
            if let Err(line) = chunk.push(line) {
                self.put_back = Some(line);
                break;
            }
        }
        chunk
    }
}

struct Sender<'a> {
    bus: &'a Bus,
    topic: &'a TopicName,
    retry_for: Duration,
    progress: Progress,
}

impl Sender<'_> {
    async fn send_all(&mut self, lines: &mut Lines) -> anyhow::Result<()> {
        loop {
            let chunk = lines.next_chunk().await;
            if chunk.is_empty() {
                return lines.failure.take().map_or(Ok(()), |failure| Err(failure.into()));
            }
            self.send(chunk).await?;
        }
    }

    /// Publishes a chunk; one that holds a bad event up to that event.
    async fn send(&mut self, mut chunk: Chunk) -> anyhow::Result<()> {
        let answer = self.send_patiently(chunk.to_json()).await;
        let answer = answer.map_err(|trouble| unsure(trouble, &chunk))?;
        if answer.status.is_success() {
            self.progress.accepted(chunk.len());
            return Ok(());
        }
        let whole = answer.reason();
        if answer.status == StatusCode::BAD_REQUEST
            && let Some((number, reason)) = chunk.cut_at_refused(&whole)
        {
            // The bus stored nothing of the chunk, and found nothing wrong before this event.
            if !chunk.is_empty() {
                Box::pin(self.send(chunk)).await?;
            }
            return Err(anyhow!("line {number}: {reason}"));
        }
        let error = refusal(self.bus, &answer, Some(self.topic.as_str()));
        match answer.status {
            // Not about these lines, but about all of them.
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(error),
            _ => Err(error.context(chunk.lines())),
        }
    }

    /// Sends until the bus accepts or refuses, or the time is over.
    async fn send_patiently(&mut self, body: Bytes) -> Result<Answer, Trouble> {
        let start = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            let result = self.bus.post(&path(self.topic), body.clone()).await;
            if !may_pass(&result) {
                return result;
            }
            let left = self.retry_for.saturating_sub(start.elapsed());
            let asked = result.as_ref().ok().and_then(Answer::retry_after);
            // The last try comes when the time is over, unless the bus says that it is no use.
            let this_pause = asked.unwrap_or(pause.min(left));
            if left.is_zero() || this_pause > left {
                return result;
            }
            if start.elapsed() + this_pause > TOLD_AFTER {
                let why = match &result {
                    Ok(answer) => {
                        let (status, reason) = (answer.status.as_u16(), answer.reason());
                        format!("the bus cannot take events now ({status}: {reason})")
                    }
                    Err(trouble) => trouble.to_string(),
                };
                let seconds = self.retry_for.as_secs();
                self.progress.note(format!("{why}; trying for up to {seconds} s"));
            }
            tokio::time::sleep(this_pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// Says of a request without an answer what became of its events, if that is not known.
fn unsure(trouble: Trouble, chunk: &Chunk) -> anyhow::Error {
    let maybe_stored = matches!(trouble, Trouble::TimedOut { .. } | Trouble::Lost { .. });
    let error = anyhow::Error::from(trouble);
    if !maybe_stored {
        return error;
    }
    error.context(format!("{} may be published or not", chunk.lines()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(all: Vec<Result<Line, LineError>>) -> Lines {
        let (sender, receiver) = tokio::sync::mpsc::channel(1000);
        all.into_iter().for_each(|line| sender.try_send(line).unwrap());
        Lines::new(receiver)
    }

    fn line(number: u64, length: usize) -> Result<Line, LineError> {
        Ok(Line { number, json: vec![b'x'; length] })
    }

    #[tokio::test]
    async fn lines_are_chunked_in_order_and_none_is_left_out() {
        let mut lines = lines((1..=250).map(|number| line(number, 10_000)).collect());
        let mut next = 1;
        loop {
            let chunk = lines.next_chunk().await;
            if chunk.is_empty() {
                break;
            }
            let (first, last) = chunk.range();
            assert_eq!(first, next);
            assert!(chunk.to_json().len() < 512 * 1024);
            next = last + 1;
        }
        assert_eq!(next, 251);
    }

    #[tokio::test]
    async fn what_stands_before_a_bad_line_comes_first() {
        let bad = Err(LineError::Bad { number: 2, reason: "bad".into() });
        let mut lines = lines(vec![line(1, 2), bad, line(3, 2)]);
        assert_eq!(lines.next_chunk().await.range(), (1, 1));
        assert!(lines.failure.is_some());
        assert!(lines.next_chunk().await.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_source_is_not_held_up() {
        let (sender, receiver) = tokio::sync::mpsc::channel(10);
        let mut lines = Lines::new(receiver);
        sender.send(line(1, 2)).await.unwrap();
        assert_eq!(lines.next_chunk().await.len(), 1);
        sender.send(line(2, 2)).await.unwrap();
        assert_eq!(lines.next_chunk().await.range(), (2, 2));
    }
}
