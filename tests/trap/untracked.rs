//! Where connections are not tracked (NOTRACK), a forged packet in a peer's name costs it nothing that stands, either.

use std::io::Write;

use super::{python, quarantined, trap};
use crate::lab::{GUARD, INNOCENT, Lab, Program, wait_until};

const SERVICE: u16 = 8088;

/// Asks a resolver whenever it is told to, by one socket, and says what came. Arguments: address, port.
const RESOLVE: &str = r#"
import socket, sys
family = socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET
s = socket.socket(family, socket.SOCK_DGRAM); s.settimeout(5); s.connect((sys.argv[1], int(sys.argv[2])))
print('ready', flush=True)
for line in sys.stdin:
    s.send(b'question')
    try: print(s.recv(100).decode(), flush=True)
    except TimeoutError: print('silence', flush=True)
"#;

fn track_nothing(lab: &Lab) {
    let hook = |hook: &str| format!("chain {hook} {{ type filter hook {hook} priority raw; notrack; }};");
    lab.guard.read(&["nft", &format!("table inet raw {{ {} {} }}", hook("prerouting"), hook("output"))]);
}

#[test]
fn an_untracked_connection_stands_whoever_is_forged() {
    let lab = Lab::new();
    track_nothing(&lab);
    let echo = [&format!("TCP6-LISTEN:{SERVICE},ipv6only=0,reuseaddr,fork"), "EXEC:cat"];
    let _echo = Program::start(lab.guard.command("socat").args(echo));
    wait_until("the echo answers", || lab.innocent.reaches(GUARD[0], SERVICE));
    let _trap = trap(&lab, &[]);
    for (family, target) in
        [format!("TCP4:{}:{SERVICE}", GUARD[0]), format!("TCP6:[{}]:{SERVICE}", GUARD[1])].iter().enumerate()
    {
        let mut session = Program::start_fed(lab.innocent.command("socat").args(["-", target]));
        let mut input = session.stdin();
        writeln!(input, "before").unwrap();
        session.line("the echo", |line| line == "before");
        // Whoever sent this in its name.
        assert!(lab.innocent.is_shut_out(GUARD[family], 9));
        assert!(quarantined(&lab)[family]);
        writeln!(input, "after").unwrap();
        session.line("the echo", |line| line == "after");
        assert!(lab.innocent.is_shut_out(GUARD[family], SERVICE), "nothing new is let in");
        drop(input);
        assert!(session.end().0.success(), "it also ends as it should");
    }
}

#[test]
fn an_untracked_resolver_answers_whoever_is_forged() {
    let lab = Lab::new();
    track_nothing(&lab);
    let _trap = trap(&lab, &[]);
    for (family, innocent) in INNOCENT.into_iter().enumerate() {
        let bind = if family == 0 { "UDP4-RECVFROM:53,fork" } else { "UDP6-RECVFROM:53,fork" };
        let _resolver = Program::start(lab.innocent.command("socat").args([bind, "EXEC:cat"]));
        let mut client =
            Program::start_fed(lab.guard.command("python3").args(["-c", RESOLVE, innocent, "53"]));
        let mut input = client.stdin();
        client.line("the client", |line| line == "ready");
        assert!(lab.innocent.is_shut_out(GUARD[family], 9));
        assert!(quarantined(&lab)[family]);
        writeln!(input, "go").unwrap();
        client.line("an answer", |line| line == "question");
        drop(input);
        assert!(client.end().0.success());
    }
}

/// A late answer of that resolver, to a port that is closed by then, is no probe.
#[test]
fn late_answers_to_untracked_questions_are_no_probes() {
    let lab = Lab::new();
    track_nothing(&lab);
    let _trap = trap(&lab, &[]);
    let late = "import socket, sys\n\
                s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('', 53))\n\
                for port in 2000, 40000, 40001, 40002, 40003: s.sendto(b'late', (sys.argv[1], port))";
    python(&lab.innocent, late, &[GUARD[0]]);
    assert_eq!(quarantined(&lab), [false; 2]);
}
