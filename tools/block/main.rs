//! The program `psentry-block`: flags in, exit code out. All it does stands in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    psentry_stage::run(psentry_block::run)
}
