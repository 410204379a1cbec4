//! What psentry-block's commands decided about the blocks of iptables and ipset, for the psentry-block that runs: neither
//! tells it who made a change. `unblock` and `flush` write a line into the file that both lock anyway, while they have it
//! locked; whoever runs reads on from where it was.
//!
//! `flush` takes the file away with the lock, unless the other one of iptables and ipset still has something there: who
//! flushes both writes both down before it goes. Whoever has it open reads its last lines nevertheless.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

use psentry_records::Prefix;

use super::lock;
use crate::backend::{Change, Cleared, Effect, Noticed};
use crate::error::Error;
use crate::lock::{Lock, NO_LINK};

/// Beyond that it is begun anew: what stands in it was read long ago.
const LONG: u64 = 64 * 1024;

/// Who decides.
const WHO: &str = "'psentry-block'";

/// The file, as one who runs reads it.
pub(super) struct Book {
    file: File,
    /// Up to where it has been read.
    read: u64,
    /// What was read, and not told yet.
    kept: Noticed,
}

/// What a command decided.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Decision {
    /// This scope was let in.
    Unblock(Prefix),
    /// All were.
    Flush,
}

impl Book {
    /// From now on decisions are read.
    pub(super) fn open(lock: &Lock) -> Result<Self, Error> {
        let file = open(lock).map_err(Error::file(lock.path(), "read it"))?;
        let read = file.metadata().map_or(0, |meta| meta.len());
        Ok(Book { file, read, kept: Noticed::default() })
    }

    /// What was decided on `backend` since it was last asked.
    pub(super) fn decided(&mut self, lock: &Lock, backend: &str) -> Result<Noticed, Error> {
        self.keep(lock, backend)?;
        Ok(std::mem::take(&mut self.kept))
    }

    /// Reads on, and keeps what was decided until it is asked for.
    fn keep(&mut self, lock: &Lock, backend: &str) -> Result<(), Error> {
        let lines = self.read_on(lock).map_err(Error::file(lock.path(), "read it"))?;
        for decision in lines.lines().filter_map(|line| parse(backend, line)) {
            match decision {
                Decision::Unblock(scope) => self.kept.let_in.push((scope, WHO.to_owned())),
                Decision::Flush => {
                    let cleared = Some(Cleared { who: WHO.to_owned(), ..Cleared::default() });
                    self.kept = Noticed { cleared, ..Noticed::default() };
                }
            }
        }
        Ok(())
    }

    /// The rest of the file, and all of the one that is locked, if that is another one by now.
    fn read_on(&mut self, lock: &Lock) -> io::Result<String> {
        let mut bytes = Vec::new();
        loop {
            if self.file.metadata()?.len() < self.read {
                self.read = 0;
            }
            self.file.seek(SeekFrom::Start(self.read))?;
            self.read += self.file.read_to_end(&mut bytes)? as u64;
            if !is_gone(&self.file) {
                return Ok(String::from_utf8_lossy(&bytes).into_owned());
            }
            (self.file, self.read) = (open(lock)?, 0);
        }
    }
}

/// What was decided on `backend` since it was last asked, for one who looks what stands. Gives the lock back, unless all was
/// taken away: then there is nothing to look at, and a lock that was made again to look is not left behind.
pub(super) fn read(
    book: &mut Option<Book>,
    backend: &str,
    lock: Lock,
) -> Result<(Noticed, Option<Lock>), Error> {
    let Some(book) = book else { return Ok((Noticed::default(), Some(lock))) };
    let made_again = is_gone(&book.file);
    let noticed = book.decided(&lock, backend)?;
    if noticed.cleared.is_none() {
        return Ok((noticed, Some(lock)));
    }
    if made_again {
        lock.remove();
    }
    Ok((noticed, None))
}

/// Reads on, and from now on in the file that is locked, for who changes something and can be let in on it; whether all was
/// taken away on `backend` since it was last asked: then there is nothing to mend. It is told when it is asked.
pub(super) fn follow(book: &mut Option<Book>, backend: &str, lock: &Lock) -> Result<bool, Error> {
    let Some(book) = book else { return Ok(false) };
    book.keep(lock, backend).map(|()| book.kept.cleared.is_some())
}

/// Whether something was decided, and not told yet.
pub(super) fn keeps(book: &Option<Book>) -> bool {
    book.as_ref().is_some_and(|book| book.kept != Noticed::default())
}

/// What was decided on `backend`, for one who has heard that something changed. Should the lock not be had, it is only not
/// known whether it was psentry-block.
pub(super) fn beside(book: &mut Option<Book>, backend: &str) -> Result<Noticed, Error> {
    match (book, lock()) {
        (Some(book), Ok(lock)) => book.decided(&lock, backend),
        _ => Ok(Noticed::default()),
    }
}

