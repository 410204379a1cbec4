//! The scans, and what each of them learnt. Both scanners name an open port in the same words, as soon as they know it,
//! so that a scan that is cut short tells all it knew.

use crate::lab::Lab;

/// A scan stops when it has had that long, whoever guards: several times what each of them needs where nothing does. Who
/// is shut out after that time stays so for as long as it goes on, and nmap goes on for an hour.
const SECONDS: &str = "10";

/// nmap -T1 waits fifteen seconds before each packet.
const SLOW_SECONDS: &str = "60";

/// One way to scan.
pub(crate) struct Scan {
    pub(crate) name: &'static str,
    words: &'static [&'static str],
    /// The services that it asks for alone; empty: it asks for more than services.
    pub(crate) aims_at: &'static [u16],
}

/// A scan of more than services.
const fn wide(name: &'static str, words: &'static [&'static str]) -> Scan {
    Scan { name, words, aims_at: &[] }
}

/// A scan that asks for these services and nothing else.
const fn aimed(name: &'static str, aims_at: &'static [u16], words: &'static [&'static str]) -> Scan {
    Scan { name, words, aims_at }
}

impl Scan {
    pub(crate) const ALL: [Scan; 17] = [
        wide("nmap -sS -T4", &["nmap", "-v", "-n", "-Pn", "-sS", "-T4", "--max-retries", "2"]),
        wide("nmap -sT -T4", &["nmap", "-v", "-n", "-Pn", "-sT", "-T4", "--max-retries", "2"]),
        wide("nmap -sS -p- -T4", &["nmap", "-v", "-n", "-Pn", "-sS", "-p-", "-T4", "--max-retries", "1"]),
        wide(
            "nmap -sS --min-rate 5000",
            &["nmap", "-v", "-n", "-Pn", "-sS", "--min-rate", "5000", "--max-retries", "2"],
        ),
        wide(
            "masscan -p1-10000",
            &["masscan", "-p1-10000", "--rate", "10000", "--wait", "2", "--interface", "eth0"],
        ),
        wide(
            "nmap -sT --initial-rtt-timeout 2s",
            &["nmap", "-v", "-n", "-Pn", "-sT", "--initial-rtt-timeout", "2s"],
        ),
        aimed("nmap -sS -p22", &[22], &["nmap", "-v", "-n", "-Pn", "-sS", "-p22"]),
        aimed(
            "nmap -sS -p22,443,8080",
            &[22, 443, 8080],
            &["nmap", "-v", "-n", "-Pn", "-sS", "-p22,443,8080"],
        ),
        aimed(
            "nmap -sS --max-retries 0 -p22",
            &[22],
            &["nmap", "-v", "-n", "-Pn", "-sS", "--max-retries", "0", "-p22"],
        ),
        aimed(
            "nmap -sS --max-retries 6 -p22",
            &[22],
            &["nmap", "-v", "-n", "-Pn", "-sS", "--max-retries", "6", "-p22"],
        ),
        aimed("nmap -sS -T1 -p22", &[22], &["nmap", "-v", "-n", "-Pn", "-sS", "-T1", "-p22"]),
        aimed("nmap -sV -p22,443", &[22, 443], &["nmap", "-v", "-n", "-Pn", "-sV", "-p22,443"]),
        aimed("nmap -sT -T4 -p22", &[22], &["nmap", "-v", "-n", "-Pn", "-sT", "-T4", "-p22"]),
        aimed(
            "nmap -sT -T3 -p22,443,8080",
            &[22, 443, 8080],
            &["nmap", "-v", "-n", "-Pn", "-sT", "-T3", "-p22,443,8080"],
        ),
        aimed(
            "nmap -sT --initial-rtt-timeout 2s -p22",
            &[22],
            &["nmap", "-v", "-n", "-Pn", "-sT", "--initial-rtt-timeout", "2s", "-p22"],
        ),
        aimed(
            "masscan -p22,443,8080",
            &[22, 443, 8080],
            &["masscan", "-p22,443,8080", "--rate", "1000", "--wait", "2", "--interface", "eth0"],
        ),
        aimed(
            "masscan --retries 3 -p22,443,8080",
            &[22, 443, 8080],
            &[
                "masscan",
                "-p22,443,8080",
                "--retries",
                "3",
                "--rate",
                "1000",
                "--wait",
                "2",
                "--interface",
                "eth0",
            ],
        ),
    ];

    /// How many of these services it asks for.
    pub(crate) fn asks_for(&self, services: &[u16]) -> usize {
        match self.aims_at {
            [] => services.len(),
            aims_at => services.iter().filter(|port| aims_at.contains(port)).count(),
        }
    }

    /// Scans `target`, and says which ports it found open. masscan takes the ports in an order that is another one in
    /// each run, and in the same run the same for every guard; nmap lets nobody choose.
    pub(crate) fn run(&self, lab: &Lab, target: &str, run: usize) -> Vec<u16> {
        let mut line = vec!["timeout", if self.words.contains(&"-T1") { SLOW_SECONDS } else { SECONDS }];
        line.extend(self.words);
        // masscan sends frames of its own, and is to be told where to.
        let (router, seed) = (router(lab), run.to_string());
        if self.words[0] == "masscan" {
            line.extend(["--router-mac", &router, "--seed", &seed]);
        }
        line.push(target);
        let output = lab.scanner.run(&line);
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() || output.status.code() == Some(124),
            "{line:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        said.split(['\n', '\r'])
            .filter_map(|line| {
                line.trim().strip_prefix("Discovered open port ")?.split('/').next()?.parse().ok()
            })
            .collect()
    }
}

/// The address of the guard's end of the cable, as masscan wants it.
fn router(lab: &Lab) -> String {
    let shown = lab.guard.sh("cat /sys/class/net/scanner/address 2>/dev/null || ip -o link show scanner");
    let words: Vec<&str> = shown.split_whitespace().collect();
    let mac = words.iter().position(|word| *word == "link/ether").map_or(words[0], |at| words[at + 1]);
    mac.replace(':', "-")
}
