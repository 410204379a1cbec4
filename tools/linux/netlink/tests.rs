//! What the kernel answers to requests that ask for nothing else.

use netlink_packet_core::NLMSG_NOOP;
use netlink_sys::protocols::NETLINK_ROUTE;

use super::*;
use crate::ending::Raw;

#[test]
fn as_many_are_answered_as_find_room() {
    for room in [64 * 1024, 256 * 1024] {
        let mut link = Link::open(NETLINK_ROUTE).unwrap();
        setsockopt(&link.socket, sockopt::RcvBuf, &room).unwrap();
        let most = link.answers();
        let mut answered = |count: usize| {
            let message = || Raw { kind: NLMSG_NOOP, body: Vec::new() };
            let request = |_| Request { message: message(), flags: 0, acked: true };
            link.batch("answer", (0..count).map(request).collect())
        };
        assert_eq!(answered(most).unwrap(), vec![Ok(()); most]);
        assert!(answered(2 * most).unwrap_err().to_string().contains("No buffer space"), "{most}");
    }
}
