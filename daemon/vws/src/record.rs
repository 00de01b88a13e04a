//! What the bus answers, as JSON values: keys in snake case, everything else as it came. Labels, capabilities and plugin
//! settings keep their keys: those are other people's words.

use serde_json::{Map, Value};
use vws_bus::client::Dict;
use zbus::Variant;

/// An object of JSON that is read without ceremony: what is missing is empty.
#[derive(Clone, Debug, Default)]
pub(crate) struct Record(pub(crate) Value);

impl Record {
    /// Of an `a{sv}`.
    pub(crate) fn new(dict: &Dict) -> Self {
        let members = dict.iter().map(|(key, value)| (snake(key), member(key, value))).collect();
        Self(Value::Object(members))
    }

    /// Text, or empty.
    pub(crate) fn text(&self, key: &str) -> &str {
        self.0.get(key).and_then(Value::as_str).unwrap_or("")
    }

    /// A number, or 0.
    pub(crate) fn number(&self, key: &str) -> u64 {
        self.0.get(key).and_then(Value::as_u64).unwrap_or(0)
    }

    /// A truth, or false.
    pub(crate) fn flag(&self, key: &str) -> bool {
        self.0.get(key).and_then(Value::as_bool).unwrap_or(false)
    }

    /// An object inside, or an empty one.
    pub(crate) fn inner(&self, key: &str) -> Self {
        Self(self.0.get(key).cloned().unwrap_or(Value::Null))
    }

    /// The elements of a list inside.
    pub(crate) fn list(&self, key: &str) -> Vec<Self> {
        self.0.get(key).and_then(Value::as_array).map(|list| list.iter().cloned().map(Self).collect()).unwrap_or_default()
    }

    /// The texts of a list inside.
    pub(crate) fn texts(&self, key: &str) -> Vec<&str> {
        self.0.get(key).and_then(Value::as_array).map(|list| list.iter().filter_map(Value::as_str).collect()).unwrap_or_default()
    }

    /// `key=value` of an object inside.
    pub(crate) fn pairs(&self, key: &str) -> String {
        let Some(members) = self.0.get(key).and_then(Value::as_object) else { return String::new() };
        let pairs: Vec<String> = members.iter().map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or(""))).collect();
        pairs.join(" ")
    }

    /// The same with one more member.
    pub(crate) fn with(mut self, key: &str, value: Value) -> Self {
        if let Some(members) = self.0.as_object_mut() {
            members.insert(key.to_owned(), value);
        }
        self
    }

    /// The same with its object path as `path`, unless it has a member of that name (a backend's is its file).
    pub(crate) fn at(self, path: &str) -> Self {
        if self.has("path") { self } else { self.with("path", path.into()) }
    }

    /// Whether there is such a member.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.0.get(key).is_some()
    }
}

/// Records as one JSON array.
pub(crate) fn array(records: &[Record]) -> Value {
    Value::Array(records.iter().map(|record| record.0.clone()).collect())
}

fn member(key: &str, value: &Variant<'_>) -> Value {
    match value {
        Variant::Dict(dict) if key == "settings" => {
            Value::Object(dict.iter().map(|(key, value)| (text(key), json(value))).collect::<Map<String, Value>>())
        }
        other => json(other),
    }
}

/// A value of the bus as JSON.
pub(crate) fn json(value: &Variant<'_>) -> Value {
    match value {
        Variant::U8(number) => (*number).into(),
        Variant::Bool(truth) => (*truth).into(),
        Variant::I16(number) => (*number).into(),
        Variant::U16(number) => (*number).into(),
        Variant::I32(number) => (*number).into(),
        Variant::U32(number) => (*number).into(),
        Variant::I64(number) => (*number).into(),
        Variant::U64(number) => (*number).into(),
        Variant::F64(number) => (*number).into(),
        Variant::Str(text) => text.as_str().into(),
        Variant::Signature(signature) => signature.to_string().into(),
        Variant::ObjectPath(path) => path.as_str().into(),
        Variant::Variant(inner) => json(inner),
        Variant::Array(array) => array.inner().iter().map(json).collect(),
        Variant::Dict(dict) => {
            let foreign = dict.signature().to_string() == "a{ss}";
            Value::Object(
                dict.iter()
                    .map(|(key, value)| {
                        let key = text(key);
                        let value = member(&key, value);
                        (if foreign { key } else { snake(&key) }, value)
                    })
                    .collect(),
            )
        }
        Variant::Structure(structure) => structure.fields().iter().map(json).collect(),
        // A descriptor's number means nothing outside of this process.
        Variant::Fd(_) => Value::Null,
    }
}

fn text(value: &Variant<'_>) -> String {
    match json(value) {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

/// `MemoryMib` and `memory-mib` as `memory_mib`.
fn snake(key: &str) -> String {
    let mut out = String::with_capacity(key.len() + 4);
    for (at, c) in key.chars().enumerate() {
        if c.is_ascii_uppercase() && at > 0 {
            out.push('_');
        }
        out.push(if c == '-' { '_' } else { c.to_ascii_lowercase() });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{Record, snake};
    use std::collections::BTreeMap;
    use vws_bus::client::Dict;
    use zbus::{OwnedVariant, Variant};

    #[test]
    fn keys_become_snake_case_and_labels_stay() {
        assert_eq!(snake("LeaseUntil"), "lease_until");
        assert_eq!(snake("memory-mib"), "memory_mib");
        let mut dict = Dict::new();
        let labels: BTreeMap<String, String> = [("My-Label".to_owned(), "x".to_owned())].into();
        dict.insert("Labels".to_owned(), OwnedVariant::try_from(Variant::from(labels)).unwrap());
        let free: BTreeMap<String, u64> = [("memory-mib".to_owned(), 5)].into();
        dict.insert("Free".to_owned(), OwnedVariant::try_from(Variant::from(free)).unwrap());
        dict.insert("Cause".to_owned(), OwnedVariant::try_from(Variant::from(("a", "b"))).unwrap());
        let record = Record::new(&dict);
        assert_eq!(record.pairs("labels"), "My-Label=x");
        assert_eq!(record.inner("free").number("memory_mib"), 5);
        assert_eq!(record.texts("cause"), ["a", "b"]);
        assert_eq!(record.text("missing"), "");
    }
}
