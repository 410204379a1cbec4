//! A real nmap is seen, judged and blocked, by each backend, over IPv4 and IPv6: the scanner is shut out, an innocent
//! is not, the block ends by itself, `unblock` ends it early, and `flush` leaves the firewall as it was found.

use std::process::Stdio;

use psentry_records::{Action, OutcomeResult, Record};

use crate::lab::{GUARD, INNOCENT, Lab, Program, SCANNER, SCANNER_SCOPE, bin, wait_until};

/// A service that is really there.
const SERVICE: u16 = 8088;

/// The decoys.
const DECOYS: &str = "21,23,445,3389";

/// How the tests speak to one backend.
struct Backend {
    name: &'static str,
    flags: &'static [&'static str],
    /// Whether the kernel keeps the scanner out; `hosts.deny` only speaks to programs that ask.
    shuts_out: bool,
    /// What an administrator looks at to see the block; in it, the scope or its address stands.
    look: &'static str,
    /// How the scope is written there, IPv4 and IPv6.
    written: [&'static str; 2],
}

/// All that a firewall can be changed in, as text; comments, and the counters of chains, apart.
const RULESET: &str =
    "nft list ruleset; iptables-save | sed '/^#/d; s/ \\[.*//'; ip6tables-save | sed '/^#/d; s/ \\[.*//'
    ipset save; ip route show; ip -6 route show; cat /run/hosts.deny 2>/dev/null || true";

const HOSTS_DENY: &str = "# written by hand\nALL: 192.0.2.66\nsshd: PARANOID";

/// The pipeline on the guard, as its three programs, and the outcomes that it writes.
struct Pipeline {
    _stages: [Program; 2],
    block: Program,
}

impl Pipeline {
    fn start(lab: &Lab, backend: &Backend, duration: &str) -> Self {
        let mut listen = Program::start_piped(
            lab.guard
                .command(bin("psentry-listen"))
                .args(["--tcp", DECOYS, "--udp", "69,161"])
                .stdin(Stdio::null()),
        );
        let mut judge = Program::start_piped(
            lab.guard.command(bin("psentry-judge")).args(["--duration", duration]).stdin(listen.stdout()),
        );
        let mut block = Program::start_piped(
            lab.guard.command(bin("psentry-block")).args(backend.flags).stdin(judge.stdout()),
        );
        block.read_output();
        wait_until("the decoys listen", || {
            let sockets = lab.guard.read(&["ss", "-Hltn"]);
            DECOYS.split(',').all(|port| sockets.contains(&format!("*:{port} ")))
        });
        Pipeline { _stages: [listen, judge], block }
    }

    fn outcome(&mut self, result: OutcomeResult, scope: &str) {
        self.block.record(&format!("outcome {} for {scope}", result.name()), |record| match record {
            Record::Outcome(outcome) => {
                outcome.body.result == result && outcome.body.scope.to_string() == scope
            }
            _ => false,
        });
    }
}

