//! psentry: one command for the whole suite.

fn main() -> std::process::ExitCode {
    psentry_stage::run_with(psentry_cli::run, psentry_cli::complete)
}
