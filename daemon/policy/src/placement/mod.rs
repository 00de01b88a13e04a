//! Placement: the core's own filter, the site's native conditions and ranking over columns, then the site's functions on the
//! best hosts, a batch at a time.
//!
//! ```text
//! every host -> capacity filter -> needs_labels -> rank -> [best `consider` -> filter -> score] -> the best, ties by name
//!                                                           ^ next batch while the filter takes none
//! ```
//! If no host has room, the same is done once more over those that would have it without pre-emptible workspaces: [`preempt`].
//!
//! Whatever the site says, the host that comes out is judged by the core's filter once more.

mod columns;
mod preempt;
mod rank;
mod refusal;

pub(crate) use columns::Columns;
pub(crate) use preempt::displace;
pub(crate) use rank::conditions;

use crate::evaluator::Evaluator;
use crate::fault::{Fault, FaultKind};
use crate::limits::Limits;
use crate::verdict::{checked_code, clean, rule};
use columns::Fate;
use mlua::{Function, LuaString, Table, Value};
use rank::Condition;
use std::cmp::Ordering;
use std::collections::HashMap;
use vws_domain::{
    Candidate, HostJudgement, HostName, HostOutcome, Offer, PlacementInput, Restriction, Rule, Verdict, VerdictKind,
    capacity_filter, choose,
};

/// What placement answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Placement {
    /// Permit with a host, or the refusal.
    pub verdict: Verdict,
    /// The host; `None` when refused.
    pub host: Option<HostName>,
    /// The fate of each host, by name, when an explanation was asked for; otherwise of the few best ones, best first.
    pub hosts: Vec<HostJudgement>,
    /// Whether the policy has a say in who is displaced; without it nobody is.
    pub preempts: bool,
}

const FILE: &str = "placement.lua";

/// What the policy's table had, as the prelude gives it.
type Parts = (Option<Function>, f64, Option<Function>, f64, Option<Table>, f64, Option<Table>, f64, Option<f64>, Value, f64);

struct Script {
    input: Table,
    filter: Option<(Function, u32)>,
    score: Option<(Function, u32)>,
    terms: Vec<rank::Term>,
    rank_line: u32,
    conditions: Vec<Condition>,
    needs_line: u32,
    /// How many hosts the functions see at a time; never 0.
    consider: usize,
    preempt: preempt::Say,
}

impl Script {
    /// The labels whose columns the native part needs.
    fn labels(&self) -> Vec<&str> {
        let of_conditions = self.conditions.iter().map(|condition| condition.label.as_str());
        self.terms.iter().filter_map(rank::Term::label).chain(of_conditions).collect()
    }

    /// The line that speaks for a choice.
    fn rule(&self) -> Rule {
        let line = match (&self.score, self.rank_line, &self.filter) {
            (Some((_, line)), _, _) => *line,
            (None, line, _) if line > 0 => line,
            (None, _, Some((_, line))) => *line,
            (None, _, None) => 0,
        };
        Rule { file: FILE.to_owned(), line }
    }
}

/// A host that the site's filter refused.
pub(crate) struct SiteRefusal {
    pub(crate) rule: Rule,
    pub(crate) code: String,
    pub(crate) text: String,
}

/// What became of the hosts.
pub(crate) struct Field {
    /// What the native part says of each host.
    pub(crate) fates: Vec<Fate>,
    /// The first condition that each host of fate `Label` fails.
    pub(crate) conditions: Vec<Condition>,
    pub(crate) needs_line: u32,
    /// Hosts that the site's filter refused.
    pub(crate) refused: HashMap<u32, SiteRefusal>,
    /// Eligible hosts with their scores.
    pub(crate) scored: Vec<(u32, f64)>,
}

pub(crate) fn decide(evaluator: &mut Evaluator, input: &PlacementInput, candidates: &[Candidate], explain: bool) -> Placement {
    match attempt(evaluator, input, candidates, explain) {
        Ok(placement) => placement,
        Err(fault) => {
            Placement { verdict: evaluator.refusal("placement", fault), host: None, hosts: Vec::new(), preempts: false }
        }
    }
}

