//! `--check`: whether a run with these flags could work, as far as can be known without touching anything.

use crate::backends;
use crate::cli::{Flags, Which};
use crate::error::Error;
use crate::guard::guard_cache::Guard;

/// Checks the flags, and that the programs and files that they need are there.
///
/// # Errors
/// What is missing or wrong: a mistake of the configuration.
pub(crate) fn check(flags: &Flags) -> Result<(), Error> {
    let mut chosen = flags.chosen();
    if chosen.is_empty() {
        chosen.push(Which::Nft);
    }
    let wrong = |error: Error| Error::Config(error.to_string());
    backends::fit(&chosen, flags).map_err(wrong)?;
    for which in chosen {
        backends::check(which, flags).map_err(wrong)?;
    }
    Guard::of(flags).map_err(wrong)?;
    match &flags.state {
        Some(state) if state.exists() && !state.is_dir() => {
            Err(Error::Config(format!("--state {}: this is no directory", state.display())))
        }
        _ => Ok(()),
    }
}
