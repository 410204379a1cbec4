//! The counters of both halves: what the rules counted in the kernel, and what the worker counted. psentry-trap(8) says
//! what each means; here are the names that they have in a `stats` record.

use psentry_stage::counted;

/// Packets that the rules counted since the start, or since they were read last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct KernelCounters {
    /// Packets that were logged.
    pub(crate) logged: u64,
    /// Packets that were not, because their source was beyond `--source-rate`.
    pub(crate) over_source_rate: u64,
    /// Packets that were not, because all sources together were beyond `--rate`.
    pub(crate) over_rate: u64,
    /// Packets that put their source into quarantine, or renewed its quarantine.
    pub(crate) quarantined: u64,
    /// Packets that did so for two seconds only, because there was no room for longer.
    pub(crate) quarantined_briefly: u64,
    /// Packets that should have, and found no room for that either.
    pub(crate) quarantine_full: u64,
    /// Packets that put a /56 or a /48 of IPv6 into quarantine, or renewed that.
    pub(crate) quarantined_wider: u64,
    /// Packets that did not pass.
    pub(crate) refused: u64,
    /// Packets that were taken for chatter.
    pub(crate) chatter: u64,
    /// Packets to hidden ports of whoever is not vouched for.
    pub(crate) hidden: u64,
    /// SYNs that were dropped at veiled ports, each for the first time.
    pub(crate) veil_dropped: u64,
    /// The same SYNs again, sooner than a kernel sends them.
    pub(crate) veil_early: u64,
    /// SYNs that the veil let through, as the same again or as later ones.
    pub(crate) veil_passed: u64,
    /// SYNs that it let through since there was no room to remember them.
    pub(crate) veil_full: u64,
    /// Packets of sources that are to be familiar, and found no room.
    pub(crate) familiar_full: u64,
}

impl KernelCounters {
    /// Reads nft's list of counters: `counter NAME {`, and on a line of its own `packets N bytes N`. `None` where the
    /// list has none of ours.
    pub(crate) fn parse(listing: &str) -> Option<Self> {
        let mut counters = KernelCounters::default();
        let mut found = false;
        let mut words = listing.split_whitespace();
        let mut name = None;
        while let Some(word) = words.next() {
            match (word, name) {
                ("counter", _) => name = words.next(),
                ("packets", Some(counter_name)) => {
                    let packets = words.next().and_then(|number| number.parse().ok());
                    if let (Some(counter), Some(packets)) = (counters.by_name(counter_name), packets) {
                        *counter = packets;
                        found = true;
                    }
                    name = None;
                }
                _ => {}
            }
        }
        found.then_some(counters)
    }

    /// Packets that were logged, or would have been but for the rates.
    fn seen(&self) -> u64 {
        self.logged.saturating_add(self.over_source_rate).saturating_add(self.over_rate)
    }

    /// The counter that has this name in `ruleset.nft`, which is its name in a record, too.
    fn by_name(&mut self, name: &str) -> Option<&mut u64> {
        Some(match name {
            "logged" => &mut self.logged,
            "over_source_rate" => &mut self.over_source_rate,
            "over_rate" => &mut self.over_rate,
            "quarantined" => &mut self.quarantined,
            "quarantined_briefly" => &mut self.quarantined_briefly,
            "quarantine_full" => &mut self.quarantine_full,
            "quarantined_wider" => &mut self.quarantined_wider,
            "refused" => &mut self.refused,
            "chatter" => &mut self.chatter,
            "hidden" => &mut self.hidden,
            "veil_dropped" => &mut self.veil_dropped,
            "veil_early" => &mut self.veil_early,
            "veil_passed" => &mut self.veil_passed,
            "veil_full" => &mut self.veil_full,
            "familiar_full" => &mut self.familiar_full,
            _ => return None,
        })
    }

    /// The sum of two periods.
    pub(crate) fn plus(self, later: KernelCounters) -> KernelCounters {
        KernelCounters {
            logged: self.logged.saturating_add(later.logged),
            over_source_rate: self.over_source_rate.saturating_add(later.over_source_rate),
            over_rate: self.over_rate.saturating_add(later.over_rate),
            quarantined: self.quarantined.saturating_add(later.quarantined),
            quarantined_briefly: self.quarantined_briefly.saturating_add(later.quarantined_briefly),
            quarantine_full: self.quarantine_full.saturating_add(later.quarantine_full),
            quarantined_wider: self.quarantined_wider.saturating_add(later.quarantined_wider),
            refused: self.refused.saturating_add(later.refused),
            chatter: self.chatter.saturating_add(later.chatter),
            hidden: self.hidden.saturating_add(later.hidden),
            veil_dropped: self.veil_dropped.saturating_add(later.veil_dropped),
            veil_early: self.veil_early.saturating_add(later.veil_early),
            veil_passed: self.veil_passed.saturating_add(later.veil_passed),
            veil_full: self.veil_full.saturating_add(later.veil_full),
            familiar_full: self.familiar_full.saturating_add(later.familiar_full),
        }
    }

