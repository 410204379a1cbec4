//! What becomes of established connections when their source is blocked.

use std::io::Write;
use std::time::Duration;

use super::*;

/// A connection from one host to another: the service prints what it is told, and is told by whoever holds this.
pub(super) struct Connection {
    service: Program,
    client: Program,
    input: ChildStdin,
}

/// A connection from the scanner to a service of `host` at `address`.
pub(super) fn connect(lab: &Lab, host: &Host, address: &str, called: u16, port: u16) -> Connection {
    // It listens for both families, as most services do: a peer by IPv4 is one of IPv6 to it.
    let listen = format!("TCP6-LISTEN:{port},ipv6only=0,reuseaddr");
    // Its input stays open, for half a second after the end of it socat ends the connection.
    let mut service = Program::start_fed(host.command("socat").args(["-d", "-d", &listen, "STDIO"]));
    service.complaint("listening");
    let call = if address.contains(':') {
        format!("TCP6:[{address}]:{called}")
    } else {
        format!("TCP4:{address}:{called}")
    };
    let mut client = Program::start_fed(lab.scanner.command("socat").args(["-", &call]));
    let mut input = client.stdin();
    writeln!(input, "one").unwrap();
    service.line("what was said first", |line| line == "one");
    Connection { service, client, input }
}

impl Connection {
    /// Says something, and whether it arrives before what somebody else says a second later.
    pub(super) fn goes_on(&mut self) -> bool {
        writeln!(self.input, "two").unwrap();
        self.service.hears("two", Duration::from_secs(1))
    }

    /// The service is told at once that its connection is gone.
    pub(super) fn is_cut(&mut self) {
        self.service.complaint("Software caused connection abort");
    }
}

/// Waits until its rules stand.
fn ready(program: &mut Program, stdin: &mut ChildStdin) {
    say(stdin, Action::Unblock, "198.18.0.1", None);
    assert_eq!(result(program, "198.18.0.1/32"), OutcomeResult::Already);
}

#[test]
fn an_established_connection_starves_unless_it_is_spared() {
    for backend in FILTERS {
        let lab = Lab::new();
        let _other = service(&lab.guard, 8087);
        for (flag, goes_on) in [(None, false), (Some("--spare-established"), true)] {
            for (forward, port) in [("yes", 9001), ("no", 9002)] {
                let mut flags = vec!["--backend", backend, "--forward", forward];
                flags.extend(flag);
                // Connection tracking begins with the first rule that asks for it.
                let (mut program, mut stdin) = start(&lab, &flags);
                ready(&mut program, &mut stdin);
                let mut connection = connect(&lab, &lab.guard, GUARD[0], port, port);
                block(&mut program, &mut stdin);
                assert_eq!(connection.goes_on(), goes_on, "{flags:?}");
                assert_eq!(call(&lab.scanner, GUARD[0], 8087), "timed out", "{flags:?}: no new one");
                unblock(&mut program, &mut stdin);
                program.terminate();
            }
        }
        flush(&lab, backend);
    }
}

#[test]
fn what_is_spared_is_so_in_both_directions() {
    for backend in FILTERS {
        let lab = Lab::new();
        let flags = ["--backend", backend, "--egress", "yes", "--spare-established"];
        let (mut program, mut stdin) = start(&lab, &flags);
        ready(&mut program, &mut stdin);
        let mut connection = connect(&lab, &lab.guard, GUARD[0], 9001, 9001);
        block(&mut program, &mut stdin);
        assert!(connection.goes_on(), "{backend}");
        assert!(!arrives(&lab, &lab.guard, 9054), "{backend}: what is new is shut");
    }
}

#[test]
fn who_is_cut_loses_his_connections_at_once_and_nobody_else_does() {
    let lab = Lab::new();
    let mut innocent = Program::start_fed(lab.guard.command("socat").args([
        "-d",
        "-d",
        "TCP6-LISTEN:9009,ipv6only=0,reuseaddr",
        "STDIO",
    ]));
    innocent.complaint("listening");
    let mut caller =
        Program::start_fed(lab.innocent.command("socat").args(["-", &format!("TCP4:{}:9009", GUARD[0])]));
    let mut said = caller.stdin();
    for backend in ["nft", "iptables", "ipset", "route", "hosts-deny"] {
        let flags = ["--backend", backend, "--cut", "--hosts-deny", "/run/hosts.deny"];
        let (mut program, mut stdin) = start(&lab, &flags);
        for (port, (scope, address)) in
            (9001..).zip([(SCOPE, GUARD[0]), ("203.0.113.0/29", GUARD[0]), ("2001:db8:7::/64", GUARD[1])])
        {
            // Routes that lead to the scanner's network stand before that of the network.
            if backend == "route" && scope != SCOPE {
                continue;
            }
            let scope = if scope == "203.0.113.0/29" { "203.0.113.4/30" } else { scope };
            let mut connection = connect(&lab, &lab.guard, address, port, port);
            say(&mut stdin, Action::Block, scope, Some(600));
            assert_eq!(result(&mut program, scope), OutcomeResult::Applied);
            connection.is_cut();
            drop(connection.client);
            say(&mut stdin, Action::Unblock, scope, None);
            assert_eq!(result(&mut program, scope), OutcomeResult::Released);
        }
        writeln!(said, "still here, says {backend}").unwrap();
        innocent.line("the innocent", |line| line.ends_with(backend));
        program.terminate();
        flush_with(&lab, &flags[..2]);
    }
}

