//! The flags of psentry-judge. Every default is a constant of `policy.rs`, quoted here.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use psentry_stage::parse_duration;

use crate::policy::{DURATION, LONGEST_TRIGGER, MAX_SOURCES, UNPROVEN, WINDOW};

/// Reads probes on standard input, and writes a verdict on standard output about each source that they convict.
#[derive(Debug, Parser)]
#[command(name = "psentry-judge", version, max_term_width = 100)]
pub struct Flags {
    /// Convict at N different ports, as PortSentry's SCAN_TRIGGER; 1 = at the first touch. Without it, a
    /// sequential test decides: two different decoys convict
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(LONGEST_TRIGGER)))]
    pub trigger: Option<u32>,

    /// How long a touch counts
    #[arg(long, value_name = "TIME", default_value = WINDOW, value_parser = parse_duration)]
    pub window: Duration,

    /// How long a block lasts when completed handshakes prove the address
    #[arg(long, value_name = "TIME", default_value = DURATION, value_parser = parse_duration)]
    pub duration: Duration,

    /// How long it lasts when the packets could be forged
    #[arg(long, value_name = "TIME", default_value = UNPROVEN, value_parser = parse_duration)]
    pub unproven: Duration,

    /// Addresses never to judge, one a line, as in PortSentry's ignore file; may be repeated
    #[arg(long, value_name = "FILE")]
    pub ignore: Vec<PathBuf>,

    /// Only watch: verdicts say what would be done, and nobody is blocked
    #[arg(long)]
    pub observe: bool,

    /// Write all records that are read, too, so that one log holds probes and verdicts
    #[arg(long)]
    pub pass: bool,

    /// How many sources to remember; the one seen longest ago is forgotten first
    #[arg(long, value_name = "N", default_value_t = MAX_SOURCES, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub max_sources: u32,

    /// Read the configuration, touch nothing, and exit: 0 if it is sound, 78 if not
    #[arg(long)]
    pub check: bool,
}
