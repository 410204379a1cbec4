//! psentry-listen: decoy ports in, probes out.

fn main() -> std::process::ExitCode {
    psentry_stage::run(psentry_listen::run)
}
