//! The worker: packets from the kernel in, probes out. It has no privilege that a stranger's bytes could abuse. It alone
//! writes to standard output: probes, and the `stats` records for which the monitor reports its part.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use psentry_packet::Packet;
use psentry_records::{Class, Common, Record, Stats, StatsBody, Timestamp};
use psentry_stage::{Dedup, Output, Patience, Request, Signals};

use crate::TrapError;
use crate::counters::WorkerCounters;
use crate::half_open::HalfOpen;
use crate::nflog::Log;
use crate::nflog_message::{self, Judgement, LoggedPacket, Reason, SequenceGaps};
use crate::probes::{DedupKey, dedup_key, probe};
use crate::quarantine_journal::QuarantineJournal;
use crate::report::ReportReceiver;

/// For how long alike probes are one.
const DEDUP_WINDOW: Duration = Duration::from_secs(1);

/// How many different probes are remembered for that. Each weighs some 200 bytes.
const DEDUP_CAPACITY: usize = 32_768;

/// How many datagrams are read before anything else is done.
const BATCH: usize = 256;

/// A SYN to a decoy that no handshake follows: the decoy is no trap, so its source is not in quarantine.
const HALF_OPEN: Judgement =
    Judgement { class: Some(Class::Probe), quarantine: None, veiled: false, hidden: false };

/// A SYN to a veiled port that does not come again: clients that give up within a second send such ones, too.
const VEILED: Judgement =
    Judgement { class: Some(Class::Stray), quarantine: None, veiled: true, hidden: false };

/// How long a SYN to a decoy waits for its ACK: a client across the world, over a lossy link, answers within this.
const HANDSHAKE: Duration = Duration::from_secs(3);

/// How long a SYN to a veiled port waits until it comes again: as long as the rules remember it.
const REPEAT: Duration = Duration::from_secs(8);

/// How long to wait where nothing is due.
const IDLE: Duration = Duration::from_secs(10);

/// For how long packets that wait are still read once the rules are deleted.
const DRAIN: Duration = Duration::from_secs(2);

/// The state of the worker.
pub(crate) struct Worker {
    log: Log,
    reports: ReportReceiver,
    output: Output,
    /// Standard output, only to see that its reader is gone.
    stdout: File,
    signals: Signals,
    host: Option<String>,
    journal: Option<QuarantineJournal>,
    dedup: Dedup<DedupKey, (Timestamp, Packet, Judgement)>,
    half_open: HalfOpen,
    veiled: HalfOpen,
    gaps: SequenceGaps,
    counters: WorkerCounters,
    /// The newest report of the monitor that is in no record yet.
    report: Option<StatsBody>,
    /// Whether a signal asked it to stop. It goes on until the monitor's last report.
    stopping: bool,
}

