//! What is wrong with a policy set: file, line, the line itself, and what to do.

use std::fmt;

/// One thing that is wrong with a policy set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file, as named in the set (`quota.lua`, `lib/x.lua`); the folder itself when no file is to blame.
    pub file: String,
    /// The line, from 1; 0 when unknown.
    pub line: u32,
    /// A stable code: `missing-file`, `unreadable`, `not-text`, `too-large`, `too-many-files`, `syntax`, `runtime`, `shape`,
    /// `deadline`, `memory`, `state`.
    pub code: String,
    /// What is wrong.
    pub text: String,
    /// The source line, without its line break; empty when unknown.
    pub source: String,
    /// What to do about it; may be empty.
    pub help: String,
}

impl Problem {
    pub(crate) fn new(file: &str, code: &str, text: impl Into<String>, help: &str) -> Self {
        Self {
            file: file.to_owned(),
            line: 0,
            code: code.to_owned(),
            text: text.into(),
            source: String::new(),
            help: help.to_owned(),
        }
    }

    /// Several lines for a terminal: the problem, the source line with carets under it, the help.
    #[must_use]
    pub fn render(&self) -> String {
        let mut out = format!("policy::{}\n  × {}\n", self.code, self.text);
        if self.line == 0 {
            out.push_str(&format!("   ╭─[{}]\n   ╰────\n", self.file));
        } else {
            let number = self.line.to_string();
            let gutter = " ".repeat(number.len());
            // A tab would shift the carets: shown as four spaces.
            let source = self.source.replace('\t', "    ");
            let indent = source.chars().take_while(|c| *c == ' ').count();
            let width = source.trim().chars().count().max(1);
            out.push_str(&format!(
                " {gutter} ╭─[{}:{number}]\n {number} │ {source}\n {gutter} · {}{}\n {gutter} ╰────\n",
                self.file,
                " ".repeat(indent),
                "^".repeat(width),
            ));
        }
        if !self.help.is_empty() {
            out.push_str(&format!("  help: {}\n", self.help));
        }
        out
    }
}

/// One line: "`quota.lua:12: text`".
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            write!(f, "{}: {}", self.file, self.text)
        } else {
            write!(f, "{}:{}: {}", self.file, self.line, self.text)
        }
    }
}

impl std::error::Error for Problem {}
