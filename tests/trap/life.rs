//! Start, stop, kill -9, and what goes wrong: a stopped trap leaves nothing, and a new one takes over what a killed one
//! left.

use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{probe, quarantined, stands, trap};
use crate::lab::{GUARD, Lab, Notified, Program, bin, wait_until};

const SERVICE: u16 = 8088;

/// The process that reads packets.
pub fn worker(trap: &Program) -> i32 {
    let of = |pid: u32| {
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        let command = |pid: &str| std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let is_it = |pid: &&str| command(pid).windows(8).any(|word| word == b"--worker");
        children.split_whitespace().find(is_it).and_then(|pid| pid.parse().ok())
    };
    let mut found = None;
    wait_until("the worker runs", || {
        found = of(trap.pid());
        found.is_some()
    });
    found.unwrap()
}

#[test]
fn a_stopped_trap_leaves_nothing() {
    let lab = Lab::new();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT] {
        let mut trap = trap(&lab, &[]);
        lab.scanner.is_shut_out(GUARD[0], 9);
        assert_eq!(quarantined(&lab), [true, false]);
        trap.signal(signal);
        let (status, lines, errors) = trap.end();
        assert_eq!(status.code(), Some(0), "{errors:?}");
        assert_eq!(lab.guard.read(&["nft", "list", "ruleset"]), "");
        // What was logged before the end is told before it.
        assert!(
            !super::probes(&lines).is_empty() && lines.last().unwrap().contains("\"stats\""),
            "{lines:?}"
        );
    }
}

#[test]
fn what_a_killed_trap_left_the_next_one_takes_over() {
    let lab = Lab::new();
    let _service = lab.service(SERVICE);
    let mut first = trap(&lab, &[]);
    let left = worker(&first);
    first.signal(Signal::SIGKILL);
    first.end();
    wait_until("its worker has ended, too", || !std::path::Path::new(&format!("/proc/{left}")).exists());
    // Its rules go on shutting scanners out.
    lab.scanner.is_shut_out(GUARD[0], 9);
    assert!(stands(&lab) && lab.scanner.is_shut_out(GUARD[0], SERVICE));

    let mut second = Program::start(&mut lab.guard.command(bin("psentry-trap")));
    wait_until("the next one has taken over", || lab.scanner.reaches(GUARD[0], SERVICE));
    lab.scanner.is_shut_out(GUARD[0], 9);
    probe(&mut second, "a probe", |_| true);
    second.terminate();
    assert_eq!(lab.guard.read(&["nft", "list", "ruleset"]), "");
}

/// Systemd is told when the rules are loaded, and its watchdog as long as the trap works; at the end there is a summary.
#[test]
fn the_service_manager_is_told_and_the_end_is_summed_up() {
    let lab = Lab::new();
    let notified = Notified::new();
    let mut command = lab.guard.command(bin("psentry-trap"));
    // The watchdog is for that process alone whose number this is; without a number it is for any (sd_watchdog_enabled(3)).
    let mut trap = Program::start(
        command
            .env("NOTIFY_SOCKET", &notified.path)
            .env("WATCHDOG_USEC", "400000")
            .env_remove("WATCHDOG_PID"),
    );
    notified.hears("READY=1");
    assert!(stands(&lab), "the rules are loaded");
    trap.complaint("ready: traps every TCP port and every UDP port without a socket, on every interface");
    notified.hears("WATCHDOG=1");
    notified.forget();
    notified.hears("WATCHDOG=1");
    let (status, _, errors) = trap.terminate();
    assert!(status.success());
    let want = "ended: 0 packets seen, 0 of them beyond --source-rate or --rate; 0 packets put a source";
    assert!(errors.iter().any(|line| line.contains(want)), "{errors:?}");
}

