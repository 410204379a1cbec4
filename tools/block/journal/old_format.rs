//! What psentry-block wrote before it had one journal: a file for each backend, `nft.jsonl` and so on, with verdicts, and one
//! with outcomes of what commands had blocked, in the directory of `--state`, at `--exec-roll`, or in the runtime directory.
//! It is read once, at the first start, and removed when the journal has it.

use std::path::{Path, PathBuf};

use super::file::{open_to_read, remove};
use super::format::Recorded;
use crate::cli::Which;
use crate::error::Error;

/// The names of the file for commands.
const COMMANDS: &str = "exec-roll.jsonl";
const COMMANDS_AT_RUNTIME: &str = "exec.jsonl";

/// The files of the past, as far as there are any.
pub(super) struct OldFiles {
    backends: Vec<PathBuf>,
    commands: Vec<PathBuf>,
}

impl OldFiles {
    /// In a state directory, where somebody said by a flag, and in the runtime directory.
    pub(super) fn of(directory: &Path, exec_roll: Option<&Path>, runtime: &Path) -> Self {
        let is_there = |path: &PathBuf| path.symlink_metadata().is_ok();
        // At runtime this name is one of commands, in a state directory one of what is wanted of them.
        let backends = Which::REAL.map(|which| directory.join(format!("{}.jsonl", which.name())));
        let backends = backends.into_iter().filter(|path| is_there(path) && directory != runtime);
        let commands = [
            Some(directory.join(COMMANDS)),
            exec_roll.map(Path::to_owned),
            Some(runtime.join(COMMANDS_AT_RUNTIME)),
        ];
        OldFiles {
            backends: backends.collect(),
            commands: commands.into_iter().flatten().filter(is_there).collect(),
        }
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.backends.is_empty() && self.commands.is_empty()
    }

    /// All that they hold: of what several backends had, what covers all. Where commands alone have left something, that is wanted,
    /// as what is in the kernel.
    ///
    /// # Errors
    /// What cannot be read.
    pub(super) fn read(&self) -> Result<Recorded, Error> {
        let mut all = Recorded { known: !self.backends.is_empty(), ..Recorded::default() };
        for path in &self.backends {
            let Some(file) = open_to_read(path)? else { continue };
            let mut of_one = Recorded::default();
            of_one.add(path, file)?;
            all.newest = all.newest.max(of_one.newest);
            all.damaged.append(&mut of_one.damaged);
            for (scope, block) in of_one.blocks {
                let both = all.blocks.get(&scope).map(|other| other.joined(&block));
                all.blocks.insert(scope, both.unwrap_or(block));
            }
        }
        for path in &self.commands {
            let Some(file) = open_to_read(path)? else { continue };
            all.add(path, file)?;
        }
        if !all.known {
            let confirmed = all.by_command.iter();
            all.blocks =
                confirmed.filter_map(|(scope, state)| Some((*scope, state.confirmed.clone()?))).collect();
        }
        Ok(all)
    }

    /// They are in the journal now.
    ///
    /// # Errors
    /// What cannot be removed.
    pub(super) fn remove(&self) -> Result<(), Error> {
        self.backends.iter().chain(&self.commands).try_for_each(|path| remove(path))
    }
}
