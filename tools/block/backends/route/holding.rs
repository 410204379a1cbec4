//! Whether a blackhole holds: another route may stand before it, from the start or later.

use std::collections::HashSet;
use std::net::IpAddr;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{RouteAttribute, RouteMessage};
use nix::errno::Errno;
use psentry_records::Prefix;

use super::message::{family, hosts, leads_nowhere};
use super::{Route, refused};
use crate::error::Error;

/// What the kernel answers of an address to which a blackhole leads, or nothing at all.
const NOWHERE: [Errno; 4] = [Errno::EINVAL, Errno::EHOSTUNREACH, Errno::EACCES, Errno::ENETUNREACH];

impl Route {
    /// Asks where packets to the scope would go, to its first host and to its last: another route may stand before
    /// ours.
    pub(super) fn confirm(&mut self, scope: Prefix) -> Result<(), Error> {
        hosts(scope).into_iter().try_for_each(|addr| self.confirm_host(addr))
    }

    fn confirm_host(&mut self, addr: IpAddr) -> Result<(), Error> {
        let mut question = RouteMessage::default();
        let host = Prefix::host(addr);
        question.header.address_family = family(host);
        question.header.destination_prefix_length = host.len();
        question.attributes = vec![RouteAttribute::Destination(addr.into())];
        let doing = "say which route holds";
        let holds = match self.link.query(doing, &RouteNetlinkMessage::GetRoute(question))? {
            // Blackholes answer with an error, or with a route of their kind.
            Err(errno) if NOWHERE.contains(&errno) => true,
            Err(errno) => return Err(refused(doing, errno)),
            Ok(answer) => answer.iter().any(|message| match message {
                RouteNetlinkMessage::NewRoute(route) => leads_nowhere(route.header.kind),
                _ => false,
            }),
        };
        if holds {
            return Ok(());
        }
        Err(Error::NoEffect(format!(
            "another route to {addr} stands before the blackhole; 'ip route get {addr}' shows it"
        )))
    }
}

/// Whom of ours a route to `to` may beat: those that hold it.
pub(super) fn beaten_by(to: Prefix, ours: &HashSet<Prefix>) -> Vec<Prefix> {
    if ours.is_empty() {
        return Vec::new();
    }
    (0..=to.len()).map(|len| Prefix::around(to.addr(), len)).filter(|scope| ours.contains(scope)).collect()
}
