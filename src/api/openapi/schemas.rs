//! JSON Schemas of the domain's values, for the API's OpenAPI document.
//!
//! A schema says what JSON Schema can say. The parser is the law: it may refuse more (a body's
//! size, a callback that is denied), but never takes what the schema refuses; and both take their
//! limits from the same constants. `tests/contract/openapi.rs` holds one against the other.

use std::ops::RangeInclusive;

use utoipa::openapi::schema::AdditionalProperties;
use utoipa::openapi::{
    ArrayBuilder, Object, ObjectBuilder, OneOfBuilder, Ref, RefOr, Schema, Type, schema::SchemaType,
};
use utoipa::{PartialSchema, ToSchema};

use crate::bus::event::{EVENTS_MAX, EventType, URL_MAX};
use crate::bus::signature::SigningSecrets;
use crate::bus::subscription::options::{PARALLEL_DEFAULT, PARALLEL_MAX, REFUSALS_MAX};
use crate::bus::subscription::{
    BATCH_DEFAULT, BATCH_MAX, CALLBACK_MAX, MAX_QUEUED, RETENTION_MS, TIMEOUT_DEFAULT_MS,
    TIMEOUT_MAX_MS, UUID_MAX,
};
use crate::bus::token::{ClientToken, SERVICE_NAME_MAX, ServiceName};
use crate::bus::topic::TopicName;

fn string(pattern: impl Into<String>) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern))
}

fn integer(range: RangeInclusive<u64>) -> ObjectBuilder {
    let object = ObjectBuilder::new().schema_type(Type::Integer);
    object.minimum(Some(*range.start())).maximum(Some(*range.end()))
}

/// The type of a field that may be `null`, which is as if it were absent.
fn nullable(schema: ObjectBuilder, kind: Type) -> ObjectBuilder {
    schema.schema_type(SchemaType::from_iter([kind, Type::Null]))
}

/// A schema that the document names and others refer to.
macro_rules! named {
    ($type:ty, $schema:expr) => {
        impl ToSchema for $type {}

        impl PartialSchema for $type {
            fn schema() -> RefOr<Schema> {
                $schema.into()
            }
        }
    };
}

named!(TopicName, {
    string(format!("^[a-z_]{{1,{}}}$", TopicName::MAX)).description(Some(
        "The name of a topic. `ROUTEMASTER_TOPIC_NAME_MAX` may allow fewer characters.",
    ))
});

named!(ClientToken, {
    string(format!("^[a-z0-9:_-]{{1,{}}}$", ClientToken::MAX))
        .description(Some("A token. It is a secret."))
});

named!(ServiceName, {
    string(format!("^[a-z0-9:_-]{{1,{SERVICE_NAME_MAX}}}$")).description(Some(
        "The name of a service. One that a token is made for has at most 30 characters and no `--`.",
    ))
});

named!(EventType, {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some(EventType::ALL.map(EventType::as_str)))
        .description(Some("What happened to the thing that the event tells of."))
});

/// An event as its publisher writes it.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it is only described: `bus/event.rs` parses it")]
pub struct PublishedEvent {
    r#type: EventType,
    #[schema(schema_with = event_url)]
    url: String,
    #[schema(schema_with = event_timestamp, required = false)]
    timestamp: u64,
    /// Any JSON of at most `ROUTEMASTER_MAX_EVENT_DATA` bytes, nested at most
    /// `ROUTEMASTER_MAX_EVENT_DEPTH` deep, with no number of more than 1,000 characters. It is delivered
    /// as it was written; `null` is as if absent.
    #[schema(required = false)]
    data: serde_json::Value,
    #[schema(schema_with = repeated_topic, required = false)]
    topic: String,
}

