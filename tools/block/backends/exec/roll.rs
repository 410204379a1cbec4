//! What commands have blocked, because a command cannot be asked: a file of outcome records, one per block,
//! replaced in one step under a lock, so that `list`, `unblock`, `flush` and a restart know. With a memory it outlives a
//! reboot like all the rest: what a command did elsewhere, at a router, does so, too.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use psentry_records::{
    Action, Common, Outcome, OutcomeBody, OutcomeResult, Prefix, Reader, Record, Timestamp,
};

use psentry_stage::replace_file;

use crate::cli::Flags;
use crate::error::Error;
use crate::lock::{Lock, like_its_directory, make_directory, runtime_directory};
use crate::memory::recall::Recall;
use crate::report::body;

/// A block by a command.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Line {
    pub(super) scope: Prefix,
    pub(super) until: Option<Timestamp>,
    /// The command was told that no handshake proves it.
    pub(super) unproven: bool,
    /// The command ended well. A line is written before it is run, so that a block is never without one.
    pub(super) confirmed: bool,
}

/// Its name in the runtime directory, and beside the journals of a memory.
const NAME: &str = "exec.jsonl";
const REMEMBERED: &str = "exec-roll.jsonl";

/// The file.
pub(in crate::backends) struct Roll {
    path: PathBuf,
    /// Its directory was made by us, and for us.
    of_ours: bool,
}

impl Roll {
    /// Where somebody said, or in a memory, or else in the runtime directory.
    pub(in crate::backends) fn of(flags: &Flags) -> Self {
        if let Some(path) = &flags.exec_roll {
            return Self::at(path.clone());
        }
        let recall = Recall::of(flags);
        let remembered = recall.directory().map(|directory| directory.join(REMEMBERED));
        match remembered.filter(|path| flags.state.is_some() || path.exists()) {
            Some(path) => Self::at(path),
            None => Self::of_ours(runtime_directory().join(NAME)),
        }
    }

    /// In a directory of the administrator's.
    pub(super) fn at(path: PathBuf) -> Self {
        Roll { path, of_ours: false }
    }

    /// In the runtime directory.
    pub(super) fn of_ours(path: PathBuf) -> Self {
        Roll { path, of_ours: true }
    }

    /// What stands in it; without a file, nothing.
    pub(super) fn read(&self) -> Result<Vec<Line>, Error> {
        let wrong = |why| Error::file(&self.path, "read it")(why);
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(wrong(error)),
        };
        let mut reader = Reader::new(file);
        let mut entries = Vec::new();
        while let Some(item) = reader.next_item().map_err(wrong)? {
            let Ok(Record::Outcome(outcome)) = item.record else {
                let line = usize::try_from(item.line).unwrap_or(usize::MAX);
                return Err(Error::Damaged { path: self.path.clone(), line, what: "this is no outcome" });
            };
            let OutcomeBody { scope, until, result, handshake, .. } = outcome.body;
            let (unproven, confirmed) = (handshake == Some(false), result == OutcomeResult::Applied);
            entries.push(Line { scope, until, unproven, confirmed });
        }
        Ok(entries)
    }

    /// Changes what stands in it; an empty one is taken away.
    pub(super) fn rewrite(&self, change: impl FnOnce(&mut Vec<Line>)) -> Result<(), Error> {
        let directory = self.directory()?;
        let _lock = Lock::directory(&directory)?;
        let mut entries = self.read()?;
        let before = entries.clone();
        change(&mut entries);
        if entries == before {
            return Ok(());
        }
        if entries.is_empty() {
            return fs::remove_file(&self.path).map_err(Error::file(&self.path, "remove it"));
        }
        let wrong = |why| Error::file(&self.path, "write it")(why);
        let text = lines(&entries).map_err(wrong)?;
        let replaced = replace_file(&self.path, &text, |file| {
            like_its_directory(file, &directory);
            Ok(())
        });
        replaced.map_err(wrong)
    }

    /// Its directory, which is made if it is not there.
    pub(super) fn directory(&self) -> Result<PathBuf, Error> {
        let directory =
            self.path.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
        make_directory(directory)?;
        Ok(directory.to_owned())
    }

    /// Takes its directory away if it is ours and nothing is in it.
    pub(super) fn remove_directory(&self) {
        if let Some(directory) = self.path.parent().filter(|_| self.of_ours) {
            let _ = fs::remove_dir(directory);
        }
    }
}

fn lines(entries: &[Line]) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let mut line = Vec::new();
    for entry in entries {
        let result = if entry.confirmed { OutcomeResult::Applied } else { OutcomeResult::Failed };
        let body = OutcomeBody {
            until: entry.until,
            handshake: entry.unproven.then_some(false),
            ..body(Action::Block, entry.scope, Some("exec"), result)
        };
        Record::Outcome(Outcome { common: Common::at(Timestamp::now()), body }).encode(&mut line)?;
        text.extend_from_slice(&line);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_an_empty_roll_is_no_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/exec.jsonl");
        let roll = Roll::at(path.clone());
        assert_eq!(roll.read().unwrap(), []);
        let entry = Line {
            scope: "192.0.2.0/24".parse().unwrap(),
            until: Some("2026-11-22T15:04:05.25Z".parse().unwrap()),
            unproven: true,
            confirmed: false,
        };
        roll.rewrite(|entries| entries.push(entry.clone())).unwrap();
        assert_eq!(roll.read().unwrap(), [entry]);
        roll.rewrite(Vec::clear).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn only_the_runtime_directory_goes_with_the_roll() {
        let directory = tempfile::tempdir().unwrap();
        let theirs = Roll::at(directory.path().join("theirs/exec.jsonl"));
        let ours = Roll::of_ours(directory.path().join("ours/exec.jsonl"));
        for (roll, name, stays) in [(theirs, "theirs", true), (ours, "ours", false)] {
            roll.directory().unwrap();
            roll.remove_directory();
            assert_eq!(directory.path().join(name).exists(), stays);
        }
    }

    #[test]
    fn a_damaged_roll_is_an_error_with_its_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("exec.jsonl");
        fs::write(&path, "nonsense\n").unwrap();
        assert!(matches!(Roll::at(path).read(), Err(Error::Damaged { line: 1, .. })));
    }
}
