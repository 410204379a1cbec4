//! The threads behind the control socket. One accepts connections; one for each reads a line, waits for what the main loop
//! answers, and writes it. All of it is bounded: how many at once, how long a line, how long the reading, the waiting and the
//! writing. Whoever connects and is silent holds up nobody.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::geteuid;
use psentry_stage::Bell;

use crate::refusal::{self, Kind};
use crate::socket::{Socket, left};
use crate::{ControlError, LONGEST_LINE, Question};

/// How many connections of users who may only ask are served at once, and of each user who may change something; more are asked
/// to come again. So nobody who may only ask keeps out who may change.
const MOST: usize = 8;

/// How many connections of one user who may only ask.
const OF_ONE_USER: usize = 4;

/// How long nothing is accepted when no descriptor is left.
const PAUSE: Duration = Duration::from_millis(100);

/// How often it is looked at the end whether everybody has his answer.
const TICK: Duration = Duration::from_millis(5);

/// How long a slow client is waited for.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// For the whole question.
    reading: Duration,
    /// For the whole answer of the main loop.
    waiting: Duration,
    /// For the client to read, in all.
    writing: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Limits { reading: seconds(2), waiting: seconds(15), writing: seconds(2) }
    }
}

/// The control socket, as the main loop sees it.
#[derive(Debug)]
pub struct Server {
    requests: Receiver<Request>,
    shared: Arc<Shared>,
    _socket: Socket,
}

/// A question.
#[derive(Debug)]
pub struct Request {
    /// The line, without its newline.
    pub line: String,
    /// Whether who asks may change something: root, and the user that this process runs as. Who asks the kernel says, as it saw him
    /// when the connection was made (unix(7), `SO_PEERCRED`).
    pub may_change: bool,
    /// Where the answer goes.
    pub answer: Answer,
}

/// Where lines of an answer go. The answer ends when this is dropped; after the end of the [`Server`] it ends with that nobody
/// answers any more. Nobody waits here for the client.
#[derive(Debug)]
pub struct Answer {
    lines: Sender<Vec<u8>>,
    shared: Arc<Shared>,
}

/// A server that accepts no more questions, but delivers the answers that there are.
#[derive(Debug)]
pub struct Closing(Arc<Shared>);

/// What the threads share.
#[derive(Debug)]
struct Shared {
    bell: Bell,
    /// The user of each connection that is served.
    served: Mutex<Vec<u32>>,
    /// No question is answered any more.
    ending: AtomicBool,
    owner: String,
    limits: Limits,
}

impl Shared {
    fn served(&self) -> MutexGuard<'_, Vec<u32>> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Request {
    /// What is asked, and where the answer goes; `None`: it is no question, or this user may not ask that, and that was answered.
    #[must_use]
    pub fn question(self) -> Option<(Question, Answer)> {
        match Question::parse(&self.line) {
            Err(why) => self.answer.refuse(&why),
            Ok(question) if question.changes() && !self.may_change => self.answer.forbid(),
            Ok(question) => return Some((question, self.answer)),
        }
        None
    }
}

impl Answer {
    /// Sends lines, each with its newline.
    pub fn send(&self, lines: Vec<u8>) {
        // Whoever asked may have left.
        let _ = self.lines.send(lines);
    }

    /// Ends the answer with a sentence on why it is missing or incomplete.
    pub fn refuse(self, why: &str) {
        self.send(refusal::line(why, None));
    }

    /// Ends the answer with that this user may not ask that: the client's `Silence::Forbidden`.
    pub fn forbid(self) {
        let why = "only root and the user of the service may ask this";
        self.send(refusal::line(why, Some(Kind::Forbidden)));
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        // Whoever ends may have left it unanswered.
        if self.shared.ending.load(Ordering::Acquire) {
            self.send(is_ending(&self.shared.owner));
        }
    }
}

