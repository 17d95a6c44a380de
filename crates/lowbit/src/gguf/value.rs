//! Metadata values with their types: what is read as one type is never taken for another.

use crate::error::{Code, Error, Result};

/// Declares the types of values once: id, variant, Rust type, name.
macro_rules! values {
    ($($variant:ident $id:literal $ty:ty, $name:literal;)*) => {
        /// A metadata value.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Value {
            $(#[doc = $name] $variant($ty),)*
            /// Values of one type; arrays do not nest.
            Array(Array),
        }

        /// An array of metadata values.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Array { $(#[doc = concat!("Of ", $name)] $variant(Vec<$ty>),)* }

        impl Value {
            /// The id of the value's type.
            pub const fn id(&self) -> u32 {
                match self { $(Self::$variant(_) => $id,)* Self::Array(_) => ARRAY }
            }
        }

        impl Array {
            /// The id of the elements' type.
            pub const fn id(&self) -> u32 {
                match self { $(Self::$variant(_) => $id,)* }
            }

            /// How many there are.
            pub fn len(&self) -> usize {
                match self { $(Self::$variant(v) => v.len(),)* }
            }
        }

        /// Names of types for messages.
        pub(super) fn type_name(id: u32) -> &'static str {
            match id { $($id => $name,)* ARRAY => "array", _ => "unknown" }
        }
    };
}

/// The id of arrays.
pub(super) const ARRAY: u32 = 9;
/// The id of strings.
pub(super) const STRING: u32 = 8;
/// The id of bools, one byte each.
pub(super) const BOOL: u32 = 7;

values! {
    U8 0 u8, "u8";
    I8 1 i8, "i8";
    U16 2 u16, "u16";
    I16 3 i16, "i16";
    U32 4 u32, "u32";
    I32 5 i32, "i32";
    F32 6 f32, "f32";
    Bool 7 bool, "bool";
    String 8 String, "string";
    U64 10 u64, "u64";
    I64 11 i64, "i64";
    F64 12 f64, "f64";
}

impl Array {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Value {
    /// The value of a u32 and of nothing else.
    pub fn as_u32(&self) -> Option<u32> {
        match self {
            Self::U32(v) => Some(*v),
            _ => None,
        }
    }

    /// The value of any integer that is not negative.
    pub fn as_index(&self) -> Option<u64> {
        match *self {
            Self::U8(v) => Some(v.into()),
            Self::U16(v) => Some(v.into()),
            Self::U32(v) => Some(v.into()),
            Self::U64(v) => Some(v),
            Self::I8(v) => v.try_into().ok(),
            Self::I16(v) => v.try_into().ok(),
            Self::I32(v) => v.try_into().ok(),
            Self::I64(v) => v.try_into().ok(),
            _ => None,
        }
    }

    fn shown(&self) -> String {
        match self {
            Self::Array(a) => format!("an array of {} {}", a.len(), type_name(a.id())),
            other => format!("of type {}", type_name(other.id())),
        }
    }
}

/// Keys and values in the order of the file; keys are unique.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metadata(Vec<(String, Value)>);

impl Metadata {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a key, in its old place if it was there.
    pub fn set(&mut self, key: impl Into<String>, value: Value) {
        let key = key.into();
        match self.0.iter_mut().find(|(k, _)| *k == key) {
            Some((_, old)) => *old = value,
            None => self.0.push((key, value)),
        }
    }

    /// Adds a key that is known to be new.
    pub(super) fn push(&mut self, key: String, value: Value) {
        self.0.push((key, value));
    }

    /// Sets a string.
    pub fn set_string(&mut self, key: impl Into<String>, value: impl Into<String>) {
        self.set(key, Value::String(value.into()));
    }

    /// Sets a u32; `metadata` when it does not fit.
    pub fn set_count(&mut self, key: impl Into<String>, value: usize) -> Result<()> {
        let key = key.into();
        let count = u32::try_from(value).map_err(|_| {
            Error::new(
                Code::Metadata,
                format!("{key} = {value} does not fit a u32"),
            )
        })?;
        self.set(key, Value::U32(count));
        Ok(())
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| v)
    }

    /// Every key with its value.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.0.iter().map(|(k, v)| (k.as_str(), v))
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of a key as `pick` understands it; `metadata` when it has another type.
    fn typed<'a, T>(
        &'a self,
        key: &str,
        wanted: &str,
        pick: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        pick(value).map(Some).ok_or_else(|| {
            let what = format!("{key} is {}, expected {wanted}", value.shown());
            Error::new(Code::Metadata, what)
        })
    }

    /// A string, if the key is there; `metadata` when it is something else. The same for the rest.
    pub fn string(&self, key: &str) -> Result<Option<&str>> {
        self.typed(key, "a string", |v| match v {
            Value::String(s) => Some(s.as_str()),
            _ => None,
        })
    }

    /// An integer that is not negative, of any width.
    pub fn index(&self, key: &str) -> Result<Option<u64>> {
        self.typed(key, "an integer ≥ 0", Value::as_index)
    }

    /// A float of either width.
    pub fn float(&self, key: &str) -> Result<Option<f64>> {
        self.typed(key, "a float", |v| match v {
            Value::F32(x) => Some(f64::from(*x)),
            Value::F64(x) => Some(*x),
            _ => None,
        })
    }

    /// A bool.
    pub fn bool(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "a bool", |v| match v {
            Value::Bool(b) => Some(*b),
            _ => None,
        })
    }

    /// An array of strings.
    pub fn strings(&self, key: &str) -> Result<Option<&[String]>> {
        self.typed(key, "an array of strings", |v| match v {
            Value::Array(Array::String(a)) => Some(a.as_slice()),
            _ => None,
        })
    }

    /// An array of f32.
    pub fn floats(&self, key: &str) -> Result<Option<&[f32]>> {
        self.typed(key, "an array of f32", |v| match v {
            Value::Array(Array::F32(a)) => Some(a.as_slice()),
            _ => None,
        })
    }

    /// An array of i32.
    pub fn integers(&self, key: &str) -> Result<Option<&[i32]>> {
        self.typed(key, "an array of i32", |v| match v {
            Value::Array(Array::I32(a)) => Some(a.as_slice()),
            _ => None,
        })
    }

    /// One integer for each of `layers` layers, from an array of that length or one value for all.
    pub fn per_layer(&self, key: &str, layers: usize) -> Result<Option<Vec<u64>>> {
        let found = self.typed(key, "an integer ≥ 0 or an array of them", |v| match v {
            Value::Array(Array::U32(a)) => Some(a.iter().map(|x| u64::from(*x)).collect()),
            Value::Array(Array::I32(a)) => a.iter().map(|x| (*x).try_into().ok()).collect(),
            other => other.as_index().map(|x| vec![x; layers]),
        })?;
        match found {
            Some(values) if values.len() != layers => {
                let what = format!("{key} has {} values for {layers} layers", values.len());
                Err(Error::new(Code::Metadata, what))
            }
            found => Ok(found),
        }
    }
}
