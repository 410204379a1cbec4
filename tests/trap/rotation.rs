//! A scanner of IPv6 that has a network of its own, and a new /64 for each port: a few ports later the network is in
//! quarantine. Who else has several /64s is not.

use super::{probes, python, trap};
use crate::lab::{GUARD, Lab, Program, wait_until};

const SERVICE: u16 = 8088;

/// Among the first 1,100 ports.
const SERVICES: [u16; 8] = [22, 25, 80, 110, 443, 587, 993, 1080];

/// What became of a connection to each port from each source, one after the other. Arguments: address, ports and sources,
/// with commas between them. A SYN that is lost would come again after a second.
pub const TRY: &str = r#"
import socket, sys
for port in sys.argv[2].split(','):
    for source in sys.argv[3].split(','):
        try:
            socket.create_connection((sys.argv[1], int(port)), timeout=0.9, source_address=(source, 0))
            print('taken')
        except ConnectionResetError: print('taken') # and reset at once, as a decoy does
        except ConnectionRefusedError: print('refused')
        except TimeoutError: print('silence')
"#;

/// Connects to the ports from 1 to 1100, in random order and from a new network each, all within a second or so; SYNs that
/// are lost come again. Prints the ports that were open. Arguments: address, how far the networks lie apart, which order.
const ROTATE: &str = r#"
import errno, random, resource, select, socket, sys, time
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
ports = list(range(1, 1101))
random.Random(int(sys.argv[3])).shuffle(ports)
sockets, poll = {}, select.epoll()
for n, port in enumerate(ports):
    s = socket.socket(socket.AF_INET6, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    network = (n * int(sys.argv[2])) % 65536 + n * int(sys.argv[2]) // 65536
    s.bind((f'2001:db8:7:{network:x}::7', 0))
    assert s.connect_ex((sys.argv[1], port)) == errno.EINPROGRESS
    poll.register(s, select.EPOLLOUT)
    sockets[s.fileno()] = s, port
end = time.monotonic() + 4
while (left := end - time.monotonic()) > 0:
    for fd, _ in poll.poll(left):
        s, port = sockets.pop(fd)
        if s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0: print(port)
        poll.unregister(fd)
        s.close()
"#;

/// Gives the scanner every address of its /48, and those of a translator.
pub fn route_any(lab: &Lab) {
    lab.scanner.sh("ip -6 route add local 2001:db8:7::/48 dev lo; ip -6 route add local 64:ff9b::/96 dev lo
                    echo 1 > /proc/sys/net/ipv6/ip_nonlocal_bind");
    lab.guard.sh("ip neigh add fe80::2 lladdr 02:00:00:00:07:02 dev scanner
         ip -6 route replace 2001:db8:7::/48 via fe80::2 dev scanner
         ip -6 route add 64:ff9b::/96 via fe80::2 dev scanner");
}

/// What becomes of connections from these /64s of the scanner's network to these ports.
pub fn tries(lab: &Lab, ports: &[u16], networks: &[u16]) -> Vec<String> {
    let ports = ports.iter().map(u16::to_string).collect::<Vec<_>>().join(",");
    let sources =
        networks.iter().map(|network| format!("2001:db8:7:{network:x}::9")).collect::<Vec<_>>().join(",");
    python(&lab.scanner, TRY, &[GUARD[1], &ports, &sources]).lines().map(str::to_owned).collect()
}

#[test]
fn a_scanner_with_a_network_of_its_own_learns_next_to_nothing() {
    let lab = Lab::new();
    route_any(&lab);
    let _services: Vec<Program> = SERVICES.iter().map(|port| lab.service(*port)).collect();
    let scan = |apart: &str, order: &str| {
        let found = python(&lab.scanner, ROTATE, &[GUARD[1], apart, order]);
        found.lines().map(|port| port.parse::<u16>().unwrap()).collect::<Vec<_>>()
    };
    let mut open = scan("1", "0");
    open.sort_unstable();
    assert_eq!(open, SERVICES, "where nothing guards");
    // A new /64 each, a new /56 each, and networks far from each other.
    for (apart, order) in [("1", "1"), ("256", "2"), ("4099", "3")] {
        let mut trap = trap(&lab, &[]);
        let learnt = scan(apart, order);
        assert!(learnt.len() <= 2, "{apart}: {learnt:?} of {} open ports learnt", SERVICES.len());
        assert!(lab.innocent.reaches(GUARD[1], SERVICES[0]));
        assert_eq!(tries(&lab, &[SERVICES[0]], &[0xfff0]), ["silence"], "{apart}: the /48 is in quarantine");
        wait_until("and is out of it seconds later", || tries(&lab, &[SERVICES[0]], &[0xfff0]) == ["taken"]);
        let (_, lines, _) = trap.terminate();
        assert!(super::counter(&lines, "quarantined_wider") > 0);
        assert!(
            probes(&lines).iter().all(|probe| probe.body.quarantine != Some(10)),
            "a record is of the source"
        );
    }
}

#[test]
fn the_third_64_shuts_its_56_and_the_third_56_the_48() {
    let lab = Lab::new();
    route_any(&lab);
    let _service = lab.service(SERVICE);
    let mut trap = trap(&lab, &[]);
    let reaches = |network| tries(&lab, &[SERVICE], &[network]) == ["taken"];
    // Without waiting for an answer in between, which would take all of the ten seconds.
    let touch = |touches: &[(u16, u16)]| {
        let scans: Vec<Program> = touches
            .iter()
            .map(|(network, port)| {
                let (port, from) = (port.to_string(), format!("2001:db8:7:{network:x}::9"));
                Program::start(lab.scanner.command("python3").args(["-c", TRY, GUARD[1], &port, &from]))
            })
            .collect();
        scans.into_iter().for_each(|mut scan| assert!(scan.end().1 == ["silence"]));
    };
    touch(&[(0x101, 1), (0x102, 2)]);
    assert!(reaches(0x1ff), "two are not enough");
    touch(&[(0x103, 3)]);
    assert!(!reaches(0x1fe) && reaches(0x200), "the /56, and no more");
    wait_until("the quarantine of the /56 is over", || reaches(0x1fd));
    wait_until("and what was counted", || {
        let list = |set| lab.guard.read(&["nft", "list", "set", "inet", "psentry_trap", set]);
        !["lately64", "lately56", "lately_ports48"].iter().any(|set| list(set).contains("elements"))
    });
    touch(&[(0x301, 1), (0x401, 2), (0x501, 3)]);
    assert!(!reaches(0x600), "the /48");
    assert!(lab.innocent.reaches(GUARD[1], SERVICE));
    assert!(super::counter(&trap.terminate().1, "quarantined_wider") >= 2);
}

/// A scanner that has one /64; the clients of a service that is down, all of whom ask for one port.
#[test]
fn one_scanner_and_many_clients_of_one_service_shut_no_network() {
    let lab = Lab::new();
    route_any(&lab);
    let _service = lab.service(SERVICE);
    let mut trap = trap(&lab, &[]);
    assert!(tries(&lab, &[1, 2, 3, 4, 5, 6], &[0x101]).iter().all(|end| end == "silence"));
    assert_eq!(tries(&lab, &[SERVICE], &[0x102]), ["taken"]);
    let many: Vec<u16> = (0x20..0x28).map(|n| n << 8 | 1).collect();
    assert!(tries(&lab, &[993], &many).iter().all(|end| end == "silence"));
    assert_eq!(tries(&lab, &[SERVICE], &[0x2002, 0x3000]), ["taken", "taken"]);
    assert_eq!(super::counter(&trap.terminate().1, "quarantined_wider"), 0);
}

/// Neither this machine's own /48, nor that of its gateway or of what `--allow` names.
#[test]
fn networks_that_hold_friends_are_never_shut_as_a_whole() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "2001:db8:7:ffff::/64\n").unwrap();
    let path = file.path().to_str().unwrap();
    for (flags, fact) in [
        (&["--allow", path][..], "true"),
        (&[], "ip address add 2001:db8:7:ffff::1/128 dev lo nodad"),
        (&[], "ip -6 route add default via 2001:db8:7:ffff::2 dev scanner onlink"),
    ] {
        let lab = Lab::new();
        route_any(&lab);
        lab.guard.sh(fact);
        let _service = lab.service(SERVICE);
        let _trap = trap(&lab, flags);
        for port in 1..=4 {
            assert_eq!(tries(&lab, &[port], &[0x100 + port]), ["silence"]);
        }
        assert_eq!(tries(&lab, &[SERVICE], &[0x1ff]), ["taken"], "{flags:?} {fact}");
    }
}
