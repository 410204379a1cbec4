//! Programs that change the kernel or stand for an administrator: found once, given their input, waited for with a limit, their words kept
//! only as far as somebody will read them. No shell stands in between.

use std::fmt;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use wait_timeout::ChildExt;

use crate::error::Error;

/// Where firewall programs stand, although PATH of a service may not say so.
const ALSO: [&str; 3] = ["/usr/sbin", "/sbin", "/usr/local/sbin"];

/// How long nft, iptables and ipset may take: a large ruleset takes seconds.
const LIMIT: Duration = Duration::from_secs(60);

/// How much of a program's standard output is kept. A hundred thousand rules of iptables are 15 MB.
const LISTING: usize = 256 * 1024 * 1024;

/// How much of a program's standard error is kept: its end, which says what went wrong.
const WORDS: usize = 500;

/// How long the output of a program that has ended is waited for. A child of its own may hold it open for ever.
const LEFTOVERS: Duration = Duration::from_millis(500);

/// A program that a backend needs.
#[derive(Clone, Debug)]
pub struct Program {
    name: String,
    path: PathBuf,
}

/// What a program that ended left.
pub struct Ran {
    /// Which process it was: the kernel tells it of changes of the ruleset.
    pub pid: u32,
    /// How it ended.
    pub status: ExitStatus,
    /// `None`: it did not come to its end in time, though the program did.
    pub stdout: Option<Vec<u8>>,
    /// The end of its standard error, without control characters.
    pub said: String,
}

