//! A table of the family `inet` as it is in the kernel: read, and changed in transactions.

use std::collections::HashSet;
use std::hash::Hash;
use std::thread;
use std::time::Duration;

use netlink_packet_netfilter::NetfilterMessage;
use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::errno::Errno;
use psentry_linux::{Error, NetlinkSocket};

use crate::decode::{self, Chain, Element, Rule, Set};
use crate::notification::Family;
use crate::transaction::{Transaction, name, on_element, on_set, on_table, request, request_of};
use crate::uapi::*;

/// How often a set is listed until each of its elements is listed once, and the pause before it is listed again: the kernel
/// takes some hundredths of a second to make room for a hundred thousand.
const TRIES: usize = 100;
const PAUSE: Duration = Duration::from_millis(10);

/// A connection to nftables, for one table.
pub struct Table {
    link: NetlinkSocket,
    name: &'static str,
}

impl Table {
    /// Connects; whether there is such a table is not asked.
    ///
    /// # Errors
    /// When the kernel has no netlink.
    pub fn open(name: &'static str) -> Result<Self, Error> {
        Ok(Table { link: NetlinkSocket::open(NETLINK_NETFILTER)?, name })
    }

    /// The port id by which notifications name the changes that are made here.
    #[must_use]
    pub fn portid(&self) -> u32 {
        self.link.portid()
    }

    /// How many bytes a transaction may have.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.link.send_capacity()
    }

    /// One transaction. The inner error is the kernel's first one: it changed nothing.
    ///
    /// # Errors
    /// When no answer came.
    pub fn commit(
        &mut self,
        doing: &'static str,
        transaction: Transaction,
    ) -> Result<Result<(), Errno>, Error> {
        Ok(self.link.batch(doing, transaction.into_requests())?.into_iter().collect())
    }

    /// The generation of the ruleset of all tables, at least 1, a number that every transaction of anybody raises by one. Whoever
    /// remembers it knows without reading any rule whether something may have changed since.
    ///
    /// # Errors
    /// When the kernel does not say it, mostly because CAP_NET_ADMIN is missing.
    pub fn generation(&mut self) -> Result<u32, Error> {
        generation(&mut self.link)
    }

    /// Whether the table is there and dormant.
    ///
    /// # Errors
    /// When the kernel does not say it, as with all that follow.
    pub fn is_dormant(&mut self) -> Result<bool, Error> {
        is_dormant(&mut self.link, Family::Inet, self.name)
    }

    /// Its chains.
    ///
    /// # Errors
    /// When the kernel does not say it.
    pub fn chains(&mut self) -> Result<Vec<Chain>, Error> {
        let table = self.name;
        // They cannot be asked for by their table.
        let question = request(NFT_MSG_GETCHAIN, Vec::new());
        self.dump("list the chains of a table of nftables", &question, |message| {
            decode::chain(table, message)
        })
    }

    /// The rules of all its chains, those of a chain in their order.
    ///
    /// # Errors
    /// When the kernel does not say it.
    pub fn rules(&mut self) -> Result<Vec<Rule>, Error> {
        let question = on_table(NFT_MSG_GETRULE, self.name);
        self.dump("list the rules of a table of nftables", &question, decode::rule)
    }

    /// Its sets.
    ///
    /// # Errors
    /// When the kernel does not say it.
    pub fn sets(&mut self) -> Result<Vec<Set>, Error> {
        self.dump("list the sets of a table of nftables", &on_table(NFT_MSG_GETSET, self.name), decode::set)
    }

    /// The elements of a set as `read` understands them, each with its key; none where there is no such set.
    ///
    /// The kernel walks through a set in pieces, and counts where it was. While it makes room for more elements, in the
    /// background and without notice, their order changes: some are listed twice, and as many not at all. So the set is listed
    /// until no key comes twice.
    ///
    /// # Errors
    /// When the kernel does not say it, or not once without a key that comes twice.
    pub fn elements<K: Copy + Eq + Hash, V>(
        &mut self,
        set: &str,
        read: impl Fn(Element<'_>) -> Option<(K, V)>,
    ) -> Result<Vec<(K, V)>, Error> {
        let doing = "list the elements of a set of nftables";
        let question = on_set(NFT_MSG_GETSETELEM, self.name, set);
        for _ in 0..TRIES {
            let read = |message: &[u8]| Some(decode::elements(message).filter_map(&read).collect::<Vec<_>>());
            let pieces = self.dump(doing, &question, read)?;
            let mut seen = HashSet::new();
            if pieces.len() <= 1 || pieces.iter().flatten().all(|(key, _)| seen.insert(*key)) {
                return Ok(pieces.into_iter().flatten().collect());
            }
            thread::sleep(PAUSE);
        }
        let why = "some were listed twice, and so not all of them, each time".to_owned();
        Err(Error::Netlink { doing, why })
    }

    /// The element of a set with this key, as `read` understands it; `None`: there is none. However many the set has: of one that
    /// has hundreds of thousands a list takes the kernel seconds.
    ///
    /// # Errors
    /// When the kernel does not say it.
    pub fn element<V>(
        &mut self,
        set: &str,
        key: &[u8],
        read: impl Fn(Element<'_>) -> Option<V>,
    ) -> Result<Option<V>, Error> {
        let question = on_element(self.name, set, key);
        let read = |message: &[u8]| decode::elements(message).find_map(&read);
        Ok(query(&mut self.link, "read an element of a set of nftables", &question, read)?.flatten())
    }

    /// Asks for a list, and reads each of its messages; empty where there is no such table or set.
    fn dump<T>(
        &mut self,
        doing: &'static str,
        question: &NetfilterMessage,
        read: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>, Error> {
        match self.link.dump_with(doing, question, |_, message| Ok(read(message)))? {
            Ok(answer) => Ok(answer.into_iter().flatten().collect()),
            Err(Errno::ENOENT) => Ok(Vec::new()),
            Err(errno) => Err(Error::Refused { doing, errno }),
        }
    }
}

/// The generation of the ruleset of all tables.
pub(crate) fn generation(link: &mut NetlinkSocket) -> Result<u32, Error> {
    let doing = "read the generation of the ruleset";
    let answer = query(link, doing, &request(NFT_MSG_GETGEN, Vec::new()), decode::generation)?;
    answer.flatten().ok_or(Error::Refused { doing, errno: Errno::ENODATA })
}

/// Whether a table is there and dormant: no packet comes to its chains.
pub(crate) fn is_dormant(link: &mut NetlinkSocket, family: Family, table: &str) -> Result<bool, Error> {
    let question = request_of(family, NFT_MSG_GETTABLE, vec![name(NFTA_TABLE, table)]);
    let flags = query(link, "read a table of nftables", &question, decode::is_dormant)?;
    Ok(flags.unwrap_or(false))
}

/// Asks for one thing, and reads the answer; `None`: it is not there.
fn query<T>(
    link: &mut NetlinkSocket,
    doing: &'static str,
    question: &NetfilterMessage,
    read: impl Fn(&[u8]) -> T,
) -> Result<Option<T>, Error> {
    match link.query_with(doing, question, |_, message| Ok(read(message)))? {
        Ok(answer) => Ok(answer.into_iter().next()),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(Error::Refused { doing, errno }),
    }
}
