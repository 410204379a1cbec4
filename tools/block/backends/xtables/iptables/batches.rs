//! Changes that are made together: by one program for each family, and in halves if it objects.

use crate::backend::{Change, Effect};
use crate::error::Error;
use psentry_linux::Error as Below;

/// How many times a batch that fails is halved. Two bad changes among a thousand are found with less.
const PATIENCE: u32 = 24;

/// Makes changes together. If the program objects, they may be too many at once, or one of them bad: then each half
/// on its own, until each has its own result, or the program has failed too often. A lock that another holds is no
/// reason to run it again and again.
pub(super) fn halving(
    changes: &[&Change],
    make: &mut impl FnMut(&[&Change]) -> Result<Vec<Effect>, Error>,
) -> Vec<Result<Effect, Error>> {
    let mut patience = PATIENCE;
    halve(changes, make, &mut patience)
}

fn halve(
    changes: &[&Change],
    make: &mut impl FnMut(&[&Change]) -> Result<Vec<Effect>, Error>,
    patience: &mut u32,
) -> Vec<Result<Effect, Error>> {
    match make(changes) {
        Ok(effects) => effects.into_iter().map(Ok).collect(),
        Err(Error::System(Below::Program { code: Some(1 | 2), .. }))
            if changes.len() > 1 && *patience > 0 =>
        {
            *patience -= 1;
            let (first, second) = changes.split_at(changes.len() / 2);
            let mut results = halve(first, make, patience);
            results.extend(halve(second, make, patience));
            results
        }
        Err(error) => changes.iter().map(|_| Err(error.clone())).collect(),
    }
}

#[cfg(test)]
mod tests {
    use psentry_records::Prefix;

    use super::*;
    use crate::backend::{Block, Wish};

    fn changes(count: u32) -> Vec<Change> {
        let scope = |n: u32| Prefix::host(std::net::Ipv4Addr::from(0xC633_6400 + n).into());
        (0..count).map(|n| Change { scope: scope(n), wish: Wish::Block(Block::default()) }).collect()
    }

    fn failure(code: i32) -> Error {
        let text = || "x".to_owned();
        Below::Program { program: text(), status: text(), code: Some(code), stderr: text() }.into()
    }

    /// How often the program is run, and how many changes succeed, when those that are `bad` fail their batch.
    fn run(count: u32, code: i32, bad: impl Fn(&Change) -> bool) -> (u32, usize) {
        let changes = changes(count);
        let mut runs = 0;
        let results = halving(&changes.iter().collect::<Vec<_>>(), &mut |changes| {
            runs += 1;
            if changes.iter().any(|change| bad(change)) {
                Err(failure(code))
            } else {
                Ok(vec![Effect::Done; changes.len()])
            }
        });
        assert_eq!(results.len(), changes.len());
        (runs, results.iter().filter(|result| result.is_ok()).count())
    }

    #[test]
    fn one_bad_change_is_found_and_a_held_lock_is_left_alone() {
        let last =
            |count: u32| move |change: &Change| change.scope == changes(count)[count as usize - 1].scope;
        assert_eq!(run(512, 2, last(512)), (19, 511));
        assert_eq!(run(512, 4, last(512)), (1, 0));
        let (runs, _) = run(2000, 1, |_| true);
        assert!(runs <= 2 * PATIENCE + 1, "{runs}");
    }
}
