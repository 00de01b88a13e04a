//! A policy set: compiled once, checked once, shared by evaluators, never changed.

use crate::POLICIES;
use crate::coverage::Coverage;
use crate::evaluator::Evaluator;
use crate::fault::{Fault, FaultKind};
use crate::limits::Limits;
use crate::placement::conditions;
use crate::problem::Problem;
use crate::sandbox::{Sandbox, compiler};
use crate::source::Sources;
use mlua::{Function, Table};
use std::collections::BTreeMap;
use std::sync::Arc;
use vws_domain::{PolicyHash, Rule};

/// A compiled and checked policy set. Immutable; shared between threads.
#[derive(Debug)]
pub struct PolicySet {
    sources: Sources,
    limits: Limits,
    hash: PolicyHash,
    /// File name to what our compiler made of it.
    bytecode: BTreeMap<String, Vec<u8>>,
    counting: bool,
}

impl PolicySet {
    /// Compiles every file, runs the three policies' chunks in the sandbox and checks what they return.
    ///
    /// # Errors
    /// Every problem found: a policy that is missing, a line that does not compile, a chunk that fails, a table without its
    /// function.
    pub fn load(sources: Sources, limits: Limits) -> Result<Self, Vec<Problem>> {
        Self::compile(sources, limits, false)
    }

    /// The same for a set whose evaluators count which lines ran (see [`Evaluator::coverage`]). It judges the same, a little slower.
    ///
    /// # Errors
    /// Those of [`PolicySet::load`].
    pub fn load_counting(sources: Sources, limits: Limits) -> Result<Self, Vec<Problem>> {
        Self::compile(sources, limits, true)
    }

    fn compile(sources: Sources, limits: Limits, counting: bool) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut bytecode = BTreeMap::new();
        for policy in POLICIES {
            let file = format!("{policy}.lua");
            if !sources.files.contains_key(&file) {
                problems.push(Problem::new(
                    &file,
                    "missing-file",
                    "the file is missing; every policy needs one",
                    "copy the shipped one into the policy folder",
                ));
            }
        }
        let compiler = compiler(counting);
        for (file, text) in &sources.files {
            match compiler.compile(text) {
                Ok(code) => {
                    bytecode.insert(file.clone(), code);
                }
                Err(error) => problems.push(syntax(file, &error, &sources, &limits)),
            }
        }
        let set = Self { hash: sources.hash(), sources, limits, bytecode, counting };
        problems.extend(set.check());
        if problems.is_empty() { Ok(set) } else { Err(problems) }
    }

    /// Runs the chunk of each policy that compiled.
    fn check(&self) -> Vec<Problem> {
        let scripts = match Scripts::new(self) {
            Ok(scripts) => scripts,
            Err(problems) => return problems,
        };
        let mut problems = Vec::new();
        for policy in POLICIES {
            let file = format!("{policy}.lua");
            if !self.bytecode.contains_key(&file) {
                continue;
            }
            scripts.sandbox.budget.start();
            let ran = scripts.fresh(policy).and_then(|main| scripts.sandbox.core.check.call::<Option<Table>>((policy, main)));
            let fault = match ran {
                Err(error) => Some(self.fault(&error, &file)),
                Ok(_) if scripts.sandbox.budget.over() => Some(self.overrun(&file)),
                Ok(None) => None,
                Ok(Some(needs)) => {
                    conditions(&needs, self.limits.terms).err().map(|text| Fault::of(FaultKind::Shape, &file, text))
                }
            };
            if let Some(mut fault) = fault {
                if fault.kind == FaultKind::Runtime && fault.line == 0 {
                    fault.kind = FaultKind::Shape;
                }
                problems.push(fault.problem(&self.sources));
            }
            scripts.sandbox.tidy();
        }
        problems
    }

    /// The set's hash: the same texts, the same hash.
    #[must_use]
    pub fn hash(&self) -> &PolicyHash {
        &self.hash
    }

    /// The texts it was made from.
    #[must_use]
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// The limits of each decision.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The line of the script that a rule names.
    #[must_use]
    pub fn source_line(&self, rule: &Rule) -> Option<&str> {
        self.sources.line(&rule.file, rule.line)
    }

    /// A state that judges by this set. `generation` is named in every failure.
    ///
    /// # Errors
    /// When a state cannot be made (memory).
    pub fn evaluator(self: &Arc<Self>, generation: u64) -> Result<Evaluator, Vec<Problem>> {
        let scripts = Scripts::new(self)?;
        Ok(Evaluator::new(Arc::clone(self), generation, scripts))
    }

    /// Whether its evaluators count which lines ran.
    #[must_use]
    pub fn counts(&self) -> bool {
        self.counting
    }

    /// What an error of a script is about.
    pub(crate) fn fault(&self, error: &mlua::Error, file: &str) -> Fault {
        let mut fault = Fault::from_lua(error, file, &self.sources, self.limits.text_chars);
        match fault.kind {
            FaultKind::Deadline => {
                fault.text = format!("still running after {} ms, its deadline", self.limits.deadline.as_millis())
            }
            FaultKind::Memory => fault.text = format!("not enough memory: {} KiB are allowed", self.limits.memory_bytes / 1024),
            FaultKind::Syntax | FaultKind::Runtime | FaultKind::Shape => {}
        }
        fault
    }

    /// A script that came back, but too late.
    pub(crate) fn overrun(&self, file: &str) -> Fault {
        Fault::of(FaultKind::Deadline, file, format!("took longer than {} ms, its deadline", self.limits.deadline.as_millis()))
    }
}

