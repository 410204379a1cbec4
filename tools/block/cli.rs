//! The flags, and nothing else: what they mean for a run is decided in `settings.rs` and `backends/`.
//!
//! The help of each command offers the flags that it heeds, with the defaults that they have there. Any flag is taken with any
//! command, for scripts give all of them the same ones; the rest says nothing, and is not shown.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{EnumValueParser, PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::error::{ContextKind, ContextValue};
use clap::{Arg, Args, CommandFactory, Parser, Subcommand, ValueEnum};
use psentry_control::{default_path, parse_control_mode};
use psentry_log::{LogRate, LogSettings};
use psentry_records::{Ignore, Prefix};
use psentry_stage::{parse_duration, parse_ports};

use crate::brake::Rate;
use crate::reach::{Answer, Established, Ports, Reach};

/// Apply verdicts from standard input; write an outcome for each to standard output.
#[derive(Debug, Args)]
#[command(version, about)]
pub struct Flags {
    /// What to do instead of reading verdicts.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How to block, such as nft; repeatable [default: nft]
    #[arg(long, global = true, value_name = "NAME", value_parser = BackendName)]
    pub backend: Vec<Which>,
    /// The file of the backend hosts-deny
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        default_value = "/etc/hosts.deny",
        help_heading = "Backends"
    )]
    pub hosts_deny: PathBuf,
    /// The command that blocks, with {scope} {addr} {port} {proto} {duration}
    #[arg(long, global = true, value_name = "COMMAND", help_heading = "Backends")]
    pub exec: Option<String>,
    /// The command that ends a block; without it that of --exec must end its own
    #[arg(long, global = true, value_name = "COMMAND", help_heading = "Backends")]
    pub exec_undo: Option<String>,
    /// How long a command may take
    #[arg(long, global = true, value_name = "TIME", default_value = "10s", value_parser = parse_duration, help_heading = "Backends")]
    pub exec_timeout: Duration,
    /// How many commands may run at a time [default: 4]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64), help_heading = "Backends")]
    pub exec_jobs: Option<u8>,
    /// Has no effect: which blocks commands have made is kept in --state
    #[arg(long, global = true, value_name = "FILE", help_heading = "Backends")]
    pub exec_roll: Option<PathBuf>,
    /// What a blocked source is answered: drop or reject [default: drop]
    #[arg(
        long,
        value_enum,
        value_name = "ANSWER",
        hide_possible_values = true,
        help_heading = "What a block stops"
    )]
    pub answer: Option<Answer>,
    /// Which ports are blocked [default: all]
    #[arg(long, value_enum, value_name = "PORTS", help_heading = "What a block stops")]
    pub ports: Option<Ports>,
    /// Whether forwarded packets are blocked, too [default: yes]
    #[arg(long, value_name = "YES|NO", hide_possible_values = true, value_parser = yes_or_no(), help_heading = "What a block stops")]
    pub forward: Option<bool>,
    /// Whether packets to the source are dropped, too [default: no]
    #[arg(long, value_name = "YES|NO", hide_possible_values = true, value_parser = yes_or_no(), help_heading = "What a block stops")]
    pub egress: Option<bool>,
    /// Let established connections go on, also of a proven source
    #[arg(long, conflicts_with = "cut", help_heading = "What a block stops")]
    pub spare_established: bool,
    /// End established connections of a proven source at once
    #[arg(long, help_heading = "What a block stops")]
    pub cut: bool,
    /// Keep blocks over a reboot in DIR
    #[arg(long, global = true, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// The socket on which commands ask it [default: /run/psentry-block/control]
    #[arg(long, global = true, value_name = "PATH", help_heading = "Commands that ask it")]
    pub control: Option<PathBuf>,
    /// Who may ask there, as an octal mode; only root and its own user may change something
    #[arg(long, value_name = "MODE", default_value = "0660", value_parser = parse_control_mode, help_heading = "Commands that ask it")]
    pub control_mode: u32,
    /// The most blocks at a time
    #[arg(long, global = true, value_name = "N", default_value_t = 100_000, value_parser = blocks, help_heading = "Whom it never blocks")]
    pub max_blocks: usize,
    /// Never block the addresses in FILE; may be repeated
    #[arg(long, value_name = "FILE")]
    pub allow: Vec<PathBuf>,
    /// Where people log in: who is logged in there is not blocked
    #[arg(
        long,
        value_name = "PORTS", default_value = "22", overrides_with = "login_ports", value_parser = login_ports,
        help_heading = "Whom it never blocks"
    )]
    pub login_ports: LoginPorts,
    /// How long somebody may be connected without a login
    #[arg(long, value_name = "TIME", default_value = "3m", value_parser = parse_duration, help_heading = "Whom it never blocks")]
    pub login_grace: Duration,
    /// In how many networks a minute unproven blocks are made, such as 600/min [default: no limit]
    #[arg(long, value_name = "N/min", overrides_with = "brake", help_heading = "Whom it never blocks")]
    pub brake: Option<Rate>,
    /// Write all records that are read, too, so that one log holds all
    #[arg(long, help_heading = "Records")]
    pub pass: bool,
    /// Write records there, as FILE,SIZE,FILES
    #[arg(long, value_name = "LOG", overrides_with = "log")]
    pub log: Option<LogSettings>,
    /// Bytes a second for it, or none [default: half of the log an hour]
    #[arg(
        long,
        value_name = "SIZE",
        overrides_with = "log_rate",
        requires = "log",
        help_heading = "Records"
    )]
    pub log_rate: Option<LogRate>,
    /// Delete every trace of psentry at the end
    #[arg(long, help_heading = "At the end")]
    pub release: bool,
    /// Print lines of JSON, for programs
    #[arg(long, global = true, hide = true)]
    pub json: bool,
    /// Print times in UTC instead of local time
    #[arg(long, global = true, hide = true)]
    pub utc: bool,
    /// The field 'host' of outcomes [default: this machine's name]
    #[arg(long, global = true, value_name = "NAME", help_heading = "Records")]
    pub host: Option<String>,
    /// Check flags and files, touch nothing, exit 0 or 78
    #[arg(long)]
    pub check: bool,
}

