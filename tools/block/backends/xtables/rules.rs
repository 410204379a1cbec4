//! The rules that lead packets to our sets and chains, as `iptables -S` prints them: which commands keep them first, and which rules
//! before them accept. Reads and writes text, runs nothing.

use psentry_linux::{Rule, Rules};

use super::is_psentry;
use crate::reach::{Answer, Reach};

/// The builtin chains that rules of ours may be in: those of other flags are found there, too, and deleted.
pub(super) const BUILTIN: [&str; 3] = ["INPUT", "FORWARD", "OUTPUT"];

/// How deep chains are followed.
const DEEP: u32 = 8;

/// What makes a rule one for TCP.
pub(super) const TCP_ONLY: &str = "-p tcp ";

/// What spares connections, and what TCP that begins nothing: it belongs to what is established, or is answered with a
/// reset. So connections that were there before anything was tracked are spared, too.
const UNSPARED: &str = "-m conntrack ! --ctstate RELATED,ESTABLISHED ";
const BEGINS: &str = "-p tcp -m tcp --tcp-flags RST,ACK NONE ";

/// The target that drops a packet.
pub(super) const DROP: &str = "-j DROP";

/// The commands that make `wanted` all that is `ours` in a chain, before the rules of everybody but psentry: what another rule
/// accepts before ours never comes to a block.
pub(super) fn place(
    rules: &Rules,
    chain: &str,
    wanted: &[String],
    ours: impl Fn(&Rule) -> bool,
) -> Vec<String> {
    let present: Vec<&Rule> = rules.chain(chain).filter(|rule| ours(rule)).collect();
    let first = rules.chain(chain).take_while(|rule| is_psentry(rule)).filter(|rule| ours(rule));
    let is = |(rule, wanted): (&&Rule, &String)| rule.is(&format!("-A {chain} {wanted}"));
    let len = wanted.len();
    if (present.len(), first.count()) == (len, len) && present.iter().zip(wanted).all(is) {
        return Vec::new();
    }
    let insertion = |(rule, place)| format!("-I {chain} {place} {rule}");
    present.into_iter().map(Rule::deletion).chain(wanted.iter().zip(1..).map(insertion)).collect()
}

/// Why blocks that are there have no effect, each as a sentence: nothing in INPUT is `ours`, no packet comes to what is, or a rule
/// before it may accept one.
pub(super) fn shadowing(rules: &Rules, ipv4: bool, ours: impl Fn(&Rule) -> bool) -> Vec<String> {
    let (program, family) = if ipv4 { ("iptables", "ip") } else { ("ip6tables", "ip6") };
    if !rules.chain("INPUT").any(&ours) {
        return vec![format!("'{program} -S INPUT' has no rule of psentry: its blocks have no effect")];
    }
    if rules.is_dormant() {
        // Its rules are everybody's: whoever put them to sleep may have done so for others of them.
        return vec![format!(
            "table {family} filter is dormant, so that no packet comes to its rules: 'nft add table {family} filter' wakes it"
        )];
    }
    let chains = BUILTIN.into_iter().filter(|chain| rules.chain(chain).any(&ours));
    // A builtin chain that is listed like one of a user has no hook.
    if let Some(chain) = chains.clone().find(|chain| rules.has_chain(chain)) {
        return vec![format!(
            "chain {chain} of table {family} filter has no hook, so that no packet comes to its rules: after \
             'nft flush chain {family} filter {chain}; nft delete chain {family} filter {chain}' it is made anew"
        )];
    }
    let before = chains.flat_map(|chain| rules.chain(chain).take_while(|rule| !is_psentry(rule)));
    let accepting = before.filter(|rule| accepts(rules, rule, DEEP));
    let sentence = |rule: &Rule| {
        format!("'{program} {}' comes before psentry's rule: what it accepts is not blocked", rule.line())
    };
    accepting.map(sentence).collect()
}

/// Whether a rule, or a rule in the chain that it leads to, accepts packets. What goes over loopback is accepted by
/// everybody, and no stranger's.
fn accepts(rules: &Rules, rule: &Rule, deep: u32) -> bool {
    if rule.value("-i") == Some("lo") {
        return false;
    }
    match rule.target() {
        Some("ACCEPT") => true,
        Some(chain) if deep > 0 => rules.chain(chain).any(|rule| accepts(rules, rule, deep - 1)),
        _ => false,
    }
}

/// What becomes of packets from a source: of TCP, and of all else.
pub(super) fn answers(reach: Reach, ipv4: bool) -> [&'static str; 2] {
    let reset = "-j REJECT --reject-with tcp-reset";
    match (reach.answer, ipv4) {
        (Answer::Drop, _) => [DROP; 2],
        (Answer::Reject, true) => [reset, "-j REJECT --reject-with icmp-admin-prohibited"],
        (Answer::Reject, false) => [reset, "-j REJECT --reject-with icmp6-adm-prohibited"],
    }
}

/// Whether a builtin chain is to have rules for packets that come from sources, or for those that go to them.
pub(super) fn is_used(reach: Reach, chain: &str, egress: bool) -> bool {
    let in_chain = match chain {
        "INPUT" => !egress,
        "FORWARD" => reach.forward,
        _ => egress,
    };
    in_chain && (reach.egress || !egress)
}

/// The rules that have packets looked for: by `to`, with what becomes of TCP and of all else; of those that are to be spared, only
/// what begins something.
pub(super) fn leading(spares: bool, to: &str, [tcp, rest]: [&str; 2]) -> Vec<String> {
    if spares {
        vec![format!("{BEGINS}{UNSPARED}{to}{tcp}"), format!("! {TCP_ONLY}{UNSPARED}{to}{rest}")]
    } else if tcp == rest {
        vec![format!("{to}{tcp}")]
    } else {
        vec![format!("{TCP_ONLY}{to}{tcp}"), format!("{to}{rest}")]
    }
}

#[cfg(test)]
mod tests;
