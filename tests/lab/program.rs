//! A program under test, running: what it says is read as it comes, and awaited, never slept for.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use psentry_records::Record;

use super::signals;

/// How long anything is waited for. Far more than it takes; only a failing test waits so long.
pub const WAIT: Duration = Duration::from_secs(30);

/// How long that is waited for which the disk does, such as a machine that boots: a disk that is busy takes minutes for it.
pub const DISK_WAIT: Duration = Duration::from_secs(300);

/// The path of one of psentry's programs.
pub fn bin(name: &str) -> &'static str {
    match name {
        "psentry-listen" => env!("CARGO_BIN_EXE_psentry-listen"),
        "psentry-trap" => env!("CARGO_BIN_EXE_psentry-trap"),
        "psentry-judge" => env!("CARGO_BIN_EXE_psentry-judge"),
        "psentry-block" => env!("CARGO_BIN_EXE_psentry-block"),
        "psentry-show" => env!("CARGO_BIN_EXE_psentry-show"),
        "psentry" => env!("CARGO_BIN_EXE_psentry"),
        other => panic!("{other} is none of psentry's programs"),
    }
}

/// Lines of output without the `stats` records, which a stage writes whatever happens.
pub fn without_stats(lines: &[String]) -> Vec<&str> {
    let is_stats = |line: &String| matches!(Record::parse(line), Ok(Record::Stats(_)));
    lines.iter().filter(|line| !is_stats(line)).map(String::as_str).collect()
}

/// Lines of standard error without those in which a stage says that it is ready, and what it did.
pub fn complaints(lines: &[String]) -> Vec<&str> {
    let is_report = |line: &&String| [": ready: ", ": ended: "].iter().any(|word| line.contains(word));
    lines.iter().filter(|line| !is_report(line)).map(String::as_str).collect()
}

/// Waits for a condition, or fails with its name. A look at it may itself take longer than it is waited for, and then
/// says what was so before; so it is looked at once more when the time is over.
pub fn wait_until(what: &str, condition: impl FnMut() -> bool) {
    wait_until_within(WAIT, what, condition);
}

/// The same, for so long.
pub fn wait_until_within(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    let mut over = false;
    while !condition() {
        assert!(!over, "waited in vain until {what}");
        over = start.elapsed() >= limit;
        thread::sleep(Duration::from_millis(20));
    }
}

/// A running program; killed when dropped.
pub struct Program {
    child: Child,
    name: String,
    output: Option<Receiver<String>>,
    errors: Receiver<String>,
    said: Vec<String>,
}

impl Program {
    /// Starts it; its standard output is read by the test.
    pub fn start(command: &mut Command) -> Self {
        let mut program = Self::start_piped(command.stdin(Stdio::null()));
        program.read_output();
        program
    }

    /// Starts it with an input that the test, or another program, writes.
    pub fn start_fed(command: &mut Command) -> Self {
        let mut program = Self::start_piped(command.stdin(Stdio::piped()));
        program.read_output();
        program
    }

    /// Starts it with the standard input that the command has; its output goes to whoever calls
    /// [`stdout`](Self::stdout).
    pub fn start_piped(command: &mut Command) -> Self {
        signals::default_for_children();
        let name = format!("{command:?}");
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let errors = lines(child.stderr.take().unwrap());
        Program { child, name, output: None, errors, said: Vec::new() }
    }

    /// From now on the test reads its output.
    pub fn read_output(&mut self) {
        self.output = Some(lines(self.stdout()));
    }

    /// Its output, for the next program of a pipe.
    pub fn stdout(&mut self) -> ChildStdout {
        self.child.stdout.take().unwrap()
    }

    /// Its input, to write to or to close.
    pub fn stdin(&mut self) -> ChildStdin {
        self.child.stdin.take().unwrap()
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How much of the processor's time it has taken, with the programs that it ran and that have ended.
    pub fn processor_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        // After the name, which is in parentheses, and eleven more come four times, in hundredths of a second
        // (proc_pid_stat(5); USER_HZ is 100 on all that Linux runs on).
        let times = stat.rsplit_once(") ").unwrap().1.split(' ').skip(11).take(4);
        Duration::from_millis(times.map(|ticks| ticks.parse::<u64>().unwrap() * 10).sum())
    }

