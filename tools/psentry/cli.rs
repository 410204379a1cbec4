//! The flags and commands, and nothing else.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use psentry_records::{Ignore, Prefix, Timestamp};
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
const TEMPLATE: &str = "{about}\n{usage-heading} {usage}\n\n{subcommands}\n{options}";

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show whether all is well; exits 0, 1, 2, 3 as Nagios has it
    Status,
    /// Show who is shut out, by what, for how long and why
    List {
        /// Only the addresses, one a line
        #[arg(long, hide = true)]
        addresses: bool,
    },
    /// Say why somebody is shut out, or why not (exits 1)
    Why {
        /// An address or a prefix
        #[arg(value_parser = prefix)]
        cidr: Prefix,
    },
    /// Let somebody in again, or 'all'
    Unblock {
        /// An address or a prefix, as `list` shows it, or 'all'
        #[arg(value_name = "CIDR|all", value_parser = whom)]
        blocked: String,
    },
    /// Shut somebody out
    Block {
        /// An address or a prefix
        #[arg(value_parser = prefix)]
        cidr: Prefix,
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
        #[arg(value_parser = prefix)]
        cidr: Option<Prefix>,
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
        addr: IpAddr,
    },
    /// Tell whom the policy, or another one, blocks by the log
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
        #[arg(value_name = "PORT", value_parser = port, required_if_eq_any(NEEDED))]
        decoy: Option<String>,
    },
    /// List, add or remove whom psentry leaves alone
    Allow {
        /// What to do
        #[arg(value_enum, default_value_t = Action::List)]
        action: Action,
        /// An address or a prefix
        #[arg(value_name = "CIDR", value_parser = prefix, required_if_eq_any(NEEDED))]
        allowed: Option<Prefix>,
    },
    /// Show whether psentry observes or blocks, or set it
    Mode {
        /// What it is to do
        mode: Option<Mode>,
    },
    /// Touch decoys, and see whether that is noticed
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

/// What to do with a list in the settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Action {
    /// Show it
    List,
    /// Add to it
    Add,
    /// Take something out of it
    Remove,
}

/// With which action an argument is needed.
const NEEDED: [(&str, &str); 2] = [("action", "add"), ("action", "remove")];

/// Whether anybody is shut out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Say who would be shut out, and shut out nobody
    Observe,
    /// Shut out
    Block,
}

fn prefix(text: &str) -> Result<Prefix, String> {
    Ignore::parse_entry(text)
}

fn whom(text: &str) -> Result<String, String> {
    if text == "all" { Ok(text.to_owned()) } else { Ok(prefix(text)?.to_string()) }
}

/// A port as `23/tcp`.
fn port(text: &str) -> Result<String, String> {
    let (number, proto) = text.split_once('/').unwrap_or((text, "tcp"));
    match number.parse::<u16>() {
        Ok(number) if number > 0 && ["tcp", "udp"].contains(&proto) => Ok(format!("{number}/{proto}")),
        _ => Err("write a port from 1 to 65535, such as 2222 or 161/udp".to_owned()),
    }
}

/// A moment, or how long ago it was.
fn moment(text: &str) -> Result<Timestamp, String> {
    let ago = |_| parse_duration(text).map(|span| Timestamp::now().minus(span));
    text.parse()
        .or_else(ago)
        .map_err(|_| "write a span such as 12h, or a time such as 2026-11-22T15:04:05Z".into())
}
