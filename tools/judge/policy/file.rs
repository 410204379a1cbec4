//! The policy file: TOML, in which every key may be missing and none may be unknown. An error names file, line and
//! column.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use psentry_ports::PortsFileError;
use psentry_records::IgnoreError;
use serde::Deserialize;
use toml::Spanned;

use super::defaults as d;
use super::rule::NamedRule;
use super::sections::{
    BlockPolicy, BrakePolicy, InsidePolicy, LevelPolicy, Odds, SlowPolicy, SweepPolicy, span,
};
use super::values::{self, Groups, NetworkList};

/// All that a file can say. The tables that are only read to work the policy out are below, the others in
/// `sections.rs`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct File {
    pub(super) test: TestSection,
    pub(super) evidence: Odds,
    pub(super) slow: SlowPolicy,
    pub(super) block: BlockPolicy,
    pub(super) levels: LevelPolicy,
    pub(super) sweep: SweepPolicy,
    pub(super) inside: InsidePolicy,
    pub(super) brake: BrakePolicy,
    pub(super) vouch: VouchSection,
    pub(super) memory: MemorySection,
    pub(super) ignore: IgnoreSection,
    pub(super) groups: Groups,
    pub(super) rule: Vec<Spanned<NamedRule>>,
}

/// `[test]`: the sequential test, or a trigger in its place.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct TestSection {
    /// It knows its place, as `beta` does, because the two are compared.
    #[serde(deserialize_with = "values::placed_probability")]
    pub(super) alpha: Spanned<f64>,
    #[serde(deserialize_with = "values::placed_probability")]
    pub(super) beta: Spanned<f64>,
    #[serde(deserialize_with = "values::probability")]
    pub(super) theta1: f64,
    #[serde(deserialize_with = "values::span")]
    pub(super) window: Duration,
    #[serde(deserialize_with = "values::trigger")]
    pub(super) trigger: Option<u32>,
    #[serde(deserialize_with = "values::touches")]
    pub(super) touches: u32,
}

impl Default for TestSection {
    fn default() -> Self {
        let unwritten = |value| Spanned::new(0..0, value);
        TestSection {
            alpha: unwritten(d::ALPHA),
            beta: unwritten(d::BETA),
            theta1: d::THETA1,
            window: span(d::WINDOW),
            trigger: None,
            touches: d::TOUCHES,
        }
    }
}

/// `[vouch]`: what a login is worth.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct VouchSection {
    #[serde(deserialize_with = "values::span")]
    pub(super) duration: Duration,
}

impl Default for VouchSection {
    fn default() -> Self {
        VouchSection { duration: span(d::VOUCH) }
    }
}

/// `[memory]`: how many sources are remembered.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct MemorySection {
    #[serde(deserialize_with = "values::sources")]
    pub(super) sources: u32,
}

impl Default for MemorySection {
    fn default() -> Self {
        MemorySection { sources: d::MAX_SOURCES }
    }
}

/// `[ignore]`: who is never judged.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct IgnoreSection {
    pub(super) files: Vec<PathBuf>,
    pub(super) networks: Option<Spanned<NetworkList>>,
}

/// Why a policy cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// An ignore file is unreadable or wrong.
    #[error("--ignore: {0}")]
    Ignore(#[from] IgnoreError),
    /// The table of ports is unreadable or wrong.
    #[error(transparent)]
    Ports(#[from] PortsFileError),
    /// The file cannot be read.
    #[error("--policy: cannot read {}: {source}", file.display())]
    Read {
        /// The file, as the flag names it.
        file: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Something in it cannot be used, or contradicts something else.
    #[error("--policy: {}, line {line}, column {column}: {problem}", file.display())]
    Place {
        /// The file, as the flag names it.
        file: PathBuf,
        /// Which line, counted from 1.
        line: usize,
        /// Which character of it, counted from 1.
        column: usize,
        /// What is wrong and how to write it.
        problem: String,
    },
}

/// The text of a policy and where it came from: from these an error's line and column are worked out.
#[derive(Default)]
pub(super) struct Text {
    path: PathBuf,
    text: String,
}

impl Text {
    /// A text; `path` only names it.
    pub(super) fn new(path: &Path, text: &str) -> Self {
        Text { path: path.to_owned(), text: text.to_owned() }
    }

    pub(super) fn read(path: &Path) -> Result<Self, PolicyError> {
        let bytes = fs::read(path).map_err(|source| PolicyError::Read { file: path.to_owned(), source })?;
        String::from_utf8(bytes).map(|text| Text { path: path.to_owned(), text }).map_err(|error| {
            let valid = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
            let valid = String::from_utf8_lossy(valid);
            Text::new(path, &valid).refuse(valid.len(), "it is not UTF-8".to_owned())
        })
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.text.into_bytes()
    }

    pub(super) fn parse(&self) -> Result<File, PolicyError> {
        toml::from_str(&self.text).map_err(|error| {
            let problem = error.message().lines().collect::<Vec<_>>().join("; ");
            self.refuse(error.span().map_or(0, |span| span.start), problem)
        })
    }

    /// The error about what is at that byte.
    pub(super) fn refuse(&self, at: usize, problem: String) -> PolicyError {
        let before = self.text.as_bytes().get(..at).unwrap_or_default();
        let lines = before.iter().filter(|&&byte| byte == b'\n').count();
        let start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        let column = String::from_utf8_lossy(before.get(start..).unwrap_or_default()).chars().count();
        PolicyError::Place { file: self.path.clone(), line: lines + 1, column: column + 1, problem }
    }
}
