//! The thread of a backend. It is as dumb as the backend: it takes one task after the other, tells the engine what came of each,
//! and says when somebody else changed something. A backend that hangs holds up its own thread and nobody else.

use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread;
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use psentry_records::Timestamp;
use psentry_stage::Pulse;

use crate::backend::{Backend, Drift, Listing, Op};
use crate::error::Error;
use crate::kill_on_block::KillOnBlock;

/// What a worker is to do.
#[derive(Debug)]
pub(crate) enum Task {
    /// [`Backend::ensure`], unless it is only read, then [`Backend::list`].
    Sync { ensure: bool },
    /// [`Backend::apply`].
    Apply(Vec<Op>),
    /// [`Backend::purge`].
    Purge,
}

/// What became of it, or happened meanwhile.
#[derive(Debug)]
pub(crate) enum Event {
    /// What is there, and whether what it is in had to be made.
    Synced { made: Result<bool, Error>, listing: Result<Listing, Error> },
    /// A result for each operation.
    Applied(Vec<Result<(), Error>>),
    /// All of it is deleted, or not.
    Purged(Result<(), Error>),
    /// Somebody else changed something, or nobody knows.
    Drifted(Result<Drift, Error>),
    /// The thread broke, which is a bug of psentry.
    Broke,
}

/// A descriptor that is readable once it was rung.
#[derive(Clone)]
pub(crate) struct Bell(Arc<EventFd>);

/// A worker, as the engine sees it. Dropping it ends the thread, as soon as the backend returns.
pub(crate) struct Worker {
    tasks: Sender<Task>,
    bell: Bell,
    events: Receiver<Event>,
    pub(crate) pulse: Pulse,
}

impl Bell {
    /// One that is silent.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub(crate) fn new() -> Result<Self, Error> {
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        let bell = EventFd::from_flags(flags).map_err(|e| Error::system("open an eventfd")(e.into()))?;
        Ok(Bell(Arc::new(bell)))
    }

    /// Makes it readable.
    pub(crate) fn ring(&self) {
        // Refused only where it was rung 2^64 times.
        let _ = self.0.write(1);
    }

    /// Makes it silent again.
    pub(crate) fn silence(&self) {
        let _ = self.0.read();
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Worker {
    /// Starts a thread that works with `backend`, and rings `engine` whenever it tells something.
    ///
    /// # Errors
    /// When no thread is to be had.
    pub(crate) fn start(
        backend: Box<dyn Backend>,
        kill: Option<KillOnBlock>,
        engine: Bell,
    ) -> Result<Self, Error> {
        let ((tasks, waiting), (sender, events)) = (channel(), channel());
        let (bell, pulse) = (Bell::new()?, Pulse::default());
        let mut thread = Thread { backend, kill, waiting, bell: bell.clone(), pulse: pulse.clone() };
        let tell = move |event| {
            let _ = sender.send(event);
            engine.ring();
        };
        let name = thread.backend.caps().name;
        let run = move || {
            let pulse = thread.pulse.clone();
            if catch_unwind(AssertUnwindSafe(|| thread.run(&tell))).is_err() {
                tell(Event::Broke);
            }
            pulse.wait();
        };
        thread::Builder::new().name(name.to_owned()).spawn(run).map_err(Error::system("start a thread"))?;
        Ok(Worker { tasks, bell, events, pulse })
    }

    /// Gives it a task.
    pub(crate) fn give(&self, task: Task) {
        let _ = self.tasks.send(task);
        self.bell.ring();
    }

    /// What it has told next, if anything.
    pub(crate) fn event(&self) -> Option<Event> {
        self.events.try_recv().ok()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // The other end of the channel goes before this, so that the thread finds it gone.
        let (gone, _) = channel();
        self.tasks = gone;
        self.bell.ring();
    }
}

/// What a thread has.
struct Thread {
    backend: Box<dyn Backend>,
    kill: Option<KillOnBlock>,
    waiting: Receiver<Task>,
    bell: Bell,
    pulse: Pulse,
}

impl Thread {
    fn run(&mut self, tell: &impl Fn(Event)) {
        let mut polled = Instant::now();
        // Before the first sync nothing is subscribed to, and what is read only is not watched.
        let mut watches = false;
        loop {
            self.pulse.wait();
            // Which variant of a program is there may be known only now.
            let caps = self.backend.caps();
            let (tasks, mut changed) = self.wait(watches, caps.poll_every.map(|every| (every, polled)));
            self.pulse.step();
            if tasks {
                self.bell.silence();
                loop {
                    match self.waiting.try_recv() {
                        Ok(task) => {
                            watches |= matches!(task, Task::Sync { ensure: true });
                            tell(self.perform(task, caps.name));
                            // During a task a backend may read notifications, which make it readable no more.
                            changed |= watches && caps.poll_every.is_none();
                        }
                        Err(TryRecvError::Empty) => break,
                        Err(TryRecvError::Disconnected) => return,
                    }
                }
            }
            let due = watches && caps.poll_every.is_some_and(|every| polled.elapsed() >= every);
            if changed || due {
                polled = Instant::now();
                match self.backend.drift() {
                    Ok(None) => {}
                    Ok(Some(drift)) => tell(Event::Drifted(Ok(drift))),
                    Err(error) => tell(Event::Drifted(Err(error))),
                }
            }
        }
    }

    /// Waits for a task, or a change; which of them there is.
    fn wait(&self, watches: bool, poll_every: Option<(std::time::Duration, Instant)>) -> (bool, bool) {
        let events = self.backend.events().filter(|_| watches);
        let mut fds = vec![PollFd::new(self.bell.as_fd(), PollFlags::POLLIN)];
        fds.extend(events.map(|events| PollFd::new(events, PollFlags::POLLIN)));
        let rest = poll_every.filter(|_| watches).map(|(every, polled)| {
            // Rounded up, so that it is over when it is.
            every.saturating_sub(polled.elapsed()).saturating_add(std::time::Duration::from_millis(1))
        });
        let timeout =
            rest.map_or(PollTimeout::NONE, |rest| PollTimeout::try_from(rest).unwrap_or(PollTimeout::MAX));
        // Interrupted, it only looks sooner.
        let _ = poll(&mut fds, timeout);
        let is_readable = |fd: Option<&PollFd<'_>>| fd.and_then(PollFd::any).unwrap_or(false);
        (is_readable(fds.first()), is_readable(fds.get(1)))
    }

    fn perform(&mut self, task: Task, name: &str) -> Event {
        match task {
            Task::Sync { ensure } => {
                let made = if ensure { self.backend.ensure() } else { Ok(false) };
                let listing = match &made {
                    Ok(_) => self.backend.list(),
                    Err(error) => Err(error.clone()),
                };
                Event::Synced { made, listing }
            }
            Task::Apply(ops) => {
                let results = self.backend.apply(&ops, Timestamp::now());
                if let Some(kill) = &mut self.kill {
                    kill.after(name, &ops, &results);
                }
                Event::Applied(results)
            }
            Task::Purge => Event::Purged(self.backend.purge()),
        }
    }
}
