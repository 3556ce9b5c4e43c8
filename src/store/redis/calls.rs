//! Calls. A call is in the lane of its destination, so that its limits hold there; who asks for one by its key
//! asks all lanes.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use fred::types::Value;
use tokio::time::Instant;

use super::lanes::lane_of_text;
use super::link::Resend;
use super::message_topics;
use super::reply::Reply;
use super::{RedisStore, ms};
use crate::bus::call::{CallId, CallKind, CallState, Due};
use crate::bus::token::ClientToken;
use crate::store::calls::{
    CALL_OVERHEAD, CALLS_AT_ONCE, CLAIMED_MAX_BYTES, DESTINATIONS_SHOWN_OF, FORGOTTEN_FOR_ROOM,
};
use crate::store::{
    Acceptance, Accepted, Alarm, CLOCK_STEP, CallCancelled, CallClaim, CallCounts, CallKey,
    CallLease, CallMemory, CallOutcome, CallSettled, CallSettlement, CallStatus, CallTitle, Calls,
    DestinationLimits, DestinationStatus, Lane, LeasedCall, NewCall, StoreError, StoreResult,
    WAITING_COUNTED, publisher_of,
};

#[async_trait]
impl Calls for RedisStore {
    async fn accept_calls(
        &self,
        groups: Vec<Vec<NewCall>>,
        max_bytes: u64,
        give_up: Instant,
    ) -> StoreResult<Acceptance> {
        let lanes = self.lane_count().await?;
        let keep = Accepting { looks_only: false, max_bytes, give_up };
        if lanes == 1 {
            return self.accept_in(Lane::HOME, &groups, keep).await;
        }
        // Whether a group may be kept as a whole, all lanes know together.
        let mut judged: Vec<Vec<Accepted>> =
            groups.iter().map(|group| vec![Accepted::Stored; group.len()]).collect();
        for lane in Lane::first(lanes) {
            let look = Accepting { looks_only: true, ..keep };
            let in_lane = self.accept_in(lane, &groups, look).await?.groups;
            for (all, one) in judged.iter_mut().flatten().zip(in_lane.into_iter().flatten()) {
                *all = worse(*all, one);
            }
        }
        let mut dead_dropped = 0;
        for lane in Lane::first(lanes) {
            let mine = |(call, judged): &(&NewCall, &Accepted)| {
                **judged == Accepted::Stored && lane_of_text(&call.destination, lanes) == Some(lane)
            };
            let kept: Vec<Vec<NewCall>> = groups
                .iter()
                .zip(&judged)
                .filter(|(_, judged)| !judged.contains(&Accepted::Conflict))
                .map(|(group, judged)| {
                    group.iter().zip(judged).filter(mine).map(|(call, _)| call.clone()).collect()
                })
                .filter(|kept: &Vec<NewCall>| !kept.is_empty())
                .collect();
            if !kept.is_empty() {
                dead_dropped += self.accept_in(lane, &kept, keep).await?.dead_dropped;
            }
        }
        Ok(Acceptance { groups: judged, dead_dropped })
    }

    async fn claim_calls(
        &self,
        lane: Lane,
        limit: usize,
        limits: DestinationLimits,
        lease: Duration,
    ) -> StoreResult<CallClaim> {
        let mut claims = self.lane(lane).call_claims.lock().await;
        claims.last += 1;
        let args = vec![
            (limit as i64).into(),
            i64::from(limits.in_flight).into(),
            i64::from(limits.probes).into(),
            ms(lease),
            (CALLS_AT_ONCE as i64).into(),
            self.origin.as_str().into(),
            claims.last.into(),
            claims.last_answered.into(),
            ms(CLOCK_STEP),
            i64::from(limits.per_publisher).into(),
            (CLAIMED_MAX_BYTES as i64).into(),
        ];
        // Sent again, it would be taken for an old copy: the next one ends what a lost one has leased.
        let mut reply = self.run_with(&self.scripts.claim_calls, lane, args, Resend::No).await?;
        claims.last_answered = claims.last;
        let next_due = u64::try_from(reply.part()?.integer()?).ok().map(Duration::from_millis);
        let calls = reply.map(leased_call).collect::<StoreResult<_>>()?;
        Ok(CallClaim { calls, next_due })
    }

