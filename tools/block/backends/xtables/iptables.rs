//! Blocks as rules of iptables: one chain PSENTRY, jumps to it at the top of INPUT and FORWARD, a rule per scope; where
//! packets to the source are dropped, too, a second chain for them. Every packet walks the rules, so that this is for
//! some hundreds of blocks; ipset and nft take any number.

use psentry_kernel::Error as Below;
use psentry_records::{Prefix, Proto, Timestamp};

use super::rules::{Rule, Rules};
use super::{BUILTIN, DROP, Filter, answers, lock};
use crate::backend::{Backend, Block, Change, Effect, Entry, Wish, transport};
use crate::error::Error;
use crate::extent::Extent;
use crate::note::{self, Noted};

const NAME: &str = "iptables";

/// The chain for what comes from a source, and the one for what goes to it.
const IN: &str = "PSENTRY";
const OUT: &str = "PSENTRY-OUT";

/// The rule that lets connections go on.
const SPARE: &str = "-m conntrack --ctstate RELATED,ESTABLISHED -j RETURN";

/// How many ports a rule takes.
const PORTS: usize = 15;

/// How many times a batch that fails is halved. Two bad changes among a thousand are found with less.
const PATIENCE: u32 = 24;

/// How many changes make a batch: between two of them ends are dealt with.
const BATCH: usize = 500;

/// The backend.
pub(crate) struct Iptables {
    filters: Vec<Filter>,
    extent: Extent,
}

impl Iptables {
    pub(crate) fn find(extent: Extent) -> Result<Self, Error> {
        Ok(Iptables { filters: Filter::find(NAME)?, extent })
    }

    /// Makes the changes of one family, in one step, on what stood when `rules` were read.
    fn make(&self, filter: &Filter, rules: &Rules, changes: &[&Change]) -> Result<Vec<Effect>, Error> {
        let mut commands = Vec::new();
        let mut effects = Vec::with_capacity(changes.len());
        for change in changes {
            let mut effect = Effect::WasNotThere;
            for chain in [IN, OUT] {
                let old: Vec<&Rule> =
                    rules.chain(chain).filter(|r| r.scope() == Some(change.scope)).collect();
                let wanted = match &change.wish {
                    Wish::Block(block) => rules_of(self.extent, chain, change.scope, block),
                    Wish::Release(_) => Vec::new(),
                };
                if !wanted.is_empty() || !old.is_empty() {
                    effect = Effect::Done;
                }
                if old.len() == wanted.len() && old.iter().zip(&wanted).all(|(rule, wanted)| rule.is(wanted))
                {
                    continue;
                }
                // The new ones first: inside one step nobody sees the difference, but the order costs nothing.
                commands.extend(wanted.iter().map(|rule| format!("-A {chain} {rule}")));
                commands.extend(old.into_iter().map(Rule::deletion));
            }
            effects.push(effect);
        }
        filter.change(&commands)?;
        Ok(effects)
    }

    /// Makes what is missing of chains and jumps, and takes away what other flags made. In `iptables-restore
    /// --noflush` a line `:CHAIN` empties a chain that is there, so that it is written only for one that is not. Gives
    /// the rules that stand then.
    fn set_up(&self, filter: &Filter) -> Result<Rules, Error> {
        let rules = filter.rules()?;
        let Extent { forward, egress, .. } = self.extent;
        let mut commands = Vec::new();
        for chain in [Some(IN), egress.then_some(OUT)].into_iter().flatten() {
            if !rules.has_chain(chain) {
                commands.push(format!(":{chain} - [0:0]"));
            }
            let spare = rules.chain(chain).find(|rule| rule.is(SPARE));
            match (self.extent.spares(), spare) {
                (true, None) => commands.push(format!("-I {chain} 1 {SPARE}")),
                (false, Some(rule)) => commands.push(rule.deletion()),
                _ => {}
            }
        }
        let mut gone = Vec::new();
        for chain in BUILTIN {
            let targets = match chain {
                "INPUT" => [true, false],
                "FORWARD" => [forward, forward && egress],
                _ => [false, egress],
            };
            let wanted = [IN, OUT].into_iter().zip(targets).filter(|(_, jump)| *jump);
            let wanted: Vec<String> = wanted.map(|(target, _)| format!("-j {target}")).collect();
            commands.extend(filter.place(&rules, chain, &wanted, is_jump)?);
            if wanted.is_empty() {
                gone.extend(rules.chain(chain).filter(|rule| is_jump(rule)).map(|rule| (chain, rule)));
            }
        }
        if !egress && rules.has_chain(OUT) {
            commands.extend([format!("-F {OUT}"), format!("-X {OUT}")]);
        }
        if commands.is_empty() {
            return Ok(rules);
        }
        filter.change(&commands)?;
        filter.restore_ground(gone.into_iter())?;
        filter.rules()
    }

