//! Messages and their deliveries.

use std::collections::{BTreeSet, HashMap, HashSet};

use async_trait::async_trait;
use bytes::Bytes;
use tokio_postgres::{Client, Row};

use super::days::{self, day_of};
use super::journal::{Conditions, pattern};
use super::link::{LinkState, PostgresHistory, Use};
use crate::bus::call::CallState;
use crate::bus::token::ClientToken;
use crate::history::{HistoryError, HistoryQuery, HistoryResult, MessageHistory};
use crate::store::{MessageDelivery, MessageRecord};

const TABLES: [&str; 2] = ["messages", "deliveries"];
const COLUMNS: &str = "number, topic_id, sender, received_ms, due_ms, content";
/// How many bytes of contents one look has at most, beyond its first message.
const BYTES_MAX: usize = 16 * 1024 * 1024;

#[async_trait]
impl MessageHistory for PostgresHistory {
    async fn add(&self, messages: Vec<MessageRecord>) -> HistoryResult<()> {
        let act = async |client: &mut Client, state: &mut LinkState<'_>| {
            let days: BTreeSet<i32> = messages.iter().map(|one| day_of(one.received_ms)).collect();
            for table in TABLES {
                state.prepare(client, table, &days).await?;
            }
            insert(client, &messages).await
        };
        self.with(Use::Write, act).await.map_err(HistoryError)
    }

    async fn find_messages(
        &self,
        query: &HistoryQuery,
        before: u64,
        limit: usize,
    ) -> HistoryResult<Vec<MessageRecord>> {
        let mut conditions = Conditions::default();
        conditions.require("number < ?", signed(before));
        if let Some(topic) = query.topic_id {
            conditions.require("topic_id = ?", signed(topic));
        }
        if let Some(since) = query.since_ms {
            conditions.require("received_ms >= ?", signed(since));
        }
        if let Some(until) = query.until_ms {
            conditions.require("received_ms < ?", signed(until));
        }
        if let Some(text) = &query.text {
            let ways: Vec<String> = text.ways().iter().map(|way| pattern(way)).collect();
            conditions.require("lower(content) LIKE ANY (?)", ways);
        }
        let of_message =
            "EXISTS (SELECT 1 FROM routemaster.deliveries WHERE message = messages.number AND";
        let state = query.state.map(CallState::as_str);
        match (query.publisher_id, state) {
            (Some(publisher), Some(state)) => {
                let condition = format!("{of_message} publisher = ? AND state = '{state}')");
                conditions.require(&condition, signed(publisher));
            }
            (Some(publisher), None) => {
                conditions.require(&format!("{of_message} publisher = ?)"), signed(publisher));
            }
            (None, Some(state)) => conditions.require(&format!("{of_message} state = ?)"), state),
            (None, None) => {}
        }
        let sql = format!(
            "SELECT {COLUMNS} FROM routemaster.messages {} ORDER BY number DESC LIMIT {limit}",
            conditions.sql()
        );
        let act = async |client: &mut Client, _: &mut LinkState<'_>| {
            with_deliveries(client, client.query(&sql, &conditions.values()).await?).await
        };
        self.with(Use::Read, act).await.map_err(HistoryError)
    }

    async fn message(&self, number: u64) -> HistoryResult<Option<MessageRecord>> {
        let sql = format!(
            "SELECT {COLUMNS} FROM routemaster.messages
             WHERE number = coalesce((SELECT message FROM routemaster.deliveries WHERE number = $1), $1)"
        );
        let act = async |client: &mut Client, _: &mut LinkState<'_>| {
            with_deliveries(client, client.query(&sql, &[&signed(number)]).await?).await
        };
        Ok(self.with(Use::Read, act).await.map_err(HistoryError)?.pop())
    }

    async fn after(
        &self,
        topic_id: u64,
        number: u64,
        limit: usize,
    ) -> HistoryResult<Vec<MessageRecord>> {
        let sql = format!(
            "SELECT {COLUMNS} FROM routemaster.messages WHERE topic_id = $1 AND number > $2
             ORDER BY number LIMIT {limit}"
        );
        let act = async |client: &mut Client, _: &mut LinkState<'_>| {
            let rows = client.query(&sql, &[&signed(topic_id), &signed(number)]).await?;
            with_deliveries(client, rows).await
        };
        self.with(Use::Write, act).await.map_err(HistoryError)
    }

    async fn erase(&self, numbers: &[u64]) -> HistoryResult<Vec<bool>> {
        let signed: Vec<i64> = numbers.iter().map(|number| signed(*number)).collect();
        let act = async |client: &mut Client, _: &mut LinkState<'_>| {
            let transaction = client.transaction().await?;
            let deliveries = "DELETE FROM routemaster.deliveries WHERE message = ANY($1)";
            transaction.execute(deliveries, &[&signed]).await?;
            let messages =
                "DELETE FROM routemaster.messages WHERE number = ANY($1) RETURNING number";
            let gone = transaction.query(messages, &[&signed]).await?;
            transaction.commit().await?;
            gone.iter().map(|row| row.try_get::<_, i64>(0)).collect::<Result<HashSet<_>, _>>()
        };
        let gone = self.with(Use::Write, act).await.map_err(HistoryError)?;
        Ok(signed.iter().map(|number| gone.contains(number)).collect())
    }

    async fn remove_before(&self, before_ms: u64) -> HistoryResult<()> {
        let act = async |client: &mut Client, state: &mut LinkState<'_>| {
            for table in TABLES {
                days::drop_before(client, table, day_of(before_ms)).await?;
            }
            state.forget_parts();
            Ok(())
        };
        self.with(Use::Write, act).await.map_err(HistoryError)
    }

    async fn ping(&self) -> HistoryResult<()> {
        let act = async |client: &mut Client, _: &mut LinkState<'_>| {
            client.execute("SELECT 1", &[]).await.map(drop)
        };
        self.with(Use::Read, act).await.map_err(HistoryError)
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

