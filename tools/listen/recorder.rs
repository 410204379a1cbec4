//! Which contacts become records, and when. The first of alike ones is written at once, for the judge is in a hurry; the
//! others of the same second are folded into one record with their `count`. What differs in anything but the time and the
//! source's port is never folded, and no completed handshake into what has none.
//!
//! Beyond the rates (`rate_limit.rs`) a first contact is counted and not written. What is folded costs nothing of them: one
//! port that is asked again and again keeps no other from being recorded.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use psentry_records::{Common, Record, Stats, StatsBody, Timestamp, canonical};
use psentry_stage::Dedup;

use crate::probe::{Contact, Transport};
use crate::rate_limit::{Excess, RateLimit};

/// For how long alike contacts are one.
const DEDUP_WINDOW: Duration = Duration::from_secs(1);

/// How many different ones are remembered for that: more than the default of `--rate` lets through, twice.
const DEDUP_CAPACITY: usize = 32_768;

/// What makes contacts alike.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Alike {
    source: IpAddr,
    dest: SocketAddr,
    transport: Transport,
    mirage: bool,
    bytes: Box<[u8]>,
}

/// Writes records in the name of this machine.
pub(crate) struct Recorder<W> {
    host: Option<String>,
    write: W,
    dedup: Dedup<Alike, (Contact, Box<[u8]>)>,
    connections: RateLimit,
    datagrams: RateLimit,
    counts: RecordCounts,
}

/// What became of contacts: each is in one of the first four, but for what `pending` counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RecordCounts {
    /// Probes that were written.
    pub(crate) probes: u64,
    /// Contacts that the `count` of another one's probe counts.
    pub(crate) duplicates: u64,
    /// Contacts without a probe, beyond `--source-rate`.
    pub(crate) over_source_rate: u64,
    /// Contacts without a probe, beyond `--rate`.
    pub(crate) over_rate: u64,
    /// Seconds of alike contacts that ended early because there was no room.
    pub(crate) dedup_evicted: u64,
    /// Records that a full disk did not take.
    pub(crate) lost: u64,
    /// Of the repeats of each second that is not over yet the one that becomes a probe.
    pub(crate) pending: u64,
}

impl<W: FnMut(&Record) -> io::Result<u64>> Recorder<W> {
    /// Records of the machine `host`, through `write`, which returns how many of its records were lost so far. At most
    /// `rate` connections and as many datagrams a second are recorded, and `source_rate` of each of one source.
    pub(crate) fn new(host: Option<String>, rate: u32, source_rate: u32, write: W) -> Self {
        let limit = || RateLimit::new(rate, source_rate, Instant::now());
        Recorder {
            host,
            write,
            dedup: Dedup::new(DEDUP_WINDOW, DEDUP_CAPACITY),
            connections: limit(),
            datagrams: limit(),
            counts: RecordCounts::default(),
        }
    }

    /// Writes the probe of a contact with the first bytes that were sent, or counts it.
    ///
    /// # Errors
    /// What `write` returns.
    pub(crate) fn record(&mut self, now: Instant, contact: &Contact, bytes: &[u8]) -> io::Result<()> {
        let Contact { source, dest, transport, mirage, .. } = *contact;
        let source = canonical(source.ip());
        let alike = Alike { source, dest, transport, mirage, bytes: bytes.into() };
        if self.dedup.fold(&alike, || (*contact, bytes.into())) {
            self.counts.duplicates += 1;
            return Ok(());
        }
        let limit = match transport {
            Transport::Tcp(_) => &mut self.connections,
            Transport::Udp => &mut self.datagrams,
        };
        match limit.admit(now, source) {
            Err(Excess::OfSource) => self.counts.over_source_rate += 1,
            Err(Excess::OfAll) => self.counts.over_rate += 1,
            Ok(()) => {
                self.dedup.is_first(now, alike, || (*contact, bytes.into()));
                self.write_probe(contact, bytes, 1)?;
            }
        }
        Ok(())
    }

