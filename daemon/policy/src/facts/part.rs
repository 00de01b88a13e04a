//! A document as far as it is given, read field by field; what is not understood is a problem with its path.

use crate::schema;
use crate::suggest::nearest;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use vws_domain::{HostName, Resources};

/// A document as far as it is given.
pub(super) struct Part<'a> {
    pub(super) path: String,
    pub(super) map: Option<&'a Map<String, Value>>,
}

impl<'a> Part<'a> {
    /// The document at `path`; members other than `known` are problems. Nothing, and an empty list (Lua has one empty table), is
    /// a document without members.
    pub(super) fn of(path: &str, value: Option<&'a Value>, known: &[&str], problems: &mut Vec<String>) -> Self {
        let map = match value {
            Some(Value::Object(map)) => Some(map),
            None | Some(Value::Null | Value::Bool(false)) => None,
            Some(Value::Array(list)) if list.is_empty() => None,
            Some(other) => {
                problems.push(format!("{}: a table is needed, it is {}", here(path), kind(other)));
                None
            }
        };
        for key in map.into_iter().flat_map(Map::keys).filter(|key| !known.contains(&key.as_str())) {
            let meant = nearest(key, known.iter().copied());
            let meant = meant.map_or_else(String::new, |meant| format!("; did you mean `{meant}`?"));
            problems.push(format!("{}: unknown field `{}`{meant}", here(path), vws_domain::shown(key)));
        }
        Self { path: path.to_owned(), map }
    }

    pub(super) fn at(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    pub(super) fn value(&self, name: &str) -> Option<&'a Value> {
        self.map.and_then(|map| map.get(name))
    }

    pub(super) fn part(&self, name: &str, document: &str, problems: &mut Vec<String>) -> Self {
        Self::of(&self.at(name), self.value(name), &names(document), problems)
    }

    /// A list of documents; none when it is not given.
    pub(super) fn parts(&self, name: &str, document: &str, problems: &mut Vec<String>) -> Vec<Self> {
        let list = self.list(name, problems).unwrap_or_default();
        let path = self.at(name);
        list.iter()
            .zip(1_u32..)
            .map(|(value, number)| Self::of(&format!("{path}[{number}]"), Some(value), &names(document), problems))
            .collect()
    }

    pub(super) fn list(&self, name: &str, problems: &mut Vec<String>) -> Option<&'a [Value]> {
        match self.value(name) {
            None => None,
            Some(Value::Null | Value::Bool(false)) => Some(&[]),
            Some(Value::Array(list)) => Some(list),
            Some(other) => {
                problems.push(format!("{}: a list is needed, it is {}", self.at(name), kind(other)));
                None
            }
        }
    }

    /// Text; empty where `null` or `false` takes the default away.
    pub(super) fn text(&self, name: &str, default: &str, problems: &mut Vec<String>) -> String {
        match self.value(name) {
            None => default.to_owned(),
            Some(Value::Null | Value::Bool(false)) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => {
                problems.push(format!("{}: text is needed, it is {}", self.at(name), kind(other)));
                default.to_owned()
            }
        }
    }

    pub(super) fn number(&self, name: &str, default: u64, problems: &mut Vec<String>) -> u64 {
        match self.value(name) {
            None => default,
            Some(Value::Null | Value::Bool(false)) => 0,
            Some(value) => whole(value).unwrap_or_else(|| {
                problems.push(format!("{}: a whole number from 0 is needed, it is {}", self.at(name), kind(value)));
                default
            }),
        }
    }

    pub(super) fn id(&self, name: &str, default: u32, problems: &mut Vec<String>) -> u32 {
        let number = self.number(name, u64::from(default), problems);
        u32::try_from(number).unwrap_or_else(|_| {
            problems.push(format!("{}: {number} is no user or group id", self.at(name)));
            default
        })
    }

    pub(super) fn flag(&self, name: &str, default: bool, problems: &mut Vec<String>) -> bool {
        match self.value(name) {
            None => default,
            Some(Value::Bool(flag)) => *flag,
            Some(other) => {
                problems.push(format!("{}: true or false is needed, it is {}", self.at(name), kind(other)));
                default
            }
        }
    }

    /// A word that `read` understands.
    pub(super) fn word<T>(
        &self,
        name: &str,
        default: &str,
        read: impl Fn(&str) -> Option<T>,
        wanted: &str,
        problems: &mut Vec<String>,
    ) -> Option<T> {
        let text = self.text(name, default, problems);
        if text.is_empty() {
            return None;
        }
        let found = read(&text);
        if found.is_none() {
            problems.push(format!("{}: `{}` is not {wanted}", self.at(name), vws_domain::shown(&text)));
        }
        found
    }

    /// A number of microseconds, or a text like `2027-01-15 08:00` (UTC).
    pub(super) fn instant(&self, name: &str, default: Option<u64>, problems: &mut Vec<String>) -> Option<u64> {
        match self.value(name) {
            None => default,
            Some(Value::Null | Value::Bool(false)) => None,
            Some(value) => {
                let found = value.as_str().map_or_else(|| whole(value), instant);
                if found.is_none() {
                    let wanted = "microseconds since 1970, or a text like `2027-01-15 08:00`, are needed";
                    problems.push(format!("{}: {wanted}, it is {}", self.at(name), kind(value)));
                }
                found.or(default)
            }
        }
    }

    pub(super) fn texts(&self, name: &str, problems: &mut Vec<String>) -> Option<Vec<String>> {
        let list = self.list(name, problems)?;
        let texts: Vec<String> = list.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        if texts.len() != list.len() {
            problems.push(format!("{}: a list of texts is needed", self.at(name)));
        }
        Some(texts)
    }

    pub(super) fn ids(&self, name: &str, problems: &mut Vec<String>) -> Option<Vec<u32>> {
        let list = self.list(name, problems)?;
        let ids: Vec<u32> = list.iter().filter_map(whole).filter_map(|id| u32::try_from(id).ok()).collect();
        if ids.len() != list.len() {
            problems.push(format!("{}: a list of ids is needed", self.at(name)));
        }
        Some(ids)
    }

    pub(super) fn labels(&self, name: &str, problems: &mut Vec<String>) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::new();
        match self.value(name) {
            Some(Value::Object(map)) => {
                for (key, value) in map {
                    match value {
                        Value::String(text) => {
                            labels.insert(key.clone(), text.clone());
                        }
                        other => problems.push(format!("{}.{key}: text is needed, it is {}", self.at(name), kind(other))),
                    }
                }
            }
            None | Some(Value::Null | Value::Bool(false)) => {}
            Some(Value::Array(list)) if list.is_empty() => {}
            Some(other) => problems.push(format!("{}: a table of texts is needed, it is {}", self.at(name), kind(other))),
        }
        labels
    }

    pub(super) fn resources(&self, default: Resources, problems: &mut Vec<String>) -> Resources {
        Resources {
            vcpus: self.number("vcpus", default.vcpus, problems),
            memory_mib: self.number("memory_mib", default.memory_mib, problems),
            disk_gib: self.number("disk_gib", default.disk_gib, problems),
        }
    }

    pub(super) fn host_name(&self, name: &str, default: &str, problems: &mut Vec<String>) -> Option<HostName> {
        self.word(name, default, |text| HostName::parse(text).ok(), "the name of a host", problems)
    }
}

