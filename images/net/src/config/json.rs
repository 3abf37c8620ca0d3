//! JSON as a tree in which every node knows its path: errors can name the key.
//!
//! Unlike serde_json's own tree it refuses a key given twice.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::{ConfigError, ValueError};

/// A JSON value, as far as a configuration has use for one.
#[derive(Debug)]
pub enum Json {
    Bool(bool),
    Number(u64),
    Text(String),
    List(Vec<Json>),
    Map(Vec<(String, Json)>),
    /// Null, a negative number or a fraction: nothing here takes one.
    Other,
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Number(value))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = seq.next_element()? {
            list.push(value);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let mut entries: Vec<(String, Json)> = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            if entries.iter().any(|(known, _)| *known == key) {
                return Err(A::Error::custom(format_args!("key `{key}` is given twice")));
            }
            entries.push((key, map.next_value()?));
        }
        Ok(Json::Map(entries))
    }
}

/// A value and the way to it.
#[derive(Debug, Clone)]
pub struct Node<'a> {
    path: String,
    value: &'a Json,
}

/// The entries of a map, by key; every key is a known one.
#[derive(Debug)]
pub struct Map<'a> {
    path: String,
    entries: &'a [(String, Json)],
}

impl<'a> Node<'a> {
    pub fn root(value: &'a Json) -> Self {
        Self { path: String::new(), value }
    }

    /// Such as `interfaces[0].mtu`.
    pub fn path(&self) -> String {
        if self.path.is_empty() { "the file".into() } else { self.path.clone() }
    }

    fn type_error<T>(&self, expected: &'static str) -> Result<T, ConfigError> {
        Err(ConfigError::Type { key: self.path(), expected })
    }

    pub fn map(&self, known: &[&str]) -> Result<Map<'a>, ConfigError> {
        let Json::Map(entries) = self.value else { return self.type_error("an object") };
        let map = Map { path: self.path.clone(), entries };
        match entries.iter().find(|(key, _)| !known.contains(&key.as_str())) {
            Some((key, _)) => Err(ConfigError::Unknown { key: map.path_of(key), known: known.join(", ") }),
            None => Ok(map),
        }
    }

    pub fn list(&self) -> Result<Vec<Node<'a>>, ConfigError> {
        let Json::List(list) = self.value else { return self.type_error("a list") };
        let node = |(i, value)| Node { path: format!("{}[{i}]", self.path), value };
        Ok(list.iter().enumerate().map(node).collect())
    }

    pub fn bool(&self) -> Result<bool, ConfigError> {
        let Json::Bool(value) = self.value else { return self.type_error("true or false") };
        Ok(*value)
    }

    pub fn number(&self, least: u32, most: u32) -> Result<u32, ConfigError> {
        let Json::Number(number) = *self.value else { return self.type_error("a whole number") };
        u32::try_from(number).ok().filter(|n| (least..=most).contains(n)).ok_or_else(|| ConfigError::Value {
            key: self.path(),
            value: number.to_string(),
            source: ValueError::Range { least, most },
        })
    }

    pub fn parse_text<T>(&self, parse: impl FnOnce(&str) -> Result<T, ValueError>) -> Result<T, ConfigError> {
        let Json::Text(text) = self.value else { return self.type_error("a text") };
        parse(text).map_err(|source| ConfigError::Value { key: self.path(), value: text.clone(), source })
    }
}

impl<'a> Map<'a> {
    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    pub fn get(&self, key: &str) -> Option<Node<'a>> {
        let (_, value) = self.entries.iter().find(|(k, _)| k == key)?;
        Some(Node { path: self.path_of(key), value })
    }

    /// The value at a key, if there is one.
    pub fn optional<T>(
        &self,
        key: &str,
        read: impl FnOnce(&Node<'a>) -> Result<T, ConfigError>,
    ) -> Result<Option<T>, ConfigError> {
        self.get(key).as_ref().map(read).transpose()
    }

    /// Each value of the list at a key; none when the key is not there.
    pub fn each<T>(
        &self,
        key: &str,
        read: impl Fn(&Node<'a>) -> Result<T, ConfigError>,
    ) -> Result<Vec<T>, ConfigError> {
        self.get(key).map_or(Ok(Vec::new()), |node| node.list()?.iter().map(read).collect())
    }
}
