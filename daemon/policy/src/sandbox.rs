//! One closed Luau state: what scripts may use, how long they may run, how much they may hold.
//!
//! The allow list is the only list: whatever a later Luau or mlua adds is absent until somebody writes it down here.

use crate::limits::Limits;
use crate::schema::DOCUMENTS;
use crate::suggest;
use mlua::chunk::{ChunkMode, Compiler};
use mlua::{Function, Lua, LuaOptions, LuaString, StdLib, Table, Value, VmState};
use rustix::time::{ClockId, clock_gettime};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Plain functions of the language that scripts may use. `pcall`, `xpcall`, `tostring` are ours (see `prelude.luau`), as are
/// `permit`, `deny`, `restrict` and `contains`.
const FUNCTIONS: [&str; 20] = [
    "_VERSION",
    "assert",
    "error",
    "getmetatable",
    "ipairs",
    "next",
    "pairs",
    "pcall",
    "rawequal",
    "rawget",
    "rawlen",
    "rawset",
    "select",
    "setmetatable",
    "tonumber",
    "tostring",
    "type",
    "typeof",
    "unpack",
    "xpcall",
];
/// Libraries and what scripts may use of each. No chance (`math.random`), no clock, nothing that loads code.
const LIBRARIES: [(&str, &[&str]); 5] = [
    (
        "math",
        &[
            "abs", "acos", "asin", "atan", "atan2", "ceil", "clamp", "cos", "cosh", "deg", "exp", "floor", "fmod", "frexp",
            "huge", "isfinite", "isinf", "isnan", "ldexp", "lerp", "log", "log10", "map", "max", "min", "modf", "pi", "pow",
            "rad", "round", "sign", "sin", "sinh", "sqrt", "tan", "tanh",
        ],
    ),
    (
        "string",
        &["byte", "char", "find", "format", "gmatch", "gsub", "len", "lower", "match", "rep", "reverse", "split", "sub", "upper"],
    ),
    (
        "table",
        &[
            "clear", "clone", "concat", "create", "find", "foreach", "foreachi", "freeze", "getn", "insert", "isfrozen", "maxn",
            "move", "pack", "remove", "sort", "unpack",
        ],
    ),
    ("utf8", &["char", "charpattern", "codepoint", "codes", "len", "offset"]),
    (
        "bit32",
        &[
            "arshift", "band", "bnot", "bor", "btest", "bxor", "byteswap", "countlz", "countrz", "extract", "lrotate", "lshift",
            "replace", "rrotate", "rshift",
        ],
    ),
];

/// The compiler of policy text. Our replacements of built-in functions must not be short-cut.
/// With `counting`, how often each line ran can be asked afterwards.
pub(crate) fn compiler(counting: bool) -> Compiler {
    Compiler::new().set_optimization_level(1).set_debug_level(1).set_coverage_level(u8::from(counting)).set_disabled_builtins([
        "pcall",
        "xpcall",
        "tostring",
        "string.format",
    ])
}

/// The time that a script has left, shared with the interrupt.
///
/// The deadline is of processor time of the deciding thread: a script cannot sleep or wait, and on a machine that is short of
/// processors an innocent one would be refused because others ran. The coarse wall clock is asked first because it costs
/// a fiftieth and the question comes at every call and every turn of a loop.
#[derive(Debug)]
pub(crate) struct Budget {
    /// Processor time of a decision.
    usual_ns: u64,
    /// Processor time of the present one.
    allowed_ns: AtomicU64,
    /// Wall time before which the deadline cannot have passed.
    look_at_ns: AtomicU64,
    /// Processor time at which the decision began.
    began_ns: AtomicU64,
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A clock in nanoseconds.
fn read(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let part = |value: i64| u64::try_from(value).unwrap_or(0);
    part(time.tv_sec).saturating_mul(1_000_000_000).saturating_add(part(time.tv_nsec))
}

/// Processor time of this thread since the start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopwatch(u64);

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self(read(ClockId::ThreadCPUTime))
    }

    pub(crate) fn elapsed(self) -> Duration {
        Duration::from_nanos(read(ClockId::ThreadCPUTime).saturating_sub(self.0))
    }
}