/// What to do instead of reading verdicts.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show what is blocked
    List,
    /// Release a source
    Unblock {
        /// An address or a prefix, as `list` shows it
        #[arg(value_name = "CIDR", value_parser = released)]
        scope: Prefix,
    },
    /// Release everybody, and delete every trace of psentry
    Flush,
    /// Block a source, and wait until it is confirmed
    Block {
        /// An address or a prefix
        #[arg(value_name = "CIDR", value_parser = Ignore::parse_entry)]
        scope: Prefix,
        /// For how long [default: no end]
        #[arg(long = "for", value_name = "TIME", value_parser = parse_duration)]
        span: Option<Duration>,
        /// The reason that lists show
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Show whether everything is enforced; exits 1 if not
    Status,
    /// Show every block of an address or a prefix; exits 1 if there is none
    Why {
        /// An address, or a prefix: which blocks hold it, or lie in it
        #[arg(value_name = "CIDR", value_parser = Ignore::parse_entry)]
        scope: Prefix,
    },
    /// Release everybody, and block nobody until 'resume'
    Panic {
        /// The reason that is shown
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// End a panic; the blocks that it ended stay ended
    Resume,
}

/// The backends by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Which {
    /// Sets of nftables, over netlink.
    Nft,
    /// Rules of iptables and ip6tables.
    Iptables,
    /// Sets of ipset, matched by iptables.
    Ipset,
    /// Blackhole routes, over netlink.
    Route,
    /// Lines in hosts.deny, for services that are linked with TCP wrappers.
    HostsDeny,
    /// A command of yours.
    Exec,
    /// Says what it would do.
    DryRun,
}

/// Ports at which people log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginPorts(pub Vec<RangeInclusive<u16>>);

/// Reads where people log in. For clap's `value_parser`.
fn login_ports(text: &str) -> Result<LoginPorts, String> {
    parse_ports(text).map(LoginPorts).map_err(|why| why.to_string())
}

/// Reads whom to unblock. For clap's `value_parser`.
fn released(text: &str) -> Result<Prefix, String> {
    if text == "all" {
        return Err("to release everybody write 'psentry-block flush'".to_owned());
    }
    Ignore::parse_entry(text)
}

/// Other names of backends, by which people ask for them.
const KNOWN_AS: [(&str, &str); 9] = [
    ("nftables", "nft"),
    ("iptables-nft", "iptables"),
    ("ip6tables", "iptables"),
    ("ipsets", "ipset"),
    ("routes", "route"),
    ("blackhole", "route"),
    ("hosts.deny", "hosts-deny"),
    ("tcpwrappers", "hosts-deny"),
    ("command", "exec"),
];

/// Reads the name of a backend, and knows what is meant by others.
#[derive(Clone)]
struct BackendName;

impl TypedValueParser for BackendName {
    type Value = Which;

    fn parse_ref(
        &self,
        command: &clap::Command,
        arg: Option<&Arg>,
        value: &OsStr,
    ) -> Result<Which, clap::Error> {
        let mut parsed = EnumValueParser::<Which>::new().parse_ref(command, arg, value);
        if let Err(error) = &mut parsed
            && let Some((_, name)) = KNOWN_AS.iter().find(|(other, _)| value == *other)
        {
            error.insert(ContextKind::SuggestedValue, ContextValue::String((*name).to_owned()));
        }
        parsed
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(Which::value_variants().iter().filter_map(ValueEnum::to_possible_value)))
    }
}

