//! The table in the kernel: loaded in one transaction, updated, read, deleted. nft(8) does it.

use psentry_linux::{Error, Program};

use crate::counters::KernelCounters;
use crate::ruleset::{self, TABLE};
use crate::{TrapError, error};

/// The table, by way of the program nft.
pub(crate) struct Table {
    nft: Program,
}

impl Table {
    /// Finds nft.
    ///
    /// # Errors
    /// It is not installed.
    pub(crate) fn new() -> Result<Self, TrapError> {
        Ok(Table { nft: Program::find("nft").ok_or(TrapError::NoNft)? })
    }

    /// Has nft do what `text` says, all of it or nothing.
    pub(crate) fn apply(&self, text: &str) -> Result<(), TrapError> {
        if text.is_empty() {
            return Ok(());
        }
        self.nft.run_checked(&["-f", "-"], text.as_bytes()).map(drop).map_err(error::of_nft)
    }

    /// Reads the counters and resets them; `None`: the table is gone, somebody deleted it. They are reset because nft
    /// reads all sets of the table before it only lists counters: with a full quarantine that takes a second, and
    /// resetting them next to no time.
    pub(crate) fn take_counters(&self) -> Result<Option<KernelCounters>, TrapError> {
        match self.nft.run_checked(&["reset", "counters", "table", "inet", TABLE], b"") {
            Ok(listing) => {
                let counters = KernelCounters::parse(&String::from_utf8_lossy(&listing));
                Ok(counters)
            }
            Err(Error::Program { stderr, .. }) if stderr.contains("No such file or directory") => Ok(None),
            Err(error) => Err(error::of_nft(error)),
        }
    }

    /// Deletes the table.
    pub(crate) fn delete(&self) -> Result<(), TrapError> {
        self.apply(&ruleset::delete())
    }
}
