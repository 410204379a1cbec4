//! `unblock`: whoever shuts somebody out is asked to end it, and then whether anything is left.

use psentry_control::Reply;
use psentry_records::{Action, Common, OutcomeResult, Prefix, Record, Timestamp, Verdict, VerdictBody};
use psentry_stage::{Exit, printable};

use crate::Error;
use crate::cli::Target;
use crate::query::rows;
use crate::rows::short;
use crate::run::{Context, print};
use crate::siblings::{become_program, block};
use crate::tools::{Answer, CHANGING, TELLING, Tool, ask_all, complete, question};

/// Lets somebody in, or everybody.
pub(crate) fn unblock(context: &Context, target: Target) -> Result<(), Error> {
    let (line, whom) = match target {
        Target::All => (b"{\"ask\":\"flush\"}\n".to_vec(), "everybody".to_owned()),
        Target::Scope(scope) => (verdict(scope), short(scope)),
    };
    let answers = ask_all(&context.installed, &line, CHANGING);
    print(&if context.json { lines(&answers) } else { sentences_of(&answers, &whom) })?;
    refused(&answers)?;
    if let [_, blocker] = &answers
        && blocker.is_absent()
    {
        // What it blocked may still be in the kernel, and its own command finds it there.
        let mut command = block(&context.installed, false);
        match target {
            Target::All => command.arg("flush"),
            Target::Scope(scope) => command.arg("unblock").arg(scope.to_string()),
        };
        return become_program(command);
    }
    complete(&answers)?;
    match target {
        Target::All => Ok(()),
        Target::Scope(scope) => still(context, scope),
    }
}

/// What another row still holds: a prefix around it.
fn still(context: &Context, scope: Prefix) -> Result<(), Error> {
    let answers = ask_all(&context.installed, &question(Some(scope)), TELLING);
    let left: Vec<_> = rows(&answers).into_iter().filter(|row| row.scope.len() <= scope.len()).collect();
    let Some(row) = left.first() else { return Ok(()) };
    let (whom, other) = (short(scope), short(row.scope));
    Err(Error::no(format!(
        "{whom} is still shut out by {}, as a part of {other}; to end that: psentry unblock {other}",
        row.tool.name()
    )))
}

/// Failed and refused outcomes, as an error.
fn refused(answers: &[Answer]) -> Result<(), Error> {
    let outcomes = answers.iter().flat_map(Answer::outcomes);
    let bad = outcomes
        .filter(|outcome| matches!(outcome.body.result, OutcomeResult::Failed | OutcomeResult::Refused));
    let why: Vec<String> = bad
        .map(|outcome| printable(outcome.body.error.as_deref().unwrap_or("it is not known why")))
        .collect();
    if why.is_empty() { Ok(()) } else { Err(Error::new(Exit::Os, why.join("; "))) }
}

/// Who let whom in.
fn sentences_of(answers: &[Answer], whom: &str) -> String {
    let mut text = String::new();
    for answer in answers.iter().filter(|answer| matches!(answer.reply, Ok(Reply { .. }))) {
        let mut scopes: Vec<String> = answer
            .outcomes()
            .filter(|outcome| matches!(outcome.body.result, OutcomeResult::Released | OutcomeResult::Applied))
            .map(|outcome| short(outcome.body.scope))
            .collect();
        scopes.sort();
        scopes.dedup();
        let end = match answer.tool {
            Tool::Trap => "is out of quarantine",
            Tool::Block => "is blocked no more",
        };
        scopes.iter().for_each(|scope| text.push_str(&format!("{scope} {end}\n")));
    }
    if text.is_empty() && answers.iter().all(|answer| answer.reply.is_ok()) {
        text = format!("{whom} was not shut out\n");
    }
    text
}

fn lines(answers: &[Answer]) -> String {
    answers.iter().flat_map(Answer::lines).map(|line| format!("{line}\n")).collect()
}

/// The verdict that releases a scope.
fn verdict(scope: Prefix) -> Vec<u8> {
    let body = VerdictBody::new(Action::Unblock, scope);
    let mut line = Vec::new();
    // It is short, and so it can be encoded.
    let _ = Record::Verdict(Verdict { common: Common::at(Timestamp::now()), body }).encode(&mut line);
    line
}
