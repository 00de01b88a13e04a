//! An `a{sv}` argument as it is taken apart: unknown keys and wrong types are refused by name, before anything is read.
//!
//! The known keys and their types are the contract's (`vws_bus::keys`). Keys that begin with `x-` are a client's own and
//! are ignored.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::os::fd::OwnedFd;
use vws_bus::keys::{self, Key, Misfit};
use vws_bus::names;
use vws_domain::{Error, Result, shown};
use zbus::{OwnedVariant, Variant};

/// A dictionary as it comes in a message.
pub type Dict = HashMap<String, OwnedVariant>;

/// A dictionary whose keys are known and whose values have the right types.
#[derive(Debug)]
pub struct Keys {
    what: String,
    values: BTreeMap<String, Variant<'static>>,
}

impl Keys {
    /// Checks every key of `given`, which the messages call `what`.
    ///
    /// # Errors
    /// [`vws_domain::ErrorKind::InvalidArgument`] naming the first bad key, and the known keys or the right type.
    pub fn new(what: &str, given: Dict, known: &[&[Key]]) -> Result<Self> {
        let given = given.into_iter().map(|(key, value)| (key, Variant::from(value)));
        Self::checked(what.to_owned(), given.collect(), &known.concat())
    }

    fn checked(what: String, mut values: BTreeMap<String, Variant<'static>>, known: &[Key]) -> Result<Self> {
        values.retain(|key, _| !key.starts_with("x-"));
        for (key, value) in &values {
            let signature = value.value_signature().to_string();
            match keys::check(known, key, &signature) {
                Ok(()) => {}
                Err(Misfit::Type(right)) => {
                    return Err(Error::invalid(
                        format!("key `{}` of {what}", shown(key)),
                        format!("has type `{signature}`, must have `{right}`"),
                        format!("give a value of type `{right}`"),
                    ));
                }
                Err(Misfit::Unknown(near)) => {
                    let names: Vec<String> = known.iter().map(|key| format!("`{}`", key.name)).collect();
                    let fact = if names.is_empty() {
                        "is not known: no keys are".to_owned()
                    } else {
                        format!("is not known; known are {}", names.join(", "))
                    };
                    let remedy = near.map_or_else(|| "leave it out".to_owned(), |near| format!("did you mean `{near}`?"));
                    return Err(Error::invalid(format!("key `{}` of {what}", shown(key)), fact, remedy));
                }
            }
        }
        Ok(Self { what, values })
    }

    /// The error for a key with a value that cannot be.
    pub fn invalid(&self, key: &str, fact: impl Into<String>, remedy: impl Into<String>) -> Error {
        Error::invalid(format!("key `{key}` of {}", self.what), fact, remedy)
    }

    /// A text (`s` or `o`).
    pub fn text(&mut self, key: &str) -> Option<String> {
        match self.values.remove(key)? {
            Variant::Str(text) => Some(text.as_str().to_owned()),
            Variant::ObjectPath(path) => Some(path.as_str().to_owned()),
            _ => None,
        }
    }

    /// A text that must be there.
    ///
    /// # Errors
    /// [`vws_domain::ErrorKind::InvalidArgument`] when it is not.
    pub fn required(&mut self, key: &str) -> Result<String> {
        self.text(key).ok_or_else(|| self.invalid(key, "is required", "add it"))
    }

    /// A word that must be one of `words`.
    ///
    /// # Errors
    /// [`vws_domain::ErrorKind::InvalidArgument`] naming them.
    pub fn word<T>(&mut self, key: &str, words: &[&str], read: impl Fn(&str) -> Option<T>) -> Result<Option<T>> {
        let Some(text) = self.text(key) else { return Ok(None) };
        match read(&text) {
            Some(value) => Ok(Some(value)),
            None => {
                let near = keys::nearest(&text, words.iter().copied());
                let remedy = near.map_or_else(|| "choose one of them".to_owned(), |near| format!("did you mean `{near}`?"));
                Err(self.invalid(key, format!("is `{}`, must be one of {}", shown(&text), words.join(", ")), remedy))
            }
        }
    }

    /// A number (`t`).
    pub fn number(&mut self, key: &str) -> Option<u64> {
        match self.values.remove(key)? {
            Variant::U64(number) => Some(number),
            _ => None,
        }
    }

    /// An id (`u`).
    pub fn id(&mut self, key: &str) -> Option<u32> {
        match self.values.remove(key)? {
            Variant::U32(number) => Some(number),
            _ => None,
        }
    }

    /// Yes or no (`b`).
    pub fn flag(&mut self, key: &str) -> Option<bool> {
        match self.values.remove(key)? {
            Variant::Bool(flag) => Some(flag),
            _ => None,
        }
    }

    /// Texts (`as`).
    pub fn texts(&mut self, key: &str) -> Option<Vec<String>> {
        Vec::try_from(self.values.remove(key)?).ok()
    }

    /// Texts by name (`a{ss}`).
    pub fn pairs(&mut self, key: &str) -> Option<BTreeMap<String, String>> {
        BTreeMap::try_from(self.values.remove(key)?).ok()
    }

    /// Any values by name (`a{sv}`), unchecked: a plugin's schema says what may stand there.
    pub fn values(&mut self, key: &str) -> Option<BTreeMap<String, OwnedVariant>> {
        BTreeMap::try_from(self.values.remove(key)?).ok()
    }

    /// An open file (`h`).
    ///
    /// # Errors
    /// [`vws_domain::ErrorKind::Internal`] when the descriptor cannot be kept.
    pub fn file(&mut self, key: &str) -> Result<Option<File>> {
        let Some(Variant::Fd(fd)) = self.values.remove(key) else { return Ok(None) };
        let fd = OwnedFd::try_from(fd).map_err(|error| Error::internal("file descriptor", error.to_string()))?;
        Ok(Some(File::from(fd)))
    }

