//! `list`, `why` and `unblock`: each tool is asked on its control socket, and the answers are one.

use anstream::AutoStream;
use psentry_control::Silence;
use psentry_records::{
    Action, Common, Outcome, OutcomeResult, Prefix, Record, Timestamp, Verdict, VerdictBody,
};
use psentry_show::Renderer;
use psentry_stage::Exit;
use serde_json::{Value, json};

use crate::Error;
use crate::edit::ignored;
use crate::history::{Known, known};
use crate::installed::Answer;
use crate::programs::block;
use crate::rows::{Row, merged, reasons, short, table};
use crate::run::{Context, instead, print, print_lines};

/// How old the touch of somebody in quarantine is at most.
const RECENT: std::time::Duration = std::time::Duration::from_secs(3600);

/// Shows who is shut out.
pub(crate) fn list(context: &Context, addresses: bool) -> Result<(), Error> {
    let answers = context.installed.ask_all(b"{\"ask\":\"list\"}\n");
    let rows = rows(&answers);
    if addresses {
        return print_lines(context, rows.iter().map(|row| short(row.scope)));
    }
    show(context, &answers, &rows)?;
    complete(&answers)
}

/// Says what shuts somebody out and which command ends that, or why nothing does.
pub(crate) fn why(context: &Context, asked: Prefix) -> Result<(), Error> {
    let installed = &context.installed;
    let answers = installed.ask_all(&question(asked));
    let rows = rows(&answers);
    if !rows.is_empty() {
        show(context, &answers, &rows)?;
        let mut scopes: Vec<String> = rows.iter().map(|row| short(row.scope)).collect();
        scopes.dedup();
        let end = |scope: &String| format!("to let it in: psentry unblock {scope}\n");
        let never = format!("never to shut it out: psentry allow add {}\n", short(asked));
        print(&if context.json {
            String::new()
        } else {
            scopes.iter().map(end).collect::<String>() + &never
        })?;
        return complete(&answers);
    }
    complete(&answers)?;
    let [_, blocker] = &answers;
    let prospect = blocker.lines().iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let prospect = prospect.into_iter().find(|line| line.get("may_block").is_some());
    let prospect = prospect.map_or(Err("no psentry-block answers".to_owned()), |line| {
        let why = line.get("why").and_then(Value::as_str).map(str::to_owned);
        if line.get("may_block") == Some(&Value::Bool(true)) { Ok(why) } else { Err(why.unwrap_or_default()) }
    });
    let ignored = ignored(installed, asked)?;
    let known = or_nothing(known(&installed.log(), &[asked], None));
    let reasons = reasons(asked, ignored, prospect, installed.mode()?, &known, &context.clock);
    print(&match context.json {
        true => {
            json!({ "addr": asked.to_string(), "shut_out": false, "reasons": reasons }).to_string() + "\n"
        }
        false => reasons.join("\n") + "\n",
    })?;
    Err(Error::new(Exit::No, ""))
}

/// Lets somebody in, or everybody.
pub(crate) fn unblock(context: &Context, whom: &str) -> Result<(), Error> {
    let scope: Option<Prefix> = whom.parse().ok();
    let line = scope.map_or_else(|| b"{\"ask\":\"flush\"}\n".to_vec(), release);
    let answers = context.installed.ask_all(&line);
    if context.json {
        show(context, &answers, &[])?;
    } else {
        // As the log has them.
        let mut renderer = Renderer::new(context.utc, AutoStream::choice(&std::io::stdout()));
        let records = answers.iter().flat_map(outcomes).map(Record::Outcome);
        print_lines(context, records.flat_map(|record| renderer.lines(&record)))?;
    }
    let is_bad = |is| matches!(is, OutcomeResult::Failed | OutcomeResult::Refused);
    if answers.iter().flat_map(outcomes).any(|outcome| is_bad(outcome.body.result)) {
        return Err(Error::new(Exit::Os, "not everything that was asked is done"));
    }
    let [_, blocker] = &answers;
    if blocker.is_absent() {
        // What it blocked may still be in the kernel, where its own command finds it.
        let command = block(&context.installed, false);
        return instead(command, &scope.map_or(vec!["flush"], |_| vec!["unblock", whom]));
    }
    complete(&answers)?;
    let Some(scope) = scope else { return Ok(()) };
    // A prefix around it may be shut out, too.
    let left = rows(&context.installed.ask_all(&question(scope)));
    left.iter().find(|row| row.scope.len() <= scope.len()).map_or(Ok(()), |row| {
        let (whom, around) = (short(scope), short(row.scope));
        let how = format!("to end that: psentry unblock {around}");
        Err(Error::new(Exit::No, format!("{whom} is still shut out, as a part of {around}; {how}")))
    })
}