/// The whole story, on one backend.
fn story(backend: &Backend) {
    let lab = Lab::new();
    let _service = lab.service(SERVICE);
    // A firewall that somebody has already set up, which must stand afterwards as it stood before.
    lab.guard.sh(&format!(
        "nft 'table inet mine {{ set listed {{ type ipv4_addr; }}; set taken4 {{ type ipv4_addr; flags interval; }};
            set taken6 {{ type ipv6_addr; flags interval; }};
            chain in {{ type filter hook input priority 0; ip saddr @listed drop; }}; }}'
         nft 'add element inet mine listed {{ 192.0.2.99 }}'
         nft 'add rule inet mine in ip saddr @taken4 drop; add rule inet mine in ip6 saddr @taken6 drop'
         iptables -A INPUT -s 192.0.2.98 -j DROP; ip6tables -A INPUT -s 2001:db8::98 -j DROP
         ipset create theirs hash:ip
         printf %s '{HOSTS_DENY}' > /run/hosts.deny"
    ));
    let before = lab.guard.sh(RULESET);

    for family in [0, 1] {
        let (guard, scope) = (GUARD[family], SCANNER_SCOPE[family]);
        let mut pipeline = Pipeline::start(&lab, backend, "6s");
        let v6: &[&str] = if family == 1 { &["-6"] } else { &[] };
        let ports = format!("-p{DECOYS},{SERVICE}");
        let scan = [&["nmap", "-n", "-Pn", "-sT", "--max-retries", "1", &ports], v6, &[guard]].concat();

        assert!(lab.scanner.reaches(guard, SERVICE), "{}: before the scan", backend.name);
        lab.scanner.read(&scan);
        pipeline.outcome(OutcomeResult::Applied, scope);
        let seen = lab.guard.sh(backend.look);
        assert!(seen.contains(backend.written[family]), "{}: {seen}", backend.name);
        if backend.shuts_out {
            assert!(lab.scanner.is_shut_out(guard, SERVICE), "{}: the scanner is shut out", backend.name);
        }
        assert!(lab.innocent.reaches(guard, SERVICE), "{}: the innocent is not", backend.name);

        pipeline.outcome(OutcomeResult::Expired, scope);
        wait_until("the block has ended", || !lab.guard.sh(backend.look).contains(backend.written[family]));
        assert!(lab.scanner.reaches(guard, SERVICE), "{}: the block has ended", backend.name);
        drop(pipeline);

        let mut pipeline = Pipeline::start(&lab, backend, "1h");
        lab.scanner.read(&scan);
        pipeline.outcome(OutcomeResult::Applied, scope);
        let list = lab.guard.read(&[&[bin("psentry-block"), "list", "--json"], backend.flags].concat());
        assert!(list.contains(scope), "{}: {list}", backend.name);
        lab.guard.read(&[&[bin("psentry-block"), "unblock", "--json", scope], backend.flags].concat());
        assert!(lab.scanner.reaches(guard, SERVICE), "{}: unblocked by hand", backend.name);
        assert!(!lab.guard.sh(backend.look).contains(backend.written[family]), "{}", backend.name);
        let list = lab.guard.read(&[&[bin("psentry-block"), "list", "--json"], backend.flags].concat());
        assert!(!list.contains(scope), "{}: {list}", backend.name);
    }

    lab.guard.read(&[&[bin("psentry-block"), "flush", "--json"], backend.flags].concat());
    let after = without_empty_chains(&lab.guard.sh(RULESET));
    let before = without_empty_chains(&before);
    let differs: Vec<_> =
        after.lines().zip(before.lines()).filter(|(after, before)| after != before).collect();
    assert_eq!(
        after,
        before,
        "{}: the firewall is as it was found; first: {:?}",
        backend.name,
        differs.first()
    );
}

#[test]
fn nft_blocks_a_scan_and_leaves_no_trace() {
    story(&Backend {
        name: "nft",
        flags: &["--backend", "nft"],
        shuts_out: true,
        look: "nft list ruleset",
        written: ["203.0.113.7", "2001:db8:7::"],
    });
}

#[test]
fn iptables_blocks_a_scan_and_leaves_no_trace() {
    story(&Backend {
        name: "iptables",
        flags: &["--backend", "iptables"],
        shuts_out: true,
        look: "iptables-save; ip6tables-save",
        written: ["-s 203.0.113.7/32", "-s 2001:db8:7::/64"],
    });
}

#[test]
fn ipset_blocks_a_scan_and_leaves_no_trace() {
    story(&Backend {
        name: "ipset",
        flags: &["--backend", "ipset"],
        shuts_out: true,
        look: "ipset save",
        written: ["203.0.113.7", "2001:db8:7::/64"],
    });
}

#[test]
fn route_blocks_a_scan_and_leaves_no_trace() {
    story(&Backend {
        name: "route",
        flags: &["--backend", "route"],
        shuts_out: true,
        look: "ip route show; ip -6 route show",
        written: ["blackhole 203.0.113.7", "blackhole 2001:db8:7::/64"],
    });
}

#[test]
fn hosts_deny_names_the_scanner_and_leaves_no_trace() {
    story(&Backend {
        name: "hosts-deny",
        flags: &["--backend", "hosts-deny", "--hosts-deny", "/run/hosts.deny"],
        shuts_out: false,
        look: "cat /run/hosts.deny",
        written: ["ALL: 203.0.113.7", "ALL: [2001:db8:7::]/64"],
    });
}