/// Describes a subscription that goes to one kind of target.
macro_rules! subscription_to {
    ($(#[$meta:meta])* $name:ident { $(#[$target_meta:meta])* $target:ident: $type:ty }) => {
        $(#[$meta])*
        #[derive(ToSchema)]
        #[expect(dead_code, reason = "it is only described: `bus/subscription.rs` parses it")]
        pub struct $name {
            /// Exactly these: earlier ones that are not listed are unsubscribed, and their queued events
            /// stay.
            #[schema(max_items = 1000)]
            topics: Vec<TopicName>,
            $(#[$target_meta])*
            $target: $type,
            #[schema(schema_with = uuid, required = false)]
            uuid: String,
            #[schema(schema_with = timeout, required = false)]
            timeout: u64,
            #[schema(schema_with = max, required = false)]
            max: u32,
            #[schema(schema_with = retention, required = false)]
            retention: u64,
            #[schema(schema_with = max_queued, required = false)]
            max_queued: u64,
            #[schema(schema_with = secret, required = false)]
            secret: String,
            #[schema(schema_with = format, required = false)]
            format: String,
            #[schema(schema_with = on_refusal, required = false)]
            on_refusal: String,
            #[schema(schema_with = order, required = false)]
            order: String,
            #[schema(schema_with = parallel, required = false)]
            parallel: u32,
            #[schema(schema_with = since, required = false)]
            since: u64,
        }
    };
}

subscription_to! {
    /// A subscription as its subscriber writes it. Of the first five fields, what it leaves out has its
    /// default; the others stay as they are then, and 0 or an empty text clears one.
    Subscription {
        #[schema(schema_with = callback)]
        callback: String
    }
}

subscription_to! {
    /// A subscription whose events go into Google Pub/Sub, a message each.
    PubSubSubscription {
        #[schema(schema_with = pubsub)]
        pubsub: String
    }
}

subscription_to! {
    /// A subscription whose subscriber asks for its batches.
    PullSubscription {
        #[schema(schema_with = pull)]
        pull: bool
    }
}

/// A subscription, with a callback, with a topic of Google Pub/Sub, or with neither.
pub struct AnySubscription;

impl ToSchema for AnySubscription {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((Subscription::name().into(), Subscription::schema()));
        Subscription::schemas(schemas);
        schemas.push((PubSubSubscription::name().into(), PubSubSubscription::schema()));
        PubSubSubscription::schemas(schemas);
        schemas.push((PullSubscription::name().into(), PullSubscription::schema()));
        PullSubscription::schemas(schemas);
    }
}

impl PartialSchema for AnySubscription {
    fn schema() -> RefOr<Schema> {
        OneOfBuilder::new()
            .item(Ref::from_schema_name(Subscription::name()))
            .item(Ref::from_schema_name(PubSubSubscription::name()))
            .item(Ref::from_schema_name(PullSubscription::name()))
            .into()
    }
}

/// The body of a publish.
pub struct Publish;

impl ToSchema for Publish {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((PublishedEvent::name().into(), PublishedEvent::schema()));
        PublishedEvent::schemas(schemas);
    }
}

impl PartialSchema for Publish {
    fn schema() -> RefOr<Schema> {
        let event = || Ref::from_schema_name(PublishedEvent::name());
        let events =
            ArrayBuilder::new().items(event()).min_items(Some(1)).max_items(Some(EVENTS_MAX));
        let description =
            "One event, or several that are taken as a whole, in order, or not at all.";
        OneOfBuilder::new().item(event()).item(events).description(Some(description)).into()
    }
}

/// An event as subscribers receive it.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it is only described: events are passed on as bytes")]
pub struct DeliveredEvent {
    topic: TopicName,
    r#type: EventType,
    #[schema(schema_with = event_url)]
    url: String,
    #[schema(schema_with = delivered_time)]
    t: u64,
    /// As it was published, to the digit. Left out if nothing was, or `null`.
    #[schema(required = false)]
    data: serde_json::Value,
}

/// The events of one delivery.
pub fn batch(events: ArrayBuilder) -> ArrayBuilder {
    events.min_items(Some(1)).max_items(Some(BATCH_MAX as usize))
}

/// The characters that no URL holds, for the class of a pattern.
const NEVER: &str = r"\u0000-\u0020\u007f\\";

fn event_url() -> Object {
    string(format!("^[Hh][Tt][Tt][Pp][Ss]://[^{NEVER}/?#][^{NEVER}]*$"))
        .max_length(Some(URL_MAX))
        .description(Some("An `https://` URL with a host."))
        .build()
}

fn event_timestamp() -> Object {
    const MEANING: &str = "Milliseconds since the epoch. The time of reception if absent.";
    nullable(integer(0..=i64::MAX as u64), Type::Integer).description(Some(MEANING)).build()
}

fn repeated_topic() -> Object {
    let topic = string(format!("^[a-z_]{{0,{}}}$", TopicName::MAX));
    nullable(topic, Type::String)
        .description(Some("The topic of the path, or nothing. It may be left out."))
        .build()
}

fn delivered_time() -> Object {
    const MEANING: &str = "Milliseconds since the epoch: the time that the publisher gave, or that \
        of reception.";
    integer(0..=i64::MAX as u64).description(Some(MEANING)).build()
}

fn callback() -> Object {
    const MEANING: &str = "An `https://` URL without query, at a host that may be delivered to. Its \
        name is not looked up before the first delivery. A user name in it is the `uuid` if none is \
        given; the rest of its user info, and a fragment, are dropped.";
    string(format!("^[Hh][Tt][Tt][Pp][Ss]://[^{NEVER}/?#][^{NEVER}?#]*(#[^{NEVER}]*)?$"))
        .max_length(Some(CALLBACK_MAX))
        .description(Some(MEANING))
        .build()
}

fn pubsub() -> Object {
    const MEANING: &str = "In place of `callback`: a topic on Google Pub/Sub, where each event becomes a message, \
        in order by an ordering key.";
    string("^[A-Za-z][A-Za-z0-9._~+%-]{2,254}$").description(Some(MEANING)).build()
}

fn pull() -> Object {
    const MEANING: &str =
        "In place of `callback`: batches are given out at `GET /subscription/batch`.";
    ObjectBuilder::new()
        .schema_type(Type::Boolean)
        .enum_values(Some([true]))
        .description(Some(MEANING))
        .build()
}

fn uuid() -> Object {
    let text = string(r"^[^\u0000-\u001f\u007f-\u009f]*$").max_length(Some(UUID_MAX));
    nullable(text, Type::String)
        .description(Some("User name and password of the deliveries, which have none without it."))
        .build()
}

fn timeout() -> Object {
    nullable(integer(0..=TIMEOUT_MAX_MS), Type::Integer)
        .default(Some(TIMEOUT_DEFAULT_MS.into()))
        .description(Some("How long the oldest event waits at most, in milliseconds."))
        .build()
}

fn max() -> Object {
    nullable(integer(1..=BATCH_MAX.into()), Type::Integer)
        .default(Some(BATCH_DEFAULT.into()))
        .description(Some("Events in a batch, at most."))
        .build()
}

/// A number in this range, or 0 for none; left out or `null`, it stays as it is.
fn kept(range: RangeInclusive<u64>, meaning: &str) -> RefOr<Schema> {
    let none = ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([Type::Integer, Type::Null]))
        .enum_values(Some([serde_json::json!(0), serde_json::Value::Null]));
    OneOfBuilder::new().item(integer(range)).item(none).description(Some(meaning)).into()
}

