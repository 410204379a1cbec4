//! What the help of each command offers: the flags that it heeds, with the defaults that they have there. Any flag is
//! taken with any command, for scripts give all of them the same ones; the rest says nothing, and is not shown.

use clap::{Arg, ArgMatches, Command, CommandFactory, Error, FromArgMatches, Parser};

use crate::cli::Flags;

/// A flag, and what it says of itself.
type Said = (&'static str, &'static str);

const FILE: Said = ("hosts_deny", "The file of hosts-deny");
const STATE: Said =
    ("state", "Memory, if no psentry-block answers [default: /var/lib/psentry-block, if there]");
const CONTROL: Said = ("control", "Its socket [default: /run/psentry-block/control]");
const HOST: Said = ("host", "Field 'host' [default: this machine's name]");
const UNDO: Said = ("exec_undo", "The command that ends what exec blocked, if no psentry-block answers");
const TIMEOUT: Said = ("exec_timeout", "How long a command may take");

/// Which backends are shown.
const ONLY: Said = ("backend", "Only there; repeatable [default: every backend in use]");

/// Which backends are changed where no psentry-block runs.
const WHERE: Said = (
    "backend",
    "Where, if no psentry-block answers; repeatable [default: every backend that this machine has]",
);

/// Those that say how to block where no psentry-block runs.
const BLOCKING: [Said; 5] = [
    ("backend", "How, if no psentry-block answers; repeatable [default: nft]"),
    FILE,
    ("exec", "The command that blocks, for exec"),
    UNDO,
    TIMEOUT,
];

/// The command line of the program.
#[derive(Debug)]
pub struct Line(pub Flags);

/// What a command heeds.
fn heeded(command: &str) -> Vec<Said> {
    match command {
        "list" | "why" => vec![ONLY, FILE, STATE, CONTROL, HOST],
        "status" => vec![ONLY, FILE, STATE, CONTROL],
        "block" => [&BLOCKING[..], &[STATE, CONTROL, HOST]].concat(),
        "unblock" | "flush" => vec![WHERE, FILE, UNDO, TIMEOUT, STATE, CONTROL, HOST],
        "panic" => vec![FILE, STATE, CONTROL],
        "resume" => vec![CONTROL, HOST],
        _ => Vec::new(),
    }
}

impl CommandFactory for Line {
    fn command() -> Command {
        let command = Flags::command();
        let shared: Vec<Arg> = command.get_arguments().filter(|arg| arg.is_global_set()).cloned().collect();
        let names: Vec<String> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
        names.into_iter().fold(command, |command, name| {
            let heeded = heeded(&name);
            let said = |arg: &Arg| heeded.iter().find(|(id, _)| arg.get_id() == id).map(|(_, said)| *said);
            let args = shared.iter().map(|arg| match said(arg) {
                Some(said) => arg.clone().help(said),
                None => arg.clone().hide(true),
            });
            let args: Vec<Arg> = args.collect();
            command.mut_subcommand(name, |sub| sub.args(args))
        })
    }

    fn command_for_update() -> Command {
        Self::command()
    }
}

impl FromArgMatches for Line {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        Flags::from_arg_matches(matches).map(Line)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        self.0.update_from_arg_matches(matches)
    }
}

impl Parser for Line {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_that_a_command_heeds_is_one() {
        let command = Line::command();
        for sub in command.get_subcommands() {
            for (id, _) in heeded(sub.get_name()) {
                let arg = sub.get_arguments().find(|arg| arg.get_id() == id);
                assert!(arg.is_some_and(|arg| arg.is_global_set() && !arg.is_hide_set()), "{id}");
            }
        }
    }

    #[test]
    fn flags_count_wherever_they_stand_and_whoever_heeds_them() {
        for line in ["x --state /s --max-blocks 7 status", "x status --state /s --max-blocks 7"] {
            let Line(flags) = Line::try_parse_from(line.split(' ')).unwrap();
            assert_eq!((flags.state.as_deref(), flags.max_blocks), (Some("/s".as_ref()), 7), "{line}");
            assert_eq!(flags.hosts_deny, std::path::Path::new("/etc/hosts.deny"));
        }
    }
}
