//! What happens to a connection or a datagram, according to the flags: its probe is written, the banner sent, the first
//! bytes are captured, and it is closed. When that happens is `event_loop.rs`'s affair.

use std::io;
use std::time::Instant;

use psentry_records::Record;
use psentry_stage::Complaints;
use socket2::Socket;

use crate::ListenError;
use crate::accept_errors::AcceptError;
use crate::answer::Answers;
use crate::connection_table::{Connection, ConnectionTable, ReadState};
use crate::counters::Counters;
use crate::decoy::Decoy;
use crate::poller::{Poller, Token};
use crate::probe::Contact;
use crate::recorder::Recorder;
use crate::settings::Handling;
use crate::udp::{Datagram, ReceiveBuffer};

/// How many connections or datagrams of one decoy are taken before the next decoy has its turn.
const BATCH: usize = 64;

/// Handles what comes to the decoys.
pub(crate) struct Handler<W> {
    pub(crate) held: ConnectionTable,
    pub(crate) counters: Counters,
    handling: Handling,
    buffer: ReceiveBuffer,
    answers: Answers,
    recorder: Recorder<W>,
    complaints: Complaints,
    /// Set once the program is to end: from then on no connection is held, and after it none is accepted.
    end: Option<Instant>,
}

impl<W: FnMut(&Record) -> io::Result<u64>> Handler<W> {
    /// Of `decoys`, which it needs to know so as not to answer one of them.
    pub(crate) fn new(
        handling: Handling,
        decoys: &[Decoy],
        recorder: Recorder<W>,
        complaints: Complaints,
    ) -> Self {
        let buffer = ReceiveBuffer::new(handling.capture);
        let answers = Answers::new(&handling, decoys);
        let held = ConnectionTable::new(handling.max_held);
        Handler {
            held,
            counters: Counters::default(),
            handling,
            buffer,
            answers,
            recorder,
            complaints,
            end: None,
        }
    }

    /// Handles up to a batch of what waits at a decoy. Returns why it stopped; `WouldBlock` where the decoy is well,
    /// whether or not more waits.
    ///
    /// # Errors
    /// When a probe cannot be written.
    pub(crate) fn batch(&mut self, decoy: &Decoy, poller: &Poller) -> Result<AcceptError, ListenError> {
        for _ in 0..BATCH {
            let received = match decoy {
                Decoy::Tcp(tcp) => {
                    tcp.accept().map(|(stream, contact)| self.connection(stream, contact, poller))
                }
                Decoy::Udp(udp) => udp.receive(&mut self.buffer).map(|datagram| {
                    self.datagram(&datagram)?;
                    udp.answer(&datagram, self.answers.to(&datagram));
                    Ok(())
                }),
            };
            match received.map_err(|errno| (AcceptError::of(errno), errno)) {
                Ok(written) => written?,
                Err((AcceptError::WouldBlock, _)) => return Ok(AcceptError::WouldBlock),
                Err((AcceptError::Interrupted, _)) => {}
                Err((error, errno)) => {
                    self.counters.errors += 1;
                    let (name, desc, cost) = (decoy.name(), errno.desc(), error.cost());
                    self.complaints.say(&format!("receiving on {name} failed: {desc}; {cost}"));
                    if error != AcceptError::Client {
                        return Ok(error);
                    }
                }
            }
            if self.is_over() {
                break;
            }
        }
        Ok(AcceptError::WouldBlock)
    }

    fn connection(&mut self, stream: Socket, contact: Contact, poller: &Poller) -> Result<(), ListenError> {
        self.counters.connections += 1;
        let Handling { banner, capture, hold, .. } = &self.handling;
        if (hold.is_zero() && *capture == 0 && banner.is_empty()) || self.end.is_some() {
            // Written before it is closed: the judge is in more of a hurry than the client.
            return Ok(self.recorder.record(Instant::now(), &contact, &[])?);
        }
        if self.held.is_full() {
            self.count_not_held();
            return Ok(self.recorder.record(Instant::now(), &contact, &[])?);
        }
        let mut connection = Connection::open(stream, contact, &self.handling);
        if self.handling.capture == 0 {
            // There is nothing to wait for: the sooner it is written, the sooner it is judged.
            write_once(&mut self.recorder, &mut connection)?;
            if !self.handling.banner.is_empty() {
                connection.shutdown_write();
            }
        }
        if self.handling.hold.is_zero() {
            connection.read(self.handling.capture);
            return write_once(&mut self.recorder, &mut connection);
        }
        let (number, connection) = self.held.insert(connection);
        if let Err(error) = poller.add(connection.stream(), Token::Connection(number)) {
            self.complaints.say(&format!("a connection cannot be held, and is closed at once: {error}"));
            return self.close(number);
        }
        Ok(())
    }