fn attempt(
    evaluator: &mut Evaluator,
    input: &PlacementInput,
    candidates: &[Candidate],
    explain: bool,
) -> Result<Placement, Fault> {
    let mut columns = std::mem::take(&mut evaluator.columns);
    let outcome = search(evaluator, &mut columns, input, candidates, &[], explain);
    let placement = outcome.and_then(|(script, mut field)| {
        let placement = conclude(evaluator, &columns, &script, &mut field, input, candidates, explain);
        columns.spare_fates = field.fates;
        placement
    });
    evaluator.columns = columns;
    placement
}

/// Runs the policy and finds out what becomes of each host. `offers`: who would have to leave each of the candidates, which then stand in
/// the order in which ties are broken; empty when they are taken as they are.
fn search(
    evaluator: &Evaluator,
    columns: &mut Columns,
    input: &PlacementInput,
    candidates: &[Candidate],
    offers: &[Offer],
    explain: bool,
) -> Result<(Script, Field), Fault> {
    let script = read_script(evaluator, input)?;
    columns.sync(candidates, &script.labels());
    if !offers.is_empty() {
        columns.ties_as_they_stand();
    }
    let mut fates = columns.fates(&input.request);
    for condition in &script.conditions {
        let fulfils = condition.over(columns);
        for (index, fate) in fates.iter_mut().enumerate().filter(|(_, fate)| **fate == Fate::Passes) {
            if !fulfils(index) {
                *fate = Fate::Label;
            }
        }
    }
    let mut scores = rank::scores(&script.terms, columns, input);
    if let Some((index, score)) = mask(&fates, &mut scores) {
        let name = columns.hosts.get(index).map_or("", |host| host.name.as_str());
        let text = format!("rank gives host `{name}` the score {score}, a finite number is needed");
        return Err(Fault { line: script.rank_line, ..Fault::of(FaultKind::Shape, FILE, text) });
    }
    let mut field = Field {
        fates,
        conditions: script.conditions.clone(),
        needs_line: script.needs_line,
        refused: HashMap::new(),
        scored: Vec::new(),
    };
    let has_functions = script.filter.is_some() || script.score.is_some() || !offers.is_empty();
    let recorded = evaluator.set.limits().recorded_hosts.max(1);
    let eligible = || (0_u32..).zip(scores.iter().copied()).filter(|(_, score)| *score >= f64::MIN);
    if has_functions {
        ask(evaluator, columns, &script, input, candidates, offers, eligible().collect(), explain, &mut field)?;
    } else if explain || recorded > SCANNED {
        field.scored = eligible().collect();
    } else {
        // Nobody asks for more than the best few.
        let few = best(columns, (0_u32..).zip(scores.iter().copied()), recorded);
        field.scored = few.into_iter().map(|(_, entry)| entry).collect();
    }
    columns.spare_scores = scores;
    if evaluator.scripts.sandbox.budget.over() {
        return Err(evaluator.set.overrun(FILE));
    }
    Ok((script, field))
}

/// Gives hosts that do not pass a score below every score, and makes 0 of -0, because they are one score. Answers the first
/// host that passes with a score that is none.
fn mask(fates: &[Fate], scores: &mut [f64]) -> Option<(usize, f64)> {
    let mut good = true;
    for (fate, score) in fates.iter().zip(scores.iter_mut()) {
        let passes = *fate == Fate::Passes;
        good &= !passes | score.is_finite();
        *score = if passes { *score + 0.0 } else { f64::NEG_INFINITY };
    }
    if good {
        return None;
    }
    let of_passing = fates.iter().zip(scores).enumerate().filter(|(_, (fate, _))| **fate == Fate::Passes);
    of_passing.map(|(index, (_, score))| (index, *score)).find(|(_, score)| !score.is_finite())
}

