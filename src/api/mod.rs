//! What the bus answers to over HTTP: a folder for each contract, and their description for programs.

mod alias;
pub mod bus;
mod calls;
mod console;
mod dead_letters;
mod extract;
mod journal;
mod messages;
pub mod openapi;
mod postbacks;
mod router;
mod state;

pub use console::{PATH as CONSOLE, SignInLinks};
pub use router::{ignores_slash, metrics_router, plain_router, redirecting_router, router};
pub use state::Api;

/// The OpenAPI document of everything that a bus serves, as JSON for programs and people.
///
/// # Errors
/// If it cannot be written.
pub fn openapi_document() -> serde_json::Result<String> {
    openapi::document(router::described_routes())
}

#[cfg(test)]
mod tests {
    /// `UPDATE_DOCS=1 cargo test --lib` writes the file anew.
    #[test]
    fn the_file_says_what_the_code_says() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json");
        let document = super::openapi_document().unwrap() + "\n";
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, &document).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        let hint = "docs/openapi.json is out of date: UPDATE_DOCS=1 cargo test --lib";
        assert!(written == document, "{hint}");
    }
}
