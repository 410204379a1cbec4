//! The one loop: waits for visitors to any decoy, and for the time of those who are held to be over.
//!
//! No stranger may stop it or stall it. Each decoy is served a batch at a time, so that a flood on one leaves the
//! others their turn; an error costs what `setback.rs` says.

use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use psentry_records::Record;

use crate::ListenError;
use crate::decoy::Decoy;
use crate::reception::Reception;
use crate::service::Service;
use crate::setback::{PAUSE, Setback};
use crate::tally::Tally;
use crate::watch::{Token, Watch};

/// How long a stopping program goes on to receive those who wait already. A flood never stops waiting.
const DRAIN: Duration = Duration::from_secs(1);

/// All decoys, and who is on them.
pub(crate) struct Listener<W> {
    watch: Watch,
    /// By the number in their token; `None` once broken.
    decoys: Vec<Option<Decoy>>,
    /// Decoys that pause, and until when; all pause equally long.
    resting: VecDeque<(Instant, u64)>,
    reception: Reception<W>,
    /// What is ready, kept from turn to turn for its memory only.
    ready: Vec<Token>,
}

/// What a turn of the loop found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Nothing was ready.
    Quiet,
    /// Something was, and is done.
    Busy,
    /// The program is asked to end.
    Stop,
}

impl<W: FnMut(&Record) -> io::Result<()>> Listener<W> {
    /// Watches `decoys` from now on.
    ///
    /// # Errors
    /// epoll_ctl(2)'s.
    pub(crate) fn new(
        watch: Watch,
        decoys: Vec<Decoy>,
        reception: Reception<W>,
    ) -> Result<Self, ListenError> {
        for (decoy, number) in decoys.iter().zip(0..) {
            watch
                .add(decoy, Token::Decoy(number))
                .map_err(|error| ListenError::System("wait for visitors", error))?;
        }
        let decoys = decoys.into_iter().map(Some).collect();
        Ok(Listener { watch, decoys, resting: VecDeque::new(), reception, ready: Vec::new() })
    }

    /// Who came so far.
    pub(crate) fn tally(&self) -> Tally {
        self.reception.tally
    }

    /// Receives visitors until `stop` is readable, and then those who wait already.
    ///
    /// # Errors
    /// What ends the program.
    pub(crate) fn run(&mut self, service: &Service, stop: BorrowedFd<'_>) -> Result<(), ListenError> {
        loop {
            service.pulse(Instant::now());
            if self.turn(service.next_pulse())? == Turn::Stop {
                service.stopping();
                // The signal is left where it is: a write that waits for a slow reader has to see it too.
                let _ = self.watch.remove(stop);
                return self.drain();
            }
        }
    }

    /// Notes who is held and who waits, and no more than that.
    fn drain(&mut self) -> Result<(), ListenError> {
        self.reception.close(Instant::now() + DRAIN)?;
        while !self.reception.is_late() && self.turn(Some(Instant::now()))? != Turn::Quiet {}
        Ok(())
    }

    /// Waits for something to do, at most until `limit`, and does it.
    ///
    /// # Errors
    /// What ends the program.
    pub(crate) fn turn(&mut self, limit: Option<Instant>) -> Result<Turn, ListenError> {
        let rested = self.resting.front().map(|&(until, _)| until);
        let until = [limit, self.reception.held.next_end(), rested].into_iter().flatten().min();
        let patience = until.map(|until| until.saturating_duration_since(Instant::now()));
        let mut ready = std::mem::take(&mut self.ready);
        self.watch
            .wait(patience, &mut ready)
            .map_err(|error| ListenError::System("wait for visitors", error))?;
        let mut turn = if ready.is_empty() { Turn::Quiet } else { Turn::Busy };
        for &token in &ready {
            match token {
                Token::Stop => turn = Turn::Stop,
                Token::Reader => return Err(ListenError::ReaderGone),
                Token::Decoy(number) => self.serve(number)?,
                Token::Visitor(number) => self.reception.hear(number)?,
            }
        }
        self.ready = ready;
        let now = Instant::now();
        self.reception.dismiss_overdue(now)?;
        self.resume(now);
        Ok(turn)
    }

    /// Receives a batch of one decoy's visitors.
    fn serve(&mut self, number: u64) -> Result<(), ListenError> {
        let Some(place) = place(&mut self.decoys, number) else { return Ok(()) };
        let Some(decoy) = place else { return Ok(()) };
        match self.reception.batch(decoy, &self.watch)? {
            Setback::Drained | Setback::Again | Setback::Visitor => return Ok(()),
            Setback::Broken => *place = None,
            setback @ (Setback::Pause | Setback::Shortage) => {
                if self.watch.rest(&*decoy, Token::Decoy(number)).is_ok() {
                    self.resting.push_back((Instant::now() + PAUSE, number));
                }
                if setback == Setback::Shortage {
                    self.reception.make_room()?;
                }
            }
        }
        if self.decoys.iter().all(Option::is_none) { Err(ListenError::AllLost) } else { Ok(()) }
    }

    /// Wakes the decoys that have rested long enough.
    fn resume(&mut self, now: Instant) {
        while let Some(&(until, number)) = self.resting.front() {
            if until > now {
                return;
            }
            self.resting.pop_front();
            if let Some(Some(decoy)) = place(&mut self.decoys, number) {
                // Where this fails the decoy would stay silent; EPOLL_CTL_MOD fails only without memory, and then
                // it rests once more.
                if self.watch.resume(&*decoy, Token::Decoy(number)).is_err() {
                    self.resting.push_back((now + PAUSE, number));
                    return;
                }
            }
        }
    }
}

fn place(decoys: &mut [Option<Decoy>], number: u64) -> Option<&mut Option<Decoy>> {
    decoys.get_mut(usize::try_from(number).ok()?)
}

#[cfg(test)]
mod tests;
