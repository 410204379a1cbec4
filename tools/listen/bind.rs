//! The ports of `--tcp`, `--udp` and `--mirage`, bound here. A port that cannot be had costs one decoy: all that failed alike
//! are reported in one sentence, and the rest are opened.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use nix::errno::Errno;
use psentry_records::DECOY_MARK;
use psentry_stage::Complaints;
use socket2::{Domain, Protocol, Socket, Type};

use crate::decoy::{Decoy, Unfit};
use crate::handshake::SavedSyns;
use crate::settings::Settings;
use crate::{mirage, ports};

/// Where a decoy is bound if nothing else is said.
const EVERYWHERE: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

/// How many connections the kernel completes ahead of accept(2). It cuts this to net.core.somaxconn.
const BACKLOG: i32 = 4096;

/// What several ports that could not be opened have in common, for one message about all of them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Failure {
    purpose: Purpose,
    proto: Proto,
    addr: IpAddr,
    errno: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Proto {
    Tcp,
    Udp,
}

/// What a socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Purpose {
    /// A decoy on its own port.
    Port,
    /// A decoy on every port.
    Mirage,
}

/// The ports that could be opened.
#[derive(Debug, Default)]
pub(crate) struct Opened {
    pub(crate) decoys: Vec<Decoy>,
    /// Whether rights were lacking for some of the others.
    pub(crate) lacked_rights: bool,
}

/// Opens the requested ports.
pub(crate) fn open(settings: &Settings, complaints: &mut Complaints) -> Opened {
    let mut opened = Opened::default();
    let mut failures: BTreeMap<Failure, BTreeSet<u16>> = BTreeMap::new();
    let only_v6 = settings.bind.iter().any(IpAddr::is_ipv4);
    for (purpose, proto, port, addr) in wanted(settings) {
        let result = if addr == EVERYWHERE && !(only_v6 && purpose == Purpose::Port) {
            anywhere(purpose, proto, port)
        } else {
            bind(purpose, proto, SocketAddr::new(addr, port), only_v6)
        };
        match result {
            Ok(decoy) => opened.decoys.push(decoy),
            Err(error) => {
                let errno = error.raw_os_error().unwrap_or_default();
                opened.lacked_rights |= is_lack_of_rights(Errno::from_raw(errno));
                failures.entry(Failure { purpose, proto, addr, errno }).or_default().insert(port);
            }
        }
    }
    for (failure, ports) in &failures {
        complaints.say(&message(failure, ports));
    }
    opened
}

/// All requested sockets. The kernel redirects packets to any address to a mirage, so it is bound to all.
fn wanted(settings: &Settings) -> Vec<(Purpose, Proto, u16, IpAddr)> {
    let everywhere = BTreeSet::from([EVERYWHERE]);
    let addrs = if settings.bind.is_empty() { &everywhere } else { &settings.bind };
    let mut wanted = Vec::new();
    for (proto, ports) in [(Proto::Tcp, &settings.tcp), (Proto::Udp, &settings.udp)] {
        for &port in ports {
            wanted.extend(addrs.iter().map(|&addr| (Purpose::Port, proto, port, addr)));
        }
        wanted.extend(settings.mirage.map(|port| (Purpose::Mirage, proto, port, EVERYWHERE)));
    }
    wanted
}

/// On every address: IPv6 and IPv4 in one socket, or IPv4 alone where the machine has no IPv6.
fn anywhere(purpose: Purpose, proto: Proto, port: u16) -> io::Result<Decoy> {
    let result = bind(purpose, proto, (Ipv6Addr::UNSPECIFIED, port).into(), false);
    match result.as_ref().err().and_then(io::Error::raw_os_error).map(Errno::from_raw) {
        Some(Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL) => {
            bind(purpose, proto, (Ipv4Addr::UNSPECIFIED, port).into(), false)
        }
        _ => result,
    }
}

fn bind(purpose: Purpose, proto: Proto, addr: SocketAddr, only_v6: bool) -> io::Result<Decoy> {
    let (kind, protocol) = match proto {
        Proto::Tcp => (Type::STREAM, Protocol::TCP),
        Proto::Udp => (Type::DGRAM, Protocol::UDP),
    };
    let domain = Domain::for_address(addr);
    let socket = Socket::new(domain, kind, Some(protocol))?;
    if addr.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    // It takes CAP_NET_RAW or CAP_NET_ADMIN. Without them there is no psentry-trap that would ask for the mark.
    let _ = socket.set_mark(DECOY_MARK);
    if purpose == Purpose::Mirage {
        mirage::make(&socket, domain)?;
    }
    if proto == Proto::Tcp {
        // Only so that connections of an earlier run, still in TIME_WAIT, do not keep the port. A port that
        // another socket listens on stays refused. For UDP it would share the port, so there it is not set.
        socket.set_reuse_address(true)?;
        // Before there can be a connection.
        SavedSyns::keep(&socket);
    }
    socket.bind(&addr.into())?;
    if proto == Proto::Tcp {
        socket.listen(BACKLOG)?;
    }
    Decoy::new(socket).map_err(|unfit| match unfit {
        Unfit::System(error) => error,
        other => io::Error::other(other),
    })
}

fn is_lack_of_rights(errno: Errno) -> bool {
    matches!(errno, Errno::EACCES | Errno::EPERM)
}