/// Reads how many blocks there may be. For clap's `value_parser`.
fn blocks(text: &str) -> Result<usize, String> {
    // So many have room in a journal.
    let number = text.parse().ok().filter(|number| (1..=1_000_000).contains(number));
    number.ok_or_else(|| "write a number of blocks from 1 to 1000000".to_owned())
}

/// Reads yes or no. For clap's `value_parser`.
fn yes_or_no() -> impl TypedValueParser<Value = bool> {
    PossibleValuesParser::new(["yes", "no"]).map(|word| word == "yes")
}

impl Which {
    /// The name on the command line and in outcomes.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Which::Nft => "nft",
            Which::Iptables => "iptables",
            Which::Ipset => "ipset",
            Which::Route => "route",
            Which::HostsDeny => "hosts-deny",
            Which::Exec => "exec",
            Which::DryRun => "dry-run",
        }
    }

    /// Those that can leave something behind.
    pub const REAL: [Which; 6] =
        [Which::Nft, Which::Iptables, Which::Ipset, Which::Route, Which::HostsDeny, Which::Exec];
}

impl Flags {
    /// Where an engine listens, and where commands ask it.
    #[must_use]
    pub fn control_path(&self) -> PathBuf {
        self.control.clone().unwrap_or_else(|| default_path("psentry-block"))
    }

    /// The chosen backends, each once, in the order given.
    #[must_use]
    pub fn chosen(&self) -> Vec<Which> {
        let mut seen = BTreeSet::new();
        self.backend.iter().copied().filter(|which| seen.insert(*which)).collect()
    }

    /// The same, or where none is given the default.
    #[must_use]
    pub fn chosen_or_nft(&self) -> Vec<Which> {
        if self.backend.is_empty() { vec![Which::Nft] } else { self.chosen() }
    }

    /// How far blocks reach.
    #[must_use]
    pub fn reach(&self) -> Reach {
        let default = Reach::default();
        Reach {
            answer: self.answer.unwrap_or_default(),
            ports: self.ports.unwrap_or_default(),
            forward: self.forward.unwrap_or(default.forward),
            egress: self.egress.unwrap_or(default.egress),
            established: match (self.spare_established, self.cut) {
                (true, _) => Established::Spared,
                (false, true) => Established::Cut,
                (false, false) => Established::Starved,
            },
        }
    }
}

/// A flag, and what it says of itself.
type Said = (&'static str, &'static str);

const FILE: Said = ("hosts_deny", "The file of hosts-deny");
const STATE: Said =
    ("state", "The journal, if no psentry-block answers [default: /var/lib/psentry-block, if there]");
const JSON: Said = ("json", "Print lines of JSON, for programs, in place of text");
const UTC: Said = ("utc", "Print times in UTC instead of local time");
const CONTROL: Said = ("control", "Its socket [default: /run/psentry-block/control]");
const HOST: Said = ("host", "Field 'host' [default: this machine's name]");
const UNDO: Said = ("exec_undo", "The command that ends what exec blocked");
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

/// What a command heeds.
fn heeded(command: &str) -> Vec<Said> {
    match command {
        "list" => vec![ONLY, FILE, STATE, CONTROL, JSON, HOST],
        "why" => vec![ONLY, FILE, STATE, CONTROL, JSON, UTC, HOST],
        "status" => vec![ONLY, FILE, STATE, CONTROL, JSON, UTC],
        "block" => [&BLOCKING[..], &[STATE, CONTROL, JSON, UTC, HOST]].concat(),
        "unblock" | "flush" => vec![WHERE, FILE, UNDO, TIMEOUT, STATE, CONTROL, JSON, HOST],
        "panic" => vec![FILE, STATE, CONTROL],
        "resume" => vec![CONTROL, HOST],
        _ => Vec::new(),
    }
}

impl CommandFactory for Flags {
    fn command() -> clap::Command {
        let command = Flags::augment_args(clap::Command::new("psentry-block"));
        let shared: Vec<Arg> = command.get_arguments().filter(|arg| arg.is_global_set()).cloned().collect();
        command.mut_subcommands(|sub| {
            let heeded = heeded(sub.get_name());
            let args = shared.iter().map(|arg| match heeded.iter().find(|(id, _)| arg.get_id() == id) {
                Some((_, said)) => arg.clone().help(*said).hide(false).help_heading(None),
                None => arg.clone().hide(true),
            });
            sub.args(args.collect::<Vec<Arg>>())
        })
    }

    fn command_for_update() -> clap::Command {
        Self::command()
    }
}

impl Parser for Flags {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_that_a_command_heeds_is_one() {
        let command = Flags::command();
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
            let flags = Flags::try_parse_from(line.split(' ')).unwrap();
            assert_eq!((flags.state.as_deref(), flags.max_blocks), (Some("/s".as_ref()), 7), "{line}");
            assert_eq!(flags.hosts_deny, std::path::Path::new("/etc/hosts.deny"));
        }
    }
}
