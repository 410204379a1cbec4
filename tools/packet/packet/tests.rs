//! Packets as scanners send them, cut anywhere, and bytes that are no packet at all.

use etherparse::{IpNumber, Ipv4Header, PacketBuilder, TcpOptionElement};
use proptest::prelude::*;

use super::*;
use crate::signature::Signature;

const V4: ([u8; 4], [u8; 4]) = ([203, 0, 113, 7], [198, 51, 100, 1]);

/// A SYN to port 23.
fn syn(ttl: u8, id: u16, dont_fragment: bool, window: u16, options: &[TcpOptionElement]) -> Vec<u8> {
    let mut ip = Ipv4Header::new(0, ttl, IpNumber::TCP, V4.0, V4.1).unwrap();
    ip.identification = id;
    ip.dont_fragment = dont_fragment;
    let mut bytes = Vec::new();
    PacketBuilder::ip(etherparse::IpHeaders::Ipv4(ip, etherparse::Ipv4Extensions::default()))
        .tcp(40000, 23, 7, window)
        .syn()
        .options(options)
        .unwrap()
        .write(&mut bytes, &[])
        .unwrap();
    bytes
}

/// A header of IPv6 with what follows it.
fn v6(next: u8, rest: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x60, 0, 0, 0];
    bytes.extend(u16::try_from(rest.len()).unwrap().to_be_bytes());
    bytes.extend([next, 64]);
    bytes.extend("2001:db8:7::7".parse::<std::net::Ipv6Addr>().unwrap().octets());
    bytes.extend("2001:db8:1::1".parse::<std::net::Ipv6Addr>().unwrap().octets());
    bytes.extend(rest);
    bytes
}

/// A TCP header without options, to port 23.
fn tcp(flags: u8) -> Vec<u8> {
    let mut header = vec![0x9c, 0x40, 0, 23, 0, 0, 0, 7, 0, 0, 0, 0, 0x50, flags, 4, 0];
    header.extend([0; 4]);
    header
}

const MSS: TcpOptionElement = TcpOptionElement::MaximumSegmentSize(1460);

#[test]
fn a_syn_is_read() {
    let packet = Packet::parse(&syn(50, 7, false, 1024, &[MSS])).unwrap();
    assert_eq!((packet.source, packet.destination), (IpAddr::from(V4.0), IpAddr::from(V4.1)));
    assert_eq!((packet.ports(), packet.proto(), packet.kind()), (Some((40000, 23)), Proto::Tcp, Kind::Syn));
    assert_eq!((packet.ttl, packet.ip_id, packet.dont_fragment), (50, Some(7), Some(false)));
    assert!(!packet.is_fragment && packet.unusual_flags().is_none());
}

#[test]
fn scanners_are_recognised_and_systems_are_not() {
    let linux = [
        MSS,
        TcpOptionElement::SelectiveAcknowledgementPermitted,
        TcpOptionElement::Timestamp(1, 0),
        TcpOptionElement::Noop,
        TcpOptionElement::WindowScale(10),
    ];
    for (bytes, want) in [
        (syn(255, 9, false, 1024, &[]), Some(Signature::Masscan)),
        (syn(240, 9, false, 1024, &[]), Some(Signature::Masscan)), // fifteen hops away
        (syn(255, 54321, false, 65535, &[]), Some(Signature::Zmap)),
        (syn(43, 9, false, 1024, &[MSS]), Some(Signature::Nmap)),
        (syn(64, 9, false, 512, &[]), Some(Signature::Raw)), // hping3
        (syn(64, 9, false, 4096, &[MSS]), Some(Signature::Raw)),
        (syn(64, 9, true, 4096, &[MSS]), None),
        (syn(64, 9, true, 64240, &linux), None),
        (syn(64, 54321, false, 65535, &linux), None),
    ] {
        let packet = Packet::parse(&bytes).unwrap();
        assert_eq!(packet.signature(), want, "{packet:?}");
    }
    // Only a SYN has a signature.
    let mut ack = syn(255, 9, false, 1024, &[]);
    ack[33] = 0x10;
    assert_eq!(Packet::parse(&ack).unwrap().signature(), None);
}

#[test]
fn other_flags_are_named() {
    let of = |flags| Packet::parse(&v6(6, &tcp(flags))).unwrap();
    assert_eq!((of(0x03).kind(), of(0x03).unusual_flags().as_deref()), (Kind::Other, Some("syn+fin")));
    assert_eq!((of(0x29).kind(), of(0x29).unusual_flags()), (Kind::Xmas, None));
    assert_eq!(of(0x02).signature(), Some(Signature::Raw));
}

#[test]
fn options_and_extension_headers_are_passed_over() {
    // IPv4 with four bytes of options.
    let mut bytes = syn(64, 1, false, 512, &[]);
    bytes[0] = 0x46;
    bytes.splice(20..20, [1, 1, 1, 0]);
    let total = u16::try_from(bytes.len()).unwrap().to_be_bytes();
    bytes[2..4].copy_from_slice(&total);
    assert_eq!(Packet::parse(&bytes).unwrap().ports(), Some((40000, 23)));
    // What an extension header is called in IPv6 is no such header in IPv4: no kernel finds a SYN behind it.
    for protocol in [0, 43, 44, 60] {
        let mut bytes = syn(64, 1, false, 512, &[]);
        bytes[9] = protocol;
        bytes.splice(20..20, [6, 0, 1, 4, 0, 0, 0, 0]);
        let packet = Packet::parse(&bytes).unwrap();
        assert_eq!((packet.transport, packet.is_fragment), (Transport::Other(protocol), false));
    }
    // IPv6: hop-by-hop, destination options, and a fragment header of a packet in one piece.
    let mut rest = vec![60, 0, 1, 4, 0, 0, 0, 0, 44, 0, 1, 4, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 9];
    rest.extend(tcp(0x01));
    let packet = Packet::parse(&v6(0, &rest)).unwrap();
    assert_eq!((packet.kind(), packet.ports(), packet.is_fragment), (Kind::Fin, Some((40000, 23)), false));
}

