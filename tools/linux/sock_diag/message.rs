//! Requests of sock_diag(7), and its answers. Builds and reads messages, sends none.

use std::net::IpAddr;

use netlink_packet_core::{
    DecodeError, DefaultNla, Emitable, NLA_HEADER_SIZE, NetlinkSerializable, NlasIterator, Parseable,
};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, InetResponseHeader, SocketId, StateFlags};
use netlink_packet_sock_diag::{
    AF_INET, INET_DIAG_MARK, SOCK_DIAG_BY_FAMILY, SockDiagDestroy, SockDiagMessage,
};
use psentry_records::canonical;

/// INET_DIAG_REQ_BYTECODE, the attribute of a request with its bytecode (linux/inet_diag.h).
const BYTECODE: u16 = 1;

/// The longest bytecode that an attribute has room for, in bytes.
const MAX_BYTECODE: usize = u16::MAX as usize - NLA_HEADER_SIZE;

/// INET_DIAG_SOCKOPT, an attribute of an answer: `inet_diag_sockopt` (linux/inet_diag.h).
const SOCKOPT: u16 = 22;

/// The bit `transparent` in the first byte of `inet_diag_sockopt`, whose bitfields follow the byte order.
const TRANSPARENT: u8 = if cfg!(target_endian = "little") { 1 << 5 } else { 1 << 2 };

/// The length of `inet_diag_msg`, after which the attributes of an answer begin.
const ANSWER_LEN: usize = 72;

/// A socket as the kernel lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Socket {
    /// The address at this end: unspecified where it is every one, IPv4 even where the socket is one of IPv6.
    pub local_addr: IpAddr,
    /// The port at this end.
    pub local_port: u16,
    /// The address of the other end: unspecified where there is none, IPv4 even where the socket is one of IPv6.
    pub remote_addr: IpAddr,
    /// The port of the other end; 0 where there is none.
    pub remote_port: u16,
    /// Its SO_MARK. `None`: the caller lacks CAP_NET_ADMIN, so the kernel does not say.
    pub mark: Option<u32>,
    /// Whether it has IP_TRANSPARENT: then its port need not be one that anything listens on. Kernels before 5.10 do
    /// not say, which counts as no.
    pub transparent: bool,
    /// The kernel's number for it, which no other socket has until a reboot.
    pub cookie: [u8; 8],
}

/// A request for all sockets of a family and protocol in some states that its bytecode selects.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SocketDump {
    request: InetRequest,
    bytecode: Option<DefaultNla>,
}

impl SocketDump {
    /// `family` and `protocol` are AF_INET or AF_INET6, and IPPROTO_TCP or IPPROTO_UDP. Bytecode that is empty, or too
    /// long for an attribute, is left out; the kernel then lists every socket in these states.
    pub(crate) fn new(family: u8, protocol: u8, states: StateFlags, bytecode: Vec<u8>) -> Self {
        let socket_id = if family == AF_INET { SocketId::new_v4() } else { SocketId::new_v6() };
        let fits = (1..=MAX_BYTECODE).contains(&bytecode.len());
        SocketDump {
            request: request(family, protocol, states, socket_id),
            bytecode: fits.then(|| DefaultNla::new(BYTECODE, bytecode)),
        }
    }

    pub(crate) fn protocol(&self) -> u8 {
        self.request.protocol
    }
}

impl NetlinkSerializable for SocketDump {
    fn message_type(&self) -> u16 {
        SOCK_DIAG_BY_FAMILY
    }

    fn buffer_len(&self) -> usize {
        self.request.buffer_len() + self.bytecode.as_ref().map_or(0, Emitable::buffer_len)
    }

    fn serialize(&self, buffer: &mut [u8]) {
        let (request, attribute) = buffer.split_at_mut(self.request.buffer_len());
        self.request.emit(request);
        if let Some(bytecode) = &self.bytecode {
            bytecode.emit(attribute);
        }
    }
}

/// The request that destroys the socket of an answer (SOCK_DESTROY). It names the socket by its cookie, so it does not
/// meet another one that has got the same addresses and ports meanwhile.
pub(crate) fn destroy(protocol: u8, states: StateFlags, answer: InetResponseHeader) -> SockDiagDestroy {
    let request = request(answer.family, protocol, states, answer.socket_id);
    SockDiagDestroy::new(SockDiagMessage::InetRequest(request))
}

/// The request that destroys a socket which cannot exist, because both ports are 0: its answer says whether this kernel
/// destroys sockets at all.
pub(crate) fn destroy_none(protocol: u8, states: StateFlags) -> SockDiagDestroy {
    // INET_DIAG_NOCOOKIE: any cookie.
    let socket_id = SocketId { cookie: [u8::MAX; 8], ..SocketId::new_v4() };
    SockDiagDestroy::new(SockDiagMessage::InetRequest(request(AF_INET, protocol, states, socket_id)))
}

fn request(family: u8, protocol: u8, states: StateFlags, socket_id: SocketId) -> InetRequest {
    InetRequest { family, protocol, extensions: ExtensionFlags::empty(), states, socket_id }
}

