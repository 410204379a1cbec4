//! The monitor of our table: nftables notifies of every change, and after each transaction of who made it. Whatever others change
//! is drift; what it was is not kept, since the engine lists anyway.

use netlink_packet_core::NetlinkHeader;
use netlink_sys::protocols::NETLINK_NETFILTER;
use psentry_linux::netlink_attributes::{attribute, text};
use psentry_linux::netlink_monitor::{NFNLGRP_NFTABLES, NetlinkMonitor};

use super::decode::{body, number};
use super::ruleset_text::TABLE;
use super::uapi::*;
use crate::backend::Drift;
use crate::error::Error;

/// How often the socket is read, each time some hundreds of notifications, until it is empty: enough for whatever has room
/// in it.
const READS: usize = 64;

/// The subscription to notifications.
pub(super) struct Monitor {
    /// `None`: not subscribed.
    pub(super) socket: Option<NetlinkMonitor>,
    notifications: Notifications,
}

/// What was read of the notifications. Without I/O.
struct Notifications {
    /// The port id of the socket by which we change the ruleset ourselves.
    own_portid: u32,
    /// Whether the next transaction of others on our table is our own nft(8).
    own_next: bool,
    /// Whether the transaction that is being notified of changed our table.
    touched: bool,
    drift: Option<Drift>,
}

impl Monitor {
    /// Without a subscription.
    pub(super) fn new(own_portid: u32) -> Self {
        let notifications = Notifications { own_portid, own_next: false, touched: false, drift: None };
        Monitor { socket: None, notifications }
    }

    /// Subscribes, if that is not done.
    pub(super) fn subscribe(&mut self) -> Result<(), Error> {
        if self.socket.is_none() {
            self.socket = Some(NetlinkMonitor::open(NETLINK_NETFILTER, &[NFNLGRP_NFTABLES])?);
        }
        Ok(())
    }

    /// Reads the notifications that wait.
    pub(super) fn read(&mut self) {
        for _ in 0..READS {
            let Some(socket) = &mut self.socket else { return };
            let received = socket.receive(|header, message| self.notifications.read(header, message));
            match received {
                Ok(received) => {
                    if received.lost {
                        self.notifications.lost();
                    }
                    if !received.more {
                        return;
                    }
                }
                // What follows is not known, as if it were lost: `ensure` subscribes anew.
                Err(_) => {
                    self.socket = None;
                    self.notifications.lost();
                }
            }
        }
    }

    /// Reads the notifications that wait, one transaction of which is that of our own nft(8). Which of several it is makes no
    /// difference: one more is somebody else's.
    pub(super) fn read_own_transaction(&mut self) {
        self.notifications.own_next = true;
        self.read();
        self.notifications.own_next = false;
    }

    /// What others did since this was last asked.
    pub(super) fn take_drift(&mut self) -> Option<Drift> {
        self.read();
        self.notifications.drift.take()
    }
}

impl Notifications {
    fn read(&mut self, header: &NetlinkHeader, message: &[u8]) {
        let [kind, subsystem] = header.message_type.to_le_bytes();
        if subsystem != SUBSYSTEM || header.port_number == self.own_portid {
            return;
        }
        if kind != NFT_MSG_NEWGEN {
            let table = attribute(body(message), NFTA_TABLE).map(text);
            self.touched |= message.first() == Some(&NFPROTO_INET) && table == Some(TABLE.as_bytes());
        } else if std::mem::take(&mut self.touched) && !std::mem::take(&mut self.own_next) {
            self.drift = Some(Drift { who: author(message) });
        }
    }

    /// The kernel had no room for some: anybody may have changed anything.
    fn lost(&mut self) {
        self.touched = false;
        self.drift = Some(Drift::default());
    }
}

/// Who made a transaction, in words.
fn author(message: &[u8]) -> Option<String> {
    let process = number(body(message), NFTA_GEN_PROC_PID)?;
    let name = attribute(body(message), NFTA_GEN_PROC_NAME).map(text).unwrap_or_default();
    // Whoever runs a program chooses its name.
    let printable = |byte: &u8| if byte.is_ascii_graphic() { char::from(*byte) } else { '?' };
    Some(format!("'{}' (process {process})", name.iter().map(printable).collect::<String>()))
}

#[cfg(test)]
mod tests;
