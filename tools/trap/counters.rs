//! What the rules counted, read from nft's listing.

use std::collections::BTreeMap;

/// Packets, by the name of their counter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters(BTreeMap<String, u64>);

impl Counters {
    /// Reads nft's list of counters: `counter NAME {`, and on a line of its own `packets N bytes N`.
    pub(crate) fn parse(listing: &str) -> Self {
        let mut counters = BTreeMap::new();
        let mut words = listing.split_whitespace();
        let mut name = None;
        while let Some(word) = words.next() {
            match (word, &name) {
                ("counter", _) => name = words.next().map(str::to_owned),
                ("packets", Some(_)) => {
                    let packets = words.next().and_then(|number| number.parse().ok());
                    counters.extend(name.take().zip(packets));
                }
                _ => {}
            }
        }
        Counters(counters)
    }

    /// One of them.
    pub(crate) fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// Each with the packets that were counted before.
    pub(crate) fn plus(&self, before: &Counters) -> Counters {
        let mut sum = before.clone();
        for (name, packets) in &self.0 {
            let held = sum.0.entry(name.clone()).or_default();
            *held = held.saturating_add(*packets);
        }
        sum
    }

    /// All of them.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(name, packets)| (name.as_str(), *packets))
    }

    /// Nothing was listed.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_of_nft_is_read() {
        let listing = "table inet psentry_trap {\n\tcounter seen {\n\t\tpackets 12 bytes 720\n\t}\n\
                       \tcounter told { packets 7 bytes 0 }\n\tcounter odd {\n\t\tpackets many\n\t}\n}\n";
        let counters = Counters::parse(listing);
        assert_eq!(counters.all().collect::<Vec<_>>(), [("seen", 12), ("told", 7)]);
        assert_eq!((counters.get("seen"), counters.get("full")), (12, 0));
        assert_eq!(counters.plus(&counters).get("told"), 14);
        assert!(Counters::parse("").is_empty());
    }
}
