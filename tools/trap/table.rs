//! The table in the kernel: loaded in one transaction, changed, asked, taken away. nft(8) does it.

use psentry_linux::{Error, Program};

use crate::counters::Counters;
use crate::ruleset::{self, TABLE};
use crate::{TrapError, error};

/// The table.
pub(crate) struct Table {
    nft: Program,
}

impl Table {
    /// Finds nft.
    ///
    /// # Errors
    /// It is not there.
    pub(crate) fn new() -> Result<Self, TrapError> {
        Ok(Table { nft: Program::find("nft").ok_or(TrapError::NoNft)? })
    }

    /// Has nft do what `text` says, all of it or nothing.
    pub(crate) fn apply(&self, text: &str) -> Result<(), TrapError> {
        if text.is_empty() {
            return Ok(());
        }
        self.nft.run_well(&["-f", "-"], text.as_bytes()).map(drop).map_err(error::of_nft)
    }

    /// What the rules counted since the last time; `None`: there are none, somebody took them away. Counters are reset
    /// with that, because nft reads all sets of the table before it only lists counters: with a full quarantine that
    /// takes a second, and resetting them nothing.
    pub(crate) fn counters(&self) -> Result<Option<Counters>, TrapError> {
        match self.nft.run_well(&["reset", "counters", "table", "inet", TABLE], b"") {
            Ok(listing) => {
                let counters = Counters::parse(&String::from_utf8_lossy(&listing));
                Ok(Some(counters).filter(|counters| !counters.is_empty()))
            }
            Err(Error::Program { said, .. }) if said.contains("No such file or directory") => Ok(None),
            Err(error) => Err(error::of_nft(error)),
        }
    }

    /// Takes the table away.
    pub(crate) fn remove(&self) -> Result<(), TrapError> {
        self.apply(&ruleset::none())
    }
}