impl Closing {
    /// Waits until each client has its answer, for at most as long as a client may take to read.
    pub fn wait(&self) {
        let began = Instant::now();
        while !self.0.served().is_empty() && began.elapsed() < self.0.limits.writing {
            thread::sleep(TICK);
        }
    }
}

impl Server {
    /// Listens at `path`, where those may connect whom `mode` lets, in the name of the program `owner`. Call it before the first thread is
    /// started: it changes the umask for a moment.
    ///
    /// # Errors
    /// When a living process listens there, something else is there, or the system refuses.
    pub fn listen(path: &Path, mode: u32, owner: &str) -> Result<Self, ControlError> {
        Self::with(path, mode, owner, Limits::default())
    }

    fn with(path: &Path, mode: u32, owner: &str, limits: Limits) -> Result<Self, ControlError> {
        let failed = |doing| {
            let path = path.to_owned();
            move |why: io::Error| ControlError::File { path, doing, why }
        };
        let bell = Bell::new().map_err(failed("make a bell for it"))?;
        let (socket, listener) = Socket::listen(path, mode, owner)?;
        // Of root, of the service's user, and of all others.
        let (sender, requests) = sync_channel(3 * MOST);
        let shared = Arc::new(Shared {
            bell,
            served: Mutex::default(),
            ending: AtomicBool::new(false),
            owner: owner.to_owned(),
            limits,
        });
        let acceptor = Acceptor { requests: sender, shared: Arc::clone(&shared) };
        thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || acceptor.accept(&listener))
            .map_err(failed("start a thread for it"))?;
        Ok(Server { requests, shared, _socket: socket })
    }

    /// Readable when something was asked since the last [`requests`](Self::requests).
    ///
    /// # Errors
    /// When no descriptor is left.
    pub fn bell(&self) -> io::Result<OwnedFd> {
        self.shared.bell.as_fd().try_clone_to_owned()
    }

    /// What was asked. Never waits.
    pub fn requests(&self) -> Vec<Request> {
        // The bell first: it is rung after a question is there.
        self.shared.bell.silence();
        self.requests.try_iter().collect()
    }

    /// Accepts no more questions. Answers that there are by now are delivered, which [`Closing::wait`] waits for.
    #[must_use]
    pub fn close(self) -> Closing {
        Closing(Arc::clone(&self.shared))
    }
}

/// Readable as [`bell`](Self::bell) is.
impl AsFd for Server {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.bell.as_fd()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.ending.store(true, Ordering::Release);
    }
}

/// What accepts connections, and each connection's thread.
#[derive(Clone)]
struct Acceptor {
    requests: SyncSender<Request>,
    shared: Arc<Shared>,
}

impl Acceptor {
    /// Accepts as long as the program runs.
    fn accept(&self, listener: &UnixListener) {
        for stream in listener.incoming() {
            let Ok(stream) = stream else {
                thread::sleep(PAUSE);
                continue;
            };
            let Ok(credentials) = getsockopt(&stream, PeerCredentials) else { continue };
            let uid = credentials.uid();
            let Some(slot) = Slot::take(&self.shared, uid) else {
                let _ = stream.set_nonblocking(true);
                let _ = (&stream).write_all(&busy());
                continue;
            };
            let acceptor = self.clone();
            // Without a thread the connection is closed.
            let _ = thread::Builder::new().name("control".to_owned()).spawn(move || {
                let _slot = slot;
                // A client that does not read is not answered.
                let _ = acceptor.serve(&stream, uid);
            });
        }
    }

    /// Serves one connection.
    fn serve(&self, stream: &UnixStream, uid: u32) -> io::Result<()> {
        let mut out = Out { stream, left: self.shared.limits.writing };
        match read_line(stream, self.shared.limits.reading) {
            Ok(line) => self.answer(line, uid, &mut out)?,
            Err(why) => out.write(&refusal::line(&why, None))?,
        }
        out.write(b"\n")
    }

