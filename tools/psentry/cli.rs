//! The flags and commands, and nothing else.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use psentry_records::{Prefix, Timestamp};
use psentry_stage::{Shell, parse_duration};

/// See, ask and change what the installed psentry does
#[derive(Debug, Parser)]
#[command(name = "psentry", version, max_term_width = 100, help_template = TEMPLATE)]
pub struct Flags {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Print JSON, for programs
    #[arg(long, global = true)]
    pub json: bool,
    /// Print times in UTC instead of local time
    #[arg(long, global = true)]
    pub utc: bool,
}

/// So that it fits a screen of 24 lines.
const TEMPLATE: &str = "{about}\n{usage-heading} {usage}\n\n{subcommands}\n\n{options}";

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show whether all of it is well; exits 0, 1 (warning), 2 (critical), 3 (not installed)
    Status,
    /// Show who is shut out, by what, for how long and why
    List {
        /// Only the addresses, one a line
        #[arg(long, hide = true)]
        addresses: bool,
    },
    /// Say why somebody is shut out or not, and what changes that; exits 1 if not
    Why {
        /// An address or a prefix
        #[arg(value_name = "CIDR")]
        scope: Prefix,
    },
    /// Let somebody in again
    Unblock {
        /// An address or a prefix, as `list` shows it, or 'all'
        #[arg(value_name = "CIDR|all")]
        blocked: Target,
    },
    /// Shut somebody out
    Block {
        /// An address or a prefix
        #[arg(value_name = "CIDR")]
        scope: Prefix,
        /// For how long, such as 2h [default: until it is unblocked]
        #[arg(long = "for", value_name = "TIME")]
        span: Option<String>,
        /// Why, for people who list
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Let everybody in, and shut nobody out until 'resume'
    Panic {
        /// Why, for people who look
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// End a panic
    Resume,
    /// Show what happened
    Log {
        /// Only what is about this address or prefix
        #[arg(value_name = "CIDR")]
        scope: Option<Prefix>,
        /// Go on with what happens from now on
        #[arg(short, long)]
        follow: bool,
        /// From then on: a span such as 12h, or a time such as 2026-11-22T15:04:05Z
        #[arg(long, value_name = "TIME", value_parser = moment)]
        since: Option<Timestamp>,
    },
    /// Tell what was held against an address, probe by probe
    Explain {
        /// Of whom
        #[arg(value_name = "ADDR")]
        address: IpAddr,
    },
    /// Tell whom the policy, or another one, would have blocked by the records of the log
    Replay {
        /// Another policy, to compare with the installed one
        #[arg(value_name = "POLICY")]
        policy: Option<PathBuf>,
    },
    /// List, add and remove decoy ports
    #[command(subcommand)]
    Decoy(Decoy),
    /// List, add and remove addresses that psentry leaves alone
    #[command(subcommand)]
    Allow(Allow),
    /// Show whether psentry observes or blocks, or set it
    Mode {
        /// What it is to do
        #[arg(value_enum)]
        mode: Option<Mode>,
    },
    /// Touch decoys from a network of its own, and see whether that is noticed
    Selftest,
    /// Check the settings of every stage; exits 0 or 78
    Check,
    /// Print a completion script
    #[command(hide = true)]
    Completions {
        /// bash, zsh, fish, elvish or powershell
        shell: Shell,
    },
}

/// What to do about decoys.
#[derive(Debug, Subcommand)]
pub enum Decoy {
    /// Show which ports are decoys
    List,
    /// Make a port a decoy
    Add {
        /// Such as 2222 or 161/udp
        #[arg(value_name = "PORT[/udp]")]
        port: Port,
    },
    /// Give a port back
    Remove {
        /// Such as 2222 or 161/udp
        #[arg(value_name = "PORT[/udp]")]
        decoy: Port,
    },
}

/// What to do about the ignore file.
#[derive(Debug, Subcommand)]
pub enum Allow {
    /// Show whom psentry leaves alone
    List,
    /// Leave somebody alone from now on
    Add {
        /// An address or a prefix
        #[arg(value_name = "CIDR")]
        scope: Prefix,
        /// A comment for people who read the file
        #[arg(long, value_name = "TEXT")]
        comment: Option<String>,
    },
    /// Leave somebody alone no longer
    Remove {
        /// As `list` shows it
        #[arg(value_name = "CIDR")]
        scope: Prefix,
    },
}

/// Whether anybody is shut out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// Say who would be shut out, and shut out nobody
    Observe,
    /// Shut out
    Block,
}

impl Mode {
    /// As psentry.conf has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Mode::Observe => "observe",
            Mode::Block => "block",
        }
    }
}

/// Who is to be let in.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    /// Everybody.
    All,
    /// These addresses.
    Scope(Prefix),
}

impl std::str::FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "all" {
            return Ok(Target::All);
        }
        text.parse().map(Target::Scope).map_err(|error| format!("{error}, nor 'all'"))
    }
}

/// A port of a decoy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    /// The transport: "tcp" or "udp".
    pub proto: &'static str,
    /// The number, not 0.
    pub number: u16,
}

impl std::str::FromStr for Port {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, proto) = text.split_once('/').unwrap_or((text, "tcp"));
        let proto = ["tcp", "udp"].into_iter().find(|known| *known == proto);
        match (number.parse::<u16>().ok().filter(|number| *number > 0), proto) {
            (Some(number), Some(proto)) => Ok(Port { proto, number }),
            _ => Err("write a port from 1 to 65535, such as 2222 or 161/udp".to_owned()),
        }
    }
}

impl std::fmt::Display for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.number, self.proto)
    }
}

/// A moment, or how long ago it was.
fn moment(text: &str) -> Result<Timestamp, String> {
    let ago = |text: &str| parse_duration(text).map(|span| Timestamp::now().minus(span));
    text.parse().or_else(|_| ago(text)).map_err(|_| {
        "write a span such as 12h, which ends now, or a time such as 2026-11-22T15:04:05Z".to_owned()
    })
}
