//! The fields of a call's body: their case is of no account, and everything that is wrong is told at once.

use std::collections::HashSet;
use std::fmt;
use std::ops::RangeInclusive;

use serde_json::value::RawValue;

use super::{NoCall, whole_number};
use crate::bus::json::{Members, Rejection, parse_object};

/// How many faults of a kind are told: one who sends thousands knows after some.
const FAULTS_MAX: usize = 20;

pub struct Fields {
    members: Members,
    faults: Vec<String>,
}

impl Fields {
    /// # Errors
    /// If it is no object.
    pub fn read(json: &[u8]) -> Result<Self, NoCall> {
        let read = parse_object::<Members>(json);
        let members = read.map_err(|error| NoCall::NotAnObject(error.to_string()))?;
        let mut fields = Self { members, faults: Vec::new() };
        for name in repeated(&fields.members) {
            fields.fault(&name, "stands there twice");
        }
        Ok(fields)
    }

    /// A field as it is written; what is `null` is absent.
    pub fn get(&self, name: &str) -> Option<&RawValue> {
        let mut members = self.members.0.iter();
        let (_, value) = members.find(|(known, _)| known.eq_ignore_ascii_case(name))?;
        Some(&**value).filter(|value| value.get() != "null")
    }

    pub fn text(&mut self, name: &str) -> Option<String> {
        let text = serde_json::from_str(self.get(name)?.get());
        text.map_err(|_| self.fault(name, "must be a string")).ok()
    }

    pub fn switch(&mut self, name: &str) -> Option<bool> {
        let switch = serde_json::from_str(self.get(name)?.get());
        switch.map_err(|_| self.fault(name, "must be true or false")).ok()
    }

    pub fn number(&mut self, name: &str, allowed: RangeInclusive<u64>) -> Option<u64> {
        let number = whole_number(self.get(name)?.get()).filter(|number| allowed.contains(number));
        if number.is_none() {
            let (from, to) = allowed.into_inner();
            self.fault(name, format_args!("must be a whole number from {from} to {to}"));
        }
        number
    }

    /// Takes note of what is wrong with a field.
    pub fn fault(&mut self, name: &str, what: impl fmt::Display) {
        if self.faults.len() >= FAULTS_MAX {
            return;
        }
        self.faults.push(Rejection::new(format_args!("`{name}` {what}")).to_string());
    }

    /// # Errors
    /// Everything that was wrong.
    pub fn finish(self) -> Result<(), Vec<String>> {
        if self.faults.is_empty() { Ok(()) } else { Err(self.faults) }
    }
}

/// The names that stand there twice, case aside.
pub fn repeated(Members(members): &Members) -> Vec<String> {
    let mut seen = HashSet::with_capacity(members.len());
    let repeated = members.iter().filter(|(name, _)| !seen.insert(name.to_ascii_lowercase()));
    repeated.map(|(name, _)| name.clone()).take(FAULTS_MAX).collect()
}
