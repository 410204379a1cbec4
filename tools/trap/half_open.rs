//! SYNs that no second packet follows, as of a half-open scan. A SYN to a decoy waits a while for the ACK that would end its
//! handshake: of a half-open one the decoy's own socket never hears. A SYN that was dropped at a veiled port waits until it is
//! sent again.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use psentry_packet::Packet;
use psentry_records::Timestamp;

/// How many SYNs wait at most. Beyond that the oldest is evicted, and is no probe: a second packet might have followed.
const CAPACITY: usize = 16_384;

/// A connection: source and port, destination and port.
type Connection = (IpAddr, u16, IpAddr, u16);

/// A SYN that nothing has followed yet.
struct Syn {
    deadline: Instant,
    time: Timestamp,
    packet: Packet,
}

/// The SYNs that wait for a second packet.
pub(crate) struct HalfOpen {
    timeout: Duration,
    waiting: HashMap<Connection, Syn>,
    /// In the order of their deadlines. A SYN that was answered meanwhile is no longer in `waiting`, or another SYN of
    /// the same connection waits there, with another deadline.
    deadlines: VecDeque<(Instant, Connection)>,
    evicted: u64,
}

impl HalfOpen {
    /// Each SYN waits for so long.
    pub(crate) fn new(timeout: Duration) -> Self {
        HalfOpen { timeout, waiting: HashMap::new(), deadlines: VecDeque::new(), evicted: 0 }
    }

    /// Takes a SYN. A second one of the same connection, a retransmission, changes nothing.
    pub(crate) fn syn(&mut self, now: Instant, time: Timestamp, packet: Packet) {
        let Some(connection) = connection(&packet) else { return };
        if self.waiting.contains_key(&connection) {
            return;
        }
        while self.deadlines.len() >= CAPACITY {
            let oldest = self.pop();
            self.evicted = self.evicted.saturating_add(oldest.is_some().into());
        }
        let deadline = now + self.timeout;
        self.waiting.insert(connection, Syn { deadline, time, packet });
        self.deadlines.push_back((deadline, connection));
    }

    /// Takes the second packet: of a connection of which no SYN waits it changes nothing.
    pub(crate) fn second(&mut self, packet: &Packet) {
        if let Some(connection) = connection(packet) {
            self.waiting.remove(&connection);
        }
    }

    /// The next SYN whose deadline has passed.
    pub(crate) fn expired(&mut self, now: Instant) -> Option<(Timestamp, Packet)> {
        loop {
            self.deadlines.front().filter(|(deadline, _)| *deadline <= now)?;
            if let Some(syn) = self.pop() {
                return Some((syn.time, syn.packet));
            }
        }
    }

    /// Takes the first of the queue out; `None` if it was answered.
    fn pop(&mut self) -> Option<Syn> {
        let (deadline, connection) = self.deadlines.pop_front()?;
        self.waiting.get(&connection).filter(|syn| syn.deadline == deadline)?;
        self.waiting.remove(&connection)
    }

    /// The next deadline.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.front().map(|(deadline, _)| *deadline)
    }

    /// How many were evicted because there was no room.
    pub(crate) fn evicted(&self) -> u64 {
        self.evicted
    }

    /// How many wait now.
    pub(crate) fn waiting(&self) -> u64 {
        self.waiting.len().try_into().unwrap_or(u64::MAX)
    }
}

fn connection(packet: &Packet) -> Option<Connection> {
    let (from, to) = packet.ports()?;
    Some((packet.source, from, packet.destination, to))
}

#[cfg(test)]
mod tests {
    use psentry_packet::Transport;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(3);

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
    fn only_a_syn_that_nothing_follows_is_a_probe() {
        let (mut half_open, start, time) = (HalfOpen::new(TIMEOUT), Instant::now(), Timestamp::now());
        for from in [1, 2, 1] {
            half_open.syn(start, time, packet(from));
        }
        half_open.second(&packet(1));
        let later = start + Duration::from_secs(1);
        half_open.syn(later, time, packet(1));
        half_open.second(&packet(3));
        assert_eq!(half_open.expired(start), None);
        assert_eq!(half_open.expired(start + TIMEOUT), Some((time, packet(2))));
        assert_eq!(half_open.expired(start + TIMEOUT), None);
        assert_eq!(half_open.expired(later + TIMEOUT), Some((time, packet(1))));
        assert_eq!(half_open.expired(later + TIMEOUT), None);
    }

    #[test]
    fn memory_is_bounded_and_what_is_evicted_is_counted() {
        let (mut half_open, start, time) = (HalfOpen::new(TIMEOUT), Instant::now(), Timestamp::now());
        for from in 0..=u16::MAX {
            half_open.syn(start, time, packet(from));
        }
        assert_eq!((half_open.deadlines.len(), half_open.waiting.len()), (CAPACITY, CAPACITY));
        assert_eq!(half_open.evicted(), 65_536 - CAPACITY as u64);
    }
}
