//! `flush`, `panic` and `resume`: everybody is let in, and with a panic stays in. For a panic a psentry-block that hangs is
//! not asked, and no lock is waited for that it may hold for ever.

use std::collections::{BTreeMap, HashMap};

use psentry_records::{Action, OutcomeBody, OutcomeResult, Prefix};

use super::taking_back::take_all_back;
use crate::cli::{Flags, Which};
use crate::error::Error;
use crate::lock;
use crate::memory::recall::Recall;
use crate::panic::{Order, Panic};
use crate::people::commands::{print, readers, say, worst};
use crate::report::{body, lines, of_now};

/// Ends all blocks, forgets what is remembered, and takes away whatever psentry-block made. First a running one gives up
/// what it still tries, so that nothing of it comes about after this.
pub(crate) fn flush(flags: &Flags, host: Option<&str>) -> Result<(), Error> {
    let taken = take_all_back(flags);
    let_all_in(flags, taken, host)
}

/// Ends all blocks that stand; what was only wanted was `taken` back before.
fn let_all_in(flags: &Flags, taken: Vec<OutcomeBody>, host: Option<&str>) -> Result<(), Error> {
    let (readers, mut trouble) = readers(flags);
    let recall = Recall::of(flags);
    let mut outcomes = taken;
    for (which, reader) in readers {
        let remembered = recall.blocks(which).and_then(|blocks| {
            recall.let_in(which, &blocks.keys().copied().collect::<Vec<_>>())?;
            Ok(blocks)
        });
        let remembered = remembered.unwrap_or_else(|error| {
            trouble = worst(trouble.take(), error);
            HashMap::new()
        });
        let removed = reader.map_or_else(|| Ok(Vec::new()), |(mut backend, _)| backend.remove());
        let ended = match removed {
            Ok(entries) => {
                let mut ended: BTreeMap<Prefix, _> =
                    remembered.into_iter().map(|(scope, block)| (scope, block.until)).collect();
                ended.extend(entries.into_iter().map(|entry| (entry.scope, entry.until)));
                ended
            }
            Err(error) => {
                trouble = worst(trouble, error);
                continue;
            }
        };
        // What a command may have blocked it was made to end as well.
        outcomes.retain(|taken| {
            taken.backend.as_deref() != Some(which.name()) || !ended.contains_key(&taken.scope)
        });
        outcomes.extend(ended.into_iter().map(|(scope, until)| OutcomeBody {
            until,
            ..body(Action::Block, scope, Some(which.name()), OutcomeResult::Released)
        }));
    }
    print(&lines(outcomes.into_iter().map(of_now), host))?;
    trouble.map_or(Ok(()), Err)
}

/// Lets everybody in, and blocks nobody until [`resume`].
pub(crate) fn panic(flags: &Flags, reason: Option<&str>, host: Option<&str>) -> Result<(), Error> {
    lock::go_on_without();
    // First the order: from here on nothing that waits slips in. Whatever fails, everybody is let in.
    let panic = Panic::of(flags);
    let declared = panic.declare(&Order::now(reason));
    let opened = let_all_in(flags, Vec::new(), host);
    match (panic.holds(), &opened) {
        (None, _) => say("the panic does not hold: whoever is convicted next is blocked"),
        (Some(_), Ok(())) => say("everybody is let in, and nobody is blocked until 'psentry-block resume'"),
        (Some(_), Err(_)) if stands(flags) => {
            say("nobody more is blocked until 'psentry-block resume'; not all could be let in");
        }
        (Some(_), Err(_)) => {
            say(
                "nobody stands blocked any more, nor is until 'psentry-block resume'; not all of it could be put right",
            );
        }
    }
    opened.and(declared)
}

/// Whether anybody is still blocked, as far as can be told.
fn stands(flags: &Flags) -> bool {
    let (readers, trouble) = readers(flags);
    trouble.is_some()
        || readers.iter().any(|(_, reader)| reader.as_ref().is_some_and(|(_, held)| !held.is_empty()))
}

/// Ends a panic. Who was let in by it stays let in: what could not be forgotten then, because a psentry-block that hung
/// held its memory, is forgotten first.
pub(crate) fn resume(flags: &Flags) -> Result<(), Error> {
    let panic = Panic::of(flags);
    let Some(order) = panic.holds() else {
        say("there is no panic; nothing to resume");
        return Ok(());
    };
    let ended = forget(flags, &order).and_then(|()| panic.end());
    if let Err(error) = ended {
        if panic.holds().is_some() {
            say("the panic still holds: nobody is blocked");
        }
        return Err(error);
    }
    say("the panic is over: verdicts from now on are applied; who was let in stays let in");
    Ok(())
}

/// Whoever was let in by a panic is not put back by the next start.
fn forget(flags: &Flags, order: &Order) -> Result<(), Error> {
    let recall = Recall::of(flags);
    for which in Which::REAL {
        let older = recall.blocks(which)?.into_iter();
        let older = older.filter(|(_, block)| block.since.is_none_or(|since| since <= order.timestamp));
        recall.let_in(which, &older.map(|(scope, _)| scope).collect::<Vec<Prefix>>())?;
    }
    Ok(())
}
