//! The flags of psentry-trap, and nothing else: what they mean is decided in `settings.rs`.

use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use psentry_stage::{Mode, parse_duration, parse_mode};

/// Shuts out whoever touches a closed port, in the kernel, and writes a probe for each such packet.
#[derive(Debug, Parser)]
#[command(name = "psentry-trap", version, max_term_width = 100)]
#[allow(clippy::struct_excessive_bools)] // each is a switch on the command line
pub struct Flags {
    /// How long a source is shut out after its last probe
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_duration)]
    pub quarantine: Duration,

    /// Only watch: let every packet through
    #[arg(long)]
    pub observe: bool,

    /// The same by 'observe', and by 'block' not to [default: block]
    #[arg(long, value_name = "MODE", default_value = "", hide_default_value = true, value_parser = parse_mode)]
    pub mode: Mode,

    /// What becomes of packets that are not let through
    #[arg(long, value_name = "HOW", value_enum, default_value_t = Answer::Drop)]
    pub answer: Answer,

    /// Leave the addresses in FILE alone; may be repeated
    #[arg(long, value_name = "FILE")]
    pub allow: Vec<PathBuf>,

    /// The TCP ports that are watched, such as 1-1023,3389, or none [default: 1-65535]
    #[arg(long, value_name = "PORTS")]
    pub tcp_ports: Vec<String>,

    /// The UDP ports that are watched, written alike [default: 1-65535]
    #[arg(long, value_name = "PORTS")]
    pub udp_ports: Vec<String>,

    /// Ports that are not watched, TCP and UDP alike
    #[arg(long, value_name = "PORTS")]
    pub except: Vec<String>,

    /// Look only at what comes in by NAME; may be repeated [default: every interface]
    #[arg(long, value_name = "NAME", value_parser = parse_interface)]
    pub interface: Vec<String>,

    /// How long a port is no trap after a service used it
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = parse_duration)]
    pub served: Duration,

    /// Keep in DIR which ports were served, so that a restart forgets none
    #[arg(long, value_name = "DIR", overrides_with = "state")]
    pub state: Option<PathBuf>,

    /// How long after the machine came up a closed port is no trap yet
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = parse_grace, overrides_with = "grace")]
    pub grace: Duration,

    /// Trap only what the firewall of this machine lets in
    #[arg(long, conflicts_with = "mirage")]
    pub after_firewall: bool,

    /// Write probes of pings, too
    #[arg(long)]
    pub icmp: bool,

    /// Write probes of protocols other than TCP, UDP and ICMP, too
    #[arg(long)]
    pub protocols: bool,

    /// Hand connections to closed ports to the transparent socket on PORT
    #[arg(long, value_name = "PORT")]
    pub mirage: Option<NonZeroU16>,

    /// The group of NFLOG, one for each program that uses it
    #[arg(long, value_name = "N", default_value_t = 7073)]
    pub group: u16,

    /// How many packets a second are logged
    #[arg(long, value_name = "N", default_value_t = 5000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rate: u32,

    /// How many packets a second are logged of one source
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub source_rate: u32,

    /// This machine's name in the records [default: its host name]
    #[arg(long, value_name = "NAME")]
    pub host: Option<String>,

    /// Print the rules that it would load, and exit
    #[arg(long)]
    pub print: bool,

    /// Check the flags and their files, touch nothing, and exit 0 or 78
    #[arg(long)]
    pub check: bool,

    /// Run as the process that reads packets, the child of PID
    #[arg(long, hide = true, value_name = "PID", requires = "reports")]
    pub worker: Option<i32>,

    /// The descriptor of the pipe from its parent
    #[arg(long, hide = true, value_name = "FD", requires = "worker")]
    pub reports: Option<i32>,
}

/// What becomes of packets that do not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Answer {
    /// They vanish, without an answer.
    Drop,
    /// They are refused, as a closed port refuses them.
    Reject,
}

/// A duration, or none at all.
fn parse_grace(text: &str) -> Result<Duration, String> {
    if ["0", "0s"].contains(&text) { Ok(Duration::ZERO) } else { parse_duration(text) }
}

/// The name of an interface, which need not be there yet. The kernel allows a few more characters than these.
fn parse_interface(text: &str) -> Result<String, String> {
    let fits = (1..=15).contains(&text.len());
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._@+-".contains(&byte);
    if fits && text.bytes().all(is_plain) {
        Ok(text.to_owned())
    } else {
        Err("the name of an interface has 1 to 15 letters, digits, and . _ @ + -".to_owned())
    }
}
