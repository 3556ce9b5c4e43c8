//! The stylesheet, the script and the picture, as they are built in.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use maud::PreEscaped;
use ring::digest::{SHA256, digest};

use super::problem::no_such_page;
use crate::bus::hex::hex;

/// A file that is built in.
pub struct Asset {
    name: &'static str,
    content_type: &'static str,
    content: &'static str,
    /// Of its content: another one has another address, so that it may be kept for ever.
    hash: LazyLock<String>,
}

macro_rules! asset {
    ($name:literal, $content_type:literal) => {
        Asset {
            name: $name,
            content_type: $content_type,
            content: include_str!(concat!("assets/", $name)),
            hash: LazyLock::new(|| {
                let content = include_str!(concat!("assets/", $name));
                hex(&digest(&SHA256, content.as_bytes()).as_ref()[..8])
            }),
        }
    };
}

pub static STYLE: Asset = asset!("console.css", "text/css; charset=utf-8");
pub static SCRIPT: Asset = asset!("console.js", "text/javascript; charset=utf-8");
pub static ICON: Asset = asset!("icon.svg", "image/svg+xml");

/// The picture beside the product's name.
pub const MARK: PreEscaped<&str> = PreEscaped(include_str!("assets/mark.svg"));

impl Asset {
    /// Where it is.
    pub fn path(&self) -> String {
        format!("/console/assets/{}.{}", *self.hash, self.name)
    }
}

/// A file; it needs no session, and says nothing about anybody.
pub async fn file(Path(file): Path<String>) -> Response {
    let asset = [&STYLE, &SCRIPT, &ICON].into_iter().find(|asset| {
        file.strip_suffix(asset.name).and_then(|rest| rest.strip_suffix('.')) == Some(&**asset.hash)
    });
    let Some(asset) = asset else { return no_such_page().await.into_response() };
    let headers = [
        (header::CONTENT_TYPE, asset.content_type),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (StatusCode::OK, headers, asset.content).into_response()
}
