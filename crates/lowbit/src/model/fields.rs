//! Reading config.json: every refusal names the key, the value found and the values allowed.

use crate::error::{Code, Error, Result};
use serde_json::{Map, Value};
use std::fmt::Display;
use std::ops::RangeInclusive;

/// A JSON object of config.json and the path that leads to it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a> {
    map: &'a Map<String, Value>,
    path: &'a str,
}

impl<'a> Fields<'a> {
    /// Takes an object; `path` is put in front of its keys, as `rope_parameters.`, or is empty.
    pub(super) fn new(value: &'a Value, path: &'a str) -> Result<Self> {
        let name = path.trim_end_matches('.');
        let map = value.as_object().ok_or_else(|| match name {
            "" => Error::new(Code::Config, "config.json is not a JSON object"),
            _ => refuse(name, value, "an object"),
        })?;
        Ok(Self { map, path })
    }

    /// The path that was given.
    pub(super) fn path(&self) -> &'a str {
        self.path
    }

    /// The value of a key; null counts as absent, as it does in transformers.
    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|v| !v.is_null())
    }

    /// Whether the key is there and null.
    pub(super) fn is_null(&self, key: &str) -> bool {
        self.map.get(key).is_some_and(Value::is_null)
    }

    /// An integer in range, or `absent` when the key is missing; without it, missing is an error.
    pub(super) fn count(
        &self,
        key: &str,
        range: RangeInclusive<usize>,
        absent: Option<usize>,
    ) -> Result<usize> {
        let allowed = format!("an integer from {} to {}", range.start(), range.end());
        let Some(value) = self.get(key) else {
            return absent.ok_or_else(|| self.missing(key, &allowed));
        };
        let found = value.as_u64().and_then(|n| usize::try_from(n).ok());
        found
            .filter(|n| range.contains(n))
            .ok_or_else(|| self.refuse(key, value, allowed))
    }

    /// A list of integers; empty when the key is missing.
    pub(super) fn counts(&self, key: &str) -> Result<Vec<usize>> {
        let Some(value) = self.get(key) else {
            return Ok(Vec::new());
        };
        let number = |v: &Value| v.as_u64().and_then(|n| usize::try_from(n).ok());
        let list = value.as_array().map(|list| list.iter().map(number));
        list.and_then(Iterator::collect)
            .ok_or_else(|| self.refuse(key, value, "a list of integers"))
    }

    /// A list of finite numbers in range; a missing key is an error.
    pub(super) fn numbers(&self, key: &str, range: RangeInclusive<f64>) -> Result<Vec<f64>> {
        let (low, high) = (range.start(), range.end());
        let allowed = format!("a list of numbers from {low:e} to {high:e}");
        let Some(value) = self.get(key) else {
            return Err(self.missing(key, &allowed));
        };
        let number = |v: &Value| v.as_f64().filter(|x| range.contains(x));
        let list = value.as_array().map(|list| list.iter().map(number));
        list.and_then(Iterator::collect)
            .ok_or_else(|| self.refuse(key, value, allowed))
    }

    /// A finite number in range, or `absent` when the key is missing.
    pub(super) fn number(
        &self,
        key: &str,
        range: RangeInclusive<f64>,
        absent: Option<f64>,
    ) -> Result<f64> {
        let allowed = format!("a number from {:e} to {:e}", range.start(), range.end());
        let Some(value) = self.get(key) else {
            return absent.ok_or_else(|| self.missing(key, &allowed));
        };
        value
            .as_f64()
            .filter(|x| range.contains(x))
            .ok_or_else(|| self.refuse(key, value, allowed))
    }

    /// A boolean, or `absent` when the key is missing.
    pub(super) fn flag(&self, key: &str, absent: bool) -> Result<bool> {
        let Some(value) = self.get(key) else {
            return Ok(absent);
        };
        value
            .as_bool()
            .ok_or_else(|| self.refuse(key, value, "true or false"))
    }

    /// A string, if the key is there.
    pub(super) fn text(&self, key: &str) -> Result<Option<&'a str>> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let text = value.as_str();
        text.map(Some)
            .ok_or_else(|| self.refuse(key, value, "a string"))
    }

    /// The error for a value that is not allowed.
    pub(super) fn refuse(&self, key: &str, value: &Value, allowed: impl Display) -> Error {
        refuse(&format!("{}{key}", self.path), value, allowed)
    }

    fn missing(&self, key: &str, allowed: &str) -> Error {
        let what = format!("{}{key} is missing", self.path);
        Error::new(Code::Config, what)
            .at("config.json")
            .remedy(format!("expected {allowed}"))
    }
}

fn refuse(key: &str, value: &Value, allowed: impl Display) -> Error {
    // A hostile config may hold megabytes in one value; the start says enough.
    let shown: String = value.to_string().chars().take(60).collect();
    Error::new(Code::Config, format!("{key} is {shown}"))
        .at("config.json")
        .remedy(format!("expected {allowed}"))
}
