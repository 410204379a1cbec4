//! From the command line to the exit code: sysexits(3)'s numbers, and one sentence on standard error that says
//! what went wrong and what to do.

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Command, Parser};
use clap_complete::Shell;

/// How alike a word has to be to be suggested, as clap has it.
const ALIKE: f64 = 0.7;

/// How a program ends, in the numbers of sysexits.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Exit {
    /// It did what it was asked to do (EX_OK).
    Ok = 0,
    /// What was asked was answered, and the answer is no.
    No = 1,
    /// What was asked about is broken: CRITICAL in the words of Nagios, whose WARNING is [`No`](Self::No).
    Critical = 2,
    /// What was asked about is not known, because it is not here: UNKNOWN in the words of Nagios.
    Unknown = 3,
    /// The command line is wrong (EX_USAGE).
    Usage = 64,
    /// A program that is needed is missing (EX_UNAVAILABLE).
    Unavailable = 69,
    /// The system refused a call (EX_OSERR).
    Os = 71,
    /// A pipe broke, or a file could not be read or written (EX_IOERR).
    Io = 74,
    /// The rights of the program do not suffice (EX_NOPERM).
    NoPermission = 77,
    /// A file of configuration, or what flags say together, is wrong (EX_CONFIG).
    Config = 78,
}

/// An error that knows which exit code it deserves.
pub trait Failure: Error {
    /// The exit code that this error ends the program with.
    fn exit(&self) -> Exit;
}

/// A whole `main`: reads the flags, runs `program`, says what went wrong. Adds `--completions` to the flags.
pub fn run<Flags: Parser, E: Failure>(program: impl FnOnce(Flags) -> Result<(), E>) -> ExitCode {
    run_with(program, |_, script| script)
}

/// The same for a program that adds to its completion scripts what only it knows: `complete` is given each shell's.
pub fn run_with<Flags: Parser, E: Failure>(
    program: impl FnOnce(Flags) -> Result<(), E>,
    complete: impl FnOnce(Shell, String) -> String,
) -> ExitCode {
    // All flags are shown where all are asked for, else those that most people need.
    let all = std::env::args_os().any(|arg| arg == "--help");
    let command = if all { command::<Flags>() } else { short(command::<Flags>()) };
    let name = command.get_name().to_owned();
    let matches = match command.clone().try_get_matches() {
        Ok(matches) => matches,
        Err(mut error) => {
            suggest_command(&mut error, &command);
            // Help and version go to standard output and are no error; a reader that has left is none either.
            let _ = error.print();
            return code(if error.use_stderr() { Exit::Usage } else { Exit::Ok });
        }
    };
    if let Some(shell) = matches.get_one::<Shell>("completions") {
        let _ = io::stdout().write_all(complete(*shell, completions::<Flags>(*shell)).as_bytes());
        return code(Exit::Ok);
    }
    let flags = match Flags::from_arg_matches(&matches) {
        Ok(flags) => flags,
        Err(error) => {
            let _ = error.format(&mut command.clone()).print();
            return code(Exit::Usage);
        }
    };
    match program(flags) {
        Ok(()) => code(Exit::Ok),
        Err(error) => {
            // One that has no words said all on standard output.
            let why = error.to_string();
            if !why.is_empty() {
                let _ = writeln!(io::stderr(), "{name}: {why}");
            }
            code(error.exit())
        }
    }
}

/// Words of other tools for what a command here does.
const SYNONYMS: [(&str, &str); 18] = [
    ("release", "unblock"),
    ("unban", "unblock"),
    ("free", "unblock"),
    ("ban", "block"),
    ("deny", "block"),
    ("add", "block"),
    ("stop", "panic"),
    ("off", "panic"),
    ("disable", "panic"),
    ("start", "resume"),
    ("on", "resume"),
    ("enable", "resume"),
    ("ls", "list"),
    ("show", "list"),
    ("blocked", "list"),
    ("whitelist", "allow"),
    ("ignore", "allow"),
    ("test", "selftest"),
];

