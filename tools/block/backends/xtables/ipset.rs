//! Blocks as entries of two sets of ipset, matched by one rule each at the top of INPUT. The kernel ends them.

use std::thread;
use std::time::Duration;

use psentry_kernel::{Error as Below, Program};
use psentry_records::{Prefix, Timestamp};

use super::super::installed;
use super::iptables::{by_family, halving};
use super::rules::Rule;
use super::{Filter, lock};
use crate::backend::{Backend, Block, Change, Effect, Entry, Wish};
use crate::error::Error;
use crate::note;

const NAME: &str = "ipset";

/// How many entries a set holds.
const SIZE: u32 = 262_144;

/// The longest timeout of ipset, in seconds.
const LONGEST: u64 = 2_147_483;

/// How long a set may still be in use after the last rule that matched it is gone.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(100);

/// The backend.
pub(crate) struct Ipset {
    ipset: Program,
    filters: Vec<Filter>,
}

impl Ipset {
    pub(crate) fn find() -> Result<Self, Error> {
        Ok(Ipset { ipset: installed(NAME, NAME)?, filters: Filter::find(NAME)? })
    }

    /// Makes set and rule, as far as they are missing.
    fn set_up(&self, filter: &Filter) -> Result<(), Error> {
        let (name, family) = (set(filter.ipv4), if filter.ipv4 { "inet" } else { "inet6" });
        let size = SIZE.to_string();
        let kind = ["hash:net", "family", family, "timeout", "0", "maxelem", &size, "comment"];
        self.run(&[&["-exist", "create", name], &kind[..]].concat(), b"")?;
        let commands =
            filter.jump(&filter.rules()?, &format!("-m set --match-set {name} src -j DROP"), |rule| {
                matches(rule, name)
            })?;
        filter.change(&commands)
    }

    fn run(&self, args: &[&str], input: &[u8]) -> Result<Vec<u8>, Error> {
        self.ipset.run_well(args, input).map_err(|error| match error {
            Below::Program { said, .. } if said.contains("Operation not permitted") => {
                Error::NotPermitted { backend: NAME }
            }
            error => error.into(),
        })
    }

