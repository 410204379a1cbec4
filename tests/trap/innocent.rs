//! Who uses real services is never told of and never shut out: connections in all their endings, a server that
//! restarts, late packets, replies that come late, published ports, datagrams, pings, traceroute.

use psentry_records::Class;

use super::{counter, probe, probes, python, quarantined, trap, unseen};
use crate::lab::{GUARD, INNOCENT, Lab, Program, SCANNER, wait_until};

/// A server on a port, for connections that end in every way there is. Arguments: address, port.
const SERVER: &str = r#"
import socket, struct, sys, threading
server = socket.create_server((sys.argv[1], int(sys.argv[2])), family=socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET, backlog=128)
print('ready', flush=True)
count = 0
def talk(client, count):
    try:
        if count % 3 == 0: client.close(); return
        if count % 3 == 1: client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0)); client.recv(10); client.close(); return
        while client.recv(100): client.sendall(b'x' * 1000)
        client.sendall(b'bye'); client.close()
    except OSError: pass
while True:
    client, _ = server.accept(); count += 1
    threading.Thread(target=talk, args=(client, count)).start()
"#;

/// Connections to a port that end in every way there is. Arguments: address, port, how many. A refusal is no error.
const CLIENT: &str = r#"
import socket, struct, sys
address, port, many = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
done = refused = 0
for n in range(many):
    try:
        s = socket.create_connection((address, port), timeout=5)
        if n % 4 == 0: s.sendall(b'hello'); s.recv(100)
        if n % 4 == 1: s.sendall(b'hello'); s.shutdown(socket.SHUT_WR); s.recv(100000)
        if n % 4 == 2: s.sendall(b'x' * 5000); s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        s.close(); done += 1
    except ConnectionRefusedError: refused += 1
    except OSError: done += 1 # a reset, at whatever moment
print(done, refused)
"#;