/// A service by UDP that holds on to whoever called it first.
#[test]
fn a_connected_datagram_socket_is_cut_too() {
    let lab = Lab::new();
    let (mut program, mut stdin) = start(&lab, &["--cut"]);
    let mut service = Program::start_fed(lab.guard.command("socat").args([
        "-d",
        "-d",
        "UDP6-LISTEN:9100,ipv6only=0",
        "STDIO",
    ]));
    service.complaint("listening");
    let mut client =
        Program::start_fed(lab.scanner.command("socat").args(["-", &format!("UDP4:{ROUTER}:9100")]));
    let mut input = client.stdin();
    writeln!(input, "one").unwrap();
    service.line("what was said first", |line| line == "one");
    block(&mut program, &mut stdin);
    service.complaint("Software caused connection abort");
}

fn flush_with(lab: &Lab, flags: &[&str]) {
    lab.guard.read(
        &[&[bin("psentry-block"), "flush", "--json", "--hosts-deny", "/run/hosts.deny"], flags].concat(),
    );
}

#[test]
fn where_only_ports_are_shut_only_connections_to_them_are_cut() {
    let lab = Lab::new();
    let (mut program, mut stdin) = start(&lab, &["--ports", "probed", "--cut"]);
    let mut shut = connect(&lab, &lab.guard, GUARD[0], 9001, 9001);
    let mut open = connect(&lab, &lab.guard, GUARD[0], 9002, 9002);
    tell(&mut stdin, &[9001], Proto::Tcp, 600);
    assert_eq!(result(&mut program, SCOPE), OutcomeResult::Applied);
    shut.is_cut();
    assert!(open.goes_on());
}

#[test]
fn what_passes_through_is_forgotten_and_what_is_put_back_cuts_again() {
    let lab = Lab::new();
    let _behind = router(&lab);
    let (mut program, mut stdin) = start(&lab, &["--cut"]);
    lab.guard.sh(&format!("nft add rule ip nat pre tcp dport 9007 dnat to {}:9001", INNOCENT[0]));
    let mut through = connect(&lab, &lab.innocent, GUARD[0], 9007, 9001);
    let tracked = || lab.guard.sh("conntrack -L 2>/dev/null");
    assert!(tracked().contains("dport=9007"), "{}", tracked());
    let _other = connect(&lab, &lab.guard, GUARD[0], 9002, 9002);
    block(&mut program, &mut stdin);
    assert!(!tracked().contains("dport=9007"), "{}", tracked());
    assert!(!through.goes_on());
    // Somebody flushes all, and while nothing is blocked the scanner connects anew: the repair cuts that, too.
    program.signal(Signal::SIGSTOP);
    lab.guard.sh("nft flush ruleset");
    let mut again = connect(&lab, &lab.guard, GUARD[0], 9003, 9003);
    program.signal(Signal::SIGCONT);
    program.complaint("put back within");
    again.is_cut();
}

/// Who is named alone is asked for alone, and a network is looked for in all that is tracked: both directions of both.
#[test]
fn a_host_and_a_network_are_forgotten_whoever_called_whom() {
    let lab = Lab::new();
    let _behind = router(&lab);
    let _echo = [echo(&lab.scanner, 9053), echo(&lab.innocent, 9053)];
    let (mut program, mut stdin) = start(&lab, &["--cut"]);
    let tracked = || lab.guard.sh("conntrack -L 2>/dev/null");
    for scope in [SCOPE, "203.0.113.4/30"] {
        wait_until("both directions are tracked, and a stranger's", || {
            answered(&lab.scanner, INNOCENT[0], 9053);
            answered(&lab.innocent, SCANNER[0], 9053);
            lab.innocent.reaches(GUARD[0], LEADS_ON);
            let list = tracked();
            [
                "src=203.0.113.7 dst=192.0.2.8",
                "src=192.0.2.8 dst=203.0.113.7",
                "src=192.0.2.8 dst=198.51.100.1",
            ]
            .iter()
            .all(|ends| list.contains(ends))
        });
        say(&mut stdin, Action::Block, scope, Some(600));
        assert_eq!(result(&mut program, scope), OutcomeResult::Applied);
        let list = tracked();
        assert!(!list.contains("203.0.113.7"), "{scope}: {list}");
        assert!(list.contains("dst=198.51.100.1"), "{scope}: nobody else's: {list}");
        say(&mut stdin, Action::Unblock, scope, None);
        assert_eq!(result(&mut program, scope), OutcomeResult::Released);
    }
}
