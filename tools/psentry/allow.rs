//! `allow`: the ignore file, /etc/psentry/ignore. It is written anew in one step, with its comments; the stages follow it.

use std::path::Path;

use psentry_records::{Ignore, Prefix};
use psentry_stage::{clean, read_if_there, replace_file_like};
use serde_json::json;

use crate::Error;
use crate::cli::Allow;
use crate::rows::short;
use crate::run::{Context, print};

/// What is said after a change.
const FOLLOWED: &str = "the judge, the trap and the blocker read the file again by themselves";

/// Shows the file or changes it.
pub(crate) fn allow(context: &Context, command: &Allow) -> Result<(), Error> {
    let path = context.installed.ignore();
    let change = |scope: &Prefix| {
        let option = format!("services.psentry.ignore = [ \"{}\" ];", short(*scope));
        context.installed.may_change(&path, &option)
    };
    match command {
        Allow::List => {
            let line = |(line, prefix): (usize, Prefix)| {
                let prefix = short(prefix);
                if context.json { json!({ "prefix": prefix, "line": line }).to_string() } else { prefix }
            };
            print(&entries(&path)?.into_iter().map(|entry| line(entry) + "\n").collect::<String>())
        }
        Allow::Add { scope, comment } => {
            change(scope)?;
            if let Some((line, prefix)) =
                entries(&path)?.into_iter().find(|(_, prefix)| holds(*prefix, *scope))
            {
                let (scope, prefix) = (short(*scope), short(prefix));
                return print(&format!(
                    "{scope} is left alone already: {prefix}, line {line} of {}\n",
                    path.display()
                ));
            }
            let text = text(&path)?;
            write(&path, &added(&text, *scope, comment.as_deref()))?;
            print(&format!("{} is left alone from now on; {FOLLOWED}\n", short(*scope)))
        }
        Allow::Remove { scope } => {
            change(scope)?;
            let entries = entries(&path)?;
            if !entries.iter().any(|(_, prefix)| prefix == scope) {
                return Err(Error::no(format!("{} has no line for {}", path.display(), short(*scope))));
            }
            write(&path, &removed(&text(&path)?, *scope))?;
            let around = entries.iter().find(|(_, prefix)| prefix != scope && holds(*prefix, *scope));
            print(&match around {
                Some((_, prefix)) => format!(
                    "its line is removed, but {} is still left alone by {}\n",
                    short(*scope),
                    short(*prefix)
                ),
                None => format!("{} is left alone no more; {FOLLOWED}\n", short(*scope)),
            })
        }
    }
}

/// The lines of the file that name somebody, each with its number.
pub(crate) fn entries(path: &Path) -> Result<Vec<(usize, Prefix)>, Error> {
    let text = text(path)?;
    // What is wrong with a line, with its number.
    Ignore::parse(path, text.as_bytes())?;
    Ok((1..).zip(text.lines()).filter_map(|(number, line)| Some((number, entry(line)?))).collect())
}

fn text(path: &Path) -> Result<String, Error> {
    let bytes = read_if_there(path).map_err(Error::file("read", path))?.unwrap_or_default();
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn entry(line: &str) -> Option<Prefix> {
    Ignore::parse(Path::new(""), line.as_bytes()).ok()?.first().copied()
}

fn holds(outer: Prefix, inner: Prefix) -> bool {
    outer.overlaps(inner) && outer.len() <= inner.len()
}

fn added(text: &str, scope: Prefix, comment: Option<&str>) -> String {
    let newline = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    let comment = comment.and_then(clean).map_or_else(String::new, |comment| format!("  # {comment}"));
    format!("{text}{newline}{}{comment}\n", short(scope))
}

fn removed(text: &str, scope: Prefix) -> String {
    text.split_inclusive('\n').filter(|line| entry(line) != Some(scope)).collect()
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    replace_file_like(path, path, 0o644, text.as_bytes()).map_err(Error::file("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_added_and_removed_and_the_others_stay() {
        let text = "# mine\n192.0.2.0/24 # the office\n\n2001:DB8::/32\r\n192.0.2.7";
        let scope = |text: &str| text.parse::<Prefix>().unwrap();
        assert_eq!(
            added(text, scope("198.51.100.7"), Some("a monitor\n#")),
            format!("{text}\n198.51.100.7  # a monitor\\n#\n")
        );
        assert_eq!(added("", scope("198.51.100.0/24"), None), "198.51.100.0/24\n");
        assert_eq!(removed(text, scope("2001:db8::/32")), "# mine\n192.0.2.0/24 # the office\n\n192.0.2.7");
        assert_eq!(removed(text, scope("192.0.2.0/24")), "# mine\n\n2001:DB8::/32\r\n192.0.2.7");
        assert!(
            holds(scope("192.0.2.0/24"), scope("192.0.2.7"))
                && !holds(scope("192.0.2.7"), scope("192.0.2.0/24"))
        );
    }
}
