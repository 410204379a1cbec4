//! psentry-judge: probes in, verdicts out.

fn main() -> std::process::ExitCode {
    psentry_stage::run(psentry_judge::run)
}