    /// Counts a connection that there is no room to hold. That --max-held is reached is reported once; that the bound was
    /// lowered, [`evict_oldest`](Self::evict_oldest) has reported.
    fn count_not_held(&mut self) {
        if self.held.is_lowered() {
            self.counters.no_descriptors += 1;
            return;
        }
        if self.counters.over_limit == 0 {
            self.complaints.say("as many connections are held as --max-held allows; more are closed at once");
        }
        self.counters.over_limit += 1;
    }

    fn datagram(&mut self, datagram: &Datagram) -> Result<(), ListenError> {
        if datagram.to_all {
            self.counters.broadcasts += 1;
            return Ok(());
        }
        self.counters.datagrams += 1;
        Ok(self.recorder.record(Instant::now(), &datagram.contact, self.buffer.head(datagram.length))?)
    }

    /// Reads what the client of a held connection has sent.
    ///
    /// # Errors
    /// When a probe cannot be written.
    pub(crate) fn read(&mut self, number: u64) -> Result<(), ListenError> {
        // It may have been closed in the same turn of the loop.
        let Some(connection) = self.held.get_mut(number) else { return Ok(()) };
        match connection.read(self.handling.capture) {
            ReadState::Open => Ok(()),
            // Its probe is written, and it is held for as long as was asked for.
            ReadState::Captured if connection.is_written() => Ok(()),
            // It may not have read the banner yet.
            ReadState::Captured if !self.handling.banner.is_empty() => {
                connection.shutdown_write();
                write_once(&mut self.recorder, connection)
            }
            ReadState::Captured => self.close(number),
            ReadState::Closed => {
                connection.shutdown_write();
                self.close(number)
            }
        }
    }

    /// Closes all connections whose hold is over.
    ///
    /// # Errors
    /// When a probe cannot be written.
    pub(crate) fn close_expired(&mut self, now: Instant) -> Result<(), ListenError> {
        while let Some(number) = self.held.expired(now) {
            self.close(number)?;
        }
        Ok(())
    }

    /// Descriptors ran out: closes the oldest connection, and never again holds as many.
    ///
    /// # Errors
    /// When a probe cannot be written.
    pub(crate) fn evict_oldest(&mut self) -> Result<(), ListenError> {
        let Some(number) = self.held.oldest() else { return Ok(()) };
        self.close(number)?;
        let most = self.held.lower();
        self.complaints.say(&format!(
            "for lack of descriptors no more than {most} connections are held from now on, and others are closed at once; raise LimitNOFILE= or ulimit -n"
        ));
        Ok(())
    }

    /// Closes all connections, holds none any more, and accepts none after `end`.
    ///
    /// # Errors
    /// When a probe cannot be written.
    pub(crate) fn shut_down(&mut self, end: Instant) -> Result<(), ListenError> {
        self.end = Some(end);
        while let Some(number) = self.held.oldest() {
            self.close(number)?;
        }
        Ok(())
    }

    /// Whether the time that [`shut_down`](Self::shut_down) gave is over.
    pub(crate) fn is_over(&self) -> bool {
        self.end.is_some_and(|end| end <= Instant::now())
    }

    /// Writes the counters as a `stats` record.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn write_stats(&mut self) -> Result<(), ListenError> {
        let open = u64::try_from(self.held.len()).unwrap_or(u64::MAX);
        let counters = self.counters.named(self.recorder.counts(), open);
        Ok(self.recorder.stats(counters)?)
    }

    /// Writes what was folded, as far as its time is over at `now`.
    ///
    /// # Errors
    /// When a probe cannot be written.
    pub(crate) fn write_repeats(&mut self, now: Instant) -> Result<(), ListenError> {
        Ok(self.recorder.write_repeats(now)?)
    }

    /// Writes all that was folded.
    ///
    /// # Errors
    /// When a probe cannot be written.
    pub(crate) fn write_all_repeats(&mut self) -> Result<(), ListenError> {
        Ok(self.recorder.write_all_repeats()?)
    }

    /// When something has to be done though nothing comes: a hold is over, or what was folded is to be written.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        [self.held.next_expiry(), self.recorder.next_repeats()].into_iter().flatten().min()
    }

    /// The last line of a run.
    pub(crate) fn summary(&self) -> String {
        self.counters.summary(self.recorder.counts())
    }

    /// Closes a connection, and writes its probe if that is yet to do.
    fn close(&mut self, number: u64) -> Result<(), ListenError> {
        let Some(mut connection) = self.held.remove(number) else { return Ok(()) };
        write_once(&mut self.recorder, &mut connection)
    }
}

/// Writes the probe of a connection, if that is yet to do. No method, because a connection in the table is borrowed.
fn write_once<W>(recorder: &mut Recorder<W>, connection: &mut Connection) -> Result<(), ListenError>
where
    W: FnMut(&Record) -> io::Result<u64>,
{
    match connection.take_contact() {
        Some((contact, bytes)) => Ok(recorder.record(Instant::now(), &contact, bytes)?),
        None => Ok(()),
    }
}
