//! How much of the banner answers a datagram, so that nobody gains by forging its source. The answer has at most half of
//! its bytes: decoys that are made to answer each other, here or on two machines, soon have nothing to say, and all
//! they said together is less than was sent. No service's own port is answered, which might answer again, and no
//! decoy of our own.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use psentry_records::canonical;

use crate::decoy::Decoy;
use crate::probe::Contact;
use crate::settings::Handling;
use crate::udp::Datagram;

/// Below it are the ports of services, and no program that probes.
const FIRST_CLIENT_PORT: u16 = 1024;

/// Which datagrams are answered, and with what.
#[derive(Debug)]
pub(crate) struct Answers {
    /// Empty: nothing.
    banner: Vec<u8>,
    /// Where our own UDP decoys are bound.
    own: BTreeSet<SocketAddr>,
}

impl Answers {
    /// What `handling` asks for, and nothing to `decoys`.
    pub(crate) fn new(handling: &Handling, decoys: &[Decoy]) -> Self {
        let banner = if handling.answer_udp { handling.banner.clone() } else { Vec::new() };
        let udp = decoys.iter().filter(|decoy| matches!(decoy, Decoy::Udp(_))).map(Decoy::local);
        let own = udp.map(|local| SocketAddr::new(canonical(local.ip()), local.port())).collect();
        Answers { banner, own }
    }

    /// The answer to `datagram`; empty: none.
    pub(crate) fn to(&self, datagram: &Datagram) -> &[u8] {
        let Contact { source, dest, .. } = datagram.contact;
        if datagram.to_all || source.port() < FIRST_CLIENT_PORT || self.is_own(source, dest.ip()) {
            return &[];
        }
        self.banner.get(..datagram.length / 2).unwrap_or(&self.banner)
    }

    /// Whether `source`, which sent something to `dest`, is a decoy of our own. One that is bound to all addresses
    /// is at `dest`, too.
    fn is_own(&self, source: SocketAddr, dest: IpAddr) -> bool {
        let (addr, port) = (canonical(source.ip()), source.port());
        let bound_to = |addr: IpAddr| self.own.contains(&SocketAddr::new(addr, port));
        let here = addr == canonical(dest) || addr.is_loopback();
        let to_all = || bound_to(Ipv6Addr::UNSPECIFIED.into()) || bound_to(Ipv4Addr::UNSPECIFIED.into());
        bound_to(addr) || (here && to_all())
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use psentry_records::Timestamp;
    use socket2::Socket;

    use super::*;
    use crate::probe::Transport;
    use crate::udp::ReceiveBuffer;

    fn handling() -> Handling {
        Handling { banner: vec![b'x'; 100], answer_udp: true, ..Handling::default() }
    }

    fn decoy(addr: &str) -> Decoy {
        Decoy::new(Socket::from(UdpSocket::bind(addr).unwrap())).unwrap()
    }

    fn earned(answers: &Answers, source: &str, dest: &str, length: usize) -> usize {
        let (source, dest) = (source.parse().unwrap(), dest.parse().unwrap());
        let contact =
            Contact { at: Timestamp::now(), source, dest, transport: Transport::Udp, mirage: false };
        answers.to(&Datagram { contact, length, to_all: false }).len()
    }

    /// Sends 64 bytes from the first decoy to the second, as a forger makes it seem, and says how many datagrams come
    /// of it. Loopback delivers within send(2).
    fn bounced(decoys: &[Decoy; 2], answers: &Answers) -> usize {
        let [Decoy::Udp(first), Decoy::Udp(second)] = decoys else { panic!("not UDP") };
        let to = SocketAddr::from(([127, 0, 0, 1], second.local.port()));
        first.socket.send_to(&[0; 64], &to.into()).unwrap();
        let mut buffer = ReceiveBuffer::new(0);
        let mut count = 0;
        while let Some((decoy, datagram)) =
            [first, second].into_iter().find_map(|at| at.receive(&mut buffer).ok().map(|got| (at, got)))
        {
            count += 1;
            assert!(count < 1000, "an endless exchange");
            decoy.answer(&datagram, answers.to(&datagram));
        }
        count
    }

    #[test]
    fn decoys_of_one_program_do_not_answer_each_other() {
        for bound in ["127.0.0.1:0", "0.0.0.0:0"] {
            let decoys = [decoy(bound), decoy(bound)];
            assert_eq!(bounced(&decoys, &Answers::new(&handling(), &decoys)), 1, "{bound}");
        }
    }

    #[test]
    fn decoys_of_two_machines_soon_have_nothing_to_say() {
        let decoys = [decoy("127.0.0.1:0"), decoy("127.0.0.1:0")];
        // 64 bytes, 32, 16, 8, 4, 2, and 1.
        assert_eq!(bounced(&decoys, &Answers::new(&handling(), &[])), 7);
    }

    #[test]
    fn a_decoy_on_all_addresses_is_known_on_each() {
        let decoys = [decoy("[::]:0")];
        let answers = Answers::new(&handling(), &decoys);
        let port = decoys[0].local().port();
        for (source, dest, want) in [
            ("[::ffff:192.0.2.1]", "192.0.2.1", 0),
            ("[2001:db8::1]", "[2001:db8::1]", 0),
            ("127.0.0.1", "127.0.0.2", 0),
            ("198.51.100.7", "192.0.2.1", 10),
        ] {
            let (source, dest) = (format!("{source}:{port}"), format!("{dest}:6000"));
            assert_eq!(earned(&answers, &source, &dest, 20), want, "{source}");
        }
        assert_eq!(earned(&answers, "192.0.2.1:1024", "192.0.2.1:6000", 20), 10, "no decoy's port");
    }

    #[test]
    fn services_and_nobody_are_not_answered() {
        let answers = Answers::new(&handling(), &[]);
        let earned =
            |port: u16, length| earned(&answers, &format!("192.0.2.7:{port}"), "192.0.2.1:69", length);
        assert_eq!(earned(0, 100), 0);
        assert_eq!(earned(53, 100), 0);
        assert_eq!(earned(1024, 100), 50);
        assert_eq!(earned(40_000, 1000), 100);
        assert_eq!(earned(40_000, 1), 0);
        assert_eq!(earned(40_000, 0), 0);
        let mute = Answers::new(&Handling { answer_udp: false, ..handling() }, &[]);
        assert!(mute.banner.is_empty());
    }
}
