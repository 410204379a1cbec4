//! Wrong settings on a booted systemd: what can be gone on without is, with the last good copy; what cannot fails its unit, and
//! neither is silent.

use super::{GUARD, SCANNER, guard_and_scanner, install_to_block};
use crate::lab::{Booted, wait_until};

const STAGES: [&str; 3] = ["psentry-trap", "psentry-judge", "psentry-block"];

#[test]
fn wrong_settings_are_loud_and_leave_the_guard_up() {
    if !Booted::possible() {
        return;
    }
    let (guard, scanner) = guard_and_scanner();
    install_to_block(&guard);
    guard.sh("cp -a /etc/psentry /root/right; systemctl restart psentry.target");
    let active = |unit: &str| guard.ok(&format!("systemctl is-active {unit}"));
    let all_run = || STAGES.into_iter().all(active);
    wait_until("all run", all_run);
    let restart = || {
        guard.sh("systemctl reset-failed 'psentry*'; systemctl daemon-reload; date +%s.%N >/root/since; systemctl restart psentry.target || true");
    };
    let said = |unit: &str, what: &str| {
        wait_until(&format!("{unit} says '{what}'"), || {
            guard
                .ok(&format!("journalctl -q -u {unit} --since \"@$(cat /root/since)\" | grep -F -e {what:?}"))
        });
    };
    let mend = || guard.sh("cp -a /root/right/. /etc/psentry/");

    // An address that is allowed is let in at once, whatever is left of its quarantine.
    let quarantined = || guard.sh("nft list set inet psentry_trap quarantine4").contains(SCANNER);
    scanner.run(&["nmap", "-n", "-Pn", "-sS", "--max-retries", "0", "-p4444", GUARD]);
    wait_until("the trap has it", quarantined);
    guard.sh(&format!("echo {SCANNER} >> /etc/psentry/ignore"));
    wait_until("it is served", || scanner.reaches(GUARD, 8080));
    mend();

    // The copies are used, and the line or the file is named.
    for (change, named) in [
        (
            "sed -i '1i office.example.org' /etc/psentry/ignore",
            [
                ("psentry-trap", "line 1: 'office.example.org'"),
                ("psentry-block", "line 1: 'office.example.org'"),
            ],
        ),
        (
            "chmod 600 /etc/psentry/policy.toml /etc/psentry/ignore",
            [
                ("psentry-judge", "policy.toml: Permission denied"),
                ("psentry-trap", "ignore: Permission denied"),
            ],
        ),
        (
            "rm /etc/psentry/policy.toml /etc/psentry/ignore",
            [("psentry-judge", "policy.toml: No such file"), ("psentry-block", "ignore: No such file")],
        ),
    ] {
        guard.sh(change);
        restart();
        for (unit, what) in named {
            said(unit, what);
        }
        wait_until("all run", all_run);
        for unit in ["psentry-trap", "psentry-block"] {
            let status = guard.sh(&format!("systemctl show -P StatusText {unit}"));
            assert!(status.starts_with("degraded: ") && status.contains("/etc/psentry/ignore"), "{status}");
        }
        assert!(!guard.ok("psentry-block status >/dev/null 2>&1"), "{change}");
        wait_until("psentry status names it", || {
            let status = guard.run("psentry status");
            let text = String::from_utf8_lossy(&status.stdout).into_owned();
            !status.status.success() && named.iter().all(|(_, what)| text.contains(what))
        });
        mend();
        for unit in ["psentry-trap", "psentry-block"] {
            wait_until(&format!("{unit} is mended"), || {
                guard.sh(&format!("systemctl show -P StatusText {unit}")).starts_with("ready")
            });
        }
        wait_until("so is the judge", || {
            guard.sh("systemctl kill --signal=USR1 psentry-trap psentry-judge");
            !guard.sh("psentry status || true").contains("last right")
        });
    }

    // A switch that says neither is refused with what to write. The trap fails and is not tried for ever; the judge is once a
    // second, and not each time that something waits for it.
    for wrong in ["s/^MODE=.*/MODE=no/", "s/^MODE=.*/OBSERVE=no/"] {
        guard.sh(&format!("sed -i '{wrong}' /etc/psentry/psentry.conf"));
        restart();
        guard.sh("echo '{}' > /run/psentry/events");
        for unit in ["psentry-trap", "psentry-judge"] {
            said(unit, "MODE=observe or MODE=block");
        }
        wait_until("the trap fails", || guard.ok("systemctl is-failed psentry-trap"));
        wait_until("the judge is restarted", || {
            guard.sh("systemctl show -P NRestarts psentry-judge").trim().parse::<u32>().unwrap() >= 5
        });
        let starts =
            "journalctl -q -u psentry-judge --since \"@$(cat /root/since)\" | grep -c 'invalid value'";
        assert!(
            guard.sh(starts).trim().parse::<u32>().unwrap() < 20,
            "it is started no more often than that"
        );
        let status = guard.run("psentry status");
        let text = String::from_utf8_lossy(&status.stdout);
        assert!(
            text.contains("CRITICAL  trap       has failed") && text.contains("CRITICAL  judge"),
            "{text}"
        );
        let selftest = guard.run("/usr/local/lib/psentry/selftest");
        let error = String::from_utf8_lossy(&selftest.stderr);
        assert!(error.contains("psentry-trap.service does not run, it is failed"), "{error}");
        mend();
        restart();
        wait_until("all run", all_run);
    }

    // The setting of an earlier psentry keeps its meaning.
    for (line, observes) in [("OBSERVE=--observe", true), ("OBSERVE=", false)] {
        guard.sh(&format!("sed -i 's/^MODE=.*/{line}/' /etc/psentry/psentry.conf"));
        restart();
        wait_until("all run", all_run);
        let status = guard.sh("systemctl show -P StatusText psentry-trap");
        assert_eq!(status.contains("observes"), observes, "{status}");
        mend();
    }

    // Where the log cannot be, blocking goes on.
    guard.sh(
        "sed -i 's|^BLOCK=.*|& --log /var/log/psentry/none/records.jsonl,16M,2|' /etc/psentry/psentry.conf",
    );
    restart();
    said("psentry-block", "none/records.jsonl cannot be written: No such file");
    wait_until("all run", all_run);
    assert!(guard.run("psentry-block status").status.code() == Some(1));
    guard.sh("mkdir -m 750 /var/log/psentry/none; chown psentry-block:psentry /var/log/psentry/none");
    // It is opened with the next record, at most once a second.
    wait_until("it is written", || {
        guard.sh("systemctl kill --signal=USR1 psentry-block");
        guard.ok("test -s /var/log/psentry/none/records.jsonl")
    });
}
