//! `units/try` as a newcomer runs it.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use crate::lab::{GUARD, Lab, Program, wait_until};

fn try_script(flags: &[&str]) -> Command {
    let mut script = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("units/try"));
    script.args(flags).stdin(Stdio::null()).env("NO_COLOR", "1");
    script
}

#[test]
fn the_demo_shows_the_scan_and_the_block() {
    let output = try_script(&["--demo"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{error}");
    for word in [
        "nmap found open: 22 80 443",
        "203.0.113.7 touched",
        "block 203.0.113.7/32 for 1h",
        "blocked  203.0.113.7/32 by nft",
        "nmap found open: nothing",
        "table inet psentry",
    ] {
        assert!(said.contains(word), "'{word}' is missing in:\n{said}\n{error}");
    }
}

/// `units/try` on the guard: the scanner is said and blocked, and Ctrl-C takes every trace away.
#[test]
fn try_blocks_a_scan_and_a_ctrl_c_takes_every_trace_away() {
    let lab = Lab::new();
    let root = env!("CARGO_MANIFEST_DIR");
    // Built before: there is no network on the guard to fetch anything from.
    let built =
        Command::new("cargo").args(["build", "--release", "--locked"]).current_dir(root).status().unwrap();
    assert!(built.success());
    let records = tempfile::tempdir().unwrap();
    let mut script = Program::start(
        lab.guard
            .command(&format!("{root}/units/try"))
            .args(["--tcp", "2323,2324", "--udp", "6969", "--records"])
            .arg(records.path().join("records.jsonl"))
            .env("NO_COLOR", "1")
            .env("SSH_CONNECTION", "192.0.2.8 50000 192.0.2.1 22"),
    );
    script.complaint("You came by ssh from 192.0.2.8");
    wait_until("the decoys listen", || lab.guard.read(&["ss", "-Hltn"]).contains(":2324 "));
    for port in [2323, 2324] {
        lab.innocent.touch(GUARD[0], port);
    }
    lab.scanner.run(&["nmap", "-n", "-Pn", "-sT", "-p2323,2324", GUARD[0]]);
    script.complaint("blocked  203.0.113.7/32 by nft");
    assert!(lab.guard.sh("nft list ruleset").contains("203.0.113.7"));
    script.signal(Signal::SIGINT);
    let (status, _, errors) = script.end();
    assert!(status.success(), "{errors:?}");
    assert!(errors.iter().any(|line| line.starts_with("psentry is gone")), "{errors:?}");
    assert_eq!(lab.guard.sh("nft list ruleset"), "", "every trace is gone");
    let kept = fs::read_to_string(records.path().join("records.jsonl")).unwrap();
    let about = |kind: &str, whom: &str| kept.lines().any(|line| line.contains(kind) && line.contains(whom));
    assert!(about(r#""probe":{"#, "192.0.2.8"), "the innocent was seen");
    assert!(!about(r#""verdict":{"#, "192.0.2.8"), "and left alone");
    assert!(about(r#""result":"released""#, "203.0.113.7"), "{kept}");
}
