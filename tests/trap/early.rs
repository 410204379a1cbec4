//! A service that is not up yet: a client that is early is not kept out for long once it is, and neither is the client of
//! a container that restarts. Served ports outlive a restart of the trap, and for a while after the machine came up no
//! closed port is a trap.

use super::{probe, quarantined, trap};
use crate::lab::{GUARD, Lab, Program, SCANNER, wait_until};
use psentry_records::Class;

const SERVICE: u16 = 8088;
/// One for each version of IP, since a port that was served is no trap for a while.
const EARLY: [u16; 2] = [8000, 8001];

/// A web server. Its requests go to nobody's log.
fn web(lab: &Lab, port: u16) -> Program {
    let server = ["-m", "http.server", "--bind", "::", &port.to_string(), "--directory", "/run/psentry"];
    Program::start(lab.guard.command("python3").args(server))
}

/// curl(1) asks before the server is up, and its SYN, sent again by the kernel after 1, 3 and 7 seconds, finds it.
#[test]
fn a_client_that_is_early_is_let_in_when_the_service_is_up() {
    let lab = Lab::new();
    let _service = lab.service(SERVICE);
    let _trap = trap(&lab, &["--quarantine", "10m"]);
    for (family, host) in [GUARD[0].to_owned(), format!("[{}]", GUARD[1])].into_iter().enumerate() {
        let port = EARLY[family];
        let url = format!("http://{host}:{port}/");
        let curl = ["-sS", "--output", "/dev/null", "--connect-timeout", "25", &url];
        let mut client = Program::start(lab.innocent.command("curl").args(curl));
        wait_until("the client was early", || quarantined(&lab)[family]);
        // A scanner did not ask for that port.
        assert!(lab.scanner.is_shut_out(GUARD[family], 9));
        assert!(lab.innocent.is_shut_out(GUARD[family], SERVICE));
        let _web = web(&lab, port);
        let (status, _, errors) = client.end();
        assert!(status.success(), "{errors:?}");
        assert!(lab.innocent.reaches(GUARD[family], SERVICE), "the quarantine has ended");
        assert!(lab.scanner.is_shut_out(GUARD[family], port), "a scanner's has not");
        assert!(lab.scanner.is_shut_out(GUARD[family], SERVICE));
    }
}

/// A restart of psentry, or of the machine, before the service is up again.
#[test]
fn what_was_served_before_a_restart_is_no_trap_after_it() {
    let lab = Lab::new();
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().to_str().unwrap();
    {
        let _service = lab.service(SERVICE);
        let mut first = trap(&lab, &["--state", state]);
        assert!(lab.innocent.reaches(GUARD[0], SERVICE));
        assert!(first.terminate().0.success());
    }
    assert!(lab.innocent.is_shut_out(GUARD[0], SERVICE), "it is down");
    let mut trap = trap(&lab, &["--state", state]);
    for guard in GUARD {
        assert!(!lab.innocent.reaches(guard, SERVICE));
    }
    assert_eq!(quarantined(&lab), [false; 2]);
    let _service = lab.service(SERVICE);
    assert!(trap.terminate().0.success());
    let kept = std::fs::read_to_string(folder.path().join("served")).unwrap();
    assert!(kept.lines().any(|line| line == format!("tcp/{SERVICE}")), "{kept}");
}

/// A folder that cannot be written is complained of, and no more.
#[test]
fn without_its_folder_the_trap_stands() {
    let lab = Lab::new();
    let _service = lab.service(SERVICE);
    let mut trap = trap(&lab, &["--state", "/proc/nonexistent"]);
    assert!(lab.scanner.is_shut_out(GUARD[0], 9) && quarantined(&lab)[0]);
    let (status, _, errors) = trap.terminate();
    assert!(
        status.success() && errors.iter().any(|line| line.contains("/proc/nonexistent/served")),
        "{errors:?}"
    );
}

/// The trap on a machine that has been up for so many seconds (time_namespaces(7)).
fn up_for(lab: &Lab, seconds: u64, flags: &[&str]) -> Program {
    let up = std::fs::read_to_string("/proc/uptime").unwrap();
    let up: f64 = up.split(' ').next().unwrap().parse().unwrap();
    let offset = (seconds as f64 - up).round().to_string();
    let unshare = ["--time", "--boottime", &offset, crate::lab::bin("psentry-trap")];
    let trap = Program::start(lab.guard.command("unshare").args(unshare).args(flags));
    wait_until("the trap stands", || super::stands(lab));
    trap
}

