//! The threads behind the control socket: one takes connections, one for each reads a line, waits for what the main
//! loop and the workers have to say, and writes it. All of it is bounded: how many at once, how long a line, how long
//! the reading, the waiting and the writing. Whoever connects and is silent holds up nobody.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::eventfd::{EfdFlags, EventFd};
use psentry_records::MAX_LINE;

use super::socket::{Socket, left};
use super::words::{Answer, Question, Request, trouble};
use crate::error::Error;

/// How many connections are served at once; more are told to come again.
const MOST: usize = 8;

/// How long a line may take to come.
const READING: Duration = Duration::from_secs(2);

/// How long it is waited until a verdict is carried out.
const DOING: Duration = Duration::from_secs(10);

/// How long it is waited until backends say how they are.
const TELLING: Duration = Duration::from_secs(3);

/// How long a reader may take for the answer.
const WRITING: Duration = Duration::from_secs(2);

/// How long nothing is accepted when no descriptor is left.
const PAUSE: Duration = Duration::from_millis(100);

/// The control socket, as the main loop sees it.
pub(crate) struct Control {
    requests: Receiver<Request>,
    bell: Arc<EventFd>,
    _socket: Socket,
}

/// What the threads share.
#[derive(Clone)]
struct Desk {
    requests: SyncSender<Request>,
    bell: Arc<EventFd>,
    busy: Arc<AtomicUsize>,
}

impl Control {
    /// Listens at `path`, which those may open whom `mode` lets.
    ///
    /// # Errors
    /// When a living process listens there, or nobody can.
    pub(crate) fn listen(path: &Path, mode: u32) -> Result<Self, Error> {
        let (socket, listener) = Socket::listen(path, mode)?;
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        let bell = EventFd::from_flags(flags).map_err(|e| Error::system("make a bell")(e.into()))?;
        let bell = Arc::new(bell);
        let (tell, requests) = sync_channel(MOST);
        let desk = Desk { requests: tell, bell: Arc::clone(&bell), busy: Arc::default() };
        thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || desk.accept(&listener))
            .map_err(Error::system("start a thread"))?;
        Ok(Control { requests, bell, _socket: socket })
    }

    /// Readable when somebody asks.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub(crate) fn bell(&self) -> Result<OwnedFd, Error> {
        self.bell.as_fd().try_clone_to_owned().map_err(Error::system("hear the bell"))
    }

    /// What is asked. Never waits, and costs no call unless the bell may have been `rung`.
    pub(crate) fn requests(&self, rung: bool) -> Vec<Request> {
        // The bell first: whoever rings has asked before.
        if rung {
            let _ = self.bell.read();
        }
        self.requests.try_iter().collect()
    }
}

impl Desk {
    /// Takes connections as long as the program runs.
    fn accept(&self, listener: &UnixListener) {
        for stream in listener.incoming() {
            let Ok(stream) = stream else {
                thread::sleep(PAUSE);
                continue;
            };
            if self.busy.fetch_add(1, Ordering::AcqRel) >= MOST {
                self.busy.fetch_sub(1, Ordering::AcqRel);
                let _ = stream.set_nonblocking(true);
                let _ = (&stream).write_all(&trouble("too many ask at once; ask again"));
                continue;
            }
            let seat = Seat(Arc::clone(&self.busy));
            let desk = self.clone();
            // Without a thread it is simply closed.
            let _ = thread::Builder::new().name("control".to_owned()).spawn(move || {
                let _seat = seat;
                desk.serve(stream);
            });
        }
    }

    fn serve(&self, stream: UnixStream) {
        let mut out = Out { stream: &stream, spent: Duration::ZERO };
        let answered = match read_line(&stream) {
            Ok(line) => match Question::read(&line) {
                Ok(question) => self.answer(question, &mut out),
                Err(why) => out.line(&trouble(why)),
            },
            Err(why) => out.line(&trouble(why)),
        };
        // Whoever does not read is not answered.
        drop(answered);
    }

