//! Subscriptions: those in trouble first.

use maud::{Markup, html};

use crate::api::bus::DeliveryState;
use crate::api::console::page::{Page, PageParts, Section};
use crate::api::console::parts::{self, Table};
use crate::api::console::problem::Problem;
use crate::api::console::text;
use crate::api::console::visit::Visit;
use crate::bus::subscription::SubscriptionStatus;

const PER_PAGE: usize = 50;

/// Where a subscription comes in a list: what fails, then what is held, then whatever waits for longest.
fn order(status: &SubscriptionStatus) -> (u8, u64) {
    let rank = match DeliveryState::of(status) {
        DeliveryState::Failing => 0,
        DeliveryState::Paused => 1,
        DeliveryState::Waiting | DeliveryState::Delivering => 2,
        DeliveryState::Idle => 3,
    };
    (rank, status.oldest_ms.unwrap_or(u64::MAX))
}

/// Those that a visitor may see, in this order.
pub fn in_order<'a>(visit: &Visit, all: &'a [SubscriptionStatus]) -> Vec<&'a SubscriptionStatus> {
    let own =
        |status: &&SubscriptionStatus| visit.session.caller.may_see_secrets_of(&status.subscriber);
    let mut own: Vec<_> = all.iter().filter(own).collect();
    own.sort_by_cached_key(|status| order(status));
    own
}

/// Where events of a subscription go.
pub fn target(status: &SubscriptionStatus) -> String {
    let target = &status.subscription.terms.target;
    if target.is_pull() { "pulls".into() } else { target.to_string() }
}

/// Rows of these.
pub fn table<'a>(visit: &Visit, statuses: impl Iterator<Item = &'a SubscriptionStatus>) -> Table {
    let mut table = Table::new(
        "Subscriptions",
        &["Subscriber", "State", "#Waiting", "Oldest", "#Health", "Last error", "Goes to"],
    );
    for status in statuses {
        let name = visit.console.api.authentication.name_of(&status.subscriber);
        table.row_to(
            format!("/console/subscriptions/{}", status.subscriber.short_hash()),
            vec![
                html! { (name) },
                parts::state(DeliveryState::of(status).as_str()),
                html! { (text::number(status.queued)) },
                html! { @if let Some(oldest) = status.oldest_ms { (parts::from_now(oldest)) } },
                html! { (status.health.points()) },
                last_error(status),
                parts::cut(&target(status), 50),
            ],
        );
    }
    table
}

fn last_error(status: &SubscriptionStatus) -> Markup {
    match &status.last_failure {
        Some(failed) => parts::why(failed.failure.status, &failed.failure.reason, 80),
        None => html! {},
    }
}

pub async fn list(visit: Visit) -> Result<Page, Problem> {
    let overall = visit.console.board.look().await?;
    let (text, state) =
        (visit.asked("text").unwrap_or_default().to_lowercase(), visit.asked("state"));
    let topic = visit.asked("topic");
    let authentication = &visit.console.api.authentication;
    let fits = |status: &&&SubscriptionStatus| {
        state.as_deref().is_none_or(|state| DeliveryState::of(status).as_str() == state)
            && topic.as_ref().is_none_or(|topic| {
                status.subscription.topics.iter().any(|subscribed| subscribed.as_str() == topic)
            })
            && (text.is_empty()
                || authentication.name_of(&status.subscriber).to_lowercase().contains(&text)
                || target(status).to_lowercase().contains(&text))
    };
    let from = visit.asked_offset();
    let all = in_order(&visit, &overall.subscriptions);
    let matching: Vec<_> = all.iter().filter(fits).copied().collect();
    let page = matching.iter().skip(from).take(PER_PAGE).copied();
    let table = table(&visit, page);
    let end = from.saturating_add(PER_PAGE);
    let next = (matching.len() > end).then(|| end.to_string());
    let head = html! {
        h1 { "Subscriptions" }
        (parts::filters("/console/subscriptions", &html! {
            (parts::filter_line(&visit, "Name or callback", "text", "search"))
            (parts::filter_choice(&visit, "State", "state", &[
                ("", "any"), ("failing", "failing"), ("paused", "paused"), ("waiting", "waiting"),
                ("delivering", "delivering"), ("idle", "idle"),
            ]))
            (parts::filter_line(&visit, "Topic", "topic", "text"))
        }, visit.uri.query().is_some()))
    };
    let list = html! {
        @if all.is_empty() { (parts::nothing("No subscription yet: POST /subscription makes one, or routemaster listen <topic>.")) }
        @else if table.is_empty() { (parts::nothing("No subscription matches.")) }
        @else {
            p.hint { (text::counted(matching.len() as u64, "subscription", "subscriptions")) ", those in trouble first."
                @if overall.is_old { " As of " (parts::moment(overall.at_ms)) "." } }
            (table)
        }
        (parts::older(&visit, next.as_deref(), None))
    };
    let parts = PageParts::of(Section::Subscriptions).still(head).live("list", list);
    Ok(visit.page("Subscriptions", parts))
}
