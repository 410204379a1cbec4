//! Real programs of innocents, one command of which touches several closed ports: none convicts its user, and a scanner
//! of the same ports is convicted.

use std::process::Stdio;

use psentry_records::{Proto, Record};

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

/// An innocent gives a command to each address of the guard. All that it touches is seen, and the first verdict is about
/// a scanner that comes after it.
fn convicts_nobody(command: impl Fn(&str) -> String, touches: &[(Proto, u16)]) {
    for (sensor, convicts) in SENSORS {
        let lab = Lab::new();
        let [_sensor, mut judge] = watch(&lab, sensor);
        for (guard, innocent) in GUARD.into_iter().zip(INNOCENT) {
            let line = command(guard);
            let _client = Program::start(lab.innocent.command("sh").args(["-c", &line]));
            let mut left = touches.to_vec();
            while !left.is_empty() {
                let next =
                    judge.record(&format!("a probe of {left:?}, or a verdict"), |record| match record {
                        Record::Probe(probe) => probe.common.src_ip.unwrap().to_string() == innocent,
                        record => matches!(record, Record::Verdict(_)),
                    });
                let Record::Probe(probe) = next else { panic!("{line:?}, {sensor:?}: {next:?}") };
                left.retain(|touched| {
                    (Some(&touched.0), Some(touched.1))
                        != (probe.common.proto.as_ref(), probe.common.dest_port)
                });
            }
        }
        for port in &SCANNED[..convicts] {
            lab.scanner.touch(GUARD[0], *port);
        }
        let verdict = judge.record("a verdict", |record| matches!(record, Record::Verdict(_)));
        let Record::Verdict(verdict) = verdict else { panic!() };
        assert_eq!(verdict.body.scope.to_string(), SCANNER_SCOPE[0], "{sensor:?}");
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