/// A UDP service. Arguments: address, port.
const ECHO: &str = r#"
import socket, sys
s = socket.socket(socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
s.bind((sys.argv[1], int(sys.argv[2])))
print('ready', flush=True)
while True: s.sendto(*s.recvfrom(9000))
"#;

/// Asks a UDP service all the time, until its input ends: by turns from one port and from a new one each time. Says what
/// becomes of it whenever that changes; "refused" is an ICMP error, of which the kernel sends few. Arguments: address, port.
const ASK: &str = r#"
import select, socket, sys
family = socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET
def fresh():
    s = socket.socket(family, socket.SOCK_DGRAM); s.settimeout(0.1); s.connect((sys.argv[1], int(sys.argv[2])))
    return s
kept, before, count = fresh(), '', 0
while not select.select([sys.stdin], [], [], 0)[0]:
    count += 1
    asking = kept if count % 2 else fresh()
    try: asking.send(b'question'); asking.recv(100); now = 'answered'
    except ConnectionRefusedError: now = 'refused'
    except TimeoutError: now = 'silence'
    if now != before: print(now, flush=True)
    before = now
"#;

fn server(lab: &Lab, address: &str, port: u16) -> Program {
    let mut server =
        Program::start(lab.guard.command("python3").args(["-c", SERVER, address, &port.to_string()]));
    server.line("the server", |line| line == "ready");
    server
}

/// Ten thousand of them.
#[test]
fn connections_end_in_every_way() {
    let lab = Lab::new();
    let _servers = [server(&lab, "0.0.0.0", 8080), server(&lab, "::", 8081)];
    let trap = trap(&lab, &[]);
    for (guard, port) in GUARD.into_iter().zip(["8080", "8081"]) {
        assert_eq!(python(&lab.innocent, CLIENT, &[guard, port, "5000"]), "5000 0\n");
    }
    unseen(trap);
}

#[test]
fn a_server_that_restarts_traps_none_of_its_clients() {
    let lab = Lab::new();
    let mut first = server(&lab, "0.0.0.0", 8080);
    let trap = trap(&lab, &[]);
    let client = ["-c", CLIENT, GUARD[0], "8080", "4000"];
    let mut clients: Vec<Program> =
        (0..2).map(|_| Program::start(lab.innocent.command("python3").args(client))).collect();
    for _ in 0..3 {
        assert!(lab.innocent.reaches(GUARD[0], 8080));
        first.terminate();
        lab.innocent.run(&["nc", "-z", "-n", "-w", "1", GUARD[0], "8080"]);
        first = server(&lab, "0.0.0.0", 8080);
    }
    let mut refused = 0;
    for client in &mut clients {
        let (status, lines, errors) = client.end();
        assert!(status.success(), "{errors:?}");
        refused += lines[0].split_whitespace().nth(1).unwrap().parse::<u32>().unwrap();
    }
    assert!(refused > 0, "the restart was noticed");
    unseen(trap);
}

/// Each bound to its address, so that the answer comes from there.
fn echoes(lab: &Lab) -> [Program; 2] {
    GUARD.map(|guard| {
        let mut echo = Program::start(lab.guard.command("python3").args(["-c", ECHO, guard, "5353"]));
        echo.line("the echo", |line| line == "ready");
        echo
    })
}

/// The trap stands before the service, so that only the packets that its sockets took speak for the port.
#[test]
fn a_udp_server_that_restarts_traps_none_of_its_clients() {
    let lab = Lab::new();
    let trap = trap(&lab, &[]);
    let mut echo = echoes(&lab);
    let mut clients = GUARD
        .map(|guard| Program::start_fed(lab.innocent.command("python3").args(["-c", ASK, guard, "5353"])));
    let mut all = |what| clients.iter_mut().for_each(|client| drop(client.line(what, |line| line == what)));
    all("answered");
    for _ in 0..3 {
        // What the trap saw when it looked around is not what is tested here.
        lab.guard.read(&["nft", "flush", "set", "inet", "psentry_trap", "served_ports"]);
        echo.iter_mut().for_each(|echo| drop(echo.terminate()));
        all("refused");
        echo = echoes(&lab);
        all("answered");
    }
    for client in &mut clients {
        let (status, _, errors) = client.end();
        assert!(status.success(), "{errors:?}");
    }
    unseen(trap);
}

/// What comes after a connection is gone, and answers to questions nobody waits for any more.
#[test]
fn late_packets_to_ports_that_were_used_are_no_probes() {
    let lab = Lab::new();
    let mut server = server(&lab, "0.0.0.0", 8080);
    let mut trap = trap(&lab, &[]);
    assert_eq!(python(&lab.innocent, CLIENT, &[GUARD[0], "8080", "4"]), "4 0\n");
    server.terminate();
    for flags in [
        &["-sA", "-p", "8080"][..],
        &["-sF", "-p", "8080"],
        &["-sM", "-p", "8080"],
        &["-sS", "--scanflags", "RST", "-p", "8080,40000,81"],
        &["-sS", "--scanflags", "SYNACK", "-p", "8080,40000,81"],
        &["-sU", "-g", "53", "-p", "40000-40010"],
        &["-sU", "-g", "123", "-p", "50000"],
    ] {
        let head = ["nmap", "-n", "-Pn", "--max-retries", "0"];
        lab.innocent.read(&[&head[..], flags, &[GUARD[0]]].concat());
    }
    let (status, lines, errors) = trap.terminate();
    assert!(status.success() && probes(&lines).is_empty(), "{lines:#?} {errors:?}");
    // Late answers to ports of our own clients are not told of, but not answered either: 11 and 1.
    let counted = ["seen", "quarantined", "refused"].map(|name| counter(&lines, name));
    assert_eq!(counted, [0, 0, 12], "{lines:#?}");
}

/// A service on one address or on one version of IP: whoever tries the other first is answered, told of, and no scanner.
#[test]
fn a_service_on_one_address_is_no_trap_on_the_others() {
    let lab = Lab::new();
    let _server = server(&lab, GUARD[0], 8080);
    let mut trap = trap(&lab, &[]);
    for address in [GUARD[1], "192.0.2.1"] {
        assert_eq!(python(&lab.innocent, CLIENT, &[address, "8080", "3"]), "0 3\n", "refused at once");
        let stray = probe(&mut trap, "a stray", |probe| {
            probe.common.dest_ip.is_some_and(|to| to.to_string() == address)
        });
        assert_eq!((stray.body.class, stray.body.quarantine), (Some(Class::Stray), None));
    }
    assert_eq!(python(&lab.innocent, CLIENT, &[GUARD[0], "8080", "3"]), "3 0\n");
    assert_eq!(quarantined(&lab), [false; 2]);
}

/// What listens on loopback alone serves nobody else: its port is as closed as any other, and not told from those.
#[test]
fn a_service_on_loopback_alone_is_a_trap_to_others() {
    let lab = Lab::new();
    for address in ["127.0.0.1", "::1"] {
        let _server = server(&lab, address, 8080);
        for (family, guard) in GUARD.into_iter().enumerate() {
            let mut trap = trap(&lab, &[]);
            assert!(lab.guard.reaches(address, 8080));
            assert!(lab.scanner.is_shut_out(guard, 8080) && quarantined(&lab)[family]);
            let found = probe(&mut trap, "a probe", |probe| probe.common.dest_port == Some(8080));
            assert_eq!((found.body.class, found.body.quarantine), (Some(Class::Probe), Some(30)));
            trap.terminate();
        }
    }
}

#[test]
fn a_published_port_is_nobodys_trap() {
    let lab = Lab::new();
    let _behind = lab.scanner.sends("TCP-LISTEN:80,fork", "/run/hello");
    lab.guard.sh(&format!(
        "echo 1 > /proc/sys/net/ipv4/ip_forward
         nft 'table ip nat {{ chain pre {{ type nat hook prerouting priority dstnat; tcp dport 8443 dnat to {}:80; }}; }}'",
        SCANNER[0]
    ));
    let trap = trap(&lab, &[]);
    wait_until("the published service answers", || lab.innocent.reaches(GUARD[0], 8443));
    for _ in 0..20 {
        assert!(lab.innocent.reaches(GUARD[0], 8443));
    }
    unseen(trap);
}

#[test]
fn datagrams_pings_and_traceroute_are_fine() {
    let lab = Lab::new();
    let _echo = echoes(&lab);
    let trap = trap(&lab, &[]);
    for (guard, target) in
        [(GUARD[0], format!("UDP4:{}:5353", GUARD[0])), (GUARD[1], format!("UDP6:[{}]:5353", GUARD[1]))]
    {
        for _ in 0..5 {
            assert_eq!(
                lab.innocent.sh(&format!("echo hello | socat -t 1 - {target}")),
                "hello\n",
                "{target}"
            );
        }
        lab.innocent.read(&["ping", "-n", "-c", "3", "-i", "0.2", guard]);
        lab.innocent.read(&["traceroute", "-n", guard]);
        lab.innocent.read(&["traceroute", "-n", "-I", guard]);
    }
    // The answers to the guard's own: replies, and errors about what it sent.
    lab.guard.read(&["ping", "-n", "-c", "1", INNOCENT[0]]);
    lab.guard.read(&["traceroute", "-n", INNOCENT[0]]);
    lab.guard.sh(&format!("echo question | socat -t 0.2 - UDP4:{}:9", INNOCENT[0]));
    assert!(!lab.guard.reaches(INNOCENT[0], 9));
    unseen(trap);
}
