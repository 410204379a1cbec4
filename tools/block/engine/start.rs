//! How an engine starts: the journal is read, every backend gets its thread and says what is there, and what is wanted
//! and missing is put back before the first verdict is applied.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use psentry_records::{OutcomeBody, OutcomeResult, Prefix, Timestamp};
use psentry_stage::panic_file::PanicFile;
use psentry_stage::{Bell, FifoWriter, FileWatch, LastGood, counted};

use super::Engine;
use super::backend_state::{BackendState, End};
use crate::backends;
use crate::block::Block;
use crate::brake::Brake;
use crate::cli::{Flags, Which};
use crate::clock::Clock;
use crate::desired::{Capacity, Desired};
use crate::error::Error;
use crate::journal::{CommandState, Journal, JournalEntry, Place, Recorded};
use crate::outcomes::{EVENTS, Outcomes, PANIC_OVER, Sink, common_of, report};
use crate::reach::Reach;
use crate::settings;
use crate::worker::{KillOnBlock, Worker};

/// How long backends have time to say at the start what is there.
const FIRST_LIST: Duration = Duration::from_secs(10);

/// What an engine is made for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To run.
    Serve,
    /// For one question: one that blocks, one that releases, one that changes nothing.
    Block,
    Release,
    Read,
}

impl Engine {
    /// An engine whose backends have said what is there, or have had time to. `asked` is readable when somebody asks to stop.
    ///
    /// # Errors
    /// When none of them can work: why the first one cannot.
    pub(super) fn start(
        flags: &Flags,
        host: Option<String>,
        chosen: Vec<Which>,
        sink: Option<Sink>,
        asked: BorrowedFd<'_>,
        purpose: Purpose,
    ) -> Result<Self, Error> {
        let (once, read_only) = (purpose != Purpose::Serve, purpose == Purpose::Read);
        let mut guard = settings::guard(flags, LastGood::of_state(flags.state.as_deref().filter(|_| !once)))?;
        let panic_file = PanicFile::default();
        let files = watch([guard.files(), vec![panic_file.path().to_owned()]].concat());
        // Whoever is connected by now may have been for long.
        guard.glance();
        let (state, roll) = (flags.state.as_deref(), flags.exec_roll.as_deref());
        let place = if once { Place::of_command(state, roll) } else { Place::of_engine(state, roll) };
        let nothing_real = chosen.iter().all(|which| *which == Which::DryRun);
        let judge = (!nothing_real && !read_only).then(|| FifoWriter::at(EVENTS.into()));
        let (journal, mut recorded) =
            if nothing_real { (None, Recorded::default()) } else { open_journal(&place, once, read_only)? };
        let clock = Clock::start(recorded.newest);
        let bell = Bell::new().map_err(Error::system("open an eventfd"))?;
        let outcomes = Outcomes::new(sink, host, asked, bell.clone())?;
        let reach = flags.reach();
        let panic_mark = panic_file.mark();
        let mut engine = Engine {
            // What is remembered is no affair of a command that asks one question.
            desired: Desired::new(if once { usize::MAX } else { flags.max_blocks }),
            max_blocks: flags.max_blocks,
            ports: reach.ports,
            backends: Vec::new(),
            bell,
            journal,
            by_command: std::mem::take(&mut recorded.by_command),
            outcomes,
            judge,
            guard,
            files,
            brake: flags.brake.map(Brake::new),
            capacity: Capacity::default(),
            panic: panic_file.holds(),
            panic_over: panic_file.last().and_then(|order| order.over),
            panic_file,
            panic_mark,
            questions: Vec::new(),
            purpose,
            clock,
            adopts: !recorded.known && !read_only,
        };
        engine.restore(recorded.blocks);
        engine.heed_last_panic();
        for which in chosen {
            engine.hire(flags, which, reach)?;
        }
        engine.await_first_lists();
        for state in &mut engine.backends {
            state.restoring = state.queue.iter().collect();
        }
        let broken = engine.backends.iter().map(|state| Some(state.broken.as_ref()?.error.clone()));
        match broken.collect::<Option<Vec<Error>>>().and_then(|errors| errors.into_iter().next()) {
            Some(error) if !once => Err(error),
            _ => Ok(engine),
        }
    }

    /// A thread for each lane of a backend. What it has to open is opened here; whether it can work it says later.
    fn hire(&mut self, flags: &Flags, which: Which, reach: Reach) -> Result<(), Error> {
        let first = backends::open(which, flags)?;
        let caps = first.caps();
        let index = self.backends.len();
        let mut workers = Vec::new();
        let mut lanes = vec![first];
        for _ in 1..caps.lanes {
            lanes.push(backends::open(which, flags)?);
        }
        for backend in lanes {
            let kill = if which == Which::DryRun { None } else { KillOnBlock::open(reach)? };
            workers.push(Worker::start(backend, kill, self.bell.clone())?);
        }
        let mut state = BackendState::new(caps, workers, self.clock.now());
        if caps.journaled {
            for (scope, CommandState { confirmed, unsure }) in std::mem::take(&mut self.by_command) {
                state.actual.entries.extend(confirmed.as_ref().map(|block| (scope, block.entry(scope))));
                state.actual.unsure.extend(unsure.as_ref().map(|_| scope));
                // What is not wanted any more is undone for whom it was done.
                let block = confirmed.or(unsure).filter(|_| self.desired.get(scope).is_none());
                state.ending.extend(block.map(|block| (scope, (block, End::Released(None)))));
            }
        }
        self.backends.push(state);
        self.begin_sync(index, true);
        Ok(())
    }

