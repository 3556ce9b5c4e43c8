//! Many publishers and workers at once, in two processes.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::fixture::{
    Fixture, LEASE, PUBLISHER, STORED, WholeStore, client, on_all_stores, on_both_stores, plain,
    publication, settlement, texts,
};
use crate::bus::health::Health;
use crate::store::Published::OwnedByAnother;
use crate::store::{BatchOutcome, BatchSettled, BatchSettlement, Store};

on_all_stores!(
    one_of_many_clients_gets_a_new_topic,
    concurrent_claims_give_each_queue_out_once,
    many_workers_deliver_each_queue_in_order_one_batch_at_a_time,
);

// Queues in different lanes may have what was published at the same time in another order.
on_both_stores!(concurrent_publications_stay_whole_and_in_each_publishers_order);

/// Two processes' views of the same store, taken in turn.
fn stores(f: &Fixture) -> impl Iterator<Item = Arc<dyn Store>> + use<> {
    [f.store.clone(), f.open_another()].into_iter().cycle()
}

async fn concurrent_publications_stay_whole_and_in_each_publishers_order(f: &Fixture) {
    const PUBLISHERS: usize = 8;
    const PUBLICATIONS: usize = 10;
    const ITEMS: usize = 5;
    f.subscribe("alice", &["a"], plain).await;
    f.subscribe("bob", &["a"], |terms| terms.max = 7).await;
    let publishers = stores(f).take(PUBLISHERS).enumerate().map(|(publisher, store)| {
        tokio::spawn(async move {
            for number in 0..PUBLICATIONS {
                let items: Vec<String> =
                    (0..ITEMS).map(|item| format!("{publisher}.{number}.{item}")).collect();
                let published =
                    store.publish_placeless(vec![publication(PUBLISHER, "a", &items)]).await;
                assert_eq!(published.unwrap(), [STORED]);
            }
        })
    });
    for publisher in publishers.collect::<Vec<_>>() {
        publisher.await.unwrap();
    }

    let received = f.drain().await;
    assert_eq!(received["alice"], received["bob"], "all queues have the same order");
    let mut next = [0; PUBLISHERS];
    for whole in received["alice"].chunks(ITEMS) {
        let publisher: usize = whole[0].split('.').next().unwrap().parse().unwrap();
        let number = next[publisher];
        let expected: Vec<String> =
            (0..ITEMS).map(|item| format!("{publisher}.{number}.{item}")).collect();
        assert_eq!(whole, expected);
        next[publisher] += 1;
    }
    assert_eq!(next, [PUBLICATIONS; PUBLISHERS]);
}

async fn one_of_many_clients_gets_a_new_topic(f: &Fixture) {
    f.subscribe("alice", &["a"], plain).await;
    let clients = stores(f).take(8).enumerate().map(|(number, store)| {
        tokio::spawn(async move {
            let publication = publication(&format!("client{number}"), "a", &[number.to_string()]);
            (number, store.publish_placeless(vec![publication]).await.unwrap().remove(0))
        })
    });
    let mut winners = Vec::new();
    for attempt in clients.collect::<Vec<_>>() {
        match attempt.await.unwrap() {
            (number, STORED) => winners.push(number),
            (_, OwnedByAnother) => {}
            (_, other) => panic!("{other:?}"),
        }
    }
    let [winner] = winners.as_slice() else { panic!("{winners:?} all got the topic") };
    assert_eq!(f.topic("a").await.publisher, Some(client(&format!("client{winner}"))));
    assert_eq!(f.drain().await["alice"], [winner.to_string()]);
}