/// A command of the administrator's: here it fills a set of a table of theirs.
#[test]
fn a_command_blocks_a_scan_and_leaves_no_trace() {
    // The set has a name per family, which the command finds out for itself: no shell is in between.
    let script = "case $2 in *:*) set=taken6 ;; *) set=taken4 ;; esac; nft $1 element inet mine $set { $2 }";
    let block = format!("sh -ec '{script}' - add {{scope}}");
    let undo = format!("sh -ec '{script}' - delete {{scope}}");
    let flags: Vec<&'static str> = ["--backend", "exec", "--exec", &block, "--exec-undo", &undo]
        .into_iter()
        .map(|flag| &*Box::leak(flag.to_owned().into_boxed_str()))
        .collect();
    story(&Backend {
        name: "exec",
        flags: Box::leak(flags.into_boxed_slice()),
        shuts_out: true,
        look: "nft list set inet mine taken4; nft list set inet mine taken6",
        written: ["203.0.113.7", "2001:db8:7::/64"],
    });
}

/// What iptables makes when it is first asked for a rule, and nobody has to take away: empty chains that accept.
fn without_empty_chains(ruleset: &str) -> String {
    const EMPTY: [&str; 3] = ["INPUT", "FORWARD", "OUTPUT"];
    let mut ruleset = ruleset.to_owned();
    for (chain, hook) in EMPTY.into_iter().zip(["input", "forward", "output"]) {
        for end in ["\n\n", "\n"] {
            let empty = format!(
                "\tchain {chain} {{\n\t\ttype filter hook {hook} priority filter; policy accept;\n\t}}{end}"
            );
            ruleset = ruleset.replace(&empty, "");
        }
    }
    ruleset
        .replace("}\n\n}", "}\n}")
        .replace("table ip filter {\n}\n", "")
        .replace("table ip6 filter {\n}\n", "")
}

/// Where nothing was before, iptables makes the tables itself, and nothing but empty chains is left.
#[test]
fn a_bare_firewall_is_bare_again() {
    for name in ["iptables", "ipset"] {
        let lab = Lab::new();
        assert_eq!(lab.guard.sh("nft list ruleset"), "");
        let flags = ["--backend", name];
        let mut block = Program::start_fed(lab.guard.command(bin("psentry-block")).args(flags));
        let mut stdin = block.stdin();
        for scope in [SCANNER_SCOPE[0], SCANNER_SCOPE[1]] {
            crate::lab::blocker::say(&mut stdin, Action::Block, scope, Some(600));
            block.record(
                "applied",
                |record| matches!(record, Record::Outcome(o) if o.body.result == OutcomeResult::Applied),
            );
        }
        assert_ne!(lab.guard.sh("nft list ruleset"), "", "{name}");
        drop(stdin);
        block.terminate();
        lab.guard.read(&[&[bin("psentry-block"), "flush", "--json"], &flags[..]].concat());
        assert_eq!(without_empty_chains(&lab.guard.sh("nft list ruleset; ipset save")), "", "{name}");
    }
}

/// What `tcpd` itself makes of the section: the library that reads hosts.deny is asked.
#[test]
fn tcp_wrappers_read_the_section_as_meant() {
    let lab = Lab::new();
    lab.guard.sh("mkdir /run/etc; : > /run/etc/hosts.deny; : > /run/etc/inetd.conf");
    // tcpdmatch -d reads hosts.allow and hosts.deny of the working directory.
    let mut block = Program::start_fed(lab.guard.command(bin("psentry-block")).args([
        "--backend",
        "hosts-deny",
        "--hosts-deny",
        "/run/etc/hosts.deny",
    ]));
    let mut stdin = block.stdin();
    for scope in ["203.0.113.7", "198.18.0.0/15", "2001:db8:7::/64"] {
        crate::lab::blocker::say(&mut stdin, Action::Block, scope, Some(600));
        block.record(
            "applied",
            |record| matches!(record, Record::Outcome(o) if o.body.result == OutcomeResult::Applied),
        );
    }
    for (address, denied) in [
        ("203.0.113.7", true),
        ("203.0.113.8", false),
        ("198.19.255.1", true),
        ("198.20.0.1", false),
        ("2001:db8:7::7", true),
        ("2001:db8:8::7", false),
    ] {
        let answer = lab.guard.sh(&format!("cd /run/etc && tcpdmatch -d -i inetd.conf sshd {address}"));
        assert_eq!(answer.contains("denied"), denied, "{address}: {answer}");
    }
}

