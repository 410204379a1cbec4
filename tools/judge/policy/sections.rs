//! The tables of the policy file that the judge asks as they are. Each is read by serde, its bounds are checked by
//! `values.rs`, and what a file leaves out is a constant of `defaults.rs`.

use std::time::Duration;

use psentry_stage::parse_duration;
use serde::Deserialize;

use super::defaults as d;
use super::values::{self, BlockDuration};

/// A default of `defaults.rs`, all of which a test reads.
pub(super) fn span(text: &str) -> Duration {
    parse_duration(text).unwrap_or_default()
}

/// `[evidence]`: N means that one in N first contacts of innocent sources is of that class. A larger N is stronger evidence.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub struct Odds {
    /// A completed handshake with a decoy.
    #[serde(deserialize_with = "values::odds")]
    pub decoy: f64,
    /// A datagram to a decoy.
    #[serde(deserialize_with = "values::odds")]
    pub udp: f64,
    /// Another packet to a decoy.
    #[serde(deserialize_with = "values::odds")]
    pub packet: f64,
    /// A packet to a closed port.
    #[serde(deserialize_with = "values::odds")]
    pub closed: f64,
    /// Flags that no ordinary stack sends.
    #[serde(deserialize_with = "values::odds")]
    pub flags: f64,
    /// A packet to a closed port that worms know.
    #[serde(deserialize_with = "values::odds")]
    pub worm: f64,
    /// A packet of a protocol that has no ports, but for ICMP and IGMP.
    #[serde(deserialize_with = "values::odds")]
    pub protocol: f64,
    /// What a former peer may send.
    #[serde(deserialize_with = "values::odds")]
    pub stray: f64,
    /// How many times likelier a recognized scanner makes the rest.
    #[serde(deserialize_with = "values::odds")]
    pub signature: f64,
}

impl Default for Odds {
    fn default() -> Self {
        Odds {
            decoy: d::DECOY,
            udp: d::UDP,
            packet: d::PACKET,
            closed: d::CLOSED,
            flags: d::FLAGS,
            worm: d::WORM,
            protocol: d::PROTOCOL,
            stray: d::STRAY,
            signature: d::SIGNATURE,
        }
    }
}

/// `[slow]`: the memory of slow scans.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub struct SlowPolicy {
    /// How long it reaches back.
    #[serde(deserialize_with = "values::span")]
    pub window: Duration,
    /// How many different ports convict; 0: it is off.
    #[serde(deserialize_with = "values::slow_ports")]
    pub ports: u32,
}

impl Default for SlowPolicy {
    fn default() -> Self {
        SlowPolicy { window: span(d::SLOW_WINDOW), ports: d::SLOW_PORTS }
    }
}

/// `[block]`: how long blocks last.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub struct BlockPolicy {
    /// The first offence of a source that completed handshakes.
    #[serde(deserialize_with = "values::block_duration")]
    pub duration: BlockDuration,
    /// A source whose packets could be forged; never longer than `duration`.
    #[serde(deserialize_with = "values::span")]
    pub unproven: Duration,
    /// Each further offence is blocked so many times as long.
    #[serde(deserialize_with = "values::growth")]
    pub growth: f64,
    /// Further offences are not blocked longer than this.
    #[serde(deserialize_with = "values::block_duration")]
    pub longest: BlockDuration,
    /// After so long without one, an offence is forgiven.
    #[serde(deserialize_with = "values::span")]
    pub forgive: Duration,
    /// By which part of itself a duration is varied: 0 to 0.5.
    #[serde(deserialize_with = "values::jitter")]
    pub jitter: f64,
    /// Whether verdicts only say `watch`, and nobody is blocked.
    pub observe: bool,
}

impl Default for BlockPolicy {
    fn default() -> Self {
        BlockPolicy {
            duration: BlockDuration::For(span(d::DURATION)),
            unproven: span(d::UNPROVEN),
            growth: d::GROWTH,
            longest: BlockDuration::For(span(d::LONGEST)),
            forgive: span(d::FORGIVE),
            jitter: d::JITTER,
            observe: false,
        }
    }
}

/// `[levels]`: what levels 1 to 5 mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub struct LevelPolicy {
    /// From how many packets on a source has each level.
    #[serde(deserialize_with = "values::packets")]
    pub packets: [u32; 5],
    /// From which level on a climbing source is reported; 0: never.
    #[serde(deserialize_with = "values::level")]
    pub watch: u8,
    /// From which level on a convicted source is blocked; 0: at once.
    #[serde(deserialize_with = "values::level")]
    pub block: u8,
}

impl Default for LevelPolicy {
    fn default() -> Self {
        LevelPolicy { packets: d::PACKETS, watch: d::WATCH_LEVEL, block: d::BLOCK_LEVEL }
    }
}

/// `[sweep]`: when a prefix is blocked as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub struct SweepPolicy {
    /// How many convicted sources that behave alike it takes; 0: it is never blocked.
    #[serde(deserialize_with = "values::sweep_sources")]
    pub sources: usize,
    /// The lengths of the IPv4 prefixes, longest first.
    #[serde(deserialize_with = "values::ipv4_lens")]
    pub ipv4: Vec<u8>,
    /// The lengths of the IPv6 prefixes, longest first.
    #[serde(deserialize_with = "values::ipv6_lens")]
    pub ipv6: Vec<u8>,
    /// How long a prefix is blocked.
    #[serde(deserialize_with = "values::span")]
    pub duration: Duration,
    /// How many prefixes are blocked at a time.
    pub most: usize,
    /// Whether also prefixes in this machine's own networks, and in those behind it.
    pub inside: bool,
}

impl Default for SweepPolicy {
    fn default() -> Self {
        SweepPolicy {
            sources: d::SWEEP_SOURCES,
            ipv4: d::SWEEP_IPV4.to_vec(),
            ipv6: d::SWEEP_IPV6.to_vec(),
            duration: span(d::SWEEP_DURATION),
            most: d::SWEEP_MOST,
            inside: false,
        }
    }
}

/// `[inside]`: what becomes of sources behind this machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub struct InsidePolicy {
    /// What is done about a conviction.
    #[serde(deserialize_with = "values::inside")]
    pub action: InsideAction,
}

/// What is done about a conviction of a source behind this machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InsideAction {
    /// It is only watched: a container that is shut out has no connection to anywhere.
    #[default]
    Watch,
    /// It is blocked as any other.
    Block,
    /// It is never judged.
    Ignore,
}

/// `[brake]`: when the judge stops blocking for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub struct BrakePolicy {
    /// New blocks by packets that could be forged trip it in more networks than this within a minute; 0: they never do.
    /// It was called `blocks` once, and is read by that name, too.
    #[serde(alias = "blocks", deserialize_with = "values::networks_a_minute")]
    pub unproven: u32,
    /// New blocks by handshakes trip it in more networks than this within a minute; 0: they never do.
    #[serde(deserialize_with = "values::networks_a_minute")]
    pub proven: u32,
    /// How long it then only watches.
    #[serde(deserialize_with = "values::span")]
    pub pause: Duration,
}

impl Default for BrakePolicy {
    fn default() -> Self {
        BrakePolicy { unproven: d::BRAKE_UNPROVEN, proven: d::BRAKE_PROVEN, pause: span(d::BRAKE_PAUSE) }
    }
}

impl BrakePolicy {
    /// In how many networks sources may be blocked within a minute; 0: in any number.
    pub(crate) fn most(&self, proven: bool) -> u32 {
        if proven { self.proven } else { self.unproven }
    }
}