    fn apply_family(&self, ipv4: bool, changes: &[&Change]) -> Vec<Result<Effect, Error>> {
        let Some(filter) = self.filters.iter().find(|filter| filter.ipv4 == ipv4) else {
            return changes.iter().map(|_| Err(Filter::absent(ipv4))).collect();
        };
        // Who only releases makes nothing, least of all after a flush.
        let blocks = changes.iter().any(|change| change.block().is_some());
        match if blocks { self.set_up(filter) } else { filter.rules() } {
            Ok(rules) => halving(changes, &mut |changes| self.make(filter, &rules, changes)),
            Err(error) => changes.iter().map(|_| Err(error.clone())).collect(),
        }
    }
}

impl Backend for Iptables {
    fn name(&self) -> &'static str {
        NAME
    }

    fn prepare(&mut self) -> Result<Vec<Entry>, Error> {
        let _lock = lock()?;
        let mut found = Vec::new();
        for filter in &self.filters {
            let rules = self.set_up(filter)?;
            let entries = entries(&rules);
            // What other flags made is made anew.
            let block = |entry: &Entry| Change { scope: entry.scope, wish: Wish::Block(Block::from(entry)) };
            let changes: Vec<Change> = entries.iter().map(block).collect();
            self.make(filter, &rules, &changes.iter().collect::<Vec<_>>())?;
            found.extend(entries);
        }
        Ok(found)
    }

    fn apply(&mut self, changes: &[Change], _: Timestamp) -> Vec<Result<Effect, Error>> {
        let _lock = match lock() {
            Ok(lock) => lock,
            Err(error) => return changes.iter().map(|_| Err(error.clone())).collect(),
        };
        by_family(changes, |ipv4, changes| self.apply_family(ipv4, changes))
    }

    fn list(&mut self) -> Result<Vec<Entry>, Error> {
        let mut found = Vec::new();
        for filter in &self.filters {
            found.extend(entries(&filter.rules()?));
        }
        Ok(found)
    }

    fn remove(&mut self) -> Result<Vec<Entry>, Error> {
        let lock = lock()?;
        let mut found = Vec::new();
        for filter in &self.filters {
            let rules = filter.rules()?;
            found.extend(entries(&rules));
            let jumps: Vec<(&str, &Rule)> = BUILTIN
                .into_iter()
                .flat_map(|chain| rules.chain(chain).filter(|r| is_jump(r)).map(move |rule| (chain, rule)))
                .collect();
            let mut commands: Vec<String> = jumps.iter().map(|(_, rule)| rule.deletion()).collect();
            for chain in [IN, OUT].into_iter().filter(|chain| rules.has_chain(chain)) {
                commands.extend([format!("-F {chain}"), format!("-X {chain}")]);
            }
            filter.change(&commands)?;
            filter.restore_ground(jumps.into_iter())?;
        }
        lock.remove();
        Ok(found)
    }

    fn at_once(&self) -> usize {
        BATCH
    }

    fn ends_by_itself(&self) -> bool {
        false
    }
}

fn is_jump(rule: &Rule) -> bool {
    rule.target().is_some_and(|target| [IN, OUT].contains(&target))
}

