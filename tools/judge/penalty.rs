//! How dangerous a source is, and for how long it is blocked. The reasons are worded in `wording.rs`.

use std::time::Duration;

use psentry_records::{Prefix, Timestamp};

use crate::policy::{BlockDuration, BlockPolicy, LevelPolicy};

/// The level of a source: psad's by its packets, once it touched two different ports; a conviction raises it to 2, one
/// by handshakes to 3, and each further offence by one more.
#[must_use]
pub(crate) fn level(
    policy: &LevelPolicy,
    packets: u32,
    distinct: usize,
    proven: Option<bool>,
    offences: u32,
) -> u8 {
    let reached = |&&least: &&u32| packets >= least;
    // Packets to one port are a client that tries again, however many they are.
    let by_packets = if distinct >= 2 { policy.packets.iter().take_while(reached).count() } else { 0 };
    let by_conviction = match proven {
        None => 0,
        Some(false) => 2,
        Some(true) => 3usize.saturating_add(offences.saturating_sub(1) as usize),
    };
    u8::try_from(by_packets.max(by_conviction).min(5)).unwrap_or(5)
}

/// For how long a source is blocked at its first, second, ... offence.
#[must_use]
pub(crate) fn block_duration(
    policy: &BlockPolicy,
    proven: bool,
    offence: u32,
    scope: Prefix,
    now: Timestamp,
) -> BlockDuration {
    if !proven {
        return vary(policy, BlockDuration::For(policy.unproven), scope, now);
    }
    let BlockDuration::For(first) = policy.duration else { return BlockDuration::Forever };
    // In seconds as a float: what is beyond the longest, or infinite, is cut off below.
    let grown = first.as_secs_f64()
        * policy.growth.powi(i32::try_from(offence.saturating_sub(1)).unwrap_or(i32::MAX));
    let most = match policy.longest {
        BlockDuration::For(most) => most.max(first),
        // Ten years, which is what a duration may be at most.
        BlockDuration::Forever => Duration::from_secs(10 * 366 * 86_400),
    };
    let grown = if grown >= most.as_secs_f64() { most } else { Duration::from_secs_f64(grown.max(1.0)) };
    vary(policy, BlockDuration::For(grown), scope, now)
}

/// A duration, varied by as much as the policy says: by a hash of whom and when, so that the same records give the
/// same verdicts.
fn vary(policy: &BlockPolicy, duration: BlockDuration, scope: Prefix, now: Timestamp) -> BlockDuration {
    let BlockDuration::For(span) = duration else { return duration };
    if policy.jitter <= 0.0 {
        return BlockDuration::For(Duration::from_secs(span.as_secs().max(1)));
    }
    let text = format!("{scope} {}", now.micros());
    // FNV-1a, and splitmix64's last step, for even bits.
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    #[allow(clippy::cast_precision_loss)] // 53 bits
    let unit = ((hash ^ (hash >> 31)) >> 11) as f64 / (1u64 << 53) as f64;
    let varied = span.as_secs_f64() * (1.0 + policy.jitter * (2.0 * unit - 1.0));
    BlockDuration::For(Duration::from_secs(Duration::from_secs_f64(varied).as_secs().max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::defaults;

    fn blocks() -> BlockPolicy {
        let hours = |hours: u64| Duration::from_secs(hours * 3600);
        BlockPolicy {
            duration: BlockDuration::For(hours(1)),
            unproven: Duration::from_secs(60),
            growth: 2.0,
            longest: BlockDuration::For(hours(168)),
            forgive: hours(720),
            jitter: 0.0,
            observe: false,
        }
    }

    fn lasts(policy: &BlockPolicy, proven: bool, offence: u32) -> u64 {
        let now = Timestamp::from_secs(1_700_000_000).unwrap();
        match block_duration(policy, proven, offence, "192.0.2.7".parse().unwrap(), now) {
            BlockDuration::For(span) => span.as_secs(),
            BlockDuration::Forever => u64::MAX,
        }
    }

    #[test]
    fn each_offence_is_blocked_longer_up_to_the_longest() {
        let policy = blocks();
        let hours: Vec<u64> = (1..=9).map(|offence| lasts(&policy, true, offence) / 3600).collect();
        assert_eq!(hours, [1, 2, 4, 8, 16, 32, 64, 128, 168]);
        assert_eq!(lasts(&policy, true, u32::MAX), 168 * 3600);
        assert_eq!(lasts(&policy, false, 9), 60, "what could be forged does not grow");
        assert_eq!(lasts(&BlockPolicy { duration: BlockDuration::Forever, ..policy }, true, 1), u64::MAX);
        let long = BlockPolicy { duration: BlockDuration::For(Duration::from_secs(30 * 86_400)), ..policy };
        assert_eq!(lasts(&long, true, 3), 30 * 86_400, "nothing is shortened");
    }

    #[test]
    fn jitter_varies_by_as_much_as_it_says_and_always_alike() {
        let policy = BlockPolicy { jitter: 0.25, ..blocks() };
        let now = |n: u64| Timestamp::from_secs(1_700_000_000 + n).unwrap();
        let scope = "192.0.2.7".parse().unwrap();
        let all: Vec<BlockDuration> =
            (0..200).map(|n| block_duration(&policy, true, 1, scope, now(n))).collect();
        let again: Vec<BlockDuration> =
            (0..200).map(|n| block_duration(&policy, true, 1, scope, now(n))).collect();
        assert_eq!(all, again);
        let secs: Vec<u64> = all
            .iter()
            .map(|one| if let BlockDuration::For(span) = one { span.as_secs() } else { 0 })
            .collect();
        assert!(secs.iter().all(|secs| (2700..=4500).contains(secs)), "{secs:?}");
        assert!(secs.iter().any(|&secs| secs < 3000) && secs.iter().any(|&secs| secs > 4200), "{secs:?}");
    }

    #[test]
    fn levels_are_psad_s_and_convictions_raise_them() {
        let policy = LevelPolicy { packets: defaults::PACKETS, watch: 0, block: 0 };
        for (packets, distinct, proven, offences, want) in [
            (4, 2, None, 0, 0),
            (5, 2, None, 0, 1),
            (10_000, 1, None, 0, 0),
            (15, 2, None, 0, 2),
            (150, 9, None, 0, 3),
            (1500, 9, None, 0, 4),
            (10_000, 9, None, 0, 5),
            (2, 2, Some(false), 0, 2),
            (2, 2, Some(true), 1, 3),
            (2, 2, Some(true), 2, 4),
            (2, 2, Some(true), 90, 5),
            (1500, 2, Some(true), 1, 4),
        ] {
            assert_eq!(level(&policy, packets, distinct, proven, offences), want, "{packets} {proven:?}");
        }
    }
}
