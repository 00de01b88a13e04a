//! What went wrong in a script, taken out of mlua's errors: where, what kind, one line of text without stack traces.

use crate::problem::Problem;
use crate::sandbox::Overrun;
use crate::source::Sources;
use crate::verdict::clean;
use mlua::Error;

/// What kind of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FaultKind {
    /// It does not compile.
    Syntax,
    /// It raised an error.
    Runtime,
    /// It answered something that is not an answer.
    Shape,
    /// It ran past its deadline.
    Deadline,
    /// It wanted more memory than it may have.
    Memory,
}

impl FaultKind {
    /// The problem's code; a verdict's code is `script-` and this.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::Syntax => "syntax",
            Self::Runtime => "runtime",
            Self::Shape => "shape",
            Self::Deadline => "deadline",
            Self::Memory => "memory",
        }
    }
}

/// A failure of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) kind: FaultKind,
    /// The file of the set; empty when unknown.
    pub(crate) file: String,
    /// From 1; 0 when unknown.
    pub(crate) line: u32,
    /// Without the place.
    pub(crate) text: String,
}

impl Fault {
    /// A failure of `file` without a line.
    pub(crate) fn of(kind: FaultKind, file: &str, text: impl Into<String>) -> Self {
        Self { kind, file: file.to_owned(), line: 0, text: text.into() }
    }

    /// Reads an error of mlua. `file` is to blame when the error does not say which.
    pub(crate) fn from_lua(error: &Error, file: &str, sources: &Sources, text_chars: usize) -> Self {
        let (kind, message) = message_of(error);
        let message = message.split("\nstack traceback:").next().unwrap_or_default();
        // The prelude's mark of an answer that is no answer.
        let (kind, message) = match message.strip_prefix('\u{1}') {
            Some(message) => (FaultKind::Shape, message),
            None => (kind, message),
        };
        // An error that is not a text shows as its address, which differs from run to run.
        let message = match message.split_once(": 0x") {
            Some((kind @ ("table" | "function" | "userdata" | "thread"), _)) => &format!("raised a {kind}, a text is needed"),
            _ => message,
        };
        let (found, line, text) = place_in(message, sources);
        let found = if found.is_empty() { file } else { found };
        Self { kind, file: found.to_owned(), line, text: clean(text.as_bytes(), text_chars) }
    }

    /// "`quota.lua:12: text`".
    pub(crate) fn placed(&self) -> String {
        if self.line == 0 {
            format!("{}: {}", self.file, self.text)
        } else {
            format!("{}:{}: {}", self.file, self.line, self.text)
        }
    }

    /// As a problem of the set.
    pub(crate) fn problem(self, sources: &Sources) -> Problem {
        let help = match self.kind {
            FaultKind::Syntax => "mend the line; the language is Luau, of which Lua 5.1 is a part",
            FaultKind::Shape => "see the manual of the policies for what the file returns",
            FaultKind::Runtime => {
                "the file's chunk runs before every decision and must not fail; there is no clock, no chance, no I/O"
            }
            FaultKind::Deadline | FaultKind::Memory => "the file's chunk runs before every decision: keep it small",
        };
        Problem {
            source: sources.line(&self.file, self.line).unwrap_or_default().to_owned(),
            line: self.line,
            ..Problem::new(&self.file, self.kind.code(), self.text, help)
        }
    }
}

fn message_of(error: &Error) -> (FaultKind, String) {
    match error {
        Error::CallbackError { cause, .. } | Error::WithContext { cause, .. } | Error::BadArgument { cause, .. } => {
            message_of(cause)
        }
        Error::SyntaxError { message, .. } => (FaultKind::Syntax, message.clone()),
        Error::MemoryError(_) => (FaultKind::Memory, "not enough memory".to_owned()),
        Error::RuntimeError(message) if message.starts_with("not enough memory") => {
            (FaultKind::Memory, "not enough memory".to_owned())
        }
        Error::RuntimeError(message) => (FaultKind::Runtime, message.clone()),
        Error::FromLuaConversionError { .. } => (FaultKind::Shape, error.to_string()),
        Error::ExternalError(inner) => match inner.downcast_ref::<Overrun>() {
            Some(overrun) => (FaultKind::Deadline, overrun.to_string()),
            None => (FaultKind::Runtime, inner.to_string()),
        },
        other => (FaultKind::Runtime, other.to_string()),
    }
}

/// Splits "`file.lua:12: text`" if the file is one of the set's.
fn place_in<'a>(message: &'a str, sources: &Sources) -> (&'a str, u32, &'a str) {
    let whole = ("", 0, message);
    let Some((file, rest)) = message.split_once(':') else { return whole };
    if !sources.files.contains_key(file) {
        return whole;
    }
    match rest.split_once(':') {
        Some((line, text)) => match line.trim().parse() {
            Ok(line) => (file, line, text.trim_start()),
            Err(_) => (file, 0, rest.trim_start()),
        },
        None => (file, 0, rest.trim_start()),
    }
}
