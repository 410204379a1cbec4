//! psentry-trap: closed ports in, probes out.

fn main() -> std::process::ExitCode {
    psentry_stage::run(psentry_trap::run)
}
