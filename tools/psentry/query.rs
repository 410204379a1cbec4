//! `list` and `why`: who is shut out, and what changes that.

use psentry_records::{Ignore, Prefix};

use crate::clock::Clock;
use crate::history::{self, Known};
use crate::installed::Installed;
use crate::reasons::{Free, reasons};
use crate::rows::{Row, Touches, merged, short, table};
use crate::run::{Context, print};
use crate::tools::{Answer, TELLING, Tool, ask_all, complete, question};
use crate::{Error, allow};

/// Shows who is shut out.
pub(crate) fn list(context: &Context, addresses: bool) -> Result<(), Error> {
    let answers = ask_all(&context.installed, &question(None), TELLING);
    let rows = rows(&answers);
    if addresses {
        return print(&rows.iter().map(|row| short(row.scope) + "\n").collect::<String>());
    }
    if context.json {
        print(&lines(&answers))?;
    } else {
        let touches = touches(&context.installed, &rows, &context.clock);
        print(&table(&rows, &touches, &context.clock))?;
    }
    complete(&answers)
}

/// Says why somebody is shut out, or why not.
pub(crate) fn why(context: &Context, asked: Prefix) -> Result<(), Error> {
    let (installed, clock) = (&context.installed, &context.clock);
    let answers = ask_all(installed, &question(Some(asked)), TELLING);
    let rows = rows(&answers);
    if rows.is_empty() {
        complete(&answers)?;
        return free(context, asked, &answers);
    }
    if context.json {
        print(&lines(&answers))?;
    } else {
        print(&shut_out(&rows, &touches(installed, &rows, clock), clock, asked))?;
    }
    complete(&answers)
}

/// What shuts somebody out, and the commands that end it.
pub(crate) fn shut_out(rows: &[Row], touches: &Touches, clock: &Clock, asked: Prefix) -> String {
    let mut text = String::new();
    for row in rows {
        text.push_str(&format!("{}: {}\n", short(row.scope), row.words(touches, clock)));
        if let (Tool::Trap, Some(touch)) = (row.tool, row.touch(touches)) {
            let (ago, port) = (clock.ago(touch.at), &touch.port);
            text.push_str(&format!("  psentry-trap saw a packet to the closed port {port} {ago}; each further one begins it anew.\n"));
        }
    }
    let mut scopes: Vec<String> = rows.iter().map(|row| short(row.scope)).collect();
    scopes.dedup();
    for scope in scopes {
        text.push_str(&format!("To let it in:          psentry unblock {scope}\n"));
    }
    text + &format!("Never to shut it out:  psentry allow add {}\n", short(asked))
}

/// That nobody is shut out, with the reasons.
fn free(context: &Context, asked: Prefix, answers: &[Answer]) -> Result<(), Error> {
    let Context { installed, clock, .. } = context;
    let prospect = answers.iter().filter(|answer| answer.tool == Tool::Block).flat_map(Answer::lines);
    let prospect = prospect
        .filter(|line| line.contains("\"may_block\""))
        .find_map(|line| serde_json::from_str(line).ok());
    // A log that cannot be read is reported, and the rest is said.
    let known = history::known(&installed.log(), asked).unwrap_or_else(|error| {
        eprintln!("psentry: {error}");
        Known::default()
    });
    let ignored = allow::entries(&installed.ignore())?.into_iter().find(|(_, prefix)| {
        let ignore: Ignore = [*prefix].into_iter().collect();
        if asked.is_host() { ignore.holds(asked.addr()) } else { ignore.touches(asked) }
    });
    let free = Free { asked, ignored, prospect, mode: installed.mode()?, known: &known };
    let reasons = reasons(&free, clock);
    let text = if context.json {
        format!(
            "{}\n",
            serde_json::json!({ "addr": asked.to_string(), "shut_out": false, "reasons": reasons })
        )
    } else {
        reasons.join("\n") + "\n"
    };
    print(&text)?;
    Err(Error::no(""))
}

/// The rows of all answers.
pub(crate) fn rows(answers: &[Answer]) -> Vec<Row> {
    merged(answers.iter().flat_map(|answer| answer.outcomes().map(|outcome| (answer.tool, outcome))))
}

/// The records as the tools gave them.
fn lines(answers: &[Answer]) -> String {
    answers.iter().flat_map(Answer::lines).map(|line| format!("{line}\n")).collect()
}

/// What those in quarantine touched. Without the log it is not known, and the list says less.
fn touches(installed: &Installed, rows: &[Row], clock: &Clock) -> Touches {
    let scopes: Vec<Prefix> = rows.iter().filter(|row| row.tool == Tool::Trap).map(|row| row.scope).collect();
    history::touches(&installed.log(), &scopes, clock.now).unwrap_or_else(|error| {
        eprintln!("psentry: which ports were touched is not known: {error}");
        Touches::new()
    })
}