/// Prints the rows, or the records as the tools gave them.
fn show(context: &Context, answers: &[Answer], rows: &[Row]) -> Result<(), Error> {
    if context.json {
        return print(
            &answers.iter().flat_map(Answer::lines).map(|line| format!("{line}\n")).collect::<String>(),
        );
    }
    let clock = &context.clock;
    let trapped: Vec<Prefix> = rows.iter().filter(|row| row.is_trap).map(|row| row.scope).collect();
    let recent = Some(clock.now.minus(RECENT));
    let known = if trapped.is_empty() {
        Known::default()
    } else {
        or_nothing(known(&context.installed.log(), &trapped, recent))
    };
    print(&table(rows, &known.touches, clock))
}

/// A log that cannot be read is reported, and what is known without it is said.
fn or_nothing(known: Result<Known, Error>) -> Known {
    known.unwrap_or_else(|error| {
        eprintln!("psentry: {error}");
        Known::default()
    })
}

fn outcomes(answer: &Answer) -> impl Iterator<Item = Outcome> {
    answer.lines().iter().filter_map(|line| match Record::parse(line) {
        Ok(Record::Outcome(outcome)) => Some(outcome),
        _ => None,
    })
}

fn rows(answers: &[Answer]) -> Vec<Row> {
    merged(answers.iter().flat_map(|answer| outcomes(answer).map(|outcome| (answer.tool, outcome))))
}

/// Prints the notes beside the answers, and fails where something is missing: of who hangs, or may not be asked.
fn complete(answers: &[Answer]) -> Result<(), Error> {
    let mut error = Ok(());
    for Answer { tool, path, reply } in answers {
        match reply {
            Ok(reply) => {
                reply.notes.iter().for_each(|note| eprintln!("psentry: {note}"));
                if let Some(why) = reply.errors.first() {
                    error = Err(Error::new(Exit::Os, why));
                }
            }
            Err(Silence::Absent | Silence::Dead) => {
                eprintln!("psentry: {tool} does not answer; see 'psentry status'");
            }
            Err(silence) => error = Err(silent(silence, path, tool)),
        }
    }
    if answers.iter().all(Answer::is_absent) {
        error = Err(Error::new(Exit::No, "no tool of psentry answers, so who is shut out is not known"));
    }
    error
}

/// A tool that does not answer, as an error.
pub(crate) fn silent(silence: &Silence, path: &std::path::Path, tool: &str) -> Error {
    let exit = if *silence == Silence::Forbidden { Exit::NoPermission } else { Exit::Os };
    Error::new(exit, silence.sentence(path, tool))
}

/// The question what becomes of a scope.
pub(crate) fn question(scope: Prefix) -> Vec<u8> {
    format!("{}\n", json!({ "ask": "why", "addr": scope.to_string() })).into_bytes()
}

/// The verdict that releases a scope.
fn release(scope: Prefix) -> Vec<u8> {
    let body = VerdictBody::new(Action::Unblock, scope);
    let mut line = Vec::new();
    // It is short, and so it can be encoded.
    let _ = Record::Verdict(Verdict { common: Common::at(Timestamp::now()), body }).encode(&mut line);
    line
}
