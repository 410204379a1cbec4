//! The generation of the nf_tables ruleset, a number that every transaction of anybody raises by one. Whoever remembers it
//! knows without reading any rule whether something may have changed since.

use netlink_packet_netfilter::nftables::{GenMessage, NfTablesMessage};
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterProtoFamily};
use netlink_sys::protocols::NETLINK_NETFILTER;
use psentry_linux::{Error as Below, NetlinkSocket};

use crate::error::Error;
use psentry_linux::netlink_attributes::attribute;

/// The number of the generation among the attributes of an answer, from linux/netfilter/nf_tables.h.
const NFTA_GEN_ID: u16 = 1;

/// The length of `struct nfgenmsg`, which comes before the attributes.
const NFGENMSG_LEN: usize = 4;

/// A socket to ask for it.
pub(super) struct Generation(NetlinkSocket);

impl Generation {
    /// # Errors
    /// When there is no netlink.
    pub(super) fn open() -> Result<Self, Error> {
        Ok(Generation(NetlinkSocket::open(NETLINK_NETFILTER)?))
    }

    /// The generation now, at least 1.
    ///
    /// # Errors
    /// When the kernel does not say it.
    pub(super) fn get(&mut self) -> Result<u32, Error> {
        let doing = "tell the generation of the ruleset";
        let question = NetfilterMessage::new(
            NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, 0),
            NfTablesMessage::GetGen(GenMessage { attributes: Vec::new() }),
        );
        let read = |_: &_, message: &[u8]| {
            let id = message.get(NFGENMSG_LEN..).and_then(|body| attribute(body, NFTA_GEN_ID));
            Ok(id.and_then(|id| id.first_chunk().copied()).map(u32::from_be_bytes))
        };
        let answer = self.0.query_with(doing, &question, read)?;
        let answer = answer.map_err(|errno| Below::Refused { doing, errno })?;
        let lacks = || Below::Netlink { doing, why: "it has no number".to_owned() }.into();
        answer.into_iter().flatten().next().ok_or_else(lacks)
    }
}
