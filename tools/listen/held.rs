//! Connections that are kept for a while, for their first bytes or for a banner to arrive. All are kept equally
//! long and there is a bound, so that a crowd that never hangs up costs no more than the bound for the hold.

use std::collections::BTreeMap;
use std::io;
use std::net::Shutdown;
use std::time::Instant;

use socket2::Socket;

use crate::settings::Manners;
use crate::sighting::Sighting;

/// What one read takes. What is beyond the capture is read only to be thrown away.
const READ: usize = 4096;

/// A connection that is kept.
#[derive(Debug)]
pub(crate) struct Visitor {
    stream: Socket,
    /// Who it is; `None` once that is noted.
    sighting: Option<Sighting>,
    heard: Vec<u8>,
    until: Instant,
}

/// How a visitor stands after a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Still there.
    Here,
    /// It has sent as much as is noted.
    Heard,
    /// It has hung up.
    Gone,
}

impl Visitor {
    /// Greets a connection that was accepted.
    pub(crate) fn greet(stream: Socket, sighting: Sighting, manners: &Manners) -> Self {
        if !manners.banner.is_empty() {
            // A visitor that has hung up already will be found out by the first read.
            let _ = stream.send(&manners.banner);
        }
        let heard = Vec::with_capacity(manners.capture.min(READ));
        Visitor { stream, sighting: Some(sighting), heard, until: Instant::now() + manners.hold }
    }

    /// Reads once.
    pub(crate) fn hear(&mut self, capture: usize) -> Standing {
        let mut bytes = [0; READ];
        match io::Read::read(&mut self.stream, &mut bytes) {
            Ok(0) => Standing::Gone,
            Ok(count) => {
                let wanted = capture.saturating_sub(self.heard.len()).min(count);
                self.heard.extend_from_slice(bytes.get(..wanted).unwrap_or_default());
                if self.heard.len() >= capture { Standing::Heard } else { Standing::Here }
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Standing::Here
            }
            Err(_) => Standing::Gone,
        }
    }

    /// What there is to note, the first time this is asked.
    pub(crate) fn take_note(&mut self) -> Option<(Sighting, &[u8])> {
        self.sighting.take().map(|sighting| (sighting, &self.heard[..]))
    }

    /// Whether that was asked before.
    pub(crate) fn is_noted(&self) -> bool {
        self.sighting.is_none()
    }

    /// Says that nothing more will be sent. A visitor that has hung up is then rid of its connection, and so is the
    /// kernel; one that reads the banner sees its end, where a reset might take the banner from it.
    pub(crate) fn say_goodbye(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Its connection.
    pub(crate) fn stream(&self) -> &Socket {
        &self.stream
    }
}

/// All that are kept, oldest first.
#[derive(Debug)]
pub(crate) struct Held {
    visitors: BTreeMap<u64, Visitor>,
    next: u64,
    most: usize,
    /// Whether `most` is less than was asked for.
    lowered: bool,
}

impl Held {
    /// Room for `most`.
    pub(crate) fn new(most: usize) -> Self {
        Held { visitors: BTreeMap::new(), next: 0, most, lowered: false }
    }

    /// Whether there is no room.
    pub(crate) fn is_full(&self) -> bool {
        self.visitors.len() >= self.most
    }

    /// Keeps a visitor and gives it a number.
    pub(crate) fn keep(&mut self, visitor: Visitor) -> (u64, &Visitor) {
        let number = self.next;
        self.next += 1;
        (number, self.visitors.entry(number).or_insert(visitor))
    }

    /// The visitor of that number.
    pub(crate) fn get_mut(&mut self, number: u64) -> Option<&mut Visitor> {
        self.visitors.get_mut(&number)
    }

    /// Lets go of a visitor.
    pub(crate) fn release(&mut self, number: u64) -> Option<Visitor> {
        self.visitors.remove(&number)
    }

    /// The one that came first.
    pub(crate) fn oldest(&self) -> Option<u64> {
        self.visitors.keys().next().copied()
    }

    /// One whose time is over. All are kept equally long: who came first goes first.
    pub(crate) fn overdue(&self, now: Instant) -> Option<u64> {
        self.oldest().filter(|_| self.next_end().is_some_and(|end| end <= now))
    }

    /// When the next one's time is over.
    pub(crate) fn next_end(&self) -> Option<Instant> {
        self.visitors.values().next().map(|visitor| visitor.until)
    }

    /// From now on there is room for no more than are here, and says how many that is.
    pub(crate) fn shrink(&mut self) -> usize {
        let here = self.visitors.len();
        self.lowered |= here < self.most;
        self.most = self.most.min(here);
        self.most
    }

    /// Whether there is less room than at first.
    pub(crate) fn is_lowered(&self) -> bool {
        self.lowered
    }
}
