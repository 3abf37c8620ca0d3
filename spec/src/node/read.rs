//! A document's values as serde reads them, going on after an error.
//!
//! serde's own derive stops at the first thing wrong. Here a [`Field`] catches it: what is wrong inside of a field is
//! recorded with its place, and the field is [`Field::Bad`]; so a derived structure whose fields are all `Field`s
//! always comes out whole, and one pass finds everything. Keys that a structure does not have are recorded and left
//! out. A value of several shapes (a word or a mapping) is an enum with a variant for each of the
//! shapes `text`, `number`, `list` and `map` that it may have.

use super::document::{Document, Key, Value, ValueId, shortened};
use super::finding::{Finding, Findings};
use super::suggest;
use serde::de::value::StrDeserializer;
use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, IntoDeserializer, Visitor};
use std::fmt;
use std::marker::PhantomData;

/// The place of a value: which file, which value of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub file: usize,
    pub value: ValueId,
}

/// What was written for a key.
#[derive(Debug, Clone, Default)]
pub(super) enum Field<T> {
    /// The key is not there.
    #[default]
    Absent,
    /// Something that it cannot be; recorded.
    Bad(Place),
    /// This.
    Given(Place, T),
}

impl<T> Field<T> {
    /// What was written, if it could be read.
    pub fn get(&self) -> Option<&T> {
        match self {
            Field::Given(_, value) => Some(value),
            _ => None,
        }
    }

    /// What was written with its place, if it could be read.
    pub fn given(&self) -> Option<(Place, &T)> {
        match self {
            Field::Given(place, value) => Some((*place, value)),
            _ => None,
        }
    }

    /// Its place, if the key is there.
    pub fn place(&self) -> Option<Place> {
        match self {
            Field::Absent => None,
            Field::Bad(place) | Field::Given(place, _) => Some(*place),
        }
    }

    /// Whether the key is not there.
    pub fn is_absent(&self) -> bool {
        matches!(self, Field::Absent)
    }
}

impl<T> Field<Vec<T>> {
    /// The items of a list; none if the key is not there.
    pub fn items(&self) -> &[T] {
        self.get().map_or(&[], Vec::as_slice)
    }
}

/// Reads the whole of a document. Nothing if its outermost value is not of the right shape.
pub(super) fn read<T: de::DeserializeOwned>(doc: &Document, file: usize, findings: &Findings) -> Option<T> {
    let value = Reader { doc, id: doc.root()?, file, findings };
    match T::deserialize(value) {
        Ok(read) => Some(read),
        Err(stop) => {
            value.record(stop);
            None
        }
    }
}

/// A value of a document, about to be read.
#[derive(Clone, Copy)]
struct Reader<'a> {
    doc: &'a Document,
    id: ValueId,
    file: usize,
    findings: &'a Findings,
}

/// Why a value could not be read.
#[derive(Debug)]
enum Stop {
    /// Recorded already.
    Recorded,
    /// Not yet; serde says why.
    Unrecorded(String),
}

const FIELD: &str = "a field with its place";

