//! Other programs, such as nft, iptables and what an administrator configured: found in PATH, given their input, waited
//! for with a time limit, and their output collected up to a limit. They are started from a list of arguments, never by
//! a shell.

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

/// Directories of firewall programs that the PATH of a service or of a user may lack.
const SBIN: [&str; 3] = ["/usr/sbin", "/sbin", "/usr/local/sbin"];

/// How long nft, iptables and ipset may run: a large ruleset takes them seconds.
const TIMEOUT: Duration = Duration::from_secs(60);

/// How many bytes of standard output are kept, from the start. A hundred thousand rules of iptables are 15 MB.
const MAX_STDOUT: usize = 256 * 1024 * 1024;

/// How many bytes of standard error are kept, from the end, where the reason is.
const MAX_STDERR: usize = 500;

/// How long to wait for the end of the output once the program has exited. A child that it left behind may hold the
/// pipe open for ever.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(500);

/// A program that is installed on this machine.
#[derive(Clone, Debug)]
pub struct Program {
    name: String,
    path: PathBuf,
}

/// What is left of a program that exited.
pub struct CommandOutput {
    /// Its exit status or the signal that killed it.
    pub status: ExitStatus,
    /// Its standard output; `None`: the program exited, but a child of it still held the pipe open.
    pub stdout: Option<Vec<u8>>,
    /// The end of its standard error, without control characters.
    pub stderr: String,
}

impl CommandOutput {
    /// The error for a program that did not succeed, with what it wrote to standard error.
    #[must_use]
    pub fn failure(&self, program: &str) -> Error {
        let stderr = if self.stderr.is_empty() { "it said nothing".to_owned() } else { self.stderr.clone() };
        let (status, code) = (self.status.to_string(), self.status.code());
        Error::Program { program: program.to_owned(), status, code, stderr }
    }
}

