//! The flags of psentry-judge, but for those of the policy, which are in `policy/flags.rs`.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::policy::PolicyFlags;

/// Reads probes on standard input, and writes a verdict on standard output about each source that they convict.
#[derive(Debug, Parser)]
#[command(name = "psentry-judge", version, max_term_width = 100, args_conflicts_with_subcommands = true)]
pub struct Flags {
    /// What to do instead of judging standard input.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// The flags of the policy.
    #[command(flatten)]
    pub policy: PolicyFlags,

    /// Write all records that are read, too, so that one log holds probes and verdicts
    #[arg(long)]
    pub pass: bool,

    /// Keep what is remembered in this folder, so that a restart forgets nothing
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,

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
        /// The policy to judge them by.
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
        /// The policy to judge them by.
        #[command(flatten)]
        policy: PolicyFlags,
    },
}
