//! `units/try` as a newcomer runs it.

use std::path::Path;
use std::process::{Command, Stdio};

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
