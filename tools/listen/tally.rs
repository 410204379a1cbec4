//! How many came, and what was not noted or not held: the last line of a run.

/// Counters of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Connections accepted.
    pub(crate) connections: u64,
    /// Datagrams noted.
    pub(crate) datagrams: u64,
    /// Connections closed at once because as many were held as was asked for.
    pub(crate) turned_away: u64,
    /// Connections closed at once because fewer are held since descriptors ran out.
    pub(crate) crowded_out: u64,
    /// Datagrams to everybody, which are no probes.
    pub(crate) broadcasts: u64,
}

impl Tally {
    /// One sentence; `None` when nobody came.
    pub(crate) fn sentence(self) -> Option<String> {
        let parts: Vec<String> = [
            (self.connections, "connection", "connections"),
            (self.datagrams, "datagram", "datagrams"),
            (self.turned_away, "closed at once for --max-held", "closed at once for --max-held"),
            (
                self.crowded_out,
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
    fn what_is_nought_is_not_told() {
        assert_eq!(Tally::default().sentence(), None);
        let tally = Tally { connections: 1, broadcasts: 2, ..Tally::default() };
        assert_eq!(tally.sentence().unwrap(), "1 connection, 2 broadcasts ignored");
        let tally = Tally { connections: 9, datagrams: 1, turned_away: 3, ..Tally::default() };
        assert_eq!(tally.sentence().unwrap(), "9 connections, 1 datagram, 3 closed at once for --max-held");
        let tally = Tally { connections: 9, crowded_out: 3, ..Tally::default() };
        assert_eq!(tally.sentence().unwrap(), "9 connections, 3 closed at once for lack of descriptors");
    }
}