/// Runs the file's chunk, `needs_labels` and `rank`.
fn read_script(evaluator: &Evaluator, input: &PlacementInput) -> Result<Script, Fault> {
    let sandbox = &evaluator.scripts.sandbox;
    let limits = evaluator.set.limits();
    let fault = |error: mlua::Error| evaluator.set.fault(&error, FILE);
    let build = || Ok((sandbox.placement_input(input, limits.placements)?, evaluator.scripts.fresh("placement")?));
    let (document, main) = sandbox.building(build).map_err(fault)?;
    let parts: Parts = sandbox.core.placement.call((main, &document)).map_err(fault)?;
    let (filter, filter_line, score, score_line, terms, rank_line, needs, needs_line, consider, preempt, preempt_line) = parts;
    let shape = |line: f64| {
        move |text: String| Fault {
            line: line as u32,
            ..Fault::of(FaultKind::Shape, FILE, clean(text.as_bytes(), limits.text_chars))
        }
    };
    let terms = terms.map_or(Ok(Vec::new()), |list| rank::terms(&list, limits.terms)).map_err(shape(rank_line))?;
    let conditions = needs.map_or(Ok(Vec::new()), |table| rank::conditions(&table, limits.terms)).map_err(shape(needs_line))?;
    let consider = match consider {
        None => limits.consider,
        Some(number) => number as usize,
    };
    Ok(Script {
        input: document,
        filter: filter.map(|filter| (filter, filter_line as u32)),
        score: score.map(|score| (score, score_line as u32)),
        terms,
        rank_line: rank_line as u32,
        conditions,
        needs_line: needs_line as u32,
        consider: if consider == 0 { usize::MAX } else { consider },
        preempt: preempt::Say::read(preempt, preempt_line as u32),
    })
}

/// Higher scores first, ties by name.
fn better(columns: &Columns, a: &(u32, f64), b: &(u32, f64)) -> Ordering {
    let position = |index: u32| columns.position(index as usize);
    b.1.total_cmp(&a.1).then_with(|| position(a.0).cmp(&position(b.0)))
}

/// Up to this many best ones are found by one scan; more by a partial sort.
const SCANNED: usize = 128;

/// Moves the best `count` to the front, in order.
fn bring_forward(columns: &Columns, ranked: &mut [(u32, f64)], count: usize) {
    let count = count.min(ranked.len());
    if count == 0 {
        return;
    }
    if count <= SCANNED && count < ranked.len() {
        let scan = best(columns, ranked.iter().copied(), count);
        // In rising order, so that nothing is moved away that was brought forward.
        let mut places: Vec<usize> = scan.iter().map(|(place, _)| *place).collect();
        places.sort_unstable();
        for (to, from) in places.into_iter().enumerate() {
            ranked.swap(to, from);
        }
    } else if count < ranked.len() {
        ranked.select_nth_unstable_by(count - 1, |a, b| better(columns, a, b));
    }
    if let Some(front) = ranked.get_mut(..count) {
        front.sort_unstable_by(|a, b| better(columns, a, b));
    }
}

/// The best `count` with the places where they stand, best first. What has a score below every score is not among them.
fn best(columns: &Columns, ranked: impl Iterator<Item = (u32, f64)>, count: usize) -> Vec<(usize, (u32, f64))> {
    let mut best: Vec<(usize, (u32, f64))> = Vec::with_capacity(count + 1);
    let mut worst = f64::MIN;
    for (place, entry) in ranked.enumerate() {
        if entry.1 < worst {
            continue;
        }
        let at = best.partition_point(|(_, other)| better(columns, other, &entry) == Ordering::Less);
        best.insert(at, (place, entry));
        best.truncate(count);
        if best.len() == count {
            worst = best.last().map_or(worst, |(_, (_, score))| *score);
        }
    }
    best
}

