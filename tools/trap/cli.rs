//! The flags of psentry-trap, and nothing else: what they mean is decided in `settings.rs`.

use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use psentry_control::{default_path, parse_control_mode};
use psentry_records::{Ignore, Prefix};
use psentry_stage::{Mode, parse_duration, parse_mode};

/// Shuts out the source of each packet to a closed port, in the kernel, and writes a probe of it.
#[derive(Debug, Parser)]
#[command(name = "psentry-trap", version, max_term_width = 100)]
#[allow(clippy::struct_excessive_bools)] // each is a switch on the command line
pub struct Flags {
    /// What to ask the psentry-trap that runs, instead of being it.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// How long a source is shut out after its last probe
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_duration)]
    pub quarantine: Duration,

    /// Only watch: let every packet through
    #[arg(long)]
    pub observe: bool,

    /// 'observe' is the same as --observe, 'block' its opposite [default: block]
    #[arg(long, value_name = "MODE", default_value = "", hide_default_value = true, value_parser = parse_mode, help_heading = "What becomes of packets")]
    pub mode: Mode,

    /// How packets that are not let through are answered
    #[arg(long, value_name = "HOW", value_enum, default_value_t = Answer::Drop, help_heading = "What becomes of packets")]
    pub answer: Answer,

    /// Ignore the addresses in FILE; may be repeated
    #[arg(long, value_name = "FILE")]
    pub allow: Vec<PathBuf>,

    /// The TCP ports that are watched, such as 1-1023,3389, or none [default: 1-65535]
    #[arg(long, value_name = "PORTS")]
    pub tcp_ports: Vec<String>,

    /// The UDP ports that are watched, in the same form [default: 1-65535]
    #[arg(long, value_name = "PORTS", help_heading = "What is watched")]
    pub udp_ports: Vec<String>,

    /// Ports that are not watched, TCP and UDP alike
    #[arg(long, value_name = "PORTS", help_heading = "What is watched")]
    pub except: Vec<String>,

    /// Watch only packets that arrive by NAME; may be repeated [default: every interface]
    #[arg(long, value_name = "NAME", value_parser = parse_interface, help_heading = "What is watched")]
    pub interface: Vec<String>,

    /// How long a port counts as served after a service used it
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = parse_duration, help_heading = "Who is spared")]
    pub served: Duration,

    /// Keep in DIR which ports were served, so that a restart forgets none
    #[arg(long, value_name = "DIR", overrides_with = "state", help_heading = "Who is spared")]
    pub state: Option<PathBuf>,

    /// How long after boot packets to closed ports count as strays
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = parse_grace, overrides_with = "grace", help_heading = "Who is spared")]
    pub grace: Duration,

    /// Watch only packets that the firewall of this machine accepts
    #[arg(long, conflicts_with = "mirage", help_heading = "Who is spared")]
    pub after_firewall: bool,

    /// Write probes of pings, too
    #[arg(long, help_heading = "Records")]
    pub icmp: bool,

    /// Write probes of protocols other than TCP, UDP and ICMP, too
    #[arg(long, help_heading = "Records")]
    pub protocols: bool,

    /// These ports, TCP and UDP alike, are closed ports to whoever is not vouched for
    #[arg(long, value_name = "PORTS", help_heading = "Services that strangers do not see")]
    pub hide: Vec<String>,

    /// How long a vouch counts at most
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = parse_duration, help_heading = "Services that strangers do not see")]
    pub vouched: Duration,

    /// Hide and veil for TIME only, until 'psentry-trap confirm' has been given
    #[arg(long, value_name = "TIME", value_parser = parse_duration, help_heading = "Services that strangers do not see")]
    pub confirm: Option<Duration>,

    /// Drop a stranger's first packet to these TCP ports: clients send it again after a second
    #[arg(long, value_name = "PORTS", help_heading = "Services that strangers do not see")]
    pub veil: Vec<String>,

    /// Veil them from networks of this machine, too
    #[arg(long, requires = "veil", help_heading = "Services that strangers do not see")]
    pub veil_own: bool,

    /// How long a source is no stranger after its last connection
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = parse_duration, help_heading = "Services that strangers do not see")]
    pub familiar: Duration,

    /// Redirect connections to closed ports to the transparent socket on PORT
    #[arg(long, value_name = "PORT", help_heading = "What becomes of packets")]
    pub mirage: Option<NonZeroU16>,

    /// The socket on which commands ask it [default: /run/psentry-trap/control]
    #[arg(long, global = true, value_name = "PATH", help_heading = "Commands that ask it")]
    pub control: Option<PathBuf>,

    /// Who may ask there, as an octal mode; only root and its own user may release somebody
    #[arg(long, value_name = "MODE", default_value = "0660", value_parser = parse_control_mode, help_heading = "Commands that ask it")]
    pub control_mode: u32,

    /// Print what a command shows as JSON, for programs
    #[arg(long, global = true, help_heading = "Commands that ask it")]
    pub json: bool,

    /// The group of NFLOG, one for each program that uses it
    #[arg(long, value_name = "N", default_value_t = 7073, help_heading = "Records")]
    pub group: u16,

    /// How many packets a second are logged
    #[arg(long, value_name = "N", default_value_t = 5000, value_parser = clap::value_parser!(u32).range(1..=1_000_000), help_heading = "Records")]
    pub rate: u32,

    /// How many packets a second are logged of one source
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000_000), help_heading = "Records")]
    pub source_rate: u32,

    /// This machine's name in the records [default: its host name]
    #[arg(long, value_name = "NAME", help_heading = "Records")]
    pub host: Option<String>,

    /// Print the rules that it would load, and exit
    #[arg(long, help_heading = "What becomes of packets")]
    pub print: bool,

    /// Check flags and files, touch nothing, exit 0 or 78
    #[arg(long)]
    pub check: bool,

    /// Run as the process that reads packets, the child of PID
    #[arg(long, hide = true, value_name = "PID", requires = "reports")]
    pub worker: Option<i32>,

    /// The descriptor of the pipe from its parent
    #[arg(long, hide = true, value_name = "FD", requires = "worker")]
    pub reports: Option<i32>,
}

