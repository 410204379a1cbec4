//! `panic` and `resume`: everybody is let in at once, and stays in. A psentry-block that hangs holds it up no longer
//! than a second, nor does a lock that it may hold for ever.

use std::time::Instant;

use psentry_records::Prefix;

use crate::cli::{Flags, Which};
use crate::commands::{flush, say};
use crate::error::Error;
use crate::lock;
use crate::panic::{Order, Panic};
use crate::recall::Recall;

/// Lets everybody in, and blocks nobody until [`resume`].
pub(crate) fn panic(flags: &Flags, reason: Option<&str>, host: Option<&str>) -> Result<(), Error> {
    // What must not be held up waits no longer than it does for a lock.
    let until = Instant::now() + lock::BOLD_LIMIT;
    lock::go_on_without();
    // First the order: from here on nothing that waits slips in. Whatever fails, everybody is let in.
    let panic = Panic::of(flags);
    let declared = panic.declare(&Order::now(reason));
    let opened = flush(flags, Some(until), host);
    match (panic.holds(), &opened) {
        (None, _) => say("the panic does not hold: whoever is convicted next is blocked"),
        (Some(_), Ok(())) => say("everybody is let in, and nobody is blocked until 'psentry-block resume'"),
        (Some(_), Err(_)) => {
            say("nobody more is blocked until 'psentry-block resume'; not all could be let in");
        }
    }
    opened.and(declared)
}

/// Ends a panic. Who was let in by it stays let in: what could not be forgotten then, because a psentry-block that hung
/// held its memory, is forgotten first.
pub(crate) fn resume(flags: &Flags) -> Result<(), Error> {
    let panic = Panic::of(flags);
    let Some(order) = panic.holds() else {
        if let Some(unknown) = panic.unknown() {
            return Err(unknown);
        }
        say("there is no panic; nothing to resume");
        return Ok(());
    };
    let recall = Recall::of(flags);
    for which in Which::REAL {
        let older = recall.blocks(which)?.into_iter();
        let older = older.filter(|(_, block)| block.since.is_none_or(|since| since <= order.timestamp));
        recall.let_in(which, &older.map(|(scope, _)| scope).collect::<Vec<Prefix>>())?;
    }
    panic.end()?;
    say("the panic is over: verdicts from now on are applied; who was let in stays let in");
    Ok(())
}
