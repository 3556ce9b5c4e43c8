//! An HTML document as it is sent: its head, and what the browser is told about it.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use maud::{DOCTYPE, Markup, html};

use super::assets;

/// Nothing but what this server sends: no script and no style in the page itself, no frame around it, and its forms go
/// nowhere else.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
     form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
);

pub fn document(status: StatusCode, title: &str, head: &Markup, body: &Markup) -> Response {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · Routemaster" }
                link rel="icon" href=(assets::ICON.path()) type="image/svg+xml";
                link rel="stylesheet" href=(assets::STYLE.path());
                script src=(assets::SCRIPT.path()) defer {}
                (head)
            }
            body { (body) }
        }
    };
    let headers = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("same-origin")),
        // What one sees, nobody else must find in a cache, nor after signing out.
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (status, headers, Html(page.into_string())).into_response()
}

/// A page without navigation, for whoever is not signed in, or for what is wrong.
pub fn bare(status: StatusCode, title: &str, content: &Markup) -> Response {
    document(status, title, &html! {}, &bare_body(content))
}

/// A page that goes on to another one at once.
pub fn moving_on(to: &str, content: &Markup) -> Response {
    let refresh = html! { meta http-equiv="refresh" content={ "0; url=" (to) }; };
    document(StatusCode::OK, "Sign in", &refresh, &bare_body(content))
}

fn bare_body(content: &Markup) -> Markup {
    html! {
        main.bare #main {
            p.brand { (assets::MARK) "Routemaster" }
            (content)
        }
    }
}
