//! The scans, and what each of them learnt. Both scanners name an open port in the same words, as soon as they know it,
//! so that a scan that is cut short tells all it knew.

use crate::lab::Lab;

/// A scan stops when it has had that long, whoever guards: several times what each of them needs where nothing does. Who
/// is shut out after that time stays so for as long as it goes on, and nmap goes on for an hour.
const SECONDS: &str = "10";

/// One way to scan.
pub(crate) struct Scan {
    pub(crate) name: &'static str,
    words: &'static [&'static str],
}

impl Scan {
    pub(crate) const ALL: [Scan; 5] = [
        Scan {
            name: "nmap -sS -T4",
            words: &["nmap", "-v", "-n", "-Pn", "-sS", "-T4", "--max-retries", "2"],
        },
        Scan {
            name: "nmap -sT -T4",
            words: &["nmap", "-v", "-n", "-Pn", "-sT", "-T4", "--max-retries", "2"],
        },
        Scan {
            name: "nmap -sS -p- -T4",
            words: &["nmap", "-v", "-n", "-Pn", "-sS", "-p-", "-T4", "--max-retries", "1"],
        },
        Scan {
            name: "nmap -sS --min-rate 5000",
            words: &["nmap", "-v", "-n", "-Pn", "-sS", "--min-rate", "5000", "--max-retries", "2"],
        },
        Scan {
            name: "masscan -p1-10000",
            words: &["masscan", "-p1-10000", "--rate", "10000", "--wait", "2", "--interface", "eth0"],
        },
    ];

    /// Scans `target`, and says which ports it found open. masscan takes the ports in an order that is another one in
    /// each run, and in the same run the same for every guard; nmap lets nobody choose.
    pub(crate) fn run(&self, lab: &Lab, target: &str, run: usize) -> Vec<u16> {
        let mut line = vec!["timeout", SECONDS];
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
