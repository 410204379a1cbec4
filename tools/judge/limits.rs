//! Bounds on which several parts of the judge have to agree. They are no dials: what an administrator may change is in
//! `policy/defaults.rs`.

use std::time::Duration;

/// The largest `--trigger`, in different ports; so it bounds how many contacts of one source are remembered.
pub(crate) const MAX_TRIGGER: u32 = 100;

/// The largest `--max-sources`: a table of about a gigabyte.
pub(crate) const MAX_SOURCES: u32 = 10_000_000;

/// The largest number of networks that a brake counts: all of them are in one line of the state file.
pub(crate) const MAX_BRAKE: u32 = 10_000;

/// A record whose time lies further than this from the time of the stream comes from a wrong clock, or the stream's is
/// wrong. Sensors fall silent for days; and a wrong record within it does harm for days at most.
pub(crate) const CLOCK_JUMP: Duration = Duration::from_secs(7 * 86_400);

/// A record may be older than the stream by this much and nothing is wrong: sensors wait for a handshake or for the first
/// bytes, fold what is alike, and do not all write at once. What is older, and the next one too, comes from a clock that was
/// set back.
pub(crate) const LATENESS: Duration = Duration::from_secs(60);
