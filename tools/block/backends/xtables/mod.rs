//! What the backends iptables and ipset share: the filter tables of iptables and ip6tables, in the variant that
//! speaks to nf_tables as in the legacy one. Rules are read with `-S` and changed with `iptables-restore
//! --noflush`, all of a batch in one step.

mod ground;
mod ipset;
mod iptables;
mod rules;

use std::path::Path;

pub(super) use self::ipset::Ipset;
pub(super) use self::iptables::Iptables;
use self::rules::{Rule, Rules};
use super::installed;
use crate::error::Error;
use crate::extent::{Answer, Extent};
use crate::lock::Lock;
use psentry_kernel::{Error as Below, Program};

/// How many seconds the programs wait for each other's lock (legacy).
const WAIT: &str = "20";

/// What the legacy variant says to those who are not root.
const NOT_ROOT: &str = "you must be root";

/// The filter table of one family.
pub(super) struct Filter {
    backend: &'static str,
    pub(super) ipv4: bool,
    iptables: Program,
    restore: Program,
}

/// The programs that the filter tables need.
pub(super) const PROGRAMS: [&str; 2] = ["iptables", "iptables-restore"];

impl Filter {
    /// The tables of this machine: IPv4, and IPv6 where the kernel has it.
    pub(super) fn find(backend: &'static str) -> Result<Vec<Filter>, Error> {
        let family = |ipv4: bool, names: [&str; 2]| -> Result<Filter, Error> {
            let [iptables, restore] = names;
            let (iptables, restore) = (installed(backend, iptables)?, installed(backend, restore)?);
            Ok(Filter { backend, ipv4, iptables, restore })
        };
        let mut found = vec![family(true, PROGRAMS)?];
        if Path::new("/proc/net/if_inet6").exists() {
            found.push(family(false, ["ip6tables", "ip6tables-restore"])?);
        }
        Ok(found)
    }

    /// What a machine without the family says of a block of it.
    fn absent(ipv4: bool) -> Error {
        let family = if ipv4 { "IPv4" } else { "IPv6" };
        Error::NoEffect(format!("the kernel of this machine has no {family}, so there is nothing to block"))
    }

    /// The rules that stand.
    fn rules(&self) -> Result<Rules, Error> {
        let listed = self.iptables.run_well(&["-w", WAIT, "-S"], b"").map_err(|error| self.explain(error))?;
        Ok(Rules::read(&String::from_utf8_lossy(&listed)))
    }

    /// Makes changes, in the words of iptables: all, or none.
    fn change(&self, commands: &[String]) -> Result<(), Error> {
        if commands.is_empty() {
            return Ok(());
        }
        let script = format!("*filter\n{}\nCOMMIT\n", commands.join("\n"));
        let done = self.restore.run_well(&["-w", WAIT, "--noflush"], script.as_bytes());
        done.map(drop).map_err(|error| self.explain(error))
    }

    /// The commands that make `wanted` all that is ours in a builtin chain, at its top. What stands anywhere in it, in
    /// this order, stays: the place that an administrator gave it counts.
    fn place(
        &self,
        rules: &Rules,
        chain: &str,
        wanted: &[String],
        ours: impl Fn(&Rule) -> bool,
    ) -> Result<Vec<String>, Error> {
        let standing: Vec<&Rule> = rules.chain(chain).filter(|rule| ours(rule)).collect();
        let as_wanted = |(rule, wanted): (&&Rule, &String)| rule.is(wanted);
        if standing.len() == wanted.len() && standing.iter().zip(wanted).all(as_wanted) {
            return Ok(Vec::new());
        }
        // Another backend of ours may have made what this one finds; whoever goes last takes it away.
        let mark = match rules.chain(chain).find_map(|rule| ground::mark_of(rule.comment()?)) {
            None if !wanted.is_empty() => ground::survey(self, chain)?,
            mark => mark,
        };
        let comment = mark.map_or_else(String::new, |mark| format!("-m comment --comment \"{mark}\" "));
        let mut commands: Vec<String> = standing.into_iter().map(Rule::deletion).collect();
        let places = wanted.iter().zip(1..);
        commands.extend(places.map(|(rule, place)| format!("-I {chain} {place} {}", marked(rule, &comment))));
        Ok(commands)
    }

    /// After our rules are gone from builtin chains: takes away the chains, and the table, that came with them.
    fn restore_ground<'a>(&self, gone: impl Iterator<Item = (&'a str, &'a Rule)>) -> Result<(), Error> {
        let mark = |(chain, rule): (&'a str, &'a Rule)| Some((ground::mark_of(rule.comment()?)?, chain));
        let mut marks: Vec<(&str, &str)> = gone.filter_map(mark).collect();
        // Chains first, for a table goes only when it is empty.
        marks.sort_unstable_by_key(|(mark, chain)| (*mark == ground::TABLE, *chain));
        marks.dedup();
        marks.into_iter().try_for_each(|(mark, chain)| ground::clear(self, chain, mark))
    }

    fn is_nf_tables(&self) -> Result<bool, Error> {
        let version = self.iptables.run_well(&["-V"], b"")?;
        Ok(String::from_utf8_lossy(&version).contains("nf_tables"))
    }

    fn explain(&self, error: Below) -> Error {
        match error {
            Below::Program { said, .. } if said.contains(NOT_ROOT) => {
                Error::NotPermitted { backend: self.backend }
            }
            error => error.into(),
        }
    }
}

/// The lock on both tables: they are read, changed and written back.
fn lock() -> Result<Lock, Error> {
    Lock::named("xtables.lock")
}

/// The builtin chains that rules of ours may stand in.
const BUILTIN: [&str; 3] = ["INPUT", "FORWARD", "OUTPUT"];

/// A rule with a comment more. The protocol comes first, as in what is listed.
fn marked(rule: &str, comment: &str) -> String {
    match rule.strip_prefix(TCP_ONLY) {
        Some(rest) => format!("{TCP_ONLY}{comment}{rest}"),
        None => format!("{comment}{rule}"),
    }
}

/// What makes a rule one for TCP.
const TCP_ONLY: &str = "-p tcp ";

/// What becomes of packets from a source: for each answer what restricts it to a protocol, and the target.
fn answers(extent: Extent, ipv4: bool) -> Vec<(&'static str, &'static str)> {
    match (extent.answer, ipv4) {
        (Answer::Drop, _) => vec![("", DROP)],
        (Answer::Reject, true) => {
            vec![(TCP_ONLY, RESET), ("", "-j REJECT --reject-with icmp-admin-prohibited")]
        }
        (Answer::Reject, false) => {
            vec![(TCP_ONLY, RESET), ("", "-j REJECT --reject-with icmp6-adm-prohibited")]
        }
    }
}

/// The target that drops a packet, and the one that resets its connection.
const DROP: &str = "-j DROP";
const RESET: &str = "-j REJECT --reject-with tcp-reset";
