//! What a thousand decoys cost systemd, each a socket unit of its own. A measurement, run by hand: see
//! `tests/bench/README.md`.

use std::fs;
use std::time::{Duration, Instant};

use super::{GUARD, guard_and_scanner};
use crate::lab::{Booted, wait_until};

/// Kilobytes of the guard's first process.
fn resident(guard: &Booted) -> u64 {
    let status = fs::read_to_string(guard.path("/proc/1/status")).unwrap();
    let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    kilobytes.trim().trim_end_matches(" kB").parse().unwrap()
}

/// How long lines of shell take, without the way into the container.
fn time(guard: &Booted, script: &str) -> Duration {
    let nothing = Instant::now();
    guard.sh("true");
    let nothing = nothing.elapsed();
    let began = Instant::now();
    guard.sh(script);
    began.elapsed().saturating_sub(nothing)
}

#[test]
#[ignore = "a measurement: see tests/bench/README.md"]
fn a_thousand_decoys_each_a_unit() {
    if !Booted::possible() {
        return;
    }
    let (guard, scanner) = guard_and_scanner();
    guard.sh("/opt/psentry/units/install --programs /opt/psentry/bin
              systemctl disable --quiet --now psentry.target $(systemctl list-units --plain --no-legend 'psentry-*@*' | cut -d' ' -f1)");
    for (count, last) in [(10, 10_009), (1000, 10_999)] {
        let units = format!("$(printf 'psentry-tcp@%s.socket ' $(seq 10000 {last}))");
        let before = resident(&guard);
        // It reloads systemd's units, too.
        let enable = time(&guard, &format!("systemctl enable --quiet {units}"));
        let start = time(&guard, "systemctl start psentry.target");
        let restart = time(&guard, "systemctl restart psentry.target");
        let grown = resident(&guard).saturating_sub(before);
        // One visitor touches more ports a second than are recorded of one source.
        guard.sh("sed -i 's/^LISTEN=.*/LISTEN=--source-rate 100000/' /etc/psentry/psentry.conf; systemctl restart psentry-listen");
        scanner.sh(&format!("for port in $(seq 10000 {last}); do nc -z -n -w 5 {GUARD} $port || true; done"));
        wait_until("each decoy has noted its visitor", || {
            let ports =
                guard.sh("grep -o '\"dest_port\":1[0-9]*' /var/log/psentry/records.jsonl | sort -u | wc -l");
            ports.trim() == count.to_string()
        });
        let listener = guard.sh("cat /proc/$(systemctl show -P MainPID psentry-listen)/status | grep VmRSS");
        let stop = time(&guard, "systemctl stop psentry.target");
        println!(
            "{count} decoys: enable {enable:.2?}, start {start:.2?}, restart {restart:.2?}, stop {stop:.2?}; \
             systemd grew by {grown} kB; psentry-listen: {}",
            listener.trim()
        );
    }
}
