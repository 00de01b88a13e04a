//! The part of a site's placement that needs no script: ranking terms and label conditions, read once per decision from what
//! the policy gave and evaluated over columns.

use super::columns::{Columns, LabelColumn, numbers};
use crate::suggest;
use mlua::{Table, Value};
use std::collections::BTreeMap;
use vws_domain::{PlacementInput, Reservation};

/// Words of the terms, in the manual's order.
const TERMS: [&str; 10] = [
    "free_memory_ratio",
    "free_vcpus_ratio",
    "free_disk_ratio",
    "free_memory_mib",
    "free_vcpus",
    "free_disk_gib",
    "workspaces",
    "label",
    "label_number",
    "placements",
];
const FIELDS: [&str; 7] = ["term", "weight", "label", "value", "missing", "by", "match"];

/// Which workspaces a `placements` term counts.
#[derive(Clone, Debug, PartialEq)]
enum By {
    Owner,
    Group,
    /// Those that have the same value of this label as the request.
    Label(String),
}

/// What a term measures.
#[derive(Clone, Debug)]
enum Measure {
    /// What would stay free of the amount at this place, as a part of the host's capacity: 0 to 1.
    FreeRatio(usize),
    /// What would stay free.
    Free(usize),
    /// Workspaces on the host.
    Workspaces,
    /// 1 if the host's label has the value (any value, if none is given).
    Label { label: String, value: Option<String> },
    /// The label as a number.
    Number { label: String, missing: f64 },
    /// How many workspaces of the same owner, group or label are on the host, or on hosts that share its label.
    Placements { by: By, label: Option<String> },
}

/// A term: measure times weight, all summed up.
#[derive(Clone, Debug)]
pub(crate) struct Term {
    measure: Measure,
    weight: f64,
}

/// Places of the amounts, as `columns::numbers` has them.
const VCPUS: usize = 0;
const MEMORY: usize = 1;
const DISK: usize = 2;

/// Reads the list that `rank` gave.
pub(crate) fn terms(list: &Table, most: usize) -> Result<Vec<Term>, String> {
    let mut terms = Vec::new();
    let count = list.raw_len();
    if count > most {
        return Err(format!("rank gave {count} terms, {most} are allowed"));
    }
    for pair in list.pairs::<Value, Value>() {
        let (key, _) = pair.map_err(|error| error.to_string())?;
        let number = match key {
            Value::Integer(n) => n as f64,
            Value::Number(n) => n,
            _ => 0.0,
        };
        if !(number >= 1.0 && number <= count as f64) {
            return Err(
                "rank gave a table that is not a list of terms: write `return { { term = ..., weight = ... }, ... }`".to_owned()
            );
        }
    }
    for index in 1..=count {
        let term: Value = list.raw_get(index).map_err(|error| error.to_string())?;
        let Value::Table(term) = term else {
            return Err(format!("term {index} of rank is a {}, a table is needed", term.type_name()));
        };
        terms.push(read_term(&term).map_err(|what| format!("term {index} of rank: {what}"))?);
    }
    Ok(terms)
}

