//! `why`: every block that holds an address, or overlaps a prefix, where it stands, who decided it, and what ends it. Where
//! there is none, what keeps a verdict from making one: that knows only a running psentry-block, which has its own flags.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::io::{self, IsTerminal};

use psentry_records::{OutcomeBody, Prefix, Record, Timestamp};
use psentry_stage::printable;

use crate::backend::Block;
use crate::cli::Flags;
use crate::control::client::{Silence, TELLING, What, ask};
use crate::control::{self, Prospect};
use crate::error::Error;
use crate::memory::recall::Recall;
use crate::note::{moment, second};
use crate::panic::Panic;
use crate::people::commands::{print, readers, worst};
use crate::people::listing::left;
use crate::ports::named;
use crate::report::{lines, listed};
use crate::run::start;

/// A block that overlaps what was asked for, or should.
struct Finding {
    /// What was asked for.
    asked: Prefix,
    backend: String,
    scope: Prefix,
    block: Block,
    /// Why it does not stand; `None`: it does.
    missing: Option<String>,
}

/// What is wanted of backends and scopes, and why it does not stand, as far as that is known.
type Wanted = HashMap<(String, Prefix), (Block, Option<String>)>;

/// Says which blocks overlap `asked`: for an address those that hold it.
pub(crate) fn why(flags: &Flags, asked: Prefix, host: Option<&str>) -> Result<(), Error> {
    let (readers, mut trouble) = readers(flags);
    let recall = Recall::of(flags);
    // First what is wanted, by a running psentry-block or by its memory; then what stands of it.
    let answered = ask(&control::path(flags), &What::Why(asked), TELLING);
    let mut wanted = wanted(answered.as_deref().unwrap_or_default());
    let mut findings = Vec::new();
    for (which, reader) in readers {
        let name = which.name();
        let remembered = recall.blocks(which).unwrap_or_else(|error| {
            trouble = worst(trouble.take(), error);
            HashMap::new()
        });
        for (scope, block) in remembered.into_iter().filter(|(scope, _)| scope.overlaps(asked)) {
            wanted.entry((name.to_owned(), scope)).or_insert((block, None));
        }
        let entries = reader.into_iter().flat_map(|(_, entries)| entries);
        for entry in entries.filter(|entry| entry.scope.overlaps(asked)) {
            let known = wanted.remove(&(name.to_owned(), entry.scope)).map(|(block, _)| block);
            let (backend, scope) = (name.to_owned(), entry.scope);
            let block = entry.with(known.unwrap_or_default());
            findings.push(Finding { asked, backend, scope, block, missing: None });
        }
    }
    findings.extend(wanted.into_iter().map(|((backend, scope), (block, failure))| {
        let missing = failure.unwrap_or_else(|| "it is wanted, and does not stand".to_owned());
        Finding { asked, backend, scope, block, missing: Some(missing) }
    }));
    findings.sort_by(|a, b| (a.scope, &a.backend).cmp(&(b.scope, &b.backend)));
    if findings.is_empty() {
        // What could not be read may well block it.
        return Err(trouble.unwrap_or_else(|| Error::No(not_blocked(flags, asked, answered))));
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
fn not_blocked(flags: &Flags, asked: Prefix, answered: Result<Vec<String>, Silence>) -> String {
    let is_not = if asked.is_host() {
        format!("{} is not blocked", asked.addr())
    } else {
        format!("nothing of {asked} is blocked")
    };
    let prospect = |line: &String| serde_json::from_str::<Prospect>(line).ok();
    let told = answered.as_ref().ok().and_then(|lines| lines.iter().find_map(prospect));
    if let Some(Prospect { may_block, why }) = told {
        let why = why.map(|why| printable(&why));
        return match (may_block, why) {
            (true, None) => format!("{is_not}; nothing keeps a verdict from blocking it"),
            (true, Some(why)) => format!("{is_not}; nothing keeps a verdict from blocking it now, but {why}"),
            (false, why) => format!("{is_not}, nor can it be: {}", why.unwrap_or_default()),
        };
    }
    // Without one, as far as can be told.
    let refusal = start::guard(flags)
        .and_then(|guard| guard.refusal(asked)?.map_or_else(|| guard.not_yet(asked), |why| Ok(Some(why))));
    let held = Panic::of(flags).holds().map(|order| order.sentence());
    match held.map_or(refusal, |order| Ok(Some(order))) {
        Ok(Some(why)) => format!("{is_not}, nor can it be: {why}"),
        Ok(None) => format!(
            "{is_not}; nothing keeps a verdict from blocking it as far as this command can tell, for {}",
            silence(flags, answered.err())
        ),
        Err(error) => format!("{is_not}; whether it may be is not known: {error}"),
    }
}

/// That no running psentry-block said what it knows.
fn silence(flags: &Flags, why: Option<Silence>) -> String {
    let path = control::path(flags);
    match why {
        Some(Silence::Absent | Silence::Dead) => format!("no psentry-block answers at {}", path.display()),
        Some(Silence::Forbidden) => format!("the one at {} may not be asked by you", path.display()),
        Some(Silence::Hangs) | None => format!("the psentry-block at {} does not answer", path.display()),
        Some(Silence::Refused(why)) => format!("the one at {} says: {why}", path.display()),
    }
}

/// What a running psentry-block wants.
fn wanted(answered: &[String]) -> Wanted {
    let block = |line: &String| match Record::parse(line) {
        Ok(Record::Outcome(outcome)) => {
            let OutcomeBody { scope, backend, until, rule, reason, since, ports, handshake, error, .. } =
                outcome.body;
            let (proto, unproven) = (outcome.common.proto, handshake == Some(false));
            let block = Block { until, rule, reason, since, ports, proto, unproven, ..Block::default() };
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
        let asked = self.asked;
        let part = match scope.len().cmp(&asked.len()) {
            _ if asked.is_host() => String::new(),
            Ordering::Less => format!("\n  it holds all of {asked}"),
            Ordering::Equal => String::new(),
            Ordering::Greater => format!("\n  it lies in {asked}"),
        };
        let until = block.until.map_or_else(
            || "it is unblocked".to_owned(),
            |until| format!("{} ({} left)", moment(until), left(until.since(now))),
        );
        let ports = if block.ports.is_empty() {
            String::new()
        } else {
            format!("  ports   {}\n", named(&block.ports, block.proto))
        };
        let since = block.since.map_or_else(|| "not known".to_owned(), second);
        let spares = if block.unproven {
            "  spares  what is established, for no handshake proves the source\n"
        } else {
            ""
        };
        format!(
            "{stands}{part}\n{ports}  rule    {}\n  reason  {}\n  since   {since}\n  until   {until}\n{spares}  \
             ended by: psentry-block unblock {scope}\n",
            block.rule.as_deref().unwrap_or("-"),
            block.reason.as_deref().unwrap_or("-"),
        )
    }
}
