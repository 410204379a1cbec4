//! The chains in which the blocks of iptables are rules, and the jumps that lead to them. Says what is to be done, and
//! does nothing.

use super::super::rules::{BUILTIN, Rule, Rules};
use crate::note;
use crate::reach::Reach;

/// The chains for what comes from a source, and those for what goes to it; of blocks that are not proven, which leave alone
/// what is established, in chains of their own.
pub(super) const IN: &str = "PSENTRY";
pub(super) const IN_UNPROVEN: &str = "PSENTRY-UNPROVEN";
pub(super) const OUT: &str = "PSENTRY-OUT";
pub(super) const OUT_UNPROVEN: &str = "PSENTRY-UNPROVEN-OUT";

/// All chains of ours, in the order of the jumps to them.
pub(super) const CHAINS: [&str; 4] = [IN, IN_UNPROVEN, OUT, OUT_UNPROVEN];

/// All chains that concern this backend.
pub(super) const CONCERNING: [&str; 7] = ["INPUT", "FORWARD", "OUTPUT", IN, IN_UNPROVEN, OUT, OUT_UNPROVEN];

/// The rules that let connections go on, and TCP that begins nothing: it belongs to what is established, or is answered with
/// a reset. So connections that were there before anything was tracked are spared, too.
const SPARE: [&str; 2] = [
    "-m conntrack --ctstate RELATED,ESTABLISHED -j RETURN",
    "-p tcp -m tcp ! --tcp-flags RST,ACK NONE -j RETURN",
];

/// Whether packets go to the source in a chain, and do not come from it.
pub(super) fn is_egress(chain: &str) -> bool {
    [OUT, OUT_UNPROVEN].contains(&chain)
}

/// Whether a chain is one of what is not proven.
pub(super) fn is_unproven(chain: &str) -> bool {
    [IN_UNPROVEN, OUT_UNPROVEN].contains(&chain)
}

/// Whether a rule leads to one of our chains.
pub(in super::super) fn is_jump(rule: &Rule) -> bool {
    rule.target().is_some_and(|target| CHAINS.contains(&target))
}

/// The commands that make what is missing of chains and jumps, and delete what other flags made. There are chains for what
/// is not proven once something is: `unproven`; the kernel tracks connections from the first rule that asks for them. In
/// `iptables-restore --noflush` a line `:CHAIN` empties a chain that is there, so that it is written only for one that is
/// not.
pub(super) fn setup(reach: Reach, rules: &Rules, unproven: bool) -> Vec<String> {
    let used = used(reach, rules, unproven);
    let mut commands = Vec::new();
    for chain in &used {
        if !rules.has_chain(chain) {
            commands.push(format!(":{chain} - [0:0]"));
        }
        let wanted = if reach.spares(is_unproven(chain)) { &SPARE[..] } else { &[] };
        // Whatever names no source is no block: others' rules, and ours of other flags.
        commands.extend(rules.place(chain, wanted, |rule| rule.scope().is_none()));
    }
    for chain in BUILTIN {
        commands.extend(rules.place(chain, &jumps(reach, &used, chain), is_jump));
    }
    commands.extend(removal(rules, |chain| !used.contains(&chain)));
    commands.extend(renamed(rules));
    commands
}

/// The commands that delete all chains, and the jumps to them.
pub(super) fn purge(rules: &Rules) -> Vec<String> {
    rules.deletions(is_jump).into_iter().chain(removal(rules, |_| true)).chain(renamed(rules)).collect()
}

/// The commands that delete chains of ours that somebody gave another name, which would go on blocking for good: in them there is
/// nothing but blocks, by their notes.
fn renamed(rules: &Rules) -> Vec<String> {
    let is_block = |rule: &Rule| rule.scope().is_some() && rule.comment().and_then(note::read).is_some();
    let is_ours = |rule: &Rule| is_block(rule) || SPARE.iter().any(|spare| rule.is(spare));
    let is_renamed = |chain: &str| {
        let mut all = rules.chain(chain);
        !CHAINS.contains(&chain) && rules.chain(chain).any(is_block) && all.all(is_ours)
    };
    let deletion = |chain: &str| {
        let mut commands = rules.deletions(|rule| rule.target() == Some(chain));
        commands.extend([format!("-F {chain}"), format!("-X {chain}")]);
        commands
    };
    rules.chains().filter(|chain| is_renamed(chain)).flat_map(deletion).collect()
}