impl Program {
    /// The program of that name: where PATH says, or where firewall programs stand.
    /// `None`: it is not installed.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        Some(Program { name: name.to_owned(), path: locate(name)? })
    }

    /// Runs it with `args` and `input`.
    pub fn run(&self, args: &[&str], input: &[u8]) -> Result<Ran, Error> {
        let mut command = Command::new(&self.path);
        command.args(args).env("LC_ALL", "C");
        run(&self.name, command, input, LIMIT)
    }

    /// Runs it; a status that is not 0 is an error with its words.
    pub fn run_well(&self, args: &[&str], input: &[u8]) -> Result<Vec<u8>, Error> {
        self.run_as(args, input).map(|(stdout, _)| stdout)
    }

    /// As `run_well`, and says which process it was.
    pub fn run_as(&self, args: &[&str], input: &[u8]) -> Result<(Vec<u8>, u32), Error> {
        let ran = self.run(args, input)?;
        match ran.stdout {
            Some(stdout) if ran.status.success() => Ok((stdout, ran.pid)),
            None if ran.status.success() => Err(unread(&self.name, ran.status)),
            _ => Err(self.failure(&ran)),
        }
    }

    /// What went wrong, as the program says it.
    pub fn failure(&self, ran: &Ran) -> Error {
        failure(&self.name, ran)
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// The absolute path of a program; a name with a slash is a path already.
pub fn locate(name: &str) -> Option<PathBuf> {
    let runs = |path: &Path| {
        path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    if name.contains('/') {
        let path = PathBuf::from(name);
        return runs(&path).then_some(path);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    // An empty or relative part of PATH means wherever the program happens to be started: not for us.
    let dirs = std::env::split_paths(&path).filter(|dir| dir.is_absolute());
    dirs.chain(ALSO.iter().map(PathBuf::from)).map(|dir| dir.join(name)).find(|path| runs(path))
}

/// What went wrong with a program that did not end well.
pub fn failure(name: &str, ran: &Ran) -> Error {
    let said = if ran.said.is_empty() { "it said nothing".to_owned() } else { ran.said.clone() };
    Error::Program { program: name.to_owned(), status: ran.status.to_string(), code: ran.status.code(), said }
}

/// A program ended well, but what it said is not known.
fn unread(name: &str, status: ExitStatus) -> Error {
    let said = "its output did not end".to_owned();
    Error::Program { program: name.to_owned(), status: status.to_string(), code: None, said }
}

/// Runs a command to its end, or kills it and its children when `limit` is over.
pub fn run(name: &str, mut command: Command, input: &[u8], limit: Duration) -> Result<Ran, Error> {
    // In a group of its own a Ctrl-C at the terminal does not end it in the middle, and the limit ends all of it.
    command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.stdin(if input.is_empty() { Stdio::null() } else { Stdio::piped() });
    let mut child =
        command.spawn().map_err(|why| Error::NotRun { program: name.to_owned(), why: Arc::new(why) })?;
    let stdout = collect(child.stdout.take(), LISTING, false);
    let stderr = collect(child.stderr.take(), WORDS, true);
    let fed = feed(&mut child, input);
    let Some(status) = child.wait_timeout(limit).map_err(Error::system("wait for a program"))? else {
        if let Ok(pid) = i32::try_from(child.id()) {
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let _ = child.wait();
        return Err(Error::TooSlow { program: name.to_owned(), limit });
    };
    drop(fed);
    let said = stderr.rest().unwrap_or_default();
    let said: String = String::from_utf8_lossy(&said)
        .split(char::is_control)
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join(" / ");
    Ok(Ran { pid: child.id(), status, stdout: stdout.rest(), said })
}

/// Writes the input beside the waiting, so that a program that reads slowly, or not, cannot hold us up.
fn feed(child: &mut Child, input: &[u8]) -> Option<thread::JoinHandle<()>> {
    let mut stdin = child.stdin.take()?;
    let input = input.to_owned();
    // A program that ends before it has read all says why itself.
    thread::Builder::new().spawn(move || drop(stdin.write_all(&input))).ok()
}

/// What comes out of a pipe, while a thread reads it.
struct Collected {
    kept: Receiver<Vec<u8>>,
    /// The same pipe, to see whether somebody may still write.
    pipe: Option<OwnedFd>,
}

impl Collected {
    /// All that was kept, once the program has ended; `None`: a child of its own holds the pipe open. How late a busy machine
    /// comes to read the rest does not matter: it is waited for as soon as nobody may write any more.
    fn rest(self) -> Option<Vec<u8>> {
        let pipe = self.pipe?;
        // Asked for nothing, poll(2) tells that the last writer is gone, read or not.
        let mut fds = [PollFd::new(pipe.as_fd(), PollFlags::empty())];
        let patience = PollTimeout::try_from(LEFTOVERS).unwrap_or(PollTimeout::MAX);
        let gone = loop {
            match poll(&mut fds, patience) {
                Err(Errno::EINTR) => {}
                told => break told == Ok(1),
            }
        };
        gone.then(|| self.kept.recv().ok()).flatten()
    }
}

/// Reads a pipe to its end in a thread, and keeps the first or the last `keep` bytes.
fn collect(pipe: Option<impl Read + AsFd + Send + 'static>, keep: usize, last: bool) -> Collected {
    let (done, kept) = mpsc::channel();
    let same = pipe.as_ref().and_then(|pipe| pipe.as_fd().try_clone_to_owned().ok());
    let read = move || {
        let mut kept = Vec::new();
        let mut piece = [0; 4096];
        let Some(mut pipe) = pipe else { return };
        while let Ok(got @ 1..) = pipe.read(&mut piece) {
            let piece = piece.get(..got).unwrap_or_default();
            if last {
                kept.extend_from_slice(piece);
                kept.drain(..kept.len().saturating_sub(keep));
            } else if kept.len() < keep {
                kept.extend_from_slice(piece);
            }
        }
        let _ = done.send(kept);
    };
    // Without a thread the result is simply never sent: the program then has said nothing.
    let _ = thread::Builder::new().spawn(read);
    Collected { kept, pipe: same }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn sh(script: &str, input: &[u8], limit: Duration) -> Result<Ran, Error> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        run("sh", command, input, limit)
    }

    #[test]
    fn input_goes_in_and_output_comes_out() {
        let ran = sh("cat; echo oops >&2; exit 3", &[b'x'; 300_000], LIMIT).unwrap();
        assert_eq!(
            (ran.status.code(), ran.stdout.map(|o| o.len()), ran.said.as_str()),
            (Some(3), Some(300_000), "oops")
        );
    }

    #[test]
    fn a_program_that_hangs_is_killed_with_its_children() {
        let started = Instant::now();
        let ran = sh("sleep 100 & sleep 100", b"", Duration::from_millis(100));
        assert!(matches!(ran, Err(Error::TooSlow { .. })));
        assert!(started.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn a_child_that_stays_does_not_hold_us_up() {
        let started = Instant::now();
        let ran = sh("sleep 3 & exit 0", b"", LIMIT).unwrap();
        assert_eq!((ran.status.success(), ran.stdout), (true, None));
        assert!(started.elapsed() < Duration::from_secs(2));
    }

    /// A pipe that nobody comes to read for a while, as on a busy machine.
    struct Late(std::io::PipeReader);

    impl Read for Late {
        fn read(&mut self, piece: &mut [u8]) -> std::io::Result<usize> {
            thread::sleep(LEFTOVERS);
            self.0.read(piece)
        }
    }

    impl AsFd for Late {
        fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
            self.0.as_fd()
        }
    }

    #[test]
    fn an_output_that_has_ended_is_known_however_late_it_is_read() {
        let (pipe, mut writer) = std::io::pipe().unwrap();
        writer.write_all(b"all of it").unwrap();
        drop(writer);
        assert_eq!(collect(Some(Late(pipe)), LISTING, false).rest().as_deref(), Some(&b"all of it"[..]));
    }

    #[test]
    fn an_output_that_did_not_end_is_an_error_and_not_an_empty_one() {
        let sh = Program::find("/bin/sh").unwrap();
        let error = sh.run_well(&["-c", "echo some; sleep 3 & exit 0"], b"").unwrap_err();
        assert!(error.to_string().contains("its output did not end"), "{error}");
    }

    #[test]
    fn only_the_end_of_its_words_is_kept_and_no_control_characters() {
        let ran = sh("yes no | head -c 9000 >&2; printf '\\033[31mlast\\n' >&2", b"", LIMIT).unwrap();
        assert!(ran.said.len() <= 3 * WORDS && ran.said.ends_with("[31mlast"), "{}", ran.said);
        assert!(!ran.said.contains(char::is_control));
    }
}
