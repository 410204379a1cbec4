//! The rules of a table as `iptables -S` prints them, and what commands of iptables-restore make of them. Reads text, runs
//! nothing.

use std::cell::OnceCell;

use psentry_records::Prefix;

/// Rules in their order, and the chains of users.
#[derive(Default)]
pub(super) struct Rules(Vec<Rule>);

/// One line of the list.
pub(super) struct Rule {
    line: String,
    /// What a shell makes of it, once somebody asks: most rules of a machine are none of ours.
    words: OnceCell<Vec<String>>,
}

impl Rules {
    /// From what `iptables -S` prints.
    pub(super) fn read(listed: &str) -> Self {
        Rules(listed.lines().map(Rule::new).collect())
    }

    /// The rules of all chains.
    pub(super) fn all(&self) -> impl Iterator<Item = &Rule> {
        self.0.iter().filter(|rule| rule.line.starts_with("-A "))
    }

    /// The rules of a chain.
    pub(super) fn chain<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Rule> {
        self.0.iter().filter(move |rule| rule.is_in(name))
    }

    /// Whether the chain of a user is there.
    pub(super) fn has_chain(&self, name: &str) -> bool {
        self.0.iter().any(|rule| rule.line.strip_prefix("-N ") == Some(name))
    }

    /// Whether a chain is the same in both.
    pub(super) fn agrees(&self, other: &Rules, chain: &str) -> bool {
        let same = |(a, b): (&Rule, &Rule)| a.line == b.line || a.words() == b.words();
        self.has_chain(chain) == other.has_chain(chain)
            && self.chain(chain).count() == other.chain(chain).count()
            && self.chain(chain).zip(other.chain(chain)).all(same)
    }

    /// Does what iptables-restore does with these commands, as far as psentry gives them.
    pub(super) fn run(&mut self, commands: &[String]) {
        for command in commands {
            let (verb, rest) = command.split_once(' ').unwrap_or((command, ""));
            let (chain, rule) = rest.split_once(' ').unwrap_or((rest, ""));
            match verb {
                "-A" => self.0.push(Rule::new(command)),
                "-I" => {
                    let (place, rule) = rule.split_once(' ').unwrap_or(("1", rule));
                    let before = place.parse::<usize>().unwrap_or(1).saturating_sub(1);
                    let places: Vec<usize> =
                        (0..).zip(&self.0).filter(|(_, r)| r.is_in(chain)).map(|(at, _)| at).collect();
                    let at = places.get(before).copied().unwrap_or(self.0.len());
                    self.0.insert(at, Rule::new(&format!("-A {chain} {rule}")));
                }
                "-D" => {
                    let line = format!("-A {rest}");
                    if let Some(at) = self.0.iter().position(|rule| rule.line == line) {
                        self.0.remove(at);
                    }
                }
                "-F" => self.0.retain(|rule| !rule.is_in(chain)),
                "-X" => self.0.retain(|rule| rule.line.strip_prefix("-N ") != Some(chain)),
                new => self.0.extend(new.strip_prefix(':').map(|name| Rule::new(&format!("-N {name}")))),
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

    /// As it is listed.
    pub(super) fn line(&self) -> &str {
        &self.line
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

    /// Whether this is the rule that `wanted`, which names no chain, would make.
    pub(super) fn is(&self, wanted: &str) -> bool {
        shlex::split(wanted).is_some_and(|wanted| self.words().get(2..) == Some(&wanted[..]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTED: &str = "-P INPUT ACCEPT\n-N PSENTRY\n-N DOCKER-USER\n\
         -A INPUT -j PSENTRY\n\
         -A INPUT -s 10.0.0.0/8 -j ACCEPT\n\
         -A PSENTRY -s 192.0.2.7/32 -m comment --comment \"fan until 2026-11-22T15:04:05Z\" -j DROP\n";

    #[test]
    fn a_list_is_read_as_iptables_prints_it() {
        let rules = Rules::read(LISTED);
        assert!(rules.has_chain("PSENTRY") && !rules.has_chain("INPUT") && !rules.has_chain("PSEN"));
        assert_eq!((rules.chain("INPUT").count(), rules.chain("INP").count()), (2, 0));
        let rule = rules.chain("PSENTRY").next().unwrap();
        assert_eq!(rule.scope(), Some("192.0.2.7".parse().unwrap()));
        assert!(rule.is("-s 192.0.2.7/32 -m comment --comment \"fan until 2026-11-22T15:04:05Z\" -j DROP"));
        assert!(!rule.is("-s 192.0.2.7/32 -j DROP"));
        assert_eq!(rule.comment(), Some("fan until 2026-11-22T15:04:05Z"));
        assert_eq!(rule.target(), Some("DROP"));
        assert_eq!(
            rule.deletion(),
            "-D PSENTRY -s 192.0.2.7/32 -m comment --comment \"fan until 2026-11-22T15:04:05Z\" -j DROP"
        );
    }

    #[test]
    fn commands_make_of_rules_what_iptables_lists_afterwards() {
        let mut rules = Rules::read(LISTED);
        let commands = [
            ":PSENTRY-OUT - [0:0]",
            "-I INPUT 1 -j PSENTRY-OUT",
            "-I INPUT 3 -j LOG",
            "-I OUTPUT 1 -j PSENTRY-OUT",
            "-D INPUT -s 10.0.0.0/8 -j ACCEPT",
            "-A PSENTRY-OUT -d 192.0.2.7/32 -j DROP",
            "-F PSENTRY",
            "-X PSENTRY",
        ];
        rules.run(&commands.map(str::to_owned));
        let after = Rules::read(
            "-N DOCKER-USER\n-N PSENTRY-OUT\n-A INPUT -j PSENTRY-OUT\n-A INPUT -j PSENTRY\n-A INPUT -j LOG\n\
             -A OUTPUT -j PSENTRY-OUT\n-A PSENTRY-OUT -d \"192.0.2.7/32\" -j DROP\n",
        );
        for chain in ["INPUT", "OUTPUT", "PSENTRY", "PSENTRY-OUT", "DOCKER-USER"] {
            assert!(rules.agrees(&after, chain), "{chain}");
        }
        rules.run(&["-D PSENTRY-OUT -d 192.0.2.7/32 -j DROP".to_owned()]);
        assert!(!rules.agrees(&after, "PSENTRY-OUT"));
    }
}
