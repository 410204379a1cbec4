//! What programs under test do at a signal is theirs to decide, not a matter of how the tests were started.

use std::fs;
use std::sync::{Arc, Once};

use nix::sys::signal::Signal;

/// Gives programs that are started from now on the default for signals that this process was started to ignore, as
/// nohup and shells do to jobs in the background. An ignored signal stays ignored over execve(2), but one with a
/// handler gets its default; so this process takes a handler that does nothing, which to itself is the same as before.
pub fn default_for_children() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
        let ignored = u64::from_str_radix(ignored.trim(), 16).unwrap();
        for signal in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM] {
            let number = signal as i32;
            if ignored >> (number - 1) & 1 == 1 {
                signal_hook::flag::register(number, Arc::default()).unwrap();
            }
        }
    });
}
