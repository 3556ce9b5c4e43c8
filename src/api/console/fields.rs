//! What a form says.

use serde_json::{Map, Value};

/// The fields of a form that was sent.
#[derive(Clone, Default)]
pub struct Fields(Vec<(String, String)>);

impl Fields {
    pub fn read(body: &[u8]) -> Self {
        Self(url::form_urlencoded::parse(body).into_owned().collect())
    }

    /// A field without the spaces around it; empty if it is not there.
    pub fn text(&self, name: &str) -> &str {
        let field = self.0.iter().find(|(key, _)| key == name);
        field.map_or("", |(_, value)| value.trim())
    }

    /// A field as it was written.
    pub fn whole(&self, name: &str) -> &str {
        self.0.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    pub fn is_on(&self, name: &str) -> bool {
        !self.text(name).is_empty()
    }

    /// A body for the API of the fields that are filled in, numbers as numbers.
    pub fn object(&self, texts: &[&str], numbers: &[&str]) -> Map<String, Value> {
        let filled = |name: &&&str| !self.text(name).is_empty();
        let texts = texts.iter().filter(filled).map(|name| {
            let text: Value = self.text(name).into();
            ((*name).to_owned(), text)
        });
        // What is no number is for the API to refuse, by its name.
        let numbers = numbers.iter().filter(filled).map(|name| {
            let text = self.text(name);
            let number = text.parse::<u64>().map_or_else(|_| text.into(), Value::from);
            ((*name).to_owned(), number)
        });
        texts.chain(numbers).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_filled_in_becomes_a_body() {
        let fields = Fields::read(b"name=+a%26b+&count=7&wrong=x7&empty=&on=true");
        let body = fields.object(&["name", "empty", "none"], &["count", "wrong"]);
        let expected = serde_json::json!({ "name": "a&b", "count": 7, "wrong": "x7" });
        assert_eq!(Value::from(body), expected);
        assert_eq!(fields.whole("name"), " a&b ");
        assert!(fields.is_on("on") && !fields.is_on("empty"));
    }
}
