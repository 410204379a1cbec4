//! Blocks as entries of ipset's sets, one for each family and one more for single ports, matched by rules at the top of
//! INPUT and FORWARD. The kernel ends them.

use std::thread;
use std::time::Duration;

use psentry_kernel::{Error as Below, Program};
use psentry_records::Timestamp;

use super::super::installed;
use super::batches::{by_family, halving};
use super::lines::{LONGEST, add, element, is_of_ports, set, set_of_ports};
use super::matches::{is_ours, rules_of};
use super::place::BUILTIN;
use super::rules::Rule;
use super::{Filter, lock};
use crate::backend::{Backend, Change, Effect, Entry, Wish};
use crate::error::Error;
use crate::extent::{Extent, Ports};

const NAME: &str = "ipset";

/// How many entries a set holds.
const SIZE: u32 = 262_144;

/// How long a set may still be in use after the last rule that matched it is gone.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(100);

/// The backend.
pub(crate) struct Ipset {
    ipset: Program,
    filters: Vec<Filter>,
    extent: Extent,
    /// Whether single ports are shut, or an earlier run did so.
    ports: bool,
}

/// What stands in a set: the words by which ipset knows it, and what they mean.
struct Element {
    set: &'static str,
    key: String,
    entry: Entry,
}

impl Ipset {
    pub(crate) fn find(extent: Extent) -> Result<Self, Error> {
        let ports = extent.ports == Ports::Probed;
        Ok(Ipset { ipset: installed(NAME, NAME)?, filters: Filter::find(NAME)?, extent, ports })
    }

    /// The sets of a family.
    fn sets(&self, ipv4: bool) -> impl Iterator<Item = &'static str> {
        [Some(set(ipv4)), self.ports.then(|| set_of_ports(ipv4))].into_iter().flatten()
    }

    /// Makes sets and rules, as far as they are missing, and takes away rules that other flags made.
    fn set_up(&self, filter: &Filter) -> Result<(), Error> {
        let family = if filter.ipv4 { "inet" } else { "inet6" };
        let size = SIZE.to_string();
        for name in self.sets(filter.ipv4) {
            let kind = if is_of_ports(name) { "hash:net,port" } else { "hash:net" };
            let flags = [kind, "family", family, "timeout", "0", "maxelem", &size, "comment"];
            self.run(&[&["-exist", "create", name], &flags[..]].concat(), b"")?;
        }
        let rules = filter.rules()?;
        let (mut commands, mut gone) = (Vec::new(), Vec::new());
        for chain in BUILTIN {
            let sets: Vec<&str> = self.sets(filter.ipv4).collect();
            let wanted = rules_of(self.extent, filter.ipv4, chain, &sets);
            commands.extend(filter.place(&rules, chain, &wanted, |rule| is_ours(rule, filter.ipv4))?);
            if wanted.is_empty() {
                let ours = rules.chain(chain).filter(|rule| is_ours(rule, filter.ipv4));
                gone.extend(ours.map(|rule| (chain, rule)));
            }
        }
        filter.change(&commands)?;
        filter.restore_ground(gone.into_iter())
    }

    fn run(&self, args: &[&str], input: &[u8]) -> Result<Vec<u8>, Error> {
        self.ipset.run_well(args, input).map_err(|error| match error {
            Below::Program { said, .. } if said.contains("Operation not permitted") => {
                Error::NotPermitted { backend: NAME }
            }
            error => error.into(),
        })
    }

    /// What a set holds; `None`: there is no such set.
    fn elements(&self, set: &'static str) -> Result<Option<Vec<Element>>, Error> {
        match self.run(&["save", set], b"") {
            Ok(saved) => {
                let now = Timestamp::now();
                let saved = String::from_utf8_lossy(&saved);
                let element = |line| {
                    let (key, entry) = element(line, now)?;
                    Some(Element { set, key, entry })
                };
                Ok(Some(saved.lines().filter_map(element).collect()))
            }
            Err(Error::System(Below::Program { said, .. })) if said.contains("does not exist") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What the sets of a family hold.
    fn all(&self, ipv4: bool) -> Result<Vec<Element>, Error> {
        let mut found = Vec::new();
        for set in [set(ipv4), set_of_ports(ipv4)] {
            found.extend(self.elements(set)?.unwrap_or_default());
        }
        Ok(found)
    }

    fn make(
        &self,
        ipv4: bool,
        standing: &[Element],
        changes: &[&Change],
        now: Timestamp,
    ) -> Result<Vec<Effect>, Error> {
        let mut script = String::new();
        let mut effects = Vec::with_capacity(changes.len());
        for change in changes {
            let mut effect = Effect::WasNotThere;
            match &change.wish {
                Wish::Block(block) => {
                    script.push_str(&add(ipv4, change.scope, block, now));
                    effect = Effect::Done;
                }
                Wish::Release(_) => {
                    for Element { set, key, .. } in standing.iter().filter(|e| e.entry.scope == change.scope)
                    {
                        script.push_str(&format!("del {set} {key}\n"));
                        effect = Effect::Done;
                    }
                }
            }
            effects.push(effect);
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
        let ready = || -> Result<Vec<Element>, Error> {
            if blocks {
                self.set_up(filter)?;
            }
            // `del` does not tell whether there was something.
            if releases { self.all(ipv4) } else { Ok(Vec::new()) }
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
        for ipv4 in [true, false] {
            self.ports |= self.elements(set_of_ports(ipv4))?.is_some();
        }
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
            found.extend(self.all(ipv4)?.into_iter().map(|element| element.entry));
        }
        Ok(Entry::gather(found))
    }

    fn remove(&mut self) -> Result<Vec<Entry>, Error> {
        let lock = lock()?;
        let mut found = Vec::new();
        for filter in &self.filters {
            let rules = filter.rules()?;
            let ours: Vec<(&str, &Rule)> = BUILTIN
                .into_iter()
                .flat_map(|chain| rules.chain(chain).map(move |rule| (chain, rule)))
                .filter(|(_, rule)| is_ours(rule, filter.ipv4))
                .collect();
            let commands: Vec<String> = ours.iter().map(|(_, rule)| rule.deletion()).collect();
            filter.change(&commands)?;
            filter.restore_ground(ours.into_iter())?;
            for name in [set(filter.ipv4), set_of_ports(filter.ipv4)] {
                if let Some(elements) = self.elements(name)? {
                    found.extend(elements.into_iter().map(|element| element.entry));
                    self.destroy(name)?;
                }
            }
        }
        lock.remove();
        Ok(Entry::gather(found))
    }

    fn ends_by_itself(&self) -> bool {
        true
    }

    fn longest(&self) -> Option<Duration> {
        Some(Duration::from_secs(LONGEST))
    }
}
