//! The one loop: waits for connections and datagrams at any decoy, for what the clients of held connections send, and for
//! holds to be over.
//!
//! No stranger may stop it or stall it. Each decoy is served a batch at a time, so that a flood on one leaves the
//! others their turn; an error costs what `accept_errors.rs` says.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use psentry_records::Record;
use psentry_stage::{Signals, StatsTimer, Watchdog, report_stopping};

use crate::ListenError;
use crate::accept_errors::{AcceptError, PAUSE};
use crate::decoy::Decoy;
use crate::handler::Handler;
use crate::poller::{Poller, Token};

/// How long a stopping program goes on to accept what waits already. In a flood there is always more.
const DRAIN: Duration = Duration::from_secs(1);

/// All decoys, and what is done with what comes to them.
pub(crate) struct EventLoop<W> {
    poller: Poller,
    /// By the number in their token; `None` once broken.
    decoys: Vec<Option<Decoy>>,
    /// Decoys that pause after an error, and until when; all pause equally long, so the first one is over first.
    resting: VecDeque<(Instant, u64)>,
    handler: Handler<W>,
    /// What is ready, kept from turn to turn for its memory only.
    ready: Vec<Token>,
}

/// What a turn of the loop found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// The time was over before anything was ready.
    Quiet,
    /// Something was ready, and is done.
    Busy,
    /// The counters are requested.
    Report,
    /// The program is asked to end.
    Stop,
}

impl<W: FnMut(&Record) -> io::Result<u64>> EventLoop<W> {
    /// Polls `decoys` from now on.
    ///
    /// # Errors
    /// epoll_ctl(2)'s.
    pub(crate) fn new(poller: Poller, decoys: Vec<Decoy>, handler: Handler<W>) -> Result<Self, ListenError> {
        for (decoy, number) in decoys.iter().zip(0..) {
            poller
                .add(decoy, Token::Decoy(number))
                .map_err(|error| ListenError::System("wait for connections", error))?;
        }
        let decoys = decoys.into_iter().map(Some).collect();
        Ok(EventLoop { poller, decoys, resting: VecDeque::new(), handler, ready: Vec::new() })
    }

    /// The last line of a run: what came, and what became of it.
    pub(crate) fn summary(&self) -> String {
        self.handler.summary()
    }

    /// Serves the decoys until a signal asks for an end, and then what waits already. Once a minute, when a signal asks for
    /// them, and at the end it writes the counters.
    ///
    /// # Errors
    /// When a probe cannot be written, no decoy is left, or epoll_wait(2) fails.
    pub(crate) fn run(&mut self, watchdog: &Watchdog, signals: &Signals) -> Result<(), ListenError> {
        let mut stats = StatsTimer::start(Instant::now());
        loop {
            let now = Instant::now();
            watchdog.keep_alive(now);
            if stats.is_due(now) {
                self.handler.write_stats()?;
            }
            let next = watchdog.next().map_or(stats.next(), |next| next.min(stats.next()));
            match self.turn(Some(next))? {
                Turn::Quiet | Turn::Busy => {}
                Turn::Report => {
                    while signals.request_but_stop().is_some() {}
                    self.handler.write_stats()?;
                }
                Turn::Stop => {
                    report_stopping();
                    // The signal is left where it is: a write that waits for a slow reader has to see it too.
                    let _ = self.poller.remove(signals.stop());
                    let _ = signals.requests().map(|requests| self.poller.remove(requests));
                    self.drain()?;
                    // Every probe is written. That a reader does not take the counters, too, is no reason to fail.
                    let _ = self.handler.write_stats();
                    return Ok(());
                }
            }
        }
    }

    /// Writes the probes of the connections that are held and of what waits, and no more than that.
    fn drain(&mut self) -> Result<(), ListenError> {
        self.handler.shut_down(Instant::now() + DRAIN)?;
        while !self.handler.is_over() && self.turn(Some(Instant::now()))? != Turn::Quiet {}
        self.handler.write_all_repeats()
    }

    /// Waits for something to do, at most until `limit`, and does it.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub(crate) fn turn(&mut self, limit: Option<Instant>) -> Result<Turn, ListenError> {
        let resting = self.resting.front().map(|&(until, _)| until);
        let until = [limit, self.handler.next_deadline(), resting].into_iter().flatten().min();
        let patience = until.map(|until| until.saturating_duration_since(Instant::now()));
        let mut ready = std::mem::take(&mut self.ready);
        self.poller
            .wait(patience, &mut ready)
            .map_err(|error| ListenError::System("wait for connections", error))?;
        let mut turn = if ready.is_empty() { Turn::Quiet } else { Turn::Busy };
        for &token in &ready {
            match token {
                Token::Stop => turn = Turn::Stop,
                Token::Report => turn = if turn == Turn::Stop { turn } else { Turn::Report },
                Token::Reader => return Err(ListenError::ReaderGone),
                Token::Decoy(number) => self.serve(number)?,
                Token::Connection(number) => self.handler.read(number)?,
            }
        }
        self.ready = ready;
        let now = Instant::now();
        self.handler.close_expired(now)?;
        self.handler.write_repeats(now)?;
        self.resume(now);
        Ok(turn)
    }

    /// Handles a batch of what waits at one decoy.
    fn serve(&mut self, number: u64) -> Result<(), ListenError> {
        let Some(place) = place(&mut self.decoys, number) else { return Ok(()) };
        let Some(decoy) = place else { return Ok(()) };
        match self.handler.batch(decoy, &self.poller)? {
            AcceptError::WouldBlock | AcceptError::Interrupted | AcceptError::Client => return Ok(()),
            AcceptError::Broken => *place = None,
            error @ (AcceptError::Resources | AcceptError::Descriptors) => {
                if self.poller.rest(&*decoy, Token::Decoy(number)).is_ok() {
                    self.resting.push_back((Instant::now() + PAUSE, number));
                }
                if error == AcceptError::Descriptors {
                    self.handler.evict_oldest()?;
                }
            }
        }
        if self.decoys.iter().all(Option::is_none) { Err(ListenError::AllLost) } else { Ok(()) }
    }

    /// Polls the decoys again that have rested long enough.
    fn resume(&mut self, now: Instant) {
        while let Some(&(until, number)) = self.resting.front() {
            if until > now {
                return;
            }
            self.resting.pop_front();
            if let Some(Some(decoy)) = place(&mut self.decoys, number) {
                // Where this fails the decoy would stay silent; EPOLL_CTL_MOD fails only without memory, and then
                // it rests once more.
                if self.poller.resume(&*decoy, Token::Decoy(number)).is_err() {
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
