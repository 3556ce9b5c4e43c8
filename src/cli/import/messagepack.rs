//! An entry of a Ruby Routemaster's batch, which is MessagePack, becomes an item of a queue.

use std::borrow::Cow;

use rmpv::ValueRef;
use rmpv::decode::read_value_ref_with_max_depth;
use serde_json::value::RawValue;

use crate::bus::event::{DATA_DEPTH_MAX, DataLimits, Event};
use crate::bus::item::Item;
use crate::bus::topic::TopicName;

/// What the other bus accepted is not measured by what this one would accept from a publisher, but it
/// has to fit.
const DATA: DataLimits = DataLimits { bytes: 512 * 1024, depth: DATA_DEPTH_MAX };
/// The decoder counts each level of nesting twice, and so do the array and the map around `data`.
const DEPTH_MAX: usize = 2 * (DATA_DEPTH_MAX + 4);

/// What an entry is.
#[derive(Debug, PartialEq, Eq)]
pub enum Entry {
    Event(Item),
    /// What the Ruby processes tell each other; there is nothing to deliver.
    Control,
}

/// Why an entry cannot be delivered: a few words about all entries with this trouble.
pub type Garbled = Cow<'static, str>;

/// Reads an entry. The JSON in it is written as a publisher's would be, without losing a digit.
///
/// # Errors
/// Why it cannot be delivered.
pub fn read(mut entry: &[u8], topic_name_max: usize) -> Result<Entry, Garbled> {
    let decoded = read_value_ref_with_max_depth(&mut entry, DEPTH_MAX);
    let value = decoded.map_err(|error| match error {
        rmpv::decode::Error::DepthLimitExceeded => "they are nested too deeply",
        _ => "they are not MessagePack",
    })?;
    if !entry.is_empty() {
        return Err("they are not MessagePack".into());
    }
    let ValueRef::Array(parts) = value else {
        return Err("they are no arrays".into());
    };
    match (parts.first().and_then(text), parts.get(1), parts.len()) {
        (Some("k" | "p"), ..) => Ok(Entry::Control),
        (Some("e"), Some(ValueRef::Map(fields)), 2) => event(fields, topic_name_max),
        (Some("e"), ..) => Err("their fields are no map".into()),
        _ => Err("their kind is not known".into()),
    }
}

fn event(fields: &[(ValueRef<'_>, ValueRef<'_>)], topic_name_max: usize) -> Result<Entry, Garbled> {
    let field = |name: &str| {
        let found = fields.iter().rev().find(|(key, _)| text(key) == Some(name));
        found.map(|(_, value)| value).filter(|value| **value != ValueRef::Nil)
    };
    let string = |name: &str, missing: &'static str| {
        field(name).and_then(text).ok_or(Garbled::Borrowed(missing))
    };
    let topic = string("o", "`topic` is missing or no text")?;
    let topic = TopicName::parse(topic, topic_name_max)
        .map_err(|_| "`topic` is no topic name that this bus allows")?;
    let kind = string("y", "`type` is missing or no text")?;
    let url = string("u", "`url` is missing or no text")?;
    let timestamp = field("t").and_then(ValueRef::as_u64);
    let timestamp = timestamp
        .filter(|ms| i64::try_from(*ms).is_ok())
        .ok_or("`timestamp` is missing or no number of milliseconds")?;
    let data = field("d").map(json).transpose()?;
    let data = data.as_deref().map(serde_json::from_str::<&RawValue>).transpose();
    let data = data.map_err(|_| "`data` cannot be written as JSON")?;
    let event = Event::new(kind, url.into(), Some(timestamp), data, DATA)
        .map_err(|reason| reason.to_string())?;
    Ok(Entry::Event(event.encode(&topic, timestamp)))
}

/// A string. Old versions of Ruby's MessagePack write it as bytes.
fn text<'a>(value: &ValueRef<'a>) -> Option<&'a str> {
    match value {
        ValueRef::String(string) => string.into_str(),
        ValueRef::Binary(bytes) => std::str::from_utf8(bytes).ok(),
        _ => None,
    }
}

fn json(value: &ValueRef<'_>) -> Result<String, Garbled> {
    let mut json = String::new();
    write_json(value, &mut json)?;
    Ok(json)
}

