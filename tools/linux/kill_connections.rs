//! Ends connections whose remote end has been blocked: sockets of this machine by SOCK_DESTROY of sock_diag(7), and
//! connections that pass through it by deleting their entries of connection tracking. Each family and protocol is
//! listed once, however many remote ends are asked for. Whose connections are to end is the caller's decision.

use std::collections::{BTreeSet, HashMap};

use netlink_packet_core::NetlinkSerializable;
use netlink_packet_sock_diag::inet::StateFlags;
use netlink_packet_sock_diag::{AF_INET, AF_INET6, IPPROTO_TCP, IPPROTO_UDP};
use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_SOCK_DIAG};
use nix::errno::Errno;
use psentry_records::{Prefix, canonical};

use crate::conntrack::{self, ConntrackEntry};
use crate::diag_bytecode;
use crate::error::Error;
use crate::flow::Flow;
use crate::netlink::{NetlinkSocket, Request};
use crate::sock_diag::message::{self, SocketDump};

/// How many requests are sent as one batch.
const BATCH: usize = 500;

/// TCP_NEW_SYN_RECV of linux/tcp_states.h, which the crate does not know.
const NEW_SYN_RECV: StateFlags = StateFlags::from_bits_retain(1 << 12);

/// The states of a connection over which data may still pass or which may still be completed: not listening, closed or
/// TIME_WAIT. A connected UDP socket counts as established.
const LIVE_STATES: StateFlags = StateFlags::ESTABLISHED
    .union(StateFlags::SYN_SENT)
    .union(StateFlags::SYN_RECV)
    .union(StateFlags::FIN_WAIT1)
    .union(StateFlags::FIN_WAIT2)
    .union(StateFlags::CLOSE_WAIT)
    .union(StateFlags::LAST_ACK)
    .union(StateFlags::CLOSING)
    .union(NEW_SYN_RECV);

/// Whose connections are to end: by their prefixes, each with the ports of this machine, or of one behind it, and the numbers of
/// their transports (IANA: 6 is TCP, 17 UDP); without ports all of them.
#[derive(Clone, Debug, Default)]
pub struct Targets<'a> {
    ports: HashMap<Prefix, (&'a [u16], &'a [u8])>,
    /// The lengths of the prefixes, by family.
    lengths: BTreeSet<(bool, u8)>,
}

impl<'a> Targets<'a> {
    /// Adds a prefix.
    pub fn insert(&mut self, scope: Prefix, ports: &'a [u16], transports: &'a [u8]) {
        self.ports.insert(scope, (ports, transports));
        self.lengths.insert((scope.is_ipv4(), scope.len()));
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ports.is_empty()
    }

    fn scopes(&self) -> Vec<Prefix> {
        self.ports.keys().copied().collect()
    }

    fn contain(&self, flow: Flow) -> bool {
        let of_family = self.lengths.iter().filter(|(ipv4, _)| *ipv4 == flow.remote_addr.is_ipv4());
        let mut around =
            of_family.filter_map(|(_, len)| self.ports.get(&Prefix::around(flow.remote_addr, *len)));
        around.any(|(ports, transports)| {
            ports.is_empty() || ports.contains(&flow.local_port) && transports.contains(&flow.protocol)
        })
    }
}

/// Ends connections.
pub struct ConnectionKiller {
    sock_diag: NetlinkSocket,
    netfilter: NetlinkSocket,
}

impl ConnectionKiller {
    /// Opens the netlink sockets that it needs, without any request.
    ///
    /// # Errors
    /// When the kernel lacks one of the two protocols, or a sandbox forbids AF_NETLINK.
    pub fn open() -> Result<Self, Error> {
        Ok(ConnectionKiller {
            sock_diag: NetlinkSocket::open(NETLINK_SOCK_DIAG)?,
            netfilter: NetlinkSocket::open(NETLINK_NETFILTER)?,
        })
    }

    /// Whether this kernel destroys sockets of other processes (CONFIG_INET_DIAG_DESTROY).
    ///
    /// # Errors
    /// When it does not answer, or CAP_NET_ADMIN is missing.
    pub fn can_destroy_sockets(&mut self) -> Result<bool, Error> {
        let doing = "end a socket";
        match self.sock_diag.request(doing, message::destroy_none(IPPROTO_TCP, LIVE_STATES), 0)? {
            // There is no such socket. A kernel without support refuses before it looks.
            Ok(()) | Err(Errno::ENOENT) => Ok(true),
            Err(Errno::EOPNOTSUPP | Errno::EINVAL) => Ok(false),
            Err(errno) => Err(Error::Refused { doing, errno }),
        }
    }

    /// Destroys the connected TCP and UDP sockets of this machine whose remote ends are targets. Their owners see an error at
    /// once (ECONNABORTED); the other end of a TCP connection is sent a reset.
    ///
    /// # Errors
    /// When they cannot be listed, or one of them cannot be destroyed; the others are destroyed all the same.
    pub fn destroy_sockets(&mut self, targets: &Targets<'_>) -> Result<(), Error> {
        let doing = "list sockets";
        let mut requests = Vec::new();
        for dump in socket_dumps(&targets.scopes()) {
            let protocol = dump.protocol();
            let request = |_: &_, body: &[u8]| {
                let socket = message::header(body)?;
                let remote_addr = canonical(socket.socket_id.destination_address);
                let flow = Flow { remote_addr, local_port: socket.socket_id.source_port, protocol };
                Ok(targets.contain(flow).then(|| message::destroy(protocol, LIVE_STATES, socket)))
            };
            match self.sock_diag.dump_with(doing, &dump, request)? {
                Ok(chosen) => requests.extend(chosen.into_iter().flatten()),
                // The kernel lacks the module of the protocol (udp_diag), so its sockets cannot be found.
                Err(Errno::ENOENT | Errno::EOPNOTSUPP) => {}
                Err(errno) => return Err(Error::Refused { doing, errno }),
            }
        }
        send_all(&mut self.sock_diag, "end a socket", requests)
    }

