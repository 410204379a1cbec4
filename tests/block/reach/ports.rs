//! The probed ports alone.

use std::io::Write;

use super::*;

/// What the scanner sees of three services by TCP and of one by UDP.
fn seen(lab: &Lab) -> [bool; 4] {
    let reached = [21, 22, 23].map(|port| call(&lab.scanner, GUARD[0], port) == "reached");
    [reached[0], reached[1], reached[2], answered(&lab.scanner, ROUTER, 23)]
}

fn services(lab: &Lab) -> [Program; 4] {
    [service(&lab.guard, 21), service(&lab.guard, 22), service(&lab.guard, 23), echo(&lab.guard, 23)]
}

fn block_ports(program: &mut Program, stdin: &mut ChildStdin, ports: &[u16], proto: Proto, duration: u64) {
    tell(stdin, ports, proto, duration);
    assert_eq!(result(program, SCOPE), OutcomeResult::Applied);
}

#[test]
fn only_the_ports_that_verdicts_name_are_shut_and_all_of_them() {
    for backend in FILTERS {
        let lab = Lab::new();
        let _services = services(&lab);
        let before = firewall(&lab);
        let (mut program, mut stdin) = start(&lab, &["--backend", backend, "--ports", "probed"]);
        assert_eq!(seen(&lab), [true; 4]);
        block_ports(&mut program, &mut stdin, &[22], Proto::Tcp, 600);
        assert_eq!(seen(&lab), [true, false, true, true], "{backend}");
        let list = lab.guard.read(&[bin("psentry-block"), "list", "--json", "--backend", backend]);
        assert!(list.contains("\"proto\":\"TCP\"") && list.contains("\"ports\":[22]"), "{backend}: {list}");
        // What is shut already, for as long.
        tell(&mut stdin, &[22], Proto::Tcp, 60);
        assert_eq!(result(&mut program, SCOPE), OutcomeResult::Already, "{backend}");
        // One more, for less: each shuts what the other does not, and both stand to the later end.
        block_ports(&mut program, &mut stdin, &[23], Proto::Tcp, 60);
        assert_eq!(seen(&lab), [true, false, false, true], "{backend}");
        block_ports(&mut program, &mut stdin, &[23], Proto::Udp, 60);
        assert_eq!(seen(&lab), [true, false, false, false], "{backend}");
        let list = lab.guard.read(&[bin("psentry-block"), "list", "--json", "--backend", backend]);
        assert_eq!(list.matches(SCOPE).count(), 1, "{backend}: {list}");
        // TCP and UDP together shut both ports of either.
        assert!(list.contains("\"ports\":[22,23]") && !list.contains("\"proto\""), "{backend}: {list}");
        let shown = |line: &str| {
            let words: Vec<&str> = line.split(' ').collect();
            lab.guard.read(&[&[bin("psentry-block")], &*words, &["--backend", backend]].concat())
        };
        assert!(shown("list").contains("  22,23  "), "{backend}: {}", shown("list"));
        let why = shown("why 203.0.113.7");
        assert!(why.contains("  ports   22,23\n"), "{backend}: {why:?}");
        unblock(&mut program, &mut stdin);
        assert_eq!(seen(&lab), [true; 4], "{backend}");
        // A verdict that names no port shuts all, and so it stays.
        block_ports(&mut program, &mut stdin, &[22], Proto::Tcp, 60);
        block_ports(&mut program, &mut stdin, &[], Proto::Tcp, 600);
        assert_eq!(seen(&lab), [false; 4], "{backend}");
        tell(&mut stdin, &[22], Proto::Tcp, 60);
        assert_eq!(result(&mut program, SCOPE), OutcomeResult::Already, "{backend}");
        unblock(&mut program, &mut stdin);
        assert_eq!(seen(&lab), [true; 4], "{backend}");
        program.terminate();
        flush(&lab, backend);
        assert_eq!(firewall(&lab), before, "{backend}");
    }
}