fn read_term(table: &Table) -> Result<Term, String> {
    for pair in table.pairs::<Value, Value>() {
        let (key, _) = pair.map_err(|error| error.to_string())?;
        let key = match &key {
            Value::String(key) => key.to_string_lossy(),
            other => other.type_name().to_owned(),
        };
        if !FIELDS.contains(&key.as_str()) {
            return Err(format!("unknown field `{}`{}", vws_domain::shown(&key), meant(&key, &FIELDS)));
        }
    }
    let word = text(table, "term")?.ok_or_else(|| format!("has no `term`; the terms are {}", TERMS.join(", ")))?;
    let weight = number(table, "weight")?.ok_or("has no `weight`")?;
    let label = || text(table, "label")?.ok_or_else(|| format!("`{word}` needs a `label`"));
    let measure = match word.as_str() {
        "free_memory_ratio" => Measure::FreeRatio(MEMORY),
        "free_vcpus_ratio" => Measure::FreeRatio(VCPUS),
        "free_disk_ratio" => Measure::FreeRatio(DISK),
        "free_memory_mib" => Measure::Free(MEMORY),
        "free_vcpus" => Measure::Free(VCPUS),
        "free_disk_gib" => Measure::Free(DISK),
        "workspaces" => Measure::Workspaces,
        "label" => Measure::Label { label: label()?, value: text(table, "value")? },
        "label_number" => Measure::Number { label: label()?, missing: number(table, "missing")?.unwrap_or(0.0) },
        "placements" => Measure::Placements { by: read_by(table)?, label: text(table, "label")? },
        other => return Err(format!("unknown term `{}`{}", vws_domain::shown(other), meant(other, &TERMS))),
    };
    let allowed: &[&str] = match measure {
        Measure::Label { .. } => &["label", "value"],
        Measure::Number { .. } => &["label", "missing"],
        Measure::Placements { .. } => &["label", "by", "match"],
        _ => &[],
    };
    for field in ["label", "value", "missing", "by", "match"] {
        let given = !matches!(table.raw_get::<Value>(field), Ok(Value::Nil));
        if given && !allowed.contains(&field) {
            return Err(format!("`{word}` has no use for `{field}`"));
        }
    }
    Ok(Term { measure, weight })
}

fn read_by(table: &Table) -> Result<By, String> {
    let key = text(table, "match")?;
    match (text(table, "by")?.as_deref(), key) {
        (Some("owner"), None) => Ok(By::Owner),
        (Some("group"), None) => Ok(By::Group),
        (Some("label"), Some(key)) => Ok(By::Label(key)),
        (Some("label"), None) => Err("`by = \"label\"` needs `match`, the workspaces' label that is compared".to_owned()),
        (Some("owner" | "group"), Some(_)) => Err("`match` goes with `by = \"label\"`".to_owned()),
        _ => Err("`placements` needs `by`: \"owner\", \"group\" or \"label\"".to_owned()),
    }
}

