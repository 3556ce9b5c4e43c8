//! The body that a call is to be sent with.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use serde::de::IgnoredAny;

use super::fields::Fields;

/// The body: a string as it stands, any other JSON as its text. It must be JSON or well-formed XML, unless it
/// is of another type.
pub fn read(fields: &mut Fields, content_type: Option<&str>) -> String {
    let Some(raw) = fields.get("body") else { return String::new() };
    let Ok(body) = serde_json::from_str::<String>(raw.get()) else { return raw.get().to_owned() };
    let is_checked = content_type.is_none_or(|kind| is_json(kind) || is_xml(kind));
    if is_checked && !body.is_empty() && !is_json_text(&body) && !is_well_formed(&body) {
        fields.fault(
            "body",
            "is neither JSON nor well-formed XML; another type needs its Content-Type in `headers`",
        );
    }
    body
}

fn essence(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn is_json(content_type: &str) -> bool {
    let essence = essence(content_type);
    essence.ends_with("/json") || essence.ends_with("+json")
}

fn is_xml(content_type: &str) -> bool {
    let essence = essence(content_type);
    essence.ends_with("/xml") || essence.ends_with("+xml")
}

fn is_json_text(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// Whether it is one element, with all that is opened closed.
fn is_well_formed(text: &str) -> bool {
    let mut reader = Reader::from_str(text);
    let (mut depth, mut roots) = (0usize, 0usize);
    loop {
        match reader.read_event() {
            Ok(Event::Start(element) | Event::Empty(element)) if !is_tag(&element) => return false,
            Ok(Event::Start(_)) => {
                roots += usize::from(depth == 0);
                depth += 1;
            }
            Ok(Event::Empty(_)) => roots += usize::from(depth == 0),
            Ok(Event::End(_)) => depth = depth.saturating_sub(1),
            Ok(Event::Text(text)) if depth == 0 => {
                if !text.iter().all(u8::is_ascii_whitespace) {
                    return false;
                }
            }
            Ok(Event::Eof) => return depth == 0 && roots == 1,
            Ok(_) => {}
            Err(_) => return false,
        }
    }
}

/// Whether a tag has a name and attributes as XML has them, which the reader does not look at.
fn is_tag(element: &BytesStart<'_>) -> bool {
    let is_first = |byte: u8| byte.is_ascii_alphabetic() || b"_:".contains(&byte) || byte >= 0x80;
    let is_further = |byte: u8| is_first(byte) || byte.is_ascii_digit() || b"-.".contains(&byte);
    let name = element.name();
    let is_name = name.as_ref().first().copied().is_some_and(is_first)
        && name.as_ref().iter().copied().all(is_further);
    is_name && element.attributes().all(|attribute| attribute.is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn well_formed_xml_is_one_element_with_all_that_is_opened_closed() {
        for good in
            ["<a/>", "<?xml version=\"1.0\"?>\n<a b=\"c\"><d>e</d></a>\n", "<a><!-- x --></a>"]
        {
            assert!(is_well_formed(good), "{good}");
        }
        for bad in [
            "", "a", "<a>", "</a>", "<a></b>", "<a/><b/>", "<a/>b", "<a", "<<a/>", "<1/>",
            "<a b/>", "<a b=c/>",
        ] {
            assert!(!is_well_formed(bad), "{bad}");
        }
    }

    #[test]
    fn what_is_of_another_type_is_not_looked_at() {
        let body = |fields: &str| {
            let mut fields = Fields::read(fields.as_bytes()).unwrap();
            let text = read(&mut fields, Some("text/plain; charset=utf-8"));
            (text, fields.finish().is_ok())
        };
        assert_eq!(body(r#"{"body":"anything"}"#), ("anything".into(), true));
        assert_eq!(body(r#"{"body":{"a": [1]}}"#), (r#"{"a": [1]}"#.into(), true));
        assert_eq!(body(r#"{"body":null}"#), (String::new(), true));
    }
}
