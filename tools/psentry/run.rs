//! Which command is run, and what all of them have.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command as Program;

use nix::unistd::geteuid;
use psentry_control::Question;
use psentry_installed::{Error, Installed, Status, missing, sibling};
use psentry_local_time::Clock;
use psentry_stage::Exit;
use serde_json::json;

use crate::cli::{Command, Flags, HideAction};
use crate::{history, people, settings};

/// What every command has.
pub(crate) struct Context {
    pub(crate) installed: Installed,
    pub(crate) clock: Clock,
    pub(crate) json: bool,
    pub(crate) utc: bool,
}

impl Context {
    /// The flags by which another program of the suite prints as this one.
    pub(crate) fn printing(&self) -> impl Iterator<Item = &'static str> {
        let flags = [("--json", self.json), ("--utc", self.utc)];
        flags.into_iter().filter_map(|(flag, given)| given.then_some(flag))
    }
}

/// The whole program, after its flags are read.
///
/// # Errors
/// What went wrong, or that the answer is no.
pub fn run(Flags { command, json, utc }: Flags) -> Result<(), Error> {
    let context = Context { installed: Installed::below(Path::new("/"))?, clock: Clock::new(utc), json, utc };
    let installed = &context.installed;
    let because = |reason: Option<String>| reason.map(|reason| format!("--reason={reason}"));
    match command {
        Command::Status => status(&context),
        Command::List { addresses } => people::list(&context, addresses),
        Command::Why { cidr } => people::why(&context, cidr),
        Command::Unblock { blocked } => people::unblock(&context, &blocked),
        Command::Log { cidr, follow, since } => history::log(&context, cidr, follow, since.as_deref()),
        Command::Decoy { action, decoy } => settings::decoy(&context, action, decoy.as_deref()),
        Command::Allow { action, allowed } => settings::allow(&context, action, allowed),
        Command::Mode { mode } => settings::mode(&context, mode),
        Command::Hide { action: HideAction::Confirm } => {
            instead(sibling("psentry-trap").arg("confirm").args(context.json.then_some("--json")))
        }
        Command::Check => check(installed),
        Command::Selftest => selftest(installed),
        Command::Block { cidr, span, reason } => {
            let [_, blocker] = installed.ask_all(&Question::Why { addr: cidr });
            let mut program = installed.block(!blocker.is_absent);
            program.args(["block", &cidr.to_string()]).args(because(reason)).args(context.printing());
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
    if let Some(other) = other {
        fs::File::open(other)
            .map_err(|why| Error(Exit::Config, format!("cannot read {}: {why}", other.display())))?;
    }
    fs::File::open(&log).map_err(Error::file("read", &log))?;
    let mut program = sibling("psentry-judge");
    program.args(command).args(context.printing()).args(context.installed.judging(other)?);
    if other.is_some() && policy.exists() {
        program.arg("--against").arg(policy);
    }
    instead(program.arg("--records").args(psentry_follow::log_files(&log)?))
}

/// Says how the suite is. It is an error when anything is not well.
fn status(context: &Context) -> Result<(), Error> {
    let status = Status::of(&context.installed, &context.clock)?;
    print(&if context.json { format!("{}\n", status.json()) } else { status.text() })?;
    if status.worst() == Exit::Ok { Ok(()) } else { Err(Error(status.worst(), String::new())) }
}

/// The files that stages read as users without any right.
const FILES: [&str; 3] = ["policy.toml", "ignore", "ports"];

/// Says that others than its owner may not read a file, if it is so. Root, who checks it, could.
fn is_private(file: &Path) -> bool {
    let mode = fs::metadata(file).map_or(0o004, |meta| meta.mode());
    if mode & 0o004 == 0 {
        eprintln!("psentry: the stages, which are not root, cannot read {}; chmod 644 it", file.display());
    }
    mode & 0o004 == 0
}

/// Every stage checks its own settings, also after one that found something.
fn check(installed: &Installed) -> Result<(), Error> {
    let mut wrong: Vec<_> = FILES.into_iter().filter(|name| is_private(&installed.etc(name))).collect();
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
    if let Some(folder) = installed.log().parent().filter(|folder| !folder.is_dir()) {
        eprintln!("psentry: no log can be written: there is no directory {}", folder.display());
        wrong.push("the log");
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
    psentry_stage::print(text.as_bytes()).map_err(Error::output)
}

/// Prints a list: plain lines, or strings of JSON.
pub(crate) fn print_lines(context: &Context, lines: impl Iterator<Item = String>) -> Result<(), Error> {
    let line = |line: String| if context.json { format!("{}\n", json!(line)) } else { line + "\n" };
    print(&lines.map(line).collect::<String>())
}