impl Worker {
    /// A worker that reads what the kernel logs.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub(crate) fn new(
        log: Log,
        reports: ReportReceiver,
        signals: Signals,
        host: Option<String>,
        journal: Option<QuarantineJournal>,
    ) -> Result<Self, TrapError> {
        Ok(Worker {
            log,
            reports,
            output: Output::stdout("psentry-trap")?,
            stdout: File::from(io::stdout().as_fd().try_clone_to_owned()?),
            signals,
            host,
            journal,
            dedup: Dedup::new(DEDUP_WINDOW, DEDUP_CAPACITY),
            half_open: HalfOpen::new(HANDSHAKE),
            veiled: HalfOpen::new(REPEAT),
            gaps: SequenceGaps::default(),
            counters: WorkerCounters::default(),
            report: None,
            stopping: false,
        })
    }

    /// Runs until the monitor has sent its last report, or nobody reads the records.
    ///
    /// # Errors
    /// The reader of the records is gone; the kernel's log cannot be read.
    pub(crate) fn run(mut self) -> Result<(), TrapError> {
        let mut drain_until = None;
        let mut reported = false;
        loop {
            // Reports first: what the rules logged before the monitor counted, or deleted them, then waits already.
            if reported {
                self.read_reports()?;
            }
            let closed = self.reports.is_closed();
            let more = self.read_packets()?;
            let now = Instant::now();
            self.write_expired(now)?;
            // The last report is written at the end, after all probes.
            if !self.stopping && !closed {
                self.write_stats()?;
            }
            if closed {
                let until = *drain_until.get_or_insert(now + DRAIN);
                if !more || now >= until {
                    break;
                }
            }
            let next =
                [self.dedup.next_expiry(), self.half_open.next_deadline(), self.veiled.next_deadline()];
            let next = next.into_iter().flatten().min();
            let timeout = next.map_or(IDLE, |next| next.saturating_duration_since(now));
            reported = self.wait(if more { Duration::ZERO } else { timeout })?;
        }
        let end = self.dedup.last_expiry(Instant::now());
        self.write_expired_windows(end)?;
        // Whether anything follows these, nobody will see.
        let unknown =
            [&self.half_open, &self.veiled].map(|syns| syns.evicted().saturating_add(syns.waiting()));
        self.counters.half_open_evicted = unknown.iter().sum();
        self.write_stats()
    }

    /// Reads packets that wait; says whether there may be more.
    fn read_packets(&mut self) -> Result<bool, TrapError> {
        let mut batch = Vec::new();
        let more = self.log.read(BATCH, |message| batch.push(nflog_message::parse(message)))?;
        for logged in batch {
            self.handle(logged)?;
        }
        self.counters.kernel_drops = self.gaps.dropped();
        Ok(more)
    }

    fn handle(&mut self, logged: LoggedPacket) -> Result<(), TrapError> {
        self.counters.received += 1;
        if let Some(sequence) = logged.sequence {
            self.gaps.add(sequence);
        }
        let (now, time) = (Instant::now(), Timestamp::now());
        match (logged.reason, logged.packet) {
            (_, Err(_)) => self.counters.unreadable += 1,
            (Reason::Evidence(judgement), Ok(packet)) => self.handle_probe(now, time, packet, judgement)?,
            (Reason::DecoySyn, Ok(packet)) => {
                self.counters.decoy_packets += 1;
                self.half_open.syn(now, time, packet);
            }
            (Reason::DecoyAck, Ok(packet)) => {
                self.counters.decoy_packets += 1;
                self.half_open.second(&packet);
            }
            (Reason::VeilFirst, Ok(packet)) => {
                self.counters.veil_packets += 1;
                self.veiled.syn(now, time, packet);
            }
            (Reason::VeilPassed, Ok(packet)) => {
                self.counters.veil_packets += 1;
                self.veiled.second(&packet);
            }
        }
        Ok(())
    }

    /// Writes a probe, unless one like it was written just now.
    fn handle_probe(
        &mut self,
        now: Instant,
        time: Timestamp,
        packet: Packet,
        judgement: Judgement,
    ) -> Result<(), TrapError> {
        if self.dedup.is_first(now, dedup_key(&packet, judgement), || (time, packet.clone(), judgement)) {
            self.write_probe(time, &packet, judgement, 1)
        } else {
            self.counters.duplicates += 1;
            Ok(())
        }
    }

    /// Writes what has waited long enough: SYNs without a handshake, and the repeats of alike probes.
    fn write_expired(&mut self, now: Instant) -> Result<(), TrapError> {
        while let Some((time, packet)) = self.half_open.expired(now) {
            // It was counted as a packet of a handshake, which it was not.
            self.counters.decoy_packets = self.counters.decoy_packets.saturating_sub(1);
            self.handle_probe(now, time, packet, HALF_OPEN)?;
        }
        while let Some((time, packet)) = self.veiled.expired(now) {
            self.counters.veil_packets = self.counters.veil_packets.saturating_sub(1);
            self.handle_probe(now, time, packet, VEILED)?;
        }
        self.counters.half_open_evicted = self.half_open.evicted().saturating_add(self.veiled.evicted());
        self.write_expired_windows(now)
    }

    fn write_expired_windows(&mut self, now: Instant) -> Result<(), TrapError> {
        while let Some(((time, packet, judgement), count)) = self.dedup.expired(now) {
            // One of them is a probe of its own now; the others stay duplicates.
            self.counters.duplicates = self.counters.duplicates.saturating_sub(1);
            self.write_probe(time, &packet, judgement, count)?;
        }
        self.counters.dedup_evicted = self.dedup.evicted();
        Ok(())
    }

    fn write_probe(
        &mut self,
        time: Timestamp,
        packet: &Packet,
        judgement: Judgement,
        count: u32,
    ) -> Result<(), TrapError> {
        self.counters.probes += 1;
        let record = Record::Probe(probe(self.host.clone(), time, packet, judgement, count));
        if let Some(journal) = &mut self.journal {
            journal.probe(&record, Instant::now());
        }
        self.write(&record)
    }

    fn read_reports(&mut self) -> Result<(), TrapError> {
        let received = self.reports.receive()?;
        for mut vouch in received.vouches {
            vouch.common.host = vouch.common.host.or_else(|| self.host.clone());
            self.write(&Record::Vouch(vouch))?;
        }
        if let Some(report) = received.report {
            self.report = Some(report);
            // The monitor asks to stop before it sends its last report, so the signal is seen now at the latest.
            self.read_signals();
        }
        Ok(())
    }

    /// Writes the report that is in no record yet, if there is one, with this side's counters.
    fn write_stats(&mut self) -> Result<(), TrapError> {
        let Some(mut body) = self.report.take() else { return Ok(()) };
        self.counters.lost = self.output.lost();
        if let Some(journal) = &mut self.journal {
            journal.report();
        }
        let waiting = (self.half_open.waiting(), self.veiled.waiting());
        let counters = self.counters.settled(waiting.0, waiting.1, self.dedup.pending());
        body.counters.extend(counters.named().map(|(name, value)| (name.to_owned(), value)));
        let common = Common { host: self.host.clone(), ..Common::at(Timestamp::now()) };
        self.write(&Record::Stats(Stats { common, body }))
    }

    fn write(&mut self, record: &Record) -> Result<(), TrapError> {
        let patience = if self.stopping { Patience::Grace } else { Patience::Until(self.signals.stop()) };
        Ok(self.output.write(patience, record)?)
    }

    fn read_signals(&mut self) {
        while let Some(request) = self.signals.request() {
            // A `stats` record is for the monitor to ask for, even where a signal reaches both processes.
            self.stopping |= matches!(request, Request::Stop(_));
        }
    }

    /// Waits for something to happen, for `timeout` at most; says whether the monitor reports.
    fn wait(&mut self, timeout: Duration) -> Result<bool, TrapError> {
        // Rounded up, so that waiting for a moment never spins just before it.
        let millis = u16::try_from(timeout.as_micros().div_ceil(1000)).unwrap_or(u16::MAX);
        let mut fds = [
            PollFd::new(self.log.socket().as_fd(), PollFlags::POLLIN),
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.reports.as_fd(), PollFlags::POLLIN),
            // Asked for nothing, a pipe without a reader still tells of its error.
            PollFd::new(self.stdout.as_fd(), PollFlags::empty()),
        ];
        match poll(&mut fds, PollTimeout::from(millis)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(TrapError::System("wait for packets", errno.into())),
        }
        let [_, signals, reported, stdout] = fds.map(|fd| fd.any().unwrap_or(true));
        if stdout {
            return Err(TrapError::ReaderGone);
        }
        if signals {
            self.read_signals();
        }
        Ok(reported)
    }
}