#[test]
fn the_first_fragment_tells_what_it_can_and_later_ones_nothing() {
    let mut first = syn(64, 1, false, 512, &[]);
    first[6] = 0x20;
    let packet = Packet::parse(&first).unwrap();
    assert_eq!((packet.is_fragment, packet.kind(), packet.ports()), (true, Kind::Syn, Some((40000, 23))));
    // nmap -f: eight bytes of TCP, so the ports and no flags.
    let packet = Packet::parse(&first[..28]).unwrap();
    assert_eq!(packet.transport, Transport::Partial { protocol: 6, ports: Some((40000, 23)) });
    assert_eq!((packet.kind(), packet.proto()), (Kind::Other, Proto::Tcp));
    let mut later = first.clone();
    later[7] = 1;
    let packet = Packet::parse(&later).unwrap();
    assert_eq!(packet.transport, Transport::Partial { protocol: 6, ports: None });
    // The same in IPv6, at offset 8.
    let mut rest = vec![17, 0, 0, 9, 0, 0, 0, 9];
    rest.extend([0x9c, 0x40, 0, 53, 0, 8, 0, 0]);
    let packet = Packet::parse(&v6(44, &rest)).unwrap();
    assert_eq!(packet.transport, Transport::Partial { protocol: 17, ports: None });
    rest[3] = 1;
    let packet = Packet::parse(&v6(44, &rest)).unwrap();
    assert_eq!((packet.kind(), packet.ports(), packet.is_fragment), (Kind::Udp, Some((40000, 53)), true));
}

#[test]
fn the_other_protocols_have_their_names() {
    let of = |next: u8, rest: &[u8]| Packet::parse(&v6(next, rest)).unwrap();
    let ping = of(58, &[128, 0, 0, 0]);
    assert_eq!(ping.transport, Transport::Icmp { v6: true, icmp_type: 128, code: 0 });
    assert_eq!((ping.proto(), ping.kind(), ping.ports()), (Proto::Icmpv6, Kind::Other, None));
    assert_eq!(of(132, &[0; 12]).proto(), Proto::Sctp);
    assert_eq!(of(47, &[0; 4]).transport, Transport::Other(47));
    assert_eq!(of(58, &[128]).transport, Transport::Partial { protocol: 58, ports: None });
}

#[test]
fn what_makes_no_sense_is_an_error_or_partial() {
    assert_eq!(Packet::parse(&[]), Err(ParseError::Truncated));
    assert_eq!(Packet::parse(&[0x45; 19]), Err(ParseError::Truncated));
    assert_eq!(Packet::parse(&[0x60; 39]), Err(ParseError::Truncated));
    assert_eq!(Packet::parse(&[0x44; 60]), Err(ParseError::NotIp));
    assert_eq!(Packet::parse(&[0x50; 60]), Err(ParseError::NotIp));
    // A TCP header that claims to be shorter than it can be.
    let mut odd = syn(64, 1, false, 512, &[]);
    odd[32] = 0x10;
    let packet = Packet::parse(&odd).unwrap();
    assert_eq!(packet.transport, Transport::Partial { protocol: 6, ports: Some((40000, 23)) });
}

/// Bytes that begin as an IP packet does, so that they get further than noise would.
fn likely() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![0x45u8..=0x4f, Just(0x60u8)];
    let next = prop_oneof![
        Just(0u8),
        Just(6),
        Just(17),
        Just(43),
        Just(44),
        Just(51),
        Just(58),
        Just(60),
        any::<u8>()
    ];
    (first, next, proptest::collection::vec(prop_oneof![0u8..8, any::<u8>()], 0..200)).prop_map(
        |(first, next, mut bytes)| {
            for (at, byte) in [(0, first), (6, next), (9, next)] {
                if let Some(place) = bytes.get_mut(at) {
                    *place = byte;
                }
            }
            bytes
        },
    )
}

fn ask_everything(bytes: &[u8]) {
    if let Ok(packet) = Packet::parse(bytes) {
        let _ = (packet.kind(), packet.proto(), packet.ports(), packet.unusual_flags(), packet.signature());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_bytes_are_too_odd(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        ask_everything(&bytes);
    }

    #[test]
    fn no_header_is_too_odd(bytes in likely()) {
        ask_everything(&bytes);
    }

    #[test]
    fn a_packet_may_be_cut_anywhere(at in 0..60usize, flags in any::<u8>()) {
        let mut bytes = syn(64, 1, true, 512, &[MSS]);
        bytes[33] = flags;
        let whole = Packet::parse(&bytes).unwrap();
        let cut = Packet::parse(&bytes[..at.min(bytes.len())]);
        match at {
            ..20 => prop_assert_eq!(cut, Err(ParseError::Truncated)),
            20..24 => prop_assert_eq!(cut.unwrap().ports(), None),
            24..44 => prop_assert_eq!(cut.unwrap().ports(), whole.ports()),
            44.. => prop_assert_eq!(cut.unwrap(), whole),
        }
    }
}
