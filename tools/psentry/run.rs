//! Which command is run, and what all of them have.

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command as Program;

use jiff::tz::TimeZone;
use nix::unistd::geteuid;
use psentry_control::Question;
use psentry_records::Timestamp;
use psentry_stage::{Exit, completions};
use serde_json::json;

use crate::cli::{Command, Flags};
use crate::installed::{Installed, missing, sibling};
use crate::rows::Clock;
use crate::{Error, complete, history, people, settings, status};

/// What every command has.
pub(crate) struct Context {
    pub(crate) installed: Installed,
    pub(crate) clock: Clock,
    pub(crate) json: bool,
    pub(crate) utc: bool,
}

/// The whole program, after its flags are read.
///
/// # Errors
/// What went wrong, or that the answer is no.
pub fn run(Flags { command, json, utc }: Flags) -> Result<(), Error> {
    let zone = if utc { TimeZone::UTC } else { TimeZone::system() };
    let clock = Clock { now: Timestamp::now(), zone };
    let context = Context { installed: Installed::below(Path::new("/"))?, clock, json, utc };
    let installed = &context.installed;
    let because = |reason: Option<String>| reason.map(|reason| format!("--reason={reason}"));
    match command {
        Command::Status => status::status(&context),
        Command::List { addresses } => people::list(&context, addresses),
        Command::Why { cidr } => people::why(&context, cidr),
        Command::Unblock { blocked } => people::unblock(&context, &blocked),
        Command::Log { cidr, follow, since } => history::log(&context, cidr, follow, since),
        Command::Decoy { action, decoy } => settings::decoy(&context, action, decoy.as_deref()),
        Command::Allow { action, allowed } => settings::allow(&context, action, allowed),
        Command::Mode { mode } => settings::mode(&context, mode),
        Command::Check => check(installed),
        Command::Selftest => selftest(installed),
        Command::Completions { shell } => print(&complete(shell, completions::<Flags>(shell))),
        Command::Block { cidr, span, reason } => {
            let [_, blocker] = installed.ask_all(&Question::Why { addr: cidr });
            let mut program = installed.block(!blocker.is_absent);
            program.args(["block", &cidr.to_string()]).args(because(reason));
            instead(program.args(span.map(|span| format!("--for={span}"))))
        }
        Command::Panic { reason } => instead(installed.block(true).arg("panic").args(because(reason))),
        Command::Resume => instead(installed.block(true).arg("resume")),
        Command::Explain { addr } => judge(&context, &["explain", &addr.to_string()], None),
        Command::Replay { policy } => judge(&context, &["replay"], policy.as_deref()),
    }
}

/// Runs a program in the place of this one, whose exit code is the program's.
pub(crate) fn instead(program: &mut Program) -> Result<(), Error> {
    let why = program.exec();
    Err(missing(&program.get_program().to_string_lossy())(why))
}

/// Has psentry-judge read the log, by the installed policy or by another one.
fn judge(context: &Context, command: &[&str], other: Option<&Path>) -> Result<(), Error> {
    let (log, policy) = (context.installed.log(), context.installed.etc("policy.toml"));
    history::open(&log, Some(context.clock.now))?;
    let mut program = sibling("psentry-judge");
    program.args(command).args(context.installed.judging(other)?);
    if other.is_some() && policy.exists() {
        program.arg("--against").arg(policy);
    }
    instead(program.arg("--records").args(psentry_follow::log_files(&log)?))
}

/// Every stage checks its own settings, also after one that found something.
fn check(installed: &Installed) -> Result<(), Error> {
    let mut wrong = Vec::new();
    for (stage, words) in [
        ("psentry-listen", installed.words("LISTEN")),
        ("psentry-trap", installed.sparing("TRAP")),
        ("psentry-judge", installed.judging(None)?),
        ("psentry-block", installed.sparing("BLOCK")),
    ] {
        match sibling(stage).arg("--check").args(words).status().map_err(missing(stage))? {
            status if status.success() => print(&format!("{stage}: its settings are sound\n"))?,
            _ => wrong.push(stage),
        }
    }
    let wrong = wrong.join(", ");
    if wrong.is_empty() { Ok(()) } else { Err(Error(Exit::Config, format!("wrong settings of {wrong}"))) }
}

/// Runs the self-test of the installed suite, here and now.
fn selftest(installed: &Installed) -> Result<(), Error> {
    let own = std::env::current_exe().unwrap_or_default();
    let beside = own.ancestors().nth(2).map(|prefix| prefix.join("lib/psentry/selftest"));
    let places = beside.into_iter().chain([installed.path("usr/local/lib/psentry/selftest")]);
    match places.into_iter().find(|path| path.exists()) {
        None => {
            Err(Error(Exit::Unavailable, "no self-test is installed; units/install brings it".to_owned()))
        }
        Some(_) if !geteuid().is_root() => Err(Error::rights("cannot make a network for the test")),
        Some(script) => instead(&mut Program::new(script)),
    }
}

/// Prints to standard output.
pub(crate) fn print(text: &str) -> Result<(), Error> {
    let mut stdout = io::stdout().lock();
    printed(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()))
}

/// Prints a list: plain lines, or strings of JSON.
pub(crate) fn print_lines(context: &Context, lines: impl Iterator<Item = String>) -> Result<(), Error> {
    let line = |line: String| if context.json { format!("{}\n", json!(line)) } else { line + "\n" };
    print(&lines.map(line).collect::<String>())
}

/// What came of writing to standard output. A reader that has seen enough ends the program, and is no error.
pub(crate) fn printed(written: io::Result<()>) -> Result<(), Error> {
    written.map_err(|why| match why.kind() {
        io::ErrorKind::BrokenPipe => Error(Exit::Ok, String::new()),
        _ => Error(Exit::Io, format!("cannot write to standard output: {why}")),
    })
}
