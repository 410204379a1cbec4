//! The ground that rules stand on. Where iptables speaks to nf_tables, its first rule also makes the table and the
//! chain, such as INPUT, which were not there before. A comment on our rule in it remembers that, in the kernel itself,
//! so that both go when psentry goes, whichever process sees to it.

use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, NfTablesMessage, TableAttribute, TableMessage,
};
use netlink_packet_netfilter::none::ControlMessage;
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
};
use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::errno::Errno;

use super::Filter;
use crate::error::Error;
use psentry_linux::{Error as Below, NetlinkSocket, Request};

/// Neither table nor chain was there.
pub(super) const TABLE: &str = "psentry made this table";

/// Only the chain was not there.
const CHAIN: &str = "psentry made this chain";

/// The number of nftables among netfilter's subsystems.
const SUBSYSTEM: u16 = 10;

/// A chain's policy in the kernel: what no rule decides is accepted.
const ACCEPT: u32 = 1;

/// What our rule in a builtin chain has to remember; `None`: all was there, or the legacy variant keeps it elsewhere for ever.
pub(super) fn survey(filter: &Filter, chain: &str) -> Result<Option<&'static str>, Error> {
    if !filter.is_nf_tables()? {
        return Ok(None);
    }
    let mut link = NetlinkSocket::open(NETLINK_NETFILTER)?;
    if builtin(&mut link, filter, chain)?.is_some() {
        return Ok(None);
    }
    Ok(Some(if chains_in_table(&mut link, filter)?.is_some() { CHAIN } else { TABLE }))
}

/// The mark that a comment is.
pub(super) fn mark_of(comment: &str) -> Option<&'static str> {
    [TABLE, CHAIN].into_iter().find(|mark| *mark == comment)
}

/// Takes away what `mark` remembers of a builtin chain, as far as nobody uses it now.
pub(super) fn clear(filter: &Filter, chain: &str, mark: &str) -> Result<(), Error> {
    let mut link = NetlinkSocket::open(NETLINK_NETFILTER)?;
    // A chain with a rule, or a policy of the administrator's, has become somebody's.
    if builtin(&mut link, filter, chain)? == Some((0, ACCEPT)) {
        let attributes =
            vec![ChainAttribute::Table("filter".to_owned()), ChainAttribute::Name(chain.to_owned())];
        delete(&mut link, filter, NfTablesMessage::DeleteChain(ChainMessage { attributes }))?;
    }
    if mark == TABLE && chains_in_table(&mut link, filter)? == Some(0) {
        let attributes = vec![TableAttribute::Name("filter".to_owned())];
        delete(&mut link, filter, NfTablesMessage::DeleteTable(TableMessage { attributes }))?;
    }
    Ok(())
}

/// How many rules a chain of the filter table has, and its policy.
fn builtin(link: &mut NetlinkSocket, filter: &Filter, wanted: &str) -> Result<Option<(u32, u32)>, Error> {
    let chains = dump(link, filter, NfTablesMessage::GetChain(ChainMessage { attributes: Vec::new() }))?;
    Ok(chains.iter().find_map(|message| {
        let NfTablesMessage::NewChain(chain) = message else { return None };
        let (mut ours, mut name, mut rules, mut policy) = (false, false, 0, ACCEPT);
        for attribute in &chain.attributes {
            match attribute {
                ChainAttribute::Table(table) => ours = table == "filter",
                ChainAttribute::Name(chain) => name = chain == wanted,
                ChainAttribute::Use(count) => rules = *count,
                ChainAttribute::Policy(number) => policy = *number,
                _ => {}
            }
        }
        (ours && name).then_some((rules, policy))
    }))
}

/// How many chains, and whatever else, the filter table has; `None`: there is no table.
fn chains_in_table(link: &mut NetlinkSocket, filter: &Filter) -> Result<Option<u32>, Error> {
    let tables = dump(link, filter, NfTablesMessage::GetTable(TableMessage { attributes: Vec::new() }))?;
    Ok(tables.iter().find_map(|message| {
        let NfTablesMessage::NewTable(table) = message else { return None };
        let named = |a: &TableAttribute| matches!(a, TableAttribute::Name(name) if name == "filter");
        table.attributes.iter().any(named).then(|| {
            let count = table.attributes.iter().find_map(|attribute| match attribute {
                TableAttribute::Use(count) => Some(*count),
                _ => None,
            });
            count.unwrap_or(u32::MAX)
        })
    }))
}

fn dump(
    link: &mut NetlinkSocket,
    filter: &Filter,
    question: NfTablesMessage,
) -> Result<Vec<NfTablesMessage>, Error> {
    let doing = "list the chains of iptables";
    let answer = match link.dump(doing, &message(filter, question))? {
        Ok(answer) => answer,
        Err(Errno::ENOENT) => Vec::new(),
        Err(errno) => return Err(refused(filter, doing, errno)),
    };
    let inner = |message: NetfilterMessage| match message.inner {
        NetfilterMessageInner::NfTables(inner) => Some(inner),
        _ => None,
    };
    Ok(answer.into_iter().filter_map(inner).collect())
}

fn delete(link: &mut NetlinkSocket, filter: &Filter, deletion: NfTablesMessage) -> Result<(), Error> {
    let doing = "delete what iptables made";
    let frame = |inner: ControlMessage| Request {
        message: NetfilterMessage::new(
            NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, SUBSYSTEM),
            inner,
        ),
        flags: 0,
        acked: false,
    };
    let requests = vec![
        frame(ControlMessage::BatchBegin),
        Request { message: message(filter, deletion), flags: 0, acked: true },
        frame(ControlMessage::BatchEnd),
    ];
    let answers: Result<Vec<()>, Errno> = link.batch(doing, requests)?.into_iter().collect();
    match answers {
        // Gone meanwhile, or somebody's since a moment ago: either way not ours to take.
        Ok(_) | Err(Errno::ENOENT | Errno::EBUSY) => Ok(()),
        Err(errno) => Err(refused(filter, doing, errno)),
    }
}

fn message(filter: &Filter, inner: NfTablesMessage) -> NetfilterMessage {
    let family = if filter.ipv4 { NetfilterProtoFamily::IPv4 } else { NetfilterProtoFamily::IPv6 };
    NetfilterMessage::new(NetfilterHeader::new(family, 0, 0), inner)
}

fn refused(filter: &Filter, doing: &'static str, errno: Errno) -> Error {
    match errno {
        Errno::EPERM => Error::NotPermitted { backend: filter.backend },
        errno => Below::Refused { doing, errno }.into(),
    }
}
