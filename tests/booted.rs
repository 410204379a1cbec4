//! psentry as a system, on a really booted systemd: installed, scanned, observed, switched on, killed, restarted,
//! uninstalled.

use std::collections::HashSet;

use crate::lab::{Booted, Host, wait_until};

const GUARD: &str = "198.51.100.1";
const SCANNER: &str = "203.0.113.7";

/// A booted guard with a cable to a scanner.
fn guard_and_scanner() -> (Booted, Host) {
    let guard = Booted::boot();
    let scanner = Host::new_in_network_namespace();
    scanner.sh(&format!(
        "ip link add eth0 type veth peer name scanner netns {pid}
         ip address add {SCANNER}/24 dev eth0; ip link set eth0 up; ip route add default via 203.0.113.1",
        pid = guard.pid()
    ));
    guard.sh(&format!(
        "ip link set lo up; ip address add {GUARD} dev lo; ip address add 203.0.113.1/24 dev scanner; ip link set scanner up"
    ));
    (guard, scanner)
}

fn scan(scanner: &Host) {
    scanner.run(&["nmap", "-n", "-Pn", "-sT", "--max-retries", "1", "-p21,23,445,3389", GUARD]);
}

#[test]
fn installed_it_observes_then_blocks_and_uninstalled_it_leaves_nothing() {
    if !Booted::possible() {
        return;
    }
    let (guard, scanner) = guard_and_scanner();
    // Port 8080 stands for a service; 2323 is busy, which costs one decoy.
    guard.sh("systemd-run --quiet --unit service socat TCP-LISTEN:8080,reuseaddr,fork SYSTEM:'echo hello'
              systemd-run --quiet --unit busy socat TCP-LISTEN:2323,reuseaddr,fork SYSTEM:'echo busy'");
    let everything = "find /etc /usr/local /var/log /var/lib /run/psentry* /etc/systemd -xdev 2>/dev/null |
        grep -vE '/journal/|/var/log/(apt|dpkg)|ld.so.cache|/var/lib/systemd|/var/lib/private|/etc/(group|gshadow|passwd|shadow|subuid|subgid)-' | sort";
    wait_until("the services listen", || guard.ok("ss -Hltn | grep -q :8080 && ss -Hltn | grep -q :2323"));
    let (files, group, rules) =
        (guard.sh(everything), guard.sh("cat /etc/group"), guard.sh("nft list ruleset"));

    let said = guard.sh("SSH_CONNECTION='192.0.2.44 50000 198.51.100.1 22' /opt/psentry/units/install --programs /opt/psentry/bin");
    assert!(said.contains("It observes, and blocks nobody"), "{said}");
    assert!(guard.sh("cat /etc/psentry/ignore").contains("192.0.2.44"));
    for unit in
        ["psentry.target", "psentry-listen", "psentry-judge", "psentry-block", "psentry-tcp@23.socket"]
    {
        wait_until(&format!("{unit} is active"), || guard.ok(&format!("systemctl is-active {unit}")));
    }
    assert!(!guard.ok("systemctl is-active psentry-tcp@2323.socket"), "a port in use is no decoy");

    scan(&scanner);
    let log = "cat /var/log/psentry/records.jsonl";
    wait_until("the scan is observed", || {
        guard.sh(log).contains(r#""action":"watch","scope":"203.0.113.7/32""#)
    });
    assert!(!guard.sh("nft list ruleset").contains(SCANNER), "observing blocks nobody");
    assert!(scanner.reaches(GUARD, 8080));

    guard.sh("sed -i 's/^JUDGE=.*/JUDGE=/' /etc/psentry/psentry.conf; systemctl restart psentry.target");
    wait_until("the decoys are back", || guard.ok("systemctl is-active psentry-listen"));
    scan(&scanner);
    wait_until("the scanner is blocked", || guard.sh("nft list ruleset").contains(SCANNER));
    assert!(scanner.is_shut_out(GUARD, 8080));
    wait_until("the block is on record", || guard.sh(log).contains(r#""result":"applied""#));

    // The guard tells whether it lives, and blocks nobody to find out.
    let rules_before = guard.sh("nft list ruleset | grep -c elements");
    guard.sh("systemctl start psentry-selftest.service");
    assert!(guard.sh("journalctl -u psentry-selftest -o cat").contains("psentry is well"));
    assert_eq!(guard.sh("nft list ruleset | grep -c elements"), rules_before);
    assert_eq!(guard.sh("ip -o link show | grep -c psentry-test || true"), "0\n");

    // Whoever is in the group may write, and nobody else.
    guard.sh("useradd --no-create-home --groups psentry script; useradd --no-create-home stranger");
    let verdict = r#"{\"timestamp\":\"'$(date -u +%FT%TZ)'\",\"event_type\":\"verdict\",\"verdict\":{\"action\":\"block\",\"scope\":\"192.0.2.99\",\"duration\":600}}"#;
    guard.sh(&format!(
        "setpriv --reuid script --init-groups bash -c 'echo \"{verdict}\" > /run/psentry/verdicts'"
    ));
    wait_until("a script's verdict is applied", || guard.sh("nft list ruleset").contains("192.0.2.99"));
    assert!(!guard.ok("setpriv --reuid stranger --init-groups bash -c 'echo > /run/psentry/verdicts'"));
    guard.sh("userdel script; userdel stranger");

    // Rotated, a new file is written, and the blocks stand.
    guard.sh("command -v logrotate || exit 0; logrotate --force /etc/logrotate.d/psentry; test -e /var/log/psentry/records.jsonl");
    assert!(guard.sh("nft list ruleset").contains(SCANNER));

    // Each stage may be killed, and a stop leaves the blocks to the kernel.
    for stage in ["listen", "judge", "block"] {
        let pid = guard.sh(&format!("systemctl show -P MainPID psentry-{stage}"));
        guard.sh(&format!("systemctl kill --signal=KILL psentry-{stage}"));
        wait_until(&format!("psentry-{stage} is back"), || {
            guard.sh(&format!("systemctl show -P MainPID,ActiveState psentry-{stage}"))
                != format!("{pid}active\n")
                && guard.ok(&format!("systemctl is-active psentry-{stage}"))
        });
    }
    assert!(guard.sh("nft list ruleset").contains(SCANNER), "a killed stage costs no block");
    guard.sh("systemctl stop psentry.target");
    wait_until("all is stopped", || {
        !guard.ok("systemctl is-active psentry-block psentry-listen psentry-judge")
    });

    assert!(!guard.ok("systemctl start psentry-selftest.service"));
    assert!(guard.sh("journalctl -u psentry-selftest -p crit -o cat").contains("psentry is dead"));

    guard.sh("/opt/psentry/units/uninstall");
    assert_eq!(guard.sh("nft list ruleset"), rules);
    assert_eq!(guard.sh("cat /etc/group"), group);
    let after = guard.sh(everything);
    let (after, files): (HashSet<&str>, HashSet<&str>) = (after.lines().collect(), files.lines().collect());
    let (left, missing): (Vec<_>, Vec<_>) =
        (after.difference(&files).collect(), files.difference(&after).collect());
    assert!(left.is_empty() && missing.is_empty(), "left behind: {left:?}; taken away: {missing:?}");
    assert_eq!(guard.sh("systemctl list-units --all --no-legend --plain 'psentry*'"), "");
}

/// Two thousand probes a second through the FIFOs, each from a source of its own, while the stages behind them are
/// restarted and killed: a restart loses nothing, a kill at most what the stage had in hand.
#[test]
fn restarts_lose_nothing_and_kills_only_what_was_in_hand() {
    if !Booted::possible() {
        return;
    }
    let guard = Booted::boot();
    guard.sh("/opt/psentry/units/install --programs /opt/psentry/bin
              sed -i 's/^JUDGE=.*/JUDGE=--trigger 1/' /etc/psentry/psentry.conf; systemctl restart psentry.target");
    wait_until("all stand", || guard.ok("systemctl is-active psentry-judge psentry-block"));
    // Each round: probes from 198.18.ROUND.0 on, written at once in lines and awaited in the log by a last one.
    let feed = |round: u32| {
        guard.sh(&format!(
            "for second in 0 1 2; do
                 for n in $(seq $((second * 2000)) $((second * 2000 + 1999))); do
                     printf '{{\"timestamp\":\"%s\",\"event_type\":\"probe\",\"src_ip\":\"198.%d.%d.%d\",\"dest_port\":23,\"probe\":{{\"handshake\":true}}}}\\n' $now {octet} $((n / 250)) $((n % 250))
                 done > /run/psentry/events
             done",
            octet = 18 + round,
        ).replace("$now", "$(date -u +%FT%TZ)"))
    };
    let count = |what: &str, round: u32| {
        let lines = guard.sh(&format!(
            "grep {what} /var/log/psentry/records.jsonl | grep -c '\"198.{}.' || true",
            18 + round
        ));
        lines.trim().parse::<u32>().unwrap()
    };
    let rounds = [
        (0, "restarted", "systemctl restart psentry-$stage"),
        (1, "asked to stop", "systemctl kill --signal=TERM psentry-$stage"),
        (2, "killed", "systemctl kill --signal=KILL psentry-$stage"),
    ];
    for (round, name, how) in rounds {
        let trouble = format!(
            "for n in 1 2 3 4 5; do for stage in judge block; do sleep 0.2; {how} || true; done; done"
        );
        std::thread::scope(|scope| {
            scope.spawn(|| guard.sh(&trouble));
            feed(round);
        });
        // All of it; or, where some may be lost, until nothing more has come for a while.
        let (mut before, mut quiet) = (0, 0);
        wait_until(&format!("all is applied, stages {name}"), || {
            let now = count("applied", round);
            quiet = if now == before && now > 0 { quiet + 1 } else { 0 };
            before = now;
            now == 6000 || (round == 2 && quiet > 50)
        });
        let lost = 6000 - count("applied", round);
        println!("stages {name}: {lost} of 6000 lost");
        match round {
            2 => assert!(lost <= 5 * 2 * 40, "{name}: {lost} lost, more than was in hand"),
            _ => assert_eq!(lost, 0, "{name}: lost"),
        }
    }
    guard.sh("/opt/psentry/units/uninstall");
}
