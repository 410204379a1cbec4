//! SYNs to decoys that no handshake follows: a half-open scan, of which the decoy's own socket never hears. Each SYN
//! waits a while for the ACK that would end its handshake.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use psentry_packet::Packet;
use psentry_records::Timestamp;

/// A client across the world, over a lossy link, answers within this.
const PATIENCE: Duration = Duration::from_secs(3);

/// How many SYNs wait at most. Beyond that the oldest is given up: nobody knows whether a handshake would follow.
const MOST: usize = 16_384;

/// Both ends of a connection.
type Ends = (IpAddr, u16, IpAddr, u16);

/// A SYN that waits.
struct Syn {
    end: Instant,
    time: Timestamp,
    packet: Packet,
}

/// SYNs that wait.
#[derive(Default)]
pub(crate) struct HalfOpen {
    waiting: HashMap<Ends, Syn>,
    /// In the order in which their time is over. One that was answered meanwhile is no longer in `waiting`, or waits
    /// there again until another moment.
    ends: VecDeque<(Instant, Ends)>,
    given_up: u64,
}

impl HalfOpen {
    /// A SYN. A second one of the same connection changes nothing.
    pub(crate) fn syn(&mut self, now: Instant, time: Timestamp, packet: Packet) {
        let Some(ends) = ends(&packet) else { return };
        if self.waiting.contains_key(&ends) {
            return;
        }
        while self.ends.len() >= MOST {
            let oldest = self.first();
            self.given_up = self.given_up.saturating_add(oldest.is_some().into());
        }
        let end = now + PATIENCE;
        self.waiting.insert(ends, Syn { end, time, packet });
        self.ends.push_back((end, ends));
    }

    /// An ACK: the handshake is complete, or never was one.
    pub(crate) fn ack(&mut self, packet: &Packet) {
        if let Some(ends) = ends(packet) {
            self.waiting.remove(&ends);
        }
    }

    /// The next SYN whose time is over.
    pub(crate) fn over(&mut self, now: Instant) -> Option<(Timestamp, Packet)> {
        loop {
            self.ends.front().filter(|(end, _)| *end <= now)?;
            if let Some(syn) = self.first() {
                return Some((syn.time, syn.packet));
            }
        }
    }

    /// Takes the first of the queue out, if it still waits.
    fn first(&mut self) -> Option<Syn> {
        let (end, ends) = self.ends.pop_front()?;
        self.waiting.get(&ends).filter(|syn| syn.end == end)?;
        self.waiting.remove(&ends)
    }

    /// When the next one's time is over.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.ends.front().map(|(end, _)| *end)
    }

    /// How many were given up for want of room.
    pub(crate) fn given_up(&self) -> u64 {
        self.given_up
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> u64 {
        self.waiting.len().try_into().unwrap_or(u64::MAX)
    }
}

fn ends(packet: &Packet) -> Option<Ends> {
    let (from, to) = packet.ports()?;
    Some((packet.source, from, packet.destination, to))
}

#[cfg(test)]
mod tests {
    use psentry_packet::Transport;

    use super::*;

    fn packet(from: u16) -> Packet {
        Packet {
            source: [203, 0, 113, 7].into(),
            destination: [198, 51, 100, 1].into(),
            ttl: 64,
            ip_id: None,
            dont_fragment: None,
            is_fragment: false,
            transport: Transport::Partial { protocol: 6, ports: Some((from, 23)) },
        }
    }

    #[test]
    fn only_a_syn_that_nothing_follows_is_told() {
        let (mut half_open, start, time) = (HalfOpen::default(), Instant::now(), Timestamp::now());
        for from in [1, 2, 1] {
            half_open.syn(start, time, packet(from));
        }
        half_open.ack(&packet(1));
        let later = start + Duration::from_secs(1);
        half_open.syn(later, time, packet(1));
        half_open.ack(&packet(3));
        assert_eq!(half_open.over(start), None);
        assert_eq!(half_open.over(start + PATIENCE), Some((time, packet(2))));
        assert_eq!(half_open.over(start + PATIENCE), None);
        assert_eq!(half_open.over(later + PATIENCE), Some((time, packet(1))));
        assert_eq!(half_open.over(later + PATIENCE), None);
    }

    #[test]
    fn memory_is_bounded_and_what_is_given_up_is_counted() {
        let (mut half_open, start, time) = (HalfOpen::default(), Instant::now(), Timestamp::now());
        for from in 0..=u16::MAX {
            half_open.syn(start, time, packet(from));
        }
        assert_eq!((half_open.ends.len(), half_open.waiting.len()), (MOST, MOST));
        assert_eq!(half_open.given_up(), 65_536 - MOST as u64);
    }
}