    /// Has a question answered.
    fn answer(&self, line: String, uid: u32, out: &mut Out<'_>) -> io::Result<()> {
        let Shared { owner, limits, bell, .. } = &*self.shared;
        let (sender, lines) = channel();
        let may_change = may_change(uid);
        let answer = Answer { lines: sender, shared: Arc::clone(&self.shared) };
        match self.requests.try_send(Request { line, may_change, answer }) {
            Ok(()) => {}
            // More than are served at once: nobody has taken those whose time is over.
            Err(TrySendError::Full(_)) => return out.write(&hangs(owner, limits.waiting)),
            Err(TrySendError::Disconnected(_)) => return out.write(&is_ending(owner)),
        }
        bell.ring();
        let asked = Instant::now();
        loop {
            match lines.recv_timeout(limits.waiting.saturating_sub(asked.elapsed())) {
                Ok(lines) => out.write(&lines)?,
                Err(RecvTimeoutError::Timeout) => return out.write(&hangs(owner, limits.waiting)),
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    }
}

fn busy() -> Vec<u8> {
    refusal::line("too many ask at once; ask again", Some(Kind::Busy))
}

fn hangs(owner: &str, limit: Duration) -> Vec<u8> {
    let why = format!("{owner} hangs: it has not answered within {} s", limit.as_secs());
    refusal::line(&why, Some(Kind::Hangs))
}

fn is_ending(owner: &str) -> Vec<u8> {
    refusal::line(&format!("{owner} is ending"), Some(Kind::Ending))
}

/// Whether a user may change something: root, and the user that this process runs as.
fn may_change(uid: u32) -> bool {
    uid == 0 || uid == geteuid().as_raw()
}

/// A connection of a user that is served; whatever ends it, the next one may come.
struct Slot {
    shared: Arc<Shared>,
    uid: u32,
}

impl Slot {
    /// One for this user, if one is left.
    fn take(shared: &Arc<Shared>, uid: u32) -> Option<Self> {
        let mut served = shared.served();
        let own = served.iter().filter(|other| **other == uid).count();
        let others = served.iter().filter(|other| !may_change(**other)).count();
        let is_left = if may_change(uid) { own < MOST } else { own < OF_ONE_USER && others < MOST };
        is_left.then(|| {
            served.push(uid);
            Slot { shared: Arc::clone(shared), uid }
        })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut served = self.shared.served();
        if let Some(place) = served.iter().position(|uid| *uid == self.uid) {
            served.swap_remove(place);
        }
    }
}

/// One line, without its newline, within its time.
fn read_line(mut stream: &UnixStream, limit: Duration) -> Result<String, String> {
    let since = Instant::now();
    let mut text = Vec::new();
    let mut piece = [0; 512];
    let end = loop {
        if let Some(end) = text.iter().position(|byte| *byte == b'\n') {
            break end;
        }
        if text.len() >= LONGEST_LINE {
            break text.len();
        }
        let got = left(limit, since)
            .and_then(|left| stream.set_read_timeout(Some(left)))
            .and_then(|()| stream.read(&mut piece));
        match got {
            Ok(0) => break text.len(),
            Ok(got) => text.extend_from_slice(piece.get(..got).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Err(format!("no question came within {} s", limit.as_secs())),
        }
    };
    if end >= LONGEST_LINE {
        return Err(format!("a line of more than {LONGEST_LINE} bytes is no question"));
    }
    text.truncate(end);
    String::from_utf8(text).map_err(|_| "a question is UTF-8".to_owned())
}

/// Where answers are written, for a bounded time in all.
struct Out<'a> {
    stream: &'a UnixStream,
    /// How long its reader is still waited for.
    left: Duration,
}

impl Out<'_> {
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        let began = Instant::now();
        let mut rest = lines;
        while !rest.is_empty() {
            self.stream.set_write_timeout(Some(left(self.left, began)?))?;
            match self.stream.write(rest) {
                Ok(wrote) => rest = rest.get(wrote..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.left = self.left.saturating_sub(began.elapsed());
        Ok(())
    }
}

#[cfg(test)]
mod tests;
