//! A publish as bytes: built once, then only its topic and its marks are written over.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::connection::Endpoint;
use super::mark::Mark;
use routemaster::bus::token::ClientToken;

/// One request that is sent again and again.
#[derive(Clone)]
pub struct Request {
    bytes: Vec<u8>,
    topic: usize,
    marks: Vec<usize>,
}

impl Request {
    /// A publish of one event, or of an array of more than one. All topics that it will go to have
    /// names of the same length.
    pub fn publish(endpoint: &Endpoint, token: &ClientToken, topic: &str, events: usize) -> Self {
        let event = Mark::event();
        let body = match events {
            0 | 1 => event,
            _ => format!("[{}]", vec![event; events].join(",")),
        };
        let path = format!("{}/topics/", endpoint.path());
        let head = format!(
            "POST {path}{topic} HTTP/1.1\r\nHost: {}\r\nAuthorization: Basic {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            endpoint.authority(),
            BASE64_STANDARD.encode(format!("{}:", token.reveal())),
            body.len()
        );
        let bytes = format!("{head}{body}").into_bytes();
        let marks = Mark::places(&bytes);
        Self { topic: "POST ".len() + path.len(), bytes, marks }
    }

    /// How many events it carries.
    pub fn events(&self) -> u64 {
        self.marks.len() as u64
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn set_topic(&mut self, topic: &str) {
        self.bytes[self.topic..self.topic + topic.len()].copy_from_slice(topic.as_bytes());
    }

    /// Numbers its events from `first` on.
    pub fn set_marks(&mut self, stream: u32, first: u64, micros: u64) {
        for (number, place) in (first..).zip(&self.marks) {
            Mark { stream, number, micros }.write(&mut self.bytes, *place);
        }
    }
}
