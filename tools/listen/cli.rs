//! The flags of psentry-listen. Every default is a constant of `limits.rs`, quoted here.

use std::path::PathBuf;

use clap::Parser;

use crate::limits::{HIGHEST_RATE, HOLD_MS, LONGEST_HOLD_MS, MAX_HELD, MOST_CAPTURE, RATE, SOURCE_RATE};

/// Listens on decoy ports and writes on standard output a probe for each connection and
/// datagram, equal ones of a second as one.
///
/// Takes every socket that systemd passes, and the ports of --tcp and --udp. A port in use is never a decoy: it is
/// reported and left out.
#[derive(Debug, Parser)]
#[command(name = "psentry-listen", version, max_term_width = 100)]
pub struct Flags {
    /// TCP ports to listen on, such as 21,23,445,8000-8010
    #[arg(long, value_name = "PORTS")]
    pub tcp: Vec<String>,

    /// UDP ports to listen on, such as 69,161
    #[arg(long, value_name = "PORTS")]
    pub udp: Vec<String>,

    /// Take what psentry-trap --mirage sends to PORT
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub mirage: Option<u16>,

    /// Address to bind the ports to; may be repeated [default: all, IPv6 and IPv4]
    #[arg(long, value_name = "ADDR")]
    pub bind: Vec<String>,

    /// Record the first N bytes that are sent
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true,
          value_parser = clap::value_parser!(u32).range(0..=i64::from(MOST_CAPTURE)))]
    pub capture: u32,

    /// Send the bytes of FILE to each connection
    #[arg(long, value_name = "FILE")]
    pub banner: Option<PathBuf>,

    /// Send the banner to datagrams too, at most half as many bytes as were received
    #[arg(long, requires = "banner", help_heading = "Connections")]
    pub answer_udp: bool,

    /// How many milliseconds a connection is held.
    #[arg(long, value_name = "MS", help = hold_help(),
          value_parser = clap::value_parser!(u32).range(0..=i64::from(LONGEST_HOLD_MS)), help_heading = "Connections")]
    pub hold: Option<u32>,

    /// Connections held at once; more are recorded and closed
    #[arg(long, value_name = "N", default_value_t = MAX_HELD, help_heading = "Connections")]
    pub max_held: u32,

    /// How many connections are recorded a second, and how many datagrams
    #[arg(long, value_name = "N", default_value_t = RATE,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(HIGHEST_RATE)), help_heading = "Records")]
    pub rate: u32,

    /// The same for each source
    #[arg(long, value_name = "N", default_value_t = SOURCE_RATE,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(HIGHEST_RATE)), help_heading = "Records")]
    pub source_rate: u32,

    /// This machine's name in the records [default: its host name]
    #[arg(long, value_name = "NAME", help_heading = "Records")]
    pub host: Option<String>,

    /// Check flags and files, touch nothing, exit 0 or 78
    #[arg(long)]
    pub check: bool,
}

fn hold_help() -> String {
    format!("Hold a connection MS milliseconds [with --capture or --banner: {HOLD_MS}]")
}