/// What to ask.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show who is in quarantine, and for how long yet
    List,
    /// Say whether somebody is in quarantine; exits 1 if not
    Why {
        /// An address or a prefix
        #[arg(value_name = "CIDR", value_parser = Ignore::parse_entry)]
        addr: Prefix,
    },
    /// Release somebody from quarantine
    Unblock {
        /// An address or a prefix, or 'all'
        #[arg(value_name = "CIDR|all", value_parser = parse_whom)]
        whom: Whom,
    },
    /// Keep the ports of --hide and --veil so: a connection there is new since --confirm began
    Confirm,
    /// Show how it is; exits 1 if that is not well
    Status,
}

/// Who is to be released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom {
    /// Everybody.
    All,
    /// Whoever is in this prefix.
    One(Prefix),
}

impl Flags {
    /// Where it listens, and where commands ask it.
    #[must_use]
    pub fn control_path(&self) -> PathBuf {
        self.control.clone().unwrap_or_else(|| default_path("psentry-trap"))
    }
}

/// How packets that do not pass are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Answer {
    /// Dropped, without an answer.
    Drop,
    /// Rejected, as a closed port does it.
    Reject,
}

fn parse_whom(text: &str) -> Result<Whom, String> {
    if text == "all" { Ok(Whom::All) } else { Ignore::parse_entry(text).map(Whom::One) }
}

/// A duration, or none at all.
fn parse_grace(text: &str) -> Result<Duration, String> {
    if ["0", "0s"].contains(&text) { Ok(Duration::ZERO) } else { parse_duration(text) }
}

/// The name of an interface, which need not exist yet. The kernel allows a few more characters than these.
fn parse_interface(text: &str) -> Result<String, String> {
    let fits = (1..=15).contains(&text.len());
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._@+-".contains(&byte);
    if fits && text.bytes().all(is_plain) {
        Ok(text.to_owned())
    } else {
        Err("the name of an interface has 1 to 15 letters, digits, and . _ @ + -".to_owned())
    }
}
