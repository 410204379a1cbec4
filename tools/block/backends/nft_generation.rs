//! The generation of the nf_tables ruleset, a number that every transaction of anybody raises by one. Whoever remembers it
//! knows without reading any rule whether something may have changed since.

use netlink_packet_netfilter::nftables::{GenMessage, NfTablesMessage};
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterProtoFamily};
use nix::errno::Errno;
use psentry_linux::{Error as Below, NetlinkSocket};

use crate::error::Error;
use psentry_linux::netlink_attributes::attribute;

/// The number of the generation among the attributes of an answer, from linux/netfilter/nf_tables.h.
const NFTA_GEN_ID: u16 = 1;

/// The length of `struct nfgenmsg`, which comes before the attributes.
const NFGENMSG_LEN: usize = 4;

/// The generation now, at least 1, for `backend`.
///
/// # Errors
/// When the kernel does not say it, mostly because CAP_NET_ADMIN is missing.
pub(super) fn read(link: &mut NetlinkSocket, backend: &'static str) -> Result<u32, Error> {
    let doing = "read the generation of the ruleset";
    let question = NetfilterMessage::new(
        NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, 0),
        NfTablesMessage::GetGen(GenMessage { attributes: Vec::new() }),
    );
    let read = |_: &_, message: &[u8]| {
        let id = message.get(NFGENMSG_LEN..).and_then(|body| attribute(body, NFTA_GEN_ID));
        Ok(id.and_then(|id| id.first_chunk().copied()).map(u32::from_be_bytes))
    };
    match link.query_with(doing, &question, read)? {
        Ok(answer) => {
            let lacks = || Below::Refused { doing, errno: Errno::ENODATA }.into();
            answer.into_iter().flatten().next().ok_or_else(lacks)
        }
        Err(Errno::EPERM) => Err(Error::NotPermitted { backend }),
        Err(errno) => Err(Below::Refused { doing, errno }.into()),
    }
}
