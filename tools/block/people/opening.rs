//! `flush`, `panic` and `resume`: everybody is let in, and with a panic stays in. A psentry-block that hangs holds up a panic
//! no longer than a second, nor does a lock that it may hold for ever.

use std::time::Instant;

use std::collections::{BTreeMap, HashMap};

use psentry_records::{Action, OutcomeBody, OutcomeResult, Prefix};

use super::taking_back::take_all_back;
use crate::backend::{Backend, Entry};
use crate::cli::{Flags, Which};
use crate::error::Error;
use crate::lock;
use crate::memory::recall::Recall;
use crate::panic::{Order, Panic};
use crate::people::commands::{readers, say, worst};
use crate::people::{commanded, show};
use crate::report::body;

/// Ends all blocks, forgets what is remembered, and takes away whatever psentry-block made. First a running one gives up
/// what it still tries, so that nothing of it comes about after this.
pub(crate) fn flush(flags: &Flags, host: Option<&str>) -> Result<(), Error> {
    let taken = take_all_back(flags);
    let_all_in(flags, taken, None, host)
}

/// Ends all blocks that stand; what was only wanted was `taken` back before. What a command of the administrator's made is
/// left to a running psentry-block; `soon`: it is not waited for, and its answer only so long.
fn let_all_in(
    flags: &Flags,
    taken: Vec<OutcomeBody>,
    soon: Option<Instant>,
    host: Option<&str>,
) -> Result<(), Error> {
    let (readers, mut trouble) = readers(flags);
    let recall = Recall::of(flags);
    let mut outcomes = taken;
    for (which, mut reader) in readers {
        let remembered = recall.blocks(which).and_then(|blocks| {
            recall.let_in(which, &blocks.keys().copied().collect::<Vec<_>>())?;
            Ok(blocks)
        });
        let remembered = remembered.unwrap_or_else(|error| {
            trouble = worst(trouble.take(), error);
            HashMap::new()
        });
        let mut by_another = Vec::new();
        let stands = |(backend, entries): &mut (Box<dyn Backend>, Vec<Entry>)| {
            !entries.is_empty() || backend.unsure().is_ok_and(|unsure| !unsure.is_empty())
        };
        // Its roll may be where only the running one looks.
        let elsewhere = flags.state.is_none() && flags.exec_roll.is_none();
        if commanded::is_left(flags, which) && (elsewhere || reader.as_mut().is_some_and(stands)) {
            if let Some(until) = soon {
                let left = until.saturating_duration_since(Instant::now());
                if commanded::end_all_soon(flags, left) {
                    let name = which.name();
                    say(&format!("{name}: the running psentry-block lets in whom its command shut out"));
                    continue;
                }
            } else {
                let (ended, unfinished) = commanded::end_all(flags).unwrap_or_default();
                outcomes.extend(ended.iter().cloned());
                by_another = ended;
                if let Some(error) = unfinished {
                    trouble = worst(trouble, error);
                    continue;
                }
            }
        }
        let removed = reader.map_or_else(|| Ok(Vec::new()), |(mut backend, _)| backend.remove());
        let ended = match removed {
            Ok(entries) => {
                let mut ended: BTreeMap<Prefix, _> =
                    remembered.into_iter().map(|(scope, block)| (scope, block.until)).collect();
                ended.extend(entries.into_iter().map(|entry| (entry.scope, entry.until)));
                ended.retain(|scope, _| by_another.iter().all(|outcome| outcome.scope != *scope));
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
    show(outcomes, host)?;
    trouble.map_or(Ok(()), Err)
}

/// Lets everybody in, and blocks nobody until [`resume`].
pub(crate) fn panic(flags: &Flags, reason: Option<&str>, host: Option<&str>) -> Result<(), Error> {
    // What must not be held up waits no longer than it does for a lock.
    let until = Instant::now() + lock::BOLD_LIMIT;
    lock::go_on_without();
    // First the order: from here on nothing that waits slips in. Whatever fails, everybody is let in.
    let panic = Panic::of(flags);
    let declared = panic.declare(&Order::now(reason));
    let opened = let_all_in(flags, Vec::new(), Some(until), host);
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
        if let Some(unknown) = panic.unknown() {
            return Err(unknown);
        }
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
