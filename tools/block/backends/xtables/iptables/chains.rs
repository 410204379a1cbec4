//! The chains in which the blocks of iptables are rules, and the jumps that lead to them. Says what is to be done, and
//! does nothing.

use super::super::Filter;
use super::super::place::{BUILTIN, Placing};
use super::super::rules::{Rule, Rules};
use super::listed::{CHAINS, is_egress, is_unproven};
use crate::error::Error;
use crate::reach::Reach;

/// The rules that let connections go on, and TCP that begins nothing: it belongs to what is established, or is answered with
/// a reset. So connections that stood before anything was tracked are spared, too.
const SPARE: [&str; 2] = [
    "-m conntrack --ctstate RELATED,ESTABLISHED -j RETURN",
    "-p tcp -m tcp ! --tcp-flags RST,ACK NONE -j RETURN",
];

/// The commands that make what is missing of chains and jumps, and take away what other flags made. There are chains for what
/// is not proven once something is: `unproven`; the kernel tracks connections from the first rule that asks for them. In
/// `iptables-restore --noflush` a line `:CHAIN` empties a chain that is there, so that it is written only for one that is
/// not.
pub(super) fn setup<'a>(
    reach: Reach,
    filter: &Filter,
    rules: &'a Rules,
    unproven: bool,
) -> Result<Placing<'a>, Error> {
    let Reach { forward, egress, .. } = reach;
    let unproven = unproven || CHAINS.iter().any(|chain| is_unproven(chain) && rules.has_chain(chain));
    let used = |chain: &&str| (unproven || !is_unproven(chain)) && (egress || !is_egress(chain));
    let mut commands = Vec::new();
    for chain in CHAINS.into_iter().filter(used) {
        if !rules.has_chain(chain) {
            commands.push(format!(":{chain} - [0:0]"));
        }
        for spare in SPARE {
            let stands = rules.chain(chain).find(|rule| rule.is(spare));
            match (reach.spares(is_unproven(chain)), stands) {
                (true, None) => commands.push(format!("-I {chain} 1 {spare}")),
                (false, Some(rule)) => commands.push(rule.deletion()),
                _ => {}
            }
        }
    }
    let mut gone = Vec::new();
    for chain in BUILTIN {
        let leads = |target: &&str| match chain {
            "INPUT" => !is_egress(target),
            "FORWARD" => forward,
            _ => is_egress(target),
        };
        let wanted = CHAINS.into_iter().filter(used).filter(leads);
        let wanted: Vec<String> = wanted.map(|target| format!("-j {target}")).collect();
        commands.extend(filter.place(rules, chain, &wanted, is_jump)?);
        if wanted.is_empty() {
            gone.extend(rules.chain(chain).filter(|rule| is_jump(rule)).map(|rule| (chain, rule)));
        }
    }
    for stale in CHAINS.into_iter().filter(|chain| !used(chain) && rules.has_chain(chain)) {
        commands.extend([format!("-F {stale}"), format!("-X {stale}")]);
    }
    Ok(Placing { commands, gone })
}

/// Whether one of our chains is there.
pub(in super::super) fn has_any(rules: &Rules) -> bool {
    CHAINS.iter().any(|chain| rules.has_chain(chain))
}

/// Whether a rule leads to one of our chains.
pub(super) fn is_jump(rule: &Rule) -> bool {
    rule.target().is_some_and(|target| CHAINS.contains(&target))
}