/// Asks the site's functions, a batch at a time, best first.
fn ask(
    evaluator: &Evaluator,
    columns: &Columns,
    script: &Script,
    input: &PlacementInput,
    candidates: &[Candidate],
    offers: &[Offer],
    mut ranked: Vec<(u32, f64)>,
    explain: bool,
    field: &mut Field,
) -> Result<(), Fault> {
    let near = near(columns, input);
    let mut rest = ranked.as_mut_slice();
    while field.scored.is_empty() && !rest.is_empty() {
        let count = script.consider.min(rest.len());
        bring_forward(columns, rest, count);
        let (batch, others) = rest.split_at_mut(count);
        for (index, rank_score) in batch.iter() {
            let Some(candidate) = candidates.get(*index as usize) else { continue };
            let (of_owner, of_group) = near.get(index).copied().unwrap_or_default();
            match judge_host(evaluator, script, candidate, offers.get(*index as usize), of_owner, of_group, *rank_score)? {
                Ok(score) => field.scored.push((*index, score)),
                Err(refusal) => {
                    field.refused.insert(*index, refusal);
                }
            }
            if evaluator.scripts.sandbox.budget.over() {
                return Err(evaluator.set.overrun(FILE));
            }
            // Without a score of its own the site's best host is the first that its filter takes.
            if script.score.is_none() && !explain && !field.scored.is_empty() {
                break;
            }
        }
        rest = others;
    }
    Ok(())
}

/// Workspaces of the request's owner and group on each host that has any.
fn near(columns: &Columns, input: &PlacementInput) -> HashMap<u32, (u64, u64)> {
    let owner = rank::owner(input);
    let mut near: HashMap<u32, (u64, u64)> = HashMap::new();
    for reservation in &input.placements {
        let Some(index) = reservation.host.as_ref().and_then(|host| columns.find(host)) else { continue };
        let Ok(index) = u32::try_from(index) else { continue };
        let counts = near.entry(index).or_default();
        counts.0 += u64::from(reservation.owner == owner);
        counts.1 += u64::from(reservation.group == input.request.group);
    }
    near
}

/// The site's filter, its say in who is displaced, and its score for one host: its score, or why it is refused.
fn judge_host(
    evaluator: &Evaluator,
    script: &Script,
    candidate: &Candidate,
    offer: Option<&Offer>,
    of_owner: u64,
    of_group: u64,
    rank_score: f64,
) -> Result<Result<f64, SiteRefusal>, Fault> {
    let sandbox = &evaluator.scripts.sandbox;
    let limits = evaluator.set.limits();
    let fault = |error: mlua::Error| evaluator.set.fault(&error, FILE);
    let host = sandbox.building(|| sandbox.host(candidate, of_owner, of_group)).map_err(fault)?;
    if let Some((filter, line)) = &script.filter {
        let answer: Answer = sandbox.core.filter.call((filter, f64::from(*line), &script.input, &host)).map_err(fault)?;
        if let Some(refusal) = refused(answer, limits)? {
            return Ok(Err(refusal));
        }
    }
    if let Some(refusal) = offer.map_or(Ok(None), |offer| preempt::ask(evaluator, script, offer, &host))? {
        return Ok(Err(refusal));
    }
    let Some((score, line)) = &script.score else { return Ok(Ok(rank_score)) };
    match sandbox.core.score.call::<Value>((score, f64::from(*line), &script.input, &host)).map_err(fault)? {
        Value::Number(score) if score.is_finite() => Ok(Ok(score + 0.0)),
        Value::Integer(score) => Ok(Ok(score as f64)),
        other => Err(Fault { line: *line, ..Fault::of(FaultKind::Shape, FILE, format!("score gave a {}", other.type_name())) }),
    }
}

/// What a yes-or-no function answered: nothing, or code, text, file, line.
type Answer = (Option<LuaString>, Option<LuaString>, Option<LuaString>, Option<f64>);

/// The refusal that an answer is.
fn refused(answer: Answer, limits: &Limits) -> Result<Option<SiteRefusal>, Fault> {
    let (Some(code), Some(text), Some(file), Some(line)) = answer else { return Ok(None) };
    let rule = rule(&file, line);
    let code =
        checked_code(&code, limits).map_err(|text| Fault { line: rule.line, ..Fault::of(FaultKind::Shape, &rule.file, text) })?;
    Ok(Some(SiteRefusal { rule, code, text: clean(&text.as_bytes(), limits.text_chars) }))
}

