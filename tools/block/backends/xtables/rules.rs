//! Rules as `iptables -S` prints them: what is wanted is compared with what is there as text. What commands of iptables-restore make of
//! rules, which rules lead packets to our sets and chains, which commands keep those first, and which rules before them accept. Reads
//! and writes text, runs nothing.

use std::cell::OnceCell;

use psentry_records::Prefix;

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

/// Rules in their order, and the chains of users.
#[derive(Default)]
pub(super) struct Rules {
    lines: Vec<Rule>,
    /// The table is dormant (nft(8)): no packet comes to its rules, whatever they are.
    dormant: bool,
}

/// One line of the list.
pub(super) struct Rule {
    line: String,
    /// What a shell makes of it, once somebody asks: most rules of a machine are none of ours.
    words: OnceCell<Vec<String>>,
}

impl Rules {
    /// From what `iptables -S` prints.
    pub(super) fn read(listed: &str, dormant: bool) -> Self {
        Rules { lines: listed.lines().map(Rule::new).collect(), dormant }
    }

    /// The rules of a chain.
    pub(super) fn chain<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Rule> {
        self.lines.iter().filter(move |rule| rule.is_in(name))
    }

    /// The commands that make `wanted` all that is `ours` in a chain, before the rules of everybody but psentry: what another rule
    /// accepts before ours never comes to a block.
    pub(super) fn place(
        &self,
        chain: &str,
        wanted: &[impl AsRef<str>],
        ours: impl Fn(&Rule) -> bool,
    ) -> Vec<String> {
        let present: Vec<&Rule> = self.chain(chain).filter(|rule| ours(rule)).collect();
        let first = self.chain(chain).take_while(|rule| is_psentry(rule)).filter(|rule| ours(rule));
        let is = |(rule, wanted): (&&Rule, &_)| rule.is(&format!("-A {chain} {}", AsRef::as_ref(wanted)));
        let len = wanted.len();
        if (present.len(), first.count()) == (len, len) && present.iter().zip(wanted).all(is) {
            return Vec::new();
        }
        let insertion = |(rule, place)| format!("-I {chain} {place} {}", AsRef::as_ref(rule));
        present.into_iter().map(Rule::deletion).chain(wanted.iter().zip(1..).map(insertion)).collect()
    }

    /// The commands that delete all that is `ours`, in chains of others, too.
    pub(super) fn deletions(&self, ours: impl Fn(&Rule) -> bool) -> Vec<String> {
        let all = self.lines.iter().filter(|rule| rule.line.starts_with("-A "));
        all.filter(|rule| ours(rule)).map(Rule::deletion).collect()
    }

    /// Why blocks that are there have no effect, each as a sentence: nothing in INPUT is `ours`, no packet comes to what is, or a rule
    /// before it may accept one.
    pub(super) fn shadowing(&self, ipv4: bool, ours: impl Fn(&Rule) -> bool) -> Vec<String> {
        let (program, family) = if ipv4 { ("iptables", "ip") } else { ("ip6tables", "ip6") };
        if !self.chain("INPUT").any(&ours) {
            return vec![format!("'{program} -S INPUT' has no rule of psentry: its blocks have no effect")];
        }
        if self.dormant {
            // Its rules are everybody's: whoever put them to sleep may have done so for others of them.
            return vec![format!(
                "table {family} filter is dormant, so that no packet comes to its rules: 'nft add table {family} filter' wakes it"
            )];
        }
        let chains = BUILTIN.into_iter().filter(|chain| self.chain(chain).any(&ours));
        // A builtin chain that is listed like one of a user has no hook.
        if let Some(chain) = chains.clone().find(|chain| self.has_chain(chain)) {
            return vec![format!(
                "chain {chain} of table {family} filter has no hook, so that no packet comes to its rules: after \
                 'nft flush chain {family} filter {chain}; nft delete chain {family} filter {chain}' it is made anew"
            )];
        }
        let before = chains.flat_map(|chain| self.chain(chain).take_while(|rule| !is_psentry(rule)));
        let accepting = before.filter(|rule| self.accepts(rule, DEEP));
        let sentence = |Rule { line, .. }: &Rule| {
            format!("'{program} {line}' comes before psentry's rule: what it accepts is not blocked")
        };
        accepting.map(sentence).collect()
    }

