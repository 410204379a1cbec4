//! `list`, `why` and `unblock`: each tool is asked on its control socket, and the answers are one.

use anstream::AutoStream;
use psentry_control::Question;
use psentry_installed::{Answer, Error};
use psentry_local_time::Clock;
use psentry_records::{
    Action, Common, Outcome, OutcomeResult, Prefix, Record, Timestamp, Verdict, VerdictBody,
};
use psentry_show::Renderer;
use psentry_stage::panic_file::PanicFile;
use psentry_stage::{Exit, Mode, printable};
use serde_json::{Value, json};

use crate::history::{Known, known};
use crate::rows::{Row, merged, reasons, table};
use crate::run::{Context, instead, print, print_lines};
use crate::settings::ignored;

/// How old the touch of somebody in quarantine is at most.
const RECENT: std::time::Duration = std::time::Duration::from_secs(3600);

/// Shows who is shut out.
pub(crate) fn list(context: &Context, addresses: bool) -> Result<(), Error> {
    let answers = context.installed.ask_all(&Question::List);
    let rows = rows(&answers);
    if addresses {
        return print_lines(context, rows.iter().map(|row| row.scope.short()));
    }
    show(context, &answers, &rows)?;
    complete(answers)?;
    if !rows.is_empty() || context.json {
        return Ok(());
    }
    let why = match panic(&context.clock) {
        Some(panic) => format!(": {panic}"),
        None if context.installed.mode()? == Mode::Observe => {
            ": psentry observes; to have it block: psentry mode block".to_owned()
        }
        None => String::new(),
    };
    print(&format!("nobody is shut out{why}\n"))
}

/// That a panic holds, and how to end it.
fn panic(clock: &Clock) -> Option<String> {
    let panic = PanicFile::default().holds()?.declared_at(|moment| clock.moment(moment));
    Some(format!("{panic}; to end it: psentry resume"))
}

/// Says what shuts somebody out and which command ends that, or why nothing does.
pub(crate) fn why(context: &Context, asked: Prefix) -> Result<(), Error> {
    let installed = &context.installed;
    let answers = installed.ask_all(&Question::Why { addr: asked });
    let rows = rows(&answers);
    if !rows.is_empty() {
        show(context, &answers, &rows)?;
        let mut scopes: Vec<String> = rows.iter().map(|row| row.scope.short()).collect();
        scopes.dedup();
        let end = scopes.iter().map(|scope| format!("to let it in: psentry unblock {scope}\n"));
        let never = format!("never to shut it out: psentry allow add {}\n", asked.short());
        print(&end.chain([never]).filter(|_| !context.json).collect::<String>())?;
        return complete(answers);
    }
    let [_, Answer { reply, .. }] = &answers;
    let lines = reply.lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let prospect = lines.into_iter().find(|line| line.get("may_block").is_some());
    complete(answers)?;
    let mut text = vec![format!("{} is not shut out", asked.short())];
    let ignored = ignored(installed, asked)?;
    let is_ignored = ignored.is_some();
    if let Some(line) = ignored {
        text.push(format!("it is left alone: {line}"));
    } else if let Some(panic) = panic(&context.clock) {
        text.push(format!("nor can it be: {panic}"));
    } else if let Some(line) = prospect
        && let Some(why) = line.get("why").and_then(Value::as_str)
    {
        let may =
            if line.get("may_block") == Some(&json!(true)) { "it could be, but" } else { "nor can it be:" };
        text.push(format!("{may} {}", printable(why)));
    }
    let mut known = or_nothing(known(&installed.log(), &[asked], None));
    // Of who is left alone, verdicts are of the past.
    known.verdict = known.verdict.filter(|_| !is_ignored);
    text.extend(reasons(asked, installed.mode()? == Mode::Observe, &known, &context.clock));
    let object = || json!({ "addr": asked.to_string(), "shut_out": false, "reasons": text }).to_string();
    print(&(if context.json { object() } else { text.join("\n") } + "\n"))?;
    Err(Error(Exit::No, String::new()))
}

