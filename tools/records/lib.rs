//! The records of psentry's stream, as psentry-records(5) documents them: a sensor writes a [`Probe`], the judge
//! a [`Verdict`], the blocker an [`Outcome`], whoever saw a login a [`Vouch`], and each stage once a minute its counters,
//! [`Stats`]. One record is one line of JSON of at most [`MAX_LINE`] bytes.
//!
//! This crate reads records leniently ([`Reader`]) and writes them strictly ([`Writer`]). It decides nothing, and
//! opens nothing but the files of [`Ignore`]: bytes come from, and go to, whoever calls it.
//!
//! | file | what it holds |
//! |---|---|
//! | `record.rs` | [`Record`]: which kind a line is; parsing and encoding |
//! | `probe.rs`, `verdict.rs`, `outcome.rs`, `vouch.rs`, `stats.rs` | the five records |
//! | `common.rs` | the fields that all of them share |
//! | `address.rs`, `proto.rs`, `timestamp.rs` | the values that they are made of |
//! | `ignore.rs` | the addresses that every program is to leave alone: PortSentry's ignore file |
//! | `mark.rs` | the one word that two sensors exchange beside the stream |
//! | `lines.rs` | bytes into lines, bounded |
//! | `reader.rs`, `writer.rs` | the two ends of a pipe |

mod address;
mod common;
mod ignore;
mod lines;
mod mark;
mod outcome;
mod probe;
mod proto;
mod reader;
mod record;
mod stats;
mod timestamp;
mod verdict;
mod vouch;
mod writer;

pub use address::{Prefix, PrefixError, canonical};
pub use common::Common;
pub use ignore::{Ignore, IgnoreError};
pub use lines::{Line, Lines, READ_AHEAD};
pub use mark::DECOY_MARK;
pub use outcome::{Outcome, OutcomeBody, OutcomeResult};
pub use probe::{Class, Kind, Probe, ProbeBody};
pub use proto::Proto;
pub use reader::{Item, Reader};
pub use record::{Malformed, Record};
pub use stats::{Machine, Stats, StatsBody};
pub use timestamp::{Timestamp, TimestampError};
pub use verdict::{Action, Verdict, VerdictBody};
pub use vouch::{Vouch, VouchBody};
pub use writer::Writer;

/// The longest line, newline included: `PIPE_BUF` on Linux, so that lines of several writers into one FIFO never
/// mix (pipe(7)).
pub const MAX_LINE: usize = 4096;
