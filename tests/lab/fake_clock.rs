//! Clocks that can be set for single programs: a wall clock that is wrong, that somebody sets, or that a machine does not have;
//! and a machine that sleeps. The kernel's own clocks are one for all, and the tests set none of them: a small library in C,
//! preloaded, stands between the program and the C library (`fake_clock.c`).

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use psentry_records::Timestamp;
use tempfile::TempDir;

/// The clocks of the programs that are started with [`environment`](Self::environment).
pub struct FakeClock {
    folder: TempDir,
    file: File,
    /// How many seconds the wall clock is ahead of the real one, and how long the machine slept.
    ahead: i64,
    slept: u64,
}

impl FakeClock {
    /// Clocks that are right.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/fake_clock.c");
        // The compiler with which Rust links.
        let mut build = Command::new("cc");
        build.args(["-shared", "-fPIC", "-o"]).arg(folder.path().join("clock.so")).arg(source);
        assert!(build.status().expect("cc, as for Rust itself").success());
        let file = File::create(folder.path().join("clock")).unwrap();
        let clock = FakeClock { folder, file, ahead: 0, slept: 0 };
        clock.write();
        clock
    }

    fn write(&self) {
        let ahead = self.ahead.to_ne_bytes();
        let numbers: Vec<u8> = ahead.into_iter().chain(self.slept.to_ne_bytes()).collect();
        self.file.write_all_at(&numbers, 0).unwrap();
    }

    /// Sets the wall clock so many seconds ahead of the real one.
    pub fn set_ahead(&mut self, seconds: i64) {
        self.ahead = seconds;
        self.write();
    }

    /// The machine sleeps so long: both clocks go on, and nothing happens.
    pub fn sleep(&mut self, span: Duration) {
        self.ahead += i64::try_from(span.as_secs()).unwrap();
        self.slept += span.as_secs();
        self.write();
    }

    /// The machine is started again.
    pub fn reboot(&mut self) {
        self.slept = 0;
        self.write();
    }

    /// What a program takes for now.
    pub fn now(&self) -> Timestamp {
        let span = Duration::from_secs(self.ahead.unsigned_abs());
        let now = Timestamp::now();
        if self.ahead < 0 { now.minus(span) } else { now.plus(span) }
    }

    /// For the environment of a program.
    pub fn environment(&self) -> [(&'static str, PathBuf); 2] {
        let path = |name: &str| self.folder.path().join(name);
        [("LD_PRELOAD", path("clock.so")), ("PSENTRY_FAKE_CLOCK", path("clock"))]
    }
}