    /// Whether a rule, or a rule in the chain that it leads to, accepts packets. What goes over loopback is accepted by
    /// everybody, and no stranger's.
    fn accepts(&self, rule: &Rule, deep: u32) -> bool {
        if rule.value("-i") == Some("lo") {
            return false;
        }
        match rule.target() {
            Some("ACCEPT") => true,
            Some(chain) if deep > 0 => self.chain(chain).any(|rule| self.accepts(rule, deep - 1)),
            _ => false,
        }
    }

    /// Whether the chain of a user is there.
    pub(super) fn has_chain(&self, name: &str) -> bool {
        self.chains().any(|chain| chain == name)
    }

    /// The chains of users.
    pub(super) fn chains(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().filter_map(|rule| rule.line.strip_prefix("-N "))
    }

    /// Whether a chain is the same in both.
    pub(super) fn agrees(&self, other: &Rules, chain: &str) -> bool {
        let same = |(a, b): (&Rule, &Rule)| a.line == b.line || a.words() == b.words();
        self.dormant == other.dormant
            && self.has_chain(chain) == other.has_chain(chain)
            && self.chain(chain).count() == other.chain(chain).count()
            && self.chain(chain).zip(other.chain(chain)).all(same)
    }

    /// Does what iptables-restore does with these commands, as far as psentry gives them.
    pub(super) fn run(&mut self, commands: &[String]) {
        for command in commands {
            let (verb, rest) = command.split_once(' ').unwrap_or((command, ""));
            let (chain, rule) = rest.split_once(' ').unwrap_or((rest, ""));
            match verb {
                "-A" => self.lines.push(Rule::new(command)),
                "-I" => {
                    let (place, rule) = rule.split_once(' ').unwrap_or(("1", rule));
                    let before = place.parse::<usize>().unwrap_or(1).saturating_sub(1);
                    let places: Vec<usize> =
                        (0..).zip(&self.lines).filter(|(_, r)| r.is_in(chain)).map(|(at, _)| at).collect();
                    let at = places.get(before).copied().unwrap_or(self.lines.len());
                    self.lines.insert(at, Rule::new(&format!("-A {chain} {rule}")));
                }
                "-D" => {
                    let line = format!("-A {rest}");
                    if let Some(at) = self.lines.iter().position(|rule| rule.line == line) {
                        self.lines.remove(at);
                    }
                }
                "-F" => self.lines.retain(|rule| !rule.is_in(chain)),
                "-X" => self.lines.retain(|rule| rule.line.strip_prefix("-N ") != Some(chain)),
                new => self.lines.extend(new.strip_prefix(':').map(|name| Rule::new(&format!("-N {name}")))),
            }
        }
    }
}

impl Rule {
    fn new(line: &str) -> Self {
        Rule { line: line.to_owned(), words: OnceCell::new() }
    }

    fn is_in(&self, chain: &str) -> bool {
        let rest = self.line.strip_prefix("-A ").and_then(|rest| rest.strip_prefix(chain));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
    }

    fn words(&self) -> &[String] {
        self.words.get_or_init(|| shlex::split(&self.line).unwrap_or_default())
    }

    /// The command that deletes exactly this rule.
    pub(super) fn deletion(&self) -> String {
        self.line.replacen("-A", "-D", 1)
    }

    /// What follows a flag.
    pub(super) fn value(&self, flag: &str) -> Option<&str> {
        let words = self.words();
        let at = words.iter().position(|word| word == flag)?;
        words.get(at + 1).map(String::as_str)
    }

    /// Its comment.
    pub(super) fn comment(&self) -> Option<&str> {
        self.value("--comment")
    }

    /// Where it sends packets.
    pub(super) fn target(&self) -> Option<&str> {
        self.value("-j").or_else(|| self.value("-g"))
    }

    /// From whom, or to whom.
    pub(super) fn scope(&self) -> Option<Prefix> {
        self.value("-s").or_else(|| self.value("-d"))?.parse().ok()
    }

    /// Whether this is the rule that `wanted` would append.
    pub(super) fn is(&self, wanted: &str) -> bool {
        self.line == wanted || shlex::split(wanted).is_some_and(|wanted| self.words() == wanted)
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