    /// Writes the repeats of each second that is over at `now`.
    ///
    /// # Errors
    /// What `write` returns.
    pub(crate) fn write_repeats(&mut self, now: Instant) -> io::Result<()> {
        while let Some(((contact, bytes), count)) = self.dedup.expired(now) {
            // One of them is a probe of its own now; the others stay duplicates.
            self.counts.duplicates = self.counts.duplicates.saturating_sub(1);
            self.write_probe(&contact, &bytes, count)?;
        }
        Ok(())
    }

    /// Writes all repeats, however much of their second is left.
    ///
    /// # Errors
    /// What `write` returns.
    pub(crate) fn write_all_repeats(&mut self) -> io::Result<()> {
        self.write_repeats(self.dedup.last_expiry(Instant::now()))
    }

    /// When the next second of alike contacts is over.
    pub(crate) fn next_repeats(&self) -> Option<Instant> {
        self.dedup.next_expiry()
    }

    /// What became of the contacts so far. A counter never falls: what may still become a probe is only `pending`.
    pub(crate) fn counts(&self) -> RecordCounts {
        let pending = self.dedup.pending();
        RecordCounts {
            duplicates: self.counts.duplicates.saturating_sub(pending),
            dedup_evicted: self.dedup.evicted(),
            pending,
            ..self.counts
        }
    }

