//! The chains in which the blocks of iptables are rules, and the jumps that lead to them. Says what is to be done, and
//! does nothing.

use super::super::Filter;
use super::super::place::{BUILTIN, Placing};
use super::super::rules::{Rule, Rules};
use super::listed::{IN, OUT};
use crate::error::Error;
use crate::extent::Extent;

/// The rule that lets connections go on.
const SPARE: &str = "-m conntrack --ctstate RELATED,ESTABLISHED -j RETURN";

/// The commands that make what is missing of chains and jumps, and take away what other flags made. In
/// `iptables-restore --noflush` a line `:CHAIN` empties a chain that is there, so that it is written only for one that is
/// not.
pub(super) fn setup<'a>(extent: Extent, filter: &Filter, rules: &'a Rules) -> Result<Placing<'a>, Error> {
    let Extent { forward, egress, .. } = extent;
    let mut commands = Vec::new();
    for chain in [Some(IN), egress.then_some(OUT)].into_iter().flatten() {
        if !rules.has_chain(chain) {
            commands.push(format!(":{chain} - [0:0]"));
        }
        let spare = rules.chain(chain).find(|rule| rule.is(SPARE));
        match (extent.spares(), spare) {
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
        commands.extend(filter.place(rules, chain, &wanted, is_jump)?);
        if wanted.is_empty() {
            gone.extend(rules.chain(chain).filter(|rule| is_jump(rule)).map(|rule| (chain, rule)));
        }
    }
    if !egress && rules.has_chain(OUT) {
        commands.extend([format!("-F {OUT}"), format!("-X {OUT}")]);
    }
    Ok(Placing { commands, gone })
}

/// Whether one of our chains is there.
pub(in super::super) fn has_any(rules: &Rules) -> bool {
    [IN, OUT].iter().any(|chain| rules.has_chain(chain))
}

/// Whether a rule leads to one of our chains.
pub(super) fn is_jump(rule: &Rule) -> bool {
    rule.target().is_some_and(|target| [IN, OUT].contains(&target))
}
