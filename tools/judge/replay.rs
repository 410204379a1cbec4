//! `psentry-judge replay`: the sources that a policy would have had blocked, and how another policy differs.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use psentry_local_time::span;
use psentry_records::{Action, Prefix, Record, Verdict};
use serde::Serialize;
use serde_json::json;

use crate::{Counters, JudgeError, Policy, PolicyFlags, State, input, step};

/// What one policy makes of the records.
struct Trial {
    policy: Policy,
    state: State,
    blocked: BTreeMap<Prefix, Blocked>,
    verdicts: Vec<Verdict>,
}

/// What becomes of one source, or prefix.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
struct Blocked {
    /// How often it is blocked.
    times: u64,
    /// For how many seconds in all.
    seconds: u64,
    /// Whether once it is blocked until somebody unblocks it.
    forever: bool,
    /// The rule of its first block.
    rule: String,
}

impl Trial {
    fn of(flags: &PolicyFlags) -> Result<Self, JudgeError> {
        // What would be done is what is asked for, also of a policy that only watches.
        let mut policy = Policy::from_flags(flags)?;
        policy.block.observe = false;
        let state = State::new(policy.max_sources);
        Ok(Trial { policy, state, blocked: BTreeMap::new(), verdicts: Vec::new() })
    }

    fn take(&mut self, record: &Record) {
        step(&mut self.state, &self.policy, record, &mut self.verdicts);
        for verdict in self.verdicts.drain(..) {
            if verdict.body.action != Action::Block {
                continue;
            }
            let blocked = self.blocked.entry(verdict.body.scope).or_default();
            if blocked.times == 0 {
                blocked.rule = verdict.body.rule.unwrap_or_default();
            }
            blocked.times += 1;
            match verdict.body.duration {
                Some(secs) => blocked.seconds = blocked.seconds.saturating_add(secs),
                None => blocked.forever = true,
            }
        }
        self.state.warnings.clear();
    }
}

/// Prints it on standard output: a table, or lines of JSON.
///
/// # Errors
/// A policy or a file that cannot be read, or an output that cannot be written.
pub(crate) fn run(
    files: &[PathBuf],
    flags: &PolicyFlags,
    against: Option<&Path>,
    as_json: bool,
) -> Result<(), JudgeError> {
    let mut new = Trial::of(flags)?;
    let old_flags = against.map(|path| PolicyFlags { policy: Some(path.to_owned()), ..flags.clone() });
    let mut old = old_flags.as_ref().map(Trial::of).transpose()?;
    let skipped = input::each_record(files, |record| {
        new.take(record);
        if let Some(old) = &mut old {
            old.take(record);
        }
    })?;
    let mut out = io::stdout().lock();
    let print = if as_json { json } else { table };
    let written = print(&mut out, &new, old.as_ref(), skipped);
    written.map_err(JudgeError::Output)
}

/// How the two differ: the sources that only the new one blocks, and those that only the old one does.
fn difference<'a>(new: &'a Trial, old: &'a Trial) -> (Vec<Prefix>, Vec<Prefix>) {
    let only = |one: &'a Trial, other: &Trial| -> Vec<Prefix> {
        one.blocked.keys().filter(|scope| !other.blocked.contains_key(scope)).copied().collect()
    };
    (only(new, old), only(old, new))
}

fn seconds(trial: &Trial) -> u64 {
    trial.blocked.values().map(|blocked| blocked.seconds).fold(0, u64::saturating_add)
}

fn json(out: &mut impl Write, new: &Trial, old: Option<&Trial>, skipped: u64) -> io::Result<()> {
    let sum = |trial: &Trial| {
        let counters: &Counters = &trial.state.counters;
        json!({ "blocked": trial.blocked.len(), "seconds": seconds(trial), "counters": counters })
    };
    for (scope, blocked) in &new.blocked {
        let before = old.map(|old| old.blocked.get(scope));
        let mut line = json!({ "scope": scope, "new": blocked });
        if let (Some(before), Some(line)) = (before, line.as_object_mut()) {
            line.insert("old".to_owned(), json!(before));
        }
        writeln!(out, "{line}")?;
    }
    let Some(old) = old else {
        return writeln!(out, "{}", json!({ "sum": { "new": sum(new), "skipped": skipped } }));
    };
    let (more, less) = difference(new, old);
    for scope in &less {
        writeln!(out, "{}", json!({ "scope": scope, "new": null, "old": old.blocked.get(scope) }))?;
    }
    let sum = json!({ "new": sum(new), "old": sum(old), "more": more.len(), "less": less.len(), "skipped": skipped });
    writeln!(out, "{}", json!({ "sum": sum }))
}

/// How many lines of a list a table has.
const MAX_LISTED: usize = 20;

fn table(out: &mut impl Write, new: &Trial, old: Option<&Trial>, skipped: u64) -> io::Result<()> {
    let counters = &new.state.counters;
    writeln!(
        out,
        "{} records, {} of them probes; {skipped} lines were no records",
        counters.records, counters.probes
    )?;
    let row = |out: &mut dyn Write, name: &str, trial: &Trial| {
        let time = span(seconds(trial));
        let (blocks, watches) = (trial.state.counters.blocks, trial.state.counters.watches);
        writeln!(out, "{name:<6} {:>9} {blocks:>9} {watches:>9} {time:>12}", trial.blocked.len())
    };
    writeln!(out, "{:<6} {:>9} {:>9} {:>9} {:>12}", "policy", "sources", "blocks", "watched", "time in all")?;
    row(out, if old.is_some() { "new" } else { "this" }, new)?;
    let Some(old) = old else {
        let mut most: Vec<_> = new.blocked.iter().collect();
        most.sort_by_key(|(scope, blocked)| (std::cmp::Reverse(blocked.times), **scope));
        writeln!(out, "\n{:<43} {:>6} {:>12}  rule", "blocked most", "times", "time in all")?;
        for (scope, blocked) in most.iter().take(MAX_LISTED) {
            let time = if blocked.forever { "no end".to_owned() } else { span(blocked.seconds) };
            writeln!(out, "{:<43} {:>6} {time:>12}  {}", scope.to_string(), blocked.times, blocked.rule)?;
        }
        return Ok(());
    };
    row(out, "old", old)?;
    let (more, less) = difference(new, old);
    for (title, scopes, trial) in
        [("only the new one blocks", more, new), ("only the old one blocks", less, old)]
    {
        writeln!(out, "\n{title}: {}", scopes.len())?;
        for scope in scopes.iter().take(MAX_LISTED) {
            let rule = trial.blocked.get(scope).map_or("", |blocked| blocked.rule.as_str());
            writeln!(out, "  {:<43} {rule}", scope.to_string())?;
        }
        if scopes.len() > MAX_LISTED {
            writeln!(out, "  and {} more; --json has all", scopes.len() - MAX_LISTED)?;
        }
    }
    Ok(())
}