/// A client that polls three services while the machine comes up is told of, and no more.
#[test]
fn for_a_while_after_the_machine_came_up_no_closed_port_is_a_trap() {
    let lab = Lab::new();
    let mut trap = up_for(&lab, 60, &["--grace", "2m"]);
    for (family, guard) in GUARD.into_iter().enumerate() {
        for port in [5432, 6379, 9200] {
            let said =
                lab.innocent.run(&["nc", "-z", "-v", "-n", "-w", "5", guard, &port.to_string()]).stderr;
            assert!(String::from_utf8_lossy(&said).contains("refused"), "it may try again at once");
            let stray = probe(&mut trap, "a stray", |probe| probe.common.dest_port == Some(port));
            assert_eq!(stray.body.class, Some(Class::Stray));
        }
        assert!(!quarantined(&lab)[family]);
        // A scanner is one all the same, at the fourth port; and a worm's port is a probe at once.
        assert!(lab.innocent.is_shut_out(guard, 9300));
        assert!(lab.scanner.is_shut_out(guard, 23));
        probe(&mut trap, "a probe", |probe| probe.body.class == Some(Class::Probe));
    }
}

#[test]
fn the_grace_ends() {
    let lab = Lab::new();
    let mut ended = up_for(&lab, 121, &["--grace", "2m"]);
    assert!(lab.scanner.is_shut_out(GUARD[0], 9));
    let found = probe(&mut ended, "a probe", |_| true);
    assert_eq!((found.body.class, found.body.quarantine), (Some(Class::Probe), Some(30)));
    ended.terminate();
    // While the trap runs, too.
    let mut ending = up_for(&lab, 110, &["--grace", "2m"]);
    let mut port = 100;
    let ended = || {
        port += 1;
        super::release(&lab);
        lab.scanner.run(&["nc", "-z", "-n", "-w", "1", GUARD[0], &port.to_string()]);
        quarantined(&lab)[0]
    };
    wait_until("the grace is over", ended);
    probe(&mut ending, "a stray before", |probe| probe.body.class == Some(Class::Stray));
}

/// Publishes a port of the guard from a container, or ends that.
fn publish(lab: &Lab, published: bool) {
    let rules = format!(
        "table ip nat {{ chain pre {{ type nat hook prerouting priority dstnat; tcp dport 8443 dnat to {}:80; \
         udp dport 8443 dnat to {}:53; }}; }}",
        SCANNER[0], SCANNER[0]
    );
    if published {
        lab.guard.read(&["nft", &rules]);
    } else {
        lab.guard.read(&["nft", "delete", "table", "ip", "nat"]);
    }
}

#[test]
fn a_container_that_restarts_costs_its_clients_nothing() {
    let lab = Lab::new();
    let _behind = lab.scanner.sends("TCP-LISTEN:80,fork", "/run/hello");
    let _dns = Program::start(lab.scanner.command("socat").args(["UDP-LISTEN:53,fork", "EXEC:cat"]));
    lab.guard.sh("echo 1 > /proc/sys/net/ipv4/ip_forward");
    publish(&lab, true);
    wait_until("the published service answers", || lab.innocent.reaches(GUARD[0], 8443));
    let trap = trap(&lab, &[]);
    let ask = || lab.innocent.sh(&format!("echo question | socat -t 1 - UDP4:{}:8443 || true", GUARD[0]));
    for _ in 0..3 {
        assert!(lab.innocent.reaches(GUARD[0], 8443));
        wait_until("the container answers datagrams", || ask() == "question\n");
        publish(&lab, false);
        assert!(!lab.innocent.reaches(GUARD[0], 8443), "nothing is published");
        ask();
        publish(&lab, true);
    }
    assert!(lab.innocent.reaches(GUARD[0], 8443));
    super::unseen(trap);
}

/// Only a container that answers makes a port served: whoever tries all ports of an address behind the router does not.
#[test]
fn a_published_port_that_nobody_answers_at_is_not_served() {
    let lab = Lab::new();
    lab.guard.sh("echo 1 > /proc/sys/net/ipv4/ip_forward");
    publish(&lab, true);
    let _trap = trap(&lab, &[]);
    wait_until("the container refuses", || {
        let said = lab.innocent.run(&["nc", "-z", "-v", "-n", "-w", "1", GUARD[0], "8443"]).stderr;
        String::from_utf8_lossy(&said).contains("refused")
    });
    publish(&lab, false);
    assert!(lab.innocent.is_shut_out(GUARD[0], 8443));
    assert_eq!(quarantined(&lab), [true, false]);
}

#[test]
fn a_client_of_a_container_that_is_early_is_let_in_when_it_is_published() {
    let lab = Lab::new();
    let _service = lab.service(SERVICE);
    let _behind = lab.scanner.sends("TCP-LISTEN:80,fork", "/run/hello");
    lab.guard.sh("echo 1 > /proc/sys/net/ipv4/ip_forward");
    let _trap = trap(&lab, &["--quarantine", "10m"]);
    assert!(lab.innocent.is_shut_out(GUARD[0], 8443));
    assert!(lab.innocent.is_shut_out(GUARD[0], SERVICE));
    publish(&lab, true);
    wait_until("the published service answers", || lab.innocent.reaches(GUARD[0], 8443));
    assert!(lab.innocent.reaches(GUARD[0], SERVICE));
}