fn meant(word: &str, known: &[&'static str]) -> String {
    suggest::nearest(word, known.iter().copied()).map_or_else(String::new, |nearest| format!("; did you mean `{nearest}`?"))
}

fn text(table: &Table, field: &str) -> Result<Option<String>, String> {
    match table.raw_get::<Value>(field).map_err(|error| error.to_string())? {
        Value::Nil => Ok(None),
        Value::String(text) => Ok(Some(text.to_string_lossy())),
        other => Err(format!("`{field}` is a {}, a string is needed", other.type_name())),
    }
}

fn number(table: &Table, field: &str) -> Result<Option<f64>, String> {
    let value = match table.raw_get::<Value>(field).map_err(|error| error.to_string())? {
        Value::Nil => return Ok(None),
        Value::Number(value) => value,
        Value::Integer(value) => value as f64,
        other => return Err(format!("`{field}` is a {}, a number is needed", other.type_name())),
    };
    if value.is_finite() { Ok(Some(value)) } else { Err(format!("`{field}` is {value}, a finite number is needed")) }
}

impl Term {
    /// The label whose column it needs.
    pub(crate) fn label(&self) -> Option<&str> {
        match &self.measure {
            Measure::Label { label, .. } | Measure::Number { label, .. } | Measure::Placements { label: Some(label), .. } => {
                Some(label)
            }
            Measure::FreeRatio(_) | Measure::Free(_) | Measure::Workspaces | Measure::Placements { label: None, .. } => None,
        }
    }
}

/// Each host's score, by its place in the columns: the terms' sum. The columns of the terms' labels are there. Every host is
/// scored, those too that the core's filter refused: a scan over columns costs less than a choice at each row.
pub(crate) fn scores(terms: &[Term], columns: &mut Columns, input: &PlacementInput) -> Vec<f64> {
    let mut scores = std::mem::take(&mut columns.spare_scores);
    scores.clear();
    scores.resize(columns.hosts.len(), 0.0);
    for term in terms {
        add(term, columns, &mut scores, input);
    }
    scores
}

/// Adds weight * value of each row.
fn each<T>(scores: &mut [f64], weight: f64, rows: impl IntoIterator<Item = T>, value: impl Fn(T) -> f64) {
    for (score, row) in scores.iter_mut().zip(rows) {
        *score += weight * value(row);
    }
}

fn add(term: &Term, columns: &Columns, scores: &mut [f64], input: &PlacementInput) {
    let weight = term.weight;
    let asked = |place: usize| numbers(input.request.resources).get(place).copied().unwrap_or(0.0);
    match &term.measure {
        Measure::FreeRatio(place) => {
            let (asked, free, per) = (asked(*place), columns.free_numbers.column(*place), columns.per_capacity.column(*place));
            each(scores, weight, free.iter().zip(per), |(free, per)| (free - asked).max(0.0) * per);
        }
        Measure::Free(place) => {
            let asked = asked(*place);
            each(scores, weight, columns.free_numbers.column(*place), |free| (free - asked).max(0.0));
        }
        Measure::Workspaces => each(scores, weight, &columns.workspaces, |count| *count as f64),
        Measure::Label { label, value } => {
            let Some(column) = columns.label(label) else { return };
            let wanted = value.as_ref().map(|value| column.find(value));
            each(scores, weight, &column.ids, |id| {
                let hit = match wanted {
                    None => *id != 0,
                    Some(wanted) => wanted == Some(*id),
                };
                f64::from(u8::from(hit))
            });
        }
        Measure::Number { label, missing } => {
            let Some(column) = columns.label(label) else { return };
            // The first value is the place holder of "absent", which is no number.
            let numbers: Vec<f64> = column
                .values
                .iter()
                .map(|value| value.trim().parse::<f64>().ok().filter(|number| number.is_finite()).unwrap_or(*missing))
                .collect();
            each(scores, weight, &column.ids, |id| numbers.get(*id as usize).copied().unwrap_or(*missing));
        }
        Measure::Placements { by, label } => {
            let column = label.as_deref().and_then(|label| columns.label(label));
            PlacementCounts::of(columns, column, matching(input, by)).add(scores, weight);
        }
    }
}

/// The present placements that a `placements` term is about.
fn matching<'a>(input: &'a PlacementInput, by: &'a By) -> Box<dyn Iterator<Item = &'a Reservation> + 'a> {
    let all = input.placements.iter().map(AsRef::as_ref);
    match by {
        By::Owner => {
            let owner = owner(input);
            Box::new(all.filter(move |reservation| reservation.owner == owner))
        }
        By::Group => Box::new(all.filter(|reservation| reservation.group == input.request.group)),
        By::Label(key) => match input.request.labels.get(key) {
            None => Box::new(std::iter::empty()),
            Some(value) => Box::new(all.filter(move |reservation| reservation.labels.get(key) == Some(value))),
        },
    }
}

/// Whose workspace it is, or will be.
pub(crate) fn owner(input: &PlacementInput) -> u32 {
    input.workspace.as_ref().map_or(input.caller.uid, |workspace| workspace.owner)
}

/// How many of some workspaces are on each host, or on the hosts that share its label's value. A host without the label
/// stands for itself.
struct PlacementCounts<'a> {
    /// Hosts that stand for themselves and have any.
    on_host: BTreeMap<usize, f64>,
    /// Each host's value id, and how many are on the hosts of each id.
    by_value: Option<(&'a [u32], Vec<f64>)>,
}

impl<'a> PlacementCounts<'a> {
    fn of<'b>(columns: &Columns, column: Option<&'a LabelColumn>, placements: impl Iterator<Item = &'b Reservation>) -> Self {
        let mut on_host: BTreeMap<usize, f64> = BTreeMap::new();
        let mut sums = vec![0.0; column.map_or(0, |column| column.values.len())];
        let mut any = false;
        for index in placements.filter_map(|placement| placement.host.as_ref()).filter_map(|host| columns.find(host)) {
            let id = column.and_then(|column| column.ids.get(index)).copied().unwrap_or(0);
            match sums.get_mut(id as usize) {
                Some(sum) if id != 0 => {
                    *sum += 1.0;
                    any = true;
                }
                _ => *on_host.entry(index).or_default() += 1.0,
            }
        }
        Self { on_host, by_value: column.filter(|_| any).map(|column| (column.ids.as_slice(), sums)) }
    }

    fn add(&self, scores: &mut [f64], weight: f64) {
        if let Some((ids, sums)) = &self.by_value {
            each(scores, weight, *ids, |id| sums.get(*id as usize).copied().unwrap_or(0.0));
        }
        for (index, count) in &self.on_host {
            if let Some(score) = scores.get_mut(*index) {
                *score += weight * count;
            }
        }
    }
}

