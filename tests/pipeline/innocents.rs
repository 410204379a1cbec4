//! Real programs of innocents, one command of which touches several closed ports: none convicts its user, and a scanner
//! of the same ports is convicted.

use std::process::Stdio;

use psentry_records::{Class, Probe, Proto, Record};

use crate::lab::{GUARD, INNOCENT, Lab, Program, SCANNER_SCOPE, bin, wait_until};

/// The sensors that see it: decoys, which complete the handshake; and the trap, which refuses the connection at once, so that
/// the program goes on to the next port. How many ports convict a scanner differs.
const SENSORS: [(&[&str], usize); 2] = [
    (&["psentry-listen", "--tcp", "23,111,139,445", "--udp", "111"], 2),
    (&["psentry-trap", "--answer", "reject"], 3),
];

/// What a scanner touches, of three families.
const SCANNED: [u16; 3] = [23, 445, 111];

/// A sensor on the guard, and a judge that passes on all that it reads.
fn watch(lab: &Lab, sensor: &[&str]) -> [Program; 2] {
    let mut sensing =
        Program::start_piped(lab.guard.command(bin(sensor[0])).args(&sensor[1..]).stdin(Stdio::null()));
    let mut judge =
        Program::start_piped(lab.guard.command(bin("psentry-judge")).arg("--pass").stdin(sensing.stdout()));
    judge.read_output();
    if sensor[0] == "psentry-trap" {
        let chain = ["nft", "list", "chain", "inet", "psentry_trap", "closed"];
        wait_until("the trap stands", || lab.guard.ok(&chain));
    } else {
        wait_until("the decoys listen", || lab.guard.read(&["ss", "-Hltn"]).contains(":445 "));
    }
    [sensing, judge]
}

/// The next probe of an innocent, before any verdict.
fn probe(judge: &mut Program, innocent: &str) -> Probe {
    let next = judge.record("a probe, or a verdict", |record| match record {
        Record::Probe(probe) => probe.common.src_ip.unwrap().to_string() == innocent,
        record => matches!(record, Record::Verdict(_)),
    });
    let Record::Probe(probe) = next else { panic!("{next:?}") };
    probe
}

/// A scanner comes, and the first verdict is about it.
fn convicts_a_scanner(lab: &Lab, judge: &mut Program, ports: &[u16]) {
    for port in ports {
        lab.scanner.touch(GUARD[0], *port);
    }
    let verdict = judge.record("a verdict", |record| matches!(record, Record::Verdict(_)));
    let Record::Verdict(verdict) = verdict else { panic!() };
    assert_eq!(verdict.body.scope.to_string(), SCANNER_SCOPE[0]);
}

/// An innocent gives a command to each address of the guard. All that it touches is seen, and convicts nobody.
fn convicts_nobody(command: impl Fn(&str) -> String, touches: &[(Proto, u16)]) {
    for (sensor, convicts) in SENSORS {
        let lab = Lab::new();
        let [_sensor, mut judge] = watch(&lab, sensor);
        for (guard, innocent) in GUARD.into_iter().zip(INNOCENT) {
            // Some go on asking for minutes; they end with the test.
            let _client = Program::start(lab.innocent.command("sh").args(["-c", &command(guard)]));
            let mut left = touches.to_vec();
            while !left.is_empty() {
                let common = probe(&mut judge, innocent).common;
                left.retain(|(proto, port)| (common.proto, common.dest_port) != (Some(*proto), Some(*port)));
            }
        }
        convicts_a_scanner(&lab, &mut judge, &SCANNED[..convicts]);
    }
}

/// It asks at both ports of SMB; where the first takes the connection, only if that is reset before it has looked. Then
/// people name the other.
#[test]
fn smbclient() {
    let twice = |guard: &str| format!("smbclient -N -L {guard}; smbclient -N -L {guard} -p 139");
    convicts_nobody(twice, &[(Proto::Tcp, 445), (Proto::Tcp, 139)]);
}

/// It asks the portmapper over TCP, and then over UDP.
#[test]
fn showmount() {
    convicts_nobody(|guard| format!("exec showmount -e {guard}"), &[(Proto::Tcp, 111), (Proto::Udp, 111)]);
}

/// The machine comes up again and knows nothing of its six connections to a database; Redis sends them what it has for them,
/// with ACK and PSH.
#[test]
fn after_a_power_loss_a_database_is_no_scanner() {
    let lab = Lab::new();
    // Debian has the server as redis-check-rdb too, in a package that starts no service: what it does goes by its name.
    lab.innocent.sh("ln -sf \"$(command -v redis-check-rdb)\" /run/redis-server");
    let flags = "--port 6379 --bind 0.0.0.0 :: --protected-mode no --save --appendonly no --dir /run";
    let mut database = Program::start(lab.innocent.command("/run/redis-server").args(flags.split(' ')));
    database.line("the database", |line| line.contains("Ready to accept connections"));
    let ask = |words: &[&str]| lab.innocent.read(&[&["redis-cli"], words].concat());
    // A machine without power sends nothing more, and its sockets are gone.
    lab.guard.sh("echo 1 > /proc/sys/net/ipv4/tcp_orphan_retries");
    for innocent in INNOCENT {
        let subscribe = ["-h", innocent, "subscribe", "news"];
        let clients: Vec<Program> = (0..6)
            .map(|_| {
                let mut client = Program::start(lab.guard.command("redis-cli").args(subscribe));
                client.line("its subscription", |line| line.ends_with('1'));
                client
            })
            .collect();
        lab.guard
            .sh("nft 'table inet off { chain out { type filter hook output priority 0; policy drop; }; }'");
        drop(clients);
        wait_until("no socket is left", || lab.guard.read(&["ss", "-Htan"]).is_empty());
        lab.guard.read(&["nft", "delete", "table", "inet", "off"]);
        lab.guard.read(&["conntrack", "-F"]);

        let [mut trap, mut judge] = watch(&lab, SENSORS[1].0);
        assert_eq!(ask(&["publish", "news", "hello"]), "6\n");
        for _ in 0..6 {
            let stray = probe(&mut judge, innocent);
            assert_eq!((stray.body.class, stray.body.quarantine), (Some(Class::Stray), None), "{stray:?}");
            assert_eq!(stray.common.src_port, Some(6379));
        }
        wait_until("each was answered by a reset", || ask(&["pubsub", "numsub", "news"]).ends_with("0\n"));
        convicts_a_scanner(&lab, &mut judge, &SCANNED);
        trap.terminate();
    }
}
