//! From the words of a person to objects: names, ids, unique beginnings of ids. What is not found is answered with what is
//! spelt most like it.

use crate::Result;
use crate::context::Context;
use crate::record::Record;
use vws_bus::client::Args;
use vws_bus::failure::{Failure, exit};
use vws_bus::path::Object;
use vws_bus::{keys, names};
use zbus::Variant;

/// Least digits of a beginning of an id: fewer are more likely a name.
const PREFIX_DIGITS: usize = 4;

/// An object and its properties.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// Its path.
    pub(crate) path: String,
    /// Its properties.
    pub(crate) record: Record,
}

/// What `Manager` lists, page by page.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Noun {
    Workspaces,
    Images,
    Hosts,
    Networks,
    Jobs,
    /// Figures of workspaces.
    Stats,
}

/// Every object of a kind that fits a filter and that the caller may see.
pub(crate) async fn list(context: &Context, noun: Noun, filter: &Args<'_>) -> Result<Vec<Record>> {
    let manager = context.client.manager().await?;
    let mut all = Vec::new();
    let mut cursor = String::new();
    loop {
        let mut options = Args::new();
        if !cursor.is_empty() {
            options.insert(keys::CURSOR, Variant::from(cursor.clone()));
        }
        let (page, next) = match noun {
            Noun::Workspaces => manager.list(filter, &options).await?,
            Noun::Images => manager.list_images(filter, &options).await?,
            Noun::Hosts => manager.list_hosts(filter, &options).await?,
            Noun::Networks => manager.list_networks(filter, &options).await?,
            Noun::Jobs => manager.list_jobs(filter, &options).await?,
            Noun::Stats => manager.stats(filter, &options).await?,
        };
        all.extend(page.iter().map(Record::new));
        if next.is_empty() || next == cursor {
            return Ok(all);
        }
        cursor = next;
    }
}

/// Every workspace that fits a filter.
pub(crate) async fn workspaces(context: &Context, filter: &Args<'_>) -> Result<Vec<Record>> {
    list(context, Noun::Workspaces, filter).await
}

/// The workspace that is called this.
pub(crate) async fn workspace(context: &Context, word: &str) -> Result<Found> {
    if let Some(path) = whole_id(word, 'w').map(Object::Workspace) {
        return at(context, &path).await?.ok_or_else(|| missing("workspace", word, None));
    }
    let filter: Args<'_> = [(keys::NAME, Variant::from(word))].into();
    let named = workspaces(context, &filter).await?;
    if !named.is_empty() {
        return one("workspace", word, named);
    }
    let all = workspaces(context, &Args::new()).await?;
    one_of_ids("workspace", word, all)
}

/// The image, or the job, that is called this.
pub(crate) async fn image(context: &Context, word: &str) -> Result<Found> {
    if let Some(path) = whole_id(word, 'i').map(Object::Image)
        && let Some(found) = at(context, &path).await?
    {
        return Ok(found);
    }
    let named = list(context, Noun::Images, &[(keys::NAME, Variant::from(word))].into()).await?;
    if !named.is_empty() {
        return one("image", word, named);
    }
    one_of_ids("image", word, list(context, Noun::Images, &Args::new()).await?)
}

/// The job with this id, or beginning of an id, or path.
pub(crate) async fn job(context: &Context, word: &str) -> Result<Found> {
    if let Some(path) = whole_id(word, 'j').map(Object::Job) {
        return at(context, &path).await?.ok_or_else(|| missing("job", word, None));
    }
    one_of_ids("job", word, list(context, Noun::Jobs, &Args::new()).await?)
}

/// The host with this name.
pub(crate) async fn host(context: &Context, name: &str) -> Result<Found> {
    if let Some(found) = at(context, &Object::Host(name.to_owned())).await? {
        return Ok(found);
    }
    let all = list(context, Noun::Hosts, &Args::new()).await?;
    Err(missing("host", name, keys::nearest(name, all.iter().map(|record| record.text("name")))))
}

/// The network with this name.
pub(crate) async fn network(context: &Context, name: &str) -> Result<Found> {
    if let Some(found) = at(context, &Object::Network(name.to_owned())).await? {
        return Ok(found);
    }
    let all = list(context, Noun::Networks, &Args::new()).await?;
    Err(missing("network", name, keys::nearest(name, all.iter().map(|record| record.text("name")))))
}

