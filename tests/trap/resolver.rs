//! A resolver of this machine's own, with a range of ports of its own, as unbound, dnsmasq and pdns-recursor have: what the
//! servers that it asks answer too late is told of, and they go on being heard.

use nix::sys::signal::Signal;
use psentry_records::Class;

use super::{probe, python, quarantined, trap};
use crate::lab::{Host, INNOCENT, Lab, Program, wait_until};

/// Asks the resolver on this host for addresses. Arguments: how many seconds to wait for each answer; names. Prints how many
/// answers came.
const ASK: &str = r#"
import socket, struct, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(float(sys.argv[1]) or 0.001)
answers = 0
for number, name in enumerate(sys.argv[2:]):
    labels = b''.join(bytes([len(label)]) + label.encode() for label in name.split('.'))
    s.sendto(struct.pack('>6H', number, 0x100, 1, 0, 0, 0) + labels + struct.pack('>x2H', 1, 1), ('127.0.0.1', 53))
    try: answers += struct.unpack('>4H', s.recv(512)[:8])[3]
    except TimeoutError: pass
print(answers)
"#;

/// dnsmasq(8) on a host, at an address.
fn dnsmasq(host: &Host, address: &str, flags: &[&str]) -> Program {
    let listen = format!("--listen-address={address}");
    let common = [
        // Which also changes no user or group: there is only one here.
        "--no-daemon",
        "--conf-file=/dev/null",
        "--bind-interfaces",
        "--no-resolv",
        "--no-hosts",
        "--cache-size=0",
        &listen,
    ];
    let program = Program::start(host.command("dnsmasq").args(common).args(flags));
    wait_until("dnsmasq is up", || host.read(&["ss", "-Hlun"]).contains(":53 "));
    program
}

/// Connections to servers are not tracked, as where there are many; and the resolver is restarted since its server hangs.
#[test]
fn late_answers_to_a_resolver_of_our_own_are_strays() {
    let lab = Lab::new();
    lab.guard.read(&[
        "nft",
        "table inet raw { chain in { type filter hook prerouting priority raw; udp sport 53 notrack; };
                          chain out { type filter hook output priority raw; udp dport 53 notrack; }; }",
    ]);
    let range = ["--min-port=2000", "--max-port=2999"];
    for (family, innocent) in INNOCENT.into_iter().enumerate() {
        let server = dnsmasq(&lab.innocent, innocent, &["--address=/example/203.0.113.80"]);
        let upstream = format!("--server={innocent}");
        let resolver = || dnsmasq(&lab.guard, "127.0.0.1", &[&range[..], &[&upstream]].concat());
        let mut first = resolver();
        // Before the trap runs: an answer to a port of which it knows that a socket had it lately is no stray.
        assert_eq!(python(&lab.guard, ASK, &["20", "before.example"]), "1\n");
        let mut trap = trap(&lab, &[]);

        server.signal(Signal::SIGSTOP);
        assert_eq!(python(&lab.guard, ASK, &["0", "a.example", "b.example", "c.example"]), "0\n");
        let waiting = || lab.innocent.read(&["ss", "-Hlun", "sport = :53"]);
        let queued = |line: &str| line.split_whitespace().nth(1).is_some_and(|bytes| bytes != "0");
        wait_until("its server has the questions", || waiting().lines().any(queued));
        let open = || lab.guard.read(&["ss", "-Huan", "sport >= :2000 and sport <= :2999"]).lines().count();
        wait_until("it waits for three answers", || open() == 3);
        first.terminate();
        let _second = resolver();
        server.signal(Signal::SIGCONT);
        for _ in 0..3 {
            let stray = probe(&mut trap, "a stray", |probe| probe.common.src_port == Some(53));
            assert!((2000..3000).contains(&stray.common.dest_port.unwrap()), "{stray:?}");
            assert_eq!((stray.body.class, stray.body.quarantine), (Some(Class::Stray), None), "{stray:?}");
        }
        assert!(!quarantined(&lab)[family]);
        assert_eq!(python(&lab.guard, ASK, &["20", "after.example"]), "1\n");
        trap.terminate();
    }
}
