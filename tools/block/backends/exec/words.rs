//! A command line as a list of words, split once, with places for what is known about a block. What is put in is
//! never split again and never seen by a shell.

use crate::error::Error;

/// The words of a command.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Words(Vec<String>);

/// What can be put in.
const KNOWN: [&str; 5] = ["scope", "addr", "port", "proto", "duration"];

impl Words {
    /// Splits what was given to `flag` as a shell would.
    pub(super) fn split(flag: &str, command: &str) -> Result<Self, Error> {
        let words = shlex::split(command)
            .ok_or_else(|| Error::Usage(format!("{flag}: a quote is not closed in '{command}'")))?;
        if words.first().is_none_or(String::is_empty) {
            return Err(Error::Usage(format!(
                "{flag} needs a command, such as '/usr/local/bin/ban {{addr}}'"
            )));
        }
        for name in words.iter().flat_map(|word| places(word)) {
            if !KNOWN.contains(&name) {
                return Err(Error::Usage(format!(
                    "{flag} knows no {{{name}}}, only {{scope}} {{addr}} {{port}} {{proto}} {{duration}}"
                )));
            }
        }
        Ok(Words(words))
    }

    /// The program.
    pub(super) fn program(&self) -> &str {
        self.0.first().map_or("", String::as_str)
    }

    /// The words after the program, with `value` of each name in its place.
    pub(super) fn arguments(&self, value: impl Fn(&str) -> String) -> Vec<String> {
        self.0.iter().skip(1).map(|word| fill(word, &value)).collect()
    }
}

/// One pass, so that what was put in is not looked at again.
fn fill(word: &str, value: impl Fn(&str) -> String) -> String {
    let mut filled = String::new();
    let mut rest = word;
    while let Some((before, name, after)) = place(rest) {
        filled.push_str(before);
        filled.push_str(&value(name));
        rest = after;
    }
    filled.push_str(rest);
    filled
}

fn places(word: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut rest = word;
    while let Some((_, name, after)) = place(rest) {
        names.push(name);
        rest = after;
    }
    names
}

/// The first `{name}` of a text, and what stands before and after it. Other braces are only braces.
fn place(text: &str) -> Option<(&str, &str, &str)> {
    for (open, _) in text.match_indices('{') {
        let Some((before, inside)) = text.split_at_checked(open) else { continue };
        let Some((name, after)) = inside.strip_prefix('{').and_then(|inside| inside.split_once('}')) else {
            continue;
        };
        if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') {
            return Some((before, name, after));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(command: &str) -> Vec<String> {
        Words::split("--exec", command).unwrap().arguments(|name| format!("<{name}>; {{addr}}"))
    }

    #[test]
    fn words_are_split_once_and_filled_once() {
        assert_eq!(filled("ban {scope}"), ["<scope>; {addr}"]);
        assert_eq!(
            filled("ban --from={addr}:{port} 'two words' \"\""),
            ["--from=<addr>; {addr}:<port>; {addr}", "two words", ""]
        );
        assert_eq!(filled("awk '{print $1}' {} {{addr}}"), ["{print $1}", "{}", "{<addr>; {addr}}"]);
    }

    #[test]
    fn what_is_no_command_is_an_error_that_names_the_flag() {
        for command in ["", "  ", "''", "ban 'x", "ban {address}", "ban {adr} {scope}"] {
            let error = Words::split("--exec", command).unwrap_err();
            assert!(error.to_string().starts_with("--exec"), "{command}: {error}");
        }
    }
}