    /// Waits until its main thread sleeps: it has nothing more to do.
    pub fn waits(&self) {
        let stat = format!("/proc/{0}/task/{0}/stat", self.pid());
        // The state comes after the name, which is in parentheses (proc_pid_stat(5)).
        let state = || std::fs::read_to_string(&stat).unwrap().rsplit_once(") ").unwrap().1.to_owned();
        wait_until("it has nothing more to do", || state().starts_with('S'));
    }

    /// Waits for a line of its output.
    pub fn line(&mut self, what: &str, is_it: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + WAIT;
        loop {
            let patience = deadline.saturating_duration_since(Instant::now());
            match self.output.as_ref().unwrap().recv_timeout(patience) {
                Ok(line) => {
                    self.said.push(line.clone());
                    if is_it(&line) {
                        return line;
                    }
                }
                Err(why) => self.fail(what, why),
            }
        }
    }

    /// Whether it says a line within a time that is enough for it.
    pub fn hears(&mut self, text: &str, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        loop {
            let patience = deadline.saturating_duration_since(Instant::now());
            match self.output.as_ref().unwrap().recv_timeout(patience) {
                Ok(line) if line == text => return true,
                Ok(line) => self.said.push(line),
                Err(_) => return false,
            }
        }
    }

    /// Waits for a record of its output.
    pub fn record(&mut self, what: &str, is_it: impl Fn(&Record) -> bool) -> Record {
        let line = self.line(what, |line| Record::parse(line).is_ok_and(|record| is_it(&record)));
        Record::parse(&line).unwrap()
    }

    /// Waits for a line of its standard error.
    pub fn complaint(&mut self, text: &str) -> String {
        self.complaint_within(WAIT, text)
    }

    /// The same of something that takes long.
    pub fn complaint_within(&mut self, wait: Duration, text: &str) -> String {
        let deadline = Instant::now() + wait;
        loop {
            let patience = deadline.saturating_duration_since(Instant::now());
            match self.errors.recv_timeout(patience) {
                Ok(line) if line.contains(text) => return line,
                Ok(line) => self.said.push(line),
                Err(why) => self.fail(text, why),
            }
        }
    }

    fn fail(&mut self, what: &str, why: RecvTimeoutError) -> ! {
        let errors: Vec<String> = self.errors.try_iter().collect();
        panic!("{}: no {what} ({why:?}).\nIt said: {:#?}\nand: {errors:#?}", self.name, self.said)
    }

    /// What it said so far, output and errors, as far as the test has waited for it.
    pub fn said(&self) -> &[String] {
        &self.said
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// Waits for its end; gives the status, and all that was not read before, output and errors.
    pub fn end(&mut self) -> (ExitStatus, Vec<String>, Vec<String>) {
        drop(self.child.stdin.take());
        let status = self.wait();
        let output = self.output.as_ref().map(|output| output.iter().collect()).unwrap_or_default();
        (status, output, self.errors.iter().collect())
    }

    fn wait(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < WAIT, "{} does not end", self.name);
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Asks it to stop, and waits for its end.
    pub fn terminate(&mut self) -> (ExitStatus, Vec<String>, Vec<String>) {
        self.signal(Signal::SIGTERM);
        self.end()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let status = self.child.wait();
        // A test that fails, say for want of a reader of what it writes, shows what became of its programs.
        if thread::panicking() {
            let rest = |lines: &Receiver<String>| -> Vec<String> {
                std::iter::from_fn(|| lines.recv_timeout(Duration::from_millis(500)).ok()).collect()
            };
            let last = |lines: &[String]| lines[lines.len().saturating_sub(20)..].join("\n");
            let status = status.map_or_else(|why| why.to_string(), |status| status.to_string());
            let output = last(&self.output.as_ref().map(rest).unwrap_or_default());
            let (said, errors) = (last(&self.said), last(&rest(&self.errors)));
            eprintln!(
                "{}: {status} (SIGKILL where it still ran).\nIt said, at the end:\n{said}\n\
                 and to its output:\n{output}\nand to its errors:\n{errors}",
                self.name
            );
        }
    }
}

/// The lines of a stream, as they come; what is no text is shown as well as it can be.
fn lines(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (tell, hear) = channel();
    thread::spawn(move || {
        let mut stream = BufReader::new(stream);
        let mut line = Vec::new();
        while stream.read_until(b'\n', &mut line).is_ok_and(|got| got > 0) {
            let text = String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned();
            if tell.send(text).is_err() {
                return;
            }
            line.clear();
        }
    });
    hear
}