    /// Takes over what was wanted before, except addresses that must not be blocked by now.
    pub(super) fn restore(&mut self, blocks: impl IntoIterator<Item = (Prefix, Block)>) {
        let now = self.clock.now();
        let blocks = blocks.into_iter().filter(|(_, block)| !block.is_over(now));
        let mut blocks: Vec<(Prefix, Block)> = blocks.collect();
        // Each block is moved once.
        blocks.sort_by_cached_key(|(scope, _)| *scope);
        let total = blocks.len();
        self.desired.reserve(total);
        let mut over = 0;
        for (scope, block) in blocks {
            if let Ok(Some(why)) = self.guard.refusal(scope)
                && !self.is_once()
            {
                let outcome =
                    OutcomeBody::new(psentry_records::Action::Block, scope, None, OutcomeResult::Refused);
                self.outcomes.complain(&format!("refused: {why}"));
                self.outcomes.outcome(
                    &common_of(&block, Timestamp::now()),
                    OutcomeBody { error: Some(why), ..outcome },
                );
                self.record(JournalEntry::Released(scope));
            } else if !self.desired.restore(scope, block) {
                over += 1;
                self.record(JournalEntry::Released(scope));
            }
        }
        if over > 0 {
            report(&format!(
                "{over} of {total} remembered blocks are not put back: they are more than --max-blocks {} allows",
                self.max_blocks
            ));
            self.capacity.refused(over, Instant::now());
        }
    }

    /// Releases the blocks that a panic ended which was declared while no psentry-block ran.
    fn heed_last_panic(&mut self) {
        let Some(order) = self.panic_file.last() else { return };
        let released = self.release_before(&order);
        let said = match order.over {
            None => order.sentence(),
            Some(_) if released == 0 => return,
            Some(_) => format!(
                "there was a panic: {} put back",
                counted(released as u64, "block is not", "blocks are not")
            ),
        };
        // Whoever asks one question hears of it where it matters for the answer.
        if !self.is_once() {
            report(&said);
        }
        if order.over.is_some() {
            self.tell_judge_of_all(PANIC_OVER, None, None);
        }
    }

    /// Without a journal what an earlier run left on a backend is wanted, unless its own note says that it is over.
    pub(super) fn adopt(&mut self, index: usize) {
        let there = self.backends.get(index).into_iter().flat_map(|state| state.actual.entries.values());
        let there: Vec<(Prefix, Block)> = there.map(|entry| (entry.scope, Block::from(entry))).collect();
        let scopes: Vec<Prefix> = there.iter().map(|(scope, _)| *scope).collect();
        self.restore(there);
        for scope in scopes {
            self.record_wanted(scope);
            self.enqueue_everywhere(scope);
        }
    }

    /// Waits until every backend has said what is there, or has had time to.
    fn await_first_lists(&mut self) {
        let deadline = Instant::now() + FIRST_LIST;
        while !self.backends.iter().all(BackendState::has_answered) && Instant::now() < deadline {
            self.wait(deadline.saturating_duration_since(Instant::now()));
            self.take_events();
        }
    }

    /// Waits until something happens, or for so long.
    pub(super) fn wait(&self, most: Duration) {
        let mut fds = [PollFd::new(self.bell.as_fd(), PollFlags::POLLIN)];
        let most = most.saturating_add(Duration::from_millis(1));
        // Interrupted, it only looks sooner.
        let _ = poll(&mut fds, PollTimeout::try_from(most).unwrap_or(PollTimeout::MAX));
    }
}

/// A watch over files. Without one they are looked at before each verdict, and every minute.
fn watch(files: Vec<PathBuf>) -> Option<FileWatch> {
    let opened = FileWatch::open(&files);
    if let Err(error) = &opened {
        report(&format!(
            "inotify cannot be used ({error}): while nothing else happens, a change of --allow is heeded within a minute"
        ));
    }
    opened.ok()
}

/// The journal at its place. One at the default place that another psentry-block keeps is done without.
fn open_journal(place: &Place, once: bool, read_only: bool) -> Result<(Option<Journal>, Recorded), Error> {
    if read_only {
        return Ok((None, place.read()?));
    }
    match Journal::open(place, report) {
        Ok((journal, recorded)) => Ok((Some(journal), recorded)),
        Err(error @ Error::Kept { .. }) if place.given || once => Err(error),
        Err(error) => {
            report(&format!("{error}; this one remembers nothing beyond its end"));
            Ok((None, Recorded::default()))
        }
    }
}
