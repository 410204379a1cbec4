//! `psentry-judge explain`: what was held against an address, probe by probe, and whether it would be blocked now.

mod saved_state;

use std::io::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use psentry_local_time::Zone;
use psentry_records::{Action, Class, OutcomeResult, Prefix, Proto, Record, Timestamp, Verdict, canonical};
use psentry_stage::printable;
use serde::Serialize;
use serde_json::json;

use self::saved_state::SavedSource;
use crate::cli::Printing;
use crate::memory::Source;
use crate::policy::InsideAction;
use crate::rules::rounded;
use crate::step::is_released;
use crate::tally::Tally;
use crate::{JudgeError, Policy, PolicyFlags, State, input, step, wording};

/// How moments are printed: in a zone for people, and for programs as records have them.
struct Moments(Option<Zone>);

impl Moments {
    fn of(&self, moment: Timestamp) -> String {
        self.0.as_ref().map_or_else(|| moment.to_string(), |zone| zone.full(moment))
    }

    /// When something ends, to follow a word.
    fn end(&self, until: Option<Timestamp>) -> String {
        let until = until.filter(|until| *until < Timestamp::MAX);
        until.map_or_else(|| "no end".to_owned(), |until| format!("until {}", self.of(until)))
    }
}

/// One record about the address.
#[derive(Serialize)]
struct Line {
    timestamp: Timestamp,
    what: String,
    /// What all evidence weighs with this record; `proven`: what the handshakes alone do.
    score: f64,
    proven: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    verdict: Option<String>,
}

/// Where the address is after the last record.
#[derive(Serialize)]
struct Summary {
    scope: Prefix,
    /// The time of the last record.
    #[serde(skip_serializing_if = "Option::is_none")]
    as_of: Option<Timestamp>,
    ignored: bool,
    blocked: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vouched_until: Option<Timestamp>,
    offences: u32,
    answer: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    undo: Option<String>,
}

/// Prints it on standard output: a table, or lines of JSON.
///
/// # Errors
/// A policy or a file that cannot be read, or an output that cannot be written.
pub(crate) fn run(
    address: IpAddr,
    files: &[PathBuf],
    folder: Option<&Path>,
    flags: &PolicyFlags,
    print: Printing,
) -> Result<(), JudgeError> {
    let moments = Moments((!print.json).then(|| Zone::new(print.utc)));
    let policy = Policy::from_flags(flags)?;
    let address = canonical(address);
    let saved = folder.map(|folder| SavedSource::read(folder, &policy, address, &moments)).transpose()?;
    let mut state = State::new(policy.max_sources);
    let mut lines = Vec::new();
    let mut on_address: Vec<Verdict> = Vec::new();
    let mut take = |record: &Record| {
        let mut verdicts = Vec::new();
        step(&mut state, &policy, record, &mut verdicts);
        if let Some(scope) = released(record) {
            on_address.retain(|verdict| !is_released(scope, verdict.body.scope));
        }
        let hits: Vec<Verdict> =
            verdicts.into_iter().filter(|verdict| verdict.body.scope.contains(address)).collect();
        // Before its first probe it is no matter to this source that somebody was released.
        let is_about = |_: &_| released(record).is_none() || !lines.is_empty();
        let Some((at, what)) = describe(record, &policy, &state, address).filter(is_about) else {
            // Somebody else's probe may have had its prefix blocked.
            for verdict in hits {
                lines.push(line(
                    &state,
                    &policy,
                    address,
                    verdict.common.timestamp,
                    String::new(),
                    &[&verdict],
                    &moments,
                ));
                on_address.push(verdict);
            }
            return;
        };
        lines.push(line(&state, &policy, address, at, what, &hits.iter().collect::<Vec<_>>(), &moments));
        on_address.extend(hits);
    };
    if files.is_empty() && saved.is_some() {
        // Only what is remembered is requested.
    } else if files.is_empty() {
        input::records_of(io::stdin().lock(), &mut take).map_err(JudgeError::Input)?;
    } else {
        input::each_record(files, &mut take)?;
    }
    let summary = summarize(&state, &policy, address, &on_address, &moments);
    let judged = saved.is_none() || !files.is_empty();
    let judged = judged.then_some((&lines[..], &summary));
    write(judged, saved.as_ref(), print.json, &moments).map_err(JudgeError::Output)
}

