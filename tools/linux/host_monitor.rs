//! That the addresses on which this machine depends may be others than before: rtnetlink(7) reports each change of an interface,
//! an address or a route. So they are listed again after a change, and not whenever somebody asks.
//!
//! Resolvers are in files, of which the kernel reports nothing here. Nor does it report an IPv4 route that goes with its
//! interface; the interface it does.

use netlink_packet_core::NetlinkHeader;
use netlink_sys::protocols::NETLINK_ROUTE;

use crate::error::Error;
use crate::host_addresses::DEFAULT_ROUTE_LEN;
use crate::netlink_monitor::{
    NetlinkMonitor, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV6_ROUTE,
    RTNLGRP_LINK,
};

/// RTM_NEWROUTE and RTM_DELROUTE (linux/rtnetlink.h).
const ROUTES: [u16; 2] = [24, 25];

/// Where `struct rtmsg` has the length of the destination's prefix (rtnetlink(7)).
const DESTINATION_LEN: usize = 1;

/// A subscription to changes of what [`host_addresses`](crate::host_addresses) lists, apart from resolvers. It need not be
/// waited for: it is read when somebody asks.
pub struct HostMonitor(NetlinkMonitor);

impl HostMonitor {
    /// Subscribes: what changes from now on is seen.
    ///
    /// # Errors
    /// As those of [`NetlinkMonitor::open`].
    pub fn open() -> Result<Self, Error> {
        let groups =
            [RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE];
        NetlinkMonitor::open(NETLINK_ROUTE, &groups).map(HostMonitor)
    }

    /// Whether something may have changed since the last call, without waiting.
    ///
    /// # Errors
    /// As those of [`NetlinkMonitor::receive`].
    pub fn changed(&mut self) -> Result<bool, Error> {
        let mut changed = false;
        loop {
            let received = self.0.receive(|header, body| changed |= matters(header, body))?;
            changed |= received.lost;
            if !received.more {
                return Ok(changed);
            }
        }
    }
}

/// Whether a notification is about more than a route to somewhere, of which a backend that blocks by routes, or a routing
/// protocol, makes a hundred thousand.
fn matters(header: &NetlinkHeader, body: &[u8]) -> bool {
    let is_route = ROUTES.contains(&header.message_type);
    !is_route || body.get(DESTINATION_LEN).is_none_or(|length| *length <= DEFAULT_ROUTE_LEN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_to_somewhere_changes_nothing() {
        let matters = |message_type, length| {
            let mut header = NetlinkHeader::default();
            header.message_type = message_type;
            matters(&header, &[2, length, 0, 0, 254, 2, 0, 1, 0, 0, 0, 0])
        };
        for (message_type, length, want) in [
            (24, 0, true),
            (24, 1, true),
            (25, 0, true),
            (24, 8, false),
            (25, 32, false),
            (20, 24, true),
            (16, 9, true),
        ] {
            assert_eq!(matters(message_type, length), want, "{message_type} {length}");
        }
    }

    #[test]
    fn without_a_change_there_is_none() {
        let mut monitor = HostMonitor::open().unwrap();
        assert!(!monitor.changed().unwrap());
    }
}
