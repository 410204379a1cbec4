//! What the judge has done, in numbers; for the `stats` record and for Prometheus.

use serde::{Deserialize, Serialize};

/// The counters, since the state began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counters {
    /// Records read, of any type.
    pub records: u64,
    /// Probes among `records`.
    pub probes: u64,
    /// Lines that were no record.
    pub skipped: u64,
    /// Probes of sources that the policy ignores.
    pub ignored: u64,
    /// Probes that count nothing: a rule says so, or they may be answers.
    pub uncounted: u64,
    /// Probes and vouches that are older than the stream.
    pub late: u64,
    /// Jumps of the stream's time.
    pub jumps: u64,
    /// Vouches read, also those that had ended.
    pub vouches: u64,
    /// `block` verdicts, of sources and of prefixes.
    pub blocks: u64,
    /// `watch` verdicts, also those of the brake.
    pub watches: u64,
    /// `unblock` verdicts, each by a voucher.
    pub unblocks: u64,
    /// Blocks that a voucher turned down.
    pub vouched: u64,
    /// Blocks that the brake turned down.
    pub braked: u64,
    /// Prefixes that were blocked as a whole.
    pub sweeps: u64,
    /// Convictions that ended because their block was released.
    pub released: u64,
    /// Verdicts and outcomes of others, which were not passed on.
    pub rejected: u64,
}

impl Counters {
    /// Whether they can be counted on: what a file says may be anything.
    pub(crate) fn are_plausible(&self) -> bool {
        self.named().iter().all(|&(_, _, value)| value <= u64::MAX / 2)
    }

    /// Each with its name and what it counts.
    #[must_use]
    pub fn named(&self) -> [(&'static str, &'static str, u64); 16] {
        [
            ("records", "Records read, of any type", self.records),
            ("probes", "Probes among them", self.probes),
            ("skipped", "Lines of the input that were no record", self.skipped),
            ("ignored", "Probes of sources that are ignored", self.ignored),
            ("uncounted", "Probes that count nothing", self.uncounted),
            ("late", "Probes and vouches that came late", self.late),
            ("jumps", "Jumps of the time of the records", self.jumps),
            ("vouches", "Vouches read", self.vouches),
            ("blocks", "Verdicts that block", self.blocks),
            ("watches", "Verdicts that only watch", self.watches),
            ("unblocks", "Verdicts that unblock", self.unblocks),
            ("vouched", "Blocks that a voucher turned down", self.vouched),
            ("braked", "Blocks that the brake turned down", self.braked),
            ("sweeps", "Prefixes that were blocked as a whole", self.sweeps),
            ("released", "Convictions that ended because their block was released", self.released),
            ("rejected", "Verdicts and outcomes of others that were not passed on", self.rejected),
        ]
    }
}