    /// Writes the counters as a `stats` record, with the time of now.
    ///
    /// # Errors
    /// What `write` returns.
    pub(crate) fn stats<'a>(&mut self, counters: impl IntoIterator<Item = (&'a str, u64)>) -> io::Result<()> {
        let common = Common { host: self.host.clone(), ..Common::at(Timestamp::now()) };
        let record = Record::Stats(Stats { common, body: StatsBody::new("listen", counters) });
        self.counts.lost = (self.write)(&record)?;
        Ok(())
    }

    fn write_probe(&mut self, contact: &Contact, bytes: &[u8], count: u32) -> io::Result<()> {
        let record = Record::Probe(contact.probe(self.host.clone(), bytes, count));
        self.counts.lost = (self.write)(&record)?;
        self.counts.probes += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use proptest::prelude::*;

    use super::*;
    use crate::handshake::Handshake;

    type Written = Rc<RefCell<Vec<Record>>>;

    fn recorder(rate: u32, source_rate: u32) -> (Recorder<impl FnMut(&Record) -> io::Result<u64>>, Written) {
        let written = Written::default();
        let list = Rc::clone(&written);
        let write = move |record: &Record| {
            list.borrow_mut().push(record.clone());
            Ok(0)
        };
        (Recorder::new(None, rate, source_rate, write), written)
    }

    fn contact(source: u8, port: u16, transport: Transport) -> Contact {
        let (source, dest) = (([192, 0, 2, source], 40_000).into(), ([198, 51, 100, 1], port).into());
        Contact { at: Timestamp::now(), source, dest, transport, mirage: false }
    }

    const CONNECTED: Transport = Transport::Tcp(Handshake { cookie: false, signature: None });
    const COOKIE: Transport = Transport::Tcp(Handshake { cookie: true, signature: None });

    /// Port, handshake, cookie and count of each probe.
    fn probes(written: &Written) -> Vec<(u16, bool, bool, u32)> {
        let records = written.borrow();
        let probe = |record: &Record| match record {
            Record::Probe(probe) => {
                let body = &probe.body;
                (probe.common.dest_port.unwrap(), body.handshake, body.cookie, body.count)
            }
            other => panic!("{other:?}"),
        };
        records.iter().map(probe).collect()
    }

    #[test]
    fn the_first_is_written_at_once_and_what_differs_is_not_folded() {
        let (mut recorder, written) = recorder(1000, 1000);
        let now = Instant::now();
        let contacts = [Transport::Udp, CONNECTED, COOKIE, CONNECTED, Transport::Udp, CONNECTED]
            .map(|transport| (contact(7, 23, transport), &b""[..]));
        let mirage = Contact { mirage: true, ..contact(7, 23, CONNECTED) };
        for (contact, bytes) in
            contacts.into_iter().chain([(mirage, &b""[..]), (contact(7, 23, CONNECTED), b"x")])
        {
            recorder.record(now, &contact, bytes).unwrap();
        }
        let first = [
            (23, false, false, 1),
            (23, true, false, 1),
            (23, true, true, 1),
            (23, true, false, 1),
            (23, true, false, 1),
        ];
        assert_eq!(probes(&written), first);
        let counts = recorder.counts();
        assert_eq!((counts.probes, counts.duplicates, counts.pending), (5, 1, 2));
        recorder.write_repeats(now + DEDUP_WINDOW).unwrap();
        assert_eq!(probes(&written)[5..], [(23, false, false, 1), (23, true, false, 2)]);
        let counts = recorder.counts();
        assert_eq!((counts.probes, counts.duplicates, counts.pending), (7, 1, 0));
    }

    /// Whoever hammers at one port is a record or two a second, and whoever claims to be somebody else hides nobody.
    #[test]
    fn neither_repeats_nor_datagrams_use_up_what_connections_have() {
        let (mut recorder, written) = recorder(50, 3);
        let now = Instant::now();
        for port in 1..1000 {
            recorder.record(now, &contact(7, port, Transport::Udp), b"").unwrap();
            recorder.record(now, &contact((port % 250) as u8, 9, Transport::Udp), b"").unwrap();
            recorder.record(now, &contact(7, 22, CONNECTED), b"").unwrap();
        }
        for port in [80, 81, 82] {
            recorder.record(now, &contact(7, port, CONNECTED), b"").unwrap();
        }
        let proven: Vec<u16> = probes(&written).iter().filter(|probe| probe.1).map(|probe| probe.0).collect();
        assert_eq!(proven, [22, 80, 81]);
        let counts = recorder.counts();
        assert_eq!((counts.probes, counts.over_source_rate > 0, counts.over_rate > 0), (53, true, true));
    }

    proptest! {
        /// Whatever comes when: each contact is in the count of one record, or beyond a rate.
        #[test]
        fn every_contact_is_accounted_for(
            contacts in proptest::collection::vec((0..4u8, 1..6u16, 0..3u8, 0..400u64), 1..300),
        ) {
            let (mut recorder, written) = recorder(6, 3);
            let mut now = Instant::now();
            for (source, port, kind, wait) in &contacts {
                now += Duration::from_millis(*wait);
                recorder.write_repeats(now).unwrap();
                let transport = [Transport::Udp, CONNECTED, COOKIE][usize::from(*kind)];
                recorder.record(now, &contact(*source, *port, transport), b"").unwrap();
            }
            let all = contacts.len() as u64;
            let sum = |counts: RecordCounts| counts.probes + counts.duplicates + counts.over_source_rate + counts.over_rate + counts.pending;
            prop_assert_eq!(sum(recorder.counts()), all);
            recorder.write_repeats(now + DEDUP_WINDOW).unwrap();
            let counts = recorder.counts();
            prop_assert_eq!((sum(counts), counts.pending), (all, 0));
            let records = probes(&written);
            let counted: u64 = records.iter().map(|probe| u64::from(probe.3)).sum();
            prop_assert_eq!(counted + counts.over_source_rate + counts.over_rate, all);
            prop_assert_eq!(records.len() as u64, counts.probes);
        }
    }

    #[test]
    fn the_writer_says_how_much_was_lost() {
        let mut lost = 0;
        let mut recorder = Recorder::new(None, 9, 9, |_: &Record| {
            lost += 1;
            Ok(lost)
        });
        recorder.record(Instant::now(), &contact(7, 23, CONNECTED), b"").unwrap();
        recorder.stats([]).unwrap();
        assert_eq!(recorder.counts().lost, 2);
    }
}
