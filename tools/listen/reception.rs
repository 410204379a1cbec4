//! How a visitor is received: noted, greeted, heard, dismissed, according to the flags. Who comes when is
//! `listener.rs`'s affair.

use std::io;
use std::time::Instant;

use psentry_records::Record;
use psentry_stage::Complaints;
use socket2::Socket;

use crate::ListenError;
use crate::answer::Answers;
use crate::decoy::Decoy;
use crate::held::{Held, Standing, Visitor};
use crate::setback::Setback;
use crate::settings::Manners;
use crate::sighting::{Journal, Sighting};
use crate::tally::Tally;
use crate::udp::{Datagram, Mailbox};
use crate::watch::{Token, Watch};

/// How many visitors of one decoy are received before the next decoy has its turn.
const BATCH: usize = 64;

/// Receives visitors.
pub(crate) struct Reception<W> {
    pub(crate) held: Held,
    pub(crate) tally: Tally,
    manners: Manners,
    mailbox: Mailbox,
    answers: Answers,
    journal: Journal<W>,
    complaints: Complaints,
    /// Set once the program is to end: nobody is held any more, and nobody is received after it.
    end: Option<Instant>,
}

impl<W: FnMut(&Record) -> io::Result<()>> Reception<W> {
    /// Receives who comes to `decoys` as `manners` say, notes in `journal`.
    pub(crate) fn new(
        manners: Manners,
        decoys: &[Decoy],
        journal: Journal<W>,
        complaints: Complaints,
    ) -> Self {
        let mailbox = Mailbox::new(manners.capture);
        let answers = Answers::new(&manners, decoys);
        let held = Held::new(manners.max_held);
        Reception { held, tally: Tally::default(), manners, mailbox, answers, journal, complaints, end: None }
    }

    /// Receives up to a batch of a decoy's visitors. What is left of it: `Drained`, if it is well.
    ///
    /// # Errors
    /// When a probe cannot be written.
    pub(crate) fn batch(&mut self, decoy: &Decoy, watch: &Watch) -> Result<Setback, ListenError> {
        for _ in 0..BATCH {
            let received = match decoy {
                Decoy::Tcp(tcp) => {
                    tcp.accept().map(|(stream, sighting)| self.connection(stream, sighting, watch))
                }
                Decoy::Udp(udp) => udp.receive(&mut self.mailbox).map(|datagram| {
                    self.datagram(&datagram)?;
                    udp.answer(&datagram, self.answers.to(&datagram));
                    Ok(())
                }),
            };
            match received.map_err(|errno| (Setback::of(errno), errno)) {
                Ok(noted) => noted?,
                Err((Setback::Drained, _)) => return Ok(Setback::Drained),
                Err((Setback::Again, _)) => {}
                Err((setback, errno)) => {
                    let (name, desc, cost) = (decoy.name(), errno.desc(), setback.cost());
                    self.complaints.say(&format!("receiving on {name} failed: {desc}; {cost}"));
                    if setback != Setback::Visitor {
                        return Ok(setback);
                    }
                }
            }
            if self.is_late() {
                break;
            }
        }
        Ok(Setback::Drained)
    }

    fn connection(&mut self, stream: Socket, sighting: Sighting, watch: &Watch) -> Result<(), ListenError> {
        self.tally.connections += 1;
        let Manners { banner, capture, hold, .. } = &self.manners;
        if (hold.is_zero() && *capture == 0 && banner.is_empty()) || self.end.is_some() {
            // Noted first: whoever waits for the probe is more urgent than who sent it.
            return Ok(self.journal.note(&sighting, &[])?);
        }
        if self.held.is_full() {
            self.turn_away();
            return Ok(self.journal.note(&sighting, &[])?);
        }
        let mut visitor = Visitor::greet(stream, sighting, &self.manners);
        if self.manners.capture == 0 {
            // There is nothing to wait for: the sooner it is noted, the sooner it is judged.
            note(&mut self.journal, &mut visitor)?;
            if !self.manners.banner.is_empty() {
                visitor.say_goodbye();
            }
        }
        if self.manners.hold.is_zero() {
            visitor.hear(self.manners.capture);
            return note(&mut self.journal, &mut visitor);
        }
        let (number, visitor) = self.held.keep(visitor);
        if let Err(error) = watch.add(visitor.stream(), Token::Visitor(number)) {
            self.complaints.say(&format!("a connection cannot be held, and is closed at once: {error}"));
            return self.dismiss(number);
        }
        Ok(())
    }