fn write(
    judged: Option<(&[Line], &Summary)>,
    saved: Option<&SavedSource>,
    as_json: bool,
    moments: &Moments,
) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match judged {
        Some((lines, summary)) if as_json => json(&mut out, lines, summary)?,
        Some((lines, summary)) => table(&mut out, lines, summary, moments)?,
        None => {}
    }
    match saved {
        Some(saved) if as_json => writeln!(out, "{}", json!({ "remembered": saved })),
        Some(saved) => saved.table(&mut out, moments),
        None => Ok(()),
    }
}

/// What a record says of that address, or of its group.
fn describe(record: &Record, policy: &Policy, state: &State, address: IpAddr) -> Option<(Timestamp, String)> {
    let scope_of = |address| policy.scope(address, &state.machine);
    let scope = scope_of(address);
    match record {
        Record::Probe(probe) if scope_of(probe.common.src_ip?) == scope => {
            let (common, body) = (&probe.common, &probe.body);
            let port = wording::port(common.dest_port, common.proto.unwrap_or(Proto::Other));
            let proof = if body.handshake { ", handshake" } else { "" };
            let signature =
                body.signature.as_ref().map(|name| format!(", looks like {name}")).unwrap_or_default();
            let class = match body.class {
                Some(class @ (Class::Chatter | Class::Stray)) => format!(", taken for {}", class.name()),
                Some(Class::Probe) | None => String::new(),
            };
            let unseen = match (body.veiled, body.hidden) {
                (true, _) => ", behind the veil",
                (false, true) => ", hidden from it",
                (false, false) => "",
            };
            let what = format!("{} {port}{proof}{signature}{class}{unseen}", body.kind.name());
            Some((common.timestamp, what))
        }
        Record::Vouch(vouch) if scope_of(vouch.common.src_ip?) == scope => {
            let user = vouch.body.user.as_deref().unwrap_or("somebody");
            Some((vouch.common.timestamp, format!("{user} logged in")))
        }
        Record::Outcome(outcome) => {
            let about = released(record).is_some_and(|released| released.contains(address));
            let whose = if outcome.body.scope.len() == 0 { "everybody" } else { "its block" };
            about.then(|| (outcome.common.timestamp, format!("{whose} was released")))
        }
        _ => None,
    }
}

/// Whose block was ended before its time, if the record says so.
fn released(record: &Record) -> Option<Prefix> {
    let Record::Outcome(outcome) = record else { return None };
    (outcome.body.result == OutcomeResult::Released).then_some(outcome.body.scope)
}

fn line(
    state: &State,
    policy: &Policy,
    address: IpAddr,
    timestamp: Timestamp,
    what: String,
    verdicts: &[&Verdict],
    moments: &Moments,
) -> Line {
    let scope = policy.scope(address, &state.machine);
    let tally = state.sources.peek(scope).map(|source| Tally::of(source, scope, policy)).unwrap_or_default();
    let words = |verdict: &&Verdict| {
        let body = &verdict.body;
        let until = moments.end(verdict.until());
        let (rule, reason) = (body.rule.as_deref().unwrap_or("?"), body.reason.as_deref().unwrap_or(""));
        format!("{} {}, {until}, by {rule}: {reason}", body.action.name(), body.scope)
    };
    let verdict = (!verdicts.is_empty()).then(|| verdicts.iter().map(words).collect::<Vec<_>>().join(" / "));
    Line { timestamp, what, score: rounded(tally.all.score), proven: rounded(tally.proven.score), verdict }
}

