//! What others do to a table, by the notifications of the kernel: after each transaction it says who made it.

use std::os::fd::{AsFd, BorrowedFd};

use netlink_packet_core::NetlinkHeader;
use netlink_sys::protocols::NETLINK_NETFILTER;
use psentry_linux::Error;
use psentry_linux::netlink_monitor::{NFNLGRP_NFTABLES, NetlinkMonitor};

use crate::notification::{Family, Notification, Object};

/// A subscription to the changes of a table of the family `inet`. Its descriptor is readable while notifications wait.
pub struct TableMonitor<C> {
    socket: NetlinkMonitor,
    transactions: Transactions<C>,
}

/// What others did to the table last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TableChange {
    /// A transaction.
    Transaction {
        /// Who made it, in words such as `'nft' (process 123)`; `None`: not known.
        author: Option<String>,
        /// It deleted the table.
        deleted: bool,
    },
    /// The kernel had no room for its notifications: anybody may have done anything.
    Unknown,
}

/// What was read of the notifications. Without I/O.
struct Transactions<C> {
    table: &'static str,
    counts: C,
    /// The port id of the socket by which we change the ruleset ourselves.
    own_portid: Option<u32>,
    /// How many further transactions are our own.
    own: u32,
    /// Whether the transaction that is being notified of changed the table, and deleted it.
    changed: bool,
    deleted: bool,
    change: Option<TableChange>,
}

impl<C: Fn(Object<'_>) -> bool> TableMonitor<C> {
    /// Subscribes to the changes of those objects of a table that count, but for those made by the socket with the port id
    /// `own_portid`.
    ///
    /// # Errors
    /// When the kernel lacks nftables, or a right is missing.
    pub fn open(table: &'static str, own_portid: Option<u32>, counts: C) -> Result<Self, Error> {
        let socket = NetlinkMonitor::open(NETLINK_NETFILTER, &[NFNLGRP_NFTABLES])?;
        Ok(TableMonitor { socket, transactions: Transactions::new(table, own_portid, counts) })
    }

    /// Reads the notifications that wait.
    ///
    /// # Errors
    /// When they cannot be read any more.
    pub fn read(&mut self) -> Result<(), Error> {
        let lost = self.socket.receive_all(|header, message| self.transactions.read(header, message))?;
        if lost {
            self.transactions.lost();
        }
        Ok(())
    }

    /// Reads the notifications that wait, one transaction of which is that of our own nft(8): the kernel notifies of it before
    /// nft ends. Which of several it is makes no difference: one more is somebody else's.
    ///
    /// # Errors
    /// As those of [`read`](Self::read).
    pub fn read_own(&mut self) -> Result<(), Error> {
        self.transactions.own = 1;
        let read = self.read();
        self.transactions.own = 0;
        read
    }

    /// Whether others did something since [`take`](Self::take) was called last, as far as was read.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.transactions.change.is_some()
    }

    /// What others did last, as far as was read.
    pub fn take(&mut self) -> Option<TableChange> {
        self.transactions.change.take()
    }
}

impl<C> AsFd for TableMonitor<C> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl<C: Fn(Object<'_>) -> bool> Transactions<C> {
    fn new(table: &'static str, own_portid: Option<u32>, counts: C) -> Self {
        Transactions { table, counts, own_portid, own: 0, changed: false, deleted: false, change: None }
    }

    fn read(&mut self, header: &NetlinkHeader, message: &[u8]) {
        if self.own_portid == Some(header.port_number) {
            return;
        }
        match Notification::read(header, message) {
            Some(Notification::Changed { family: Some(Family::Inet), table, object })
                if table == self.table =>
            {
                if let Object::Table { deleted } = object {
                    self.deleted = deleted;
                }
                self.changed |= (self.counts)(object);
            }
            Some(Notification::End { author }) => self.end(author),
            _ => {}
        }
    }

    fn end(&mut self, author: Option<String>) {
        let (changed, deleted) = (std::mem::take(&mut self.changed), std::mem::take(&mut self.deleted));
        if !changed {
            return;
        }
        match self.own.checked_sub(1) {
            Some(left) => self.own = left,
            None => self.change = Some(TableChange::Transaction { author, deleted }),
        }
    }

    /// The kernel dropped notifications.
    fn lost(&mut self) {
        (self.changed, self.deleted, self.own) = (false, false, 0);
        self.change.get_or_insert(TableChange::Unknown);
    }
}

#[cfg(test)]
mod tests;
