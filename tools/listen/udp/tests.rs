//! Over loopback: where datagrams go, and where their answers come from.

use std::net::UdpSocket;

use super::*;

fn decoy(addr: &str) -> UdpDecoy {
    let socket = Socket::from(UdpSocket::bind(addr).unwrap());
    let local = socket.local_addr().unwrap().as_socket().unwrap();
    UdpDecoy::new(socket, local).unwrap()
}

/// Loopback delivers within send(2): no need to wait.
fn received(decoy: &UdpDecoy) -> Datagram {
    decoy.receive(&mut ReceiveBuffer::new(4)).unwrap()
}

#[test]
fn a_blocking_socket_becomes_non_blocking() {
    assert_eq!(decoy("127.0.0.1:0").receive(&mut ReceiveBuffer::new(0)).unwrap_err(), Errno::EAGAIN);
}

#[test]
fn the_address_that_was_reached_is_known() {
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    for bound in ["0.0.0.0:0", "127.0.0.2:0", "[::]:0"] {
        let decoy = decoy(bound);
        client.send_to(b"hello", ("127.0.0.2", decoy.local.port())).unwrap();
        let datagram = received(&decoy);
        assert_eq!(datagram.contact.dest.ip(), IpAddr::from([127, 0, 0, 2]), "{bound}");
        assert_eq!(canonical(datagram.contact.source.ip()), IpAddr::from([127, 0, 0, 1]));
        assert_eq!(datagram.contact.source.port(), client.local_addr().unwrap().port());
        assert!(!datagram.to_all, "{bound}");
    }
}

#[test]
fn a_datagram_from_before_the_start_is_a_probe() {
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    for bound in ["0.0.0.0:0", "127.0.0.2:0", "[::]:0"] {
        let socket = Socket::from(UdpSocket::bind(bound).unwrap());
        let local = socket.local_addr().unwrap().as_socket().unwrap();
        client.send_to(b"hello", ("127.0.0.2", local.port())).unwrap();
        let datagram = received(&UdpDecoy::new(socket, local).unwrap());
        assert_eq!(datagram.contact.dest.ip(), IpAddr::from([127, 0, 0, 2]), "{bound}");
        assert!(!datagram.to_all, "{bound}");
    }
}

#[test]
fn ipv6_addresses_are_known_too() {
    let (decoy, client) = (decoy("[::]:0"), UdpSocket::bind("[::1]:0").unwrap());
    client.send_to(b"hello", ("::1", decoy.local.port())).unwrap();
    let datagram = received(&decoy);
    assert_eq!(datagram.contact.dest.ip(), "::1".parse::<IpAddr>().unwrap());
    assert!(!datagram.to_all);
}

#[test]
fn a_broadcast_is_known_on_both_kinds_of_socket() {
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_broadcast(true).unwrap();
    for bound in ["0.0.0.0:0", "[::]:0"] {
        let decoy = decoy(bound);
        client.send_to(b"anybody?", ("127.255.255.255", decoy.local.port())).unwrap();
        assert!(received(&decoy).to_all, "{bound}");
    }
}

#[test]
fn a_long_datagram_is_cut_and_its_length_known() {
    let (decoy, client) = (decoy("127.0.0.1:0"), UdpSocket::bind("127.0.0.1:0").unwrap());
    let mut buffer = ReceiveBuffer::new(4);
    for (sent, kept) in [(&b"hello"[..], &b"hell"[..]), (b"hi", b"hi"), (b"", b"")] {
        client.send_to(sent, decoy.local).unwrap();
        let datagram = decoy.receive(&mut buffer).unwrap();
        assert_eq!(datagram.length, sent.len());
        assert_eq!(buffer.head(datagram.length), kept);
    }
}

#[test]
fn an_answer_comes_from_where_the_question_went() {
    for (bound, asked, from) in [
        ("0.0.0.0:0", "127.0.0.2", "127.0.0.1"),
        ("[::]:0", "127.0.0.2", "127.0.0.1"),
        ("[::]:0", "::1", "::1"),
    ] {
        let (decoy, client) = (decoy(bound), UdpSocket::bind((from, 0)).unwrap());
        client.connect((asked, decoy.local.port())).unwrap();
        client.send(b"a question").unwrap();
        let datagram = received(&decoy);
        decoy.answer(&datagram, b"");
        decoy.answer(&datagram, b"answer");
        let mut answer = [0; 20];
        // The client is connected: an answer from another address would not reach it.
        client.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
        let length = client.recv(&mut answer).unwrap();
        assert_eq!(&answer[..length], b"answer", "{bound}");
    }
}

#[test]
fn a_mirage_answers_nothing() {
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_nonblocking(true).unwrap();
    let decoy = decoy("127.0.0.1:0");
    for (mirage, answered) in [(true, false), (false, true)] {
        let decoy = UdpDecoy { mirage, socket: decoy.socket.try_clone().unwrap(), ..decoy };
        client.send_to(b"a question", decoy.local).unwrap();
        decoy.answer(&received(&decoy), b"answer");
        assert_eq!(client.recv(&mut [0; 20]).is_ok(), answered);
    }
}