fn summarize(
    state: &State,
    policy: &Policy,
    address: IpAddr,
    verdicts: &[Verdict],
    moments: &Moments,
) -> Summary {
    let scope = policy.scope(address, &state.machine);
    let now = state.clock.now();
    let in_force =
        |verdict: &&Verdict| now.is_some_and(|now| verdict.until().is_none_or(|until| until > now));
    // The release of an address does not end the block of a prefix around it.
    let ended = |(at, verdict): (usize, &Verdict)| {
        let scope = verdict.body.scope;
        let ends = |later: &&Verdict| later.body.action == Action::Unblock && later.body.scope == scope;
        verdicts.iter().skip(at).find(ends).is_some()
    };
    let blocks = verdicts.iter().enumerate().filter(|(_, verdict)| verdict.body.action == Action::Block);
    let blocked = blocks.filter(|&block| !ended(block)).map(|(_, verdict)| verdict).rfind(in_force);
    let source = state.sources.peek(scope);
    let vouched = now.and_then(|now| state.vouchers.active(scope, now));
    let never = state.machine.is_inside(address) && policy.inside.action == InsideAction::Ignore;
    let ignored = policy.ignore.holds(address) || never;
    let convicted =
        |source: &Source| source.conviction().is_some() && now.is_some_and(|now| source.until() > now);
    // What would be: these records are judged by this policy, and what a blocker made of other verdicts is not asked.
    let answer = match (blocked, source) {
        _ if ignored => "It is ignored, and never judged.".to_owned(),
        (Some(verdict), _) => {
            format!("By this policy it would be blocked, {}.", moments.end(verdict.until()))
        }
        (None, _) if vouched.is_some() => {
            "It would not be blocked; who logged in is only watched.".to_owned()
        }
        (None, Some(source)) if convicted(source) => {
            let end = moments.end(Some(source.until()));
            format!("By this policy it would be convicted, {end}, and only watched.")
        }
        (None, Some(_)) if verdicts.iter().any(|verdict| verdict.body.action == Action::Block) => {
            "It would not be blocked any more: that is over.".to_owned()
        }
        (None, Some(_)) => "It would not be blocked: the evidence is not enough.".to_owned(),
        (None, None) => "It would not be blocked: nothing is held against it.".to_owned(),
    };
    Summary {
        scope,
        as_of: now,
        ignored,
        blocked: blocked.is_some() && !ignored,
        until: blocked.and_then(Verdict::until),
        vouched_until: vouched.map(|voucher| voucher.until),
        offences: source.map_or(0, Source::offences),
        answer,
        undo: blocked.map(|verdict| format!("psentry unblock {}", verdict.body.scope.short())),
    }
}

fn json(out: &mut impl Write, lines: &[Line], summary: &Summary) -> io::Result<()> {
    for line in lines {
        writeln!(out, "{}", json!({ "probe": line }))?;
    }
    writeln!(out, "{}", json!({ "now": summary }))
}

fn table(out: &mut impl Write, lines: &[Line], summary: &Summary, moments: &Moments) -> io::Result<()> {
    writeln!(out, "{:<23}  {:>8}  {:>8}  what", "when", "score", "proven")?;
    for line in lines {
        let what = printable(&line.what);
        writeln!(
            out,
            "{:<23}  {:>8.3}  {:>8.3}  {what}",
            moments.of(line.timestamp),
            line.score,
            line.proven
        )?;
        if let Some(verdict) = &line.verdict {
            writeln!(out, "  -> {}", printable(verdict))?;
        }
    }
    let as_of = summary
        .as_of
        .map(|as_of| format!(", as of the last record, {}", moments.of(as_of)))
        .unwrap_or_default();
    writeln!(out, "\n{}{as_of}: {}", summary.scope, summary.answer)?;
    match summary.offences {
        0 => {}
        1 => writeln!(out, "By handshakes it would have been convicted once.")?,
        times => writeln!(out, "By handshakes it would have been convicted {times} times.")?,
    }
    if let Some(until) = summary.vouched_until {
        writeln!(out, "Somebody logged in from there; that counts until {}.", moments.of(until))?;
    }
    if let Some(undo) = &summary.undo {
        writeln!(out, "If it is blocked, this lets it in again: {undo}")?;
    }
    Ok(())
}
