//! Text from outside, made fit for a terminal or a log; and standard error, which must never hold up the guard.

use std::io::{self, Write};
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use psentry_records::Timestamp;

/// The longest reason that is kept. A sentence of the judge is shorter.
const LONGEST_REASON: usize = 300;

/// Only what a terminal prints as itself: printable ASCII; everything else is escaped. So no control character, no
/// change of writing direction and nothing invisible gets through.
#[must_use]
pub fn printable(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii_graphic() || c == ' ' {
            clean.push(c);
        } else {
            clean.extend(c.escape_default());
        }
    }
    clean
}

/// What is kept of a reason or a rule's name that came from outside: what a terminal prints as itself, and not too much of it.
#[must_use]
pub fn clean(reason: &str) -> Option<String> {
    let shown: String = printable(reason).chars().take(LONGEST_REASON).collect();
    Some(shown.trim().to_owned()).filter(|reason| !reason.is_empty())
}

/// A moment in the second that it lies in: one that is past is never told too late.
#[must_use]
pub fn second(moment: Timestamp) -> String {
    let text = moment.to_string();
    text.split_once('.').map_or_else(|| text.clone(), |(whole, _)| format!("{whole}Z"))
}

/// A number with its noun: `1 port`, `29 ports`.
#[must_use]
pub fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// Writes to standard output. That its reader has seen enough, as `| head` has, is no error.
///
/// # Errors
/// write(2)'s.
pub fn print(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Writes one line to standard error, unless that would wait: a terminal that is paused, or a pipe that nobody reads,
/// must not stop the guard. Says whether it was written.
pub fn speak(line: &str) -> bool {
    let stderr = io::stderr();
    let mut fds = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
    // A poll that fails tells nothing; then the line is worth a try.
    let room = poll(&mut fds, PollTimeout::ZERO).map_or(true, |ready| ready > 0);
    room && writeln!(stderr.lock(), "{line}").is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_printable_ascii_is_escaped() {
        assert_eq!(
            printable("a b\u{1b}[2J\u{202e}\u{200b}\u{9b}\n"),
            "a b\\u{1b}[2J\\u{202e}\\u{200b}\\u{9b}\\n"
        );
    }
}
