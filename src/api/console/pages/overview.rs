//! What runs, what waits, what fails, and why.

use maud::{Markup, html};

use super::{calls, first_steps, processes, subscriptions};
use crate::api::bus::DeliveryState;
use crate::api::console::chart::{Range, Series, ranges};
use crate::api::console::page::{Page, PageParts, Section};
use crate::api::console::parts::{self, Tile};
use crate::api::console::problem::Problem;
use crate::api::console::text;
use crate::api::console::visit::Visit;
use crate::bus::call::CallKind;
use crate::bus::subscription::SubscriptionStatus;
use crate::bus::tally::{Subject, Tally};
use crate::http::authentication::Caller;
use crate::store::{CallCounts, fullest_usage};

/// How many subscriptions in trouble are listed.
const IN_TROUBLE: usize = 8;

pub async fn show(visit: Visit) -> Result<Page, Problem> {
    let overall = visit.console.board.look().await?;
    let range = Range::of(&visit);
    let own = subscriptions::in_order(&visit, &overall.subscriptions);
    let subject = match &visit.session.caller {
        Caller::Client(client) => Subject::Subscription(client.clone()),
        _ => Subject::Bus,
    };
    let store = &visit.console.api.store;
    let series = Series::of(&**store, &subject, range, visit.now_ms()).await?;
    let last_minute = match range {
        Range::Hour => series.last_over(),
        _ => Series::of(&**store, &subject, Range::Hour, visit.now_ms()).await?.last_over(),
    };
    let events = events_tiles(&own, &last_minute);
    let operation = if visit.is_root() { Some(operation_tiles(&visit).await?) } else { None };
    let is_empty = overall.topics.is_empty() && overall.subscriptions.is_empty();
    let trouble = trouble(&visit, &own).await?;
    let charts = html! {
        div.heading { h2 { "What passed" } (ranges(range, "/console")) }
        (series.charts("Events"))
    };
    let mut parts = PageParts::of(Section::Overview)
        .still(html! { h1 { "Overview" } })
        .live("tiles", html! { (events) @if let Some(operation) = operation { (operation) } })
        .live("first", html! { @if is_empty { (first_steps::shown(&visit)) } })
        .live("trouble", trouble)
        .live("charts", charts);
    if visit.is_root() {
        let calls = Series::of(&**store, &Subject::Calls, range, visit.now_ms()).await?;
        let messages = Series::of(&**store, &Subject::Messages, range, visit.now_ms()).await?;
        parts = parts.live(
            "others",
            html! {
                (charts_if_any("Calls & postbacks", "Calls", &calls))
                (charts_if_any("Messages", "Messages", &messages))
            },
        );
    }
    Ok(visit.page("Overview", parts))
}

/// Charts of what not each bus is used for.
fn charts_if_any(title: &str, what: &str, series: &Series) -> Markup {
    let sum = series.sum();
    html! { @if sum.volume + sum.queued > 0 { h2 { (title) } (series.charts(what)) } }
}

fn events_tiles(own: &[&SubscriptionStatus], last_minute: &Tally) -> Markup {
    let in_state = |state: DeliveryState| {
        own.iter().filter(|status| DeliveryState::of(status) == state).count()
    };
    let (failing, paused) = (in_state(DeliveryState::Failing), in_state(DeliveryState::Paused));
    let queued: u64 = own.iter().map(|status| status.queued).sum();
    let oldest = own.iter().filter_map(|status| status.oldest_ms).min();
    let rate = |count: u64| format!("{}/s", text::short(count as f64 / 60.0));
    parts::tiles(&[
        Tile {
            name: "Events in",
            value: rate(last_minute.volume),
            detail: html! { (text::number(last_minute.volume)) " in the last minute" },
            tone: "calm",
            address: Some("/console/topics"),
        },
        Tile {
            name: "Events out",
            value: rate(last_minute.success),
            detail: html! { (text::number(last_minute.success)) " in the last minute" },
            tone: "calm",
            address: Some("/console/live"),
        },
        Tile {
            name: "Waiting",
            value: text::short(queued as f64),
            detail: html! { @match oldest { Some(oldest) => { "oldest " (parts::from_now(oldest)) } None => "nothing waits" } },
            tone: "calm",
            address: Some("/console/subscriptions"),
        },
        Tile {
            name: "Failing",
            value: failing.to_string(),
            detail: html! { "of " (text::counted(own.len() as u64, "subscription", "subscriptions")) },
            tone: if failing > 0 { "bad" } else { "good" },
            address: Some("/console/subscriptions?state=failing"),
        },
        Tile {
            name: "Paused",
            value: paused.to_string(),
            detail: html! { "subscriptions" },
            tone: if paused > 0 { "warn" } else { "calm" },
            address: Some("/console/subscriptions?state=paused"),
        },
    ])
}

async fn operation_tiles(visit: &Visit) -> Result<Markup, Problem> {
    let store = &visit.console.api.store;
    let (mut calls, mut messages) = (CallCounts::default(), CallCounts::default());
    for kind in CallKind::ALL {
        let counts = store.call_counts(kind).await?;
        let sum = if kind == CallKind::Message { &mut messages } else { &mut calls };
        sum.waiting += counts.waiting;
        sum.dead += counts.dead;
    }
    let dead_events = store.dead_event_count().await?;
    let usage = fullest_usage(&**store).await?;
    let budget = visit.console.api.settings.budget().limited_by(&usage);
    let share = (usage.used as f64 * 100.0 / budget.max.max(1) as f64).min(100.0);
    let dead = dead_events + calls.dead + messages.dead;
    let counts = |counts: CallCounts, name, address| Tile {
        name,
        value: text::short(counts.waiting as f64),
        detail: html! { "waiting, " (text::number(counts.dead)) " given up" },
        tone: "calm",
        address: Some(address),
    };
    Ok(parts::tiles(&[
        counts(calls, "Calls", "/console/calls"),
        counts(messages, "Messages", "/console/messages"),
        Tile {
            name: "Dead letters",
            value: text::short(dead as f64),
            detail: html! { (text::number(dead_events)) " of them events" },
            tone: if dead > 0 { "warn" } else { "calm" },
            address: Some("/console/dead-letters"),
        },
        Tile {
            name: "Store's room",
            value: if share < 1.0 { "< 1 %".into() } else { format!("{share:.0} %") },
            detail: html! { (text::bytes(usage.used)) " of " (text::bytes(budget.max)) },
            tone: if usage.used > budget.high_mark() { "bad" } else { "calm" },
            address: None,
        },
    ]))
}

/// What needs somebody.
async fn trouble(visit: &Visit, own: &[&SubscriptionStatus]) -> Result<Markup, Problem> {
    let needs = |status: &&&SubscriptionStatus| {
        matches!(DeliveryState::of(status), DeliveryState::Failing | DeliveryState::Paused)
    };
    let in_trouble: Vec<_> = own.iter().filter(needs).copied().collect();
    let table = subscriptions::table(visit, in_trouble.iter().take(IN_TROUBLE).copied());
    let (processes, has_worker) = processes::table(visit).await?;
    let destinations = if visit.is_root() { calls::failing(visit).await? } else { None };
    Ok(html! {
        @if !has_worker { (processes::none_delivers()) }
        @if !table.is_empty() {
            h2 { "Subscriptions in trouble" }
            (table)
            @if in_trouble.len() > IN_TROUBLE {
                p { a href="/console/subscriptions" { "All " (in_trouble.len()) } }
            }
        }
        @if let Some(destinations) = destinations { h2 { "Destinations in trouble" } (destinations) }
        @if visit.is_root() { h2 { "Processes" } (processes) }
    })
}
