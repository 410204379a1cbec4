//! Blocks as elements of nftables' sets, in one table `inet psentry`. They are changed over netlink, without a process for
//! each; the kernel expires them.
//!
//! | file | what it holds |
//! |---|---|
//! | `set_id.rs` | the sets, and the elements that a block consists of |
//! | `elements.rs` | blocks as elements, in transactions and as they are listed |
//! | `apply.rs` | blocks put and deleted |
//! | `ruleset.rs`, `ensure_ruleset.rs` | table, chains, sets and rules, made as the flags say |

mod apply;
mod elements;
mod ensure_ruleset;
mod ruleset;
mod set_id;

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use psentry_linux::Error as SystemError;
use psentry_nftables::{Object, Table, TableChange, Transaction};
use psentry_records::Timestamp;

use self::ruleset::TABLE;
use self::set_id::SetId;
use super::{failed, installed, set_elements};
use crate::backend::{Backend, Caps, Drift, Listing, Op};
use crate::error::Error;
use crate::reach::Reach;

const NAME: &str = "nft";

/// How many elements go into one transaction, as far as they find room: each transaction costs the kernel milliseconds,
/// however little is in it.
const BATCH: usize = 4000;

/// What others do to our table; whatever it is counts, since the engine lists anyway.
type TableMonitor = psentry_nftables::TableMonitor<fn(Object<'_>) -> bool>;

/// The backend.
pub struct Nft {
    table: Table,
    reach: Reach,
    /// Whether nft(8) takes comments of tables, as far as is known.
    table_comments: bool,
    /// The sets that had their rules when the ruleset was of this generation; `None`: that is not known.
    sets: BTreeSet<SetId>,
    generation: Option<u32>,
    /// `None`: not subscribed.
    monitor: Option<TableMonitor>,
    /// What others did to the table, and nobody was told yet.
    drift: Option<Drift>,
}

impl Nft {
    /// A connection to nftables; makes nothing yet.
    ///
    /// # Errors
    /// When the kernel has no netlink.
    pub fn open(reach: Reach) -> Result<Self, Error> {
        let (table, sets) = (Table::open(TABLE)?, BTreeSet::new());
        Ok(Nft { table, reach, table_comments: true, sets, generation: None, monitor: None, drift: None })
    }

    /// One transaction. The outer error: no answer came; the inner one: the kernel changed nothing.
    fn commit(&mut self, doing: &'static str, transaction: Transaction) -> Result<Result<(), Errno>, Error> {
        let done = self.table.commit(doing, transaction)?;
        if done.is_ok() {
            // Our change raised the generation by one. Whoever else changed something meanwhile raised it further.
            self.generation = self.generation.map(|generation| generation.wrapping_add(1));
        }
        // Notifications of our own changes would fill the buffer, in which those of others have to find room.
        self.read_monitor(TableMonitor::read);
        Ok(done)
    }

    /// Reads the notifications that wait.
    fn read_monitor(&mut self, read: fn(&mut TableMonitor) -> Result<(), SystemError>) {
        let Some(monitor) = &mut self.monitor else { return };
        let read = read(monitor);
        match monitor.take() {
            Some(TableChange::Transaction { author, .. }) => self.drift = Some(Drift { who: author }),
            Some(TableChange::Unknown) => self.drift = Some(Drift::default()),
            None => {}
        }
        if read.is_err() {
            // What follows is not known: `ensure` subscribes anew.
            (self.monitor, self.drift) = (None, Some(Drift::default()));
        }
    }
}

impl Backend for Nft {
    fn caps(&self) -> Caps {
        Caps { batch: BATCH, ..Caps::of(NAME) }
    }

    fn ensure(&mut self) -> Result<bool, Error> {
        // First what only the privileged may ask, so that the error is about the right, and not about nft.
        self.read_generation()?;
        installed(NAME, "nft")?;
        // Before anything is read, so that no change goes unnoticed.
        if self.monitor.is_none() {
            self.monitor = Some(TableMonitor::open(TABLE, Some(self.table.portid()), |_| true)?);
        }
        self.ensure_ruleset(&SetId::FIRST.into())
    }

    fn list(&mut self) -> Result<Listing, Error> {
        let mut found = Vec::new();
        for set in self.find_sets()? {
            found.extend(self.elements(set)?.into_iter().map(|(_, entry)| (set, entry)));
        }
        Ok(Listing { entries: set_elements::blocks(found, SetId::of), ..Listing::default() })
    }

    fn apply(&mut self, ops: &[Op], _: Timestamp) -> Vec<Result<(), Error>> {
        self.apply_ops(ops)
    }

    fn events(&self) -> Option<BorrowedFd<'_>> {
        self.monitor.as_ref().map(AsFd::as_fd)
    }

    fn drift(&mut self) -> Result<Option<Drift>, Error> {
        self.read_monitor(TableMonitor::read);
        Ok(self.drift.take())
    }

    fn purge(&mut self) -> Result<(), Error> {
        let doing = "delete table inet psentry";
        self.generation = None;
        let mut transaction = Transaction::new(TABLE);
        transaction.delete_table();
        match self.commit(doing, transaction)? {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(refused(doing, errno)),
        }
    }
}

fn refused(doing: &'static str, errno: Errno) -> Error {
    failed(NAME)(SystemError::Refused { doing, errno })
}

#[cfg(test)]
mod tests;
