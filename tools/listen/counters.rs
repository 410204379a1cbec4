//! What psentry-listen counts: for its `stats` records, and as the last line of a run.

use psentry_stage::counted;

use crate::recorder::RecordCounts;

/// Counters since the start. What became of contacts, [`RecordCounts`] count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    /// Connections accepted.
    pub(crate) connections: u64,
    /// Datagrams, but for broadcasts.
    pub(crate) datagrams: u64,
    /// Datagrams to a broadcast or multicast address, which are no probes.
    pub(crate) broadcasts: u64,
    /// Connections closed at once because as many were held as `--max-held` allows.
    pub(crate) over_limit: u64,
    /// Connections closed at once because fewer are held since descriptors ran out.
    pub(crate) no_descriptors: u64,
    /// Errors of accept(2) and recvmsg(2).
    pub(crate) errors: u64,
}

impl Counters {
    /// The counters as psentry-records(5) names them, in its order, with what became of the contacts; `open` connections are
    /// held now.
    pub(crate) fn named(self, became: RecordCounts, open: u64) -> [(&'static str, u64); 14] {
        [
            ("connections", self.connections),
            ("datagrams", self.datagrams),
            ("probes", became.probes),
            ("duplicates", became.duplicates),
            ("over_source_rate", became.over_source_rate),
            ("over_rate", became.over_rate),
            ("broadcasts", self.broadcasts),
            ("over_limit", self.over_limit),
            ("no_descriptors", self.no_descriptors),
            ("errors", self.errors),
            ("dedup_evicted", became.dedup_evicted),
            ("lost", became.lost),
            ("pending", became.pending),
            ("open", open),
        ]
    }

    /// The last line of a run: what came and what was written of it, then what else there was, if anything.
    pub(crate) fn summary(self, became: RecordCounts) -> String {
        let closed = "closed at once for";
        let mut parts = vec![
            counted(self.connections, "connection", "connections"),
            counted(self.datagrams, "datagram", "datagrams"),
            counted(became.probes, "probe", "probes"),
        ];
        for (count, what) in [
            (became.over_source_rate, "beyond --source-rate".to_owned()),
            (became.over_rate, "beyond --rate".to_owned()),
            (self.over_limit, format!("{closed} --max-held")),
            (self.no_descriptors, format!("{closed} lack of descriptors")),
        ] {
            parts.extend((count > 0).then(|| format!("{count} {what}")));
        }
        let broadcasts = counted(self.broadcasts, "broadcast", "broadcasts");
        parts.extend((self.broadcasts > 0).then(|| format!("{broadcasts} ignored")));
        format!("ended: {}", parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_leaves_out_what_was_not_lost() {
        let none = Counters::default().summary(RecordCounts::default());
        assert_eq!(none, "ended: 0 connections, 0 datagrams, 0 probes");
        let counters = Counters { connections: 1, broadcasts: 2, ..Counters::default() };
        let summary = counters.summary(RecordCounts { probes: 1, ..RecordCounts::default() });
        assert_eq!(summary, "ended: 1 connection, 0 datagrams, 1 probe, 2 broadcasts ignored");
        let counters = Counters { connections: 9, datagrams: 1, over_limit: 3, ..Counters::default() };
        let became = RecordCounts { probes: 7, over_source_rate: 2, over_rate: 1, ..RecordCounts::default() };
        assert_eq!(
            counters.summary(became),
            "ended: 9 connections, 1 datagram, 7 probes, 2 beyond --source-rate, 1 beyond --rate, \
             3 closed at once for --max-held"
        );
        let counters = Counters { no_descriptors: 3, ..Counters::default() };
        assert!(counters.summary(became).ends_with(", 3 closed at once for lack of descriptors"));
    }
}
