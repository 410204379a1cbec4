//! `why`: every block that holds an address, where it stands, who decided it, and what ends it.

use std::collections::HashMap;
use std::io::{self, IsTerminal};
use std::net::IpAddr;

use psentry_records::{Action, OutcomeBody, OutcomeResult, Prefix, Record, Timestamp};

use crate::backend::Block;
use crate::cli::Flags;
use crate::commands::{lines, print, readers, worst};
use crate::control;
use crate::control::client::{TELLING, What, ask};
use crate::error::Error;
use crate::listing::left;
use crate::note::moment;
use crate::recall::Recall;
use crate::report::body;
use crate::surroundings::Guard;

/// A block that holds the address, or should.
struct Finding {
    backend: String,
    scope: Prefix,
    block: Block,
    stands: bool,
}

/// Says which blocks hold `addr`.
pub(crate) fn why(flags: &Flags, addr: IpAddr, host: Option<&str>) -> Result<(), Error> {
    let (readers, mut trouble) = readers(flags);
    let recall = Recall::of(flags);
    // What a running psentry-block knows beyond what stands and what is remembered.
    let wanted = wanted(flags, addr);
    let mut findings = Vec::new();
    for (which, reader) in readers {
        let mut remembered = recall.blocks(which).unwrap_or_else(|error| {
            trouble = worst(trouble.take(), error);
            HashMap::new()
        });
        remembered.retain(|scope, _| scope.contains(addr));
        for entry in reader.into_iter().flat_map(|(_, entries)| entries) {
            if entry.scope.contains(addr) {
                let known = remembered.remove(&entry.scope).or_else(|| wanted.get(&entry.scope).cloned());
                let block = known.unwrap_or_default();
                let rule = entry.rule.or(block.rule.clone());
                let block = Block { until: entry.until, rule, ..block };
                findings.push(Finding {
                    backend: which.name().to_owned(),
                    scope: entry.scope,
                    block,
                    stands: true,
                });
            }
        }
        findings.extend(remembered.into_iter().map(|(scope, block)| Finding {
            backend: which.name().to_owned(),
            scope,
            block,
            stands: false,
        }));
    }
    for (scope, block) in wanted {
        // On which backend it is wanted is not told; where one has it, it is found.
        if !findings.iter().any(|finding| finding.scope == scope) {
            findings.push(Finding { backend: "-".to_owned(), scope, block, stands: false });
        }
    }
    findings.sort_by(|a, b| (a.scope, &a.backend).cmp(&(b.scope, &b.backend)));
    if findings.is_empty() {
        // What could not be read may well block it.
        return Err(trouble.unwrap_or_else(|| Error::No(not_blocked(addr))));
    }
    if io::stdout().is_terminal() {
        let now = Timestamp::now();
        let text: String = findings.iter().map(|finding| finding.text(now)).collect();
        print(text.as_bytes())?;
    } else {
        print(&lines(findings.iter().map(Finding::outcome), host))?;
    }
    trouble.map_or(Ok(()), Err)
}

/// That nothing blocks it, and whether anything could.
fn not_blocked(addr: IpAddr) -> String {
    let may = match Guard::default().refusal(Prefix::host(addr)) {
        Ok(Some(why)) => format!("nor can it be: {why}"),
        Ok(None) => "nothing keeps a verdict from blocking it".to_owned(),
        Err(error) => format!("whether it may be is not known: {error}"),
    };
    format!("{addr} is not blocked; {may}")
}

/// What a running psentry-block wants; without one, nothing.
fn wanted(flags: &Flags, addr: IpAddr) -> HashMap<Prefix, Block> {
    let path = control::path(flags);
    let answered = ask(&path, &What::Why(addr), TELLING).unwrap_or_default();
    let block = |line: &String| match Record::parse(line) {
        Ok(Record::Outcome(outcome)) => {
            let OutcomeBody { scope, until, rule, reason, since, .. } = outcome.body;
            Some((scope, Block { until, rule, reason, since, ..Block::default() }))
        }
        _ => None,
    };
    answered.iter().filter_map(block).collect()
}

impl Finding {
    /// For programs.
    fn outcome(&self) -> OutcomeBody {
        let result = if self.stands { OutcomeResult::Already } else { OutcomeResult::Failed };
        let backend = Some(&*self.backend).filter(|name| *name != "-");
        OutcomeBody {
            until: self.block.until,
            rule: self.block.rule.clone(),
            reason: self.block.reason.clone(),
            since: self.block.since,
            error: (!self.stands).then(|| "it is wanted, and does not stand".to_owned()),
            ..body(Action::Block, self.scope, backend, result)
        }
    }

    /// For people.
    fn text(&self, now: Timestamp) -> String {
        let Finding { scope, block, .. } = self;
        let stands = if self.stands { "stands" } else { "is wanted, and does not stand" };
        let until = block.until.map_or_else(
            || "it is unblocked".to_owned(),
            |until| format!("{} ({} left)", moment(until), left(until.since(now))),
        );
        let since = block.since.map_or_else(|| "not known".to_owned(), moment);
        format!(
            "{scope} {stands} on {}\n  rule    {}\n  reason  {}\n  since   {since}\n  until   {until}\n  \
             ended by: psentry-block unblock {scope}\n",
            self.backend,
            block.rule.as_deref().unwrap_or("-"),
            block.reason.as_deref().unwrap_or("-"),
        )
    }
}