impl Budget {
    fn new(allowed: Duration) -> Self {
        let usual_ns = nanoseconds(allowed);
        Self { usual_ns, allowed_ns: AtomicU64::new(usual_ns), look_at_ns: AtomicU64::new(u64::MAX), began_ns: AtomicU64::new(0) }
    }

    /// Starts the clock of a decision; the same thread must ask [`Budget::over`].
    pub(crate) fn start(&self) -> Instant {
        self.begin(self.usual_ns)
    }

    /// The same for something that may take longer than a decision.
    pub(crate) fn start_with(&self, allowed: Duration) -> Instant {
        self.begin(nanoseconds(allowed))
    }

    fn begin(&self, allowed_ns: u64) -> Instant {
        self.allowed_ns.store(allowed_ns, Ordering::Relaxed);
        self.began_ns.store(read(ClockId::ThreadCPUTime), Ordering::Relaxed);
        self.look_at_ns.store(read(ClockId::MonotonicCoarse).saturating_add(allowed_ns), Ordering::Relaxed);
        Instant::now()
    }

    /// Whether the deadline has passed. Once it has, it stays so until the next start.
    pub(crate) fn over(&self) -> bool {
        let now = read(ClockId::MonotonicCoarse);
        now > self.look_at_ns.load(Ordering::Relaxed) && self.over_indeed(now)
    }

    #[cold]
    fn over_indeed(&self, now: u64) -> bool {
        let used = read(ClockId::ThreadCPUTime).saturating_sub(self.began_ns.load(Ordering::Relaxed));
        let allowed = self.allowed_ns.load(Ordering::Relaxed);
        if used > allowed {
            return true;
        }
        self.look_at_ns.store(now.saturating_add(allowed - used), Ordering::Relaxed);
        false
    }
}

/// What the interrupt raises when the deadline has passed.
#[derive(Debug)]
pub(crate) struct Overrun {
    /// Where the script was, `file:line: ` or empty.
    pub(crate) place: String,
}

impl fmt::Display for Overrun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}still running at its deadline", self.place)
    }
}
impl std::error::Error for Overrun {}

/// A closed state. Dropping it frees everything.
pub(crate) struct Sandbox {
    /// The state itself.
    pub(crate) lua: Lua,
    /// The core's functions (see `prelude.luau`).
    pub(crate) core: Core,
    /// The time left.
    pub(crate) budget: Arc<Budget>,
    environment: Function,
    memory_bytes: usize,
    collect_above: usize,
}

/// Functions of the prelude that Rust calls, looked up once.
pub(crate) struct Core {
    pub(crate) check: Function,
    pub(crate) judge: Function,
    pub(crate) placement: Function,
    pub(crate) filter: Function,
    pub(crate) score: Function,
    pub(crate) preempt: Function,
    pub(crate) make: Make,
}

/// Constructors of documents.
pub(crate) struct Make {
    pub(crate) image: Function,
    pub(crate) nic: Function,
    pub(crate) grant: Function,
    pub(crate) request: Function,
    pub(crate) caller: Function,
    pub(crate) workspace: Function,
    pub(crate) sums: Function,
    pub(crate) usage: Function,
    pub(crate) placement: Function,
    pub(crate) host: Function,
    pub(crate) input: Function,
    pub(crate) placement_input: Function,
}

impl Make {
    fn from(table: &Table) -> mlua::Result<Self> {
        Ok(Self {
            image: table.raw_get("image")?,
            nic: table.raw_get("nic")?,
            grant: table.raw_get("grant")?,
            request: table.raw_get("request")?,
            caller: table.raw_get("caller")?,
            workspace: table.raw_get("workspace")?,
            sums: table.raw_get("sums")?,
            usage: table.raw_get("usage")?,
            placement: table.raw_get("placement")?,
            host: table.raw_get("host")?,
            input: table.raw_get("input")?,
            placement_input: table.raw_get("placement_input")?,
        })
    }
}

