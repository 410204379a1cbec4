//! How many acknowledgements find room.

use netlink_packet_core::NLMSG_NOOP;
use netlink_sys::protocols::NETLINK_ROUTE;

use super::*;

/// A message that the kernel acknowledges and does nothing about.
struct Noop;

impl NetlinkSerializable for Noop {
    fn message_type(&self) -> u16 {
        NLMSG_NOOP
    }

    fn buffer_len(&self) -> usize {
        0
    }

    fn serialize(&self, _: &mut [u8]) {}
}

#[test]
fn as_many_are_acknowledged_as_find_room() {
    for room in [64 * 1024, 256 * 1024] {
        let mut netlink = NetlinkSocket::open(NETLINK_ROUTE).unwrap();
        setsockopt(&netlink.socket, sockopt::RcvBuf, &room).unwrap();
        let most = netlink.ack_capacity();
        let mut answered = |count: usize| {
            let request = |_| Request { message: Noop, flags: 0, acked: true };
            netlink.batch("answer", (0..count).map(request).collect())
        };
        assert_eq!(answered(most).unwrap(), vec![Ok(()); most]);
        assert!(answered(2 * most).unwrap_err().to_string().contains("No buffer space"), "{most}");
    }
}