/// The worker has no privilege left, and without it there is no trap.
#[test]
fn the_worker_has_no_privilege_and_its_end_is_the_traps() {
    let lab = Lab::new();
    let mut trap = trap(&lab, &[]);
    let pid = worker(&trap);
    let status = || std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    wait_until("it has dropped its privileges", || status().contains("NoNewPrivs:\t1"));
    wait_until("it has dropped its capabilities", || {
        ["CapInh", "CapPrm", "CapEff", "CapAmb"]
            .iter()
            .all(|set| status().contains(&format!("{set}:\t0000000000000000")))
    });
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    let (status, _, errors) = trap.end();
    assert_eq!(status.code(), Some(71), "{errors:?}");
    assert!(errors.iter().any(|line| line.contains("the rules are removed")), "{errors:?}");
    assert_eq!(lab.guard.read(&["nft", "list", "ruleset"]), "");
}

#[test]
fn without_a_reader_of_its_probes_it_ends() {
    let lab = Lab::new();
    let mut trap = Program::start_piped(lab.guard.command(bin("psentry-trap")).stdin(Stdio::null()));
    wait_until("the trap stands", || stands(&lab));
    drop(trap.stdout());
    let (status, _, errors) = trap.end();
    assert_eq!(status.code(), Some(74), "{errors:?}");
    assert_eq!(lab.guard.read(&["nft", "list", "ruleset"]), "");
}

#[test]
fn what_is_missing_is_said() {
    let lab = Lab::new();
    let fails = |command: &[&str], code: i32, says: &str| {
        let output = lab.guard.run(command);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(says), "{said}");
    };
    let trap_path = bin("psentry-trap");
    fails(&["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", trap_path], 77, "CAP_NET_ADMIN");
    assert_eq!(lab.guard.read(&["nft", "list", "ruleset"]), "");
    let _first = trap(&lab, &[]);
    fails(&[trap_path], 69, "another program reads NFLOG group 7073");
    assert!(stands(&lab), "the second one leaves the first one's rules alone");
    assert!(lab.guard.read(&[trap_path, "--print", "--icmp"]).contains("chain log_icmp"));
}

/// A gateway that comes later is none of the trap's business from then on.
#[test]
fn gateways_and_resolvers_are_followed() {
    let lab = Lab::new();
    let _service = lab.service(SERVICE);
    let _trap = trap(&lab, &[]);
    lab.guard.sh("ip route add default via 203.0.113.7");
    let known = || lab.guard.read(&["nft", "list", "set", "inet", "psentry_trap", "infrastructure4"]);
    wait_until("the gateway is known", || known().contains("203.0.113.7"));
    lab.scanner.run(&["nc", "-z", "-n", "-w", "1", GUARD[0], "9"]);
    assert!(lab.scanner.reaches(GUARD[0], SERVICE));
    lab.guard.sh("ip route del default");
    wait_until("the gateway is forgotten", || !known().contains("203.0.113.7"));
    lab.scanner.is_shut_out(GUARD[0], 9);
    assert!(lab.scanner.is_shut_out(GUARD[0], SERVICE));
}

/// The ports of our own clients are where the kernel says they are now, not where it said so at the start.
#[test]
fn the_ports_of_our_own_clients_are_followed() {
    let lab = Lab::new();
    let _trap = trap(&lab, &[]);
    let known = || lab.guard.read(&["nft", "list", "set", "inet", "psentry_trap", "client_ports"]);
    assert!(known().contains("32768-60999"), "{}", known());
    lab.guard.sh("echo 20000 29999 > /proc/sys/net/ipv4/ip_local_port_range");
    // Any change of routes makes it look at once.
    lab.guard.sh("ip route add 203.0.113.128/25 via 203.0.113.7");
    wait_until("the new range is known", || known().contains("20000-29999"));
    assert!(!known().contains("32768"), "{}", known());
    let datagram = |port: &str| {
        lab.scanner.read(&["nmap", "-n", "-Pn", "-sU", "--max-retries", "0", "-p", port, GUARD[0]]);
    };
    // Once by right; beyond the range at nobody's port.
    datagram("25000");
    assert_eq!(quarantined(&lab), [false, false]);
    datagram("40000");
    assert_eq!(quarantined(&lab), [true, false]);
}
