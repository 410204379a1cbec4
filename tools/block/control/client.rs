//! The other end of the control socket: asks a running psentry-block, and waits for its answer, but not for ever.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use psentry_records::{Prefix, Verdict};

use super::socket::{left, reach};
use super::words::{Ask, Trouble, line};

/// How long a running psentry-block may take to carry out a verdict: as long as it waits for its backends, and some.
pub(crate) const DOING: Duration = Duration::from_secs(13);

/// How long it may take to say how it is.
pub(crate) const TELLING: Duration = Duration::from_secs(4);

/// The pause before asking again where too many ask at once.
const AGAIN: Duration = Duration::from_millis(100);

/// The longest answer that is read: a line for each of so many blocks as nobody has.
const LONGEST: usize = 1 << 28;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Silence {
    /// Nobody listens there, and nobody did.
    Absent,
    /// Whoever listened there is dead.
    Dead,
    /// Whoever listens there does not answer in time.
    Hangs,
    /// This user may not ask.
    Forbidden,
    /// It answered that it cannot; in a sentence.
    Refused(String),
}

/// What was asked for on the control socket.
pub(crate) enum What<'a> {
    /// To carry out a verdict.
    Do(&'a Verdict),
    /// How its backends are.
    Status,
    /// Which blocks overlap this, and what would become of a verdict.
    Why(Prefix),
    /// To give up what does not stand yet on these backends; none named: on all.
    TakeBack(Vec<String>),
    /// To let in all whom a backend shuts out; whether that is waited for.
    LetIn(&'a str, bool),
}

/// Asks, and gives the lines of the answer.
pub(crate) fn ask(path: &Path, what: &What<'_>, limit: Duration) -> Result<Vec<String>, Silence> {
    let mut question = Vec::new();
    match what {
        What::Do(verdict) => {
            let verdict = psentry_records::Record::Verdict((*verdict).clone());
            verdict.encode(&mut question).map_err(|error| Silence::Refused(error.to_string()))?;
        }
        What::Status => question = line(&Ask::Status),
        What::Why(scope) => {
            let addr = if scope.is_host() { scope.addr().to_string() } else { scope.to_string() };
            question = line(&Ask::Why { addr });
        }
        What::TakeBack(backends) => question = line(&Ask::TakeBack { backends: backends.clone() }),
        What::LetIn(backend, wait) => {
            question = line(&Ask::LetIn { backends: vec![(*backend).to_owned()], wait: *wait });
        }
    }
    let since = Instant::now();
    loop {
        let text = exchange(path, &question, limit, since).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Silence::Absent,
            io::ErrorKind::ConnectionRefused => Silence::Dead,
            io::ErrorKind::PermissionDenied => Silence::Forbidden,
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Silence::Hangs,
            // It ended meanwhile.
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Silence::Dead,
            _ => Silence::Refused(error.to_string()),
        })?;
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let trouble = lines.last().and_then(|line| serde_json::from_str::<Trouble>(line).ok());
        match trouble.filter(|_| lines.len() == 1) {
            Some(Trouble { error }) if error.starts_with("too many") && since.elapsed() < limit => {
                thread::sleep(AGAIN);
            }
            Some(Trouble { error }) => return Err(Silence::Refused(psentry_stage::printable(&error))),
            None => return Ok(lines),
        }
    }
}

fn exchange(path: &Path, question: &[u8], limit: Duration, since: Instant) -> io::Result<String> {
    let mut stream = reach(path)?;
    stream.set_write_timeout(Some(left(limit, since)?))?;
    match stream.write_all(question).and_then(|()| stream.shutdown(Shutdown::Write)) {
        // Whoever closed at once may have said why.
        Err(error) if !matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::NotConnected) => {
            return Err(error);
        }
        _ => {}
    }
    let mut text = Vec::new();
    let mut piece = [0; 4096];
    loop {
        stream.set_read_timeout(Some(left(limit, since)?))?;
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(got) => text.extend_from_slice(piece.get(..got).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset && !text.is_empty() => break,
            Err(error) => return Err(error),
        }
        if text.len() > LONGEST {
            return Err(io::Error::other("its answer has no end"));
        }
    }
    String::from_utf8(text).map_err(io::Error::other)
}
