//! What inotify's events say about who changed the file. Pure.
//!
//! A renaming is told in two halves with the same cookie, the name before it first. They may come apart: the first half
//! in one reading, the second in the next.

use std::ffi::{OsStr, OsString};

/// How the names of drafts begin, before the number of the process.
pub(super) const DRAFT: &str = ".psentry-";

/// The same, of drafts that take everything away.
pub(super) const FLUSH: &str = ".psentry-flush-";

/// How many first halves are kept for the next reading.
const HALVES: usize = 64;

/// Who changed the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Edits {
    /// Another process of psentry took everything away.
    pub(super) flush: bool,
    /// Another process of psentry changed something.
    pub(super) psentry: bool,
    /// Somebody else did, or nobody knows who; after a flush, if there was one.
    pub(super) others: bool,
    /// A directory was replaced: the file is not watched any more.
    pub(super) lost: bool,
}

impl Edits {
    /// Nobody.
    pub(super) const NONE: Edits = Edits { flush: false, psentry: false, others: false, lost: false };
}

/// What of an event matters.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Told {
    pub(super) overflow: bool,
    pub(super) lost: bool,
    /// The first half of a renaming.
    pub(super) from: bool,
    /// The same in both halves of a renaming, otherwise 0.
    pub(super) cookie: u32,
    pub(super) name: OsString,
}

/// Who changed one of `names`; `own`: how the names of our own drafts begin. `all` are the events `told` and the halves
/// from before.
pub(super) fn edits(names: &[OsString], own: &[String], told: &[Told], all: &[Told]) -> Edits {
    let begins = |name: &OsStr, prefix: &str| name.as_encoded_bytes().starts_with(prefix.as_bytes());
    let mut edits = Edits::NONE;
    for event in told {
        edits.lost |= event.lost;
        edits.others |= event.overflow;
        if !names.contains(&event.name) {
            continue;
        }
        let half = all
            .iter()
            .find(|half| event.cookie != 0 && half.cookie == event.cookie && half.from != event.from)
            .map(|half| half.name.as_os_str());
        match half {
            Some(half) if own.iter().any(|own| begins(half, own)) => {}
            Some(half) if begins(half, FLUSH) => {
                edits = Edits { flush: true, lost: edits.lost, ..Edits::NONE }
            }
            Some(half) if begins(half, DRAFT) => edits.psentry = true,
            _ => edits.others = true,
        }
    }
    edits
}

/// Whether the file was renamed, and it is not told yet to what.
pub(super) fn is_half_told(names: &[OsString], all: &[Told]) -> bool {
    all.iter().any(|event| event.from && names.contains(&event.name) && !has_second_half(all, event))
}

/// The first halves whose second ones have not come.
pub(super) fn pending(all: Vec<Told>) -> Vec<Told> {
    let open = |event: &&Told| event.from && !has_second_half(&all, event);
    // What is renamed to another directory never has one.
    let mut halves: Vec<Told> = all.iter().rev().filter(open).take(HALVES).cloned().collect();
    halves.reverse();
    halves
}

fn has_second_half(all: &[Told], first: &Told) -> bool {
    all.iter().any(|event| !event.from && event.cookie == first.cookie)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "hosts.deny";

    fn told(from: bool, cookie: u32, name: &str) -> Told {
        Told { from, cookie, name: name.into(), ..Told::default() }
    }

    fn who(told: &[Told], all: &[Told]) -> Edits {
        edits(&[FILE.into()], &[".psentry-7-".to_owned(), ".psentry-flush-7-".to_owned()], told, all)
    }

    #[test]
    fn the_halves_of_a_renaming_belong_together_even_if_they_come_apart() {
        for (draft, want) in [
            (".psentry-7-abc", Edits::NONE),
            (".psentry-flush-7-abc", Edits::NONE),
            (".psentry-8-abc", Edits { psentry: true, ..Edits::NONE }),
            (".psentry-flush-8-abc", Edits { flush: true, ..Edits::NONE }),
            ("sedAbc", Edits { others: true, ..Edits::NONE }),
        ] {
            let (first, second) = (told(true, 5, draft), told(false, 5, FILE));
            // The first half alone says nothing yet, and is kept.
            assert_eq!(who(std::slice::from_ref(&first), std::slice::from_ref(&first)), Edits::NONE);
            let mut all = pending(vec![told(true, 4, "a"), told(false, 4, "b"), first]);
            assert_eq!(all.len(), 1);
            all.push(second.clone());
            assert_eq!(who(&[second], &all), want, "{draft}");
            assert_eq!(pending(all), []);
            // Taken away by the name of a draft.
            let (first, second) = (told(true, 6, FILE), told(false, 6, draft));
            assert!(is_half_told(&[FILE.into()], std::slice::from_ref(&first)));
            let all = [first, second];
            assert!(!is_half_told(&[FILE.into()], &all));
            assert_eq!(who(&all, &all), want, "{draft}");
        }
    }

    #[test]
    fn a_flush_ends_what_went_before_and_not_what_comes_after() {
        let others = || told(false, 0, FILE);
        let flush = [told(true, 9, ".psentry-flush-8-abc"), told(false, 9, FILE)];
        let before = [vec![others()], flush.to_vec()].concat();
        assert_eq!(who(&before, &before), Edits { flush: true, ..Edits::NONE });
        let after = [flush.to_vec(), vec![others()]].concat();
        assert_eq!(who(&after, &after), Edits { flush: true, others: true, ..Edits::NONE });
    }
}
