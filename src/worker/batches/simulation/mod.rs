//! Many machines on simulated time: the real dispatcher, leases, places and group commits, on a model of the store
//! ([`model`]), with machines ([`machines`]) that take as long for their work as was measured, and subscribers
//! ([`receivers`]) that answer, refuse or hang. What comes of it stands in `docs/scale.md`;
//! `cargo test --lib simulation -- --nocapture` prints it.

mod machines;
mod model;
mod receivers;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::machines::Machine;
use self::model::{Model, ModelStore};
use self::receivers::{HANGS, LateMs, Receivers, Seen, SimulatedCourier};
use super::{BatchSender, BatchWorker};
use crate::bus::health::BackOff;
use crate::commit::NewsDesk;
use crate::journal::Recorder;
use crate::worker::leases::LEASE;
use crate::worker::{Attempts, Reporting};

/// The defaults of `ROUTEMASTER_HP_*` and `ROUTEMASTER_MAX_BACKOFF_MS`.
const BACK_OFF: BackOff =
    BackOff { heal_rate: 1, damage_rate: 2, max: Duration::from_millis(60_000) };
/// How long an event waits for others.
const BATCH_TIMEOUT: Duration = Duration::from_millis(500);
/// How often is published.
const TICK: Duration = Duration::from_millis(10);
/// Until what was published at the start is delivered.
const WARM_S: u64 = 2;

/// What is simulated.
#[derive(Clone, Copy)]
struct Setting {
    subscribers: usize,
    /// Events a second, each to one subscriber.
    rate: usize,
    /// Of a thousand subscribers, how many hang, and how many refuse everything.
    hanging: usize,
    refusing: usize,
    /// Workers, each on a machine of its own with one core.
    workers: usize,
    /// How many deliveries each of them makes at once (`ROUTEMASTER_MAX_DELIVERIES`).
    places: usize,
    lanes: usize,
    servers: usize,
    seconds: u64,
    /// After how many seconds every second worker dies.
    death: Option<u64>,
    /// In which seconds everybody hangs, as when the workers' own network is gone.
    outage: Option<(u64, u64)>,
}

const SETTING: Setting = Setting {
    subscribers: 100_000,
    rate: 5_000,
    hanging: 0,
    refusing: 0,
    workers: 8,
    places: 1_000,
    lanes: 1,
    servers: 1,
    seconds: 20,
    death: None,
    outage: None,
};

/// Runs it on a clock that goes on when there is nothing left to do.
fn simulate(setting: Setting) -> Seen {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    fastrand::seed(1);
    runtime.block_on(async {
        let Setting { subscribers, lanes, servers, workers, .. } = setting;
        let model = Model::new(subscribers, lanes, servers, BATCH_TIMEOUT);
        let receivers = Arc::new(Receivers::new(setting, &model));
        let machines: Vec<_> = (0..workers).map(|_| Arc::new(Machine::new())).collect();
        machines
            .iter()
            .for_each(|machine| start_worker(&model, machine, &receivers, setting.places));
        let start = Instant::now();
        let mut death = setting.death.map(|seconds| start + Duration::from_secs(seconds));
        let mut dice = fastrand::Rng::with_seed(2);
        let mut ticks = tokio::time::interval(TICK);
        let in_a_tick = setting.rate * TICK.as_millis() as usize / 1000;
        while start.elapsed() < Duration::from_secs(setting.seconds) {
            ticks.tick().await;
            if death.take_if(|at| *at <= Instant::now()).is_some() {
                machines.iter().step_by(2).for_each(|machine| machine.dies());
            }
            let to: Vec<usize> = (0..in_a_tick).map(|_| dice.usize(..subscribers)).collect();
            model.publish(&to).await;
        }
        let seen = receivers.seen();
        assert_eq!(seen.overlaps, 0, "two deliveries were on their way to one subscriber");
        assert_eq!(seen.accounted, seen.published, "something neither came nor waits");
        seen
    })
}

