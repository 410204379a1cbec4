//! With a mirage every port looks open, and to whoever is in quarantine the real services look like all others; also
//! when the kernel, in a flood, answers by SYN cookies and remembers nothing of the SYN.

use super::{probe, quarantined, release, trap, version};
use crate::lab::{GUARD, Host, Lab, Program, bin, wait_until};

const SERVICE: u16 = 8088;

/// A lab with a mirage, a service, an ordinary decoy and the trap; psentry-listen comes first.
fn scene() -> (Lab, Program, [Program; 2]) {
    let lab = Lab::new();
    let own = ["--mirage", "61999", "--tcp", "2323"];
    let listen = Program::start(lab.guard.command(bin("psentry-listen")).args(own));
    wait_until("the mirage stands", || {
        let bound = lab.guard.read(&["ss", "-Hltun"]);
        bound.matches(":61999 ").count() == 2 && bound.contains(":2323 ")
    });
    let service = lab.service(SERVICE);
    let trap = trap(&lab, &["--mirage", "61999"]);
    (lab, listen, [service, trap])
}

/// Puts the scanner into quarantine.
fn offend(lab: &Lab, family: usize) {
    let scan = ["nmap", "-n", "-Pn", "-sN", "--max-retries", "0", "-p", "9", GUARD[family]];
    lab.scanner.read(&[&scan[..], version(family)].concat());
    assert!(quarantined(lab)[family]);
}

impl Host {
    /// What it reads from a service.
    fn hello(&self, guard: &str, port: u16) -> String {
        let address = if guard.contains(':') { format!("TCP6:[{guard}]") } else { format!("TCP4:{guard}") };
        self.sh(&format!("socat -u {address}:{port},connect-timeout=5 -"))
    }
}

#[test]
fn a_mirage_answers_for_every_port() {
    let (lab, mut listen, _running) = scene();
    for (family, guard) in GUARD.into_iter().enumerate() {
        for port in [1, 4444, 65535] {
            lab.scanner.touch(guard, port);
            probe(&mut listen, "a connection", |probe| probe.common.dest_port == Some(port));
        }
        assert!(!quarantined(&lab)[family]);
        assert_eq!(lab.scanner.hello(guard, SERVICE), "hello\n");
        offend(&lab, family);
        lab.scanner.touch(guard, SERVICE);
        probe(&mut listen, "a connection", |probe| probe.common.dest_port == Some(SERVICE));
        assert!(lab.innocent.reaches(guard, SERVICE));
    }
}

#[test]
fn a_handshake_by_syn_cookie_ends_where_the_syn_went() {
    let (lab, mut listen, _running) = scene();
    lab.guard.sh("echo 2 > /proc/sys/net/ipv4/tcp_syncookies");
    let mut touched = |guard: &str, port| {
        lab.scanner.touch(guard, port);
        let found = probe(&mut listen, "a connection", |probe| probe.common.dest_port == Some(port));
        assert!(found.body.handshake && found.body.cookie, "{guard}, {port}: {:?}", found.body);
    };
    // Only the socket that gave a cookie takes it back: the mirage has given none yet.
    offend(&lab, 0);
    touched(GUARD[0], 2323);
    release(&lab);
    for (family, guard) in GUARD.into_iter().enumerate() {
        for port in [1, 2323, 50_000] {
            touched(guard, port);
        }
        assert_eq!(lab.scanner.hello(guard, SERVICE), "hello\n");
        offend(&lab, family);
        // Now the service is one of a mirage's ports, for the scanner and nobody else.
        for port in [2, 2323, SERVICE] {
            touched(guard, port);
        }
        assert_eq!(lab.innocent.hello(guard, SERVICE), "hello\n");
    }
}
