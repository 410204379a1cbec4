//! psentry-block with so many blocks that it remembers: the fastest way to have them stand, and what is measured as
//! `restore`.

use std::io::Write;
use std::process::{ChildStdin, Stdio};
use std::time::{Duration, Instant};

use crate::lab::{Lab, Program, bin};
use crate::verdict;

/// One that runs, and has put all back.
pub(crate) struct Remembered {
    /// From exec until all stood.
    pub(crate) took: Duration,
    _stdin: ChildStdin,
    _program: Program,
}

/// A directory for `--state` that remembers so many blocks on a backend.
pub(crate) fn state(backend: &str, many: u32) -> tempfile::TempDir {
    let state = tempfile::tempdir().unwrap();
    let journal: String = (0..many).map(verdict).collect();
    std::fs::write(state.path().join(format!("{backend}.jsonl")), journal).unwrap();
    state
}

impl Remembered {
    /// Starts it on the guard.
    pub(crate) fn start(lab: &Lab, backend: &str, state: &tempfile::TempDir) -> Self {
        let began = Instant::now();
        let mut command = lab.guard.command(bin("psentry-block"));
        command.args(["--backend", backend, "--state"]).arg(state.path());
        let mut program = Program::start_fed(command.stdin(Stdio::piped()));
        let mut stdin = program.stdin();
        // Answered once all that is remembered stands again.
        let unblock = verdict(0xff_ffff).replace("\"block\"", "\"unblock\"");
        stdin.write_all(unblock.as_bytes()).unwrap();
        program.line("outcome", |_| true);
        Remembered { took: began.elapsed(), _stdin: stdin, _program: program }
    }
}
