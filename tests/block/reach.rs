//! How far a block reaches: what real clients of other namespaces see of each flag on each backend, before a block,
//! during it and after it; and that a ruleset explains itself without psentry.

mod established;
mod flags;
mod ports;
mod replies;
mod unproven;

use std::process::{ChildStdin, Command, Stdio};

use nix::sys::signal::Signal;
use psentry_records::{
    Action, Common, OutcomeResult, Proto, Record, Timestamp, Verdict, VerdictBody, Writer,
};

use crate::lab::blocker::{outcome, result, say, start};
use crate::lab::{GUARD, Host, INNOCENT, Lab, Program, SCANNER, bin, wait_until};

/// The backends in the kernel that look at packets.
const FILTERS: [&str; 3] = ["nft", "iptables", "ipset"];

const SCOPE: &str = "203.0.113.7/32";

/// A port on the guard that leads to the innocent's service.
const LEADS_ON: u16 = 8089;

/// Where UDP is answered from the address that was asked, which the guard's own on loopback is not.
const ROUTER: &str = "203.0.113.1";

/// A verdict with the ports that were probed.
fn tell(stdin: &mut ChildStdin, ports: &[u16], proto: Proto, duration: u64) {
    let mut common = Common::at(Timestamp::now());
    common.proto = Some(proto);
    let mut body = VerdictBody::new(Action::Block, SCOPE.parse().unwrap());
    (body.ports, body.duration) = (ports.to_vec(), Some(duration));
    body.rule = Some("sequential".to_owned());
    Writer::new(stdin).write(&Record::Verdict(Verdict { common, body })).unwrap();
}

/// Blocks the scanner for ten minutes.
fn block(program: &mut Program, stdin: &mut ChildStdin) {
    say(stdin, Action::Block, SCOPE, Some(600));
    assert_eq!(result(program, SCOPE), OutcomeResult::Applied);
}

fn unblock(program: &mut Program, stdin: &mut ChildStdin) {
    say(stdin, Action::Unblock, SCOPE, None);
    assert_eq!(result(program, SCOPE), OutcomeResult::Released);
}

fn flush(lab: &Lab, backend: &str) {
    lab.guard.read(&[bin("psentry-block"), "flush", "--json", "--backend", backend]);
}

/// Waits until a block that somebody deleted was put back, of which an outcome tells.
fn put_back(program: &mut Program, scope: &str) {
    let body = outcome(program, scope).body;
    assert_eq!(body.result, OutcomeResult::Applied, "{body:?}");
    let why = body.reason.unwrap_or_default();
    assert!(why.starts_with("put back, because "), "{why}");
    assert!(why.ends_with(&format!("'psentry-block unblock {scope}'")), "{why}");
}