/// Whoever only uses real services is never judged, and one slip is forgiven.
#[test]
fn an_innocent_is_left_alone() {
    let lab = Lab::new();
    let _service = lab.service(SERVICE);
    let nft = Backend {
        name: "nft",
        flags: &["--backend", "nft"],
        shuts_out: true,
        look: "nft list ruleset",
        written: SCANNER_SCOPE,
    };
    let mut pipeline = Pipeline::start(&lab, &nft, "1h");
    for _ in 0..20 {
        assert!(lab.innocent.reaches(GUARD[0], SERVICE));
    }
    for _ in 0..5 {
        lab.innocent.touch(GUARD[0], 23); // one slip, again and again
    }
    lab.scanner.read(&["nmap", "-n", "-Pn", "-sT", "-p21,23", GUARD[0]]);
    pipeline.outcome(OutcomeResult::Applied, SCANNER_SCOPE[0]);
    let list = lab.guard.read(&[bin("psentry-block"), "list", "--json", "--backend", "nft"]);
    assert!(list.contains(SCANNER[0]) && !list.contains(INNOCENT[0]), "{list}");
    assert!(lab.innocent.reaches(GUARD[0], SERVICE));
}

/// In the guard's own /64 a scanner is blocked by its address, and its neighbours are not.
#[test]
fn a_scanner_in_a_network_of_this_machine_is_blocked_alone() {
    let lab = Lab::new();
    let _service = lab.service(SERVICE);
    let neighbour = "2001:db8:7::9";
    lab.guard.sh(&format!(
        "ip address add 2001:db8:7::1/64 dev scanner nodad; ip neigh add {neighbour} lladdr 02:00:00:00:07:02 dev scanner"
    ));
    let mut trap =
        Program::start_piped(lab.guard.command(bin("psentry-trap")).arg("--observe").stdin(Stdio::null()));
    let mut judge =
        Program::start_piped(lab.guard.command(bin("psentry-judge")).arg("--pass").stdin(trap.stdout()));
    let mut block = Program::start_piped(
        lab.guard.command(bin("psentry-block")).args(["--backend", "nft", "--pass"]).stdin(judge.stdout()),
    );
    block.read_output();
    wait_until("the trap stands", || lab.guard.ok(&["nft", "list", "table", "inet", "psentry_trap"]));
    lab.scanner.read(&["nmap", "-6", "-n", "-Pn", "-sS", "-p21,23,3389", GUARD[1]]);
    let outcome = block.record("an outcome", |record| matches!(record, Record::Outcome(_)));
    let Record::Outcome(outcome) = outcome else { panic!() };
    assert_eq!(outcome.body.scope.to_string(), format!("{}/128", SCANNER[1]));
    assert_eq!(outcome.body.result, OutcomeResult::Applied, "{outcome:?}");
    assert!(lab.scanner.is_shut_out(GUARD[1], SERVICE));
    lab.scanner.sh(&format!("ip address add {neighbour}/64 dev eth0 nodad"));
    let service = SERVICE.to_string();
    assert!(lab.scanner.ok(&["nc", "-z", "-n", "-w", "5", "-s", neighbour, GUARD[1], &service]));
}

/// UDP can be forged: two datagrams earn a minute, not an hour.
#[test]
fn forged_looking_probes_are_blocked_briefly() {
    let lab = Lab::new();
    let dry = Backend {
        name: "dry-run",
        flags: &["--backend", "dry-run"],
        shuts_out: false,
        look: "true",
        written: SCANNER_SCOPE,
    };
    let mut pipeline = Pipeline::start(&lab, &dry, "1h");
    lab.scanner.run(&["nmap", "-n", "-Pn", "-sU", "--max-retries", "0", "-p69,161", GUARD[0]]);
    let record = pipeline.block.record("an outcome", |record| matches!(record, Record::Outcome(_)));
    let Record::Outcome(outcome) = record else { panic!() };
    let lasts = outcome.body.until.unwrap().since(outcome.common.timestamp);
    assert!(lasts.as_secs() <= 60, "{lasts:?}");
}