    /// Counts a connection that there is no room for. Which bound it met is told once; of the lowered one,
    /// [`make_room`](Self::make_room) has told.
    fn turn_away(&mut self) {
        if self.held.is_lowered() {
            self.tally.crowded_out += 1;
            return;
        }
        if self.tally.turned_away == 0 {
            self.complaints.say("as many connections are held as --max-held allows; more are closed at once");
        }
        self.tally.turned_away += 1;
    }

    fn datagram(&mut self, datagram: &Datagram) -> Result<(), ListenError> {
        if datagram.to_all {
            self.tally.broadcasts += 1;
            return Ok(());
        }
        self.tally.datagrams += 1;
        Ok(self.journal.note(&datagram.sighting, self.mailbox.head(datagram.length))?)
    }

    /// Hears what a held visitor has to say.
    ///
    /// # Errors
    /// When a probe cannot be written.
    pub(crate) fn hear(&mut self, number: u64) -> Result<(), ListenError> {
        // It may have been dismissed in the same turn of the loop.
        let Some(visitor) = self.held.get_mut(number) else { return Ok(()) };
        match visitor.hear(self.manners.capture) {
            Standing::Here => Ok(()),
            // Noted already, and held for as long as was asked for.
            Standing::Heard if visitor.is_noted() => Ok(()),
            // It may not have read the banner yet.
            Standing::Heard if !self.manners.banner.is_empty() => {
                visitor.say_goodbye();
                note(&mut self.journal, visitor)
            }
            Standing::Heard => self.dismiss(number),
            Standing::Gone => {
                visitor.say_goodbye();
                self.dismiss(number)
            }
        }
    }

    /// Dismisses all whose time is over.
    ///
    /// # Errors
    /// When a probe cannot be written.
    pub(crate) fn dismiss_overdue(&mut self, now: Instant) -> Result<(), ListenError> {
        while let Some(number) = self.held.overdue(now) {
            self.dismiss(number)?;
        }
        Ok(())
    }

    /// Descriptors ran out: dismisses the oldest visitor, and never again holds as many.
    ///
    /// # Errors
    /// When a probe cannot be written.
    pub(crate) fn make_room(&mut self) -> Result<(), ListenError> {
        let Some(number) = self.held.oldest() else { return Ok(()) };
        self.dismiss(number)?;
        let most = self.held.shrink();
        self.complaints.say(&format!(
            "for lack of descriptors no more than {most} connections are held from now on, and others are closed at once; raise LimitNOFILE= or ulimit -n"
        ));
        Ok(())
    }

    /// Dismisses all, holds nobody any more, and receives nobody after `end`.
    ///
    /// # Errors
    /// When a probe cannot be written.
    pub(crate) fn close(&mut self, end: Instant) -> Result<(), ListenError> {
        self.end = Some(end);
        while let Some(number) = self.held.oldest() {
            self.dismiss(number)?;
        }
        Ok(())
    }

    /// Whether the time that [`close`](Self::close) gave is over.
    pub(crate) fn is_late(&self) -> bool {
        self.end.is_some_and(|end| end <= Instant::now())
    }

    /// Notes a visitor, if that is yet to do, and hangs up.
    fn dismiss(&mut self, number: u64) -> Result<(), ListenError> {
        self.held.release(number).map_or(Ok(()), |mut visitor| note(&mut self.journal, &mut visitor))
    }
}

/// Notes a visitor, if that is yet to do.
fn note<W>(journal: &mut Journal<W>, visitor: &mut Visitor) -> Result<(), ListenError>
where
    W: FnMut(&Record) -> io::Result<()>,
{
    match visitor.take_note() {
        Some((sighting, bytes)) => Ok(journal.note(&sighting, bytes)?),
        None => Ok(()),
    }
}
