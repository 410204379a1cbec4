//! The chains in which the blocks of iptables are rules, and the jumps that lead to them. Says what is to be done, and
//! does nothing.

use psentry_linux::{Rule, Rules};

use super::super::rules::{BUILTIN, is_used, leading, place};
use crate::note;
use crate::reach::Reach;

/// The chain of what is proven; and that of what is not, the jumps to which leave out what is established.
pub(super) const PROVEN: &str = "PSENTRY";
pub(super) const UNPROVEN: &str = "PSENTRY-UNPROVEN";

/// Our chains, in the order of the jumps to them.
pub(super) const CHAINS: [&str; 2] = [PROVEN, UNPROVEN];

/// All chains that concern this backend.
pub(super) const CONCERNING: [&str; 5] = ["INPUT", "FORWARD", "OUTPUT", PROVEN, UNPROVEN];

/// Whether a rule leads to one of our chains.
pub(in super::super) fn is_jump(rule: &Rule) -> bool {
    rule.target().is_some_and(|target| CHAINS.contains(&target))
}

/// The commands that make what is missing of chains and jumps, and delete what is left of others. There is a chain for what
/// is not proven once something is: `unproven`; the kernel tracks connections from the first rule that asks for them. In
/// `iptables-restore --noflush` a line `:CHAIN` empties a chain that is there, so that it is written only for one that is
/// not.
pub(super) fn setup(reach: Reach, rules: &Rules, unproven: bool) -> Vec<String> {
    let is_kept = |chain: &&str| *chain == PROVEN || unproven || rules.has_chain(UNPROVEN);
    let kept: Vec<&str> = CHAINS.into_iter().filter(is_kept).collect();
    let mut commands = Vec::new();
    for chain in &kept {
        if !rules.has_chain(chain) {
            commands.push(format!(":{chain} - [0:0]"));
        }
        // Whatever names no source is no block.
        commands.extend(rules.chain(chain).filter(|rule| rule.scope().is_none()).map(Rule::deletion));
    }
    let jumps: Vec<String> =
        kept.iter().flat_map(|chain| leading(reach.spares(*chain == UNPROVEN), "-j ", [chain; 2])).collect();
    for chain in BUILTIN {
        let used = is_used(reach, chain, false) || is_used(reach, chain, true);
        commands.extend(place(rules, chain, if used { &jumps } else { &[] }, is_jump));
    }
    commands.extend(removal(rules, &kept));
    commands
}

/// The commands that delete all chains of ours that are not `kept`, and the jumps to them: those of a psentry-block of before, which
/// had more, and those that somebody gave another name, which would go on blocking for good. In these there is nothing but blocks, by
/// their notes.
pub(super) fn removal(rules: &Rules, kept: &[&str]) -> Vec<String> {
    let is_block = |rule: &Rule| rule.scope().is_some() && rule.comment().and_then(note::read).is_some();
    let holds_blocks = |chain: &str| rules.chain(chain).next().is_some() && rules.chain(chain).all(is_block);
    let is_stale = |chain: &&str| !kept.contains(chain) && (chain.starts_with(PROVEN) || holds_blocks(chain));
    let deletion = |chain: &str| {
        let mut commands = rules.deletions(|rule| rule.target() == Some(chain));
        commands.extend([format!("-F {chain}"), format!("-X {chain}")]);
        commands
    };
    rules.chains().filter(is_stale).flat_map(deletion).collect()
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
                    assert_eq!(rules.has_chain(UNPROVEN), unproven);
                    assert_eq!(rules.chain("OUTPUT").count() > 0, egress);
                    // Other flags delete what these made.
                    let plain = Reach { forward: false, ..Reach::default() };
                    let mut again = Rules::default();
                    again.run(&commands);
                    again.run(&setup(plain, &again, false));
                    assert_eq!(setup(plain, &again, false), Vec::<String>::new());
                    assert!(["OUTPUT", "FORWARD"].iter().all(|chain| again.chain(chain).count() == 0));
                    again.run(&removal(&again, &[]));
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
            "-N bar\n-N theirs\n-A INPUT -j bar\n-A INPUT -j theirs\n-A bar {ours}\n\
             -A theirs {ours}\n-A theirs -s 192.0.2.8/32 -j DROP\n",
        );
        let (rules, _) = set_up(Reach::default(), &listed, false);
        assert_eq!(rules.chains().collect::<Vec<_>>(), ["theirs", PROVEN]);
        assert_eq!(rules.chain("INPUT").filter_map(Rule::target).collect::<Vec<_>>(), [PROVEN, "theirs"]);
        assert_eq!(rules.chain("theirs").count(), 2);
    }

    /// Which had chains of their own for what goes to a source, and rules of no block in those of what is not proven.
    #[test]
    fn what_a_psentry_block_of_before_made_is_replaced() {
        let block = "-s 192.0.2.7/32 -m comment --comment \"fan (unproven) until unblocked\" -j DROP";
        let listed = format!(
            "-N PSENTRY\n-N PSENTRY-OUT\n-N PSENTRY-UNPROVEN\n-N PSENTRY-UNPROVEN-OUT\n\
             -A INPUT -j PSENTRY\n-A INPUT -j PSENTRY-UNPROVEN\n-A OUTPUT -j PSENTRY-OUT\n-A OUTPUT -j PSENTRY-UNPROVEN-OUT\n\
             -A PSENTRY-UNPROVEN -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN\n-A PSENTRY-UNPROVEN {block}\n\
             -A PSENTRY-UNPROVEN-OUT -p tcp -m tcp ! --tcp-flags RST,ACK NONE -j RETURN\n",
        );
        let (rules, _) = set_up(Reach::default(), &listed, false);
        assert_eq!(rules.chains().collect::<Vec<_>>(), CHAINS);
        assert_eq!((rules.chain(UNPROVEN).count(), rules.chain("OUTPUT").count()), (1, 0));
        let conditions = ["-p tcp -m tcp --tcp-flags RST,ACK NONE", "! -p tcp"].map(|only| {
            format!("-A INPUT {only} -m conntrack ! --ctstate RELATED,ESTABLISHED -j PSENTRY-UNPROVEN")
        });
        assert!(rules.chain("INPUT").skip(1).zip(&conditions).all(|(rule, wanted)| rule.is(wanted)));
        assert_eq!(setup(Reach::default(), &rules, false), Vec::<String>::new());
    }
}