fn retention() -> RefOr<Schema> {
    kept(
        RETENTION_MS,
        "Events that have waited longer are dropped, in milliseconds. More than `timeout`; 0 for no \
         limit. Left out, it stays as it is.",
    )
}

/// One of these texts, or nothing; left out or `null`, it stays as it is.
fn kept_text(texts: &[&str]) -> ObjectBuilder {
    let texts = texts.iter().copied().map(serde_json::Value::from);
    ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([Type::String, Type::Null]))
        .enum_values(Some(texts.chain([serde_json::Value::Null]).collect::<Vec<_>>()))
}

fn format() -> RefOr<Schema> {
    let meaning = "How the events of a batch are written. `cloudevents` is `application/cloudevents-batch+json`; not \
        with `pubsub`. Left out, it stays as it is.";
    kept_text(&["", "routemaster", "cloudevents"]).description(Some(meaning)).into()
}

pub fn secret() -> RefOr<Schema> {
    let one = || string("^whsec_[A-Za-z0-9+/]{32,88}={0,2}$");
    let several = ArrayBuilder::new().items(one()).max_items(Some(SigningSecrets::MAX));
    let meaning = "What each delivery is signed with, after Standard Webhooks: `whsec_` and the base64 of 24 to 64 \
        bytes; two while one takes the place of another. An empty text or array is none. Left out, it stays as it is.";
    OneOfBuilder::new()
        .item(one())
        .item(several)
        .item(kept_text(&[""]))
        .description(Some(meaning))
        .into()
}

fn since() -> Object {
    const MEANING: &str = "When a new subscription begins, in milliseconds since the epoch: it gets what its topics have \
        kept since then, and then what comes. One that is there already does not begin again.";
    nullable(integer(0..=u64::MAX), Type::Integer).description(Some(MEANING)).build()
}

fn order() -> RefOr<Schema> {
    let meaning = "Whose order is kept: `queue`, one batch after the other, or `entity`, that of the events of each URL, with \
        several batches on their way at once; an entity that fails holds up itself alone. Left out, it stays as it is; needs a \
        `callback`.";
    kept_text(&["", "queue", "entity"]).description(Some(meaning)).build().into()
}

fn parallel() -> RefOr<Schema> {
    let meaning = format!(
        "With `order` `entity`: how many batches are on their way at once at most, {PARALLEL_DEFAULT} if it is left out."
    );
    nullable(integer(1..=PARALLEL_MAX.into()), Type::Integer)
        .description(Some(meaning))
        .build()
        .into()
}

fn on_refusal() -> RefOr<Schema> {
    let limit = ObjectBuilder::new()
        .property("attempts", integer(1..=REFUSALS_MAX.into()))
        .required("attempts")
        .additional_properties(Some(AdditionalProperties::<Schema>::FreeForm(false)));
    let none = ObjectBuilder::new().schema_type(Type::Integer).enum_values(Some([0]));
    let meaning = "`hold`: a batch that is refused is sent until it is taken. With `attempts`: after so many refusals it \
        is halved until the event is found that is refused, which becomes a dead letter. Left out, it stays as it is.";
    OneOfBuilder::new()
        .item(kept_text(&["", "hold"]))
        .item(limit)
        .item(none)
        .description(Some(meaning))
        .into()
}

fn max_queued() -> RefOr<Schema> {
    kept(
        MAX_QUEUED,
        "Of more events than this, the oldest are dropped. What is on its way does not count. 0 for \
         no limit. Left out, it stays as it is.",
    )
}