pub(crate) fn syntax(file: &str, error: &mlua::Error, sources: &Sources, limits: &Limits) -> Problem {
    let mut fault = Fault::from_lua(error, file, sources, limits.text_chars);
    fault.kind = FaultKind::Syntax;
    // The compiler's messages begin with the line: "12: expected ..." (the name of the chunk is not known to it).
    if fault.line == 0
        && let Some((line, text)) = fault.text.trim_start_matches(':').split_once(':')
        && let Ok(line) = line.trim().parse()
    {
        fault.line = line;
        fault.text = text.trim().to_owned();
    }
    fault.problem(sources)
}

/// The file of the script that called the function that runs.
fn asking_file(lua: &mlua::Lua) -> String {
    let mut level = 1;
    while let Some(found) = lua.inspect_stack(level, |frame| {
        let file = frame.source().short_src.unwrap_or_default().into_owned();
        (frame.current_line().is_some_and(|line| line > 0) && file != "prelude").then_some(file)
    }) {
        if let Some(file) = found {
            return file;
        }
        level += 1;
    }
    String::new()
}

/// `rest` in the folder that `file` is in.
fn beside(file: &str, rest: &str) -> String {
    file.rsplit_once('/').map_or_else(|| rest.to_owned(), |(folder, _)| format!("{folder}/{rest}"))
}

/// A sandbox with the set's chunks loaded.
pub(crate) struct Scripts {
    pub(crate) sandbox: Sandbox,
    policies: BTreeMap<&'static str, Function>,
    /// What `require` finds: name without `.lua` to chunk.
    modules: Arc<BTreeMap<String, Function>>,
}

impl Scripts {
    pub(crate) fn new(set: &PolicySet) -> Result<Self, Vec<Problem>> {
        Self::load(set).map_err(|error| {
            let text = format!("no Luau state could be made: {error}");
            vec![Problem::new("policies", "state", text, "give the daemon more memory, or the policies a higher limit")]
        })
    }

    fn load(set: &PolicySet) -> mlua::Result<Self> {
        let sandbox = Sandbox::new(&set.limits)?;
        let mut policies = BTreeMap::new();
        let mut modules = BTreeMap::new();
        for (file, code) in &set.bytecode {
            let chunk = sandbox.load(file, code)?;
            let name = file.strip_suffix(".lua").unwrap_or(file);
            match POLICIES.into_iter().find(|policy| *policy == name) {
                Some(policy) => {
                    policies.insert(policy, chunk);
                }
                None => {
                    modules.insert(name.to_owned(), chunk);
                }
            }
        }
        Ok(Self { sandbox, policies, modules: Arc::new(modules) })
    }

    /// The policy's chunk over fresh globals, with a `require` that knows nothing from before.
    pub(crate) fn fresh(&self, policy: &str) -> mlua::Result<Function> {
        let Some(chunk) = self.policies.get(policy) else {
            return Err(mlua::Error::runtime(format!("{policy}.lua: is not part of the set")));
        };
        self.ready(chunk)
    }

    /// A chunk over fresh globals, with a `require` that knows nothing from before.
    pub(crate) fn ready(&self, chunk: &Function) -> mlua::Result<Function> {
        let (main, environment) = self.sandbox.fresh(chunk)?;
        if !self.modules.is_empty() {
            self.give_require(&environment)?;
        }
        Ok(main)
    }

    /// How often each line ran.
    pub(crate) fn coverage(&self) -> Coverage {
        let mut coverage = Coverage::default();
        let policies = self.policies.iter().map(|(name, chunk)| (*name, chunk));
        for (name, chunk) in policies.chain(self.modules.iter().map(|(name, chunk)| (name.as_str(), chunk))) {
            chunk.coverage(|info| {
                for (line, hits) in (0_u32..).zip(&info.hits) {
                    if let Ok(hits) = u64::try_from(*hits) {
                        coverage.add(&format!("{name}.lua"), line, hits);
                    }
                }
            });
        }
        coverage
    }

    /// `require("lib/x")`: another file of the set, run once per decision, over the same globals. A name that begins with `./` is
    /// relative to the file that asks.
    fn give_require(&self, environment: &Table) -> mlua::Result<()> {
        let modules = Arc::clone(&self.modules);
        let loaded = self.sandbox.lua.create_table()?;
        let globals = environment.clone();
        let require = self.sandbox.lua.create_function(move |lua, asked: mlua::LuaString| {
            let asked = asked.to_string_lossy();
            let name = match asked.strip_prefix("./") {
                Some(rest) => beside(&asking_file(lua), rest),
                None => asked,
            };
            if name.starts_with('/') || name.split('/').any(|part| part == ".." || part == ".") {
                let text = format!(
                    "require: `{}` leads out of the policy folder; files of the folder alone are there",
                    vws_domain::shown(&name)
                );
                return Err(mlua::Error::runtime(text));
            }
            match loaded.raw_get::<mlua::Value>(name.as_str())? {
                mlua::Value::Nil => {}
                mlua::Value::Boolean(false) => {
                    return Err(mlua::Error::runtime(format!("require: `{name}` requires itself")));
                }
                known => return Ok(known),
            }
            let Some(chunk) = modules.get(&name) else {
                let known: Vec<&str> = modules.keys().map(String::as_str).collect();
                let text =
                    format!("require: the set has no file `{}.lua`; it has {}", vws_domain::shown(&name), known.join(", "));
                return Err(mlua::Error::runtime(text));
            };
            loaded.raw_set(name.as_str(), false)?;
            let clone = chunk.deep_clone()?;
            clone.set_environment(globals.clone())?;
            let value = match clone.call::<mlua::Value>(())? {
                mlua::Value::Nil | mlua::Value::Boolean(false) => mlua::Value::Boolean(true),
                value => value,
            };
            loaded.raw_set(name.as_str(), &value)?;
            Ok(value)
        })?;
        environment.raw_set("require", require)
    }
}
