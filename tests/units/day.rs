//! An administrator's day on a booted systemd, as one script: what is typed, and what comes back, is in the golden files beside
//! this one, a file a chapter. `PSENTRY_GOLDEN=write cargo test --test psentry day::` writes them anew.
//!
//! | file | what is in it |
//! |---|---|
//! | `transcript.rs` | commands run, and compared with the golden files |
//! | `normalise.rs` | times, durations and processes, by the words that stand for them |
//! | `pages.rs` | the commands that README.md and the manual show: each is run here, or says why it is not |

mod normalise;
mod pages;
mod transcript;

use self::transcript::Transcript;
use crate::lab::{Booted, Host, ssh};

/// The guard's address; the networks of examples in the manual are other hosts' here.
const GUARD: &str = "198.18.0.1";
/// The host that scans the decoys, one that only touches a closed port, and one that comes by while the log is followed.
const SCANNERS: [&str; 3] = ["203.0.113.7", "203.0.113.8", "203.0.113.9"];
/// So often that `psentry status` says the same at each moment between two tries.
const RESTARTED: &str = "test $(systemctl show -P NRestarts psentry-judge) -ge 5";

/// A cable between them, also after a reboot of the guard.
fn connect(guard: &Booted, scanner: &Host) {
    scanner.sh(&format!(
        "ip link add eth0 type veth peer name scanner netns {}; ip link set eth0 up
         for address in {}; do ip address add $address/24 dev eth0; done; ip route add default via 203.0.113.1",
        guard.pid(),
        SCANNERS.join(" ")
    ));
    // A service that people use.
    guard.sh(&format!(
        "ip link set lo up; ip address add {GUARD} dev lo; ip address add 203.0.113.1/24 dev scanner; ip link set scanner up
         systemd-run --quiet --unit shop socat TCP-LISTEN:8080,reuseaddr,fork SYSTEM:'echo hello'
         until ss -Hltn | grep -q :8080; do sleep 0.05; done"
    ));
}

