//! The rules of a table as `iptables -S` lists them. Reads text, runs nothing.

use psentry_records::Prefix;

use super::ground;

/// Rules in their order.
pub(super) struct Rules(Vec<Rule>);

/// One line of the list.
pub(super) struct Rule {
    line: String,
    words: Vec<String>,
}

impl Rules {
    /// From what `iptables -S` prints.
    pub(super) fn read(listed: &str) -> Self {
        let rule = |line: &str| Some(Rule { line: line.to_owned(), words: shlex::split(line)? });
        Rules(listed.lines().filter_map(rule).collect())
    }

    /// The rules of a chain.
    pub(super) fn chain<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Rule> {
        self.0
            .iter()
            .filter(move |rule| matches!(&*rule.words, [add, chain, ..] if add == "-A" && chain == name))
    }

    /// Whether the chain is there.
    pub(super) fn has_chain(&self, name: &str) -> bool {
        self.0.iter().any(|rule| matches!(&*rule.words, [new, chain] if new == "-N" && chain == name))
    }
}

impl Rule {
    /// As it is listed.
    pub(super) fn line(&self) -> &str {
        &self.line
    }

    /// The command that takes exactly this rule away.
    pub(super) fn deletion(&self) -> String {
        self.line.replacen("-A", "-D", 1)
    }

    /// What follows a flag.
    pub(super) fn value(&self, flag: &str) -> Option<&str> {
        let at = self.words.iter().position(|word| word == flag)?;
        self.words.get(at + 1).map(String::as_str)
    }

    /// Its comment.
    pub(super) fn comment(&self) -> Option<&str> {
        self.value("--comment")
    }

    /// Where it sends packets.
    pub(super) fn target(&self) -> Option<&str> {
        self.value("-j")
    }

    /// From whom, or to whom.
    pub(super) fn scope(&self) -> Option<Prefix> {
        self.value("-s").or_else(|| self.value("-d"))?.parse().ok()
    }

    /// Whether this is the rule that `wanted` would make, whatever its comment says of the ground it stands on.
    pub(super) fn is(&self, wanted: &str) -> bool {
        let mut words = self.words.get(2..).unwrap_or_default().to_vec();
        if self.comment().is_some_and(|comment| ground::mark_of(comment).is_some())
            && let Some(at) =
                words.iter().position(|word| word == "--comment").and_then(|at| at.checked_sub(2))
        {
            words.drain(at..at + 4);
        }
        shlex::split(wanted).is_some_and(|wanted| wanted == words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_as_iptables_prints_it() {
        let rules = Rules::read(
            "-P INPUT ACCEPT\n-N PSENTRY\n-N DOCKER-USER\n\
             -A INPUT -m comment --comment \"psentry made this table\" -j PSENTRY\n\
             -A INPUT -s 10.0.0.0/8 -j ACCEPT\n\
             -A PSENTRY -s 192.0.2.7/32 -m comment --comment \"fan until 2026-11-22T15:04:05Z\" -j DROP\n",
        );
        assert!(rules.has_chain("PSENTRY") && !rules.has_chain("INPUT"));
        assert_eq!(rules.chain("INPUT").count(), 2);
        let rule = rules.chain("PSENTRY").next().unwrap();
        assert_eq!(rule.scope(), Some("192.0.2.7".parse().unwrap()));
        assert!(rule.is("-s 192.0.2.7/32 -m comment --comment \"fan until 2026-11-22T15:04:05Z\" -j DROP"));
        assert!(!rule.is("-s 192.0.2.7/32 -j DROP"));
        assert!(rules.chain("INPUT").next().unwrap().is("-j PSENTRY"), "the mark is no part of it");
        assert_eq!(rule.comment(), Some("fan until 2026-11-22T15:04:05Z"));
        assert_eq!(rule.target(), Some("DROP"));
        assert_eq!(
            rule.deletion(),
            "-D PSENTRY -s 192.0.2.7/32 -m comment --comment \"fan until 2026-11-22T15:04:05Z\" -j DROP"
        );
    }
}
