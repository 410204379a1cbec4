//! A flood of SYNs to closed ports from forged sources while the scanner scans, from so many that psentry-trap's quarantine
//! is full before the scan begins.

use std::env;
use std::thread;
use std::time::{Duration, Instant};

use crate::lab::{Lab, Program};
use crate::sender;

/// The arguments that make this program the sender: the address of the card, and how many packets a second.
pub(crate) const ARGUMENT: &str = "--send";

/// How many packets arrive before the scan: more than the quarantine has room for, and at 5,000 a second within the 30
/// seconds for which it holds a source.
const BEFORE: u64 = 140_000;

/// For how long it waits for these; and for how long it sends at most.
const PATIENCE: Duration = Duration::from_secs(60);
const SECONDS: u64 = 120;

/// Starts it, and waits until the quarantine is full.
pub(crate) fn start(lab: &Lab, rate: u32) -> Program {
    lab.guard.sh(&format!("ip route add {} dev scanner", sender::SOURCES));
    let shown = lab.guard.read(&["ip", "-o", "link", "show", "scanner"]);
    let to = shown.split_whitespace().skip_while(|word| *word != "link/ether").nth(1).unwrap().to_owned();
    let this = env::current_exe().unwrap();
    let mut command = lab.scanner.command(this.to_str().unwrap());
    let sender = Program::start(command.args([ARGUMENT, &to, &rate.to_string()]));
    let (before, began) = (received(lab), Instant::now());
    while received(lab) < before + BEFORE {
        assert!(began.elapsed() < PATIENCE, "this machine sends less than {rate} packets a second");
        thread::sleep(Duration::from_millis(100));
    }
    sender
}

/// Is the sender, until killed.
pub(crate) fn send() {
    let args: Vec<String> = env::args().skip(2).collect();
    sender::send(&args[0], SECONDS, args[1].parse().unwrap(), 1 << 24);
}

/// How many packets came from the scanner's side.
fn received(lab: &Lab) -> u64 {
    let shown = lab.guard.read(&["ip", "-s", "-o", "link", "show", "scanner"]);
    let received = shown.split_once("RX:").unwrap().1.split('\\').nth(1).unwrap();
    received.split_whitespace().nth(1).unwrap().parse().unwrap()
}