/// The rules that a block is in one of our chains, as `iptables -S` writes them.
fn rules_of(extent: Extent, chain: &str, scope: Prefix, block: &Block) -> Vec<String> {
    let note = format!("-m comment --comment \"{}\"", note::write(block));
    let (addr, ports, answers) = match chain {
        IN => ("-s", "--dports", answers(extent, scope.is_ipv4())),
        _ if !extent.egress => return Vec::new(),
        _ => ("-d", "--sports", vec![("", DROP)]),
    };
    if block.ports.is_empty() {
        return answers.iter().map(|(only, end)| format!("{addr} {scope} {only}{note} {end}")).collect();
    }
    let mut rules = Vec::new();
    for name in block.transports().iter().filter_map(|number| transport_name(*number)) {
        // TCP is reset; there is one answer to each of the others.
        let answer = if name == "tcp" { answers.first() } else { answers.last() };
        let end = answer.map_or(DROP, |(_, end)| end);
        for chunk in block.ports.chunks(PORTS) {
            let list: Vec<String> = chunk.iter().map(u16::to_string).collect();
            rules.push(format!(
                "{addr} {scope} -p {name} -m multiport {ports} {} {note} {end}",
                list.join(",")
            ));
        }
    }
    rules
}

/// The name of a transport with ports.
pub(super) fn transport_name(number: u8) -> Option<String> {
    transport(number).map(|proto| proto.name().to_lowercase())
}

/// The transport with this name.
pub(super) fn named(name: &str) -> Option<Proto> {
    [Proto::Tcp, Proto::Udp].into_iter().find(|proto| proto.name().eq_ignore_ascii_case(name))
}

fn entries(rules: &Rules) -> Vec<Entry> {
    let entry = |rule: &Rule| {
        let Noted { rule: name, since, until } = note::read(rule.comment()?)?;
        let mut entry = Entry { since, ..Entry::new(rule.scope()?, until, name) };
        if let Some(ports) = rule.value("--dports") {
            entry.ports = ports.split(',').map(str::parse).collect::<Result<_, _>>().ok()?;
            entry.proto = rule.value("-p").and_then(named);
        }
        Some(entry)
    };
    Entry::gather(rules.chain(IN).filter_map(entry))
}

/// Makes changes together. If the program objects, they may be too many at once, or one of them bad: then each half
/// on its own, until each has its own result, or the program has failed too often. A lock that another holds is no
/// reason to run it again and again.
pub(super) fn halving(
    changes: &[&Change],
    make: &mut impl FnMut(&[&Change]) -> Result<Vec<Effect>, Error>,
) -> Vec<Result<Effect, Error>> {
    let mut patience = PATIENCE;
    halve(changes, make, &mut patience)
}

fn halve(
    changes: &[&Change],
    make: &mut impl FnMut(&[&Change]) -> Result<Vec<Effect>, Error>,
    patience: &mut u32,
) -> Vec<Result<Effect, Error>> {
    match make(changes) {
        Ok(effects) => effects.into_iter().map(Ok).collect(),
        Err(Error::System(Below::Program { code: Some(1 | 2), .. }))
            if changes.len() > 1 && *patience > 0 =>
        {
            *patience -= 1;
            let (first, second) = changes.split_at(changes.len() / 2);
            let mut results = halve(first, make, patience);
            results.extend(halve(second, make, patience));
            results
        }
        Err(error) => changes.iter().map(|_| Err(error.clone())).collect(),
    }
}