/// Writes down what is decided on `backend`, while the lock is held.
fn write(lock: &Lock, backend: &str, decisions: &[Decision]) -> Result<(), Error> {
    if decisions.is_empty() {
        return Ok(());
    }
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().append(true).custom_flags(NO_LINK).open(lock.path())?;
        if file.metadata()?.len() > LONG {
            file.set_len(0)?;
        }
        let line = |decision: &Decision| match decision {
            Decision::Unblock(scope) => format!("{backend} unblock {scope}\n"),
            Decision::Flush => format!("{backend} flush\n"),
        };
        file.write_all(decisions.iter().map(line).collect::<String>().as_bytes())
    };
    write().map_err(Error::file(lock.path(), "write it"))
}

/// Writes down that all of `backend` was taken away, and takes the file away, unless it is `shared` with the other one.
pub(super) fn close(lock: Lock, backend: &str, shared: bool) -> Result<(), Error> {
    write(&lock, backend, &[Decision::Flush])?;
    if !shared {
        lock.remove();
    }
    Ok(())
}

/// Writes down which of these changes let somebody in. What cannot be written down is undone by whoever runs: so that is
/// no success.
pub(super) fn write_released(
    lock: &Lock,
    backend: &str,
    changes: &[Change],
    effects: &mut [Result<Effect, Error>],
) {
    let released: Vec<Decision> = changes
        .iter()
        .zip(&*effects)
        .filter(|(change, effect)| change.block().is_none() && matches!(effect, Ok(Effect::Done)))
        .map(|(change, _)| Decision::Unblock(change.scope))
        .collect();
    if let Err(error) = write(lock, backend, &released) {
        for effect in effects.iter_mut().filter(|effect| matches!(effect, Ok(Effect::Done))) {
            *effect = Err(error.clone());
        }
    }
}

/// Whether somebody has taken it away.
fn is_gone(file: &File) -> bool {
    file.metadata().is_ok_and(|meta| meta.nlink() == 0)
}

fn open(lock: &Lock) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(NO_LINK).open(lock.path())
}

fn parse(backend: &str, line: &str) -> Option<Decision> {
    let mut words = line.split(' ');
    if words.next() != Some(backend) {
        return None;
    }
    match (words.next()?, words.next()) {
        ("flush", None) => Some(Decision::Flush),
        ("unblock", Some(scope)) => scope.parse().ok().map(Decision::Unblock),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(last: u8) -> Prefix {
        format!("192.0.2.{last}").parse().unwrap()
    }

    /// What is decided behind the back of whoever reads, and the file is taken away and made again.
    #[test]
    fn decisions_are_read_once_and_from_a_file_that_was_taken_away_too() {
        let directory = tempfile::tempdir().unwrap();
        let lock = || Lock::file(directory.path(), "xtables.lock").unwrap();
        let decide = |decisions: &[Decision]| write(&lock(), "ipset", decisions).unwrap();
        decide(&[Decision::Flush]);
        let mut book = Book::open(&lock()).unwrap();
        let mut decided = || book.decided(&lock(), "ipset").unwrap();
        assert_eq!(decided(), Noticed::default(), "what was decided before it ran");
        decide(&[Decision::Unblock(scope(7))]);
        write(&lock(), "iptables", &[Decision::Flush]).unwrap();
        assert_eq!(decided().let_in, [(scope(7), WHO.to_owned())]);
        assert_eq!(decided(), Noticed::default(), "read once");
        let held = lock();
        write(&held, "ipset", &[Decision::Unblock(scope(8)), Decision::Flush]).unwrap();
        held.remove();
        decide(&[Decision::Unblock(scope(9))]);
        let noticed = decided();
        assert!(noticed.cleared.is_some(), "{noticed:?}");
        assert_eq!(noticed.let_in, [(scope(9), WHO.to_owned())]);
        // One flush after the other, and a block between them.
        let mut book = Some(book);
        for _ in 0..3 {
            assert!(!follow(&mut book, "ipset", &lock()).unwrap());
            close(lock(), "ipset", false).unwrap();
            let (noticed, rest) = read(&mut book, "ipset", lock()).unwrap();
            assert!(noticed.cleared.is_some() && rest.is_none());
        }
    }

    #[test]
    fn it_does_not_grow_for_ever() {
        let directory = tempfile::tempdir().unwrap();
        let lock = Lock::file(directory.path(), "xtables.lock").unwrap();
        let mut book = Book::open(&lock).unwrap();
        for _ in 0..5 {
            write(&lock, "ipset", &vec![Decision::Unblock(scope(7)); 1000]).unwrap();
            assert_eq!(book.decided(&lock, "ipset").unwrap().let_in.len(), 1000);
        }
        assert!(lock.path().metadata().unwrap().len() < 2 * LONG);
        assert_eq!(parse("ipset", "ipset unblock nobody"), None);
    }
}
