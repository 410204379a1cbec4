//! The flags and commands, and nothing else.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use psentry_records::{Ignore, Prefix};
use psentry_stage::{Mode, parse_port};

/// Show and change what the installed psentry does
#[derive(Debug, Args)]
#[command(version, max_term_width = 100, help_template = TEMPLATE)]
pub struct Flags {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Print lines of JSON, for programs
    #[arg(long, global = true)]
    pub json: bool,
    /// Print times in UTC instead of local time
    #[arg(long, global = true)]
    pub utc: bool,
}

/// So that it fits a screen of 24 lines.
const TEMPLATE: &str = "{about}\n{usage-heading} {usage}\n{subcommands}\n{options}";

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show whether everything works; exits 0, 1, 2, 3 as Nagios expects
    Status,
    /// Show who is shut out, by what, for how long and why
    List {
        /// Only the addresses, one a line
        #[arg(long, hide = true)]
        addresses: bool,
    },
    /// Show why an address is shut out, or why not (exits 1)
    Why {
        /// An address or a prefix
        #[arg(value_parser = Ignore::parse_entry)]
        cidr: Prefix,
    },
    /// Release an address, a prefix or 'all'
    Unblock {
        /// An address or a prefix, as `list` shows it, or 'all'
        #[arg(value_name = "CIDR|all", value_parser = whom)]
        blocked: String,
    },
    /// Block an address or a prefix
    Block {
        /// An address or a prefix
        #[arg(value_parser = Ignore::parse_entry)]
        cidr: Prefix,
        /// For how long, such as 2h [default: no end]
        #[arg(long = "for", value_name = "TIME")]
        span: Option<String>,
        /// The reason that lists show
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Release everybody, and shut nobody out until 'resume'
    Panic {
        /// The reason that is shown
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// End a panic
    Resume,
    /// Show what happened
    Log {
        /// Only records about this address or prefix
        #[arg(value_parser = Ignore::parse_entry)]
        cidr: Option<Prefix>,
        /// Follow the log
        #[arg(short, long)]
        follow: bool,
        /// Start 24h ago, yesterday, at 15:04 or at '2026-11-22 15:04'
        #[arg(long, value_name = "TIME")]
        since: Option<String>,
    },
    /// Show the evidence against an address, probe by probe
    Explain {
        /// The address
        #[arg(value_parser = address)]
        addr: IpAddr,
    },
    /// Show whom the policy, or another one, would have blocked
    Replay {
        /// Another policy, to compare with the installed one
        policy: Option<PathBuf>,
    },
    /// List, add or remove decoy ports
    Decoy {
        /// What to do
        #[arg(value_enum, default_value_t = Action::List)]
        action: Action,
        /// Such as 2222 or 161/udp
        #[arg(value_name = "PORT", value_parser = parse_port, required_if_eq_any(NEEDED))]
        decoy: Option<String>,
    },
    /// List, add or remove addresses that are never shut out
    Allow {
        /// What to do
        #[arg(value_enum, default_value_t = Action::List)]
        action: Action,
        /// An address or a prefix
        #[arg(value_name = "CIDR", value_parser = Ignore::parse_entry, required_if_eq_any(NEEDED))]
        allowed: Option<Prefix>,
    },
    /// Show whether psentry observes or blocks, or set it
    Mode {
        /// The mode
        mode: Option<Mode>,
    },
    /// Confirm that ports that psentry hides are still reached
    Hide {
        /// What to do
        #[arg(value_enum)]
        action: HideAction,
    },
    /// Touch decoys, and check that this is noticed
    Selftest,
    /// Check the settings of every stage; exits 0 or 78
    Check,
}

/// What to do with a list in the settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Action {
    /// Show it
    List,
    /// Add to it
    Add,
    /// Remove something from it
    Remove,
}

/// What to do about hidden ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum HideAction {
    /// Keep them hidden: a connection to one of them is new
    Confirm,
}

/// With which action an argument is needed.
const NEEDED: [(&str, &str); 2] = [("action", "add"), ("action", "remove")];

/// Which commands heed the flags that any command takes: those of the others do not show them.
const HEEDING: [(&str, &str); 2] = [
    ("json", "status list why unblock block log explain replay decoy allow mode hide"),
    ("utc", "status list why unblock block log explain"),
];

impl CommandFactory for Flags {
    fn command() -> clap::Command {
        let command = Flags::augment_args(clap::Command::new("psentry"));
        let shared: Vec<_> = command.get_arguments().filter(|arg| arg.is_global_set()).cloned().collect();
        command.mut_subcommands(|sub| {
            let is_heeded = |id: &str| {
                let heeding = HEEDING.iter().find(|(flag, _)| *flag == id);
                heeding.is_some_and(|(_, commands)| commands.split(' ').any(|name| name == sub.get_name()))
            };
            let args: Vec<_> =
                shared.iter().map(|arg| arg.clone().hide(!is_heeded(arg.get_id().as_str()))).collect();
            sub.args(args)
        })
    }

    fn command_for_update() -> clap::Command {
        Self::command()
    }
}

impl Parser for Flags {}

fn address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| match Ignore::parse_entry(text) {
        Ok(network) => format!("this is a network; name an address in it, such as {}", network.last()),
        Err(why) => why,
    })
}

fn whom(text: &str) -> Result<String, String> {
    if text.eq_ignore_ascii_case("all") {
        Ok("all".to_owned())
    } else {
        Ok(Ignore::parse_entry(text)?.to_string())
    }
}
