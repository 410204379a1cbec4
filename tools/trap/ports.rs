//! Sets of ports as nftables takes them: ranges that do not touch.

use std::fmt;
use std::ops::RangeInclusive;

use psentry_stage::{PortsError, parse_ports};

/// A set of ports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ranges(
    /// First and last of each, sorted, with a gap between neighbours.
    Vec<(u16, u16)>,
);

/// The ports of a list such as `21,23,445,8000-8010`.
pub(crate) fn parse(list: &str) -> Result<Ranges, PortsError> {
    Ok(Ranges::of(parse_ports(list)?.into_iter().map(RangeInclusive::into_inner).collect()))
}

impl Ranges {
    /// The ports of these ranges, first and last of each.
    pub(crate) fn of(mut ranges: Vec<(u16, u16)>) -> Self {
        ranges.sort_unstable();
        let mut merged: Vec<(u16, u16)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match merged.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
                _ => merged.push((first, last)),
            }
        }
        Ranges(merged)
    }

    /// With those of `other`, too.
    pub(crate) fn add(&mut self, other: &Ranges) {
        let all = self.0.iter().chain(&other.0).copied().collect();
        *self = Self::of(all);
    }

    /// All ports from 1 on that are not in it.
    pub(crate) fn others(&self) -> Ranges {
        let mut next = Some(1);
        let mut gaps = Vec::new();
        for &(first, last) in &self.0 {
            if let (Some(from), Some(to)) = (next, first.checked_sub(1))
                && from <= to
            {
                gaps.push((from, to));
            }
            next = last.checked_add(1);
        }
        gaps.extend(next.map(|from| (from, u16::MAX)));
        Ranges(gaps)
    }

    /// Whether this port is one of them.
    pub(crate) fn holds(&self, port: u16) -> bool {
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&port))
    }

    /// Whether no port is left out.
    pub(crate) fn hold_all(&self) -> bool {
        self.others().0.is_empty()
    }

    /// First and last of each range.
    pub(crate) fn list(&self) -> &[(u16, u16)] {
        &self.0
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many ports these are.
    pub(crate) fn count(&self) -> u64 {
        self.0.iter().map(|(first, last)| u64::from(last - first) + 1).sum()
    }
}

/// As a flag has it: `21,8000-8010`.
impl fmt::Display for Ranges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (first, last)) in self.0.iter().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            match first == last {
                true => write!(f, "{comma}{first}")?,
                false => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ports_and_ranges_are_read_and_merged() {
        assert_eq!(parse("445, 21,22,8000-8010,8005-8011").unwrap().0, [(21, 22), (445, 445), (8000, 8011)]);
        assert!(parse("1-65535").unwrap().hold_all());
    }

    proptest! {
        #[test]
        fn a_port_is_in_a_list_or_among_the_others(list in "[1-9]{1,4}(-6[0-9]{4})?(,[1-9]{1,4}){0,5}", port in 1..=u16::MAX) {
            if let Ok(ranges) = parse(&list) {
                let holds = |ranges: &Ranges| ranges.0.iter().any(|&(first, last)| (first..=last).contains(&port));
                prop_assert!(holds(&ranges) != holds(&ranges.others()));
                prop_assert_eq!(ranges.others().others(), ranges);
            }
        }
    }
}