/// Why `ports` are not open, and what to do about it.
fn message(failure: &Failure, ports: &BTreeSet<u16>) -> String {
    let Failure { purpose, proto, addr, errno } = failure;
    let proto = if *proto == Proto::Tcp { "TCP" } else { "UDP" };
    let (noun, is) = if ports.len() == 1 { ("port", "is") } else { ("ports", "are") };
    let whose = match purpose {
        Purpose::Mirage => " of --mirage".to_owned(),
        Purpose::Port if addr.is_unspecified() => String::new(),
        Purpose::Port => format!(" of {addr}"),
    };
    let head = format!("{proto} {noun} {}{whose} {is}", ports::list(ports));
    match Errno::from_raw(*errno) {
        Errno::EADDRINUSE => format!("{head} in use by another program, and so no decoy"),
        Errno::EPERM if *purpose == Purpose::Mirage => {
            format!("{head} not open for lack of rights: let systemd open it, or give CAP_NET_RAW")
        }
        errno if is_lack_of_rights(errno) => {
            format!("{head} not open for lack of rights: let systemd open them, or give CAP_NET_BIND_SERVICE")
        }
        Errno::EADDRNOTAVAIL => {
            format!("{head} not open: this machine does not have the address; see --bind")
        }
        Errno::EMFILE => format!("{head} not open: too many descriptors; raise LimitNOFILE= or ulimit -n"),
        errno => format!("{head} not open: {}", errno.desc()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;
    use crate::settings::Handling;

    fn settings(tcp: &[u16], udp: &[u16], bind: &[&str]) -> Settings {
        Settings {
            tcp: tcp.iter().copied().collect(),
            udp: udp.iter().copied().collect(),
            mirage: None,
            bind: bind.iter().map(|addr| addr.parse().unwrap()).collect(),
            handling: Handling::default(),
            rate: 5000,
            source_rate: 20,
            host: None,
        }
    }

    #[test]
    fn a_busy_port_costs_one_decoy() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (busy, busy_udp) = (tcp.local_addr().unwrap().port(), udp.local_addr().unwrap().port());
        // Port 0: any port that is free.
        for bind in [&[][..], &["127.0.0.1"], &["0.0.0.0", "::"]] {
            let opened = open(&settings(&[0, busy], &[0, busy_udp], bind), &mut Complaints::new("test"));
            let of_busy = opened.decoys.iter().filter(|decoy| decoy.local().is_ipv4()).map(Decoy::local);
            assert!(of_busy.into_iter().all(|local| local.port() != busy), "{bind:?}");
            assert_eq!(opened.decoys.len(), if bind.len() == 2 { 6 } else { 2 }, "{bind:?}");
            assert!(!opened.lacked_rights);
        }
    }

    #[test]
    fn the_mirage_is_on_all_addresses_wherever_the_others_are() {
        let asked = Settings { mirage: Some(7), ..settings(&[5], &[6], &["127.0.0.1"]) };
        let port = |proto, port| (Purpose::Port, proto, port, Ipv4Addr::LOCALHOST.into());
        let mirage = |proto| (Purpose::Mirage, proto, 7, EVERYWHERE);
        let [tcp, udp] = [Proto::Tcp, Proto::Udp];
        assert_eq!(wanted(&asked), [port(tcp, 5), mirage(tcp), port(udp, 6), mirage(udp)]);
    }

    /// So that a SYN that was not kept is a cookie from the first connection on.
    #[test]
    fn syns_are_kept_before_there_can_be_a_connection() {
        let Decoy::Tcp(decoy) = anywhere(Purpose::Port, Proto::Tcp, 0).unwrap() else { panic!("not TCP") };
        assert_eq!(decoy.syns, SavedSyns::Kept);
    }

    #[test]
    fn a_service_on_one_address_keeps_its_port_from_all() {
        let service = TcpListener::bind("127.0.0.1:0").unwrap();
        let error = anywhere(Purpose::Port, Proto::Tcp, service.local_addr().unwrap().port()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn ports_that_failed_alike_are_one_message() {
        let of_purpose = |purpose, errno: Errno, ports: &[u16]| {
            let failure = Failure { purpose, proto: Proto::Tcp, addr: EVERYWHERE, errno: errno as i32 };
            message(&failure, &ports.iter().copied().collect())
        };
        let of = |errno, ports: &[u16]| of_purpose(Purpose::Port, errno, ports);
        assert_eq!(of(Errno::EADDRINUSE, &[22]), "TCP port 22 is in use by another program, and so no decoy");
        assert!(of(Errno::EACCES, &[21, 22, 23, 25]).starts_with("TCP ports 21-23,25 are not open for"));
        assert!(of(Errno::EADDRNOTAVAIL, &[21]).contains("--bind"));
        assert!(of(Errno::EMFILE, &[21]).contains("LimitNOFILE"));
        assert!(of(Errno::ENOMEM, &[21]).contains("memory"));
        let mirage = of_purpose(Purpose::Mirage, Errno::EPERM, &[61999]);
        assert!(mirage.starts_with("TCP port 61999 of --mirage is not open"), "{mirage}");
        assert!(mirage.ends_with("CAP_NET_RAW"), "{mirage}");
    }
}
