//! What stands, beside what is to stand.

use super::*;
use crate::block::model::damage::{UNPROVEN, set};

impl Run<'_> {
    /// What stands on each backend.
    pub(super) fn listed(&self) -> Result<Vec<Listed>, String> {
        let output =
            self.sandbox.command(bin("psentry-block")).arg("list").args(self.flags()).output().unwrap();
        let lines = String::from_utf8_lossy(&output.stdout).into_owned();
        let told: Vec<Outcome> = lines.lines().map(outcome).collect::<Result<_, _>>()?;
        let on = |side: &Side| {
            let told = told.iter().filter(|told| told.body.backend.as_deref() == Some(side.backend));
            told.map(|told| (told.body.scope, (told.body.until, told.body.handshake == Some(false))))
                .collect()
        };
        Ok(self.sides.iter().map(on).collect())
    }

    /// What stands is what is to stand, within `patience`.
    pub(super) fn compare(&self, patience: Duration) -> Result<(), String> {
        let began = Instant::now();
        loop {
            let before = Timestamp::now();
            let listed = self.listed()?;
            let after = Timestamp::now();
            let wrong = self.sides.iter().zip(&listed).find_map(|(side, listed)| {
                let wrong = side.known.differs(listed, before, after);
                let wrong = wrong.or_else(|| self.ineffective(side.backend, listed));
                wrong.map(|wrong| format!("on {}: {wrong}", side.backend))
            });
            match wrong {
                None => return Ok(()),
                Some(wrong) if began.elapsed() >= patience => return Err(wrong),
                Some(_) => thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    /// Sets and chains that no rule leads to shut nobody out.
    fn ineffective(&self, backend: &str, listed: &Listed) -> Option<String> {
        let set = |(scope, (_, unproven)): (&Prefix, &(Until, bool))| set(backend, *scope, *unproven);
        let sets: BTreeSet<String> = listed.iter().map(set).collect();
        if sets.is_empty() {
            return None;
        }
        let read =
            |command: &mut Command| String::from_utf8_lossy(&command.output().unwrap().stdout).into_owned();
        match backend {
            "nft" => {
                let table = read(self.sandbox.command("nft").args(["list", "table", "inet", "psentry"]));
                match sets.iter().find(|set| !table.contains(&format!("@{set} "))) {
                    Some(set) => Some(format!("no rule matches {set}")),
                    None => table.contains("dormant").then(|| "the table is dormant".to_owned()),
                }
            }
            "ipset" | "iptables" => {
                // In the order of their sets.
                let family = |set: &String| {
                    if set.starts_with("psentry4") || set.starts_with("iptables") {
                        "iptables"
                    } else {
                        "ip6tables"
                    }
                };
                let all: Vec<String> = sets.iter().map(|set| format!("{} -S", family(set))).collect();
                let rules = read(self.sandbox.command("sh").args(["-c", &all.join("; echo; ")]));
                sets.iter().zip(rules.split("\n\n")).find_map(|(set, rules)| {
                    let ends = match (backend, set.ends_with(UNPROVEN)) {
                        ("iptables", false) => "-j PSENTRY".to_owned(),
                        ("iptables", true) => "-j PSENTRY-UNPROVEN".to_owned(),
                        _ => format!("--match-set {set} src -j DROP"),
                    };
                    let leads = |chain: &&str| {
                        let start = format!("-A {chain} ");
                        rules.lines().any(|rule| rule.starts_with(&start) && rule.ends_with(&ends))
                    };
                    let chain = ["INPUT", "FORWARD"].into_iter().find(|chain| !leads(chain))?;
                    Some(format!("no rule in {chain} leads to {set}"))
                })
            }
            _ => None,
        }
    }
}
