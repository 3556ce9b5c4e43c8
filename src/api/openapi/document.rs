//! The OpenAPI document: what the API takes and answers, for programs (`GET /openapi.json`).
//!
//! Each handler describes itself, and the router takes none that does not. Here is the rest: what holds
//! for all of them, and what the bus sends to its subscribers.

use std::collections::BTreeMap;

use utoipa::IntoResponses;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::schema::AdditionalProperties;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    Components, ContentBuilder, HeaderBuilder, InfoBuilder, License, ObjectBuilder, OpenApi, Ref,
    RefOr, Response, ResponseBuilder, Schema, SecurityRequirement, ServerBuilder, Tag, Type,
};

use super::tags::{
    CALLS, CONTROL, DELIVERY, MESSAGES, MONITORING, PUBLISHING, SUBSCRIBING, TOKENS,
};
use super::webhook;
use crate::http::authentication::Caller;
use crate::http::body::Body;

const ABOUT: &str = "\
Services publish small notifications into topics; every subscriber gets the events of its topics \
POSTed to its callback, in ordered batches, at least once.

HTTPS only: a plain HTTP request on the same port is answered with `308`, but for those that ask for \
the health. An answer over TLS has `Strict-Transport-Security`, unless it comes from an address, from \
localhost, or with the development certificate. An error has one line of \
text that says what to change. A method that a path does not have is answered with `405` and \
`Allow`, any other path with `404`. The `Content-Type` of a request is not looked at.";

/// Completes what routes say of themselves to the whole document, as JSON for programs and people.
///
/// # Errors
/// If it cannot be written.
pub fn document(routes: OpenApi) -> serde_json::Result<String> {
    let mut document = routes;
    describe_the_bus(&mut document);
    close_bodies(document.components.get_or_insert_default());
    let operations = document.paths.paths.values_mut().flat_map(operations);
    operations.for_each(complete);
    document.to_pretty_json()
}

fn describe_the_bus(document: &mut OpenApi) {
    let mut license = License::new("MIT");
    license.identifier = Some("MIT".into());
    document.info = InfoBuilder::new()
        .title("Routemaster")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(ABOUT))
        .license(Some(license))
        .build();
    let here = "The bus that this document came from; https://localhost:17890 unless it is set up \
        otherwise.";
    document.servers = Some(vec![ServerBuilder::new().url("/").description(Some(here)).build()]);
    let tags = [PUBLISHING, SUBSCRIBING, DELIVERY, CONTROL, CALLS, MESSAGES, MONITORING, TOKENS];
    document.tags = Some(tags.map(Tag::new).into());
    document.security = Some(vec![SecurityRequirement::new::<_, [_; 0], String>("token", [])]);
    webhook::describe(document);
    describe_shared_parts(document.components.get_or_insert_default());
}

/// Bodies that are described apart from what parses them, which takes no other field.
const CLOSED: [&str; 4] =
    ["PublishedEvent", "Subscription", "PubSubSubscription", "PullSubscription"];

fn close_bodies(components: &mut Components) {
    for name in CLOSED {
        if let Some(RefOr::T(Schema::Object(body))) = components.schemas.get_mut(name) {
            body.additional_properties = Some(Box::new(AdditionalProperties::FreeForm(false)));
        }
    }
}

/// The names of what operations refer to.
const REASON: &str = "Reason";
const REFUSED: &str = "Refused";
const UNAUTHORIZED: &str = "Unauthorized";
const TRY_LATER: &str = "TryLater";
const USE_HTTPS: &str = "UseHttps";

fn describe_shared_parts(components: &mut Components) {
    let basic = |description: &str| {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Basic);
        SecurityScheme::Http(scheme.description(Some(description)).build())
    };
    let token = "The user name is a token, the password is ignored.";
    components.add_security_scheme("token", basic(token));
    let uuid = "User name and password are both the `uuid` of the subscription.";
    components.add_security_scheme("uuid", basic(uuid));

    let reason = ObjectBuilder::new().schema_type(Type::String).pattern(Some(r"^[^\r\n]+\n?$"));
    let reason = reason.description(Some("One line that says what to change."));
    components.schemas.insert(REASON.into(), reason.into());

    let text = |description: &str| {
        let reason = ContentBuilder::new().schema(Some(Ref::from_schema_name(REASON))).build();
        ResponseBuilder::new().description(description).content("text/plain", reason)
    };
    let header = |kind: Type, description: &str| {
        let schema = ObjectBuilder::new().schema_type(kind);
        HeaderBuilder::new().schema(Some(schema)).description(Some(description)).build()
    };
    let challenge = header(Type::String, "`Basic`, with a realm.");
    let seconds = header(Type::Integer, "Seconds after which trying again makes sense.");
    let location = header(Type::String, "The same host, port, path and query over HTTPS.");
    let use_https = ResponseBuilder::new()
        .description("the request came over plain HTTP, and nothing was done")
        .header("Location", location);
    components.responses = BTreeMap::from([
        (REFUSED.into(), text("the request is refused").build().into()),
        (
            UNAUTHORIZED.into(),
            text("nobody is known by this token")
                .header("WWW-Authenticate", challenge)
                .build()
                .into(),
        ),
        (TRY_LATER.into(), text("not now").header("Retry-After", seconds).build().into()),
        (USE_HTTPS.into(), use_https.build().into()),
    ]);
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.put, &mut item.post, &mut item.patch, &mut item.delete]
        .into_iter()
        .flatten()
}

/// Adds what is the same everywhere: the redirect to HTTPS, and how an error looks.
fn complete(operation: &mut Operation) {
    let responses = &mut operation.responses.responses;
    for (status, response) in responses.iter_mut() {
        if let (RefOr::T(own), Some(shared)) = (&*response, error_response(status))
            // Others than the bus's own have a shape of theirs.
            && own.content.is_empty()
        {
            *response = refer_to(shared, &own.description);
        }
    }
    responses.insert("308".into(), Ref::from_response_name(USE_HTTPS).into());
}

/// How an answer with this status looks, if it is an error.
fn error_response(status: &str) -> Option<&'static str> {
    match status {
        "401" => Some(UNAUTHORIZED),
        "429" | "503" => Some(TRY_LATER),
        error if error >= "400" => Some(REFUSED),
        _ => None,
    }
}

fn refer_to(response: &str, description: &str) -> RefOr<Response> {
    let mut reference = Ref::from_response_name(response);
    reference.description = description.to_owned();
    reference.into()
}

fn errors<const N: usize>(errors: [(&str, &str); N]) -> BTreeMap<String, RefOr<Response>> {
    errors.map(|(status, description)| (status.into(), Response::new(description).into())).into()
}

/// What a request may come to whose caller must be known.
impl IntoResponses for Caller {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        errors([
            ("401", "no or malformed `Authorization`, another scheme, or an unknown token"),
            ("429", "too many unknown tokens from this address; known ones pass"),
            ("500", "the store is damaged"),
            ("503", "the store is not available"),
        ])
    }
}

/// What a request with a body may come to.
impl IntoResponses for Body {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        errors([
            ("408", "the body did not arrive within `ROUTEMASTER_BODY_TIMEOUT`"),
            ("413", "the body is larger than `ROUTEMASTER_MAX_BODY`"),
            ("415", "the body has a `Content-Encoding`"),
        ])
    }
}
