//! Stands for the engine until it is built.

use crate::cli::Flags;
use crate::error::Error;
use crate::protocol::Question;

/// Answers a question where no engine runs: the same engine, run once under an exclusive lock. The lines are those that a
/// running one would send, in the name of `host`. Where no backend is chosen, a block goes to nft, and anything else concerns every backend that
/// this machine has.
///
/// # Errors
/// When it cannot be answered at all.
pub(crate) fn answer_once(_: &Flags, _host: Option<&str>, _: &Question) -> Result<Vec<String>, Error> {
    Err(Error::Unfinished("not built yet".to_owned()))
}
