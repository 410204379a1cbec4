//! The flags of psentry-judge, but for those of the policy, which are in `policy/flags.rs`.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::policy::PolicyFlags;

/// Reads probes on standard input, and writes a verdict on standard output for each source that they convict.
#[derive(Debug, Parser)]
#[command(name = "psentry-judge", version, max_term_width = 100, args_conflicts_with_subcommands = true)]
pub struct Flags {
    /// What to do instead of judging standard input.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// The flags of the policy.
    #[command(flatten)]
    pub policy: PolicyFlags,

    /// Write all records that are read, too, for one log of all
    #[arg(long)]
    pub pass: bool,

    /// Keep in DIR what a restart is not to forget
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,

    /// Keep counters in this file for Prometheus' node_exporter
    #[arg(long, value_name = "FILE", help_heading = "This machine")]
    pub metrics: Option<PathBuf>,

    /// Check flags and files, touch nothing, exit 0 or 78
    #[arg(long)]
    pub check: bool,
}

/// How an answer is printed.
#[derive(Clone, Copy, Debug, Args)]
pub struct Printing {
    /// Print lines of JSON, for programs
    #[arg(long)]
    pub json: bool,
    /// Print times in UTC instead of local time
    #[arg(long)]
    pub utc: bool,
}

/// What psentry-judge does besides judging.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Tell what was held against an address, probe by probe
    Explain {
        /// The address
        address: IpAddr,
        /// Records to judge, also in gzip or zstd; without it, standard input
        #[arg(long, value_name = "FILE", num_args = 1..)]
        records: Vec<PathBuf>,
        /// Also show, or only, what a running judge remembers of it in this directory
        #[arg(long, value_name = "DIR")]
        state: Option<PathBuf>,
        /// How it is printed.
        #[command(flatten)]
        print: Printing,
        /// The policy to judge them by.
        #[command(flatten)]
        policy: PolicyFlags,
    },
    /// Tell whom a policy would have had blocked
    Replay {
        /// Records to judge, also in gzip or zstd
        #[arg(long, value_name = "FILE", num_args = 1.., required = true)]
        records: Vec<PathBuf>,
        /// The policy file to compare with
        #[arg(long, value_name = "FILE")]
        against: Option<PathBuf>,
        /// How it is printed.
        #[command(flatten)]
        print: Printing,
        /// The policy to judge them by.
        #[command(flatten)]
        policy: PolicyFlags,
    },
}