/// Lets somebody in, or everybody.
pub(crate) fn unblock(context: &Context, whom: &str) -> Result<(), Error> {
    let scope: Option<Prefix> = whom.parse().ok();
    let answers = context.installed.ask_all(&scope.map_or(Question::Flush, |scope| {
        let body = VerdictBody::new(Action::Unblock, scope);
        Question::Verdict(Box::new(Verdict { common: Common::at(Timestamp::now()), body }))
    }));
    let mut outcomes: Vec<Outcome> = answers.iter().flat_map(outcomes).collect();
    // Whom one tool releases the other one mostly had nothing against.
    if outcomes.iter().any(|outcome| outcome.body.result == OutcomeResult::Released) {
        outcomes.retain(|outcome| outcome.body.result != OutcomeResult::Already);
    }
    let [trap, blocker] = &answers;
    let answered = |answer: &Answer| answer.error.is_none() && answer.reply.errors.is_empty();
    let answered = answered(blocker) && (trap.is_absent || answered(trap));
    if context.json {
        show(context, &answers, &[])?;
    } else if answered && outcomes.iter().all(|outcome| outcome.body.result == OutcomeResult::Already) {
        let sentence = |scope: Prefix| format!("{} was not shut out\n", scope.short());
        print(&scope.map_or_else(|| "nobody was shut out\n".to_owned(), sentence))?;
    } else {
        // As the log has them.
        let mut renderer = Renderer::new(context.utc, AutoStream::choice(&std::io::stdout()));
        let records = outcomes.iter().cloned().map(Record::Outcome);
        print_lines(context, records.flat_map(|record| renderer.lines(&record)))?;
    }
    let is_bad = |is| matches!(is, OutcomeResult::Failed | OutcomeResult::Refused);
    if outcomes.iter().any(|outcome| is_bad(outcome.body.result)) {
        return Err(Error(Exit::Os, "not everything that was asked is done".to_owned()));
    }
    if blocker.is_absent {
        // What it blocked may still be in the kernel, where its own command finds it.
        let words = scope.map_or(vec!["flush"], |_| vec!["unblock", whom]);
        return instead(context.installed.block(false).args(words).args(context.printing()));
    }
    complete(answers)?;
    let Some(scope) = scope else { return Ok(()) };
    // A prefix around it may be shut out, too, and parts of it.
    let left = rows(&context.installed.ask_all(&Question::Why { addr: scope }));
    let (around, parts): (Vec<Prefix>, Vec<Prefix>) =
        left.iter().map(|row| row.scope).partition(|other| other.len() <= scope.len());
    let still = |part: Prefix, of: Prefix, end: Prefix| {
        let (part, of, end) = (part.short(), of.short(), end.short());
        format!("{part} is still shut out, as a part of {of}; to end that: psentry unblock {end}")
    };
    let mut named: Vec<String> = around.into_iter().map(|around| still(scope, around, around)).collect();
    named.extend(parts.into_iter().map(|part| still(part, scope, part)));
    named.dedup();
    if named.is_empty() { Ok(()) } else { Err(Error(Exit::No, named.join("\npsentry: "))) }
}

/// Prints the rows, or the records as the tools gave them.
fn show(context: &Context, answers: &[Answer], rows: &[Row]) -> Result<(), Error> {
    if context.json {
        let lines = answers.iter().flat_map(|answer| &answer.reply.lines);
        return print(&lines.map(|line| format!("{line}\n")).collect::<String>());
    }
    let trapped: Vec<Prefix> = rows.iter().filter(|row| row.is_trap).map(|row| row.scope).collect();
    let recent = Some(context.clock.now.minus(RECENT)).filter(|_| !trapped.is_empty());
    let known = recent.map(|recent| or_nothing(known(&context.installed.log(), &trapped, Some(recent))));
    print(&table(rows, &known.unwrap_or_default().touches, &context.clock))
}

/// A log that cannot be read is reported, and what is known without it is said.
fn or_nothing(known: Result<Known, Error>) -> Known {
    known.inspect_err(|error| eprintln!("psentry: {error}")).unwrap_or_default()
}

fn outcomes(answer: &Answer) -> impl Iterator<Item = Outcome> {
    let records = answer.reply.lines.iter().filter_map(|line| Record::parse(line).ok());
    records.filter_map(|record| if let Record::Outcome(outcome) = record { Some(outcome) } else { None })
}

fn rows(answers: &[Answer]) -> Vec<Row> {
    merged(answers.iter().flat_map(|answer| outcomes(answer).map(|outcome| (answer.tool, outcome))))
}

/// Prints the notes beside the answers, and fails where something is missing: of who hangs, or may not be asked.
fn complete(answers: [Answer; 2]) -> Result<(), Error> {
    let nobody = || {
        Err(Error(Exit::No, "neither psentry-trap nor psentry-block answers; see 'psentry status'".into()))
    };
    let mut missing = if answers.iter().all(|answer| answer.is_absent) { nobody() } else { Ok(()) };
    for Answer { tool, reply, error, is_absent } in answers {
        reply.notes.iter().for_each(|note| eprintln!("psentry: {note}"));
        match error.or_else(|| Some(Error(Exit::Os, reply.errors.first()?.clone()))) {
            Some(_) if is_absent => {
                eprintln!("psentry: {tool} does not answer, and what it does is not shown");
            }
            Some(error) => missing = Err(error),
            None => {}
        }
    }
    missing
}