/// What an administrator has in the firewalls, without counters. iptables leaves empty chains where it had a rule; so that they
/// are no difference they are there from the start.
fn firewall(lab: &Lab) -> String {
    lab.guard.sh("for tables in iptables ip6tables; do for chain in INPUT FORWARD OUTPUT; do
             $tables -A $chain -j ACCEPT; $tables -D $chain -j ACCEPT
         done; done
         nft -s list ruleset; iptables-legacy -S 2>/dev/null; ipset save 2>/dev/null; ip route")
}

/// A service on some host; it says hello and closes.
fn service(host: &Host, port: u16) -> Program {
    let listen = format!("TCP6-LISTEN:{port},ipv6only=0,reuseaddr,fork");
    let service = host.sends(&listen, "/run/hello");
    wait_until("the service answers", || host.reaches("127.0.0.1", port));
    service
}

/// A service that says back what it is told by UDP.
fn echo(host: &Host, port: u16) -> Program {
    let listen = format!("UDP6-RECVFROM:{port},ipv6only=0,fork");
    let service = Program::start(host.command("socat").args([&listen, "EXEC:cat"]));
    wait_until("UDP is answered", || answered(host, "127.0.0.1", port));
    service
}

/// Whether a datagram is answered within a second.
fn answered(host: &Host, address: &str, port: u16) -> bool {
    asked(host, address, port).0
}

/// Whether a datagram is answered within a second, and what the system said otherwise.
fn asked(host: &Host, address: &str, port: u16) -> (bool, String) {
    let output = host.run(&["sh", "-c", &format!("echo hi | socat -t1 - UDP:{address}:{port}")]);
    (output.stdout == b"hi\n", String::from_utf8_lossy(&output.stderr).into_owned())
}

/// What a client sees that calls for two seconds: `reached`, `refused` or `timed out`.
fn call(host: &Host, address: &str, port: u16) -> &'static str {
    let output = host.run(&["nc", "-z", "-n", "-v", "-w", "2", address, &port.to_string()]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    match () {
        () if output.status.success() => "reached",
        () if said.contains("refused") => "refused",
        () if said.contains("timed out") => "timed out",
        () => panic!("{said}"),
    }
}

/// The guard leads packets on, and one of its ports to a service of the innocent's, as to a container.
fn router(lab: &Lab) -> Program {
    lab.guard.sh(&format!(
        "echo 1 > /proc/sys/net/ipv4/ip_forward
         nft 'add table ip nat
              add chain ip nat pre {{ type nat hook prerouting priority dstnat; }}
              add rule ip nat pre tcp dport {LEADS_ON} dnat to {}:8088'",
        INNOCENT[0]
    ));
    service(&lab.innocent, 8088)
}

#[test]
fn what_is_only_forwarded_is_blocked_too_unless_a_flag_says_no() {
    for backend in FILTERS {
        let lab = Lab::new();
        let (_behind, _own) = (router(&lab), service(&lab.guard, 8087));
        let before = firewall(&lab);
        // From the far side: to this machine, through it, and to one of its ports that leads on.
        let seen = || {
            [(GUARD[0], 8087), (INNOCENT[0], 8088), (GUARD[0], LEADS_ON)]
                .map(|(address, port)| call(&lab.scanner, address, port))
        };
        assert_eq!(seen(), ["reached"; 3]);
        for (flags, want) in [
            (&[][..], ["timed out"; 3]),
            (&["--forward", "yes"], ["timed out"; 3]),
            (&["--forward", "no"], ["timed out", "reached", "reached"]),
        ] {
            let (mut program, mut stdin) = start(&lab, &[&["--backend", backend], flags].concat());
            block(&mut program, &mut stdin);
            assert_eq!(seen(), want, "{backend} {flags:?}");
            assert_eq!(call(&lab.innocent, GUARD[0], 8087), "reached", "{backend}: nobody else");
            unblock(&mut program, &mut stdin);
            assert_eq!(seen(), ["reached"; 3], "{backend} {flags:?}");
            program.terminate();
        }
        flush(&lab, backend);
        assert_eq!(firewall(&lab), before, "{backend}");
    }
}

/// Whether a datagram from one host arrives at the scanner.
fn arrives(lab: &Lab, from: &Host, port: u16) -> bool {
    let listen = format!("UDP-RECV:{port}");
    let mut listener = Program::start(lab.scanner.command("socat").args(["-u", &listen, "STDOUT"]));
    wait_until("somebody listens", || lab.scanner.sh("cat /proc/net/udp").contains(&format!(":{port:04X} ")));
    let send = |address: &str| {
        let line = format!("echo hi | socat -u - UDP:{address}:{port}");
        from.run(&["sh", "-c", &line]);
    };
    send(SCANNER[0]);
    // What the scanner tells itself comes later, and is never lost.
    lab.scanner.sh(&format!("echo bye | socat -u - UDP:127.0.0.1:{port}"));
    let first = listener.line("a datagram", |_| true);
    first == "hi"
}

#[test]
fn packets_to_the_source_are_dropped_where_that_is_asked_for() {
    for backend in FILTERS {
        let lab = Lab::new();
        let _behind = router(&lab);
        let before = firewall(&lab);
        let sent = || [&lab.guard, &lab.innocent].map(|from| arrives(&lab, from, 9054));
        assert_eq!(sent(), [true, true]);
        for (flags, want) in [
            (&[][..], [true, true]),
            (&["--egress", "yes"], [false, false]),
            (&["--egress", "yes", "--forward", "no"], [false, true]),
            (&["--egress", "no"], [true, true]),
        ] {
            let (mut program, mut stdin) = start(&lab, &[&["--backend", backend], flags].concat());
            block(&mut program, &mut stdin);
            assert_eq!(sent(), want, "{backend} {flags:?}");
            unblock(&mut program, &mut stdin);
            assert_eq!(sent(), [true, true], "{backend} {flags:?}");
            program.terminate();
        }
        flush(&lab, backend);
        assert_eq!(firewall(&lab), before, "{backend}");
    }
}
