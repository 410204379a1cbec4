//! Files of settings as systemd's `EnvironmentFile=` reads them, such as psentry.conf: what they say, and the same text with one
//! line changed, where every other line stays.

use std::collections::BTreeMap;

/// The value of each variable.
#[must_use]
pub fn variables(text: &str) -> BTreeMap<String, String> {
    let text = text.replace("\\\n", "");
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';']));
    let pair = |line: &str| {
        let (name, value) = line.split_once('=')?;
        let value = value.trim();
        let bare = ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
        Some((name.trim().to_owned(), bare.unwrap_or(value).to_owned()))
    };
    lines.filter_map(pair).collect()
}

/// The same text with `name=value` in the place of the first line that sets one of `names`, the current name and former ones, and
/// without the others that do; at the end where there is none.
#[must_use]
pub fn with_variable(text: &str, names: &[&str], value: &str) -> String {
    let line = format!("{}={value}", names.first().unwrap_or(&""));
    let is_set = |line: &&str| line.split_once('=').is_some_and(|(name, _)| names.contains(&name.trim()));
    let Some(old) = text.lines().find(is_set) else { return with_line(text, &line) };
    let others = text.lines().filter(|other| *other == old || !is_set(other));
    others.map(|other| if other == old { &line } else { other }).map(|line| format!("{line}\n")).collect()
}

/// The same text with one more line at its end.
#[must_use]
pub fn with_line(text: &str, line: &str) -> String {
    let newline = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    format!("{text}{newline}{line}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_is_changed_and_the_others_stay() {
        for (text, changed) in [
            ("# x\nOBSERVE=--observe\nJUDGE=\n", "# x\nMODE=block\nJUDGE=\n"),
            ("MODE=observe\nOBSERVE=\nBLOCK=\n", "MODE=block\nBLOCK=\n"),
            ("#MODE=observe\nBLOCK=", "#MODE=observe\nBLOCK=\nMODE=block\n"),
            ("MODE=block\n", "MODE=block\n"),
            ("", "MODE=block\n"),
        ] {
            assert_eq!(with_variable(text, &["MODE", "OBSERVE"], "block"), changed);
        }
    }

    #[test]
    fn values_are_read_as_systemd_reads_them() {
        let text =
            "# A=1\n;A=2\nBLOCK=\"--backend nft \\\n  --control=/c\"\n TRAP = '--x' \nno line\nEMPTY=\n";
        let is = variables(text);
        let value = |name: &str| is.get(name).map(String::as_str);
        assert_eq!(value("BLOCK"), Some("--backend nft   --control=/c"));
        assert_eq!((value("TRAP"), value("EMPTY"), value("A")), (Some("--x"), Some(""), None));
    }
}