pub(super) fn names(document: &str) -> Vec<&'static str> {
    schema::document(document).map(|document| document.names().collect()).unwrap_or_default()
}

fn here(path: &str) -> &str {
    if path.is_empty() { "the document" } else { path }
}

pub(super) fn kind(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => format!("`{}`", vws_domain::shown(text)),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a table".to_owned(),
    }
}

pub(super) fn whole(value: &Value) -> Option<u64> {
    value
        .as_u64()
        .or_else(|| value.as_f64().filter(|n| (0.0..=9_007_199_254_740_991.0).contains(n) && n.fract() == 0.0).map(|n| n as u64))
}

/// Reads `2027-01-15`, `2027-01-15 08:00`, `2027-01-15T08:00:30Z`: microseconds since 1970, all UTC.
pub(super) fn instant(text: &str) -> Option<u64> {
    let text = text.strip_suffix('Z').unwrap_or(text);
    let (date, time) = text.split_once(['T', ' ']).unwrap_or((text, "00:00"));
    let numbers = |text: &str, separator: char| -> Option<Vec<u64>> { text.split(separator).map(|n| n.parse().ok()).collect() };
    let [year, month, day] = numbers(date, '-')?.try_into().ok()?;
    let (hour, minute, second) = match numbers(time, ':')?.as_slice() {
        [hour, minute] => (*hour, *minute, 0),
        [hour, minute, second] => (*hour, *minute, *second),
        _ => return None,
    };
    if !(1970..=9999).contains(&year)
        || !(1..=12).contains(&month)
        || !(1..=31).contains(&day)
        || hour > 23
        || minute > 59
        || second > 59
    {
        return None;
    }
    // Days of the civil calendar, years begin with March so that the leap day is the last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + (day - 1);
    let days = days.checked_sub(719_468)?;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::instant;

    #[test]
    fn instants_are_read() {
        assert_eq!(instant("1970-01-01"), Some(0));
        assert_eq!(instant("2027-01-15 08:00"), Some(crate::facts::NOW));
        assert_eq!(instant("2028-02-29T23:59:59Z"), Some(1_835_481_599_000_000));
        for wrong in ["", "2027", "2027-13-01", "2027-01-15 24:00", "tomorrow", "2027-01-15 8", "-5-1-1"] {
            assert_eq!(instant(wrong), None, "{wrong}");
        }
    }
}
