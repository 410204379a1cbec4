//! The state read back: whatever the file says, what can be used of it is.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use psentry_records::Prefix;

use super::entry::{Entry, FILE, FORM};
use crate::{JudgeError, State};

/// The longest line that is read. A source has at most a hundred contacts, a prefix 256 members.
const MAX_LINE: u64 = 1 << 20;

/// What was found wrong while a state was read.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// How many lines were no change of a state, and were dropped.
    pub lines: u64,
    /// Whether the last line was cut off, as a crash leaves it.
    pub torn: bool,
}

/// Reads what the state in a folder says of that scope, without a claim to it: a judge may be at work there.
///
/// # Errors
/// The file cannot be opened or read.
pub(crate) fn read_about(folder: &Path, state: &mut State, scope: Prefix) -> Result<Damage, JudgeError> {
    let path = folder.join(FILE);
    let read = File::open(&path).and_then(|file| restore_some(file, state, |entry| entry.concerns(scope)));
    read.map_err(|source| JudgeError::State { what: "cannot read", path, source })
}

/// Reads a state. Public so that it can be fed anything.
///
/// # Errors
/// What read(2) says; no content is an error.
pub fn restore(file: impl io::Read, state: &mut State) -> io::Result<Damage> {
    restore_some(file, state, |_| true)
}

fn restore_some(
    file: impl io::Read,
    state: &mut State,
    wanted: impl Fn(&Entry) -> bool,
) -> io::Result<Damage> {
    let mut reader = BufReader::new(file);
    let mut damage = Damage::default();
    let mut line = Vec::new();
    let mut first = true;
    loop {
        line.clear();
        let got = io::Read::take(&mut reader, MAX_LINE).read_until(b'\n', &mut line)?;
        if got == 0 {
            return Ok(damage);
        }
        if line.last() != Some(&b'\n') {
            if (got as u64) < MAX_LINE {
                damage.torn = true;
                return Ok(damage);
            }
            damage.lines += 1;
            reader.skip_until(b'\n')?;
            continue;
        }
        match serde_json::from_slice::<Entry>(&line) {
            Ok(Entry::Form(form)) if form == FORM => first = false,
            // Another version's file is no state of ours: begin anew rather than half.
            _ if first => {
                damage.lines += 1;
                return Ok(damage);
            }
            Ok(entry) if wanted(&entry) => entry.apply(state),
            Ok(_) => {}
            Err(_) => damage.lines += 1,
        }
    }
}
