//! A lock between processes, held with flock(2), for what cannot be changed in one step: read, change, write back. It is
//! waited for, but not for ever.

use std::fs::File;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// How often it is tried: flock(2) that waits cannot be given a limit.
const PAUSE: Duration = Duration::from_millis(10);

/// Locks a file or a directory, and waits for whoever has it locked, but not longer than `limit`; `None`: it is still locked.
///
/// # Errors
/// flock(2)'s.
pub fn lock_file(mut file: File, limit: Duration) -> io::Result<Option<Flock<File>>> {
    let started = Instant::now();
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(held) => return Ok(Some(held)),
            Err((back, Errno::EWOULDBLOCK | Errno::EINTR)) => file = back,
            Err((_, errno)) => return Err(errno.into()),
        }
        if started.elapsed() >= limit {
            return Ok(None);
        }
        thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_second_waits_as_long_as_he_says() {
        let directory = tempfile::tempdir().unwrap();
        let open = || File::open(directory.path()).unwrap();
        let first = lock_file(open(), Duration::ZERO).unwrap().unwrap();
        assert!(lock_file(open(), Duration::ZERO).unwrap().is_none());
        let second = thread::spawn({
            let file = open();
            move || lock_file(file, Duration::from_secs(60)).unwrap().is_some()
        });
        thread::sleep(Duration::from_millis(50));
        drop(first);
        assert!(second.join().unwrap());
    }
}
