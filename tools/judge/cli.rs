//! The flags of psentry-judge. What they set stands in the policy file too, where a flag overrides it; every default
//! is a constant of `policy/defaults.rs`, quoted here.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use psentry_stage::parse_duration;

use crate::policy::{LONGEST_TRIGGER, Length, defaults};

/// Reads probes on standard input, and writes a verdict on standard output about each source that they convict.
#[derive(Debug, Parser)]
#[command(name = "psentry-judge", version, max_term_width = 100, args_conflicts_with_subcommands = true)]
pub struct Flags {
    /// Something else than judging.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// What it decides by.
    #[command(flatten)]
    pub policy: PolicyFlags,

    /// Write all records that are read, too, so that one log holds probes and verdicts
    #[arg(long)]
    pub pass: bool,

    /// Keep what is remembered in this folder, so that a restart forgets nothing
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,

    /// Write counters as a record every minute of the records' time; SIGUSR1 asks for one at any time
    #[arg(long)]
    pub stats: bool,

    /// Keep counters in this file for Prometheus' node_exporter
    #[arg(long, value_name = "FILE")]
    pub metrics: Option<PathBuf>,

    /// This machine's name in the records of counters [default: its host name]
    #[arg(long, value_name = "NAME")]
    pub host: Option<String>,

    /// Read the configuration, touch nothing, and exit: 0 if it is sound, 78 if not
    #[arg(long)]
    pub check: bool,
}

/// What psentry-judge does besides judging.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Tell what was held against an address, probe by probe, and whether it would be blocked now
    Explain {
        /// Of whom
        address: IpAddr,
        /// Records to judge, also in gzip or zstd; without it, standard input
        #[arg(long, value_name = "FILE", num_args = 1..)]
        records: Vec<PathBuf>,
        /// Tell also, or only, what a judge at work remembers of it in this folder
        #[arg(long, value_name = "DIR")]
        state: Option<PathBuf>,
        /// By what to judge them.
        #[command(flatten)]
        policy: PolicyFlags,
    },
    /// Tell whom a policy would have had blocked, and how that differs from another one
    Replay {
        /// Records to judge, also in gzip or zstd
        #[arg(long, value_name = "FILE", num_args = 1.., required = true)]
        records: Vec<PathBuf>,
        /// The policy file to compare with
        #[arg(long, value_name = "FILE")]
        against: Option<PathBuf>,
        /// By what to judge them.
        #[command(flatten)]
        policy: PolicyFlags,
    },
}

/// What decides.
#[derive(Clone, Debug, Default, Args)]
pub struct PolicyFlags {
    /// The policy, see psentry-policy(5); flags override what it says
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,

    /// Convict at N different ports, as PortSentry's SCAN_TRIGGER; 1 = at the first touch. Without it, a
    /// sequential test decides: two different decoys convict
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(LONGEST_TRIGGER)))]
    pub trigger: Option<u32>,

    #[arg(long, value_name = "TIME", value_parser = parse_duration,
        help = format!("How long a touch counts [default: {}]", defaults::WINDOW))]
    /// How long a touch counts.
    pub window: Option<Duration>,

    #[arg(long, value_name = "TIME",
        help = format!("How long a first block lasts when completed handshakes prove the address; or forever \
            [default: {}]", defaults::DURATION))]
    /// How long a first block lasts.
    pub duration: Option<Length>,

    #[arg(long, value_name = "TIME", value_parser = parse_duration,
        help = format!("How long it lasts when the packets could be forged [default: {}]", defaults::UNPROVEN))]
    /// How long it lasts when the packets could be forged.
    pub unproven: Option<Duration>,

    /// Addresses never to judge, one a line, as in PortSentry's ignore file; may be repeated
    #[arg(long, value_name = "FILE")]
    pub ignore: Vec<PathBuf>,

    /// Only watch: verdicts say what would be done, and nobody is blocked
    #[arg(long)]
    pub observe: bool,

    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000_000),
        help = format!("How many sources to remember; those whose packets could be forged are forgotten first \
            [default: {}]", defaults::MAX_SOURCES))]
    /// How many sources to remember.
    pub max_sources: Option<u32>,
}
