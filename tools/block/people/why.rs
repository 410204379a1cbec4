//! `why`: every block that holds an address, where it stands, who decided it, and what ends it.

use std::collections::HashMap;
use std::io::{self, IsTerminal};
use std::net::IpAddr;

use psentry_records::{OutcomeBody, Prefix, Record, Timestamp};
use psentry_stage::printable;

use crate::backend::Block;
use crate::cli::Flags;
use crate::control;
use crate::control::client::{TELLING, What, ask};
use crate::error::Error;
use crate::memory::recall::Recall;
use crate::note::moment;
use crate::people::commands::{print, readers, worst};
use crate::people::listing::left;
use crate::ports::named;
use crate::report::{lines, listed};
use crate::run::start;

/// A block that holds the address, or should.
struct Finding {
    backend: String,
    scope: Prefix,
    block: Block,
    /// Why it does not stand; `None`: it does.
    missing: Option<String>,
}

/// What a running psentry-block says of backends and scopes.
type Wanted = HashMap<(String, Prefix), (Block, Option<String>)>;

/// Says which blocks hold `addr`.
pub(crate) fn why(flags: &Flags, addr: IpAddr, host: Option<&str>) -> Result<(), Error> {
    let (readers, mut trouble) = readers(flags);
    let recall = Recall::of(flags);
    // First what is wanted, by a running psentry-block or by its memory; then what stands of it.
    let mut wanted = wanted(flags, addr);
    let mut findings = Vec::new();
    for (which, reader) in readers {
        let name = which.name();
        let remembered = recall.blocks(which).unwrap_or_else(|error| {
            trouble = worst(trouble.take(), error);
            HashMap::new()
        });
        for (scope, block) in remembered.into_iter().filter(|(scope, _)| scope.contains(addr)) {
            wanted.entry((name.to_owned(), scope)).or_insert((block, None));
        }
        let entries = reader.into_iter().flat_map(|(_, entries)| entries);
        for entry in entries.filter(|entry| entry.scope.contains(addr)) {
            let known = wanted.remove(&(name.to_owned(), entry.scope)).map(|(block, _)| block);
            let block = entry.with(known.unwrap_or_default());
            findings.push(Finding { backend: name.to_owned(), scope: entry.scope, block, missing: None });
        }
    }
    findings.extend(wanted.into_iter().map(|((backend, scope), (block, failure))| {
        let missing = failure.unwrap_or_else(|| "it is wanted, and does not stand".to_owned());
        Finding { backend, scope, block, missing: Some(missing) }
    }));
    findings.sort_by(|a, b| (a.scope, &a.backend).cmp(&(b.scope, &b.backend)));
    if findings.is_empty() {
        // What could not be read may well block it.
        return Err(trouble.unwrap_or_else(|| Error::No(not_blocked(flags, addr))));
    }
    if io::stdout().is_terminal() {
        let now = Timestamp::now();
        let text: String = findings.iter().map(|finding| finding.text(now)).collect();
        print(text.as_bytes())?;
    } else {
        let outcome = |f: &Finding| listed(f.scope, &f.backend, &f.block, f.missing.clone());
        print(&lines(findings.iter().map(outcome), host))?;
    }
    trouble.map_or(Ok(()), Err)
}

/// That nothing blocks it, and whether anything could.
fn not_blocked(flags: &Flags, addr: IpAddr) -> String {
    let scope = Prefix::host(addr);
    let refusal = start::guard(flags)
        .and_then(|guard| guard.refusal(scope)?.map_or_else(|| guard.not_yet(scope), |why| Ok(Some(why))));
    let may = match refusal {
        Ok(Some(why)) => format!("nor can it be: {why}"),
        Ok(None) => "nothing keeps a verdict from blocking it".to_owned(),
        Err(error) => format!("whether it may be is not known: {error}"),
    };
    format!("{addr} is not blocked; {may}")
}

/// What a running psentry-block wants; without one, nothing.
fn wanted(flags: &Flags, addr: IpAddr) -> Wanted {
    let answered = ask(&control::path(flags), &What::Why(addr), TELLING).unwrap_or_default();
    let block = |line: &String| match Record::parse(line) {
        Ok(Record::Outcome(outcome)) => {
            let OutcomeBody { scope, backend, until, rule, reason, since, ports, error, .. } = outcome.body;
            let proto = outcome.common.proto;
            let block = Block { until, rule, reason, since, ports, proto, ..Block::default() };
            backend.map(|backend| ((backend, scope), (block, error)))
        }
        _ => None,
    };
    answered.iter().filter_map(block).collect()
}

impl Finding {
    /// For people.
    fn text(&self, now: Timestamp) -> String {
        let Finding { scope, block, backend, .. } = self;
        let stands = self.missing.as_ref().map_or_else(
            || format!("{scope} stands on {backend}"),
            |why| format!("{scope} does not stand on {backend}: {}", printable(why)),
        );
        let until = block.until.map_or_else(
            || "it is unblocked".to_owned(),
            |until| format!("{} ({} left)", moment(until), left(until.since(now))),
        );
        let ports = if block.ports.is_empty() {
            String::new()
        } else {
            format!("  ports   {}\n", named(&block.ports, block.proto))
        };
        let since = block.since.map_or_else(|| "not known".to_owned(), moment);
        format!(
            "{stands}\n{ports}  rule    {}\n  reason  {}\n  since   {since}\n  until   {until}\n  \
             ended by: psentry-block unblock {scope}\n",
            block.rule.as_deref().unwrap_or("-"),
            block.reason.as_deref().unwrap_or("-"),
        )
    }
}