impl<'a> Reader<'a> {
    fn value(&self) -> &'a Value {
        self.doc.value(self.id)
    }

    fn finding(&self, message: impl Into<String>) -> Finding {
        Finding::error(self.file, self.doc.at(self.id), message).path(self.doc.path(self.id))
    }

    fn record(&self, stop: Stop) {
        if let Stop::Unrecorded(message) = stop {
            self.findings.push(self.finding(message));
        }
    }

    /// Records that the value is not what is wanted.
    fn wanted(&self, wanted: &str) -> Stop {
        let secret = self.doc.is_secret(&self.doc.at(self.id));
        let found = match self.value() {
            Value::Null => "nothing".to_owned(),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a mapping".to_owned(),
            Value::Bool(_) | Value::Int(_) | Value::Number(_) if secret => "something else".to_owned(),
            Value::Text(_) if secret => "a text".to_owned(),
            Value::Bool(word) => format!("the word `{word}`"),
            Value::Int(number) => format!("the number `{number}`"),
            Value::Number(text) => format!("the number `{}`", shortened(text)),
            Value::Text(text) => format!("the text `{}`", shortened(text)),
        };
        let hint = match (wanted, self.value()) {
            ("a text", Value::Bool(_) | Value::Int(_) | Value::Number(_)) if secret => {
                Some("put it in quotes".into())
            }
            ("a text", Value::Bool(_) | Value::Int(_) | Value::Number(_)) => {
                Some(format!("put it in quotes: \"{}\"", self.as_written()))
            }
            ("a text", Value::Map(pairs)) if !pairs.is_empty() && !secret => {
                Some("a text with a colon at its end, or before a blank, must be in quotes".into())
            }
            ("a text", Value::Null) => Some("leave the key out, or write \"\" for an empty text".into()),
            ("a list", Value::Null) => Some("leave the key out, or write [] for an empty list".into()),
            ("a mapping", Value::Null) => Some("leave the key out, or write {} for an empty mapping".into()),
            ("a word or a mapping", Value::Bool(false)) => Some("write no".into()),
            ("a list", Value::Text(_) | Value::Int(_)) if !secret => {
                Some(format!("a list of one is written [{}]", self.as_written()))
            }
            ("true or false", Value::Text(text)) => match text.to_lowercase().as_str() {
                "yes" | "on" | "y" => Some("write true".into()),
                "no" | "off" | "n" => Some("write false".into()),
                "true" | "false" => Some("write it without quotes".into()),
                _ => None,
            },
            ("a number", Value::Text(text)) if text.parse::<i64>().is_ok() => {
                Some("write it without quotes".into())
            }
            ("a number", Value::Number(text)) if text.starts_with('0') => {
                Some("a leading zero is ambiguous: write 0o.. for an octal number".into())
            }
            _ => None,
        };
        let finding = self.finding(format!("expected {wanted}, found {found}")).hint_option(hint);
        // A value over several lines, or of no letters at all, is best shown by its key.
        let at = match self.value() {
            Value::Null | Value::List(_) | Value::Map(_) => self.doc.key_at(self.id),
            Value::Bool(_) | Value::Int(_) | Value::Number(_) | Value::Text(_) => finding.at.clone(),
        };
        self.findings.push(Finding { at, ..finding });
        Stop::Recorded
    }

    /// The first line of the value in the text.
    fn as_written(&self) -> String {
        let at = self.doc.at(self.id);
        let line = self.doc.line_of(at.start);
        shortened(&self.doc.text()[at.start..at.end.min(line.end)]).into_owned()
    }

    fn at(&self, id: ValueId) -> Reader<'a> {
        Reader { id, ..*self }
    }

    /// The pairs of a mapping, those left out that `known` does not have.
    fn pairs(&self, known: Option<&'static [&'static str]>) -> Result<Pairs<'a>, Stop> {
        let Value::Map(pairs) = self.value() else {
            return Err(self.wanted("a mapping"));
        };
        let unknown = |key: &Key| known.is_some_and(|known| !known.contains(&key.name.as_str()));
        for (key, value) in pairs.iter().filter(|(key, _)| unknown(key)) {
            let message = format!("unknown key `{}`", shortened(&key.name));
            let hint = suggest::key(&key.name, known.unwrap_or_default());
            let finding = Finding::error(self.file, key.at.clone(), message).path(self.doc.path(*value));
            self.findings.push(finding.hint_option(hint));
        }
        let kept = pairs.iter().filter(|(key, _)| !unknown(key)).map(|(key, value)| (key, *value)).collect();
        Ok(Pairs { reader: *self, pairs: kept, next: 0 })
    }

    fn shape(&self) -> Option<&'static str> {
        match self.value() {
            Value::Text(_) => Some("text"),
            Value::Int(_) => Some("number"),
            Value::List(_) => Some("list"),
            Value::Map(_) => Some("map"),
            Value::Null | Value::Bool(_) | Value::Number(_) => None,
        }
    }
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = Stop;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Stop> {
        Err(Stop::Unrecorded("this key takes no value of a known kind".to_owned()))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        match self.value() {
            Value::Bool(word) => visitor.visit_bool(*word),
            _ => Err(self.wanted("true or false")),
        }
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        match self.value() {
            Value::Int(number) => visitor.visit_i64(*number),
            _ => Err(self.wanted("a number")),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        match self.value() {
            Value::Text(text) if text.contains('\0') => {
                self.findings
                    .push(self.finding("a text holds the character NUL, which no program can be given"));
                Err(Stop::Recorded)
            }
            Value::Text(text) => visitor.visit_str(text),
            _ => Err(self.wanted("a text")),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        match self.value() {
            Value::List(items) => visitor.visit_seq(Items { reader: self, items: items.iter() }),
            _ => Err(self.wanted("a list")),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        visitor.visit_map(self.pairs(None)?)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        visitor.visit_map(self.pairs(Some(known))?)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        shapes: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        match self.shape().filter(|shape| shapes.contains(shape)) {
            Some(shape) => visitor.visit_enum(Shape { reader: self, shape }),
            None => Err(self.wanted(match shapes {
                ["text", "number"] => "a text or a number",
                ["text", "map"] => "a word or a mapping",
                _ => "something else",
            })),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Stop> {
        match name {
            FIELD => visitor.visit_seq(FieldParts { reader: self, next: 0 }),
            _ => visitor.visit_newtype_struct(self),
        }
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i32 i128 u8 u16 u32 u64 u128 f32 f64 char str bytes byte_buf option unit unit_struct
        tuple tuple_struct identifier ignored_any
    }
}

/// The items of a list.
struct Items<'a> {
    reader: Reader<'a>,
    items: std::slice::Iter<'a, ValueId>,
}

impl<'de> de::SeqAccess<'de> for Items<'_> {
    type Error = Stop;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Stop> {
        self.items.next().map(|id| seed.deserialize(self.reader.at(*id))).transpose()
    }
}

/// The pairs of a mapping.
struct Pairs<'a> {
    reader: Reader<'a>,
    pairs: Vec<(&'a Key, ValueId)>,
    next: usize,
}

impl<'de> de::MapAccess<'de> for Pairs<'_> {
    type Error = Stop;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Stop> {
        let Some((key, _)) = self.pairs.get(self.next) else { return Ok(None) };
        let key: StrDeserializer<'_, Stop> = key.name.as_str().into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Stop> {
        let (_, id) = self.pairs[self.next];
        self.next += 1;
        seed.deserialize(self.reader.at(id))
    }
}

/// The variant that fits a value's shape.
struct Shape<'a> {
    reader: Reader<'a>,
    shape: &'static str,
}