#[test]
fn a_network_is_shut_out_of_ports_and_ends_on_time() {
    let lab = Lab::new();
    let _services = services(&lab);
    for backend in FILTERS {
        let (mut program, mut stdin) = start(&lab, &["--backend", backend, "--ports", "probed"]);
        for (scope, address) in [("203.0.113.4/30", GUARD[0]), ("2001:db8:7::/64", GUARD[1])] {
            let mut common = Common::at(Timestamp::now());
            (common.proto, common.dest_port) = (Some(Proto::Tcp), Some(22));
            let body =
                VerdictBody { duration: Some(5), ..VerdictBody::new(Action::Block, scope.parse().unwrap()) };
            Writer::new(&mut stdin).write(&Record::Verdict(Verdict { common, body })).unwrap();
            assert_eq!(result(&mut program, scope), OutcomeResult::Applied);
            assert_eq!(call(&lab.scanner, address, 22), "timed out", "{backend} {scope}");
            assert_eq!(call(&lab.scanner, address, 21), "reached", "{backend} {scope}");
            assert_eq!(result(&mut program, scope), OutcomeResult::Expired);
            wait_until("the block is over", || call(&lab.scanner, address, 22) == "reached");
        }
        program.terminate();
        flush(&lab, backend);
    }
}

#[test]
fn a_port_is_shut_in_both_directions_where_that_is_asked_for() {
    for backend in FILTERS {
        let lab = Lab::new();
        let _services = services(&lab);
        // The answer of a service that is asked over another way: nothing comes in from the scanner himself.
        let (mut program, mut stdin) =
            start(&lab, &["--backend", backend, "--ports", "probed", "--egress", "yes"]);
        let sends = |from: u16| {
            lab.guard.ok(&[
                "sh",
                "-c",
                &format!("echo hi | socat -u - UDP:{}:9055,sourceport={from}", SCANNER[0]),
            ])
        };
        assert!(sends(4000) && sends(4001));
        block_ports(&mut program, &mut stdin, &[4000], Proto::Udp, 600);
        assert!(!sends(4000), "{backend}");
        assert!(sends(4001), "{backend}");
    }
}

#[test]
fn ports_are_remembered_and_put_back_when_others_delete_them() {
    let state = tempfile::tempdir().unwrap();
    let path = state.path().to_str().unwrap();
    for backend in FILTERS {
        let flags = ["--backend", backend, "--ports", "probed", "--state", path];
        {
            let lab = Lab::new();
            let _services = services(&lab);
            let (mut program, mut stdin) = start(&lab, &flags);
            block_ports(&mut program, &mut stdin, &[22], Proto::Tcp, 600);
            block_ports(&mut program, &mut stdin, &[21], Proto::Tcp, 600);
            assert_eq!(seen(&lab), [false, false, true, true], "{backend}");
            if backend == "nft" {
                let rule = "nft delete rule inet psentry prerouting handle \
                     $(nft -a list chain inet psentry prerouting | sed -n 's/.*@v4_32_ports .*handle //p')";
                // Both ports are one block: of which one is deleted, both are put again.
                let port = "nft delete element inet psentry v4_32_ports { 203.0.113.7 . tcp . 21 }";
                for (vandal, block) in [("nft flush ruleset", true), (rule, false), (port, true)] {
                    lab.guard.sh(vandal);
                    program.complaint("put back within");
                    if block {
                        put_back(&mut program, SCOPE);
                    }
                    assert_eq!(seen(&lab), [false, false, true, true], "{vandal}");
                }
            }
            program.signal(Signal::SIGKILL);
            program.end();
        }
        // A reboot.
        let lab = Lab::new();
        let _services = services(&lab);
        let (mut program, mut stdin) = start(&lab, &flags);
        program.complaint("put back 1 block");
        assert_eq!(seen(&lab), [false, false, true, true], "{backend}");
        // What was put back is still known: more for it is added.
        block_ports(&mut program, &mut stdin, &[23], Proto::Tcp, 600);
        assert_eq!(seen(&lab), [false, false, false, true], "{backend}");
        lab.guard.read(&[
            bin("psentry-block"),
            "unblock",
            "--json",
            SCOPE,
            "--backend",
            backend,
            "--state",
            path,
        ]);
        assert_eq!(seen(&lab), [true; 4], "{backend}");
    }
}