/// What a host's label must be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Wanted {
    /// There, whatever its value.
    Present,
    /// Not there.
    Absent,
    /// One of these.
    OneOf(Vec<String>),
}

/// A condition on a label.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Condition {
    pub(crate) label: String,
    pub(crate) wanted: Wanted,
}

impl Condition {
    /// Why a host with this value of the label does not fulfil it.
    pub(crate) fn refusal(&self, value: Option<&str>) -> String {
        let is = value.map_or_else(|| "is missing".to_owned(), |value| format!("is `{}`", vws_domain::shown(value)));
        let wanted = match &self.wanted {
            Wanted::Present => "it must be there".to_owned(),
            Wanted::Absent => "it must not be there".to_owned(),
            Wanted::OneOf(values) => {
                let values: Vec<String> = values.iter().take(8).map(|value| format!("`{}`", vws_domain::shown(value))).collect();
                format!("{} is needed", values.join(" or "))
            }
        };
        format!("label `{}` {is}, {wanted}", self.label)
    }

    /// Whether each value id of the label's column fulfils it.
    fn allowed(&self, values: &[String]) -> Vec<bool> {
        values
            .iter()
            .enumerate()
            .map(|(id, value)| match &self.wanted {
                Wanted::Present => id != 0,
                Wanted::Absent => id == 0,
                Wanted::OneOf(wanted) => id != 0 && wanted.contains(value),
            })
            .collect()
    }

    /// Whether one host fulfils the condition.
    pub(crate) fn fulfilled(&self, columns: &Columns, index: usize) -> bool {
        let Some(column) = columns.label(&self.label) else { return false };
        let id = column.ids.get(index).copied().unwrap_or(0);
        self.allowed(&column.values).get(id as usize).copied().unwrap_or(false)
    }

    /// For each host whether it fulfils the condition.
    pub(crate) fn over<'a>(&self, columns: &'a Columns) -> impl Fn(usize) -> bool + use<'a> {
        let column = columns.label(&self.label);
        let allowed = column.map(|column| self.allowed(&column.values)).unwrap_or_default();
        move |index| {
            let id = column.and_then(|column| column.ids.get(index)).copied().unwrap_or(0);
            allowed.get(id as usize).copied().unwrap_or(false)
        }
    }
}

/// Reads `needs_labels`: label to a value, a list of values, `true` or `false`.
pub(crate) fn conditions(table: &Table, most: usize) -> Result<Vec<Condition>, String> {
    let mut conditions = Vec::new();
    for pair in table.pairs::<Value, Value>() {
        let (key, value) = pair.map_err(|error| error.to_string())?;
        let Value::String(label) = key else {
            return Err("needs_labels is not a table of label = value".to_owned());
        };
        let label = label.to_string_lossy();
        let wanted = match value {
            Value::Boolean(true) => Wanted::Present,
            Value::Boolean(false) => Wanted::Absent,
            Value::String(value) => Wanted::OneOf(vec![value.to_string_lossy()]),
            Value::Table(list) => {
                let values: mlua::Result<Vec<mlua::LuaString>> = list.sequence_values().collect();
                match values {
                    Ok(values) => Wanted::OneOf(values.iter().map(mlua::LuaString::to_string_lossy).collect()),
                    Err(_) => return Err(format!("needs_labels: `{label}` is a list with something else than strings in it")),
                }
            }
            other => {
                return Err(format!(
                    "needs_labels: `{label}` is a {}; a string, a list of strings, true or false is needed",
                    other.type_name()
                ));
            }
        };
        conditions.push(Condition { label, wanted });
    }
    if conditions.len() > most {
        return Err(format!("needs_labels gave {} labels, {most} are allowed", conditions.len()));
    }
    // Tables have no order of their own: the reason that is given must not depend on one.
    conditions.sort_by(|a, b| a.label.cmp(&b.label));
    Ok(conditions)
}