    async fn renew_calls(
        &self,
        lane: Lane,
        leases: &[CallLease],
        lease: Duration,
    ) -> StoreResult<Vec<CallLease>> {
        let mut args: Vec<Value> = Vec::with_capacity(1 + 3 * leases.len());
        args.push(ms(lease));
        for CallLease { key, fence } in leases {
            args.extend(key_args(key));
            args.push(fence.to_string().into());
        }
        self.run(&self.scripts.renew_calls, lane, args).await?.pick(leases)
    }

    async fn settle_calls(
        &self,
        lane: Lane,
        settlements: Vec<CallSettlement>,
    ) -> StoreResult<Vec<CallSettled>> {
        let mut args: Vec<Value> = Vec::with_capacity(6 * settlements.len());
        for CallSettlement { lease, outcome, status, reason } in &settlements {
            args.extend(key_args(&lease.key));
            args.push(lease.fence.to_string().into());
            args.push(match outcome {
                CallOutcome::Done => "done".into(),
                CallOutcome::Dead => "dead".into(),
                CallOutcome::Returned => "returned".into(),
                CallOutcome::Failed { retry_in } => ms(*retry_in),
            });
            args.push(status.map_or(String::new(), |status| status.to_string()).into());
            args.push(reason.as_str().into());
        }
        let reply = self.run(&self.scripts.settle_calls, lane, args).await?;
        let settled = reply
            .map(|reply| {
                Ok(if reply.integer()? > 0 { CallSettled::Recorded } else { CallSettled::Stale })
            })
            .collect::<StoreResult<Vec<_>>>()?;
        // A place at a destination may be free for another one.
        self.lane(lane).call_alarm.ring_in(Duration::ZERO);
        if settled.len() != settlements.len() {
            return Err(StoreError::Corrupt("settle_calls: not one answer for each".into()));
        }
        Ok(settled)
    }

    async fn call(&self, key: &CallKey) -> StoreResult<Option<(CallStatus, Bytes)>> {
        let replies = self.run_everywhere(&self.scripts.call_status, &key_args(key)).await?;
        let Some(mut known) = replies.into_iter().find(Reply::is_list) else { return Ok(None) };
        let status = call_status(&mut known)?;
        Ok(Some((status, known.part()?.bytes()?)))
    }

    async fn calls_before(&self, position: u64, at_most: usize) -> StoreResult<Vec<CallStatus>> {
        let at_most = at_most.min(CALLS_AT_ONCE);
        let args = [position.to_string().into(), (at_most as i64).into()];
        let mut calls = Vec::new();
        for lane in self.run_everywhere(&self.scripts.calls_before, &args).await? {
            for mut call in lane {
                calls.push(call_status(&mut call)?);
            }
        }
        calls.sort_unstable_by_key(|call| std::cmp::Reverse(call.position));
        calls.truncate(at_most);
        Ok(calls)
    }

    async fn retry_calls(&self, keys: &[CallKey]) -> StoreResult<Vec<bool>> {
        let mut retried = vec![false; keys.len()];
        for lane in Lane::first(self.lane_count().await?) {
            let mut args: Vec<Value> = vec![self.origin.as_str().into()];
            let left = left(keys, &retried, &false, &mut args);
            let replies = self.change(&self.scripts.retry_calls, lane, args).await?;
            for (index, reply) in left.into_iter().zip(replies) {
                retried[index] = reply.integer()? > 0;
            }
            self.lane(lane).call_alarm.ring_in(Duration::ZERO);
        }
        Ok(retried)
    }

    async fn cancel_calls(&self, keys: &[CallKey]) -> StoreResult<Vec<CallCancelled>> {
        let mut cancelled = vec![CallCancelled::Unknown; keys.len()];
        for lane in Lane::first(self.lane_count().await?) {
            let mut args = Vec::new();
            let left = left(keys, &cancelled, &CallCancelled::Unknown, &mut args);
            let replies = self.change(&self.scripts.cancel_calls, lane, args).await?;
            for (index, reply) in left.into_iter().zip(replies) {
                cancelled[index] = match reply.text()?.as_str() {
                    "gone" => CallCancelled::Gone,
                    "on its way" => CallCancelled::OnItsWay,
                    _ => CallCancelled::Unknown,
                };
            }
        }
        Ok(cancelled)
    }

