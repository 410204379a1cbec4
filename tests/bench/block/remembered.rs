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

/// A directory for `--state` that remembers so many blocks, in a file of this name.
pub(crate) fn state(file: &str, many: u32) -> tempfile::TempDir {
    let state = tempfile::tempdir().unwrap();
    let journal: String = (0..many).map(verdict).collect();
    std::fs::write(state.path().join(file), journal).unwrap();
    state
}

impl Remembered {
    /// Starts this program on the guard.
    pub(crate) fn start(lab: &Lab, program: &Path, backend: &str, state: &tempfile::TempDir) -> Self {
        let began = Instant::now();
        let mut command = lab.guard.command(program.to_str().unwrap());
        command.args(["--backend", backend, "--state"]).arg(state.path());
        let mut program = Program::start_fed(command.stdin(Stdio::piped()));
        let stdin = program.stdin();
        program.complaint("put back");
        Remembered { took: began.elapsed(), _stdin: stdin, _program: program }
    }
}
