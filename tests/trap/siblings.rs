//! A closed port beside a served one, which the clients of that one try as well, is no probe; and what of that a machine
//! says otherwise in `/etc/psentry/ports`.

use psentry_records::Class;

use super::{probe, python, quarantined, release, trap};
use crate::lab::{GUARD, Lab, Program, SCANNER, wait_until};

/// Tries a port and says how that ended. Arguments: address, port.
const TRY: &str = r#"
import socket, sys
try: socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=2); print('taken')
except ConnectionRefusedError: print('refused')
except OSError: print('silence')
"#;

/// A browser that tries https first is refused at once, goes on to http, and is served.
#[test]
fn a_browser_that_tries_https_first_is_served() {
    let lab = Lab::new();
    let web = ["-m", "http.server", "--bind", "::", "80", "--directory", "/run/psentry"];
    let _web = Program::start(lab.guard.command("python3").args(web));
    wait_until("the web server answers", || lab.innocent.reaches(GUARD[0], 80));
    let mut trap = trap(&lab, &[]);
    for (family, host) in [GUARD[0].to_owned(), format!("[{}]", GUARD[1])].into_iter().enumerate() {
        let curl = |scheme: &str| {
            let url = format!("{scheme}://{host}/");
            lab.innocent.run(&["curl", "-sS", "-o", "/dev/null", "--max-time", "10", &url])
        };
        assert_eq!(
            curl("https").status.code(),
            Some(7),
            "curl(1): it is refused; 28 would be that it waited"
        );
        assert!(curl("http").status.success());
        let stray = probe(&mut trap, "a stray", |probe| probe.common.dest_port == Some(443));
        assert_eq!((stray.body.class, stray.body.quarantine), (Some(Class::Stray), None));
        assert!(!quarantined(&lab)[family]);
    }
}

#[test]
fn each_service_has_its_siblings() {
    let lab = Lab::new();
    let served = [25, 143, 5060, 8080, 443];
    let _services = served.map(|port| lab.service(port));
    let dns = ["-u", "UDP4-RECVFROM:53,fork", "OPEN:/dev/null"];
    let _dns = Program::start(lab.guard.command("socat").args(dns));
    wait_until("the resolver is up", || lab.guard.read(&["ss", "-Hlun"]).contains(":53 "));
    let local = ["TCP4-LISTEN:110,bind=127.0.0.1,fork", "OPEN:/dev/null"];
    let _local = Program::start(lab.guard.command("socat").args(local));
    wait_until("the local service is up", || lab.guard.read(&["ss", "-Hltn"]).contains("127.0.0.1:110 "));
    let mut trap = trap(&lab, &[]);
    for port in [587, 465, 993, 5061, 8443, 853, 80] {
        release(&lab);
        assert_eq!(python(&lab.innocent, TRY, &[GUARD[0], &port.to_string()]), "refused\n", "{port}");
        assert_eq!(quarantined(&lab), [false; 2], "{port}");
    }
    release(&lab);
    lab.innocent.sh(&format!("echo hello | socat -t 0.2 - UDP4:{}:443 || true", GUARD[0]));
    probe(&mut trap, "HTTP/3", |probe| probe.common.dest_port == Some(443));
    assert_eq!(quarantined(&lab), [false; 2]);
    // What has this one beside it is served on loopback alone.
    assert_eq!(python(&lab.innocent, TRY, &[GUARD[0], "995"]), "silence\n");
    assert_eq!(quarantined(&lab), [true, false]);
}

/// Strays they are, and so the fourth port of them is a scan.
#[test]
fn who_tries_all_siblings_is_a_scanner() {
    let lab = Lab::new();
    let _services = [25, 143, 8080].map(|port| lab.service(port));
    let _trap = trap(&lab, &[]);
    for port in ["587", "465", "993"] {
        assert_eq!(python(&lab.scanner, TRY, &[GUARD[0], port]), "refused\n");
    }
    assert_eq!(python(&lab.scanner, TRY, &[GUARD[0], "8443"]), "silence\n");
    assert!(lab.scanner.is_shut_out(GUARD[0], 25));
}

#[test]
fn what_a_container_serves_has_siblings_too() {
    let lab = Lab::new();
    let _behind = lab.scanner.sends("TCP-LISTEN:80,fork", "/run/hello");
    lab.guard.sh(&format!(
        "echo 1 > /proc/sys/net/ipv4/ip_forward
         nft 'table ip nat {{ chain pre {{ type nat hook prerouting priority dstnat; tcp dport 80 dnat to {}:80; }}; }}'",
        SCANNER[0]
    ));
    let _trap = trap(&lab, &[]);
    wait_until("the published service answers", || lab.innocent.reaches(GUARD[0], 80));
    // Any change of routes makes it look at once.
    lab.guard.sh("ip route add 203.0.113.128/25 via 203.0.113.7");
    let siblings = || lab.guard.read(&["nft", "list", "set", "inet", "psentry_trap", "siblings"]);
    wait_until("its siblings are known", || siblings().contains("tcp . 443"));
    assert_eq!(python(&lab.innocent, TRY, &[GUARD[0], "443"]), "refused\n");
    // It is published in one version of IP, and clients try both.
    assert_eq!(python(&lab.innocent, TRY, &[GUARD[1], "80"]), "refused\n");
    assert_eq!(quarantined(&lab), [false; 2]);
}

/// The file is followed as it changes; a wrong one changes nothing, and is complained of.
#[test]
fn the_file_of_ports_is_followed() {
    let lab = Lab::new();
    let _service = lab.service(8088);
    lab.guard.sh("mkdir /run/etc; cp -r /etc/. /run/etc/ 2> /dev/null || true; mkdir -p /run/etc/psentry
                  mount --bind /run/etc /etc");
    let write = |text: &str| {
        lab.guard
            .sh(&format!("printf '{text}' > /etc/psentry/next; mv /etc/psentry/next /etc/psentry/ports"));
        // Any change of routes makes it look at once.
        lab.guard.sh("ip route replace 203.0.113.128/25 via 203.0.113.7; ip route del 203.0.113.128/25");
    };
    write("sibling tcp/8089 of tcp/8088\\n");
    let mut trap = trap(&lab, &[]);
    assert_eq!(python(&lab.innocent, TRY, &[GUARD[0], "8089"]), "refused\n");
    assert_eq!(quarantined(&lab), [false; 2]);
    write("sibling 8089\\n");
    let complaint = trap.complaint("/etc/psentry/ports, line 1");
    assert!(complaint.contains("what was last right counts"), "{complaint}");
    // A worm's port is a probe whatever it is beside.
    write("sibling tcp/8089 of tcp/8088\\nworm tcp/8089\\n");
    let worms = || lab.guard.read(&["nft", "list", "set", "inet", "psentry_trap", "worms"]);
    wait_until("the new file is heeded", || worms().contains("8089"));
    assert_eq!(python(&lab.innocent, TRY, &[GUARD[0], "8089"]), "silence\n");
    let found = probe(&mut trap, "a probe", |probe| probe.body.class == Some(Class::Probe));
    assert_eq!((found.common.dest_port, found.body.quarantine), (Some(8089), Some(30)));
    // Who starts it with a wrong file is told, and with what exit code.
    write("sibling 8089\\n");
    let check = lab.guard.run(&[crate::lab::bin("psentry-trap"), "--check"]);
    assert_eq!(check.status.code(), Some(78), "{}", String::from_utf8_lossy(&check.stderr));
}
