//! The backends as commands see them: each with what it holds, as far as this user may read it.

use psentry_stage::{Exit, Failure};

use crate::backend::{Backend, Entry};
use crate::backends;
use crate::cli::{Flags, Which};
use crate::error::Error;
use crate::people::commands::worst;

/// A backend and what it holds; `None`: it cannot be read.
pub(crate) type Reader = (Which, Option<(Box<dyn Backend>, Vec<Entry>)>);

/// The chosen backends and what each holds; if none is chosen, all that this machine has. The second part: what
/// went wrong with one that could be used.
pub(crate) fn readers(flags: &Flags) -> (Vec<Reader>, Option<Error>) {
    let chosen = flags.chosen();
    let mut readers = Vec::new();
    let mut trouble: Option<Error> = None;
    let (mut read_well, mut forbidden) = (Vec::new(), Vec::new());
    for which in if chosen.is_empty() { Which::REAL.to_vec() } else { chosen.clone() } {
        let read = || -> Result<_, Error> {
            let mut backend = backends::open(which, flags)?;
            let entries = backend.list()?;
            Ok((backend, entries))
        };
        let reader = match read() {
            Ok(reader) => {
                read_well.push(which.name());
                Some(reader)
            }
            // What is not there, or what the machine does not support, holds nothing.
            Err(error) if chosen.is_empty() && error.is_unsupported() => None,
            // Nothing was read, and it may hold anything.
            Err(error) if error.exit() == Exit::NoPermission => {
                forbidden.push(which.name());
                None
            }
            Err(error) => {
                trouble = worst(trouble, error);
                None
            }
        };
        readers.push((which, reader));
    }
    if !forbidden.is_empty() {
        let rest =
            if read_well.is_empty() { String::new() } else { format!("; only {} could", listed(&read_well)) };
        let why = format!(
            "run this as root: {} cannot be read without CAP_NET_ADMIN and the right to its files{rest}",
            listed(&forbidden)
        );
        let forbidden = Some(Error::Forbidden(why));
        trouble = trouble.map_or(forbidden.clone(), |error| worst(forbidden, error));
    }
    (readers, trouble)
}

/// Names as people list them.
fn listed(names: &[&str]) -> String {
    match names {
        [only] => (*only).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
        [] => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_listed_as_people_do() {
        assert_eq!(
            (listed(&["nft"]), listed(&["nft", "ipset"])),
            ("nft".to_owned(), "nft and ipset".to_owned())
        );
        assert_eq!(listed(&["nft", "ipset", "route"]), "nft, ipset and route");
    }
}