/// Chooses, checks the choice, tells what became of the hosts.
fn conclude(
    evaluator: &Evaluator,
    columns: &Columns,
    script: &Script,
    field: &mut Field,
    input: &PlacementInput,
    candidates: &[Candidate],
    explain: bool,
) -> Result<Placement, Fault> {
    let recorded = evaluator.set.limits().recorded_hosts.max(1);
    bring_forward(columns, &mut field.scored, recorded);
    let best: Vec<(HostName, f64)> = field
        .scored
        .iter()
        .take(recorded)
        .filter_map(|(index, score)| candidates.get(*index as usize).map(|candidate| (candidate.host.name.clone(), *score)))
        .collect();
    let Some(name) = choose(&best).cloned() else {
        let verdict = refusal::verdict(columns, field, input, candidates, evaluator.set.limits());
        let hosts = judgements(columns, field, input, candidates, explain, recorded);
        return Ok(Placement { verdict, host: None, hosts, preempts: script.preempt.is_some() });
    };
    let chosen = columns.find(&name).and_then(|index| candidates.get(index));
    if !chosen.is_some_and(|candidate| candidate.host.name == name && capacity_filter(&input.request, candidate).is_none()) {
        let text = format!("host `{name}` was chosen although the core's filter refuses it: a defect of the daemon");
        return Err(Fault::of(FaultKind::Shape, FILE, text));
    }
    let eligible = field.fates.iter().filter(|fate| **fate == Fate::Passes).count();
    let score = best.iter().find(|(host, _)| *host == name).map_or(0.0, |(_, score)| *score);
    let verdict = Verdict {
        policy: "placement".to_owned(),
        kind: VerdictKind::Permit,
        code: "placed".to_owned(),
        text: format!("host `{name}`: the best of {eligible} that can take it, of {}; score {score:.4}", candidates.len()),
        rule: script.rule(),
        restriction: Restriction::default(),
        micros: 0,
    };
    let hosts = judgements(columns, field, input, candidates, explain, recorded);
    Ok(Placement { verdict, host: Some(name), hosts, preempts: script.preempt.is_some() })
}

/// What became of the hosts: of all by name, or of the best few.
fn judgements(
    columns: &Columns,
    field: &Field,
    input: &PlacementInput,
    candidates: &[Candidate],
    explain: bool,
    recorded: usize,
) -> Vec<HostJudgement> {
    let scores: HashMap<u32, f64> =
        if explain { field.scored.iter().copied().collect() } else { field.scored.iter().take(recorded).copied().collect() };
    let judged = |index: u32| {
        let candidate = candidates.get(index as usize)?;
        let outcome = match scores.get(&index) {
            Some(score) => HostOutcome::Scored(*score),
            None => outcome(columns, field, input, candidate, index),
        };
        Some(HostJudgement { host: candidate.host.name.clone(), outcome })
    };
    if explain {
        let mut by_name: Vec<u32> = (0_u32..).take(candidates.len()).collect();
        by_name.sort_unstable_by_key(|index| columns.position(*index as usize));
        return by_name.into_iter().filter_map(judged).collect();
    }
    let mut few: Vec<u32> = field.scored.iter().take(recorded).map(|(index, _)| *index).collect();
    let mut refused: Vec<u32> = field.refused.keys().copied().collect();
    refused.sort_unstable_by_key(|index| columns.position(*index as usize));
    few.extend(refused.into_iter().take(recorded.saturating_sub(few.len())));
    if few.is_empty() {
        few.extend(refusal::nearest(columns, field, input.request.resources, recorded));
    }
    few.into_iter().filter_map(judged).collect()
}

/// Why the host is not among the scored.
fn outcome(columns: &Columns, field: &Field, input: &PlacementInput, candidate: &Candidate, index: u32) -> HostOutcome {
    if let Some(refusal) = field.refused.get(&index) {
        return HostOutcome::Filtered { rule: refusal.rule.clone(), code: refusal.code.clone(), text: refusal.text.clone() };
    }
    if let Some(refused) = capacity_filter(&input.request, candidate) {
        return refused;
    }
    if field.fates.get(index as usize) == Some(&Fate::Label) {
        return HostOutcome::Filtered {
            rule: Rule { file: FILE.to_owned(), line: field.needs_line },
            code: Fate::Label.code().to_owned(),
            text: refusal::label_text(columns, &field.conditions, candidate, index),
        };
    }
    HostOutcome::NotConsidered
}
