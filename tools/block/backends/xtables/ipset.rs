//! Blocks as entries of ipset's sets, one for each family and one more for single ports, matched by rules at the top of
//! INPUT and FORWARD. The kernel ends them.

use std::thread;
use std::time::Duration;

use psentry_kernel::{Error as Below, Program};
use psentry_records::{Prefix, Timestamp};

use super::super::installed;
use super::iptables::{by_family, halving, named, transport_name};
use super::rules::Rule;
use super::{BUILTIN, DROP, Filter, answers, lock};
use crate::backend::{Backend, Block, Change, Effect, Entry, Wish};
use crate::error::Error;
use crate::extent::{Extent, Ports};
use crate::note;

const NAME: &str = "ipset";

/// How many entries a set holds.
const SIZE: u32 = 262_144;

/// The longest timeout of ipset, in seconds.
const LONGEST: u64 = 2_147_483;

/// How long a set may still be in use after the last rule that matched it is gone.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(100);

/// What spares connections.
const UNSPARED: &str = "-m conntrack ! --ctstate RELATED,ESTABLISHED ";

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

fn set(ipv4: bool) -> &'static str {
    if ipv4 { "psentry4" } else { "psentry6" }
}

fn set_of_ports(ipv4: bool) -> &'static str {
    if ipv4 { "psentry4_ports" } else { "psentry6_ports" }
}

fn is_of_ports(set: &str) -> bool {
    set == set_of_ports(true) || set == set_of_ports(false)
}

fn is_ours(rule: &Rule, ipv4: bool) -> bool {
    rule.value("--match-set").is_some_and(|name| [set(ipv4), set_of_ports(ipv4)].contains(&name))
}

/// The rules of a builtin chain, as `iptables -S` writes them.
fn rules_of(extent: Extent, ipv4: bool, chain: &str, sets: &[&str]) -> Vec<String> {
    let spared = if extent.spares() { UNSPARED } else { "" };
    let mut rules = Vec::new();
    if chain == "INPUT" || (chain == "FORWARD" && extent.forward) {
        for set in sets {
            let from = if is_of_ports(set) { "src,dst" } else { "src" };
            let rule =
                |(only, end): (&str, &str)| format!("{only}{spared}-m set --match-set {set} {from} {end}");
            rules.extend(answers(extent, ipv4).into_iter().map(rule));
        }
    }
    if extent.egress && (chain == "OUTPUT" || (chain == "FORWARD" && extent.forward)) {
        for set in sets {
            let to = if is_of_ports(set) { "dst,src" } else { "dst" };
            rules.push(format!("{spared}-m set --match-set {set} {to} {DROP}"));
        }
    }
    rules
}

/// The lines that block. To ipset a timeout of 0 means: for ever. Of whom only ports are to be shut, the whole is not.
fn add(ipv4: bool, scope: Prefix, block: &Block, now: Timestamp) -> String {
    let timeout = block.seconds_left(now).map_or(0, |left| left.clamp(1, LONGEST));
    let end = format!("timeout {timeout} comment \"{}\"\n", note::write(block));
    if block.ports.is_empty() {
        return format!("add {} {scope} {end}", set(ipv4));
    }
    let mut lines = format!("del {} {scope}\n", set(ipv4));
    for name in block.transports().iter().filter_map(|number| transport_name(*number)) {
        for port in &block.ports {
            lines.push_str(&format!("add {} {scope},{name}:{port} {end}", set_of_ports(ipv4)));
        }
    }
    lines
}

/// The element that a line of `ipset save` tells of: its words, and the block.
fn element(line: &str, now: Timestamp) -> Option<(String, Entry)> {
    let words = shlex::split(line)?;
    let [add, _, key, rest @ ..] = &*words else { return None };
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
    let Some((scope, door)) = key.split_once(',') else {
        return Some((key.clone(), note::reconcile(key.parse().ok()?, kernel, noted)));
    };
    let (transport, port) = door.split_once(':')?;
    let entry = note::reconcile(scope.parse().ok()?, kernel, noted);
    Some((key.clone(), Entry { ports: vec![port.parse().ok()?], proto: Some(named(transport)?), ..entry }))
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
            assert_eq!(element(&line, now), Some((scope.to_string(), want)));
        }
        assert_eq!(element("create psentry4 hash:net family inet timeout 0", now), None);
        assert_eq!(
            element("add psentry4 192.0.2.7 timeout 60", now).unwrap().1.until,
            Some(now.plus(Duration::from_secs(60)))
        );
    }

    #[test]
    fn single_ports_are_read_back_and_the_whole_is_let_in() {
        let now: Timestamp = "2026-11-22T15:04:05Z".parse().unwrap();
        let block = Block { ports: vec![22, 53], ..Block::default() };
        let lines = add(true, "192.0.2.0/24".parse().unwrap(), &block, now);
        let (first, ports) = lines.split_once('\n').unwrap();
        assert_eq!(first, "del psentry4 192.0.2.0/24");
        assert!(ports.contains("add psentry4_ports 192.0.2.0/24,udp:53 timeout 0 comment"), "{ports}");
        let found = Entry::gather(ports.lines().map(|line| element(line, now).unwrap().1));
        assert_eq!(found.iter().map(Block::from).collect::<Vec<_>>(), [block]);
    }

    #[test]
    fn each_flag_has_its_rules() {
        let sets = ["psentry4", "psentry4_ports"];
        let rules = |extent, chain| rules_of(extent, true, chain, &sets).join("\n");
        let plain =
            "-m set --match-set psentry4 src -j DROP\n-m set --match-set psentry4_ports src,dst -j DROP";
        assert_eq!(rules(Extent::default(), "INPUT"), plain);
        assert_eq!(rules(Extent::default(), "FORWARD"), plain);
        assert_eq!(rules(Extent::default(), "OUTPUT"), "");
        let local = Extent { forward: false, egress: true, ..Extent::default() };
        assert_eq!(rules(local, "FORWARD"), "");
        assert_eq!(
            rules(local, "OUTPUT"),
            "-m set --match-set psentry4 dst -j DROP\n-m set --match-set psentry4_ports dst,src -j DROP"
        );
        let spare = Extent {
            answer: crate::extent::Answer::Reject,
            standing: crate::extent::Standing::Spared,
            ..Extent::default()
        };
        assert_eq!(
            rules_of(spare, false, "INPUT", &sets[..1]),
            [
                "-p tcp -m conntrack ! --ctstate RELATED,ESTABLISHED -m set --match-set psentry4 src -j REJECT \
                 --reject-with tcp-reset",
                "-m conntrack ! --ctstate RELATED,ESTABLISHED -m set --match-set psentry4 src -j REJECT \
                 --reject-with icmp6-adm-prohibited",
            ]
        );
    }
}
