//! psentry-show: records as lines that people read.

fn main() -> std::process::ExitCode {
    psentry_stage::run(psentry_show::run)
}