async fn concurrent_claims_give_each_queue_out_once(f: &Fixture) {
    const QUEUES: usize = 40;
    for number in 0..QUEUES {
        f.subscribe(&format!("subscriber{number}"), &["a"], plain).await;
    }
    f.publish("a", &["1"]).await;
    let workers = stores(f).take(8).map(|store| {
        tokio::spawn(async move {
            let mut mine = Vec::new();
            loop {
                let claim = store.claim_all(3, LEASE).await.unwrap();
                assert!(claim.batches.len() <= 3);
                if claim.batches.is_empty() {
                    return mine;
                }
                mine.extend(claim.batches.into_iter().map(|leased| leased.lease));
                assert!(mine.len() <= QUEUES, "queues are given out again and again");
            }
        })
    });
    let mut given_out = Vec::new();
    for worker in workers.collect::<Vec<_>>() {
        given_out.extend(worker.await.unwrap());
    }
    let queues: HashSet<_> = given_out.iter().map(|lease| &lease.queue).collect();
    assert_eq!((given_out.len(), queues.len()), (QUEUES, QUEUES));
    assert_eq!(f.store.renew_all(&given_out, LEASE).await.unwrap(), []);
}

/// What the subscribers received, and whether one of them is receiving just now.
struct Receivers {
    busy: Vec<AtomicBool>,
    received: Mutex<BTreeMap<usize, Vec<u32>>>,
}

const SUBSCRIBERS: usize = 4;
const EVENTS: u32 = 120;

impl Receivers {
    fn received_all(&self) -> bool {
        let received = self.received.lock().unwrap();
        (0..SUBSCRIBERS).all(|subscriber| {
            received.get(&subscriber).is_some_and(|items| items.len() >= EVENTS as usize)
        })
    }
}

async fn many_workers_deliver_each_queue_in_order_one_batch_at_a_time(f: &Fixture) {
    for subscriber in 0..SUBSCRIBERS {
        let max = subscriber as u32 + 2;
        f.subscribe(&format!("s{subscriber}"), &["a"], |terms| terms.max = max).await;
    }
    let receivers = Arc::new(Receivers {
        busy: (0..SUBSCRIBERS).map(|_| AtomicBool::new(false)).collect(),
        received: Mutex::default(),
    });
    let workers: Vec<_> =
        stores(f).take(6).map(|store| tokio::spawn(work(store, receivers.clone()))).collect();
    for number in (0..EVENTS).step_by(4) {
        let items: Vec<String> = (number..number + 4).map(|item| item.to_string()).collect();
        f.publish("a", &items).await;
    }
    for worker in workers {
        worker.await.unwrap();
    }
    for (subscriber, received) in &*receivers.received.lock().unwrap() {
        assert!(received.iter().copied().eq(0..EVENTS), "s{subscriber} received {received:?}");
    }
    assert_eq!(f.claim_none().await, None);
}

/// Delivers until every subscriber has everything; now and then a delivery fails.
async fn work(store: Arc<dyn Store>, receivers: Arc<Receivers>) {
    let give_up = Instant::now() + Duration::from_secs(30);
    while !receivers.received_all() {
        assert!(Instant::now() < give_up, "not everything was delivered in time");
        let mut batches = store.claim_all(2, LEASE).await.unwrap().batches;
        if batches.is_empty() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        while let Some(leased) = batches.pop() {
            let subscriber: usize = leased.lease.subscriber.reveal()[1..].parse().unwrap();
            let busy = &receivers.busy[subscriber];
            assert!(!busy.swap(true, Ordering::SeqCst), "two deliveries to s{subscriber} at once");
            tokio::task::yield_now().await;
            let fails = leased.batch.attempt == 1 && fastrand::u8(..5) == 0;
            if !fails {
                let numbers = texts(&leased).into_iter().map(|item| item.parse::<u32>().unwrap());
                receivers.received.lock().unwrap().entry(subscriber).or_default().extend(numbers);
            }
            busy.store(false, Ordering::SeqCst);
            let outcome = if fails {
                BatchOutcome::Failed { retry_in: Duration::from_millis(1) }
            } else {
                BatchOutcome::Acknowledged
            };
            let settlement = BatchSettlement {
                health: Health::new(50),
                take_next: fastrand::bool(),
                ..settlement(&leased.lease, outcome)
            };
            match store.settle_one(settlement, LEASE).await.unwrap() {
                BatchSettled::Next(next) => batches.push(*next),
                BatchSettled::Released => {}
                BatchSettled::Stale => panic!("a lease of {LEASE:?} was lost"),
            }
        }
    }
}
