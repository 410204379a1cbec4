//! Blocks as elements of nftables' sets, in one table `inet psentry`. They are changed over netlink, without a process for
//! each; the kernel expires them.
//!
//! | file | what it holds |
//! |---|---|
//! | `set_id.rs` | the sets, and the elements that a block consists of |
//! | `encode.rs`, `decode.rs`, `decode_rules.rs`, `uapi.rs` | messages to the kernel and from it |
//! | `ruleset_plan.rs`, `ruleset_text.rs`, `ensure_ruleset.rs` | table, chains, sets and rules, made as the flags say |
//! | `transaction.rs`, `apply.rs` | blocks put and deleted |
//! | `list.rs` | the blocks that are there |
//! | `drift.rs` | notifications of what others change |

mod apply;
mod decode;
mod decode_rules;
mod drift;
mod encode;
mod ensure_ruleset;
mod list;
mod ruleset_plan;
mod ruleset_text;
mod set_id;
mod transaction;
mod uapi;

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_packet_core::NLM_F_REQUEST;
use netlink_packet_netfilter::NetfilterMessage;
use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::errno::Errno;
use psentry_linux::{Error as SystemError, NetlinkMonitor, NetlinkSocket, Request};
use psentry_records::Timestamp;

use self::drift::Monitor;
use self::set_id::SetId;
use super::installed;
use crate::backend::{Backend, Caps, Drift, Listing, Op};
use crate::error::Error;
use crate::reach::Reach;

const NAME: &str = "nft";

/// How many elements go into one transaction, as far as they find room: each transaction costs the kernel milliseconds,
/// however little is in it.
const BATCH: usize = 4000;

/// The backend.
pub struct Nft {
    link: NetlinkSocket,
    reach: Reach,
    /// Whether nft(8) takes comments of tables, as far as is known.
    table_comments: bool,
    /// The sets that had their rules when the ruleset was of this generation; `None`: that is not known.
    sets: BTreeSet<SetId>,
    generation: Option<u32>,
    monitor: Monitor,
}

impl Nft {
    /// A connection to nftables; makes nothing yet.
    ///
    /// # Errors
    /// When the kernel has no netlink.
    pub fn open(reach: Reach) -> Result<Self, Error> {
        let link = NetlinkSocket::open(NETLINK_NETFILTER)?;
        let monitor = Monitor::new(link.portid());
        Ok(Nft { link, reach, table_comments: true, sets: BTreeSet::new(), generation: None, monitor })
    }

    /// One transaction. The outer error: no answer came; the inner one: the kernel changed nothing.
    fn commit(
        &mut self,
        doing: &'static str,
        messages: Vec<NetfilterMessage>,
        flags: u16,
    ) -> Result<Result<(), Errno>, Error> {
        let mut requests = vec![Request { message: encode::begin(), flags: NLM_F_REQUEST, acked: false }];
        // Errors are reported, asked for or not, and of success one acknowledgement is enough: of thousands the kernel has
        // room for some hundreds.
        let last = messages.len();
        let numbered = messages.into_iter().zip(1..);
        requests.extend(numbered.map(|(message, n)| Request { message, flags, acked: n == last }));
        requests.push(Request { message: encode::end(), flags: NLM_F_REQUEST, acked: false });
        // One error undoes the whole; the first one says why.
        let done: Result<(), Errno> = self.link.batch(doing, requests)?.into_iter().collect();
        if done.is_ok() {
            // Our change raised the generation by one. Whoever else changed something meanwhile raised it further.
            self.generation = self.generation.map(|generation| generation.wrapping_add(1));
        }
        // Notifications of our own changes would fill the buffer, in which those of others have to find room.
        self.monitor.read();
        Ok(done)
    }

    /// Asks for a list, and reads each of its messages; empty where there is no such table or set.
    fn dump<T>(
        &mut self,
        doing: &'static str,
        request: &NetfilterMessage,
        read: impl Fn(&[u8]) -> T,
    ) -> Result<Vec<T>, Error> {
        answered(doing, self.link.dump_with(doing, request, |_, message| Ok(read(message)))?)
    }

    /// Asks for one thing, and reads the answer; `None`: it is not there.
    fn query<T>(
        &mut self,
        doing: &'static str,
        request: &NetfilterMessage,
        read: impl Fn(&[u8]) -> T,
    ) -> Result<Option<T>, Error> {
        let answer = self.link.query_with(doing, request, |_, message| Ok(read(message)))?;
        Ok(answered(doing, answer)?.into_iter().next())
    }
}

fn answered<T>(doing: &'static str, answer: Result<Vec<T>, Errno>) -> Result<Vec<T>, Error> {
    match answer {
        Err(Errno::ENOENT) => Ok(Vec::new()),
        answer => answer.map_err(|errno| refused(doing, errno)),
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
        self.monitor.subscribe()?;
        self.ensure_ruleset(&SetId::FIRST.into())
    }

    fn list(&mut self) -> Result<Listing, Error> {
        self.list_blocks()
    }

    fn apply(&mut self, ops: &[Op], _: Timestamp) -> Vec<Result<(), Error>> {
        self.apply_ops(ops)
    }

    fn events(&self) -> Option<BorrowedFd<'_>> {
        self.monitor.socket.as_ref().map(NetlinkMonitor::as_fd)
    }

    fn drift(&mut self) -> Result<Option<Drift>, Error> {
        Ok(self.monitor.take_drift())
    }

    fn purge(&mut self) -> Result<(), Error> {
        let doing = "delete table inet psentry";
        self.generation = None;
        match self.commit(doing, vec![encode::on_table(uapi::NFT_MSG_DELTABLE)], 0)? {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(refused(doing, errno)),
        }
    }
}

fn refused(doing: &'static str, errno: Errno) -> Error {
    match errno {
        Errno::EPERM => Error::NotPermitted { backend: NAME },
        errno => SystemError::Refused { doing, errno }.into(),
    }
}

#[cfg(test)]
mod tests;
