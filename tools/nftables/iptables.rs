//! The filter tables of iptables and ip6tables, where nf_tables keeps them: the generation of their rules, and whether these may have
//! changed. The programs read and change the rules themselves.

use std::os::fd::{AsFd, BorrowedFd};

use netlink_sys::protocols::NETLINK_NETFILTER;
use psentry_linux::netlink_monitor::{NFNLGRP_NFTABLES, NetlinkMonitor};
use psentry_linux::{Error, NetlinkSocket};

use crate::notification::{Family, Notification, Object};
use crate::table::{generation, is_dormant};

/// The name of the tables.
const TABLE: &str = "filter";

/// A subscription to the changes of both tables. Its descriptor is readable while notifications wait.
pub struct IptablesMonitor {
    link: NetlinkSocket,
    notifications: NetlinkMonitor,
}

impl IptablesMonitor {
    /// Subscribes; whether there are such tables is not asked.
    ///
    /// # Errors
    /// When the kernel lacks nftables, or a right is missing.
    pub fn open() -> Result<Self, Error> {
        let notifications = NetlinkMonitor::open(NETLINK_NETFILTER, &[NFNLGRP_NFTABLES])?;
        Ok(IptablesMonitor { link: NetlinkSocket::open(NETLINK_NETFILTER)?, notifications })
    }

    /// The generation of the ruleset of all tables, as [`Table::generation`](crate::Table::generation) has it.
    ///
    /// # Errors
    /// As there.
    pub fn generation(&mut self) -> Result<u32, Error> {
        generation(&mut self.link)
    }

    /// Whether the table of a family is there and dormant: no packet comes to its chains.
    ///
    /// # Errors
    /// When the kernel does not say it.
    pub fn is_dormant(&mut self, ipv4: bool) -> Result<bool, Error> {
        is_dormant(&mut self.link, if ipv4 { Family::Ipv4 } else { Family::Ipv6 }, TABLE)
    }

    /// Reads the notifications that wait; whether anybody may have changed a chain or a rule.
    ///
    /// # Errors
    /// When they cannot be read any more.
    pub fn changed(&mut self) -> Result<bool, Error> {
        let mut changed = false;
        let lost = self.notifications.receive_all(|header, message| {
            changed |= Notification::read(header, message).is_some_and(|change| concerns(&change));
        })?;
        Ok(changed || lost)
    }
}

impl AsFd for IptablesMonitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.notifications.as_fd()
    }
}

/// Whether a notification is of a change of a table, chain or rule of iptables or ip6tables.
fn concerns(notification: &Notification<'_>) -> bool {
    matches!(
        notification,
        Notification::Changed {
            family: Some(Family::Ipv4 | Family::Ipv6),
            table: TABLE,
            object: Object::Table { .. } | Object::Chain | Object::Rule,
        }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changes_of_the_filter_tables_concern_iptables() {
        let concern =
            |family, table, object| concerns(&Notification::Changed { family: Some(family), table, object });
        assert!(concern(Family::Ipv4, "filter", Object::Rule));
        assert!(concern(Family::Ipv6, "filter", Object::Table { deleted: true }));
        assert!(!concern(Family::Ipv4, "filter", Object::Elements("a")));
        assert!(!concern(Family::Inet, "filter", Object::Rule), "a table of nft's own");
        assert!(!concern(Family::Ipv4, "nat", Object::Rule));
        assert!(!concerns(&Notification::End { author: None }));
    }
}
