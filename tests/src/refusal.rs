//! What a refusal must say: which kind it is, and object, fact and remedy in words.
//!
//! Owns: checking one refusal, whichever way in it came from. Knows no request.

use crate::{Said, Site};

/// What is expected of a refusal.
#[derive(Clone, Copy, Debug)]
pub struct Refusal<'a> {
    /// Last word of the error's name.
    pub name: &'a str,
    /// The stable code; empty for none.
    pub code: &'a str,
    /// Words of the message, beside its shape.
    pub words: &'a [&'a str],
}

/// The shape of every message is `object: fact; remedy`, and what is expected stands in it.
///
/// # Panics
/// When it is another refusal, or says less than it must.
pub fn assert_refusal(what: &str, expected: Refusal<'_>, name: &str, code: &str, message: &str) {
    assert_eq!((name, code), (expected.name, expected.code), "{what}: {message}");
    let parts = message.split_once(": ").and_then(|(object, rest)| Some((object, rest.split_once("; ")?)));
    let Some((object, (fact, remedy))) = parts else { panic!("{what}: not `object: fact; remedy`: {message}") };
    assert!(![object, fact, remedy].iter().any(|part| part.trim().is_empty()), "{what}: {message}");
    assert!(!message.contains('\n'), "{what}: a message is one line: {message:?}");
    for word in expected.words {
        assert!(message.contains(word), "{what}: no `{word}` in: {message}");
    }
}

impl Said {
    /// It was refused as expected, with the exit code that is not success.
    ///
    /// # Panics
    /// When it was not.
    pub fn assert_refused(&self, what: &str, expected: Refusal<'_>) {
        assert!(self.code > 0, "{what}: {self:?}");
        let (name, code, message) = self.error();
        assert_refusal(what, expected, &name, &code, &message);
    }
}

impl Site {
    /// `vws` with these arguments is refused as expected.
    ///
    /// # Panics
    /// When it is not.
    pub fn assert_refuses(&self, arguments: &[&str], name: &str, code: &str, words: &[&str]) {
        self.vws(arguments).assert_refused(&format!("{arguments:?}"), Refusal { name, code, words });
    }
}
