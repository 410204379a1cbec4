//! Notifications of changes: which object of which table was made, changed or deleted, and at the end of each transaction who made
//! it. Reads messages, receives none.

use netlink_packet_core::NetlinkHeader;
use psentry_linux::netlink_attributes::{attribute, text};

use crate::decode::{body, name, number};
use crate::uapi::*;

/// One notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Notification<'a> {
    /// Something in a table was made, changed or deleted.
    Changed {
        /// The family of the table; `None`: another one.
        family: Option<Family>,
        /// Its name; empty if that is no text.
        table: &'a str,
        /// What.
        object: Object<'a>,
    },
    /// The end of a transaction, all of whose changes were notified of before.
    End {
        /// Who made it, in words such as `'nft' (process 123)`; `None`: not known.
        author: Option<String>,
    },
}

/// The family of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// `inet`.
    Inet,
    /// `ip`, that of iptables.
    Ipv4,
    /// `ip6`, that of ip6tables.
    Ipv6,
}

/// What was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object<'a> {
    /// The table itself.
    Table {
        /// It was deleted, with all that was in it.
        deleted: bool,
    },
    /// A chain.
    Chain,
    /// A rule.
    Rule,
    /// Elements of the set of this name.
    Elements(&'a str),
    /// Something else: a set, a counter.
    Other,
}

impl<'a> Notification<'a> {
    /// Reads a message; `None`: it is no message of nftables.
    #[must_use]
    pub(crate) fn read(header: &NetlinkHeader, message: &'a [u8]) -> Option<Self> {
        let [kind, subsystem] = header.message_type.to_le_bytes();
        if subsystem != SUBSYSTEM {
            return None;
        }
        let body = body(message);
        let named = |kind| name(body, kind).unwrap_or_default();
        let object = match kind {
            NFT_MSG_NEWGEN => return Some(Notification::End { author: author(body) }),
            NFT_MSG_NEWTABLE | NFT_MSG_DELTABLE => Object::Table { deleted: kind == NFT_MSG_DELTABLE },
            NFT_MSG_NEWCHAIN | NFT_MSG_DELCHAIN => Object::Chain,
            NFT_MSG_NEWRULE | NFT_MSG_DELRULE => Object::Rule,
            NFT_MSG_NEWSETELEM | NFT_MSG_DELSETELEM => Object::Elements(named(NFTA_SET)),
            _ => Object::Other,
        };
        let family = match message.first() {
            Some(&NFPROTO_INET) => Some(Family::Inet),
            Some(&NFPROTO_IPV4) => Some(Family::Ipv4),
            Some(&NFPROTO_IPV6) => Some(Family::Ipv6),
            _ => None,
        };
        Some(Notification::Changed { family, table: named(NFTA_TABLE), object })
    }
}

/// Who made a transaction, in words.
fn author(body: &[u8]) -> Option<String> {
    let process = number(body, NFTA_GEN_PROC_PID)?;
    let name = attribute(body, NFTA_GEN_PROC_NAME).map(text).unwrap_or_default();
    // Whoever runs a program chooses its name.
    let printable = |byte: &u8| if byte.is_ascii_graphic() { char::from(*byte) } else { '?' };
    Some(format!("'{}' (process {process})", name.iter().map(printable).collect::<String>()))
}

#[cfg(test)]
pub(crate) mod tests {
    use psentry_linux::netlink_attributes::put;

    use super::*;

    pub(crate) fn header(kind: u8) -> NetlinkHeader {
        let mut header = NetlinkHeader::default();
        header.message_type = u16::from_le_bytes([kind, SUBSYSTEM]);
        header
    }

    /// A message on an object of a table.
    pub(crate) fn about(family: u8, table: &str, set: &str) -> Vec<u8> {
        let mut message = vec![family, 0, 0, 0];
        put(&mut message, NFTA_TABLE, format!("{table}\0").as_bytes());
        put(&mut message, NFTA_SET, format!("{set}\0").as_bytes());
        message
    }

    /// The end of a transaction of a process of this name.
    pub(crate) fn end(name: &[u8]) -> Vec<u8> {
        let mut message = vec![0; HEADER];
        put(&mut message, NFTA_GEN_PROC_PID, &9u32.to_be_bytes());
        put(&mut message, NFTA_GEN_PROC_NAME, name);
        message
    }

    #[test]
    fn a_notification_names_what_was_changed_and_where() {
        for (kind, object) in [
            (NFT_MSG_NEWTABLE, Object::Table { deleted: false }),
            (NFT_MSG_DELTABLE, Object::Table { deleted: true }),
            (NFT_MSG_DELCHAIN, Object::Chain),
            (NFT_MSG_NEWRULE, Object::Rule),
            (NFT_MSG_DELSETELEM, Object::Elements("b")),
            (9, Object::Other),
        ] {
            let message = about(2, "a", "b");
            let want = Notification::Changed { family: Some(Family::Ipv4), table: "a", object };
            assert_eq!(Notification::read(&header(kind), &message), Some(want));
        }
        let mut other = header(NFT_MSG_NEWRULE);
        other.message_type = 0x0106;
        assert_eq!(Notification::read(&other, &about(2, "a", "b")), None);
    }

    #[test]
    fn no_message_is_too_odd() {
        for kind in 0..30 {
            for length in 0..20 {
                let _ = Notification::read(&header(kind), &vec![1; length]);
            }
        }
    }

    #[test]
    fn a_process_cannot_smuggle_anything_in_with_its_name() {
        let author = |message: &[u8]| match Notification::read(&header(NFT_MSG_NEWGEN), message) {
            Some(Notification::End { author }) => author,
            other => panic!("{other:?}"),
        };
        assert_eq!(author(&end(b"a\x1b[0m \xff\n\0")).unwrap(), "'a?[0m???' (process 9)");
        for broken in [&[][..], &[1, 0], &[0, 0, 0, 0, 200, 0, 2, 0]] {
            assert_eq!(author(broken), None);
        }
    }
}
