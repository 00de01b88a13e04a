//! What is wrong with a policy set: file, line, the line itself, and what to do.

use std::fmt;
use std::ops::Range;

/// One thing that is wrong with a policy set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file, as named in the set (`quota.lua`, `lib/x.lua`); the folder itself when no file is to blame.
    pub file: String,
    /// The line, from 1; 0 when unknown.
    pub line: u32,
    /// A stable code: `missing-file`, `unreadable`, `not-text`, `too-large`, `too-many-files`, `syntax`, `runtime`, `shape`,
    /// `deadline`, `memory`, `state`, `outside`, `unknown-field`, `unknown-global`.
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

    /// The bytes of `source` that it is about: the word that the text names, if it stands there, else the line without its margins.
    #[must_use]
    pub fn span(&self) -> Range<usize> {
        let named = self.text.split(['`', '\'']).skip(1).step_by(2).filter(|word| !word.is_empty());
        for word in named {
            if let Some(at) = word_in(&self.source, word) {
                return at..at + word.len();
            }
        }
        let trimmed = self.source.trim();
        let start = self.source.len() - self.source.trim_start().len();
        start..start + trimmed.len()
    }
}

/// Where the word stands as a word.
fn word_in(line: &str, word: &str) -> Option<usize> {
    let part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(word).map(|(at, _)| at).find(|at| {
        let (before, after) = (line.get(..*at), line.get(at + word.len()..));
        !part(before.and_then(|text| text.chars().next_back())) && !part(after.and_then(|text| text.chars().next()))
    })
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

#[cfg(test)]
mod tests {
    use super::Problem;

    #[test]
    fn a_problem_points_at_the_word_that_it_names() {
        let at = |source: &str, text: &str| {
            let problem = Problem { source: source.to_owned(), ..Problem::new("quota.lua", "runtime", text, "") };
            source[problem.span()].to_owned()
        };
        assert_eq!(at("\tlocal x = memory.memroy", "unknown field `memroy` of request; did you mean `memory`?"), "memroy");
        assert_eq!(at("  return x.cpus", "attempt to index nil with 'cpus'"), "cpus");
        assert_eq!(at("  local ö = 1 + y  ", "attempt to perform arithmetic"), "local ö = 1 + y");
        assert_eq!(at("", "nothing"), "");
    }
}
