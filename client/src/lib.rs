//! A client of Routemaster, the HTTPS event bus: publishing, subscribing,
//! pulling batches, and verifying what the bus sends.
//!
//! ```no_run
//! use routemaster_client::{Bus, Event, EventKind, Subscription};
//!
//! # async fn example() -> Result<(), routemaster_client::Error> {
//! let bus = Bus::builder("https://bus.example", "shop--k3yt0").build()?;
//!
//! // One service publishes.
//! let event = Event::new(EventKind::Update, "https://shop.example/orders/17");
//! bus.publish("orders", &event).await?;
//!
//! // Another one receives, without a port of its own.
//! bus.subscribe(&Subscription::pull(["orders"])).await?;
//! let mut batches = bus.batches();
//! loop {
//!     let batch = batches.next().await?;
//!     for event in batch.events()? {
//!         println!("{} {}", event.kind, event.url);
//!     }
//!     batches.acknowledge(&batch);
//! }
//! # }
//! ```
//!
//! Events of a topic come in the order in which they were published, at least once: whoever acts on one should be able to
//! do so twice. Nothing here waits or tries again by itself; [`Error::may_pass`] says what is worth another try.
//!
//! Somebody who takes deliveries at a callback verifies them with a [`Verifier`].

mod bus;
mod error;
mod event;
mod pull;
pub mod signature;
mod subscription;

pub use bus::{Answer, Builder, Bus, Position};
pub use error::Error;
pub use event::{Event, EventKind, ReceivedEvent, UnknownKind};
pub use pull::{Batch, Batches, Pull};
pub use signature::{SignatureError, SigningSecret, Verifier};
pub use subscription::{OnRefusal, Subscription};