    /// Each with its name in a `stats` record, in the order in which they are written.
    pub(crate) fn named(&self) -> [(&'static str, u64); 16] {
        [
            ("seen", self.seen()),
            ("logged", self.logged),
            ("over_source_rate", self.over_source_rate),
            ("over_rate", self.over_rate),
            ("quarantined", self.quarantined),
            ("quarantined_briefly", self.quarantined_briefly),
            ("quarantine_full", self.quarantine_full),
            ("quarantined_wider", self.quarantined_wider),
            ("refused", self.refused),
            ("chatter", self.chatter),
            ("hidden", self.hidden),
            ("veil_dropped", self.veil_dropped),
            ("veil_early", self.veil_early),
            ("veil_passed", self.veil_passed),
            ("veil_full", self.veil_full),
            ("familiar_full", self.familiar_full),
        ]
    }

    /// The sentence that psentry-trap ends with.
    pub(crate) fn summary(&self) -> String {
        let unlogged = self.over_source_rate.saturating_add(self.over_rate);
        let packets = |count| counted(count, "packet", "packets");
        format!(
            "ended: {} seen, {unlogged} of them beyond --source-rate or --rate; {} put a source into quarantine or renewed that; \
             {} refused, {} of chatter",
            packets(self.seen()),
            packets(self.quarantined.saturating_add(self.quarantined_briefly)),
            packets(self.refused),
            packets(self.chatter)
        )
    }
}

/// What the worker counts. `received` is the sum of `probes`, `duplicates`, `decoy_packets`, `veil_packets`, `unreadable`
/// and `pending`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct WorkerCounters {
    /// Packets that came from the kernel.
    pub(crate) received: u64,
    /// Packets that the kernel logged, and dropped because they came faster than the worker read.
    pub(crate) kernel_drops: u64,
    /// Probes that were written.
    pub(crate) probes: u64,
    /// Packets that are no probe of their own, since another record counts them.
    pub(crate) duplicates: u64,
    /// Packets of handshakes with decoys.
    pub(crate) decoy_packets: u64,
    /// SYNs that were dropped at veiled ports and came again, and SYNs that the veil let through.
    pub(crate) veil_packets: u64,
    /// Packets whose IP header cannot be read.
    pub(crate) unreadable: u64,
    /// Windows of the deduplication that ended early because there was no room.
    pub(crate) dedup_evicted: u64,
    /// SYNs to decoys and to veiled ports of which it is unknown whether a second packet followed.
    pub(crate) half_open_evicted: u64,
    /// Records that a full disk behind standard output did not take.
    pub(crate) lost: u64,
    /// Packets of which it is not known yet what they count as: a SYN that waits for its handshake, and one of the
    /// repeats of each window, which becomes a probe.
    pub(crate) pending: u64,
}

impl WorkerCounters {
    /// These counters without what may still become a probe: a counter in a record never falls, or else a reader would
    /// take it for a new start.
    pub(crate) fn settled(self, decoy_syns: u64, veiled_syns: u64, repeating_windows: u64) -> Self {
        WorkerCounters {
            decoy_packets: self.decoy_packets.saturating_sub(decoy_syns),
            veil_packets: self.veil_packets.saturating_sub(veiled_syns),
            duplicates: self.duplicates.saturating_sub(repeating_windows),
            pending: decoy_syns.saturating_add(veiled_syns).saturating_add(repeating_windows),
            ..self
        }
    }

    /// Each with its name in a `stats` record, in the order in which they are written.
    pub(crate) fn named(&self) -> [(&'static str, u64); 11] {
        [
            ("received", self.received),
            ("kernel_drops", self.kernel_drops),
            ("probes", self.probes),
            ("duplicates", self.duplicates),
            ("decoy_packets", self.decoy_packets),
            ("veil_packets", self.veil_packets),
            ("unreadable", self.unreadable),
            ("dedup_evicted", self.dedup_evicted),
            ("half_open_evicted", self.half_open_evicted),
            ("lost", self.lost),
            ("pending", self.pending),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_of_nft_is_read() {
        let listing = "table inet psentry_trap {\n\tcounter over_rate {\n\t\tpackets 5 bytes 720\n\t}\n\
                       \tcounter logged { packets 7 bytes 0 }\n\tcounter quarantine_full {\n\t\tpackets many\n\t}\n\
                       \tcounter odd { packets 9 }\n}\n";
        let counters = KernelCounters::parse(listing).unwrap();
        assert_eq!(counters, KernelCounters { over_rate: 5, logged: 7, ..KernelCounters::default() });
        assert_eq!(counters.plus(counters).logged, 14);
        assert_eq!(
            KernelCounters { refused: 1, ..counters }.summary(),
            "ended: 12 packets seen, 5 of them beyond --source-rate or --rate; 0 packets put a source into quarantine or renewed \
             that; 1 packet refused, 0 packets of chatter"
        );
        assert_eq!(KernelCounters::parse(""), None);
    }

    /// Whoever adds a counter to the rules adds it here, too.
    #[test]
    fn every_counter_of_the_rules_has_a_name_in_the_record() {
        let rules = include_str!("ruleset.nft");
        let names = rules.lines().map(|line| line.rsplit('\t').next().unwrap_or(line));
        let names = names.filter_map(|line| line.strip_prefix("counter ")?.strip_suffix(" { }"));
        let listing: String = names.clone().map(|name| format!("counter {name} {{ packets 1 }} ")).collect();
        let counters = KernelCounters::parse(&listing).unwrap();
        // And one that is the sum of three.
        assert_eq!(names.count() + 1, counters.named().len());
        let value = |name| if name == "seen" { 3 } else { 1 };
        assert!(counters.named().iter().all(|(name, packets)| *packets == value(*name)), "{counters:?}");
    }

    #[test]
    fn no_two_counters_share_a_name() {
        let kernel = KernelCounters::default().named();
        let worker = WorkerCounters::default().named();
        let names: std::collections::BTreeSet<_> =
            kernel.iter().chain(&worker).map(|(name, _)| name).collect();
        assert_eq!(names.len(), kernel.len() + worker.len());
    }
}
