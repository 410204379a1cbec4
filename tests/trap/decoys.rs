//! Decoys in quarantine: a source can prove its address at a few of them, and then they are as silent as all other ports,
//! so that nobody learns which ports are decoys by who still answers.

use psentry_records::Kind;

use super::rotation::TRY;
use super::{probe, python, trap, version};
use crate::lab::{GUARD, INNOCENT, Lab, Program, SCANNER, bin, wait_until};

const SERVICE: u16 = 8088;

const DECOYS: [u16; 6] = [2323, 2324, 2325, 2326, 2327, 2328];

#[test]
fn in_quarantine_four_decoys_answer_and_then_none() {
    let lab = Lab::new();
    let list = DECOYS.map(|port| port.to_string()).join(",");
    let mut listen = Program::start(lab.guard.command(bin("psentry-listen")).args(["--tcp", &list]));
    wait_until("the decoys listen", || lab.guard.read(&["ss", "-Hltn"]).contains(":2328 "));
    let _service = lab.service(SERVICE);
    for flags in [&["--quarantine", "5m"][..], &["--quarantine", "5m", "--after-firewall"]] {
        let mut trap = trap(&lab, flags);
        for (family, guard) in GUARD.into_iter().enumerate() {
            let ends = |host: &crate::lab::Host, from: &str| python(host, TRY, &[guard, &list, from]);
            assert_eq!(ends(&lab.scanner, SCANNER[family]), "taken\n".repeat(6), "nobody is in quarantine");
            lab.scanner.is_shut_out(guard, 9);
            assert!(lab.scanner.is_shut_out(guard, SERVICE));
            let want = "taken\n".repeat(4) + &"silence\n".repeat(2);
            assert_eq!(ends(&lab.scanner, SCANNER[family]), want, "{flags:?}");
            assert_eq!(ends(&lab.innocent, INNOCENT[family]), "taken\n".repeat(6), "others hear them");
            probe(&mut listen, "a proof", |probe| {
                probe.common.dest_port == Some(2326) && probe.body.handshake
            });
            if flags.len() == 2 {
                // To the scanner it is a closed port now, and counts as one.
                let found = probe(&mut trap, "a decoy", |probe| {
                    probe.common.dest_port == Some(2327) && probe.body.kind == Kind::Syn
                });
                assert_eq!(found.body.quarantine, Some(300));
            }
            // An ACK would be answered by a reset of the listening socket.
            let acks = ["nmap", "-n", "-Pn", "--max-retries", "0", "-sA", "-p", &list, guard];
            let said = lab.scanner.read(&[&acks[..], version(family)].concat());
            assert!(!said.contains("unfiltered"), "{flags:?} {said}");
        }
        trap.terminate();
    }
}
