//! W3C Trace Context: what ties a request to those that it caused (<https://www.w3.org/TR/trace-context/>).

use std::fmt;

/// A valid `traceparent` of version 00, or what is known of a later one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    trace_id: u128,
    parent_id: u64,
    flags: u8,
}

impl TraceParent {
    /// `None` if it is not valid: then there is no trace.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let version = lower_hex(parts.next()?, 2)?;
        let trace_id = lower_hex(parts.next()?, 32)?;
        let parent_id = lower_hex(parts.next()?, 16)?;
        let flags = lower_hex(parts.next()?, 2)?;
        let has_more = parts.next().is_some();
        let is_valid =
            version != 0xff && trace_id != 0 && parent_id != 0 && (version > 0 || !has_more);
        is_valid.then_some(Self {
            trace_id,
            parent_id: parent_id as u64,
            // Later versions may give other bits a meaning that this one does not know.
            flags: flags as u8 & 1,
        })
    }

    /// The same trace, one request further on.
    pub fn next_hop(self) -> Self {
        Self { parent_id: fastrand::u64(1..), ..self }
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.parent_id, self.flags)
    }
}

impl fmt::Debug for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn lower_hex(text: &str, digits: usize) -> Option<u128> {
    let is_lower_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let is_valid = text.len() == digits && text.bytes().all(is_lower_hex);
    is_valid.then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_valid_one_is_carried_on_with_another_parent() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let parent = TraceParent::parse(text).unwrap();
        assert_eq!(parent.to_string(), text);
        let next = parent.next_hop().to_string();
        assert_ne!(next, text);
        assert_eq!((&next[..36], &next[52..]), (&text[..36], &text[52..]));
        let later = "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03-what-comes";
        assert_eq!(TraceParent::parse(later).unwrap().to_string(), text);
    }

    #[test]
    fn what_is_not_valid_is_no_trace() {
        for text in [
            "",
            "00",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0 ",
        ] {
            assert_eq!(TraceParent::parse(text), None, "{text}");
        }
    }
}