    async fn call_counts(&self, kind: CallKind) -> StoreResult<CallCounts> {
        let mut counts = CallCounts::default();
        for mut lane in
            self.run_everywhere(&self.scripts.call_counts, &[kind.as_str().into()]).await?
        {
            counts.waiting += lane.part()?.unsigned()?;
            counts.dead += lane.part()?.unsigned()?;
            counts.bytes += lane.part()?.unsigned()?;
        }
        Ok(counts)
    }

    async fn due_calls(
        &self,
        within: Duration,
        limits: DestinationLimits,
        at_most: u64,
    ) -> StoreResult<u64> {
        let args: Vec<Value> = vec![
            ms(within),
            i64::from(limits.in_flight).into(),
            i64::from(limits.probes).into(),
            i64::from(limits.per_publisher).into(),
            i64::try_from(at_most).unwrap_or(i64::MAX).into(),
        ];
        let mut due = 0;
        for lane in self.run_everywhere(&self.scripts.due_calls, &args).await? {
            due += lane.unsigned()?;
        }
        Ok(due.min(at_most))
    }

    async fn destinations(&self, at_most: usize) -> StoreResult<Vec<DestinationStatus>> {
        let args: Vec<Value> = vec![(DESTINATIONS_SHOWN_OF as i64).into(), (at_most as i64).into()];
        let mut all = Vec::new();
        for lane in self.run_everywhere(&self.scripts.destinations, &args).await? {
            for row in lane {
                all.push(destination_status(row)?);
            }
        }
        all.sort_by_key(|status| std::cmp::Reverse(status.failures));
        all.truncate(at_most);
        Ok(all)
    }

    async fn forget_calls(&self, lane: Lane, memory: CallMemory) -> StoreResult<usize> {
        let args = vec![ms(memory.done), ms(memory.dead), (CALLS_AT_ONCE as i64).into()];
        let forgotten = self.run(&self.scripts.forget_calls, lane, args).await?.unsigned()?;
        Ok(forgotten as usize)
    }

    async fn lane_of_destination(&self, destination: &str) -> StoreResult<Lane> {
        // Messages, and so what forwards them, are all at home.
        if publisher_of(destination).is_some() {
            return Ok(Lane::HOME);
        }
        Ok(lane_of_text(destination, self.lane_count().await?).unwrap_or(Lane::HOME))
    }

    fn call_alarm(&self, lane: Lane) -> &Alarm {
        self.listen();
        &self.lane(lane).call_alarm
    }
}

impl RedisStore {
    /// Keeps groups in a lane, or only says whether it would.
    async fn accept_in(
        &self,
        lane: Lane,
        groups: &[Vec<NewCall>],
        Accepting { looks_only, max_bytes, give_up }: Accepting,
    ) -> StoreResult<Acceptance> {
        let deadline_ms = self.lane(lane).server_time.at(give_up);
        let mut args: Vec<Value> = vec![
            deadline_ms.map_or(String::new(), |ms| ms.to_string()).into(),
            i64::from(looks_only).into(),
            self.origin.as_str().into(),
            i64::try_from(max_bytes).unwrap_or(i64::MAX).into(),
            (CALL_OVERHEAD as i64).into(),
            (FORGOTTEN_FOR_ROOM as i64).into(),
        ];
        for group in groups {
            args.push((group.len() as i64).into());
            for call in group {
                args.extend(key_args(&call.key));
                args.push(call.fingerprint.as_str().into());
                args.push(call.destination.as_str().into());
                args.push(Value::Bytes(call.content.clone()));
                match call.due {
                    Due::In(delay) => args.extend(["in".into(), ms(delay)]),
                    Due::At(at_ms) => args.extend(["at".into(), (at_ms as i64).into()]),
                }
                args.push(call.kind.as_str().into());
                args.push(call.title.as_str().into());
                args.push(i64::from(matches!(call.title, CallTitle::Shared(_))).into());
            }
        }
        let (script, keys) = (&self.scripts.accept_calls, &self.lane(lane).keys);
        let mut reply = self.connection.run_replicated(script, keys, args, give_up).await?;
        if !reply.is_list() {
            return Err(match reply.text()?.as_str() {
                "full" => StoreError::Full("as many calls are kept as may be".into()),
                _ => StoreError::Unavailable("Redis: too late".into()),
            });
        }
        let dead_dropped = reply.part()?.unsigned()?;
        if !looks_only {
            self.lane(lane).call_alarm.ring_in(Duration::ZERO);
        }
        let groups = reply.map(|digits| Ok(digits.text()?.bytes().map(accepted).collect()));
        Ok(Acceptance { groups: groups.collect::<StoreResult<_>>()?, dead_dropped })
    }
}

