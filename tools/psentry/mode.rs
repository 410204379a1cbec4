//! `mode`: whether psentry observes or blocks, which is the line MODE= of /etc/psentry/psentry.conf.

use std::fs;

use psentry_stage::replace_file_like;
use serde_json::json;

use crate::Error;
use crate::cli::Mode;
use crate::run::{Context, print};
use crate::siblings::{has_systemd, systemctl};

/// Shows it, or sets it and restarts the services.
pub(crate) fn mode(context: &Context, wanted: Option<Mode>) -> Result<(), Error> {
    let installed = &context.installed;
    let Some(wanted) = wanted else {
        let is = installed.mode()?.name();
        return print(&if context.json { format!("{}\n", json!({ "mode": is })) } else { format!("{is}\n") });
    };
    let conf = installed.conf();
    let option = format!("services.psentry.observe = {};", wanted == Mode::Observe);
    installed.may_change(&conf, &option)?;
    let text = fs::read_to_string(&conf).map_err(Error::file("read", &conf))?;
    let changed = with_mode(&text, wanted);
    if changed == text {
        return print(&format!("psentry is set to {} already\n", wanted.name()));
    }
    replace_file_like(&conf, &conf, 0o644, changed.as_bytes()).map_err(Error::file("write", &conf))?;
    if !has_systemd() {
        let then = "without systemd, restart your pipeline to make it so";
        return print(&format!("MODE={} stands in {}; {then}\n", wanted.name(), conf.display()));
    }
    systemctl(&["daemon-reload"])?;
    systemctl(&["restart", "psentry.target"])?;
    print(match wanted {
        Mode::Observe => "psentry observes now, and shuts out nobody new; who is shut out: psentry list\n",
        Mode::Block => "psentry blocks now; who is shut out: psentry list\n",
    })
}

/// The same settings with another mode: in the place of the line that says it, or at the end.
fn with_mode(text: &str, mode: Mode) -> String {
    let is_mode = |line: &&str| line.starts_with("MODE=") || line.starts_with("OBSERVE=");
    let line = format!("MODE={}\n", mode.name());
    let mut said = false;
    let mut changed = String::new();
    for old in text.split_inclusive('\n') {
        if !is_mode(&old) {
            changed.push_str(old);
        } else if !said {
            said = true;
            changed.push_str(&line);
        }
    }
    if !said {
        let newline = if changed.is_empty() || changed.ends_with('\n') { "" } else { "\n" };
        changed.push_str(newline);
        changed.push_str(&line);
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_says_it_and_the_others_stay() {
        for (text, changed) in [
            ("# x\nOBSERVE=--observe\nJUDGE=\n", "# x\nMODE=block\nJUDGE=\n"),
            ("MODE=observe\nOBSERVE=\nBLOCK=", "MODE=block\nBLOCK="),
            ("#MODE=observe\nBLOCK=", "#MODE=observe\nBLOCK=\nMODE=block\n"),
            ("MODE=block\n", "MODE=block\n"),
        ] {
            assert_eq!(with_mode(text, Mode::Block), changed);
        }
    }
}
