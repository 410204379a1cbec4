//! What psentry-listen counts: for its `stats` records, and as the last line of a run.

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    /// Connections accepted.
    pub(crate) connections: u64,
    /// Datagrams that became probes.
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
    /// The counters as psentry-records(5) names them, in its order. `probes` were written; `open` connections are held now.
    pub(crate) fn named(self, probes: u64, open: u64) -> [(&'static str, u64); 8] {
        [
            ("connections", self.connections),
            ("datagrams", self.datagrams),
            ("probes", probes),
            ("broadcasts", self.broadcasts),
            ("over_limit", self.over_limit),
            ("no_descriptors", self.no_descriptors),
            ("errors", self.errors),
            ("open", open),
        ]
    }

    /// One sentence of what is not zero; `None` when all is.
    pub(crate) fn summary(self) -> Option<String> {
        let parts: Vec<String> = [
            (self.connections, "connection", "connections"),
            (self.datagrams, "datagram", "datagrams"),
            (self.over_limit, "closed at once for --max-held", "closed at once for --max-held"),
            (
                self.no_descriptors,
                "closed at once for lack of descriptors",
                "closed at once for lack of descriptors",
            ),
            (self.broadcasts, "broadcast ignored", "broadcasts ignored"),
        ]
        .into_iter()
        .filter(|&(count, ..)| count > 0)
        .map(|(count, one, many)| format!("{count} {}", if count == 1 { one } else { many }))
        .collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_leaves_out_what_is_zero() {
        assert_eq!(Counters::default().summary(), None);
        let counters = Counters { connections: 1, broadcasts: 2, ..Counters::default() };
        assert_eq!(counters.summary().unwrap(), "1 connection, 2 broadcasts ignored");
        let counters = Counters { connections: 9, datagrams: 1, over_limit: 3, ..Counters::default() };
        assert_eq!(counters.summary().unwrap(), "9 connections, 1 datagram, 3 closed at once for --max-held");
        let counters = Counters { connections: 9, no_descriptors: 3, ..Counters::default() };
        assert_eq!(counters.summary().unwrap(), "9 connections, 3 closed at once for lack of descriptors");
    }
}
