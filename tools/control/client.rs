//! The other end of the control socket: asks a program that runs, and waits for its answer, but not for ever.

use std::fs;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::refusal::{self, Kind};
use crate::reply::Reply;
use crate::socket::{left, open};

/// The pause before asking again where too many ask at once.
const AGAIN: Duration = Duration::from_millis(100);

/// The longest answer that is read, in bytes: a line for each of so many blocks as nobody has.
const LONGEST: usize = 1 << 28;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Silence {
    /// Nobody listens there, and there is no file that somebody did.
    Absent,
    /// Whoever listened there is dead, or died while it answered.
    Dead,
    /// Whoever listens there does not answer in time.
    Hangs,
    /// This user may not ask there, or may not ask that.
    Forbidden,
    /// It answered that it cannot; in a sentence that is fit for a terminal.
    Refused(String),
}

impl Silence {
    /// Why nothing was answered, as a sentence; `owner` is the program that should listen at `path`.
    #[must_use]
    pub fn sentence(&self, path: &Path, owner: &str) -> String {
        let why = match self {
            Silence::Forbidden => "you may not ask this here; run this as root".to_owned(),
            Silence::Refused(why) => why.clone(),
            Silence::Absent | Silence::Dead => format!("no {owner} answers"),
            Silence::Hangs => format!("{owner} hangs, and does not answer"),
        };
        format!("{}: {why}", path.display())
    }
}

/// Asks with one line, and gives the answer, all of it; it may say itself that something is missing.
///
/// # Errors
/// Why there is no answer within `limit`.
pub fn ask(path: &Path, line: &[u8], limit: Duration) -> Result<Reply, Silence> {
    let since = Instant::now();
    loop {
        let may_wait = since.elapsed() + AGAIN < limit;
        let text = match exchange(path, line, limit, since) {
            Ok(text) => text,
            // Whoever listens there has not accepted those who came before yet.
            Err(why) if why.kind() == io::ErrorKind::TimedOut && may_wait => {
                thread::sleep(AGAIN);
                continue;
            }
            Err(why) => return Err(silence(path, &why)),
        };
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        // The empty line says that these are all.
        let complete = lines.pop_if(|line| line.is_empty()).is_some();
        let refusal = match &*lines {
            [line] => refusal::parse(line),
            _ => None,
        };
        match refusal {
            Some((_, Some(Kind::Busy))) if may_wait => thread::sleep(AGAIN),
            Some((_, Some(Kind::Hangs))) => return Err(Silence::Hangs),
            Some((_, Some(Kind::Ending))) => return Err(Silence::Dead),
            Some((_, Some(Kind::Forbidden))) => return Err(Silence::Forbidden),
            Some((error, _)) => return Err(Silence::Refused(error)),
            None if complete => return Ok(Reply::of(lines)),
            None => return Err(Silence::Dead),
        }
    }
}

/// Why there is no answer, by an error of the connection.
fn silence(path: &Path, why: &io::Error) -> Silence {
    match why.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Silence::Absent,
        io::ErrorKind::PermissionDenied => Silence::Forbidden,
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Silence::Hangs,
        io::ErrorKind::ConnectionRefused
            if fs::metadata(path).is_ok_and(|meta| !meta.file_type().is_socket()) =>
        {
            Silence::Refused("this is not a socket".to_owned())
        }
        // It is gone, or is gone since.
        io::ErrorKind::ConnectionRefused
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof => Silence::Dead,
        _ => Silence::Refused(why.to_string()),
    }
}

fn exchange(path: &Path, line: &[u8], limit: Duration, since: Instant) -> io::Result<String> {
    let mut stream = open(path)?;
    stream.set_write_timeout(Some(left(limit, since)?))?;
    match stream.write_all(line).and_then(|()| stream.shutdown(Shutdown::Write)) {
        // Whoever closed at once may have said why.
        Err(why) if !matches!(why.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::NotConnected) => {
            return Err(why);
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
            Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
            Err(why) if why.kind() == io::ErrorKind::ConnectionReset && !text.is_empty() => break,
            Err(why) => return Err(why),
        }
        if text.len() > LONGEST {
            return Err(io::Error::other("its answer has no end"));
        }
    }
    String::from_utf8(text).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    /// What becomes of a question whose answer are these bytes.
    fn answered(bytes: &'static [u8]) -> Result<Reply, Silence> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control");
        let listener = UnixListener::bind(&path).unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut question = String::new();
            stream.read_to_string(&mut question).unwrap();
            assert_eq!(question, "how?\n");
            stream.write_all(bytes).unwrap();
        });
        let answer = ask(&path, b"how?\n", Duration::from_secs(10));
        server.join().unwrap();
        answer
    }

    #[test]
    fn only_a_complete_answer_is_one() {
        assert_eq!(answered(b"a\nb\n\n").unwrap().lines, ["a", "b"]);
        assert_eq!(answered(b"\n"), Ok(Reply::default()));
        for cut_short in [&b""[..], b"a", b"a\n", b"a\nb"] {
            assert_eq!(answered(cut_short), Err(Silence::Dead), "{cut_short:?}");
        }
        assert_eq!(answered(b"{\"error\":\"no\\u0007\"}\n\n"), Err(Silence::Refused("no\\u{7}".to_owned())));
        assert_eq!(answered(b"{\"error\":\"x\",\"kind\":\"hangs\"}\n\n"), Err(Silence::Hangs));
        assert_eq!(answered(b"{\"error\":\"x\",\"kind\":\"forbidden\"}\n\n"), Err(Silence::Forbidden));
        // After a part of the answer it is a part of it.
        assert_eq!(answered(b"a\n{\"error\":\"x\"}\n\n").unwrap().errors, ["x"]);
    }

    #[test]
    fn who_is_absent_dead_or_hangs_is_named_as_that() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control");
        let (soon, late) = (Duration::from_millis(50), Duration::from_secs(10));
        assert_eq!(ask(&path, b"x\n", late), Err(Silence::Absent));
        assert_eq!(ask(&path.join("below"), b"x\n", late), Err(Silence::Absent));
        let listener = UnixListener::bind(&path).unwrap();
        assert_eq!(ask(&path.join("below"), b"x\n", late), Err(Silence::Absent));
        assert_eq!(ask(&path, b"x\n", soon), Err(Silence::Hangs));
        drop(listener);
        assert_eq!(ask(&path, b"x\n", late), Err(Silence::Dead));
        let too_long = directory.path().join("x".repeat(200));
        assert!(matches!(ask(&too_long, b"x\n", late), Err(Silence::Refused(_))));
        fs::write(directory.path().join("file"), "").unwrap();
        for other in ["file", ""] {
            let is = ask(&directory.path().join(other), b"x\n", late);
            assert_eq!(is, Err(Silence::Refused("this is not a socket".to_owned())));
        }
    }
}