fn boot() -> Transcript {
    let (guard, scanner) = (Booted::boot(), Host::new_in_network_namespace());
    connect(&guard, &scanner);
    guard.sh("ln -sf /usr/share/zoneinfo/UTC /etc/localtime; hostname guard; echo guard > /etc/hostname
              echo nameserver 198.18.0.53 > /etc/resolv.conf; rm -rf /run/systemd/resolve");
    Transcript::new(guard, scanner)
}

/// Scans two decoys, which convicts. Other ones each time, as a touch that is repeated within seconds is not written again.
fn scan_decoys(day: &mut Transcript, ports: &str) {
    day.scan(&format!("nmap -n -Pn -sT -r --max-retries 0 -p {ports} {GUARD}"));
}

/// Whether the scanner reaches the service.
fn scan_shop(day: &mut Transcript) {
    day.scan(&format!("nmap -n -Pn -sT --max-retries 0 --host-timeout 10s -p 8080 {GUARD}"));
}

/// Touches a port that no service uses, which puts the source into quarantine.
fn touch_closed_port(day: &mut Transcript, source: &str, port: u16) {
    day.scan(&format!("nc -z -n -w 1 -s {source} {GUARD} {port}"));
    day.until(
        "it is in quarantine",
        &format!("nft list set inet psentry_trap quarantine4 | grep -F {source}"),
    );
}

fn until_blocked(day: &Transcript) {
    day.until("it is blocked", &format!("psentry-block list | grep -F {}", SCANNERS[0]));
}

fn until_well(day: &Transcript) {
    day.until("all is well", "psentry status");
}

#[test]
fn an_administrators_day() {
    if !Booted::possible() {
        return;
    }
    let mut day = boot();
    installs(&mut day);
    observes(&mut day);
    blocks(&mut day);
    releases(&mut day);
    asks_each_tool(&mut day);
    panics(&mut day);
    sets_it_wrong(&mut day);
    allows(&mut day);
    changes_decoys(&mut day);
    reloads_the_firewall(&mut day);
    reboots(&mut day);
    rotates_the_log(&mut day);
    hides_ssh(&mut day);
    upgrades(&mut day);
    uninstalls(&mut day);
    day.end();
}

fn installs(day: &mut Transcript) {
    day.chapter("01-install", "psentry is installed, by somebody who came by ssh, and observes at first.");
    day.guard.sh("echo 'export SSH_CONNECTION=\"192.0.2.44 50000 198.18.0.1 22\"' > /root/ssh");
    day.run(". /root/ssh; units/install --programs bin");
    day.run("cat /etc/psentry/ignore");
    day.note("Is it alive?");
    until_well(day);
    day.run("psentry status");
    day.run_unseen("psentry status --json");
    day.run("psentry mode");
    day.note("Are the settings sound, and does the guard notice a scan?");
    day.run("psentry check");
    day.run("psentry selftest");
    day.run("psentry list");
    day.run("psentry decoy list");
}

fn observes(day: &mut Transcript) {
    day.chapter(
        "02-observe",
        "Somebody scans. While psentry observes, nobody is shut out, and it says whom it would.",
    );
    let [scanner, _, passer_by] = SCANNERS;
    scan_decoys(day, "23,445");
    day.until(
        "it is judged",
        &format!("grep -q '\"action\":\"watch\",\"scope\":\"{scanner}' /var/log/psentry/records.jsonl"),
    );
    scan_shop(day);
    day.run("psentry list");
    day.run("psentry why 203.0.113.7");
    day.note("What did it do, and what is each touch worth?");
    day.run("psentry log 203.0.113.7");
    day.run("psentry explain 203.0.113.7");
    day.note("What happened last night?");
    day.run_unseen("psentry log --since yesterday");
    day.run("psentry log --since 24h 203.0.113.7");
    day.run_unseen("psentry log --since 24h");
    day.note("What happens now? Another host touches a decoy.");
    day.guard.sh("systemd-run --quiet --unit follow -p StandardOutput=file:/run/follow psentry log -f");
    day.until("it follows", "ls -l /proc/$(systemctl show -P MainPID follow)/fd | grep -F records.jsonl");
    day.scan(&format!("nc -z -n -w 1 -s {passer_by} {GUARD} 21 || true"));
    let seen = format!("grep -m 1 {passer_by} /run/follow");
    day.until("it is printed", &seen);
    let line = day.guard.sh(&format!("systemctl stop follow; {seen}"));
    day.ran("psentry log -f", &(line + "^C\n"));
    day.note("Whom would it have blocked, and whom by another policy?");
    day.run("psentry replay | grep -F 203.0.113.7");
    day.guard.sh("printf '[block]\\nduration = \"1d\"\\n' > /root/stricter.toml");
    day.run("cat /root/stricter.toml");
    day.run("psentry replay /root/stricter.toml | grep -F 203.0.113.7");
}

fn blocks(day: &mut Transcript) {
    day.chapter("03-mode-block", "psentry is to shut out.");
    // So that the quarantine is still there when it is asked for.
    day.run("sed -i 's/^TRAP=.*/TRAP=--quarantine 10m --grace 0s/' /etc/psentry/psentry.conf");
    day.run("psentry mode block");
    until_well(day);
    day.run("psentry status");
    scan_decoys(day, "21,3389");
    until_blocked(day);
    scan_shop(day);
    day.note("Who is shut out, and why?");
    day.run("psentry list");
    day.run("psentry why 203.0.113.7");
    day.run("psentry status");
    let touching = SCANNERS[1];
    day.note("Another host touches one closed port.");
    touch_closed_port(day, touching, 4444);
    day.scan(&format!("nc -z -n -w 1 -s {touching} {GUARD} 8080"));
    day.until("its probe is in the log", &format!("grep -q {touching} /var/log/psentry/records.jsonl"));
    day.run("psentry list");
    day.run("psentry why 203.0.113.8");
}

fn releases(day: &mut Transcript) {
    day.chapter("04-unblock", "Both are let in again.");
    day.run("psentry unblock 203.0.113.7");
    scan_shop(day);
    day.run("psentry unblock 203.0.113.8");
    day.run("nft list set inet psentry_trap quarantine4 | grep -c 203.0.113.8");
    day.guard.run("nft flush set inet psentry_trap quarantine4");
    day.run("psentry list");
    day.run("psentry why 203.0.113.7");
    day.note("Whole networks, and everybody.");
    day.run("psentry block 198.51.100.0/24 --for 2h --reason 'a flood'");
    day.run("psentry list");
    day.run("psentry why 198.51.100.9");
    day.run("psentry unblock 198.51.100.9");
    day.run("psentry unblock all");
    day.run("psentry list");
    day.note("What psentry never blocks.");
    day.run("psentry block 127.0.0.1");
    day.run("psentry block 198.18.0.1");
    day.note("What was mistyped.");
    day.run("psentry unblok 203.0.113.7");
    day.run("psentry release 203.0.113.7");
    day.run("psentry log --since 'last week'");
    day.run("psentry why shop.example.org");
}

fn asks_each_tool(day: &mut Transcript) {
    day.chapter("05-each-tool", "psentry-block and psentry-trap have commands of their own.");
    day.run("psentry-block block 192.0.2.7 --for 2h --reason 'guesses passwords'");
    day.run("psentry-block list");
    day.run("psentry-block why 192.0.2.7");
    day.run("psentry-block unblock 192.0.2.7");
    day.run("psentry-block status");
    day.note("A host touches one closed port.");
    // Another one than the scanner of the next chapter, whom its first decoy would convict together with this port.
    touch_closed_port(day, SCANNERS[1], 4445);
    day.run("psentry-trap list");
    day.run("psentry-trap why 203.0.113.8");
    day.run("psentry-trap unblock 203.0.113.8");
    day.run("psentry-trap unblock all");
    day.run_unseen("psentry-trap status");
    day.note("Both let everybody in.");
    day.run("psentry-block panic --reason 'customers are blocked'");
    day.run("psentry-block resume");
}

fn panics(day: &mut Transcript) {
    day.chapter("06-panic", "The wrong people are shut out: everybody is let in, at once, and it stays so.");
    scan_decoys(day, "1433,5900");
    until_blocked(day);
    day.run("psentry panic --reason 'the shop is down'");
    scan_shop(day);
    day.run("psentry status");
    day.run("psentry list");
    day.run("psentry why 203.0.113.7");
    day.note("Nobody is shut out meanwhile, by the trap neither.");
    let touching = SCANNERS[1];
    day.scan(&format!("nc -z -n -w 1 -s {touching} {GUARD} 4444"));
    day.scan(&format!("nc -z -n -w 1 -s {touching} {GUARD} 8080"));
    day.note("A second one keeps the reason of the first.");
    day.run("psentry panic");
    day.run("psentry status | grep panic");
    day.run("psentry resume");
    until_well(day);
    day.run("psentry status");
    day.run("psentry resume");
}

/// A wrong setting, what is seen of it, and how it is mended. What was restarted all the time is forgotten last, since systemd
/// may be about to restart it once more until then.
fn wrong(day: &mut Transcript, about: &str, change: &str, seen: &str, mend: &str) {
    day.note(about);
    day.run(change);
    day.until("it is noticed", seen);
    day.run("psentry status");
    day.run("psentry check");
    day.run(mend);
    until_well(day);
}

fn sets_it_wrong(day: &mut Transcript) {
    day.chapter("07-wrong-settings", "Settings that are wrong: what can go on goes on with what was right before, and all of them are reported.");
    let restart = "systemctl restart psentry.target";
    let degraded = |stages: &[&str]| -> String {
        let each = stages.iter().map(|stage| format!("echo \"$status\" | grep -q '^WARNING *{stage} '"));
        format!(
            "status=$(psentry status || true); echo \"$status\"; {}",
            each.collect::<Vec<_>>().join(" && ")
        )
    };
    wrong(
        day,
        "The natural guess at how to turn it off.",
        &format!(
            "sed -i 's/^MODE=.*/OBSERVE=no/' /etc/psentry/psentry.conf; systemctl daemon-reload; {restart}"
        ),
        &format!("systemctl is-failed psentry-trap && {RESTARTED}"),
        "psentry mode block; systemctl reset-failed 'psentry-*'",
    );
    wrong(
        day,
        "A policy that the judge may not read.",
        &format!("chmod 600 /etc/psentry/policy.toml; {restart}"),
        &degraded(&["judge"]),
        &format!("chmod 644 /etc/psentry/policy.toml; {restart}"),
    );
    wrong(
        day,
        "A host name in the ignore file.",
        "echo office.example.org >> /etc/psentry/ignore",
        &degraded(&["trap", "judge", "block"]),
        "sed -i '/office/d' /etc/psentry/ignore",
    );
    wrong(
        day,
        "No ignore file.",
        &format!("mv /etc/psentry/ignore /root/ignore; {restart}"),
        &degraded(&["trap", "judge", "block"]),
        "mv /root/ignore /etc/psentry/ignore",
    );
    wrong(
        day,
        "A log in a directory that is not there.",
        &format!(
            "sed -i 's|^BLOCK=.*|& --log /var/log/none/records.jsonl,16M,20|' /etc/psentry/psentry.conf; systemctl daemon-reload; {restart}"
        ),
        "systemctl is-active psentry-block && ! psentry status",
        &format!(
            "sed -i 's|^BLOCK=.*|BLOCK=--backend nft|' /etc/psentry/psentry.conf; systemctl daemon-reload; {restart}"
        ),
    );
    wrong(
        day,
        "A flag that there is not.",
        &format!(
            "sed -i 's|^JUDGE=.*|JUDGE=--nonsense|' /etc/psentry/psentry.conf; systemctl daemon-reload; {restart}"
        ),
        RESTARTED,
        &format!(
            "sed -i 's|^JUDGE=.*|JUDGE=|' /etc/psentry/psentry.conf; systemctl daemon-reload; {restart}; systemctl reset-failed 'psentry-*'"
        ),
    );
}

fn allows(day: &mut Transcript) {
    day.chapter("08-allow", "A host is never to be shut out, and is let in at once.");
    scan_decoys(day, "79,7547");
    until_blocked(day);
    day.run("psentry allow add 203.0.113.7");
    day.until("it is released", "! psentry-block list | grep -F 203.0.113.7");
    scan_shop(day);
    day.run("psentry why 203.0.113.7");
    day.run("psentry allow add 203.0.113.7");
    day.note("A whole network, and who is left alone by now.");
    day.run("psentry allow add 192.0.2.0/24");
    day.run("psentry allow list");
    day.run("psentry block 192.0.2.9");
    day.run("psentry allow remove 203.0.113.7");
    day.run("psentry allow remove 203.0.113.7");
    day.run("cat /etc/psentry/ignore");
}

fn changes_decoys(day: &mut Transcript) {
    day.chapter("09-decoys", "A new service wants a port that is a decoy, and another port becomes one.");
    let service = "systemd-run --quiet --unit redis socat TCP-LISTEN:6379,reuseaddr,fork EXEC:cat";
    day.run(service);
    day.until("it fails", "systemctl is-failed redis");
    day.run("journalctl -q -u redis -o cat --no-pager | grep -F bind");
    day.run("systemctl reset-failed redis; psentry decoy remove 6379");
    day.run(service);
    day.until("it listens", "ss -Hltnp 'sport = :6379' | grep -q socat");
    day.scan(&format!("nmap -n -Pn -sT --max-retries 0 -p 6379 {GUARD}"));
    day.run("psentry decoy remove 6379");
    day.run("psentry decoy add 6379");
    day.run("psentry decoy add 2222");
    day.run("psentry decoy add 2222");
    day.run("psentry decoy add 70000");
    day.run("psentry decoy list | grep -x -e 2222/tcp -e 6379/tcp");
    until_well(day);
}

fn reloads_the_firewall(day: &mut Transcript) {
    day.chapter(
        "10-nftables",
        "The firewall is loaded anew, and its file begins by flushing everybody's rules.",
    );
    scan_decoys(day, "113,9200");
    until_blocked(day);
    day.guard.sh("printf '%s\\n' '#!/usr/sbin/nft -f' 'flush ruleset' 'table inet filter {' \
                  '    chain input { type filter hook input priority filter; policy accept; }' '}' > /etc/nftables.conf");
    day.run("cat /etc/nftables.conf");
    day.run("nft -f /etc/nftables.conf");
    day.until(
        "both tables are back",
        "nft list table inet psentry_trap && nft list table inet psentry | grep -F 203.0.113.7",
    );
    day.run("nft list tables");
    day.run("psentry list");
    scan_shop(day);
    until_well(day);
    day.run("psentry status");
}

fn reboots(day: &mut Transcript) {
    day.chapter("11-reboot", "The machine is booted again: blocks outlive that.");
    day.ran("systemctl reboot", "");
    day.guard.reboot();
    connect(&day.guard, &day.scanner);
    until_well(day);
    until_blocked(day);
    day.run("psentry status");
    day.run("psentry list");
    scan_shop(day);
}

fn rotates_the_log(day: &mut Transcript) {
    day.chapter("12-log", "The log is to be small, and is rotated.");
    day.run("sed -i 's|^BLOCK=.*|& --log /var/log/psentry/records.jsonl,64K,3|' /etc/psentry/psentry.conf");
    day.run("systemctl daemon-reload; systemctl restart psentry.target");
    day.until("it is rotated", "systemctl kill --signal=USR1 psentry-listen psentry-judge psentry-block; test -e /var/log/psentry/records.jsonl.1");
    day.run("ls /var/log/psentry; psentry log 203.0.113.7 | grep -m 1 probe");
    day.run("sed -i 's|^BLOCK=.*|BLOCK=--backend nft|' /etc/psentry/psentry.conf");
    day.run("systemctl daemon-reload; systemctl restart psentry.target");
    until_well(day);
}

fn hides_ssh(day: &mut Transcript) {
    day.chapter("13-hide", "Nobody is to see ssh but who has logged in lately, or is in the ignore list.");
    let [_, stranger, administrator] = SCANNERS;
    let key = ssh::serve(&day.guard);
    day.run("systemctl enable --now psentry-logins");
    assert!(key.login(&day.scanner, administrator, GUARD, 5, "true").status.success());
    day.until("the login vouches", &format!("grep -F {administrator} /var/lib/psentry-trap/vouched"));
    day.run("sed -i 's/^TRAP=.*/& --hide 22 --confirm 10m/' /etc/psentry/psentry.conf");
    day.run("systemctl restart psentry-trap");
    day.scan(&format!("nc -z -n -w 1 -s {stranger} {GUARD} 22"));
    day.until("it is blocked", &format!("psentry-block list | grep -F {stranger}"));
    day.run("psentry list");
    day.note("Does the administrator still get in? Only a connection that is new shows it.");
    day.run("psentry hide confirm");
    day.note("By ssh, from where he works:");
    let confirmed = key.login(&day.scanner, administrator, GUARD, 5, "/usr/local/bin/psentry hide confirm");
    assert!(confirmed.status.success());
    day.ran("psentry hide confirm", &String::from_utf8_lossy(&confirmed.stdout));
    day.run_unseen("psentry-trap status");
    day.run("psentry unblock 203.0.113.8");
    day.run("systemctl disable --now psentry-logins; sed -i 's/ --hide.*//' /etc/psentry/psentry.conf");
    day.run("systemctl restart psentry-trap; systemctl stop sshd");
    until_well(day);
}

fn upgrades(day: &mut Transcript) {
    day.chapter(
        "14-upgrade",
        "A newer psentry is installed over it, with the settings, decoys and blocks that there are.",
    );
    day.run("units/install --programs bin");
    until_well(day);
    day.run("psentry mode");
    day.run("psentry list");
    day.run("psentry allow list | grep -F 192.0.2.0/24");
    day.run("psentry decoy list | grep -x -e 2222/tcp -e 6379/tcp");
}

fn uninstalls(day: &mut Transcript) {
    day.chapter(
        "15-uninstall",
        "psentry goes, first but for settings and log, then altogether, and once more.",
    );
    day.run("units/uninstall --keep");
    scan_shop(day);
    day.run("ls /etc/psentry");
    day.run("psentry status");
    day.run("units/uninstall");
    day.run("units/uninstall");
    day.run("ls -d /etc/psentry /var/log/psentry /var/lib/psentry* /run/psentry*");
    day.run("nft list tables");
    day.run("systemctl list-units --all --no-legend --plain 'psentry*'");
    day.run("getent group psentry");
}
