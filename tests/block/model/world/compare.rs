//! What is there, beside what is to be there.

use super::*;
use crate::block::model::drift::{UNPROVEN, set};

/// Where nobody answers, so that a command reads itself what is there.
const NOBODY: [&str; 2] = ["--control", "/run/nobody"];

impl Run<'_> {
    /// What is there on each backend, read by a process of its own, which changes nothing and wakes nobody.
    pub(super) fn listed(&self) -> Result<Vec<Listed>, String> {
        self.listed_by(&NOBODY)
    }

    fn listed_by(&self, control: &[&str]) -> Result<Vec<Listed>, String> {
        let output = self.psentry(&[&["list"], control].concat(), &self.flags());
        let error = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            return Err(format!("list: {}: {error}", output.status));
        }
        let told = outcomes(&output)?;
        let block =
            |told: &Outcome| Block { until: told.body.until, unproven: told.body.handshake == Some(false) };
        let on = |side: &Side| {
            let told = told.iter().filter(|told| told.body.backend.as_deref() == Some(side.backend));
            told.map(|told| (told.body.scope, block(told))).collect()
        };
        Ok(self.sides.iter().map(on).collect())
    }

    /// What is there is what is to be there, within `patience`; and the psentry-block that runs knows it.
    pub(super) fn compare(&self, patience: Duration) -> Result<(), String> {
        let began = Instant::now();
        loop {
            let wrong = match self.wrong(&NOBODY)? {
                // It cannot list a backend while it waits to repair what somebody broke in the midst of a repair.
                None => match self.wrong(&[]) {
                    Ok(None) => return Ok(()),
                    Ok(Some(wrong)) | Err(wrong) => format!("as psentry-block has it, {wrong}"),
                },
                Some(wrong) => wrong,
            };
            if began.elapsed() >= patience {
                return Err(wrong);
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn wrong(&self, control: &[&str]) -> Result<Option<String>, String> {
        let before = Timestamp::now();
        let listed = self.listed_by(control)?;
        let after = Timestamp::now();
        Ok(self.sides.iter().zip(&listed).find_map(|(side, listed)| {
            let wrong = self.known.differs(listed, side.backend, before, after);
            let wrong = wrong.or_else(|| self.ineffective(side.backend, listed));
            wrong.map(|wrong| format!("on {}: {wrong}", side.backend))
        }))
    }

    /// Sets and chains that no rule leads to block nobody, nor do those that come after a rule that accepts.
    fn ineffective(&self, backend: &str, listed: &Listed) -> Option<String> {
        if backend == "exec" {
            let ran = self.sandbox.sh("ls /run/exec").stdout;
            let ran: BTreeSet<String> =
                String::from_utf8_lossy(&ran).lines().map(|name| name.replace('_', "/")).collect();
            let listed: BTreeSet<String> = listed.keys().map(Prefix::to_string).collect();
            // What ends in between is in one of them.
            let lasts = |scope: &&String| {
                let scope = scope.parse().unwrap();
                let soon = Timestamp::now().plus(SLACK);
                !self.known.ended_lately(scope)
                    && self.known.blocks.get(&scope).is_none_or(|block| !block.is_over(soon))
            };
            let wrong = ran.symmetric_difference(&listed).find(lasts)?;
            return Some(format!("of {wrong}: commands have blocked {ran:?}, and {listed:?} are listed"));
        }
        let set = |(scope, block): (&Prefix, &Block)| set(backend, *scope, block.unproven);
        let sets: BTreeSet<String> = listed.iter().map(set).collect();
        if sets.is_empty() {
            return None;
        }
        let read =
            |command: &mut Command| String::from_utf8_lossy(&command.output().unwrap().stdout).into_owned();
        match backend {
            "nft" => {
                let table = read(self.sandbox.command("nft").args(["list", "table", "inet", "psentry"]));
                let accepts = |line: &str| line.trim() == "accept";
                match sets.iter().find(|set| !table.contains(&format!("@{set} "))) {
                    Some(set) => Some(format!("no rule matches {set}")),
                    None if table.lines().any(accepts) => Some("a rule accepts".to_owned()),
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
                        let mut rules = rules.lines().filter(|rule| rule.starts_with(&start));
                        let ours = rules.by_ref().take_while(|rule| rule.to_lowercase().contains("psentry"));
                        ours.into_iter().any(|rule| rule.ends_with(&ends))
                    };
                    let chain = ["INPUT", "FORWARD"].into_iter().find(|chain| !leads(chain));
                    let accepts =
                        rules.lines().any(|rule| rule.starts_with("-A PSENTRY") && rule.ends_with("ACCEPT"));
                    let chain = chain.or(accepts.then_some("PSENTRY"))?;
                    Some(format!("the rules of {chain} do not lead to {set} first: {rules}"))
                })
            }
            _ => None,
        }
    }
}