    /// Has a question answered.
    fn answer(&self, question: Question, out: &mut Out<'_>) -> io::Result<()> {
        let (answers, told) = channel();
        let late = Late::of(&question);
        let limit = late.limit();
        match self.requests.try_send(Request { question, answers }) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return out.line(&trouble("too many ask at once; ask again")),
            Err(TrySendError::Disconnected(_)) => return out.line(&trouble("psentry-block is ending")),
        }
        let _ = self.bell.write(1);
        let asked = Instant::now();
        let mut expected: Option<Vec<&'static str>> = None;
        while expected.as_ref().is_none_or(|names| !names.is_empty()) {
            match told.recv_timeout(limit.saturating_sub(asked.elapsed())) {
                Ok(Answer::Expect(names)) => expected = Some(names),
                Ok(Answer::Lines(by, lines)) => {
                    out.line(&lines)?;
                    match by {
                        Some(by) => expected.iter_mut().for_each(|names| names.retain(|name| *name != by)),
                        None => return Ok(()),
                    }
                }
                Err(RecvTimeoutError::Timeout) if expected.is_none() => {
                    return out.line(&trouble("psentry-block does not get to it"));
                }
                Err(RecvTimeoutError::Disconnected) if expected.is_none() => {
                    return out.line(&trouble("psentry-block is ending"));
                }
                // They are gone without an answer, or are late.
                Err(_) => break,
            }
        }
        for name in expected.unwrap_or_default() {
            out.line(&late.line(name))?;
        }
        Ok(())
    }
}

/// What is said of a backend that has not answered in time.
struct Late(Option<psentry_records::Verdict>, Duration);

impl Late {
    fn of(question: &Question) -> Self {
        match question {
            Question::Verdict(verdict) => Late(Some((**verdict).clone()), DOING),
            Question::LetIn(..) => Late(None, DOING),
            Question::Status | Question::Why(_) => Late(None, TELLING),
        }
    }

    fn limit(&self) -> Duration {
        self.1
    }

    fn line(&self, backend: &str) -> Vec<u8> {
        let why = format!("{backend} has not answered within {} s", self.limit().as_secs());
        match &self.0 {
            Some(verdict) => super::serving::failed(verdict, backend, why + ", and may still do it"),
            None => super::words::line(&crate::people::Report::without(backend, why)),
        }
    }
}

/// A connection that is served; whatever ends it, the next one may come.
struct Seat(Arc<AtomicUsize>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// One line, within its time.
fn read_line(mut stream: &UnixStream) -> Result<String, String> {
    let since = Instant::now();
    let mut text = Vec::new();
    let mut piece = [0; 512];
    while !text.contains(&b'\n') {
        if text.len() >= MAX_LINE {
            return Err(format!("a line of more than {MAX_LINE} bytes is no question"));
        }
        let got = left(READING, since)
            .and_then(|left| stream.set_read_timeout(Some(left)))
            .and_then(|()| stream.read(&mut piece));
        match got {
            Ok(0) => break,
            Ok(got) => text.extend_from_slice(piece.get(..got).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Err(format!("no question came within {} s", READING.as_secs())),
        }
    }
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    String::from_utf8(line.to_vec()).map_err(|_| "a question is UTF-8".to_owned())
}

/// Where answers are written, for a bounded time in all.
struct Out<'a> {
    stream: &'a UnixStream,
    /// How long its reader was waited for.
    spent: Duration,
}

impl Out<'_> {
    fn line(&mut self, line: &[u8]) -> io::Result<()> {
        let began = Instant::now();
        let mut rest = line;
        while !rest.is_empty() {
            self.stream.set_write_timeout(Some(left(WRITING.saturating_sub(self.spent), began)?))?;
            match self.stream.write(rest) {
                Ok(wrote) => rest = rest.get(wrote..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.spent += began.elapsed();
        Ok(())
    }
}