    /// What the set of a family holds; without a set, nothing.
    fn entries(&self, ipv4: bool) -> Result<Option<Vec<Entry>>, Error> {
        match self.run(&["save", set(ipv4)], b"") {
            Ok(saved) => {
                let now = Timestamp::now();
                let saved = String::from_utf8_lossy(&saved);
                Ok(Some(saved.lines().filter_map(|line| entry(line, now)).collect()))
            }
            Err(Error::System(Below::Program { said, .. })) if said.contains("does not exist") => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn make(
        &self,
        ipv4: bool,
        standing: &[Entry],
        changes: &[&Change],
        now: Timestamp,
    ) -> Result<Vec<Effect>, Error> {
        let mut script = String::new();
        let mut effects = Vec::with_capacity(changes.len());
        for change in changes {
            effects.push(match &change.wish {
                Wish::Block(block) => {
                    script.push_str(&add(ipv4, change.scope, block, now));
                    Effect::Done
                }
                Wish::Release(_) if standing.iter().any(|entry| entry.scope == change.scope) => {
                    script.push_str(&format!("del {} {}\n", set(ipv4), change.scope));
                    Effect::Done
                }
                Wish::Release(_) => Effect::WasNotThere,
            });
        }
        if !script.is_empty() {
            self.run(&["-exist", "restore"], script.as_bytes())?;
        }
        Ok(effects)
    }

    fn apply_family(&self, ipv4: bool, changes: &[&Change], now: Timestamp) -> Vec<Result<Effect, Error>> {
        let Some(filter) = self.filters.iter().find(|filter| filter.ipv4 == ipv4) else {
            return changes.iter().map(|_| Err(Filter::absent(ipv4))).collect();
        };
        let blocks = changes.iter().any(|change| change.block().is_some());
        // A set that no rule matches blocks nobody: whoever flushed INPUT took the rule away.
        let releases = changes.iter().any(|change| change.block().is_none());
        let ready = || -> Result<Vec<Entry>, Error> {
            if blocks {
                self.set_up(filter)?;
            }
            // `del` does not tell whether there was something.
            Ok(if releases { self.entries(ipv4)? } else { None }.unwrap_or_default())
        };
        match ready() {
            Ok(standing) => halving(changes, &mut |changes| self.make(ipv4, &standing, changes, now)),
            Err(error) => changes.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    /// Waits until no packet is on its way through a rule that is gone.
    fn destroy(&self, name: &str) -> Result<(), Error> {
        let mut tries = 0;
        loop {
            match self.run(&["destroy", name], b"") {
                Err(Error::System(Below::Program { said, .. }))
                    if said.contains("in use") && tries < TRIES =>
                {
                    tries += 1;
                    thread::sleep(PAUSE);
                }
                result => return result.map(drop),
            }
        }
    }
}

impl Backend for Ipset {
    fn name(&self) -> &'static str {
        NAME
    }

    fn prepare(&mut self) -> Result<Vec<Entry>, Error> {
        let _lock = lock()?;
        for filter in &self.filters {
            self.set_up(filter)?;
        }
        self.list()
    }

    fn apply(&mut self, changes: &[Change], now: Timestamp) -> Vec<Result<Effect, Error>> {
        let _lock = match lock() {
            Ok(lock) => lock,
            Err(error) => return changes.iter().map(|_| Err(error.clone())).collect(),
        };
        by_family(changes, |ipv4, changes| self.apply_family(ipv4, changes, now))
    }

    fn list(&mut self) -> Result<Vec<Entry>, Error> {
        let mut found = Vec::new();
        for ipv4 in [true, false] {
            found.extend(self.entries(ipv4)?.unwrap_or_default());
        }
        Ok(found)
    }

    fn remove(&mut self) -> Result<Vec<Entry>, Error> {
        let lock = lock()?;
        let mut found = Vec::new();
        for filter in &self.filters {
            let name = set(filter.ipv4);
            let rules = filter.rules()?;
            let ours: Vec<&Rule> = rules.chain("INPUT").filter(|rule| matches(rule, name)).collect();
            let commands: Vec<String> = ours.iter().map(|rule| rule.deletion()).collect();
            filter.change(&commands)?;
            filter.restore_ground(&Filter::marks(ours.into_iter()))?;
            if let Some(entries) = self.entries(filter.ipv4)? {
                found.extend(entries);
                self.destroy(name)?;
            }
        }
        lock.remove();
        Ok(found)
    }

    fn ends_by_itself(&self) -> bool {
        true
    }

    fn longest(&self) -> Option<Duration> {
        Some(Duration::from_secs(LONGEST))
    }
}

fn set(ipv4: bool) -> &'static str {
    if ipv4 { "psentry4" } else { "psentry6" }
}

fn matches(rule: &Rule, set: &str) -> bool {
    rule.value("--match-set") == Some(set) && rule.target() == Some("DROP")
}

/// The line that blocks. To ipset a timeout of 0 means: for ever.
fn add(ipv4: bool, scope: Prefix, block: &Block, now: Timestamp) -> String {
    let timeout = block.seconds_left(now).map_or(0, |left| left.clamp(1, LONGEST));
    let note = note::write(block.rule.as_deref(), block.until);
    format!("add {} {scope} timeout {timeout} comment \"{note}\"\n", set(ipv4))
}

/// The block that a line of `ipset save` tells of.
fn entry(line: &str, now: Timestamp) -> Option<Entry> {
    let words = shlex::split(line)?;
    let [add, _, scope, rest @ ..] = &*words else { return None };
    if add != "add" {
        return None;
    }
    let value = |name: &str| {
        let at = rest.iter().position(|word| word == name)?;
        rest.get(at + 1)
    };
    let seconds: u64 = value("timeout").and_then(|text| text.parse().ok()).unwrap_or(0);
    let kernel = (seconds > 0).then(|| now.plus(Duration::from_secs(seconds)));
    let noted = value("comment").and_then(|text| note::read(text));
    Some(note::reconcile(scope.parse().ok()?, kernel, noted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_is_read_back() {
        let now: Timestamp = "2026-11-22T15:04:05Z".parse().unwrap();
        for (scope, seconds) in
            [("192.0.2.0/24", Some(600)), ("2001:db8::/64", None), ("192.0.2.7", Some(9_000_000))]
        {
            let scope: Prefix = scope.parse().unwrap();
            let until = seconds.map(|seconds| now.plus(Duration::from_secs(seconds)));
            let block = Block { until, rule: Some("fan".to_owned()), ..Block::default() };
            let line = add(scope.is_ipv4(), scope, &block, now);
            let early = seconds.is_some_and(|seconds| seconds > LONGEST);
            let want = Entry { early, ..Entry::new(scope, until, Some("fan".to_owned())) };
            assert_eq!(entry(&line, now), Some(want));
        }
        assert_eq!(entry("create psentry4 hash:net family inet timeout 0", now), None);
        assert_eq!(
            entry("add psentry4 192.0.2.7 timeout 60", now).unwrap().until,
            Some(now.plus(Duration::from_secs(60)))
        );
    }
}
