//! What an administrator types on a booted machine and what comes back, chapter by chapter, each compared with a golden file:
//! `$ ` is the guard's prompt, `scanner$ ` that of the host that scans.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::thread;
use std::time::{Duration, Instant};

use super::normalise::normalised;
use crate::lab::{Booted, Host, WAIT};

/// Where the golden files are.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/units/day")
}

/// All golden files, by name.
pub fn chapters() -> Vec<PathBuf> {
    let files = fs::read_dir(folder()).unwrap().map(|file| file.unwrap().path());
    let mut files: Vec<_> = files.filter(|file| file.extension().is_some_and(|end| end == "txt")).collect();
    files.sort();
    files
}

/// A day as it is written down.
pub struct Transcript {
    pub guard: Booted,
    pub scanner: Host,
    name: String,
    text: String,
    written: BTreeSet<PathBuf>,
    differences: String,
}

impl Transcript {
    pub fn new(guard: Booted, scanner: Host) -> Self {
        let (name, text, differences) = Default::default();
        Transcript { guard, scanner, name, text, written: BTreeSet::new(), differences }
    }

    /// Begins a chapter; the one before is done.
    pub fn chapter(&mut self, name: &str, about: &str) {
        self.close();
        name.clone_into(&mut self.name);
        self.text = format!("# {about}\n");
    }

    /// A line that says what is done next.
    pub fn note(&mut self, text: &str) {
        let _ = write!(self.text, "\n# {text}\n");
    }

    /// Runs a line of shell on the guard.
    pub fn run(&mut self, line: &str) {
        let output = self.typed(line);
        self.add("$", line, &output, |text| text);
    }

    /// The same, where what is printed is another text each time: only that it ran, and how it ended, is compared.
    pub fn run_unseen(&mut self, line: &str) {
        let output = self.typed(line);
        self.add("$", line, &output, |_| "...\n".to_owned());
    }

    /// In the folder of this repository.
    fn typed(&self, line: &str) -> Output {
        self.guard.run(&merged(&format!("cd /opt/psentry; {line}")))
    }

    /// Runs a program of the scanner; of nmap the table of ports is written down.
    pub fn scan(&mut self, line: &str) {
        let output = self.scanner.run(&["bash", "-c", &merged(line)]);
        let table = |text: String| -> String {
            let lines = text.lines().filter(|line| line.contains("/tcp") || line.contains("/udp"));
            lines.map(|line| format!("{line}\n")).collect()
        };
        self.add("scanner$", line, &output, table);
    }

    /// A line whose output is known already, such as that of a command which was stopped.
    pub fn ran(&mut self, line: &str, text: &str) {
        let _ = write!(self.text, "\n$ {line}\n{}", normalised(text));
    }

    fn add(&mut self, prompt: &str, line: &str, output: &Output, shown: impl Fn(String) -> String) {
        let text = shown(String::from_utf8_lossy(&output.stdout).into_owned());
        let exit = output.status.code().map_or_else(|| output.status.to_string(), |code| code.to_string());
        let _ = write!(self.text, "\n{prompt} {line}\n{}exit {exit}\n", normalised(&text));
    }

    /// Waits until lines of shell end well on the guard. In vain, it shows what they print, and the chapter so far.
    pub fn until(&self, what: &str, condition: &str) {
        let start = Instant::now();
        loop {
            let output = self.guard.run(&format!("exec 2>&1; {condition}"));
            if output.status.success() {
                return;
            }
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(
                start.elapsed() < WAIT,
                "waited in vain until {what}, in {}: {said}\n{}",
                self.name,
                self.text
            );
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Compares the chapter with its file, or writes that.
    fn close(&mut self) {
        if self.name.is_empty() {
            return;
        }
        let path = folder().join(format!("{}.txt", self.name));
        if std::env::var("PSENTRY_GOLDEN").is_ok_and(|what| what == "write") {
            fs::write(&path, &self.text).unwrap();
        }
        let want = fs::read_to_string(&path).unwrap_or_default();
        if want != self.text {
            let _ = write!(self.differences, "\n=== {}\n{}", path.display(), difference(&want, &self.text));
        }
        self.written.insert(path);
    }

    /// Ends the day: it fails where a chapter is not as its file has it, or a file has no chapter.
    pub fn end(mut self) {
        self.close();
        let differences = &self.differences;
        assert!(
            differences.is_empty(),
            "the day is another one; PSENTRY_GOLDEN=write writes it anew, and git diff shows it:{differences}"
        );
        let files: BTreeSet<_> = chapters().into_iter().collect();
        assert_eq!(files, self.written, "files of no chapter");
    }
}

/// Lines of shell with their errors where they print, as on a terminal.
fn merged(line: &str) -> String {
    format!("exec 2>&1; set +e; {line}")
}

/// The lines that differ, by the longest beginning and end that both have.
fn difference(want: &str, have: &str) -> String {
    let (want, have): (Vec<&str>, Vec<&str>) = (want.lines().collect(), have.lines().collect());
    let begin = want.iter().zip(&have).take_while(|(a, b)| a == b).count();
    let (want_rest, have_rest) = (&want[begin..], &have[begin..]);
    let end = want_rest.iter().rev().zip(have_rest.iter().rev()).take_while(|(a, b)| a == b).count();
    let lines = |sign: &str, lines: &[&str]| -> String {
        lines[..lines.len() - end].iter().map(|line| format!("{sign}{line}\n")).collect()
    };
    let context: String =
        want[begin.saturating_sub(3)..begin].iter().map(|line| format!(" {line}\n")).collect();
    context + &lines("-", want_rest) + &lines("+", have_rest)
}

#[test]
fn a_difference_is_the_lines_in_between() {
    assert_eq!(difference("a\nb\nc\nd\n", "a\nb\nX\nY\nd\n"), " a\n b\n-c\n+X\n+Y\n");
    assert_eq!(difference("", "a\n"), "+a\n");
    assert_eq!(difference("a\na\n", "a\n"), " a\n-a\n");
}