/// Reads an answer without its attributes.
pub(crate) fn header(body: &[u8]) -> Result<InetResponseHeader, String> {
    InetResponseHeader::parse(body).map_err(|error: DecodeError| error.to_string())
}

/// Reads an answer.
pub(crate) fn socket(body: &[u8]) -> Result<Socket, String> {
    let id = header(body)?.socket_id;
    let (mut mark, mut transparent) = (None, false);
    // Attributes are read here, not by the crate, because it copies each of them, and most are of no use.
    let attributes = NlasIterator::new(body.get(ANSWER_LEN..).unwrap_or_default());
    for attribute in attributes.map_while(Result::ok) {
        match attribute.kind() {
            INET_DIAG_MARK => mark = attribute.value().first_chunk().map(|mark| u32::from_ne_bytes(*mark)),
            SOCKOPT => transparent = attribute.value().first().is_some_and(|first| first & TRANSPARENT != 0),
            _ => {}
        }
    }
    Ok(Socket {
        local_addr: canonical(id.source_address),
        local_port: id.source_port,
        remote_addr: canonical(id.destination_address),
        remote_port: id.destination_port,
        mark,
        transparent,
        cookie: id.cookie,
    })
}

#[cfg(test)]
mod tests {
    use netlink_packet_sock_diag::{AF_INET6, IPPROTO_TCP, IPPROTO_UDP};

    use super::*;
    use crate::netlink::serialized;

    const SYN_SENT: [u8; 4] = (1u32 << 2).to_ne_bytes();

    /// An `inet_diag_msg` of an established connection from port 22.
    fn answer(family: u8, remote_addr: &[u8]) -> Vec<u8> {
        let mut body = vec![family, 1, 0, 0];
        body.extend([0, 22, 0xd4, 0x31, 198, 51, 100, 1]);
        body.resize(24, 0);
        body.extend_from_slice(remote_addr);
        body.resize(40, 0);
        // The interface and the cookie.
        body.extend([9, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
        body.resize(ANSWER_LEN, 0);
        body
    }

    #[test]
    fn a_dump_carries_its_bytecode_unless_that_is_empty_or_too_long() {
        let dump =
            |bytecode| serialized(&SocketDump::new(AF_INET6, IPPROTO_UDP, StateFlags::SYN_SENT, bytecode));
        let request = [&[10, 17, 0, 0][..], &SYN_SENT, &[0; 48]].concat();
        let attribute = [&8u16.to_ne_bytes()[..], &1u16.to_ne_bytes(), &[1, 4, 8, 0]].concat();
        assert_eq!(dump(vec![1, 4, 8, 0]), (20, [request.clone(), attribute].concat()));
        assert_eq!(dump(Vec::new()), (20, request.clone()));
        assert_eq!(dump(vec![0; MAX_BYTECODE + 1]), (20, request));
    }

    #[test]
    fn a_socket_is_destroyed_by_all_that_its_answer_says_of_it() {
        let mapped: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 192, 0, 2, 7];
        for (family, remote_addr) in [(AF_INET, &[192, 0, 2, 7][..]), (AF_INET6, &mapped)] {
            let body = answer(family, remote_addr);
            let request = destroy(IPPROTO_TCP, StateFlags::SYN_SENT, header(&body).unwrap());
            let want = [&[family, 6, 0, 0][..], &SYN_SENT, &body[4..52]].concat();
            assert_eq!(serialized(&request), (21, want));
        }
        let none = destroy_none(IPPROTO_TCP, StateFlags::SYN_SENT);
        let want = [&[2, 6, 0, 0][..], &SYN_SENT, &[0; 40], &[255; 8]].concat();
        assert_eq!(serialized(&none), (21, want));
    }

    #[test]
    fn a_socket_is_read_with_its_attributes() {
        let plain = answer(AF_INET, &[192, 0, 2, 7]);
        let want = Socket {
            local_addr: IpAddr::from([198, 51, 100, 1]),
            local_port: 22,
            remote_addr: IpAddr::from([192, 0, 2, 7]),
            remote_port: 0xd431,
            mark: None,
            transparent: false,
            cookie: [1, 2, 3, 4, 5, 6, 7, 8],
        };
        assert_eq!(socket(&plain), Ok(want));
        let attribute = |kind, value: &[u8]| {
            let attribute = DefaultNla::new(kind, value.to_vec());
            let mut bytes = vec![0; attribute.buffer_len()];
            attribute.emit(&mut bytes);
            bytes
        };
        // The shutdown state, one byte with its padding, is passed over.
        let (shutdown, options) = (attribute(8, &[0]), attribute(SOCKOPT, &[TRANSPARENT, 0]));
        let body =
            [plain.clone(), shutdown, options, attribute(INET_DIAG_MARK, &7u32.to_ne_bytes())].concat();
        assert_eq!(socket(&body), Ok(Socket { mark: Some(7), transparent: true, ..want }));
        assert!(socket(&plain[..60]).is_err() && socket(&answer(1, &[])).is_err());
    }
}