fn start_worker(
    model: &Arc<Model>,
    machine: &Arc<Machine>,
    receivers: &Arc<Receivers>,
    places: usize,
) {
    let courier = SimulatedCourier { receivers: receivers.clone(), machine: machine.clone() };
    let reporting =
        Reporting { attempts: Attempts::new(Recorder::off(), 0), news: NewsDesk::unread() };
    let stop = CancellationToken::new();
    let sender = BatchSender::with(Box::new(courier), BACK_OFF, places, reporting, stop);
    tokio::spawn(BatchWorker::new(ModelStore::of(model, machine), sender).run());
}

#[test]
fn a_hundred_thousand_subscribers_are_served_in_time() {
    let seen = simulate(SETTING);
    let late = seen.late_ms(WARM_S..SETTING.seconds - 1);
    println!("100,000 subscribers: {late:?}");
    are_in_time(late);
    assert_eq!(seen.again, 0);
}

#[test]
fn who_hangs_or_refuses_makes_nobody_else_late() {
    // As many places as those that hang can have at once.
    for (hanging, refusing, places) in [(10, 10, 1_000), (100, 100, 2_000), (300, 0, 5_000)] {
        let seen = simulate(Setting { hanging, refusing, places, seconds: 45, ..SETTING });
        let (first, last) = (seen.late_ms(WARM_S..20), seen.late_ms(30..44));
        println!("of 1000, {hanging} hang, {refusing} refuse: {first:?}, later {last:?}");
        are_in_time(first);
        are_in_time(last);
    }
}

/// 20,000 hang, and there are 8,000 places, all of which are taken before the first one is known to hang.
#[test]
fn those_that_hang_leave_places_to_others() {
    let seen = simulate(Setting { hanging: 200, seconds: 120, ..SETTING });
    for from in (0..120).step_by(10) {
        let late = seen.late_ms(from..from + 9);
        println!("200 of 1000 hang, from second {from}: {late:?}");
        let limit = if from < 60 { HANGS.as_millis() as u64 } else { 5_000 };
        assert!(late.max <= limit, "{late:?} from second {from} on");
    }
}

#[test]
fn all_are_served_soon_after_all_have_hung() {
    let seen = simulate(Setting { outage: Some((10, 40)), seconds: 120, ..SETTING });
    for from in (0..120).step_by(10) {
        println!("all hang from 10 to 40, from second {from}: {:?}", seen.late_ms(from..from + 9));
    }
    // What was on its way when it ended hangs to its end, and what had failed by then waits for its pause.
    let late = seen.late_ms(10..60);
    assert!(late.p99 <= 50_000, "{late:?}");
    let late = seen.late_ms(70..119);
    assert!(late.p99 <= 25, "{late:?}");
}

#[test]
fn what_dead_workers_held_comes_when_their_leases_end() {
    for rate in [5_000, 9_000] {
        let setting = Setting { rate, workers: 2, death: Some(10), seconds: 30, ..SETTING };
        let seen = simulate(setting);
        for seconds in [8..10, 10..12, 12..17, 17..29] {
            let late = seen.late_ms(seconds.clone());
            println!("{rate}/s, half dead after 10 s, seconds {seconds:?}: {late:?}");
        }
        println!("{} events came again", seen.again);
        let late = seen.late_ms(WARM_S..setting.seconds - 1);
        let limit = LEASE.as_millis() as u64 + 1_000;
        assert!(late.p99 <= 50 && late.max <= limit, "{late:?}");
        are_in_time(seen.late_ms(17..29));
    }
}

#[test]
fn as_many_deliveries_as_the_machines_can_make() {
    for (workers, lanes, servers, least) in [
        (1, 1, 1, 8_500),
        (2, 1, 1, 9_500),
        (4, 1, 1, 9_500),
        (2, 8, 3, 21_000),
        (8, 8, 3, 21_000),
        (8, 3, 3, 26_000),
    ] {
        let seen =
            simulate(Setting { rate: 50_000, workers, lanes, servers, seconds: 8, ..SETTING });
        let (rate, published) = (seen.deliveries / 8, seen.published / 8);
        println!(
            "{workers} workers, {servers} servers, {lanes} lanes: {rate} deliveries/s of \
             {published} events/s, {} overdue",
            seen.overdue
        );
        assert!(rate >= least, "{rate} deliveries/s");
    }
}

fn are_in_time(late: LateMs) {
    assert!(late.median <= 10 && late.p99 <= 25 && late.max <= 100, "{late:?}");
}
