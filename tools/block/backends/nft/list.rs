//! The blocks that are in our sets.

use std::collections::HashSet;
use std::thread;
use std::time::Duration;

use psentry_linux::Error as SystemError;
use psentry_records::Timestamp;

use super::set_id::{self, Key, SetId};
use super::uapi::NFT_MSG_GETSETELEM;
use super::{Nft, decode, encode};
use crate::backend::Listing;
use crate::block::{Block, Entry};
use crate::error::Error;

/// How often a set is listed until each of its elements is listed once, and the pause before it is listed again: the kernel
/// takes some hundredths of a second to make room for a hundred thousand.
const TRIES: usize = 100;
const PAUSE: Duration = Duration::from_millis(10);

impl Nft {
    /// All blocks, one for each scope.
    pub(super) fn list_blocks(&mut self) -> Result<Listing, Error> {
        let mut found = Vec::new();
        for set in self.find_sets()? {
            found.extend(self.elements(set)?.into_iter().map(|(_, entry)| (set, entry)));
        }
        found.sort_by_key(|(_, entry)| entry.scope);
        let entries = found.chunk_by(|(_, a), (_, b)| a.scope == b.scope).filter_map(joined).collect();
        Ok(Listing { entries, ..Listing::default() })
    }

    /// The elements of a set, each with the block that it says alone; none where there is no such set.
    ///
    /// The kernel walks through a set in pieces, and counts where it was. While it makes room for more elements, in the
    /// background and without notice, their order changes: some are listed twice, and as many not at all.
    pub(super) fn elements(&mut self, set: SetId) -> Result<Vec<(Key, Entry)>, Error> {
        let doing = "list the blocks of table inet psentry";
        for _ in 0..TRIES {
            let read = |message: &[u8]| decode::elements(set, message, Timestamp::now()).collect::<Vec<_>>();
            let pieces = self.dump(doing, &encode::on_set(NFT_MSG_GETSETELEM, set), read)?;
            let mut seen = HashSet::new();
            if pieces.len() <= 1 || pieces.iter().flatten().all(|(key, _)| seen.insert(*key)) {
                return Ok(pieces.into_iter().flatten().collect());
            }
            thread::sleep(PAUSE);
        }
        let why = "some were listed twice, and so not all of them, each time".to_owned();
        Err(SystemError::Netlink { doing, why }.into())
    }
}

/// What the elements of one scope are together. It is damaged unless they are just those that such a block consists of.
fn joined(found: &[(SetId, Entry)]) -> Option<Entry> {
    let ((_, first), rest) = found.split_first()?;
    if rest.is_empty() && first.ports.is_empty() {
        return Some(first.clone());
    }
    let mut entry = rest.iter().fold(first.clone(), |joined, (_, entry)| joined.joined(entry));
    let (set, keys) = set_id::elements(entry.scope, &Block::from(&entry));
    let is_part = |(other, part): &(SetId, Entry)| *other == set && part.until == entry.until;
    entry.damaged |= keys.len() != found.len() || !found.iter().all(is_part);
    Some(entry)
}
