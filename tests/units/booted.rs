//! psentry as a system, on a really booted systemd: installed, scanned, observed, switched on, killed, restarted,
//! uninstalled. What a kill costs under load is in `losses.rs`.

pub mod backends;
mod decoys;
mod guard;
mod hide;
mod install;
mod load;
mod log;
mod losses;
mod quarantine;
mod selftest;
mod settings;

use std::collections::HashSet;

use crate::lab::{Booted, Host, wait_until};

const GUARD: &str = "198.51.100.1";
const SCANNER: &str = "203.0.113.7";

/// Installs psentry on a machine with a service, to block, and with quarantines that outlast a test.
fn install_to_block(guard: &Booted) {
    guard.sh("systemd-run --quiet --unit service socat TCP-LISTEN:8080,reuseaddr,fork SYSTEM:'echo hello'
              /opt/psentry/units/install --programs /opt/psentry/bin
              sed -i 's/^MODE=.*/MODE=block/; s/^TRAP=.*/TRAP=--grace 0s --quarantine 10m/' /etc/psentry/psentry.conf");
}

/// A booted guard with a cable to a scanner.
fn guard_and_scanner() -> (Booted, Host) {
    let (guard, scanner) = (Booted::boot(), Host::new_in_network_namespace());
    connect(&guard, &scanner);
    (guard, scanner)
}

/// Lays the cable.
fn connect(guard: &Booted, scanner: &Host) {
    scanner.sh(&format!(
        "ip link add eth0 type veth peer name scanner netns {pid}
         ip address add {SCANNER}/24 dev eth0; ip link set eth0 up; ip route add default via 203.0.113.1",
        pid = guard.pid()
    ));
    guard.sh(&format!(
        "ip link set lo up; ip address add {GUARD} dev lo; ip address add 203.0.113.1/24 dev scanner; ip link set scanner up"
    ));
}

fn scan(scanner: &Host) {
    scanner.run(&["nmap", "-n", "-Pn", "-sT", "--max-retries", "1", "-p21,23,445,3389,4444", GUARD]);
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
    let people = "cat /etc/passwd /etc/group";
    let (files, group, rules) = (guard.sh(everything), guard.sh(people), guard.sh("nft list ruleset"));

    // Without a program that it needs it installs nothing, and says where to get it.
    guard.sh("mv /usr/sbin/nft /usr/sbin/nft-away");
    let refused = guard.run("/opt/psentry/units/install --programs /opt/psentry/bin");
    guard.sh("mv /usr/sbin/nft-away /usr/sbin/nft");
    let error = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(69) && error.contains("please install nftables"), "{error}");
    assert_eq!(guard.sh(everything), files);

    log::is_left_by_an_earlier_psentry(&guard);
    // As by sudo, which hides from whom it was typed.
    let said = guard.sh("mkdir -p /run/systemd/resolve; echo nameserver 192.0.2.53 > /run/systemd/resolve/resolv.conf
        SSH_CONNECTION='192.0.2.44 50000 198.51.100.1 22' bash -c 'env -u SSH_CONNECTION /opt/psentry/units/install --programs /opt/psentry/bin; exit $?'");
    assert!(said.contains("It observes, and blocks nobody") && said.contains("psentry mode block"), "{said}");
    assert!(said.contains("psentry runs with 29 decoy ports"), "{said}");
    for address in ["192.0.2.44", "192.0.2.53"] {
        assert!(guard.ok(&format!("grep -F {address} /etc/psentry/ignore")), "{address} is ignored");
    }
    log::is_taken_over(&guard);
    for unit in [
        "psentry.target",
        "psentry-listen",
        "psentry-trap",
        "psentry-judge",
        "psentry-block",
        "psentry-tcp@23.socket",
    ] {
        wait_until(&format!("{unit} is active"), || guard.ok(&format!("systemctl is-active {unit}")));
    }
    assert!(!guard.ok("systemctl is-active psentry-tcp@2323.socket"), "a port in use is no decoy");

    scan(&scanner);
    let log = "cat /var/log/psentry/records.jsonl";
    wait_until("the scan is observed", || {
        guard.sh(log).contains(r#""action":"watch","scope":"203.0.113.7/32""#)
    });
    assert!(!guard.sh("nft list table inet psentry").contains(SCANNER), "observing blocks nobody");
    assert!(
        guard.ok("grep -q '\"sensor\":\"trap\"' /var/log/psentry/records.jsonl"),
        "the trap has seen it, too"
    );
    assert!(!guard.sh("nft list set inet psentry_trap quarantine4").contains(SCANNER), "nor does it block");
    assert!(scanner.reaches(GUARD, 8080));
    // It stands before the network, and has said so.
    assert!(guard.sh("systemctl show -P Before psentry-trap").contains("network.target"));
    let status = guard.sh("systemctl show -P StatusText psentry-trap");
    assert_eq!(
        status,
        "ready: observes every TCP port and every UDP port without a socket, on every interface\n"
    );
    // Its sandbox lets it see a panic.
    let shown = || guard.sh("systemctl show -P StatusText psentry-trap");
    guard.sh("mkdir -p /var/lib/psentry; touch /var/lib/psentry/panic");
    wait_until("it has seen the panic", || shown().contains("; a panic holds since "));
    guard.sh("rm /var/lib/psentry/panic");
    wait_until("it has seen the end of the panic", || shown() == status);
    // Its sandbox lets it see the ports of the machine's own clients.
    guard.sh("echo 20000 29999 > /proc/sys/net/ipv4/ip_local_port_range; systemctl kill --signal=USR1 psentry-trap");
    wait_until("the trap has seen them", || guard.sh(log).contains(r#""client_ports":[20000,29999]"#));

    guard.sh("sed -i 's/^MODE=.*/MODE=block/' /etc/psentry/psentry.conf; systemctl restart psentry.target");
    wait_until("the decoys are back", || guard.ok("systemctl is-active psentry-listen"));
    // A closed port first, alone: who is blocked by then is not seen by the trap any more.
    scanner.run(&["nmap", "-n", "-Pn", "-sS", "--max-retries", "1", "-p4444", GUARD]);
    wait_until("it is in quarantine", || {
        guard.sh("nft list set inet psentry_trap quarantine4").contains(SCANNER)
    });
    scan(&scanner);
    wait_until("the scanner is blocked", || guard.sh("nft list table inet psentry").contains(SCANNER));
    assert!(scanner.is_shut_out(GUARD, 8080));
    wait_until("the block is on record", || guard.sh(log).contains(r#""result":"applied""#));
    // And in the journal, by its fields.
    for (line, says) in [
        (
            "-t psentry-block MESSAGE_ID=42701eaf945f43a1b2b0135b337db938 PSENTRY_SCOPE=203.0.113.7/32 PSENTRY_BACKEND=nft",
            "203.0.113.7 is blocked by nft until .*Z by rule sequential: ",
        ),
        (
            "-t psentry-trap MESSAGE_ID=62d576ef149f45a09b275fb4d80f7ae1 PSENTRY_SRC_IP=203.0.113.7",
            "203.0.113.7 touched .*/tcp and is in quarantine for 30 s",
        ),
    ] {
        wait_until(&format!("the journal has it: {line}"), || {
            guard.ok(&format!("journalctl -o cat {line} | grep -q '{says}'"))
        });
    }

    // A port that was busy, and one more, are decoys from the next start of psentry on.
    guard.sh("systemctl stop busy; systemctl --quiet enable psentry-tcp@2323.socket psentry-tcp@2222.socket
              systemctl restart psentry.target");
    for port in ["2323", "2222"] {
        wait_until(&format!("port {port} is a decoy"), || {
            guard.ok(&format!("bash -c '</dev/tcp/127.0.0.1/{port}' || true; grep '\"dest_port\":{port}' /var/log/psentry/records.jsonl"))
        });
    }

    // Installed again, a newer one runs, with the settings and the decoys that there were; a port that was given back
    // is its service's.
    guard.sh("systemctl --quiet disable --now psentry-tcp@6379.socket; systemctl restart psentry-listen
              systemd-run --quiet --unit late socat TCP-LISTEN:6379,reuseaddr,fork SYSTEM:'echo late'");
    wait_until("the service has its port", || {
        guard.ok("bash -c 'exec 3<>/dev/tcp/127.0.0.1/6379; grep late <&3'")
    });
    guard.sh("systemctl stop late");
    let processes =
        "systemctl show -P MainPID psentry-listen psentry-trap psentry-judge psentry-block | sort";
    for change in ["", "echo '# another' >> /opt/psentry/units/psentry-tcp@.socket"] {
        let (before, decoy) = (guard.sh(processes), guard.sh("ss -Hltne 'sport = :2222'"));
        let said = guard.sh(&format!("{change}\n/opt/psentry/units/install --programs /opt/psentry/bin"));
        assert!(said.contains("psentry runs with 30 decoy ports") && !said.contains("observes"), "{said}");
        let after = guard.sh(processes);
        assert!(
            before.lines().all(|process| process.is_empty() || !after.contains(process)),
            "{before}{after}"
        );
        // Its socket is opened anew only if it is another.
        assert_eq!(decoy == guard.sh("ss -Hltne 'sport = :2222'"), change.is_empty(), "{decoy}");
        assert!(!guard.ok("systemctl is-active psentry-tcp@6379.socket"), "it was given back");
        assert!(guard.sh("nft list table inet psentry").contains(SCANNER), "a block outlives it");
    }

    // The guard tells whether it lives, and blocks nobody to find out.
    let rules_before = guard.sh("nft list table inet psentry | grep -c elements");
    selftest::knows_families(&guard);
    selftest::knows_the_trap(&guard);
    selftest::names_the_unit_that_does_not_run(&guard);
    assert_eq!(guard.sh("nft list table inet psentry | grep -c elements"), rules_before);
    assert_eq!(guard.sh("ip -o link show | grep -c psentry-test || true"), "0\n");

    // Asked to, the judge reads its policy again.
    guard.sh("systemctl reload psentry-judge");
    wait_until("the policy was read again", || {
        guard.ok("journalctl -u psentry-judge -o cat | grep 'the policy was read again'")
    });

    // Whoever is in the group may accuse, and root alone may command.
    guard.sh("useradd --no-create-home --groups psentry script; useradd --no-create-home stranger");
    let probe = r#"{\"timestamp\":\"'$(date -u +%FT%TZ)'\",\"event_type\":\"probe\",\"src_ip\":\"192.0.2.98\",\"dest_port\":PORT,\"proto\":\"TCP\",\"probe\":{\"handshake\":true}}"#;
    let verdict = r#"{\"timestamp\":\"'$(date -u +%FT%TZ)'\",\"event_type\":\"verdict\",\"verdict\":{\"action\":\"block\",\"scope\":\"192.0.2.99\",\"duration\":600}}"#;
    let as_user = |user: &str, line: &str, fifo: &str| {
        guard.ok(&format!(
            "setpriv --reuid {user} --init-groups bash -c 'echo \"{line}\" > /run/psentry/{fifo}'"
        ))
    };
    let rejected = || guard.sh("journalctl -u psentry-judge -o cat").contains("a verdict is not passed on");
    assert!(!as_user("script", verdict, "verdicts") && !rejected());
    assert!(as_user("script", verdict, "events"), "it may write records there");
    wait_until("the judge passes no verdict on", rejected);
    let probes = ["23", "445"].map(|port| probe.replace("PORT", port));
    assert!(probes.iter().all(|probe| as_user("script", probe, "events")));
    wait_until("a script's probes convict", || guard.sh("nft list ruleset").contains("192.0.2.98"));
    assert!(
        !guard.sh("nft list ruleset").contains("192.0.2.99"),
        "what is no verdict of the judge is not done"
    );
    assert!(!as_user("stranger", "", "events") && !as_user("stranger", "", "verdicts"));
    assert!(as_user("root", verdict, "verdicts"));
    wait_until("root's verdict is applied", || guard.sh("nft list ruleset").contains("192.0.2.99"));
    guard.sh("userdel script; userdel stranger");

    guard::is_whole_in_the_sandbox(&guard, &scanner);

    log::is_rotated_by_its_writer(&guard);

    // Each stage may be killed, and a stop leaves the blocks to the kernel.
    for stage in ["listen", "trap", "judge", "block"] {
        let pid = guard.sh(&format!("systemctl show -P MainPID psentry-{stage}"));
        guard.sh(&format!("systemctl kill --signal=KILL psentry-{stage}"));
        wait_until(&format!("psentry-{stage} is back"), || {
            guard.sh(&format!("systemctl show -P MainPID,ActiveState psentry-{stage}"))
                != format!("{pid}active\n")
                && guard.ok(&format!("systemctl is-active psentry-{stage}"))
        });
    }
    assert!(guard.sh("nft list table inet psentry").contains(SCANNER), "a killed stage costs no block");
    guard.sh("systemctl stop psentry.target");
    wait_until("all is stopped", || {
        !guard.ok("systemctl is-active psentry-block psentry-listen psentry-trap psentry-judge")
    });

    // The sockets stop after the services that read them.
    wait_until("stopped, it has neither pipe nor decoy", || {
        guard.sh("ls /run/psentry; ss -Hltn 'sport = :23'").is_empty()
    });
    // What a script leaves where the pipe was does not keep psentry from starting.
    guard.sh("echo > /run/psentry/events; echo > /run/psentry/verdicts; systemctl start psentry.target");
    assert!(guard.ok("test -p /run/psentry/events && test -p /run/psentry/verdicts"));
    assert!(guard.ok("systemctl is-active psentry-judge && systemctl is-active psentry-block"));
    guard.sh("systemctl stop psentry.target");

    assert!(!guard.ok("systemctl start psentry-selftest.service"));
    assert!(guard.sh("journalctl -u psentry-selftest -p crit -o cat").contains("psentry is dead"));

    guard.sh("/opt/psentry/units/uninstall");
    // It was there before units/install was run, and is empty.
    guard.sh("rmdir /usr/local/lib/tmpfiles.d");
    assert_eq!(guard.sh("nft list ruleset"), rules);
    assert_eq!(guard.sh(people), group);
    let after = guard.sh(everything);
    let (after, files): (HashSet<&str>, HashSet<&str>) = (after.lines().collect(), files.lines().collect());
    let (left, missing): (Vec<_>, Vec<_>) =
        (after.difference(&files).collect(), files.difference(&after).collect());
    assert!(left.is_empty() && missing.is_empty(), "left behind: {left:?}; taken away: {missing:?}");
    assert_eq!(guard.sh("systemctl list-units --all --no-legend --plain 'psentry*'"), "");
}
