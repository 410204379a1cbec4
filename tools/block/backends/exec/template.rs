//! A command line as a list of words, split once, with placeholders for what is known about a block. What takes their place is
//! never split again and never seen by a shell.

use crate::error::Error;

/// The words of a command, with placeholders.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Template(Vec<String>);

/// The placeholders, without their braces.
pub(super) const PLACEHOLDERS: [&str; 5] = ["scope", "addr", "port", "proto", "duration"];

/// Those of PortSentry's KILL_ROUTE and KILL_RUN_CMD, and what to write instead. Here they would be words like any others, and
/// the command would fail at the first attacker.
const OF_PORTSENTRY: [(&str, &str); 3] =
    [("$TARGET$", "{addr}"), ("$PORT$", "{port}"), ("$MODE$", "{proto}")];

impl Template {
    /// Splits what was given to `flag` as a shell would.
    pub(super) fn split(flag: &str, command: &str) -> Result<Self, Error> {
        let words = shlex::split(command)
            .ok_or_else(|| Error::Usage(format!("{flag}: a quote is not closed in '{command}'")))?;
        if words.first().is_none_or(String::is_empty) {
            return Err(Error::Usage(format!(
                "{flag} needs a command, such as '/usr/local/bin/ban {{addr}}'"
            )));
        }
        for (placeholder, ours) in OF_PORTSENTRY {
            if command.contains(placeholder) {
                return Err(Error::Usage(format!(
                    "{flag} knows no {placeholder} of PortSentry, write {ours}"
                )));
            }
        }
        let mut unknown = None;
        let mut check = |name: &str| {
            if !PLACEHOLDERS.contains(&name) {
                unknown.get_or_insert_with(|| name.to_owned());
            }
            String::new()
        };
        words.iter().for_each(|word| _ = fill(word, &mut check));
        if let Some(name) = unknown {
            return Err(Error::Usage(format!(
                "{flag} knows no {{{name}}}, only {{scope}} {{addr}} {{port}} {{proto}} {{duration}}"
            )));
        }
        Ok(Template(words))
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

/// Puts `value` of each `{name}` in its place, in one pass, so that a placeholder in a value stays as it is. Other braces are only
/// braces.
fn fill(word: &str, mut value: impl FnMut(&str) -> String) -> String {
    let is_name =
        |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let mut parts = word.split('{');
    let mut filled = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once('}').filter(|(name, _)| is_name(name)) {
            Some((name, after)) => filled.extend([&value(name), after]),
            None => filled.extend(["{", part]),
        }
    }
    filled
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(command: &str) -> Vec<String> {
        Template::split("--exec", command).unwrap().arguments(|name| format!("<{name}>; {{addr}}"))
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
            let error = Template::split("--exec", command).unwrap_err();
            assert!(error.to_string().starts_with("--exec"), "{command}: {error}");
        }
    }

    #[test]
    fn the_placeholders_of_portsentry_are_refused_with_ours() {
        for (command, ours) in [
            ("route add -host $TARGET$ reject", "{addr}"),
            ("/usr/local/bin/kill --port=$PORT$ {addr}", "{port}"),
            ("sh -c 'echo $MODE$'", "{proto}"),
        ] {
            let error = Template::split("--exec-undo", command).unwrap_err().to_string();
            assert!(error.starts_with("--exec-undo knows no $") && error.ends_with(ours), "{error}");
        }
        // A shell's own variables are the administrator's affair.
        assert!(Template::split("--exec", "sh -c 'echo $TARGET $PORT$PORT $MODE'").is_err());
        assert!(Template::split("--exec", "sh -c 'echo $TARGET $1$2 $$ ${MODE}'").is_ok());
    }
}
