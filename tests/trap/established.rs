//! Connections that stand for long are never told of: kept alive over hours, half closed, forgotten by conntrack, or
//! over a path that turns out to be narrower than both ends thought.

use std::io::Write;

use nix::sys::signal::Signal;

use super::{python, trap, unseen};
use crate::lab::{GUARD, Host, Lab, Program, wait_until};

const SERVICE: u16 = 8088;

/// Has conntrack forget all connections, as it does by itself after hours of silence, or in a flood.
const FORGET: &str = r#"
import socket, struct
s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)
s.send(struct.pack('=IHHII', 20, 1 << 8 | 2, 5, 1, 0) + bytes(4))
error, = struct.unpack('=i', s.recv(100)[16:20])
assert error == 0, error
"#;

/// A server that says "eof" when its client has said all; that sends a lot when it is told to, and closes. Arguments:
/// address, port.
const ANSWER_LATE: &str = r#"
import socket, sys
family = socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET
server = socket.create_server((sys.argv[1], int(sys.argv[2])), family=family)
print('ready', flush=True)
client, _ = server.accept(); server.close()
while client.recv(100): pass
print('eof', flush=True)
sys.stdin.readline()
client.sendall(b'x' * 300000); client.close()
print('closed', flush=True)
"#;

/// Leaves nothing but the sockets to speak for connections: neither conntrack nor a port that is remembered.
fn forget(lab: &Lab) {
    python(&lab.guard, FORGET, &[]);
    for set in ["served_ports", "served4", "served6"] {
        lab.guard.read(&["nft", "flush", "set", "inet", "psentry_trap", set]);
    }
}

/// How many probes of its own connections a host has sent to keep them alive.
fn kept_alive(host: &Host) -> u32 {
    let shown = host.read(&["nstat", "-asz", "TcpExtTCPKeepAlive"]);
    shown.split_whitespace().skip_while(|word| *word != "TcpExtTCPKeepAlive").nth(1).unwrap().parse().unwrap()
}

fn target(guard: &str) -> String {
    if guard.contains(':') { format!("TCP6:[{guard}]:{SERVICE}") } else { format!("TCP4:{guard}:{SERVICE}") }
}

#[test]
fn what_keeps_a_forgotten_connection_alive_is_no_probe() {
    let lab = Lab::new();
    let listen = [&format!("TCP6-LISTEN:{SERVICE},ipv6only=0,reuseaddr,fork"), "EXEC:cat"];
    let echo = Program::start(lab.guard.command("socat").args(listen));
    wait_until("the echo answers", || lab.innocent.reaches(GUARD[0], SERVICE));
    let trap = trap(&lab, &["--served", "1s"]);
    let mut sessions = GUARD.map(|guard| {
        let target = format!("{},keepalive,keepidle=1,keepintvl=1", target(guard));
        let mut session = Program::start_fed(lab.innocent.command("socat").args(["-", &target]));
        let mut input = session.stdin();
        writeln!(input, "before").unwrap();
        session.line("the echo", |line| line == "before");
        (session, input)
    });
    // The listening socket goes, the connections stay.
    echo.signal(Signal::SIGTERM);
    wait_until("nobody listens", || !lab.guard.read(&["ss", "-Hltn"]).contains(":8088 "));
    for _ in 0..2 {
        forget(&lab);
        let sent = kept_alive(&lab.innocent);
        wait_until("both connections are kept alive", || kept_alive(&lab.innocent) >= sent + 3);
    }
    forget(&lab);
    for (session, input) in &mut sessions {
        writeln!(input, "after").unwrap();
        session.line("the echo", |line| line == "after");
    }
    for (mut session, input) in sessions {
        forget(&lab);
        drop(input);
        assert!(session.end().0.success());
    }
    unseen(trap);
}

#[test]
fn a_half_closed_connection_is_answered_late() {
    let lab = Lab::new();
    for guard in GUARD {
        let answer = ["-c", ANSWER_LATE, guard, &SERVICE.to_string()];
        let mut server = Program::start_fed(lab.guard.command("python3").args(answer));
        let mut go = server.stdin();
        server.line("the server", |line| line == "ready");
        let trap = trap(&lab, &["--served", "1s"]);
        let command = format!("echo question | socat -t 30 - {} | wc -c", target(guard));
        let mut client = Program::start(lab.innocent.command("sh").args(["-c", &command]));
        server.line("the end of the question", |line| line == "eof");
        forget(&lab);
        writeln!(go, "now").unwrap();
        client.line("the whole answer", |line| line.trim() == "300000");
        server.line("the end of the answer", |line| line == "closed");
        assert!(client.end().0.success() && server.end().0.success());
        unseen(trap);
    }
}

/// A router on the way has a narrower link: its ICMP errors are the kernel's, and the trap never stands in between.
#[test]
fn errors_of_a_narrower_path_arrive() {
    let lab = Lab::new();
    let far = Host::new_beside(&lab.guard);
    lab.innocent.sh(&format!(
        "ip link add narrow mtu 1300 type veth peer name eth0 mtu 1300 netns {pid}
         ip address add 10.9.0.1/24 dev narrow; ip address add 2001:db8:9::1/64 dev narrow nodad
         ip link set narrow up
         echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
         ip -6 route replace default via fe80::1 dev eth0",
        pid = far.pid()
    ));
    // It says that it takes whole frames, as a host does that does not know of its path.
    far.sh("ip address add 10.9.0.9/24 dev eth0; ip address add 2001:db8:9::9/64 dev eth0 nodad
            ip link set eth0 up
            ip route add default via 10.9.0.1 advmss 1460
            ip -6 route add default via 2001:db8:9::1 advmss 1440");
    lab.guard.sh("ip route add 10.9.0.0/24 via 192.0.2.8; ip route add 2001:db8:9::/64 via 2001:db8:8::8");
    lab.guard.sh("truncate -s 300000 /run/zeros");
    let _service = lab.guard.sends(&format!("TCP6-LISTEN:{SERVICE},ipv6only=0,reuseaddr,fork"), "/run/zeros");
    wait_until("the service answers", || lab.innocent.reaches(GUARD[0], SERVICE));
    let trap = trap(&lab, &[]);
    for (guard, address) in GUARD.into_iter().zip(["10.9.0.9", "2001:db8:9::9"]) {
        let got = far.sh(&format!("timeout 30 socat -u {} - | wc -c", target(guard)));
        assert_eq!(got.trim(), "300000", "{guard}");
        let route = lab.guard.read(&["ip", "route", "get", address]);
        assert!(route.contains("mtu 1300"), "the router was heard: {route}");
    }
    unseen(trap);
}
