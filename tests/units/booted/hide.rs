//! Hidden ssh on a booted systemd, with a real sshd: whoever logged in gets in, a stranger does not, and nobody is locked out for good.

use super::{GUARD, SCANNER, guard_and_scanner, install_to_block};
use crate::lab::ssh::{self, Key};
use crate::lab::{Booted, Host, wait_until, wait_until_within};
use std::time::Duration;

/// Who is in the ignore file, who only logs in now and then, and who never did. The latter no longer are once they got in.
const ALLOWED: &str = "203.0.113.8";
const ROAMING: &str = "203.0.113.9";
const STRANGERS: [&str; 3] = ["203.0.113.10", "203.0.113.11", "203.0.113.12"];

/// Seconds in which an ssh that gets in is in.
const PATIENCE: u32 = 5;

struct Machine {
    guard: Booted,
    others: Host,
    key: Key,
}

impl Machine {
    fn gets_in(&self, from: &str) -> bool {
        self.key.login(&self.others, from, GUARD, PATIENCE, "true").status.success()
    }

    /// Sets the trap's flags, and waits until it stands.
    fn trap(&self, flags: &str) {
        self.guard.sh(&format!(
            "sed -i 's/^TRAP=.*/TRAP=--grace 0s {flags}/' /etc/psentry/psentry.conf; systemctl restart psentry-trap"
        ));
    }

    fn addresses(&self) {
        for address in [ALLOWED, ROAMING].into_iter().chain(STRANGERS) {
            self.others.sh(&format!("ip address add {address}/24 dev eth0"));
        }
    }

    /// Whether the veiled service answers the scanner's own address in less than so many seconds.
    fn is_served_within(&self, seconds: u8) -> bool {
        self.others.ok(&["timeout", &format!("{seconds}"), "nc", "-z", "-n", "-s", SCANNER, GUARD, "8088"])
    }

    fn forget_quarantines(&self) {
        self.guard.sh("psentry-trap unblock all");
    }
}

fn serve_behind_veil(guard: &Booted) {
    guard.sh("systemd-run --quiet --unit veiled socat TCP-LISTEN:8088,reuseaddr,fork EXEC:cat");
    wait_until("it listens", || guard.ok("ss -Hltn 'sport = :8088' | grep -q ."));
}

#[test]
fn ssh_is_hidden_and_nobody_is_locked_out() {
    if !Booted::possible() {
        return;
    }
    let (guard, others) = guard_and_scanner();
    let key = ssh::serve(&guard);
    let mut machine = Machine { guard, others, key };
    machine.addresses();
    install_to_block(&machine.guard);
    machine.guard.sh(&format!(
        "echo {ALLOWED} >> /etc/psentry/ignore; systemctl restart psentry.target; systemctl enable --now psentry-logins"
    ));

    // A login vouches, by way of the journal and the FIFO; and the judge has that, too.
    assert!(machine.gets_in(ROAMING));
    let vouched = format!("grep -qF '{ROAMING} ' /var/lib/psentry-trap/vouched");
    wait_until("its login vouches for it", || machine.guard.ok(&vouched));
    let logged = format!("grep vouch /var/log/psentry/records.jsonl | grep -F {ROAMING}");
    wait_until("the log has it", || machine.guard.ok(&logged));
    assert!(machine.guard.sh(&logged).contains(r#""user":"root","method":"ssh publickey""#));

    machine.trap("--hide 22 --confirm 10m");
    assert!(machine.gets_in(ROAMING) && machine.gets_in(ALLOWED));
    assert!(!machine.gets_in(STRANGERS[0]));
    let scan = machine.others.run(&["nmap", "-n", "-Pn", "-sS", "-S", SCANNER, "-e", "eth0", "-p22", GUARD]);
    let seen = String::from_utf8_lossy(&scan.stdout).into_owned();
    assert!(seen.contains("22/tcp filtered"), "{seen}");

    // Only a connection that is new confirms: this one is.
    let alone = machine.guard.run("psentry hide confirm");
    assert_eq!(alone.status.code(), Some(1), "{}", String::from_utf8_lossy(&alone.stderr));
    let within =
        machine.key.login(&machine.others, ROAMING, GUARD, PATIENCE, "/usr/local/bin/psentry hide confirm");
    let said = String::from_utf8_lossy(&within.stdout).into_owned();
    assert!(
        within.status.success() && said.contains("stay so"),
        "{said}{}",
        String::from_utf8_lossy(&within.stderr)
    );
    assert_eq!(machine.guard.sh("cat /var/lib/psentry-trap/confirmed"), "hide 22\n");

    // A panic opens, and so long only.
    machine.forget_quarantines();
    machine.guard.sh("psentry panic --reason 'nobody gets in'");
    wait_until("a panic opens", || machine.gets_in(STRANGERS[0]));
    machine.guard.sh("psentry resume");
    let hides = "nft list chain inet psentry_trap hidden | grep quarantine_hidden";
    wait_until("the trap hides again", || machine.guard.ok(hides));
    assert!(!machine.gets_in(STRANGERS[1]));

    // A lost confirmation: after the promised time whoever has a key gets in again, and the status says so.
    machine.forget_quarantines();
    machine.trap("--quarantine 1s --hide 22,2222 --confirm 12s");
    assert!(!machine.gets_in(STRANGERS[1]) && machine.gets_in(ALLOWED));
    wait_until_within(Duration::from_secs(30), "it gets in again", || machine.gets_in(STRANGERS[1]));
    let status = machine.guard.run("psentry status");
    let said = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(!status.status.success() && said.contains("nobody confirmed"), "{said}");

    // After a reboot, with more vouches than are remembered, whoever is allowed gets in, and whoever is familiar at the veil does so at
    // once.
    machine.trap("--hide 22 --veil 8088 --veil-own --confirm 10m");
    serve_behind_veil(&machine.guard);
    assert!(machine.is_served_within(3), "a client waits for a second");
    assert!(machine.is_served_within(1), "and only once");
    machine.guard.sh(
        "for n in $(seq 12000); do printf '{\"timestamp\":\"%s\",\"event_type\":\"vouch\",\"src_ip\":\"10.%d.%d.7\",\"vouch\":{}}\\n' \
             \"$now\" $((n / 250)) $((n % 250)); done > /root/many
         sed -i \"s/\\\"timestamp\\\":\\\"\\\"/\\\"timestamp\\\":\\\"$(date -u +%FT%TZ)\\\"/\" /root/many; cat /root/many > /run/psentry/vouches",
    );
    wait_until("the set is full", || {
        machine.guard.ok("test $(wc -l < /var/lib/psentry-trap/vouched) = 10000")
    });
    assert!(machine.gets_in(ALLOWED));
    machine.guard.reboot();
    machine.others.run(&["ip", "link", "delete", "eth0"]);
    super::connect(&machine.guard, &machine.others);
    machine.addresses();
    machine.key = ssh::serve(&machine.guard);
    wait_until("the trap stands", || machine.guard.ok("nft list chain inet psentry_trap hide"));
    serve_behind_veil(&machine.guard);
    assert!(machine.is_served_within(1), "it is still familiar");
    assert!(machine.gets_in(ALLOWED) && !machine.gets_in(STRANGERS[2]));
}
