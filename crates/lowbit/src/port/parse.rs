//! JSON requests → structs; what is wrong is named: the option, and the one that was meant.

use crate::error::{Code, Error, Result, nearest};
use serde::de::value::Error as Silent;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error as _, Visitor};
use serde_json::{Map, Value};

/// Parses `text` into `T`; `option` names an unknown field and the nearest known one.
pub(super) fn parse<T: DeserializeOwned>(what: &str, text: &str) -> Result<T> {
    from_value(what, &json(what, text)?)
}

/// Reads the text of a request, whatever is in it.
pub(super) fn json(what: &str, text: &str) -> Result<Value> {
    serde_json::from_str(text)
        .map_err(|e| Error::new(Code::Internal, format!("{what} is not JSON: {e}")))
}

/// The same for a value that is already JSON, such as an object inside a request.
pub(super) fn from_value<T: DeserializeOwned>(what: &str, value: &Value) -> Result<T> {
    let Value::Object(map) = value else {
        return Err(Error::new(Code::Option, format!("{what} is not an object")));
    };
    let known = fields::<T>();
    if let Some(field) = map.keys().find(|k| !known.contains(&k.as_str())) {
        let error = Error::new(Code::Option, format!("unknown option {field:?}")).at(what);
        let near = nearest(field, known.iter().copied());
        return Err(match near {
            Some(near) => error.remedy(format!("did you mean {near:?}?")),
            None => error,
        });
    }
    T::deserialize(value).map_err(|e| {
        let field = culprit::<T>(map).map_or(String::new(), |f| format!("{f}: "));
        Error::new(Code::Option, format!("{field}{e}")).at(what)
    })
}

/// The optional field without which the rest parses.
fn culprit<T: DeserializeOwned>(map: &Map<String, Value>) -> Option<&String> {
    map.keys().find(|key| {
        let mut rest = map.clone();
        rest.remove(*key);
        T::deserialize(Value::Object(rest)).is_ok()
    })
}

/// The field names that serde knows of a struct.
fn fields<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    let mut names: &'static [&'static str] = &[];
    let outcome = T::deserialize(Names(&mut names));
    debug_assert!(outcome.is_err(), "the probe never gives a value");
    names
}

/// A deserializer that only listens to which fields are asked for.
struct Names<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for Names<'_> {
    type Error = Silent;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        _visitor: V,
    ) -> std::result::Result<V::Value, Silent> {
        *self.0 = fields;
        Err(Silent::custom("names only"))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> std::result::Result<V::Value, Silent> {
        Err(Silent::custom("names only"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Toy {
        max_tokens: u32,
        #[serde(default)]
        top_p: f32,
    }

    #[test]
    fn fields_arrive_and_defaults_fill() {
        let toy: Toy = parse("toy", r#"{"maxTokens": 3}"#).unwrap();
        assert_eq!((toy.max_tokens, toy.top_p), (3, 0.0));
    }

    #[test]
    fn the_nearest_option_is_named() {
        let e = parse::<Toy>("toy", r#"{"maxToken": 3}"#).unwrap_err();
        let text = r#"unknown option "maxToken", in toy; did you mean "maxTokens"?"#;
        assert_eq!((e.code, e.to_string().as_str()), (Code::Option, text));
    }

    #[test]
    fn a_wrong_value_names_its_option() {
        let e = parse::<Toy>("toy", r#"{"maxTokens": 3, "topP": "x"}"#).unwrap_err();
        assert!(e.what.starts_with("topP: invalid type"), "{e}");
        assert_eq!(parse::<Toy>("toy", "[1]").unwrap_err().code, Code::Option);
        assert_eq!(parse::<Toy>("toy", "{").unwrap_err().code, Code::Internal);
    }
}
