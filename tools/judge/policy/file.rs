//! The policy file: TOML, in which every key may be missing and none may be unknown. An error names file, line and
//! column.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use psentry_records::Proto;
use serde::Deserialize;
use toml::Spanned;

use super::values::{self, Length, Member, Network, Ports};

/// What a file says; what it does not say is a default.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct File {
    pub(crate) test: Test,
    pub(crate) evidence: Evidence,
    pub(crate) slow: Slow,
    pub(crate) block: Block,
    pub(crate) levels: Levels,
    pub(crate) sweep: Sweep,
    pub(crate) brake: Brake,
    pub(crate) vouch: Vouch,
    pub(crate) memory: Memory,
    pub(crate) ignore: Ignore,
    pub(crate) groups: BTreeMap<String, Vec<Member>>,
    pub(crate) rule: Vec<Spanned<Rule>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Test {
    #[serde(deserialize_with = "values::placed")]
    pub(crate) alpha: Option<Spanned<f64>>,
    #[serde(deserialize_with = "values::probability")]
    pub(crate) beta: Option<f64>,
    #[serde(deserialize_with = "values::probability")]
    pub(crate) theta1: Option<f64>,
    #[serde(deserialize_with = "values::span")]
    pub(crate) window: Option<Duration>,
    #[serde(deserialize_with = "values::trigger")]
    pub(crate) trigger: Option<u32>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Evidence {
    #[serde(deserialize_with = "values::odds")]
    pub(crate) decoy: Option<f64>,
    #[serde(deserialize_with = "values::odds")]
    pub(crate) udp: Option<f64>,
    #[serde(deserialize_with = "values::odds")]
    pub(crate) packet: Option<f64>,
    #[serde(deserialize_with = "values::odds")]
    pub(crate) closed: Option<f64>,
    #[serde(deserialize_with = "values::odds")]
    pub(crate) flags: Option<f64>,
    #[serde(deserialize_with = "values::odds")]
    pub(crate) stray: Option<f64>,
    #[serde(deserialize_with = "values::odds")]
    pub(crate) signature: Option<f64>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Slow {
    #[serde(deserialize_with = "values::span")]
    pub(crate) window: Option<Duration>,
    #[serde(deserialize_with = "values::slow_ports")]
    pub(crate) ports: Option<u32>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Block {
    #[serde(deserialize_with = "values::length")]
    pub(crate) duration: Option<Length>,
    #[serde(deserialize_with = "values::span")]
    pub(crate) unproven: Option<Duration>,
    #[serde(deserialize_with = "values::growth")]
    pub(crate) growth: Option<f64>,
    #[serde(deserialize_with = "values::length")]
    pub(crate) longest: Option<Length>,
    #[serde(deserialize_with = "values::span")]
    pub(crate) forgive: Option<Duration>,
    #[serde(deserialize_with = "values::jitter")]
    pub(crate) jitter: Option<f64>,
    pub(crate) observe: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Levels {
    #[serde(deserialize_with = "values::packets")]
    pub(crate) packets: Option<[u32; 5]>,
    #[serde(deserialize_with = "values::level")]
    pub(crate) watch: Option<u8>,
    #[serde(deserialize_with = "values::level")]
    pub(crate) block: Option<u8>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Sweep {
    #[serde(deserialize_with = "values::sweep_sources")]
    pub(crate) sources: Option<u32>,
    #[serde(deserialize_with = "values::ipv4_len")]
    pub(crate) ipv4: Option<u8>,
    #[serde(deserialize_with = "values::ipv6_lens")]
    pub(crate) ipv6: Option<Vec<u8>>,
    #[serde(deserialize_with = "values::span")]
    pub(crate) duration: Option<Duration>,
    pub(crate) most: Option<u32>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Brake {
    pub(crate) blocks: Option<u32>,
    #[serde(deserialize_with = "values::span")]
    pub(crate) pause: Option<Duration>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Vouch {
    #[serde(deserialize_with = "values::span")]
    pub(crate) duration: Option<Duration>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Memory {
    #[serde(deserialize_with = "values::sources")]
    pub(crate) sources: Option<u32>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Ignore {
    pub(crate) files: Vec<PathBuf>,
    pub(crate) networks: Option<Spanned<Vec<Network>>>,
}

/// A `[[rule]]`: to whom and what it applies, and what it does about it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) ports: Option<Ports>,
    #[serde(default, deserialize_with = "protocol")]
    pub(crate) proto: Option<Proto>,
    #[serde(default)]
    pub(crate) networks: Option<Vec<Network>>,
    #[serde(default)]
    pub(crate) convict: bool,
    #[serde(default)]
    pub(crate) ignore: bool,
    #[serde(default)]
    pub(crate) handshake: bool,
    #[serde(default, deserialize_with = "values::factor")]
    pub(crate) weight: Option<f64>,
    #[serde(default, deserialize_with = "values::factor")]
    pub(crate) threshold: Option<f64>,
}

fn protocol<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Proto>, D::Error> {
    match String::deserialize(deserializer)?.to_ascii_lowercase().as_str() {
        "tcp" => Ok(Some(Proto::Tcp)),
        "udp" => Ok(Some(Proto::Udp)),
        "sctp" => Ok(Some(Proto::Sctp)),
        _ => Err(serde::de::Error::custom("write \"tcp\", \"udp\" or \"sctp\"")),
    }
}

/// Why a policy file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// It cannot be read.
    #[error("cannot read {}: {source}", file.display())]
    Read {
        /// Which file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Something in it cannot be used.
    #[error("{}, line {line}, column {column}: {problem}", file.display())]
    Place {
        /// Which file.
        file: PathBuf,
        /// Which line, counted from 1.
        line: usize,
        /// Which character of it, counted from 1.
        column: usize,
        /// What is wrong and how to write it.
        problem: String,
    },
    /// Something in it contradicts something else.
    #[error("{}: {problem}", file.display())]
    Whole {
        /// Which file.
        file: PathBuf,
        /// What is wrong and how to write it.
        problem: String,
    },
}

impl File {
    /// Reads a file.
    pub(crate) fn read(path: &Path) -> Result<Self, PolicyError> {
        let file = || path.to_owned();
        let bytes = fs::read(path).map_err(|source| PolicyError::Read { file: file(), source })?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let valid = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
            let (line, column) = place(valid);
            PolicyError::Place { file: file(), line, column, problem: "it is not UTF-8".to_owned() }
        })?;
        Self::parse(path, &text)
    }

    /// Reads a text; `path` only names it.
    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self, PolicyError> {
        let refuse = |at: usize, problem| {
            let (line, column) = place(text.as_bytes().get(..at).unwrap_or_default());
            PolicyError::Place { file: path.to_owned(), line, column, problem }
        };
        let file: Self = toml::from_str(text).map_err(|error| {
            let problem = error.message().lines().collect::<Vec<_>>().join("; ");
            refuse(error.span().map_or(0, |span| span.start), problem)
        })?;
        file.check().map_err(|(at, problem)| refuse(at, problem))?;
        Ok(file)
    }
}

/// Line and column of what follows these bytes.
fn place(before: &[u8]) -> (usize, usize) {
    let lines = before.iter().filter(|&&byte| byte == b'\n').count();
    let start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    let column = String::from_utf8_lossy(before.get(start..).unwrap_or_default()).chars().count();
    (lines + 1, column + 1)
}