    /// Deletes the entries of connection tracking one end of which is a target. What lets a known connection bypass the rules,
    /// such as a flow table or address translation, then does not know it any more.
    ///
    /// # Errors
    /// When they cannot be listed, or one of them cannot be deleted; the others are deleted all the same.
    pub fn delete_conntrack_entries(&mut self, targets: &Targets<'_>) -> Result<(), Error> {
        let doing = "list tracked connections";
        let mut requests = Vec::new();
        for (ipv4, dump) in conntrack::dumps(&targets.scopes()) {
            // Only the chosen entries are kept: the table may have a million.
            let request = |_: &_, body: &[u8]| {
                let entry = ConntrackEntry::read(ipv4, body);
                let is_target = |flow| targets.contain(flow);
                let chosen = entry.filter(|entry| entry.flows.into_iter().flatten().any(is_target));
                Ok(chosen.map(ConntrackEntry::delete))
            };
            match self.netfilter.dump_with(doing, &dump, request)? {
                Ok(chosen) => requests.extend(chosen.into_iter().flatten()),
                // A kernel without connection tracking has no entries.
                Err(Errno::ENOENT | Errno::EOPNOTSUPP | Errno::EINVAL) => {}
                Err(errno) => return Err(Error::Refused { doing, errno }),
            }
        }
        send_all(&mut self.netfilter, "forget a tracked connection", requests)
    }
}

/// The requests for all live sockets that may have a remote address in these scopes. An IPv4 address may also be that
/// of an IPv6 socket.
fn socket_dumps(scopes: &[Prefix]) -> Vec<SocketDump> {
    let bytecode = diag_bytecode::by_prefixes(scopes);
    let ipv4 = scopes.iter().any(|scope| scope.is_ipv4()).then_some(AF_INET);
    let ipv6 = (!scopes.is_empty()).then_some(AF_INET6);
    let families = ipv4.into_iter().chain(ipv6);
    let pairs = families.flat_map(|family| [(family, IPPROTO_TCP), (family, IPPROTO_UDP)]);
    let dump = |(family, protocol)| SocketDump::new(family, protocol, LIVE_STATES, bytecode.clone());
    pairs.map(dump).collect()
}

/// Sends requests that each end something. What is gone meanwhile (ENOENT) is no error.
fn send_all<M: NetlinkSerializable>(
    netlink: &mut NetlinkSocket,
    doing: &'static str,
    requests: Vec<M>,
) -> Result<(), Error> {
    let mut failure = None;
    let mut requests = requests.into_iter().map(|message| Request { message, flags: 0, acked: true });
    loop {
        let batch: Vec<_> = requests.by_ref().take(BATCH).collect();
        if batch.is_empty() {
            return failure.map_or(Ok(()), Err);
        }
        for answer in netlink.batch(doing, batch)? {
            match answer {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(errno) => failure = Some(Error::Refused { doing, errno }),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::serialized;

    #[test]
    fn who_is_a_target_at_a_port_keeps_the_others() {
        let mut targets = Targets::default();
        targets.insert("192.0.2.7".parse().unwrap(), &[22], &[6]);
        targets.insert("198.51.96.0/20".parse().unwrap(), &[], &[6, 17]);
        targets.insert("2001:db8::/64".parse().unwrap(), &[], &[6, 17]);
        for (remote, port, transport, is_target) in [
            ("192.0.2.7", 22, 6, true),
            ("192.0.2.7", 80, 6, false),
            ("192.0.2.7", 22, 17, false),
            ("192.0.2.8", 22, 6, false),
            ("198.51.111.9", 80, 17, true),
            ("2001:db8::9", 443, 6, true),
            ("2001:db8:1::9", 443, 6, false),
        ] {
            let flow = Flow { remote_addr: remote.parse().unwrap(), local_port: port, protocol: transport };
            assert_eq!(targets.contain(flow), is_target, "{flow:?}");
        }
    }

    #[test]
    fn sockets_of_ipv6_are_listed_for_addresses_of_ipv4_too() {
        let dumped = |scopes: &[&str]| {
            let scopes: Vec<Prefix> = scopes.iter().map(|scope| scope.parse().unwrap()).collect();
            let family_and_protocol = |dump: &SocketDump| {
                let (_, body) = serialized(dump);
                (body[0], body[1])
            };
            socket_dumps(&scopes).iter().map(family_and_protocol).collect::<Vec<_>>()
        };
        assert_eq!(dumped(&["192.0.2.7"]), [(2, 6), (2, 17), (10, 6), (10, 17)]);
        assert_eq!(dumped(&["2001:db8::/64"]), [(10, 6), (10, 17)]);
        assert_eq!(dumped(&[]), []);
        assert_eq!(LIVE_STATES.bits(), 0b1_1011_0011_1110);
    }
}
