//! Which command is run, and what all of them have.

use std::io::{self, Write};
use std::path::Path;

use nix::unistd::geteuid;
use psentry_stage::{Exit, completions};

use crate::cli::{Command, Flags};
use crate::clock::Clock;
use crate::installed::Installed;
use crate::siblings::{become_program, block, judging, sibling};
use crate::tools::{TELLING, ask_all, question};
use crate::{Error, allow, complete, decoys, log, mode, query, status, unblock};

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
pub fn run(flags: Flags) -> Result<(), Error> {
    let Flags { command, json, utc } = flags;
    let context = Context { installed: Installed::below(Path::new("/"))?, clock: Clock::new(utc), json, utc };
    let installed = &context.installed;
    match command {
        Command::Status => status::status(&context),
        Command::List { addresses } => query::list(&context, addresses),
        Command::Why { scope } => query::why(&context, scope),
        Command::Unblock { blocked } => unblock::unblock(&context, blocked),
        Command::Log { scope, follow, since } => log::log(&context, scope, follow, since),
        Command::Decoy(command) => decoys::decoy(&context, &command),
        Command::Allow(command) => allow::allow(&context, &command),
        Command::Mode { mode } => mode::mode(&context, mode),
        Command::Check => check(installed),
        Command::Selftest => selftest(installed),
        Command::Completions { shell } => print(&complete(shell, completions::<Flags>(shell))),
        Command::Block { scope, span, reason } => {
            let [_, blocker] = ask_all(installed, &question(Some(scope)), TELLING);
            let mut program = block(installed, !blocker.is_absent());
            program.arg("block").arg(scope.to_string());
            program.args(span.iter().flat_map(|span| ["--for", span]));
            program.args(reason.iter().map(|reason| format!("--reason={reason}")));
            become_program(program)
        }
        Command::Panic { reason } => {
            let mut program = block(installed, true);
            program.arg("panic").args(reason.iter().map(|reason| format!("--reason={reason}")));
            become_program(program)
        }
        Command::Resume => {
            let mut program = block(installed, true);
            program.arg("resume");
            become_program(program)
        }
        Command::Explain { address } => {
            judge(installed, &["explain", &address.to_string()], judging(installed, None)?)
        }
        Command::Replay { policy } => {
            let mut flags = judging(installed, policy.as_deref())?;
            if policy.is_some() && installed.policy().exists() {
                flags.extend(["--against".to_owned(), installed.policy().display().to_string()]);
            }
            judge(installed, &["replay"], flags)
        }
    }
}

/// Has psentry-judge read the log.
fn judge(installed: &Installed, command: &[&str], flags: Vec<String>) -> Result<(), Error> {
    let log = installed.log();
    let files = psentry_follow::log_files(&log)?;
    // One that may not be read ends the judge with less of a sentence.
    std::fs::File::open(&log).map_err(Error::file("read", &log))?;
    let mut program = sibling("psentry-judge");
    program.args(command).args(flags).arg("--records").args(files);
    become_program(program)
}

/// Every stage checks its own settings; each is asked, also after one that found something.
fn check(installed: &Installed) -> Result<(), Error> {
    let mut wrong = Vec::new();
    let ignore = installed.ignore();
    for (stage, variable, allow) in [
        ("psentry-listen", "LISTEN", None),
        ("psentry-trap", "TRAP", Some("--allow")),
        ("psentry-judge", "JUDGE", None),
        ("psentry-block", "BLOCK", Some("--allow")),
    ] {
        let mut program = sibling(stage);
        program.arg("--check").args(installed.words(variable));
        if let Some(flag) = allow.filter(|_| ignore.exists()) {
            program.arg(flag).arg(&ignore);
        }
        if stage == "psentry-judge" {
            for (flag, file) in [("--policy", installed.policy()), ("--ignore", ignore.clone())] {
                if file.exists() {
                    program.arg(flag).arg(file);
                }
            }
        }
        let status = program.stdin(std::process::Stdio::null()).status().map_err(|why| {
            Error::new(
                Exit::Unavailable,
                format!("cannot run {stage}: {why}; is psentry installed as a whole?"),
            )
        })?;
        if status.success() {
            print(&format!("{stage}: its settings are sound\n"))?;
        } else {
            wrong.push(stage);
        }
    }
    installed.mode()?;
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(Error::new(Exit::Config, format!("wrong settings: {}", wrong.join(", "))))
    }
}

/// Runs the self-test of the installed suite, here and now.
fn selftest(installed: &Installed) -> Result<(), Error> {
    let beside = std::env::current_exe()
        .ok()
        .and_then(|own| Some(own.parent()?.parent()?.join("lib/psentry/selftest")));
    let installed = installed.path("usr/local/lib/psentry/selftest");
    let Some(script) = beside.into_iter().chain([installed]).find(|path| path.exists()) else {
        return Err(Error::new(Exit::Unavailable, "no self-test is installed; units/install brings it"));
    };
    if !geteuid().is_root() {
        return Err(Error::not_root("the self-test makes a network of its own, which"));
    }
    become_program(std::process::Command::new(script))
}

/// Prints to standard output. A reader that has seen enough is no error.
pub(crate) fn print(text: &str) -> Result<(), Error> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(why) if why.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::new(Exit::Io, format!("cannot write to standard output: {why}")))
        }
        _ => Ok(()),
    }
}
