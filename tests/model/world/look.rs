//! What stands, beside what is to stand.

use super::*;
use crate::model::others::set;

impl Run<'_> {
    pub(super) fn listed(&self) -> Result<BTreeMap<Prefix, Until>, String> {
        let output =
            self.ground.0.command(bin("psentry-block")).arg("list").args(self.flags()).output().unwrap();
        let lines = String::from_utf8_lossy(&output.stdout).into_owned();
        let entry = |line| outcome(line).map(|outcome| (outcome.body.scope, outcome.body.until));
        lines.lines().map(entry).collect()
    }

    /// What stands is what is to stand, within `patience`.
    pub(super) fn look(&self, patience: Duration) -> Result<(), String> {
        let began = Instant::now();
        loop {
            let before = Timestamp::now();
            let listed = self.listed()?;
            let wrong = self.known.differs(&listed, before, Timestamp::now());
            let wrong = wrong.or_else(|| self.ineffective(&listed));
            match wrong {
                None => return Ok(()),
                Some(wrong) if began.elapsed() >= patience => return Err(wrong),
                Some(_) => thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    /// Sets that nothing matches shut nobody out.
    pub(super) fn ineffective(&self, listed: &BTreeMap<Prefix, Until>) -> Option<String> {
        if self.backend != "nft" || listed.is_empty() {
            return None;
        }
        let table = self.ground.0.run(&["nft", "list", "table", "inet", "psentry"]).stdout;
        let table = String::from_utf8_lossy(&table);
        let ruled = |scope: &&Prefix| table.contains(&format!("@{} ", set(**scope)));
        match listed.keys().find(|scope| !ruled(scope)) {
            Some(scope) => Some(format!("no rule matches {scope}")),
            None => table.contains("dormant").then(|| "the table is dormant".to_owned()),
        }
    }
}
