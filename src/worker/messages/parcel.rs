//! What one request carries: a call, or messages of one publisher.

use std::collections::HashMap;
use std::sync::Arc;

use crate::egress::google::pubsub::BYTES_MAX;
use crate::store::{LeasedCall, MessagePublisher};

/// What is made, and settled, together.
pub enum Parcel {
    Call(Box<LeasedCall>),
    /// In the order in which they came due; at least one.
    Messages {
        publisher: Arc<MessagePublisher>,
        deliveries: Vec<LeasedCall>,
    },
}

impl Parcel {
    /// At least one.
    pub fn calls(&self) -> &[LeasedCall] {
        match self {
            Self::Call(call) => std::slice::from_ref(call),
            Self::Messages { deliveries, .. } => deliveries,
        }
    }
}

/// Packs what one publisher may send together into as few parcels as it allows.
pub fn parcels(calls: Vec<LeasedCall>) -> Vec<Parcel> {
    let mut parcels = Vec::with_capacity(calls.len());
    // Where each publisher's last parcel is, and how many bytes it has.
    let mut open: HashMap<u64, (usize, usize)> = HashMap::new();
    for call in calls {
        let Some(publisher) = call.publisher.clone() else {
            parcels.push(Parcel::Call(Box::new(call)));
            continue;
        };
        let (bytes, pack_size) = (call.content.len(), publisher.pack_size() as usize);
        if let Some((index, filled)) = open.get_mut(&publisher.id)
            && let Parcel::Messages { deliveries, .. } = &mut parcels[*index]
            && deliveries.len() < pack_size
            && *filled + bytes <= BYTES_MAX
        {
            *filled += bytes;
            deliveries.push(call);
            continue;
        }
        open.insert(publisher.id, (parcels.len(), bytes));
        parcels.push(Parcel::Messages { publisher, deliveries: vec![call] });
    }
    parcels
}