    /// Dictionaries (`aa{sv}`), each checked against `known`; at most `most` of them.
    ///
    /// # Errors
    /// [`vws_domain::ErrorKind::InvalidArgument`] as for [`Keys::new`].
    pub fn list(&mut self, key: &str, known: &[Key], most: usize) -> Result<Option<Vec<Self>>> {
        let Some(value) = self.values.remove(key) else { return Ok(None) };
        let Variant::Array(array) = value else { return Ok(None) };
        if array.len() > most {
            return Err(self.invalid(key, format!("has {} elements, at most {most} are allowed", array.len()), "give fewer"));
        }
        let elements = Vec::<BTreeMap<String, OwnedVariant>>::try_from(array)
            .map_err(|error| Error::internal(format!("key `{key}` of {}", self.what), error.to_string()))?;
        let mut out = Vec::with_capacity(elements.len());
        for (at, element) in elements.into_iter().enumerate() {
            let values = element.into_iter().map(|(key, value)| (key, Variant::from(value))).collect();
            out.push(Self::checked(format!("{key} [{at}] of {}", self.what), values, known)?);
        }
        Ok(Some(out))
    }

    /// The number under `limit`: from 1 to `most`.
    ///
    /// # Errors
    /// [`vws_domain::ErrorKind::InvalidArgument`] outside of it.
    pub fn limit(&mut self, default: u64, most: u64) -> Result<u64> {
        let limit = self.number(keys::LIMIT).unwrap_or(default);
        if (1..=most).contains(&limit) {
            return Ok(limit);
        }
        Err(self.invalid(
            keys::LIMIT,
            format!("is {limit}, must be 1 to {most}"),
            "ask for a page of that size and go on from its end",
        ))
    }

    /// The word under `request-id`.
    ///
    /// # Errors
    /// [`vws_domain::ErrorKind::InvalidArgument`] when it is empty or too long.
    pub fn request_id(&mut self) -> Result<Option<String>> {
        let Some(id) = self.text(keys::REQUEST_ID) else { return Ok(None) };
        let characters = id.chars().count();
        if (1..=names::REQUEST_ID_CHARS).contains(&characters) {
            return Ok(Some(id));
        }
        Err(self.invalid(
            keys::REQUEST_ID,
            format!("has {characters} characters, must have 1 to {}", names::REQUEST_ID_CHARS),
            "choose another word, for instance a UUID",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::{Dict, Keys};
    use vws_bus::keys;
    use zbus::{OwnedVariant, Variant};

    fn dict<const N: usize>(entries: [(&str, Variant<'static>); N]) -> Dict {
        entries.into_iter().map(|(key, value)| (key.to_owned(), OwnedVariant::try_from(value).unwrap())).collect()
    }

    #[test]
    fn unknown_keys_and_wrong_types_are_refused_by_name() {
        let error = Keys::new("spec", dict([("memory-mb", 512_u64.into())]), &[keys::IMAGE_CHANGES, keys::SPEC]).unwrap_err();
        assert_eq!(error.object, "key `memory-mb` of spec");
        assert_eq!(error.remedy, "did you mean `memory-mib`?");
        assert!(error.fact.contains("`visibility`") && error.fact.contains("`memory-mib`"), "{}", error.fact);
        let error = Keys::new("spec", dict([("vcpus", 2_u32.into())]), &[keys::SPEC]).unwrap_err();
        assert_eq!(error.to_string(), "key `vcpus` of spec: has type `u`, must have `t`; give a value of type `t`");
        let error = Keys::new("options", dict([("force", true.into())]), &[]).unwrap_err();
        assert_eq!(error.fact, "is not known: no keys are");
        assert!(Keys::new("options", dict([("x-colour", true.into())]), &[]).is_ok());
    }

    #[test]
    fn limits_and_request_ids_have_ranges() {
        let options: &[keys::Key] =
            &[keys::Key { name: "limit", signature: "t" }, keys::Key { name: "request-id", signature: "s" }];
        let given = |entries| Keys::new("options", entries, &[options]).unwrap();
        assert_eq!(given(dict([])).limit(7, 10).unwrap(), 7);
        assert_eq!(given(dict([("limit", 10_u64.into())])).limit(7, 10).unwrap(), 10);
        assert!(given(dict([("limit", 0_u64.into())])).limit(7, 10).is_err());
        assert!(given(dict([("limit", 11_u64.into())])).limit(7, 10).is_err());
        assert_eq!(given(dict([("request-id", "a".into())])).request_id().unwrap().as_deref(), Some("a"));
        assert!(given(dict([("request-id", "".into())])).request_id().is_err());
        assert!(given(dict([("request-id", "x".repeat(129).into())])).request_id().is_err());
    }

    #[test]
    fn elements_of_lists_are_checked_too() {
        let disk = dict([("size-gb", 1_u64.into())]);
        let mut spec = Keys::new("spec", dict([("data-disks", vec![disk].into())]), &[keys::SPEC]).unwrap();
        let error = spec.list("data-disks", keys::DATA_DISK, 16).unwrap_err();
        assert_eq!(error.object, "key `size-gb` of data-disks [0] of spec");
        assert_eq!(error.remedy, "did you mean `size-gib`?");
        let many = vec![dict([]), dict([]), dict([])];
        let mut spec = Keys::new("spec", dict([("data-disks", many.into())]), &[keys::SPEC]).unwrap();
        assert_eq!(spec.list("data-disks", keys::DATA_DISK, 2).unwrap_err().fact, "has 3 elements, at most 2 are allowed");
    }
}