async fn insert(
    client: &mut Client,
    messages: &[MessageRecord],
) -> Result<(), tokio_postgres::Error> {
    fn column<T>(messages: &[MessageRecord], of: impl Fn(&MessageRecord) -> T) -> Vec<T> {
        messages.iter().map(of).collect()
    }
    let deliveries: Vec<(&MessageRecord, &MessageDelivery)> = messages
        .iter()
        .flat_map(|message| message.deliveries.iter().map(move |delivery| (message, delivery)))
        .collect();
    fn of_each<T>(
        deliveries: &[(&MessageRecord, &MessageDelivery)],
        of: impl Fn(&MessageDelivery) -> T,
    ) -> Vec<T> {
        deliveries.iter().map(|(_, delivery)| of(delivery)).collect()
    }
    let transaction = client.transaction().await?;
    let kept = "
        INSERT INTO routemaster.messages (day, number, topic_id, sender, received_ms, due_ms, content)
        SELECT * FROM unnest($1::integer[], $2::bigint[], $3::bigint[], $4::text[], $5::bigint[], $6::bigint[],
            $7::text[])
        ON CONFLICT DO NOTHING";
    transaction
        .execute(
            kept,
            &[
                &column(messages, |one| day_of(one.received_ms)),
                &column(messages, |one| signed(one.number)),
                &column(messages, |one| signed(one.topic_id)),
                &column(messages, |one| one.sender.reveal().to_owned()),
                &column(messages, |one| signed(one.received_ms)),
                &column(messages, |one| signed(one.due_ms)),
                &column(messages, |one| String::from_utf8_lossy(&one.content).into_owned()),
            ],
        )
        .await?;
    let kept = "
        INSERT INTO routemaster.deliveries (day, message, number, publisher, state, attempts, ended_ms, status,
            reason)
        SELECT * FROM unnest($1::integer[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[], $6::bigint[],
            $7::bigint[], $8::integer[], $9::text[])
        ON CONFLICT (number, day) DO UPDATE SET state = excluded.state, attempts = excluded.attempts,
            ended_ms = excluded.ended_ms, status = excluded.status, reason = excluded.reason";
    let day: Vec<i32> = deliveries.iter().map(|(one, _)| day_of(one.received_ms)).collect();
    let message: Vec<i64> = deliveries.iter().map(|(one, _)| signed(one.number)).collect();
    transaction
        .execute(
            kept,
            &[
                &day,
                &message,
                &of_each(&deliveries, |one| signed(one.number)),
                &of_each(&deliveries, |one| signed(one.publisher_id)),
                &of_each(&deliveries, |one| one.state.as_str()),
                &of_each(&deliveries, |one| i64::from(one.attempts)),
                &of_each(&deliveries, |one| one.ended_ms.map(signed)),
                &of_each(&deliveries, |one| one.status.map(i32::from)),
                &of_each(&deliveries, |one| one.reason.replace('\0', "\u{fffd}")),
            ],
        )
        .await?;
    transaction.commit().await
}

/// The messages of these rows, in their order, as far as they are not too much at once.
async fn with_deliveries(
    client: &Client,
    rows: Vec<Row>,
) -> Result<Vec<MessageRecord>, tokio_postgres::Error> {
    let (mut messages, mut bytes) = (Vec::with_capacity(rows.len()), 0);
    for row in &rows {
        let unsigned = |index: usize| row.try_get::<_, i64>(index).map(|number| number as u64);
        let content: String = row.try_get(5)?;
        bytes += content.len();
        if bytes > BYTES_MAX && !messages.is_empty() {
            break;
        }
        messages.push(MessageRecord {
            number: unsigned(0)?,
            topic_id: unsigned(1)?,
            sender: ClientToken::from_stored(row.try_get(2)?),
            received_ms: unsigned(3)?,
            due_ms: unsigned(4)?,
            content: Bytes::from(content),
            deliveries: Vec::new(),
        });
    }
    let numbers: Vec<i64> = messages.iter().map(|message| signed(message.number)).collect();
    let of = "SELECT message, number, publisher, state, attempts, ended_ms, status, reason
              FROM routemaster.deliveries WHERE message = ANY($1) ORDER BY number";
    let mut deliveries: HashMap<u64, Vec<MessageDelivery>> = HashMap::new();
    for row in client.query(of, &[&numbers]).await? {
        let unsigned = |index: usize| row.try_get::<_, i64>(index).map(|number| number as u64);
        let state: &str = row.try_get(3)?;
        deliveries.entry(unsigned(0)?).or_default().push(MessageDelivery {
            number: unsigned(1)?,
            publisher_id: unsigned(2)?,
            state: CallState::parse(state).unwrap_or(CallState::Done),
            attempts: unsigned(4)? as u32,
            due_ms: None,
            ended_ms: row.try_get::<_, Option<i64>>(5)?.map(|ms| ms as u64),
            status: row.try_get::<_, Option<i32>>(6)?.map(|status| status as u16),
            reason: row.try_get(7)?,
        });
    }
    for message in &mut messages {
        message.deliveries = deliveries.remove(&message.number).unwrap_or_default();
    }
    Ok(messages)
}
