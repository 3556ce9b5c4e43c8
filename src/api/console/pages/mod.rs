//! The pages, a file each; what is done on a page stands with it.

mod attempt;
mod attempts;
mod call;
mod calls;
mod clients;
mod dead_letters;
mod event;
mod first_steps;
mod journal;
mod live;
mod message;
mod message_topic_names;
mod message_topics;
mod messages;
mod new_call;
mod overview;
mod processes;
mod publishers;
mod subscription;
mod subscriptions;
mod topics;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};

use super::Console;

pub fn routes() -> Router<Arc<Console>> {
    Router::new()
        .route("/console", get(overview::show))
        .route("/console/live", get(live::show))
        .route("/console/topics", get(topics::list))
        .route("/console/topics/{name}", get(topics::show))
        .route("/console/topics/{name}/{act}", post(topics::act))
        .route("/console/subscriptions", get(subscriptions::list))
        .route("/console/subscriptions/{id}", get(subscription::show))
        .route("/console/subscriptions/{id}/{act}", post(subscription::act))
        .route("/console/events/{position}", get(event::show))
        .route("/console/calls", get(calls::list))
        .route("/console/calls/new", get(new_call::form).post(new_call::send))
        .route("/console/calls/all/{act}", post(calls::act_on_all))
        .route("/console/calls/{client}/{id}", get(call::show))
        .route("/console/calls/{client}/{id}/{act}", post(call::act))
        .route("/console/message-topics", get(message_topics::list))
        .route("/console/message-topics/new", get(message_topics::form).post(message_topics::add))
        .route("/console/message-topics/{id}", get(message_topics::show))
        .route("/console/message-topics/{id}/delete", post(message_topics::delete))
        .route("/console/publishers", get(publishers::list))
        .route("/console/publishers/new", get(publishers::form).post(publishers::add))
        .route("/console/publishers/{id}", get(publishers::show).post(publishers::change))
        .route("/console/publishers/{id}/{act}", post(publishers::act))
        .route("/console/messages", get(messages::list))
        .route("/console/messages/{id}", get(message::show))
        .route("/console/messages/{id}/{act}", post(message::act))
        .route("/console/dead-letters", get(dead_letters::list))
        .route("/console/dead-letters/{client}/{position}/{act}", post(dead_letters::act))
        .route("/console/journal", get(journal::list))
        .route("/console/journal/attempt", get(attempt::show))
        .route("/console/processes", get(processes::list))
        .route("/console/processes/{id}/{act}", post(processes::act))
}