/// Where another tool's word for a command is given, the command is suggested; and where a flag that is none is like a command, as
/// `--lst` is like `list`, unless a flag is more like it.
fn suggest_command(error: &mut clap::Error, command: &Command) {
    if let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand) {
        let meant = SYNONYMS.iter().find(|(other, _)| word == other).map(|(_, name)| *name);
        if let Some(name) = meant.filter(|name| command.find_subcommand(name).is_some()) {
            error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(vec![name.to_owned()]));
        }
        return;
    }
    let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg) else { return };
    if error.kind() != ErrorKind::UnknownArgument || !flag.starts_with("--") {
        return;
    }
    let word = flag.trim_start_matches('-');
    let like = |name: &str| strsim::jaro(word, name);
    let commands = command.get_subcommands().map(|sub| (like(sub.get_name()), sub.get_name()));
    let Some((best, name)) = commands.max_by(|a, b| a.0.total_cmp(&b.0)) else { return };
    let flags = command.get_arguments().filter_map(|arg| arg.get_long()).map(like);
    if best > ALIKE && flags.fold(0.0, f64::max) < best {
        let name = ContextValue::String(name.to_owned());
        error.remove(ContextKind::SuggestedArg);
        error.insert(ContextKind::SuggestedSubcommand, name);
    }
}

/// The completion script of a program for a shell.
#[must_use]
pub fn completions<Flags: Parser>(shell: Shell) -> String {
    let mut script = Vec::new();
    let command = command::<Flags>();
    clap_complete::generate(shell, &mut shown(&command), command.get_name().to_owned(), &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// The flags of a program and the ones that all have.
fn command<Flags: Parser>() -> Command {
    // Help has one line a flag, so that -h fits a screen of 24 lines and --help two; the manual page is the long one.
    let help = Arg::new("help")
        .short('h')
        .long("help")
        .global(true)
        .action(ArgAction::HelpShort)
        .help("Print this help; --help has every flag");
    // Of a program that needs one, `from_arg_matches` says so; --completions needs none.
    let flags = Flags::command().subcommand_required(false);
    flags.disable_help_subcommand(true).disable_help_flag(true).arg(help.display_order(1000)).arg(
        Arg::new("completions")
            .long("completions")
            .value_name("SHELL")
            .value_parser(clap::value_parser!(Shell))
            .action(ArgAction::Set)
            .exclusive(true)
            .hide_possible_values(true)
            .help("Print a completion script for bash, zsh, fish, elvish or powershell"),
    )
}

/// The same with help that leaves out what has a heading of its own, and what is asked for once in a lifetime.
fn short(command: Command) -> Command {
    let hide = |arg: Arg| {
        let hides = arg.get_help_heading().is_some() || arg.get_id() == "completions";
        arg.hide_short_help(hides)
    };
    command.mut_args(hide).mut_subcommands(|sub| sub.mut_args(hide))
}

/// The same with only what help shows: what a command does not heed is not completed there either.
fn shown(command: &Command) -> Command {
    let shared: Vec<Arg> = command.get_arguments().filter(|arg| arg.is_global_set()).cloned().collect();
    let subs: Vec<Command> = command.get_subcommands().cloned().collect();
    // Else they would be given to every command again.
    let top = command.clone().mut_args(|arg| if arg.get_id() == "help" { arg } else { arg.global(false) });
    subs.into_iter().fold(top, |top, sub| {
        let own = |arg: &&Arg| sub.get_arguments().all(|other| other.get_id() != arg.get_id());
        let inherited = shared.iter().filter(own);
        let args = sub.get_arguments().chain(inherited).filter(|arg| !arg.is_hide_set());
        let args = args.filter(|arg| arg.get_id() != "help").cloned().map(|arg| arg.global(false));
        let about = sub.get_about().cloned().unwrap_or_default();
        // clap wants names that last, and this program only prints and ends.
        let name: &'static str = sub.get_name().to_owned().leak();
        let only = Command::new(name).about(about).disable_help_flag(true).args(args);
        top.mut_subcommand(sub.get_name(), |_| only)
    })
}

fn code(exit: Exit) -> ExitCode {
    ExitCode::from(exit as u8)
}