fn write_json(value: &ValueRef<'_>, json: &mut String) -> Result<(), Garbled> {
    match value {
        ValueRef::Nil => json.push_str("null"),
        ValueRef::Boolean(value) => json.push_str(if *value { "true" } else { "false" }),
        ValueRef::Integer(number) => json.push_str(&number.to_string()),
        ValueRef::F32(number) => write_float(f64::from(*number), json)?,
        ValueRef::F64(number) => write_float(*number, json)?,
        ValueRef::String(_) | ValueRef::Binary(_) => {
            write_text(text(value).ok_or("`data` holds bytes that are no text")?, json)?;
        }
        ValueRef::Array(elements) => {
            json.push('[');
            for (index, element) in elements.iter().enumerate() {
                if index > 0 {
                    json.push(',');
                }
                write_json(element, json)?;
            }
            json.push(']');
        }
        ValueRef::Map(fields) => {
            json.push('{');
            for (index, (key, value)) in fields.iter().enumerate() {
                if index > 0 {
                    json.push(',');
                }
                write_text(
                    text(key).ok_or("`data` holds a map with a key that is no text")?,
                    json,
                )?;
                json.push(':');
                write_json(value, json)?;
            }
            json.push('}');
        }
        ValueRef::Ext(..) => return Err("`data` holds a value of a type that JSON lacks".into()),
    }
    Ok(())
}

fn write_float(number: f64, json: &mut String) -> Result<(), Garbled> {
    if !number.is_finite() {
        return Err("`data` holds a number that JSON lacks, such as NaN".into());
    }
    // The shortest digits that stand for this very number.
    json.push_str(&serde_json::to_string(&number).map_err(|error| error.to_string())?);
    Ok(())
}