impl<'de, 'a> de::EnumAccess<'de> for Shape<'a> {
    type Error = Stop;
    type Variant = Shape<'a>;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Shape<'a>), Stop> {
        let shape: StrDeserializer<'_, Stop> = self.shape.into_deserializer();
        Ok((seed.deserialize(shape)?, self))
    }
}

impl<'de> de::VariantAccess<'de> for Shape<'_> {
    type Error = Stop;

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Stop> {
        seed.deserialize(self.reader)
    }

    fn unit_variant(self) -> Result<(), Stop> {
        Err(Stop::Unrecorded("a shape has a value".to_owned()))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Stop> {
        Err(Stop::Unrecorded("a shape has one value".to_owned()))
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], _: V) -> Result<V::Value, Stop> {
        Err(Stop::Unrecorded("a shape has one value".to_owned()))
    }
}

/// A field in two parts: the place as two numbers in one, then the value, if it could be read.
struct FieldParts<'a> {
    reader: Reader<'a>,
    next: u8,
}

impl<'de> de::SeqAccess<'de> for FieldParts<'_> {
    type Error = Stop;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Stop> {
        self.next += 1;
        if self.next == 1 {
            let place = (self.reader.file as u64) << 32 | u64::from(self.reader.id.number());
            return seed.deserialize(place.into_deserializer()).map(Some);
        }
        match seed.deserialize(self.reader) {
            Ok(value) => Ok(Some(value)),
            Err(stop) => {
                self.reader.record(stop);
                Ok(None)
            }
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Field<T>, D::Error> {
        struct Parts<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Parts<T> {
            type Value = Field<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value with its place")
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut parts: A) -> Result<Field<T>, A::Error> {
                let place: u64 = parts.next_element()?.ok_or_else(|| de::Error::custom("no place"))?;
                let value = ValueId::from_number(place as u32);
                let place = Place { file: (place >> 32) as usize, value };
                Ok(match parts.next_element()? {
                    Some(value) => Field::Given(place, value),
                    None => Field::Bad(place),
                })
            }
        }
        deserializer.deserialize_newtype_struct(FIELD, Parts(PhantomData))
    }
}

#[cfg(feature = "schema")]
impl<T: schemars::JsonSchema> schemars::JsonSchema for Field<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> std::borrow::Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        T::json_schema(generator)
    }
}

impl de::Error for Stop {
    fn custom<T: fmt::Display>(message: T) -> Stop {
        Stop::Unrecorded(message.to_string())
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stop::Recorded => f.write_str("recorded"),
            Stop::Unrecorded(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for Stop {}
