//! The description of the API for programs. Routes describe themselves with [`tags`] and [`schemas`];
//! [`document()`] adds what holds for all of them.

mod document;
pub mod schemas;
pub mod tags;
mod webhook;

pub use document::document;
