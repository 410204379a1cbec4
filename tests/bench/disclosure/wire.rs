//! What went over the cable and what got past the firewall; and a longer cable, for kernels without netem.

use crate::lab::{Host, Lab, Program, wait_until};

const CAPTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bench/disclosure/capture.py");
const RELAY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bench/disclosure/relay.py");

/// A capture at work.
pub(crate) struct Wire(Program);

impl Wire {
    /// Captures TCP packets of `scanner`: as they arrive, and behind every filter of the guard.
    pub(crate) fn tap(lab: &Lab, scanner: &str) -> Self {
        let mut capture = Program::start_fed(lab.guard.command("python3").args([CAPTURE, scanner]));
        capture.line("capture", |line| line == "listening");
        Wire(capture)
    }

    /// How many packets got through, and how many milliseconds lay between the first that came and the first that
    /// did not.
    pub(crate) fn read(mut self) -> (usize, Option<f64>) {
        let (status, output, errors) = self.0.end();
        assert!(status.success(), "{errors:#?}");
        let (passed, first_drop) = output.last().unwrap().split_once(' ').unwrap();
        (passed.parse().unwrap(), first_drop.parse().ok())
    }
}

/// Puts a longer cable between scanner and guard: every frame arrives half of `round_trip` milliseconds later, but for `loss`
/// in a hundred, which never arrive.
pub(crate) fn delay(lab: &Lab, round_trip: u32, loss: u32) -> (Host, Program) {
    let relay = Host::new_beside(&lab.guard);
    // What the relay reads has to be a whole frame with its checksum. Both hosts know each other's link address for good.
    lab.guard.sh(&format!(
        "ip link set scanner netns {relay} name near
         ip link add scanner address 02:00:00:00:07:01 type veth peer name far netns {relay}
         ip address add 203.0.113.1/24 dev scanner
         ip address add fe80::1/64 dev scanner nodad
         ip link set scanner up
         ip route add 2001:db8:7::/48 dev scanner
         for host in 203.0.113.7 2001:db8:7::7; do ip neigh add $host lladdr 02:00:00:00:07:02 dev scanner; done
         ethtool -K scanner tx off gro off >/dev/null",
        relay = relay.pid()
    ));
    lab.scanner.sh("ethtool -K eth0 tx off gro off >/dev/null");
    relay.sh("ip link set near up; ip link set far up");
    let [half, loss] = [round_trip / 2, loss].map(|number| number.to_string());
    let program = Program::start(relay.command("python3").args([RELAY, "near", "far", &half, &loss]));
    wait_until("the long cable carries", || lab.scanner.ok(&["ping", "-c1", "-W1", "203.0.113.1"]));
    (relay, program)
}
