//! The stylesheet, the script and the picture, as they are built in.

use std::sync::LazyLock;

use axum::http::header;
use axum::response::{IntoResponse, Response};
use maud::PreEscaped;
use ring::digest::{SHA256, digest};

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
    ($name:literal, $content_type:literal) => {{
        const CONTENT: &str = include_str!(concat!("assets/", $name));
        Asset {
            name: $name,
            content_type: $content_type,
            content: CONTENT,
            hash: LazyLock::new(|| hex(&digest(&SHA256, CONTENT.as_bytes()).as_ref()[..8])),
        }
    }};
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

    /// The one that is there under this name.
    pub fn find(file: &str) -> Option<&'static Self> {
        [&STYLE, &SCRIPT, &ICON].into_iter().find(|asset| {
            file.strip_suffix(asset.name).and_then(|rest| rest.strip_suffix('.'))
                == Some(&**asset.hash)
        })
    }
}

impl IntoResponse for &'static Asset {
    fn into_response(self) -> Response {
        let headers = [
            (header::CONTENT_TYPE, self.content_type),
            (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        ];
        (headers, self.content).into_response()
    }
}
