//! How many records a second are written, of one source and of all. A pure decision: the moment is given.
//!
//! Connections and datagrams have a limit each: datagrams, whoever they claim to come from, keep no connection from being
//! recorded, and so the evidence against nobody smaller.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// What the limits count within.
const SECOND: Duration = Duration::from_secs(1);

/// The limits, and what was let through in this second.
#[derive(Debug)]
pub(crate) struct RateLimit {
    rate: u32,
    source_rate: u32,
    began: Instant,
    admitted: u32,
    /// How many of each source. It is emptied each second, and so holds no more sources than `rate` lets through in one.
    sources: HashMap<IpAddr, u32>,
}

/// Why a record is not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Excess {
    /// Its source has had as many in this second as `--source-rate` allows.
    OfSource,
    /// All sources together have had as many as `--rate` allows.
    OfAll,
}

impl RateLimit {
    /// At most `rate` a second, and `source_rate` of one source. The first second begins at `now`.
    pub(crate) fn new(rate: u32, source_rate: u32, now: Instant) -> Self {
        RateLimit { rate, source_rate, began: now, admitted: 0, sources: HashMap::new() }
    }

    /// Lets a record of `source` through.
    ///
    /// # Errors
    /// Which limit it is beyond. Then nothing is counted.
    pub(crate) fn admit(&mut self, now: Instant, source: IpAddr) -> Result<(), Excess> {
        if now.saturating_duration_since(self.began) >= SECOND {
            (self.began, self.admitted) = (now, 0);
            self.sources.clear();
        }
        let source = counted_as(source);
        let of_source = self.sources.get(&source).copied().unwrap_or(0);
        if of_source >= self.source_rate {
            return Err(Excess::OfSource);
        }
        if self.admitted >= self.rate {
            return Err(Excess::OfAll);
        }
        self.admitted += 1;
        self.sources.insert(source, of_source + 1);
        Ok(())
    }
}

/// An IPv6 source is its /64: nobody is given less.
fn counted_as(source: IpAddr) -> IpAddr {
    match source {
        IpAddr::V6(addr) => Ipv6Addr::from_bits(addr.to_bits() & (u128::MAX << 64)).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_second_has_its_own_and_a_source_does_not_use_up_what_all_may_have() {
        let start = Instant::now();
        let mut limit = RateLimit::new(5, 2, start);
        let [a, b, c, d] = [1, 2, 3, 4].map(|last| IpAddr::from([192, 0, 2, last]));
        let said = [a, a, a, b, b, b, c, c, a, d].map(|source| limit.admit(start, source));
        let (of_source, of_all) = (Err(Excess::OfSource), Err(Excess::OfAll));
        let (ok, mut want) = (Ok(()), [Ok(()); 10]);
        for (at, excess) in [(2, of_source), (5, of_source), (7, of_all), (8, of_source), (9, of_all)] {
            want[at] = excess;
        }
        assert_eq!(said, want);
        assert_eq!(limit.admit(start + SECOND, a), ok);
        assert_eq!(limit.admit(start + SECOND, d), ok);
    }

    #[test]
    fn whoever_changes_the_lower_half_of_an_ipv6_address_is_one_source() {
        let now = Instant::now();
        let mut limit = RateLimit::new(1000, 2, now);
        let said = ["2001:db8:7::1", "2001:db8:7::2", "2001:db8:7:0:ffff::3", "2001:db8:7:1::1"]
            .map(|source| limit.admit(now, source.parse().unwrap()));
        assert_eq!(said, [Ok(()), Ok(()), Err(Excess::OfSource), Ok(())]);
    }

    #[test]
    fn a_flood_of_sources_takes_no_more_memory_than_the_rate() {
        let start = Instant::now();
        let mut limit = RateLimit::new(100, 20, start);
        for n in 0..100_000u32 {
            let now = start + Duration::from_micros(u64::from(n) * 50);
            let _ = limit.admit(now, IpAddr::from((0xc612_0000 + n).to_be_bytes()));
            assert!(limit.sources.len() <= 100);
        }
    }
}