impl Program {
    /// Finds a program as [`locate`] does; `None`: it is not installed.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        Some(Program { name: name.to_owned(), path: locate(name)? })
    }

    /// Runs it with `args`, with `input` on its standard input and with English messages, for a minute at most.
    fn run(&self, args: &[&str], input: &[u8]) -> Result<CommandOutput, Error> {
        let mut command = Command::new(&self.path);
        command.args(args).env("LC_ALL", "C");
        run(&self.name, command, input, TIMEOUT)
    }

    /// Runs it with `args`, with `input` on its standard input and with English messages, and returns its standard
    /// output.
    ///
    /// # Errors
    /// When it cannot be started, fails, or runs for more than a minute.
    pub fn run_checked(&self, args: &[&str], input: &[u8]) -> Result<Vec<u8>, Error> {
        let output = self.run(args, input)?;
        match output.stdout {
            Some(stdout) if output.status.success() => Ok(stdout),
            // Cut off, a listing would look complete, and its missing rules deleted.
            None if output.status.success() => Err(incomplete(&self.name, output.status)),
            _ => Err(output.failure(&self.name)),
        }
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// The path of a program: a name with a slash is one already, any other is looked up in PATH and then in the
/// directories of firewall programs. `None`: there is no executable file of that name.
#[must_use]
pub fn locate(name: &str) -> Option<PathBuf> {
    let is_executable = |path: &Path| {
        path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    if name.contains('/') {
        let path = PathBuf::from(name);
        return is_executable(&path).then_some(path);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    // An empty or relative part of PATH depends on the working directory, where anybody may have put a program.
    let dirs = std::env::split_paths(&path).filter(|dir| dir.is_absolute());
    dirs.chain(SBIN.iter().map(PathBuf::from)).map(|dir| dir.join(name)).find(|path| is_executable(path))
}

/// The error for a program that succeeded while a child of it kept its standard output open.
fn incomplete(program: &str, status: ExitStatus) -> Error {
    let stderr = "its output did not end".to_owned();
    Error::Program { program: program.to_owned(), status: status.to_string(), code: None, stderr }
}

/// Runs a command until it exits, or kills it and its children when `limit` is over. `name` is for error messages.
///
/// # Errors
/// When it cannot be started or waited for, or runs for longer than `limit`. What its exit status means is left to the
/// caller.
pub fn run(name: &str, mut command: Command, input: &[u8], limit: Duration) -> Result<CommandOutput, Error> {
    // In a process group of its own, a Ctrl-C at the terminal does not interrupt it in the middle of a change, and
    // killpg(2) reaches its children, too.
    command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.stdin(if input.is_empty() { Stdio::null() } else { Stdio::piped() });
    let mut child =
        command.spawn().map_err(|why| Error::NotStarted { program: name.to_owned(), why: Arc::new(why) })?;
    let stdout = collect(child.stdout.take(), MAX_STDOUT, false);
    let stderr = collect(child.stderr.take(), MAX_STDERR, true);
    let writer = write_stdin(&mut child, input);
    let Some(status) = child.wait_timeout(limit).map_err(Error::system("wait for a program"))? else {
        if let Ok(pid) = i32::try_from(child.id()) {
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let _ = child.wait();
        return Err(Error::TimedOut { program: name.to_owned(), limit });
    };
    drop(writer);
    let stderr = stderr.rest().unwrap_or_default();
    let stderr: String = String::from_utf8_lossy(&stderr)
        .split(char::is_control)
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join(" / ");
    Ok(CommandOutput { status, stdout: stdout.rest(), stderr })
}

/// Writes the input in a thread, so that a program which reads it slowly or never cannot hold up the time limit.
fn write_stdin(child: &mut Child, input: &[u8]) -> Option<thread::JoinHandle<()>> {
    let mut stdin = child.stdin.take()?;
    let input = input.to_owned();
    // An error means that the program exited before it had read all; its status says why.
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
        let patience = PollTimeout::try_from(DRAIN_TIMEOUT).unwrap_or(PollTimeout::MAX);
        let gone = loop {
            match poll(&mut fds, patience) {
                Err(Errno::EINTR) => {}
                result => break result == Ok(1),
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
    // Where no thread can be started, nothing is sent, which counts as output that did not end.
    let _ = thread::Builder::new().spawn(read);
    Collected { kept, pipe: same }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn sh(script: &str, input: &[u8], limit: Duration) -> Result<CommandOutput, Error> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        run("sh", command, input, limit)
    }

    #[test]
    fn input_and_output_are_passed() {
        let output = sh("cat; echo oops >&2; exit 3", &[b'x'; 300_000], TIMEOUT).unwrap();
        assert_eq!(
            (output.status.code(), output.stdout.map(|o| o.len()), output.stderr.as_str()),
            (Some(3), Some(300_000), "oops")
        );
    }

    #[test]
    fn a_program_that_hangs_is_killed_with_its_children() {
        let started = Instant::now();
        let output = sh("sleep 100 & sleep 100", b"", Duration::from_millis(100));
        assert!(matches!(output, Err(Error::TimedOut { .. })));
        assert!(started.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn a_child_that_is_left_behind_is_not_waited_for() {
        let started = Instant::now();
        let output = sh("sleep 3 & exit 0", b"", TIMEOUT).unwrap();
        assert_eq!((output.status.success(), output.stdout), (true, None));
        assert!(started.elapsed() < Duration::from_secs(2));
    }

    /// A pipe that nobody comes to read for a while, as on a busy machine.
    struct Late(std::io::PipeReader);

    impl Read for Late {
        fn read(&mut self, piece: &mut [u8]) -> std::io::Result<usize> {
            thread::sleep(DRAIN_TIMEOUT);
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
        assert_eq!(collect(Some(Late(pipe)), MAX_STDOUT, false).rest().as_deref(), Some(&b"all of it"[..]));
    }

    #[test]
    fn an_output_that_did_not_end_is_an_error_and_not_an_empty_one() {
        let sh = Program::find("/bin/sh").unwrap();
        let error = sh.run_checked(&["-c", "echo some; sleep 3 & exit 0"], b"").unwrap_err();
        assert!(error.to_string().contains("its output did not end"), "{error}");
    }

    #[test]
    fn the_end_of_standard_error_is_kept_without_control_characters() {
        let output = sh("yes no | head -c 9000 >&2; printf '\\033[31mlast\\n' >&2", b"", TIMEOUT).unwrap();
        assert!(
            output.stderr.len() <= 3 * MAX_STDERR && output.stderr.ends_with("[31mlast"),
            "{}",
            output.stderr
        );
        assert!(!output.stderr.contains(char::is_control));
    }
}
