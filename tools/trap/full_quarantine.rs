//! A flood from more sources than the quarantine has room for is reported when it begins and when it is over, however long
//! it lasts. The counters of the `stats` records have the rest.

use std::time::{Duration, Instant};

use crate::counters::KernelCounters;

/// It is over when for so long there was room for everybody.
const CALM: Duration = Duration::from_secs(10);

/// Whether the quarantine is full, and what it could not do since.
#[derive(Debug, Default)]
pub(crate) struct FullQuarantine {
    since: Option<Full>,
}

#[derive(Clone, Copy, Debug)]
struct Full {
    last: Instant,
    briefly: u64,
    refused: u64,
}

impl FullQuarantine {
    /// That it is full, in a sentence.
    pub(crate) fn trouble(&self) -> Option<&'static str> {
        self.since.map(|_| "the quarantine is full: whoever finds no room there is shut out for two seconds at most, and not listed")
    }

    /// Takes what the rules counted since the last time; returns what is to be said.
    pub(crate) fn update(&mut self, now: Instant, new: &KernelCounters) -> Option<String> {
        let (briefly, refused) = (new.quarantined_briefly, new.quarantine_full);
        if briefly > 0 || refused > 0 {
            let Some(full) = &mut self.since else {
                self.since = Some(Full { last: now, briefly, refused });
                return Some(format!(
                    "the quarantine is full: {briefly} packets put their source into quarantine for two seconds at most, \
                     {refused} were refused one by one; this is told again when it is over"
                ));
            };
            full.last = now;
            full.briefly = full.briefly.saturating_add(briefly);
            full.refused = full.refused.saturating_add(refused);
            return None;
        }
        let over = self.since.take_if(|full| now.saturating_duration_since(full.last) >= CALM)?;
        Some(format!(
            "the quarantine has room again: {} packets in all put their source into quarantine for two seconds at most, {} \
             were refused one by one",
            over.briefly, over.refused
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(quarantined_briefly: u64, quarantine_full: u64) -> KernelCounters {
        KernelCounters { quarantined: 9, quarantined_briefly, quarantine_full, ..KernelCounters::default() }
    }

    #[test]
    fn each_flood_has_one_line_at_its_begin_and_one_at_its_end() {
        let (mut full, start) = (FullQuarantine::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(full.update(start, &new(0, 0)), None);
        assert!(full.update(at(10), &new(7, 0)).unwrap().starts_with("the quarantine is full: 7 packets"));
        assert!(full.trouble().is_some());
        assert_eq!(full.update(at(20), &new(5, 3)), None);
        // Somebody changed a route, and it was looked at early.
        assert_eq!(full.update(at(21), &new(0, 0)), None);
        let over = full.update(at(30), &new(0, 0)).unwrap();
        assert!(over.contains("room again: 12 packets") && over.contains(" 3 were refused"), "{over}");
        assert_eq!((full.update(at(40), &new(0, 0)), full.trouble()), (None, None));
        assert!(full.update(at(50), &new(0, 1)).unwrap().contains(" 1 were refused"), "a new flood");
    }
}
