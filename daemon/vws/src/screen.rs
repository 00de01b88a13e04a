//! What is said on stderr, and how untrusted text is made fit for a terminal.

use crate::output::Format;
use serde_json::json;
use std::io::{IsTerminal, Write};
use vws_bus::failure::Failure;

/// Whether colours are wanted on a stream that is, or is not, a terminal. <https://no-color.org>
pub(crate) fn colours(terminal: bool) -> bool {
    terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Says a line on stderr. That nobody can hear it is no reason to fail.
pub(crate) fn say(text: &str) {
    let mut stderr = std::io::stderr().lock();
    let _unheard = writeln!(stderr, "{text}");
}

/// Says why it failed: as JSON or YAML when that is the format.
pub(crate) fn error(format: Format, failure: &Failure) {
    let document = json!({ "error": { "name": failure.name, "code": failure.code, "message": failure.message } });
    match format {
        Format::Json => say(&document.to_string()),
        Format::Yaml => say(&crate::output::yaml(&document)),
        Format::Table => {
            let red = colours(std::io::stderr().is_terminal());
            let (on, off) = if red { ("\u{1b}[1;31m", "\u{1b}[0m") } else { ("", "") };
            say(&format!("{on}vws:{off} {}", shown_lines(&failure.to_string())));
        }
    }
}

/// Text in one line of a table: control characters are shown, not sent.
pub(crate) fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
}

/// The same for text of several lines.
pub(crate) fn shown_lines(text: &str) -> String {
    text.lines().map(shown).collect::<Vec<_>>().join("\n")
}

/// What a guest wrote, for a terminal: line breaks and tabs stay, escape sequences and other control characters go.
pub(crate) fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\n' | '\t' => out.push(c),
            '\u{1b}' => match rest.peek() {
                // CSI: parameters up to a final byte.
                Some('[') => {
                    rest.next();
                    while rest.next().is_some_and(|c| !('\u{40}'..='\u{7e}').contains(&c)) {}
                }
                // OSC: up to BEL or ESC \.
                Some(']') => {
                    rest.next();
                    while let Some(c) = rest.next() {
                        if c == '\u{7}' {
                            break;
                        }
                        if c == '\u{1b}' {
                            rest.next_if_eq(&'\\');
                            break;
                        }
                    }
                }
                _ => {
                    rest.next();
                }
            },
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{plain, shown};

    #[test]
    fn a_guest_cannot_command_the_terminal() {
        assert_eq!(plain("a\u{1b}[1;31mred\u{1b}[0m\r\nb\tc"), "ared\nb\tc");
        assert_eq!(plain("\u{1b}]0;title\u{7}x\u{1b}]2;t\u{1b}\\y\u{1b}cz\u{8}"), "xyz");
        assert_eq!(plain("cut \u{1b}["), "cut ");
    }

    #[test]
    fn cells_are_one_line() {
        assert_eq!(shown("a\nb\u{1b}"), "a\\nb\\u{1b}");
    }
}