/// The properties of an object; `None` when it is not there.
pub(crate) async fn at(context: &Context, object: &Object) -> Result<Option<Found>> {
    let path = object.to_string();
    match context.client.properties(&path, object.interface()).await {
        Ok(dict) => Ok(Some(Found { record: Record::new(&dict).at(&path), path })),
        Err(failure) if failure.exit_code() == exit::NOT_FOUND => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// Every object of a collection (`backends`), with its `path`: few, so one after the other.
pub(crate) async fn few(context: &Context, collection: &str) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    for path in children(context, &format!("{}/{collection}", names::ROOT)).await? {
        if let Some(object) = Object::parse(&path)
            && let Some(found) = at(context, &object).await?
        {
            records.push(found.record);
        }
    }
    Ok(records)
}

/// Paths of the nodes below a node, as introspection names them.
async fn children(context: &Context, path: &str) -> Result<Vec<String>> {
    let call =
        context.client.connection().call_method(Some(names::BUS), path, Some(names::INTROSPECTABLE), "Introspect", &()).await?;
    let xml: String = call.body().deserialize()?;
    Ok(xml
        .split("<node name=\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .map(|name| format!("{path}/{name}"))
        .collect())
}

/// A whole id, with or without its letter, or an object path.
pub(crate) fn whole_id(word: &str, letter: char) -> Option<u128> {
    match Object::parse(word) {
        Some(Object::Workspace(id)) if letter == 'w' => return Some(id),
        Some(Object::Image(id)) if letter == 'i' => return Some(id),
        Some(Object::Job(id)) if letter == 'j' => return Some(id),
        _ => {}
    }
    let digits: String = word.strip_prefix(letter).unwrap_or(word).chars().filter(|c| *c != '-').collect();
    let whole = digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    if whole { u128::from_str_radix(&digits, 16).ok() } else { None }
}

fn one(noun: &str, word: &str, mut found: Vec<Record>) -> Result<Found> {
    if found.len() > 1 {
        let ids: Vec<String> = found
            .iter()
            .map(|record| match record.text("owner_name") {
                "" => record.text("id").to_owned(),
                owner => format!("{} (of {owner})", record.text("id")),
            })
            .collect();
        return Err(Failure::of_kind(
            "InvalidArgument",
            format!("{noun} `{word}`: {} of that name; give the id: {}", found.len(), ids.join(", ")),
        ));
    }
    found.pop().map(|record| Found { path: record.text("path").to_owned(), record }).ok_or_else(|| missing(noun, word, None))
}

/// The one whose id begins so.
fn one_of_ids(noun: &str, word: &str, all: Vec<Record>) -> Result<Found> {
    let lower = word.to_ascii_lowercase();
    if lower.len() >= PREFIX_DIGITS && lower.bytes().all(|b| b.is_ascii_hexdigit()) {
        let begun: Vec<Record> = all.iter().filter(|record| record.text("id").starts_with(&lower)).cloned().collect();
        if !begun.is_empty() {
            return one(noun, word, begun);
        }
    }
    Err(missing(noun, word, keys::nearest(word, all.iter().map(|record| record.text("name")).filter(|name| !name.is_empty()))))
}

fn missing(noun: &str, word: &str, near: Option<&str>) -> Failure {
    let list = match noun {
        "workspace" => "vws list",
        "image" => "vws image list",
        "job" => "vws jobs",
        _ => "vws host list",
    };
    let hint = near.map_or_else(|| format!("`{list}` shows what there is"), |near| format!("did you mean `{near}`?"));
    Failure::of_kind("NotFound", format!("{noun} `{}`: not found; {hint}", shown(word)))
}

/// A person's words made safe for a message of one line.
fn shown(word: &str) -> String {
    word.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
}

#[cfg(test)]
mod tests {
    use super::{one, one_of_ids, whole_id};
    use crate::record::Record;
    use serde_json::json;

    fn record(name: &str, id: &str) -> Record {
        Record(json!({ "name": name, "id": id, "path": format!("/{id}"), "owner_name": "ann" }))
    }

    #[test]
    fn beginnings_of_ids_must_be_unique() {
        let all = || vec![record("web", "abcd1"), record("db", "abcd2"), record("mail", "beef0")];
        assert_eq!(one_of_ids("workspace", "BEEF", all()).unwrap().path, "/beef0");
        let failure = one_of_ids("workspace", "abcd", all()).unwrap_err();
        assert!(failure.message.contains("abcd1 (of ann), abcd2 (of ann)"), "{failure}");
        let failure = one_of_ids("workspace", "webb", all()).unwrap_err();
        assert!(failure.message.contains("did you mean `web`?"), "{failure}");
        assert_eq!(failure.exit_code(), 3);
    }

    #[test]
    fn a_name_of_two_is_ambiguous() {
        let failure = one("workspace", "web", vec![record("web", "1"), record("web", "2")]).unwrap_err();
        assert_eq!(failure.exit_code(), 2);
    }

    #[test]
    fn ids_come_in_several_forms() {
        let id = Some(10);
        assert_eq!(whole_id("0000000000000000000000000000000a", 'w'), id);
        assert_eq!(whole_id("w0000000000000000000000000000000a", 'w'), id);
        assert_eq!(whole_id("/org/virtualworkspaces1/workspaces/w0000000000000000000000000000000a", 'w'), id);
        assert_eq!(whole_id("00000000-0000-0000-0000-00000000000a", 'w'), id);
        assert_eq!(whole_id("web", 'w'), None);
    }
}
