//! What somebody looks for in messages. They are kept as they were sent, and JSON writes one text in several ways: some
//! clients, Python's among them, escape all but ASCII.

/// A text, in each way that it may be written; all in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageText(Vec<String>);

impl MessageText {
    pub fn new(text: &str) -> Self {
        let lower = text.to_lowercase();
        let mut ways = Vec::with_capacity(4);
        // The case of what is escaped is that of its letters.
        for way in [lower.clone(), quoted(&lower), ascii(&quoted(&lower)), ascii(&quoted(text))] {
            let way = way.to_lowercase();
            if !ways.contains(&way) {
                ways.push(way);
            }
        }
        Self(ways)
    }

    /// Each way to write it.
    pub fn ways(&self) -> &[String] {
        &self.0
    }

    /// Whether it stands in what a message says.
    pub fn is_in(&self, content: &[u8]) -> bool {
        let content = String::from_utf8_lossy(content).to_lowercase();
        self.0.iter().any(|way| content.contains(way.as_str()))
    }
}

/// As it stands between the quotes of a JSON string.
fn quoted(text: &str) -> String {
    let quoted = serde_json::to_string(text).unwrap_or_default();
    let inner = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    inner.unwrap_or_default().to_owned()
}

/// With all but ASCII escaped.
fn ascii(json: &str) -> String {
    let mut ascii = String::with_capacity(json.len());
    for c in json.chars() {
        match c.is_ascii() {
            true => ascii.push(c),
            false => {
                let units = &mut [0; 2];
                for unit in c.encode_utf16(units) {
                    ascii.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    ascii
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_found_however_it_is_written() {
        let python = br#"{"payload":{"text":"Gr\u00fc\u00dfe \ud83d\ude00 \"x\""}}"#;
        let node = "{\"payload\":{\"text\":\"GRÜßE 😀 \\\"x\\\"\"}}".as_bytes();
        for text in ["grüße", "Grüße 😀", "\"x\"", "x"] {
            for content in [&python[..], node] {
                assert!(MessageText::new(text).is_in(content), "{text}");
            }
        }
        assert!(!MessageText::new("Köln").is_in(python));
        assert_eq!(MessageText::new("plain").ways(), ["plain"]);
    }
}
