//! What the bus sends to a subscriber, as the OpenAPI document describes it: a webhook.
//!
//! It is here for those who write receivers; the worker does it.

use utoipa::openapi::path::{OperationBuilder, Parameter, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::{
    ArrayBuilder, ContentBuilder, HttpMethod, ObjectBuilder, OpenApi, PathsBuilder, Ref, Required,
    Response, SecurityRequirement, Type,
};
use utoipa::{PartialSchema, ToSchema};

use super::schemas::{self, DeliveredEvent};
use super::tags::DELIVERY;
use crate::bus::cloudevents;

const DESCRIPTION: &str = "\
One batch of events, in the order of the subscriber's queue. The next one leaves after this one was \
acknowledged. A batch that is sent again holds the same events, or has another `Webhook-Id`: a \
receiver that remembers the last one it handled can skip repetitions.";

pub fn describe(document: &mut OpenApi) {
    let event = Ref::from_schema_name(DeliveredEvent::name());
    let batch = schemas::batch(ArrayBuilder::new().items(event));
    let batch = ContentBuilder::new().schema(Some(batch)).build();
    let cloud_events = ObjectBuilder::new().description(Some(
        "A batch of CloudEvents 1.0, for subscriptions with `\"format\": \"cloudevents\"`.",
    ));
    let cloud_events = ContentBuilder::new()
        .schema(Some(ArrayBuilder::new().items(cloud_events).min_items(Some(1))))
        .build();
    let body = RequestBodyBuilder::new()
        .content("application/json", batch)
        .content(cloudevents::BATCH_TYPE, cloud_events);
    let uuid = SecurityRequirement::new::<_, [_; 0], String>("uuid", []);
    let optional = |name, kind, description| {
        let mut header = header(name, kind, description);
        header.required = Required::False;
        header
    };
    let headers = [
        optional(
            "Webhook-Signature",
            Type::String,
            "`v1,` and the base64 of the HMAC-SHA256 over `id.timestamp.body`, after Standard Webhooks; of a \
             subscription with two `secret`s, one for each, with a space between them.",
        ),
        optional(
            "Routemaster-Replay",
            Type::String,
            "`true`: an event in it is delivered once more, because somebody asked for it.",
        ),
        header("Webhook-Id", Type::String, "The same each time a batch is sent."),
        header("Webhook-Timestamp", Type::Integer, "When it was sent, in seconds since the epoch."),
        header("Routemaster-Attempt", Type::Integer, "How often it was sent, this time included."),
        header("User-Agent", Type::String, "`routemaster/` and the version of the bus."),
    ];
    let operation = OperationBuilder::new()
        .operation_id(Some("deliver"))
        .tag(DELIVERY)
        .summary(Some("POST a batch of events to the callback of a subscription."))
        .description(Some(DESCRIPTION))
        .parameters(Some(headers))
        .request_body(Some(body.required(Some(Required::True)).build()))
        .securities(Some([uuid, SecurityRequirement::default()]))
        .response("200", Response::new("acknowledged, whatever the body"))
        .response("204", Response::new("acknowledged"))
        .response("410", Response::new("the callback is gone: the subscription is paused"))
        .response(
            "default",
            Response::new("a failure, as are a redirect and no answer in time: it is sent again"),
        );
    let item = PathItem::new(HttpMethod::Post, operation);
    document.webhooks = Some(PathsBuilder::new().path("delivery", item).build());
    let components = document.components.get_or_insert_default();
    let mut schemas = vec![(DeliveredEvent::name().into(), DeliveredEvent::schema())];
    DeliveredEvent::schemas(&mut schemas);
    components.schemas.extend(schemas);
}

fn header(name: &str, kind: Type, description: &str) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .required(Required::True)
        .description(Some(description))
        .schema(Some(ObjectBuilder::new().schema_type(kind)))
        .build()
}