impl Sandbox {
    pub(crate) fn new(limits: &Limits) -> mlua::Result<Self> {
        let libraries = StdLib::TABLE | StdLib::STRING | StdLib::UTF8 | StdLib::BIT | StdLib::MATH | StdLib::DEBUG;
        let lua = Lua::new_with(libraries, LuaOptions::new().catch_rust_panics(false))?;
        let globals = lua.globals();
        let line_of: Function = globals.get::<Table>("debug")?.get("info")?;
        prune(&globals)?;
        globals.set_safeenv(true);
        let suggest = lua.create_function(|_, (word, known): (String, Vec<String>)| {
            let nearest = suggest::nearest(&word, known.iter().map(String::as_str));
            Ok(nearest.map_or_else(String::new, |nearest| format!("; did you mean `{nearest}`?")))
        })?;
        // Level 2 would inline: error levels and lines would name the prelude instead of the script.
        let bytecode = Compiler::new().set_optimization_level(1).compile(include_str!("prelude.luau"))?;
        let core: Table =
            lua.load(bytecode).set_mode(ChunkMode::Binary).set_name("=prelude").call((line_of, suggest, schema(&lua)?))?;
        install(&globals, core.raw_get("globals")?)?;
        let mut names = Vec::new();
        for pair in globals.pairs::<String, Value>() {
            names.push(pair?.0);
        }
        names.sort();
        let open: Function = core.raw_get("open_environments")?;
        let environment = open.call((&globals, names))?;
        lua.sandbox(true)?;
        let budget = Arc::new(Budget::new(limits.deadline));
        watch(&lua, Arc::clone(&budget));
        lua.set_memory_limit(limits.memory_bytes)?;
        let core = Core {
            check: core.raw_get("check")?,
            judge: core.raw_get("judge")?,
            placement: core.raw_get("placement")?,
            filter: core.raw_get("filter")?,
            score: core.raw_get("score")?,
            preempt: core.raw_get("preempt")?,
            make: Make::from(&core.raw_get("make")?)?,
        };
        lua.gc_collect()?;
        let collect_above = lua.used_memory() + limits.memory_bytes / 4;
        Ok(Self { lua, core, budget, environment, memory_bytes: limits.memory_bytes, collect_above })
    }

    /// Loads what our own compiler made. Never anything else: bytecode is not checked by the virtual machine.
    pub(crate) fn load(&self, file: &str, bytecode: &[u8]) -> mlua::Result<Function> {
        self.lua.load(bytecode).set_mode(ChunkMode::Binary).set_name(format!("={file}")).into_function()
    }

    /// The same chunk over fresh globals: its top-level locals are fresh too when it runs.
    pub(crate) fn fresh(&self, chunk: &Function) -> mlua::Result<(Function, Table)> {
        let environment: Table = self.environment.call(())?;
        // Safe although scripts may assign globals: the compiler never short-cuts a name that the file assigns.
        environment.set_safeenv(true);
        Ok((self.inside(chunk, &environment)?, environment))
    }

    /// The same chunk over the given globals.
    pub(crate) fn inside(&self, chunk: &Function, environment: &Table) -> mlua::Result<Function> {
        let clone = chunk.deep_clone()?;
        clone.set_environment(environment.clone())?;
        Ok(clone)
    }

    /// Builds something without the memory limit, which makes each allocation dearer: for documents of bounded size, made by
    /// our own code. They count: a script that finds the limit passed gets nothing any more.
    pub(crate) fn building<T>(&self, build: impl FnOnce() -> mlua::Result<T>) -> mlua::Result<T> {
        self.lua.set_memory_limit(0)?;
        let built = build();
        self.lua.set_memory_limit(self.memory_bytes)?;
        built
    }

    /// Throws away what a decision left behind, before it could starve the next one. The usual few kilobytes are left to the
    /// incremental collector.
    pub(crate) fn tidy(&self) {
        if self.lua.used_memory() > self.collect_above
            && let Err(error) = self.lua.gc_collect()
        {
            tracing::warn!(%error, "policy state could not be collected");
        }
    }
}

