//! The thread of a backend. It is as dumb as the backend: it takes one task after the other, tells the engine what came of each,
//! and says when somebody else changed something. A backend that hangs holds up its own thread and nobody else. With `--cut` it
//! ends established connections of whom it has blocked.

use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use psentry_linux::{ConnectionKiller, Error as LinuxError, Targets};
use psentry_records::Timestamp;
use psentry_stage::{Bell, Pulse};

use crate::backend::{Backend, Drift, Listing, Op};
use crate::error::Error;
use crate::outcomes::report;
use crate::reach::{Established, Reach};

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

/// A worker, as the engine sees it. Dropping it ends the thread, as soon as the backend returns.
pub(crate) struct Worker {
    tasks: Sender<Task>,
    bell: Bell,
    events: Receiver<Event>,
    pub(crate) pulse: Pulse,
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
        let (bell, pulse) = (Bell::new().map_err(Error::system("open an eventfd"))?, Pulse::default());
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

/// How long a backend is not looked at after somebody changed it: what happens meanwhile is seen then. To look at iptables takes two
/// processes.
const REST: Duration = Duration::from_millis(100);

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
        // A backend that somebody changes all the time is not looked at all the time.
        let mut rests_until: Option<Instant> = None;
        loop {
            self.pulse.wait();
            // Which variant of a program is there may be known only now.
            let caps = self.backend.caps();
            let due = caps.poll_every.filter(|_| watches).map(|every| polled + every);
            rests_until = rests_until.filter(|until| *until > Instant::now());
            let mut changed =
                self.wait(watches && rests_until.is_none(), due.into_iter().chain(rests_until).min());
            self.pulse.step();
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
            if changed || due.is_some_and(|due| due <= Instant::now()) {
                polled = Instant::now();
                if let Some(drift) = self.backend.drift().transpose() {
                    rests_until = Some(polled + REST);
                    tell(Event::Drifted(drift));
                }
            }
        }
    }

    /// Waits for a task, for a change, or until it is `due`; whether there is a change.
    fn wait(&self, watches: bool, due: Option<Instant>) -> bool {
        let events = self.backend.events().filter(|_| watches);
        let mut fds = vec![PollFd::new(self.bell.as_fd(), PollFlags::POLLIN)];
        fds.extend(events.map(|events| PollFd::new(events, PollFlags::POLLIN)));
        // Rounded up, so that it is over when it is.
        let rest = due.map(|due| due.saturating_duration_since(Instant::now()) + Duration::from_millis(1));
        let timeout =
            rest.map_or(PollTimeout::NONE, |rest| PollTimeout::try_from(rest).unwrap_or(PollTimeout::MAX));
        // Interrupted, it only looks sooner.
        let _ = poll(&mut fds, timeout);
        fds.get(1).and_then(PollFd::any).unwrap_or(false)
    }

    fn perform(&mut self, task: Task, name: &str) -> Event {
        match task {
            Task::Sync { ensure } => {
                let made = if ensure { self.backend.ensure() } else { Ok(false) };
                let listing = made.clone().and_then(|_| self.backend.list());
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

/// What `--cut` adds to every backend: whoever is blocked loses established connections at once, but only if handshakes prove
/// who it is. A block that is put again, because others deleted it or after a reboot, does the same: the source may have
/// connected meanwhile. A block is in place whether or not connections could be killed, and its outcome says so; what went wrong is
/// said once.
pub(crate) struct KillOnBlock {
    killer: ConnectionKiller,
    /// Whether connections that this machine only forwards are killed, too.
    forward: bool,
    /// Whether this kernel can destroy sockets of others.
    sockets: bool,
    /// It has been said that something goes wrong, and still does.
    failing: bool,
}

impl KillOnBlock {
    /// For blocks with this reach; `None`: connections are not to be killed.
    ///
    /// # Errors
    /// When the kernel cannot be asked, or the right is missing.
    pub(crate) fn open(reach: Reach) -> Result<Option<Self>, Error> {
        if reach.established != Established::Cut {
            return Ok(None);
        }
        let mut killer = ConnectionKiller::open()?;
        let sockets = killer.can_destroy_sockets()?;
        if !sockets {
            // Each lane of each backend kills its own.
            static REPORTED: Once = Once::new();
            REPORTED.call_once(|| report(
                "--cut: this kernel cannot destroy sockets (it was built without CONFIG_INET_DIAG_DESTROY); nothing \
                 arrives from blocked sources, but services see that only when their own time is up",
            ));
        }
        Ok(Some(KillOnBlock { killer, forward: reach.forward, sockets, failing: false }))
    }

    /// Kills the connections of those whom these operations of a backend have blocked.
    pub(crate) fn after(&mut self, backend: &str, ops: &[Op], results: &[Result<(), Error>]) {
        let mut targets = Targets::default();
        for (op, _) in ops.iter().zip(results).filter(|(_, result)| result.is_ok()) {
            // Anybody may have forged what convicts an unproven source.
            if let Some(block) = op.block().filter(|block| !block.unproven) {
                targets.insert(op.scope(), &block.ports, block.transports());
            }
        }
        if targets.is_empty() {
            return;
        }
        match self.kill(&targets) {
            Ok(()) => self.failing = false,
            Err(error) if !self.failing => {
                self.failing = true;
                report(&format!("{backend}: --cut: connections of blocked sources may go on: {error}"));
            }
            Err(_) => {}
        }
    }

    fn kill(&mut self, targets: &Targets<'_>) -> Result<(), LinuxError> {
        let sockets = if self.sockets { self.killer.destroy_sockets(targets) } else { Ok(()) };
        // If one kind fails, the other one is killed nevertheless.
        let tracked = if self.forward { self.killer.delete_conntrack_entries(targets) } else { Ok(()) };
        sockets.and(tracked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_the_flag_nothing_is_opened() {
        assert!(KillOnBlock::open(Reach::default()).unwrap().is_none());
    }
}