/// TCP and UDP of a hundred ports are more than go into one message.
#[test]
fn a_block_of_many_ports_is_put_back_whole() {
    let lab = Lab::new();
    let (mut program, mut stdin) = start(&lab, &["--backend", "nft", "--ports", "probed"]);
    block_ports(&mut program, &mut stdin, &[22], Proto::Tcp, 60);
    let many: Vec<u16> = (22..142).collect();
    block_ports(&mut program, &mut stdin, &many, Proto::Tcp, 600);
    block_ports(&mut program, &mut stdin, &many, Proto::Udp, 600);
    lab.guard.sh("nft flush ruleset");
    put_back(&mut program, SCOPE);
    let list = lab.guard.read(&[bin("psentry-block"), "list", "--json", "--backend", "nft"]);
    let Ok(Record::Outcome(outcome)) = Record::parse(list.lines().next().unwrap()) else { panic!("{list}") };
    assert!(outcome.body.until.unwrap().since(Timestamp::now()).as_secs() > 500, "{list}");
    let set = lab.guard.sh("nft list set inet psentry v4_32_ports");
    assert_eq!(set.matches("203.0.113.7 . ").count(), 240, "{set}");
}

/// As after a reboot: the kernel keeps its answers to some hundreds of wishes, and not to thousands.
#[test]
fn thousands_are_shut_out_of_ports_at_once() {
    const COUNT: u32 = 3000;
    let (lab, state) = (Lab::new(), tempfile::tempdir().unwrap());
    let mut verdicts = Vec::new();
    for n in 0..COUNT {
        let mut common = Common::at(Timestamp::now());
        common.proto = Some(Proto::Tcp);
        let scope = format!("198.18.{}.{}", n / 250, n % 250).parse().unwrap();
        let mut body = VerdictBody::new(Action::Block, scope);
        (body.ports, body.duration) = (vec![22], Some(600));
        Writer::new(&mut verdicts).write(&Record::Verdict(Verdict { common, body })).unwrap();
    }
    let flags = ["--backend", "nft", "--ports", "probed", "--state", state.path().to_str().unwrap()];
    let (mut program, mut stdin) = start(&lab, &flags);
    stdin.write_all(&verdicts).unwrap();
    drop(stdin);
    let (status, output, _) = program.end();
    assert!(status.success());
    assert_eq!(output.iter().filter(|line| line.contains("applied")).count(), COUNT as usize);
    lab.guard.sh("nft flush ruleset");
    let (mut program, _stdin) = start(&lab, &flags);
    program.complaint(&format!("put back {COUNT} blocks"));
    let set = lab.guard.sh("nft list set inet psentry v4_32_ports");
    assert_eq!(set.matches(" . tcp . 22 ").count(), COUNT as usize);
}

/// Of whom everything is shut, no port is left over.
#[test]
fn a_block_of_ports_that_becomes_one_of_all_leaves_no_port() {
    let lab = Lab::new();
    let (mut program, mut stdin) = start(&lab, &["--backend", "nft", "--ports", "probed"]);
    block_ports(&mut program, &mut stdin, &[21, 22], Proto::Tcp, 600);
    block_ports(&mut program, &mut stdin, &[], Proto::Tcp, 60);
    let set = lab.guard.sh("nft list set inet psentry v4_32_ports");
    assert!(!set.contains("203.0.113.7"), "{set}");
    unblock(&mut program, &mut stdin);
    assert!(!lab.guard.sh("nft list table inet psentry").contains("203.0.113.7"));
}
