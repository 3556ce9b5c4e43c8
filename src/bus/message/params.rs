//! The parameters of a request, read as leniently as Postoffice did: `"true"` and `"5"` do for a boolean and a number,
//! `null` and blank text are absent, of a name that stands twice the last one counts.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;

use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::bus::json::{Members, Rejection, parse_object, whole_number};

/// What is missing.
const BLANK: &str = "can't be blank";
/// What is of another kind than it should be.
const INVALID: &str = "is invalid";
/// The longest text, in characters, as the original's tables had it.
const TEXT_MAX: usize = 255;

/// What is wrong with which field.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Faults(pub BTreeMap<&'static str, Vec<String>>);

impl Faults {
    /// One field with one fault.
    pub fn one(field: &'static str, what: impl fmt::Display) -> Self {
        let mut faults = Self::default();
        faults.add(field, what);
        faults
    }

    pub fn add(&mut self, field: &'static str, what: impl fmt::Display) {
        self.0.entry(field).or_default().push(what.to_string());
    }
}

/// Why a request is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotTaken {
    /// It is no JSON object.
    NoObject(Rejection),
    Faulty(Faults),
    /// More messages than this.
    TooMany(usize),
    /// What its messages come to is more than [`KEPT_MAX`](super::KEPT_MAX).
    TooLarge,
}

impl From<Rejection> for NotTaken {
    fn from(rejection: Rejection) -> Self {
        Self::NoObject(rejection)
    }
}

/// The parameters, and what was wrong with those that were read.
pub struct Params {
    members: Members,
    faults: Faults,
}

impl Params {
    /// # Errors
    /// If the body is no JSON object.
    pub fn read(json: &[u8]) -> Result<Self, Rejection> {
        Ok(Self { members: parse_object(json)?, faults: Faults::default() })
    }

    /// A parameter as it is written; what is `null` is absent.
    pub fn get(&self, name: &str) -> Option<&RawValue> {
        self.members.last(name).filter(|value| value.get() != "null")
    }

    pub fn fault(&mut self, name: &'static str, what: impl fmt::Display) {
        self.faults.add(name, what);
    }

    /// Text of 1 to 255 characters, not blank.
    pub fn text(&mut self, name: &'static str) -> Option<String> {
        let text: Option<String> =
            match self.get(name).map(|value| serde_json::from_str(value.get())) {
                None => None,
                Some(Ok(text)) => Some(text),
                Some(Err(_)) => {
                    self.fault(name, INVALID);
                    return None;
                }
            };
        let Some(text) = text.filter(|text| !text.trim().is_empty()) else {
            self.fault(name, BLANK);
            return None;
        };
        if text.chars().count() > TEXT_MAX {
            self.fault(name, format_args!("should be at most {TEXT_MAX} character(s)"));
            return None;
        }
        Some(text)
    }

    /// `None` if it is absent or no boolean.
    pub fn switch(&mut self, name: &'static str) -> Option<bool> {
        let value: Value = serde_json::from_str(self.get(name)?.get()).unwrap_or_default();
        let switch = match &value {
            Value::Bool(switch) => Some(*switch),
            Value::String(text) => match text.as_str() {
                "true" | "1" => Some(true),
                "false" | "0" => Some(false),
                _ => None,
            },
            _ => None,
        };
        if switch.is_none() {
            self.fault(name, INVALID);
        }
        switch
    }

    /// `None` if it is absent or no such number.
    pub fn number(&mut self, name: &'static str, allowed: RangeInclusive<u64>) -> Option<u64> {
        let written = self.get(name)?.get();
        let text: Option<String> = serde_json::from_str(written).ok();
        let number = match &text {
            Some(text) => text.trim().parse().ok(),
            None => whole_number(written),
        };
        let Some(number) = number else {
            self.fault(name, INVALID);
            return None;
        };
        if !allowed.contains(&number) {
            let (from, to) = allowed.into_inner();
            self.fault(name, format_args!("must be {from} to {to}"));
            return None;
        }
        Some(number)
    }

    /// # Errors
    /// What was wrong with the parameters that were read.
    pub fn finish(self) -> Result<(), NotTaken> {
        if self.faults.0.is_empty() { Ok(()) } else { Err(NotTaken::Faulty(self.faults)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(read: impl FnOnce(&mut Params), json: &str) -> String {
        let mut params = Params::read(json.as_bytes()).unwrap();
        read(&mut params);
        match params.finish() {
            Err(NotTaken::Faulty(faults)) => serde_json::to_string(&faults).unwrap(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn strings_do_for_booleans_and_numbers() {
        let json = br#"{"a":"true","b":"0","c":false,"d":"5","e":7.0,"f":null,"a2":1,"d":" 6 "}"#;
        let mut params = Params::read(json).unwrap();
        assert_eq!((params.switch("a"), params.switch("b")), (Some(true), Some(false)));
        assert_eq!((params.switch("c"), params.switch("f")), (Some(false), None));
        assert_eq!((params.number("d", 1..=9), params.number("e", 1..=9)), (Some(6), Some(7)));
        assert_eq!(params.number("f", 1..=9), None);
        assert_eq!(params.finish(), Ok(()));
    }

    #[test]
    fn what_is_wrong_is_told_in_the_originals_words() {
        let long = format!(r#"{{"a":"{}"}}"#, "ü".repeat(256));
        for (json, told) in [
            ("{}", r#"{"a":["can't be blank"]}"#),
            (r#"{"a":null}"#, r#"{"a":["can't be blank"]}"#),
            (r#"{"a":" "}"#, r#"{"a":["can't be blank"]}"#),
            (r#"{"a":7}"#, r#"{"a":["is invalid"]}"#),
            (&long, r#"{"a":["should be at most 255 character(s)"]}"#),
        ] {
            assert_eq!(faults(|params| assert_eq!(params.text("a"), None), json), told);
        }
        for json in [r#"{"a":"yes"}"#, r#"{"a":2}"#, r#"{"a":[]}"#] {
            assert_eq!(
                faults(|params| assert_eq!(params.switch("a"), None), json),
                r#"{"a":["is invalid"]}"#
            );
        }
        for (json, told) in [
            (r#"{"a":"five"}"#, "is invalid"),
            (r#"{"a":1.5}"#, "is invalid"),
            (r#"{"a":-1}"#, "is invalid"),
            (r#"{"a":0}"#, "must be 1 to 9"),
            (r#"{"a":"10"}"#, "must be 1 to 9"),
        ] {
            let expected = format!(r#"{{"a":["{told}"]}}"#);
            assert_eq!(
                faults(|params| assert_eq!(params.number("a", 1..=9), None), json),
                expected
            );
        }
        assert!(Params::read(b"[]").is_err());
        assert!(Params::read(b"").is_err());
    }
}