/// Our chains that should be there.
fn used(reach: Reach, rules: &Rules, unproven: bool) -> Vec<&'static str> {
    let unproven = unproven || CHAINS.iter().any(|chain| is_unproven(chain) && rules.has_chain(chain));
    let used = |chain: &&str| (unproven || !is_unproven(chain)) && (reach.egress || !is_egress(chain));
    CHAINS.into_iter().filter(used).collect()
}

fn jumps(reach: Reach, used: &[&str], chain: &str) -> Vec<String> {
    let leads = |target: &&&str| match chain {
        "INPUT" => !is_egress(target),
        "FORWARD" => reach.forward,
        _ => is_egress(target),
    };
    used.iter().filter(leads).map(|target| format!("-j {target}")).collect()
}

fn removal(rules: &Rules, stale: impl Fn(&str) -> bool) -> Vec<String> {
    let stale = CHAINS.into_iter().filter(|chain| rules.has_chain(chain) && stale(chain));
    stale.flat_map(|chain| [format!("-F {chain}"), format!("-X {chain}")]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set_up(reach: Reach, listed: &str, unproven: bool) -> (Rules, Vec<String>) {
        let mut rules = Rules::read(listed, false);
        let commands = setup(reach, &rules, unproven);
        rules.run(&commands);
        (rules, commands)
    }

    #[test]
    fn what_is_set_up_once_is_as_it_should_be() {
        let other = "-P INPUT ACCEPT\n-N DOCKER\n-A INPUT -j DOCKER\n-A FORWARD -j DOCKER\n";
        for egress in [false, true] {
            for forward in [false, true] {
                for unproven in [false, true] {
                    let reach = Reach { egress, forward, ..Reach::default() };
                    let (rules, commands) = set_up(reach, other, unproven);
                    assert!(!commands.is_empty());
                    assert_eq!(setup(reach, &rules, false), Vec::<String>::new());
                    assert_eq!(rules.has_chain(IN_UNPROVEN), unproven);
                    assert_eq!(rules.has_chain(OUT), egress);
                    // Other flags delete what these made.
                    let plain = Reach { forward: false, ..Reach::default() };
                    let mut again = Rules::default();
                    again.run(&commands);
                    again.run(&setup(plain, &again, false));
                    assert_eq!(setup(plain, &again, false), Vec::<String>::new());
                    assert!(!again.has_chain(OUT) && again.chain("FORWARD").count() == 0);
                    again.run(&purge(&again));
                    assert!(CONCERNING.iter().all(|chain| again.agrees(&Rules::default(), chain)));
                }
            }
        }
    }

    #[test]
    fn a_rule_that_lets_everybody_through_our_chain_is_deleted() {
        let (rules, _) = set_up(Reach::default(), "", true);
        let mut damaged = rules;
        damaged.run(&["-I PSENTRY 1 -j ACCEPT".to_owned(), "-I PSENTRY-UNPROVEN 2 -j RETURN".to_owned()]);
        damaged.run(&setup(Reach::default(), &damaged, false));
        let (rules, _) = set_up(Reach::default(), "", true);
        assert!(CONCERNING.iter().all(|chain| damaged.agrees(&rules, chain)));
    }

    #[test]
    fn a_chain_of_ours_under_another_name_is_deleted_and_those_of_others_are_not() {
        let ours = "-s 192.0.2.7/32 -m comment --comment \"fan until unblocked\" -j DROP";
        let listed = format!(
            "-N bar\n-N theirs\n-A INPUT -j bar\n-A INPUT -j theirs\n-A bar {}\n-A bar {ours}\n\
             -A theirs {ours}\n-A theirs -s 192.0.2.8/32 -j DROP\n",
            SPARE[0]
        );
        let (rules, _) = set_up(Reach::default(), &listed, false);
        assert_eq!(rules.chains().collect::<Vec<_>>(), ["theirs", IN]);
        assert_eq!(rules.chain("INPUT").filter_map(Rule::target).collect::<Vec<_>>(), [IN, "theirs"]);
        assert_eq!(rules.chain("theirs").count(), 2);
    }
}
