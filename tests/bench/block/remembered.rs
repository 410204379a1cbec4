//! psentry-block with so many blocks that it remembers: the fastest way to have them stand, and what is measured as
//! `restore`.

use std::path::Path;
use std::process::{ChildStdin, Stdio};
use std::time::{Duration, Instant};

use crate::lab::{Lab, Program};
use crate::verdict;

/// One that runs, and has put all back.
pub(crate) struct Remembered {
    /// From exec until all stood.
    pub(crate) took: Duration,
    _stdin: ChildStdin,
    _program: Program,
}

/// A directory for `--state`, and how many blocks it remembers.
pub(crate) struct State {
    folder: tempfile::TempDir,
    many: u32,
}

/// A directory for `--state` that remembers so many blocks, in a file of this name.
pub(crate) fn state(file: &str, many: u32) -> State {
    let state = tempfile::tempdir().unwrap();
    let journal: String = (0..many).map(verdict).collect();
    std::fs::write(state.path().join(file), journal).unwrap();
    State { folder: state, many }
}

impl Remembered {
    /// Starts this program on the guard.
    pub(crate) fn start(lab: &Lab, program: &Path, backend: &str, state: &State) -> Self {
        let began = Instant::now();
        let mut command = lab.guard.command(program.to_str().unwrap());
        command.args(["--backend", backend, "--state"]).arg(state.folder.path());
        let mut program = Program::start_fed(command.stdin(Stdio::piped()));
        let stdin = program.stdin();
        // Of none nothing is reported.
        program.complaint(if state.many == 0 { "ready" } else { "put back" });
        Remembered { took: began.elapsed(), _stdin: stdin, _program: program }
    }
}
