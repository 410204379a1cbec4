//! The flags that override the policy file. The defaults that `--help` quotes are the constants of `defaults.rs`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use psentry_ports::PORTS_FILE;
use psentry_records::Prefix;
use psentry_stage::{Mode, parse_duration, parse_mode};

use super::defaults;
use super::values::BlockDuration;
use crate::limits::{MAX_SOURCES, MAX_TRIGGER};

/// The flags that decide. Each overrides what the policy file says; lists of whom to ignore are added to those of the file.
#[derive(Clone, Debug, Default, Args)]
pub struct PolicyFlags {
    /// The file of psentry-ports: no flag, because psentry-trap and psentry-judge have to agree.
    #[arg(skip = PathBuf::from(PORTS_FILE))]
    pub ports: PathBuf,

    /// The policy, psentry-policy(5); flags override it
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,

    /// Convict at N different ports, as PortSentry's SCAN_TRIGGER; without it two different decoys convict
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_TRIGGER)), help_heading = "Verdicts")]
    pub trigger: Option<u32>,

    #[arg(long, value_name = "TIME", value_parser = parse_duration,
        help = format!("How long a touch counts [default: {}]", defaults::WINDOW), help_heading = "Verdicts")]
    /// How long a touch counts.
    pub window: Option<Duration>,

    #[arg(long, value_name = "TIME",
        help = format!("How long a first block lasts when completed handshakes prove the address; or forever \
            [default: {}]", defaults::DURATION), help_heading = "Verdicts")]
    /// How long a first block lasts.
    pub duration: Option<BlockDuration>,

    #[arg(long, value_name = "TIME", value_parser = parse_duration,
        help = format!("How long it lasts when the packets could be forged [default: {}]", defaults::UNPROVEN), help_heading = "Verdicts")]
    /// How long it lasts when the packets could be forged.
    pub unproven: Option<Duration>,

    /// Addresses never to judge, one a line; may be repeated
    #[arg(long, value_name = "FILE")]
    pub ignore: Vec<PathBuf>,

    /// A network of this machine, where no psentry-trap runs, whose records name them; may be repeated
    #[arg(long, value_name = "CIDR", value_parser = own_network, help_heading = "This machine")]
    pub own: Vec<Prefix>,

    /// This machine's name in the records [default: its host name]
    #[arg(long, value_name = "NAME", help_heading = "This machine")]
    pub host: Option<String>,

    /// Only watch: nobody is blocked
    #[arg(long)]
    pub observe: bool,

    /// The same by 'observe', and by 'block' not to, whatever the policy says [default: as the policy says]
    #[arg(long, value_name = "MODE", default_value = "", hide_default_value = true, value_parser = parse_mode, help_heading = "Verdicts")]
    pub mode: Mode,

    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_SOURCES)),
        help = format!("How many sources to remember; those whose packets could be forged are forgotten first \
            [default: {}]", defaults::MAX_SOURCES), help_heading = "This machine")]
    /// How many sources to remember.
    pub max_sources: Option<u32>,
}

/// A network that is no wider than one that psentry-trap names.
fn own_network(text: &str) -> Result<Prefix, String> {
    let network: Prefix = text.parse().map_err(|error: psentry_records::PrefixError| error.to_string())?;
    let (widest, kind) = if network.is_ipv4() { (8, "IPv4") } else { (32, "IPv6") };
    if network.len() < widest {
        return Err(format!(
            "{network} is wider than /{widest}, which is more than a network of {kind} that a machine is in"
        ));
    }
    Ok(network)
}