fn write_text(text: &str, json: &mut String) -> Result<(), Garbled> {
    json.push_str(&serde_json::to_string(text).map_err(|error| error.to_string())?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use rmpv::Value;

    use super::*;

    fn packed(value: &Value) -> Vec<u8> {
        let mut bytes = Vec::new();
        rmpv::encode::write_value(&mut bytes, value).unwrap();
        bytes
    }

    fn entry(kind: &str, fields: Vec<(Value, Value)>) -> Vec<u8> {
        packed(&Value::Array(vec![kind.into(), Value::Map(fields)]))
    }

    fn fields(data: Value) -> Vec<(Value, Value)> {
        vec![
            ("t".into(), 1_500_000_000_123u64.into()),
            ("o".into(), "widgets".into()),
            ("y".into(), "update".into()),
            ("u".into(), "https://a.example/1".into()),
            ("d".into(), data),
        ]
    }

    /// An event with one field replaced, or taken out.
    fn with(name: &str, value: Option<Value>) -> Vec<u8> {
        let mut fields = fields(Value::Nil);
        fields.retain(|(key, _)| key.as_str() != Some(name));
        fields.extend(value.map(|value| (name.into(), value)));
        entry("e", fields)
    }

    fn item(bytes: &[u8]) -> String {
        match read(bytes, 32) {
            Ok(Entry::Event(item)) => String::from_utf8(item.to_vec()).unwrap(),
            other => panic!("this should be an event: {other:?}"),
        }
    }

    const HEAD: &str =
        r#"{"topic":"widgets","type":"update","url":"https://a.example/1","t":1500000000123"#;

    #[test]
    fn an_event_is_written_as_a_publishers_would_be() {
        assert_eq!(item(&entry("e", fields(Value::Nil))), format!("{HEAD}}}"));
        assert_eq!(item(&with("d", None)), format!("{HEAD}}}"));
        let data = Value::Map(vec![
            ("id".into(), u64::MAX.into()),
            ("low".into(), i64::MIN.into()),
            ("price".into(), 0.1.into()),
            ("round".into(), 2.0.into()),
            ("half".into(), Value::F32(0.5)),
            ("name".into(), "é \"q\" \n".into()),
            ("list".into(), Value::Array(vec![Value::Nil, true.into(), false.into()])),
            ("map".into(), Value::Map(vec![])),
        ]);
        let expected = r#"{"id":18446744073709551615,"low":-9223372036854775808,"price":0.1,"round":2.0,"half":0.5,"name":"é \"q\" \n","list":[null,true,false],"map":{}}"#;
        assert_eq!(item(&entry("e", fields(data))), format!("{HEAD},\"data\":{expected}}}"));
    }

    #[test]
    fn strings_may_be_bytes_as_old_versions_write_them() {
        let bytes = |text: &str| Value::Binary(text.as_bytes().to_vec());
        let fields = vec![
            (bytes("t"), 1_500_000_000_123u64.into()),
            (bytes("o"), bytes("widgets")),
            (bytes("y"), bytes("update")),
            (bytes("u"), bytes("https://a.example/1")),
            (bytes("d"), Value::Map(vec![(bytes("k"), bytes("v"))])),
        ];
        let entry = packed(&Value::Array(vec![bytes("e"), Value::Map(fields)]));
        assert_eq!(item(&entry), format!("{HEAD},\"data\":{{\"k\":\"v\"}}}}"));
        // And the raw strings of before MessagePack knew about bytes.
        let raw = b"\x92\xa1e\x85\xa1t\xcf\x00\x00\x01\x5d\x3e\xf7\x98\x7b\xa1o\xa7widgets\xa1y\xa6update\
            \xa1u\xb3https://a.example/1\xa1d\xc0";
        assert_eq!(item(raw), format!("{HEAD}}}"));
    }

    #[test]
    fn control_messages_are_no_events() {
        assert_eq!(read(&entry("k", vec![]), 32), Ok(Entry::Control));
        assert_eq!(read(&packed(&Value::Array(vec!["p".into()])), 32), Ok(Entry::Control));
    }

    #[test]
    fn what_cannot_be_delivered_is_told_apart() {
        let deep =
            |levels: usize| (0..levels).fold(Value::Nil, |inner, _| Value::Array(vec![inner]));
        assert!(read(&entry("e", fields(deep(DATA_DEPTH_MAX))), 32).is_ok());
        let mut trailing = entry("e", fields(Value::Nil));
        trailing.push(0xc0);
        let whole = entry("e", fields("x".into()));
        let huge = Value::from("x".repeat(DATA.bytes));
        let long = Value::from(format!("https://a.example/{}", "a".repeat(1024)));
        for (entry, expected) in [
            (vec![], "not MessagePack"),
            (b"{\"json\":1}".to_vec(), "not MessagePack"),
            (whole[..whole.len() - 1].to_vec(), "not MessagePack"),
            (b"\xdf\xff\xff\xff\xff".to_vec(), "not MessagePack"),
            (trailing, "not MessagePack"),
            (packed(&7.into()), "no arrays"),
            (packed(&Value::Array(vec![])), "kind"),
            (entry("x", fields(Value::Nil)), "kind"),
            (packed(&Value::Array(vec!["e".into(), 7.into()])), "no map"),
            (packed(&Value::Array(vec!["e".into()])), "no map"),
            (with("t", None), "`timestamp`"),
            (with("t", Some(Value::Nil)), "`timestamp`"),
            (with("t", Some((-1).into())), "`timestamp`"),
            (with("t", Some(1.5.into())), "`timestamp`"),
            (with("t", Some(u64::MAX.into())), "`timestamp`"),
            (with("o", None), "`topic` is missing"),
            (with("o", Some("Bad-Name".into())), "topic name"),
            (with("o", Some("a".repeat(33).into())), "topic name"),
            (with("y", Some("created".into())), "`type` must be"),
            (with("y", None), "`type` is missing"),
            (with("u", Some("http://a.example".into())), "`url` must start with https://"),
            (with("u", Some(7.into())), "`url` is missing or no text"),
            (with("u", Some(long)), "1024"),
            (with("d", Some(f64::NAN.into())), "NaN"),
            (with("d", Some(f64::INFINITY.into())), "NaN"),
            (with("d", Some(Value::Ext(-1, vec![0; 4]))), "type that JSON lacks"),
            (with("d", Some(Value::Map(vec![(1.into(), 2.into())]))), "key that is no text"),
            (with("d", Some(Value::Binary(vec![0xff]))), "no text"),
            (with("d", Some(deep(129))), "nested too deeply"),
            (vec![0x91; 100_000], "nested too deeply"),
            (with("d", Some(huge)), "larger than"),
        ] {
            let reason = read(&entry, 32).expect_err(expected);
            assert!(reason.contains(expected), "{reason}, not {expected}");
        }
    }
}