/// Has each family's changes made together, and puts the results in the order of the changes.
pub(super) fn by_family(
    changes: &[Change],
    mut apply: impl FnMut(bool, &[&Change]) -> Vec<Result<Effect, Error>>,
) -> Vec<Result<Effect, Error>> {
    let of = |ipv4: bool| -> Vec<&Change> {
        changes.iter().filter(|change: &&Change| change.scope.is_ipv4() == ipv4).collect()
    };
    let mut results = [true, false].map(|ipv4| {
        let changes = of(ipv4);
        let results = if changes.is_empty() { Vec::new() } else { apply(ipv4, &changes) };
        results.into_iter()
    });
    let [v4, v6] = &mut results;
    let result = |scope: Prefix| if scope.is_ipv4() { v4.next() } else { v6.next() };
    let missing = || Err(Error::Unfinished("a change has no result; this is a bug of psentry".to_owned()));
    changes.iter().map(|change| change.scope).map(result).map(|r| r.unwrap_or_else(missing)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extent::Answer;

    fn changes(count: u32) -> Vec<Change> {
        let scope = |n: u32| Prefix::host(std::net::Ipv4Addr::from(0xC633_6400 + n).into());
        (0..count).map(|n| Change { scope: scope(n), wish: Wish::Block(Block::default()) }).collect()
    }

    fn failure(code: i32) -> Error {
        let text = || "x".to_owned();
        Below::Program { program: text(), status: text(), code: Some(code), said: text() }.into()
    }

    /// How often the program is run, and how many changes succeed, when those that are `bad` fail their batch.
    fn run(count: u32, code: i32, bad: impl Fn(&Change) -> bool) -> (u32, usize) {
        let changes = changes(count);
        let mut runs = 0;
        let results = halving(&changes.iter().collect::<Vec<_>>(), &mut |changes| {
            runs += 1;
            if changes.iter().any(|change| bad(change)) {
                Err(failure(code))
            } else {
                Ok(vec![Effect::Done; changes.len()])
            }
        });
        assert_eq!(results.len(), changes.len());
        (runs, results.iter().filter(|result| result.is_ok()).count())
    }

    #[test]
    fn one_bad_change_is_found_and_a_held_lock_is_left_alone() {
        let last =
            |count: u32| move |change: &Change| change.scope == changes(count)[count as usize - 1].scope;
        assert_eq!(run(512, 2, last(512)), (19, 511));
        assert_eq!(run(512, 4, last(512)), (1, 0));
        let (runs, _) = run(2000, 1, |_| true);
        assert!(runs <= 2 * PATIENCE + 1, "{runs}");
    }

    #[test]
    fn a_block_is_written_as_iptables_lists_it_and_read_back() {
        let until = "2026-11-22T15:04:05Z".parse().ok();
        let (scope, rule) = ("192.0.2.7".parse().unwrap(), Some("fan".to_owned()));
        let whole = Block { until, rule, ..Block::default() };
        let some = Block { ports: (1..=16).collect(), proto: Some(Proto::Tcp), ..whole.clone() };
        let note = "-m comment --comment \"fan until 2026-11-22T15:04:05Z\"";
        let reject = Extent { answer: Answer::Reject, ..Extent::default() };
        for (extent, block, want) in [
            (Extent::default(), &whole, vec![format!("-s 192.0.2.7/32 {note} -j DROP")]),
            (
                reject,
                &whole,
                vec![
                    format!("-s 192.0.2.7/32 -p tcp {note} -j REJECT --reject-with tcp-reset"),
                    format!("-s 192.0.2.7/32 {note} -j REJECT --reject-with icmp-admin-prohibited"),
                ],
            ),
            (
                reject,
                &some,
                ["1,2,3,4,5,6,7,8,9,10,11,12,13,14,15", "16"]
                    .map(|ports| {
                        format!(
                            "-s 192.0.2.7/32 -p tcp -m multiport --dports {ports} {note} -j REJECT --reject-with \
                             tcp-reset"
                        )
                    })
                    .to_vec(),
            ),
        ] {
            let rules = rules_of(extent, IN, scope, block);
            assert_eq!(rules, want);
            let listed: String = rules.iter().map(|rule| format!("-A PSENTRY {rule}\n")).collect();
            let entries = entries(&Rules::read(&listed));
            assert_eq!(entries.iter().map(Block::from).collect::<Vec<_>>(), std::slice::from_ref(block));
        }
        let egress = Extent { egress: true, ..Extent::default() };
        assert_eq!(rules_of(egress, OUT, scope, &whole), [format!("-d 192.0.2.7/32 {note} -j DROP")]);
        assert!(rules_of(reject, OUT, scope, &whole).is_empty());
    }
}
