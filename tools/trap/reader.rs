//! The reader: packets from the kernel in, probes out. It has no right that a stranger's bytes could abuse.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use psentry_packet::Packet;
use psentry_records::{Record, Timestamp};
use psentry_stage::{Output, Patience, Signals};

use crate::TrapError;
use crate::fold::Fold;
use crate::half_open::HalfOpen;
use crate::nflog::Log;
use crate::probes::{Alike, alike, probe};
use crate::sight::{self, Class, Gaps, Sight};
use crate::stats::{self, Counts};

/// For how long alike probes are one.
const WINDOW: Duration = Duration::from_secs(1);

/// How many different probes are held for that. Each weighs some 200 bytes.
const DIFFERENT: usize = 32_768;

/// How many datagrams are read before it is looked what else there is to do.
const AT_ONCE: usize = 256;

/// How often counters are told, if they have changed.
const TELL: Duration = Duration::from_secs(10);

/// For how long a stopping reader takes what waits.
const DRAIN: Duration = Duration::from_secs(2);

/// The reader.
pub(crate) struct Reader {
    log: Log,
    output: Output,
    /// Standard output, only to see that its reader is gone.
    outlet: File,
    signals: Signals,
    host: Option<String>,
    fold: Fold<Alike, (Timestamp, Packet)>,
    half_open: HalfOpen,
    gaps: Gaps,
    counts: Counts,
    told: Counts,
    /// When it was asked to stop.
    stopping: Option<Instant>,
}

impl Reader {
    /// A reader of what the kernel logs.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub(crate) fn new(log: Log, signals: Signals, host: Option<String>) -> Result<Self, TrapError> {
        Ok(Reader {
            log,
            output: Output::stdout()?,
            outlet: File::from(io::stdout().as_fd().try_clone_to_owned()?),
            signals,
            host,
            fold: Fold::new(WINDOW, DIFFERENT),
            half_open: HalfOpen::default(),
            gaps: Gaps::default(),
            counts: Counts::default(),
            told: Counts::default(),
            stopping: None,
        })
    }

    /// Until it is asked to stop, or nobody reads.
    ///
    /// # Errors
    /// The reader of the probes is gone; the kernel's log cannot be read.
    pub(crate) fn run(mut self) -> Result<(), TrapError> {
        let mut tell = Instant::now() + TELL;
        loop {
            let more = self.take()?;
            let now = Instant::now();
            self.due(now)?;
            if now >= tell {
                tell = now + TELL;
                self.tell()?;
            }
            if let Some(since) = self.stopping
                && (!more || since.elapsed() >= DRAIN)
            {
                break;
            }
            let next = [self.fold.next(), self.half_open.next(), Some(tell)].into_iter().flatten().min();
            let patience = next.map_or(TELL, |next| next.saturating_duration_since(now));
            self.wait(if more { Duration::ZERO } else { patience })?;
        }
        let end = self.fold.end_of_all(Instant::now());
        self.due_folds(end)?;
        // Whether a handshake follows these is for nobody to know.
        self.counts.given_up = self.half_open.given_up().saturating_add(self.half_open.waiting());
        self.tell()
    }

    /// Takes what waits; says whether there may be more.
    fn take(&mut self) -> Result<bool, TrapError> {
        let mut sights = Vec::new();
        let more = self.log.read(AT_ONCE, |message| sights.push(sight::read(message)))?;
        for sight in sights {
            self.see(sight)?;
        }
        self.counts.lost = self.gaps.lost();
        Ok(more)
    }

    /// One packet.
    fn see(&mut self, sight: Sight) -> Result<(), TrapError> {
        self.counts.received += 1;
        if let Some(sequence) = sight.sequence {
            self.gaps.note(sequence);
        }
        let (now, time) = (Instant::now(), Timestamp::now());
        match (sight.class, sight.packet) {
            (_, Err(_)) => self.counts.unreadable += 1,
            (Class::Probe, Ok(packet)) => self.probe(now, time, packet)?,
            (Class::DecoySyn, Ok(packet)) => {
                self.counts.handshakes += 1;
                self.half_open.syn(now, time, packet);
            }
            (Class::DecoyAck, Ok(packet)) => {
                self.counts.handshakes += 1;
                self.half_open.ack(&packet);
            }
        }
        Ok(())
    }

    /// A probe, unless one like it was told just now.
    fn probe(&mut self, now: Instant, time: Timestamp, packet: Packet) -> Result<(), TrapError> {
        if self.fold.is_first(now, alike(&packet), || (time, packet.clone())) {
            self.write(time, &packet, 1)
        } else {
            self.counts.folded += 1;
            Ok(())
        }
    }

    /// What has waited long enough.
    fn due(&mut self, now: Instant) -> Result<(), TrapError> {
        while let Some((time, packet)) = self.half_open.over(now) {
            // Counted as a packet of a handshake, which it was not.
            self.counts.handshakes = self.counts.handshakes.saturating_sub(1);
            self.probe(now, time, packet)?;
        }
        self.due_folds(now)
    }

    fn due_folds(&mut self, now: Instant) -> Result<(), TrapError> {
        while let Some(((time, packet), count)) = self.fold.ended(now) {
            // The first of them was no further packet; the others stay folded.
            self.counts.folded = self.counts.folded.saturating_sub(1);
            self.write(time, &packet, count)?;
        }
        self.counts.early = self.fold.early();
        self.counts.given_up = self.half_open.given_up();
        Ok(())
    }

    fn write(&mut self, time: Timestamp, packet: &Packet, count: u32) -> Result<(), TrapError> {
        self.counts.probes += 1;
        let record = Record::Probe(probe(self.host.clone(), time, packet, count));
        let patience = patience(self.stopping, &self.signals);
        Ok(self.output.write(patience, &record)?)
    }

    /// Tells the counters, if they have changed.
    fn tell(&mut self) -> Result<(), TrapError> {
        if self.counts != self.told {
            self.told = self.counts;
            let patience = patience(self.stopping, &self.signals);
            self.output.pass(patience, &stats::of_reader(self.host.as_deref(), &self.counts))?;
        }
        Ok(())
    }

    /// Waits for something to happen.
    fn wait(&mut self, most: Duration) -> Result<(), TrapError> {
        // Rounded up, so that waiting for a moment never spins just before it.
        let millis = u16::try_from(most.as_micros().div_ceil(1000)).unwrap_or(u16::MAX);
        let mut fds = [
            PollFd::new(self.log.socket().as_fd(), PollFlags::POLLIN),
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            // Asked for nothing, a pipe without a reader still tells of its error.
            PollFd::new(self.outlet.as_fd(), PollFlags::empty()),
        ];
        match poll(&mut fds, PollTimeout::from(millis)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(TrapError::System("wait for packets", errno.into())),
        }
        let [_, signals, outlet] = fds.map(|fd| fd.any().unwrap_or(true));
        if outlet {
            return Err(TrapError::ReaderGone);
        }
        if signals && self.signals.asked().is_some() {
            self.stopping.get_or_insert_with(Instant::now);
        }
        Ok(())
    }
}

fn patience(stopping: Option<Instant>, signals: &Signals) -> Patience<'_> {
    if stopping.is_some() { Patience::Grace } else { Patience::Until(signals.as_fd()) }
}