/// The documents' nouns and fields as the prelude wants them.
fn schema(lua: &Lua) -> mlua::Result<Table> {
    let all = lua.create_table()?;
    for document in DOCUMENTS {
        let one = lua.create_table()?;
        one.raw_set("noun", document.noun)?;
        one.raw_set("fields", lua.create_sequence_from(document.names())?)?;
        all.raw_set(document.key, one)?;
    }
    Ok(all)
}

fn prune(globals: &Table) -> mlua::Result<()> {
    let mut gone: Vec<LuaString> = Vec::new();
    for pair in globals.pairs::<LuaString, Value>() {
        let (key, value) = pair?;
        let name = key.to_string_lossy();
        let members = LIBRARIES.iter().find(|(library, _)| *library == name).map(|(_, members)| *members);
        match (members, value) {
            (Some(members), Value::Table(library)) => prune_library(&library, members)?,
            _ if FUNCTIONS.contains(&name.as_str()) => {}
            _ => gone.push(key),
        }
    }
    for key in gone {
        globals.raw_set(key, Value::Nil)?;
    }
    Ok(())
}

fn prune_library(library: &Table, members: &[&str]) -> mlua::Result<()> {
    let mut gone: Vec<LuaString> = Vec::new();
    for pair in library.pairs::<LuaString, Value>() {
        let (key, _) = pair?;
        if !members.contains(&key.to_string_lossy().as_str()) {
            gone.push(key);
        }
    }
    for key in gone {
        library.raw_set(key, Value::Nil)?;
    }
    Ok(())
}

fn install(globals: &Table, ours: Table) -> mlua::Result<()> {
    for name in ["permit", "deny", "restrict", "contains", "tostring", "pcall", "xpcall"] {
        globals.raw_set(name, ours.raw_get::<Function>(name)?)?;
    }
    // `("%s"):format(x)` and interpolated strings find it here as well: the strings' metatable points to this table.
    for (library, members) in [("string", &["format", "find", "split"][..]), ("table", &["move", "sort"])] {
        let (theirs, ours) = (globals.raw_get::<Table>(library)?, ours.raw_get::<Table>(library)?);
        for member in members {
            theirs.raw_set(*member, ours.raw_get::<Function>(*member)?)?;
        }
    }
    Ok(())
}

/// Called by the virtual machine at every call, every loop's back edge and within pattern matching. Once the deadline has
/// passed it raises at each of them, so that no `pcall` gets away.
fn watch(lua: &Lua, budget: Arc<Budget>) {
    lua.set_interrupt(move |lua| {
        if !budget.over() {
            return Ok(VmState::Continue);
        }
        let mut place = String::new();
        for level in 0..16 {
            let found = lua.inspect_stack(level, |frame| {
                let line = frame.current_line().unwrap_or(0);
                let source = frame.source();
                let file = source.short_src.unwrap_or_default().into_owned();
                (line > 0 && file != "prelude").then(|| format!("{file}:{line}: "))
            });
            match found {
                Some(Some(at)) => {
                    place = at;
                    break;
                }
                Some(None) => {}
                None => break,
            }
        }
        Err(mlua::Error::external(Overrun { place }))
    });
}

#[cfg(test)]
mod tests {
    use super::Budget;
    use std::time::{Duration, Instant};

    #[test]
    fn the_deadline_is_of_processor_time() {
        let budget = Budget::new(Duration::from_millis(10));
        budget.start();
        std::thread::sleep(Duration::from_millis(30));
        assert!(!budget.over(), "waiting for a processor is not running");
        let start = Instant::now();
        while !budget.over() {
            assert!(start.elapsed() < Duration::from_secs(60), "a busy thread must reach its deadline");
        }
        assert!(start.elapsed() >= Duration::from_millis(9));
        assert!(budget.over());
        budget.start();
        assert!(!budget.over());
    }
}