/// How a lane is to accept.
#[derive(Clone, Copy)]
struct Accepting {
    /// Whether it only says what it would do.
    looks_only: bool,
    max_bytes: u64,
    give_up: Instant,
}

/// What a digit of `accept.lua` says.
fn accepted(digit: u8) -> Accepted {
    match digit {
        b'0' => Accepted::Known,
        b'2' => Accepted::Conflict,
        _ => Accepted::Stored,
    }
}

/// What two lanes make of a call together.
fn worse(one: Accepted, other: Accepted) -> Accepted {
    match (one, other) {
        (Accepted::Conflict, _) | (_, Accepted::Conflict) => Accepted::Conflict,
        (Accepted::Known, _) | (_, Accepted::Known) => Accepted::Known,
        _ => Accepted::Stored,
    }
}

fn key_args(key: &CallKey) -> [Value; 2] {
    [key.client.reveal().into(), key.id.as_str().into()]
}

/// Adds those of the keys to the arguments that nothing has become of yet; returns which they are.
fn left<T: PartialEq>(
    keys: &[CallKey],
    of: &[T],
    nothing: &T,
    args: &mut Vec<Value>,
) -> Vec<usize> {
    let left: Vec<usize> = (0..keys.len()).filter(|index| of[*index] == *nothing).collect();
    args.extend(left.iter().flat_map(|index| key_args(&keys[*index])));
    left
}

fn kind(reply: Reply) -> StoreResult<CallKind> {
    let text = reply.text()?;
    CallKind::parse(&text).ok_or_else(|| StoreError::Corrupt(format!("no kind of call: {text}")))
}

fn destination_status(mut row: Reply) -> StoreResult<DestinationStatus> {
    Ok(DestinationStatus {
        destination: row.part()?.text()?,
        waiting: row.part()?.unsigned()?.min(WAITING_COUNTED),
        in_flight: row.part()?.unsigned()?,
        failures: row.part()?.unsigned()?,
        due_ms: row.part()?.unsigned()?,
    })
}

/// Reads what `claim_calls.lua` writes.
fn leased_call(mut reply: Reply) -> StoreResult<LeasedCall> {
    let client = ClientToken::from_stored(&reply.part()?.text()?);
    let id = CallId::from_stored(&reply.part()?.text()?);
    let mut call = LeasedCall {
        lease: CallLease { key: CallKey { client, id }, fence: reply.part()?.unsigned()? },
        kind: kind(reply.part()?)?,
        destination: reply.part()?.text()?,
        title: reply.part()?.text()?,
        content: reply.part()?.bytes()?,
        attempt: reply.part()?.unsigned()? as u32,
        age: reply.part()?.millis()?,
        publisher: None,
    };
    let kept = reply.part()?.text()?;
    if let Some(id) = publisher_of(&call.destination).filter(|_| !kept.is_empty()) {
        call.publisher = Some(message_topics::publisher(&id.to_string(), &kept)?.into());
    }
    Ok(call)
}

/// Reads what `status_of` in `call.lua` writes.
fn call_status(reply: &mut Reply) -> StoreResult<CallStatus> {
    let client = ClientToken::from_stored(&reply.part()?.text()?);
    let id = CallId::from_stored(&reply.part()?.text()?);
    let (kind, position) = (kind(reply.part()?)?, reply.part()?.unsigned()?);
    let destination = reply.part()?.text()?;
    let (over, leased) = (reply.part()?.text()?, reply.part()?.text()?);
    let attempts = reply.part()?.unsigned()? as u32;
    let over = Some(over.as_str()).filter(|over| !over.is_empty());
    Ok(CallStatus {
        key: CallKey { client, id },
        kind,
        position,
        destination,
        state: CallState::of(over, !leased.is_empty(), attempts),
        attempts,
        accepted_ms: reply.part()?.unsigned()?,
        due_ms: reply.part()?.text()?.parse().ok(),
        status: reply.part()?.text()?.parse().ok(),
        reason: reply.part()?.text()?,
        title: reply.part()?.text()?,
    })
}
