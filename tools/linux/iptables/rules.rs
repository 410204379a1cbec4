//! Rules as `iptables -S` prints them, kept as text, and what commands of iptables-restore make of them. Runs nothing.

use std::cell::OnceCell;

use psentry_records::Prefix;

/// Rules in their order, and the chains of users.
#[derive(Default)]
pub struct Rules {
    lines: Vec<Rule>,
    /// See nft(8).
    dormant: bool,
}

/// One line of the list.
pub struct Rule {
    line: String,
    /// What a shell makes of it, once somebody asks: most rules of a machine are nobody's concern here.
    words: OnceCell<Vec<String>>,
}

impl Rules {
    /// From what `iptables -S` prints of a table that is dormant, or not.
    #[must_use]
    pub fn read(listed: &str, dormant: bool) -> Self {
        Rules { lines: listed.lines().map(Rule::new).collect(), dormant }
    }

    /// Whether the table is dormant: no packet comes to its rules, whatever they are.
    #[must_use]
    pub fn is_dormant(&self) -> bool {
        self.dormant
    }

    /// The rules of a chain.
    pub fn chain<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Rule> {
        self.lines.iter().filter(move |rule| rule.is_in(name))
    }

    /// The commands that delete these rules, in whichever chain.
    pub fn deletions(&self, are: impl Fn(&Rule) -> bool) -> Vec<String> {
        let all = self.lines.iter().filter(|rule| rule.line.starts_with("-A "));
        all.filter(|rule| are(rule)).map(Rule::deletion).collect()
    }

    /// Whether the chain of a user is there.
    #[must_use]
    pub fn has_chain(&self, name: &str) -> bool {
        self.chains().any(|chain| chain == name)
    }

    /// The chains of users.
    pub fn chains(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().filter_map(|rule| rule.line.strip_prefix("-N "))
    }

    /// Whether a chain is the same in both.
    #[must_use]
    pub fn agrees(&self, other: &Rules, chain: &str) -> bool {
        let same = |(a, b): (&Rule, &Rule)| a.line == b.line || a.words() == b.words();
        self.dormant == other.dormant
            && self.has_chain(chain) == other.has_chain(chain)
            && self.chain(chain).count() == other.chain(chain).count()
            && self.chain(chain).zip(other.chain(chain)).all(same)
    }

    /// Does what iptables-restore does with these commands, as far as psentry gives them: it knows `:CHAIN`, -A, -I, -D, -F and -X.
    pub fn run(&mut self, commands: &[String]) {
        for command in commands {
            let (verb, rest) = command.split_once(' ').unwrap_or((command, ""));
            let (chain, rule) = rest.split_once(' ').unwrap_or((rest, ""));
            match verb {
                "-A" => self.lines.push(Rule::new(command)),
                "-I" => {
                    let (place, rule) = rule.split_once(' ').unwrap_or(("1", rule));
                    let before = place.parse::<usize>().unwrap_or(1).saturating_sub(1);
                    let places = (0..).zip(&self.lines).filter(|(_, rule)| rule.is_in(chain));
                    let at = places.map(|(at, _)| at).nth(before).unwrap_or(self.lines.len());
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

    /// As `iptables -S` prints it.
    #[must_use]
    pub fn line(&self) -> &str {
        &self.line
    }

    /// The command that deletes exactly this rule.
    #[must_use]
    pub fn deletion(&self) -> String {
        self.line.replacen("-A", "-D", 1)
    }

    /// What follows a flag.
    #[must_use]
    pub fn value(&self, flag: &str) -> Option<&str> {
        let words = self.words();
        let at = words.iter().position(|word| word == flag)?;
        words.get(at + 1).map(String::as_str)
    }

    /// Its comment.
    #[must_use]
    pub fn comment(&self) -> Option<&str> {
        self.value("--comment")
    }

    /// Where it sends packets.
    #[must_use]
    pub fn target(&self) -> Option<&str> {
        self.value("-j").or_else(|| self.value("-g"))
    }

    /// The source or the destination.
    #[must_use]
    pub fn scope(&self) -> Option<Prefix> {
        self.value("-s").or_else(|| self.value("-d"))?.parse().ok()
    }

    /// Whether this is the rule that `wanted` would append.
    #[must_use]
    pub fn is(&self, wanted: &str) -> bool {
        self.line == wanted || shlex::split(wanted).is_some_and(|wanted| self.words() == wanted)
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
        let rules = Rules::read(LISTED, false);
        assert!(rules.has_chain("PSENTRY") && !rules.has_chain("INPUT") && !rules.has_chain("PSEN"));
        assert_eq!((rules.chain("INPUT").count(), rules.chain("INP").count()), (2, 0));
        let rule = rules.chain("PSENTRY").next().unwrap();
        assert_eq!(rule.scope(), Some("192.0.2.7".parse().unwrap()));
        assert!(rule.is(
            "-A PSENTRY -s 192.0.2.7/32 -m comment --comment \"fan until 2026-11-22T15:04:05Z\" -j DROP"
        ));
        assert!(!rule.is("-A PSENTRY -s 192.0.2.7/32 -j DROP"));
        assert_eq!(rule.comment(), Some("fan until 2026-11-22T15:04:05Z"));
        assert_eq!(rule.target(), Some("DROP"));
        assert_eq!(
            rule.deletion(),
            "-D PSENTRY -s 192.0.2.7/32 -m comment --comment \"fan until 2026-11-22T15:04:05Z\" -j DROP"
        );
    }

    #[test]
    fn commands_make_of_rules_what_iptables_lists_afterwards() {
        let mut rules = Rules::read(LISTED, false);
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
            false,
        );
        for chain in ["INPUT", "OUTPUT", "PSENTRY", "PSENTRY-OUT", "DOCKER-USER"] {
            assert!(rules.agrees(&after, chain), "{chain}");
        }
        rules.run(&["-D PSENTRY-OUT -d 192.0.2.7/32 -j DROP".to_owned()]);
        assert!(!rules.agrees(&after, "PSENTRY-OUT"));
    }
}
