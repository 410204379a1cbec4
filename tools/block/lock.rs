//! A lock between processes, held with flock(2), for what cannot be changed in one step: read, change, write back.
//! It is waited for, but not for ever.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};

use crate::error::Error;

/// How long another process may hold it. None of ours holds it for more than some forks.
const LIMIT: Duration = Duration::from_secs(20);

/// How often it is tried: flock(2) that waits cannot be given a limit.
const PAUSE: Duration = Duration::from_millis(10);

/// How long who must not be held up waits for it, once, and then goes on without.
pub(crate) const BOLD_LIMIT: Duration = Duration::from_secs(1);

/// For open(2) of a file in a directory of the service: a service that somebody took over must not lead root, who runs a
/// command by hand, to another file.
pub(crate) const NO_LINK: i32 = OFlag::O_NOFOLLOW.bits();

/// Whether this process goes on without a lock that it does not get; only `panic` does.
static BOLD: AtomicBool = AtomicBool::new(false);

/// Whether it has waited in vain before: then the next lock is not waited for.
static WAITED: AtomicBool = AtomicBool::new(false);

/// From now on this process goes on without a lock that it does not get, and waits a second for all of them.
pub(crate) fn go_on_without() {
    BOLD.store(true, Ordering::Relaxed);
}

/// A lock that is held until it is dropped.
pub(crate) struct Lock {
    _held: Option<Flock<File>>,
    path: PathBuf,
}

/// Where psentry-block keeps what lasts as long as the machine is up: what systemd says, or where psentry-block.service
/// has it, so that commands by hand look into the same place.
pub(crate) fn runtime_directory() -> PathBuf {
    let given = std::env::var_os("RUNTIME_DIRECTORY").unwrap_or_default();
    std::env::split_paths(&given)
        .find(|path| path.is_absolute())
        .unwrap_or_else(|| PathBuf::from("/run/psentry-block"))
}

impl Lock {
    /// The lock on a directory: nobody of us changes a file in it meanwhile.
    pub(crate) fn directory(path: &Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(Error::file(path, "open it"))?;
        Ok(Lock { _held: hold(file, path)?, path: path.to_owned() })
    }

    /// The lock on a file of that name in the runtime directory.
    pub(crate) fn named(name: &str) -> Result<Self, Error> {
        Self::file(&runtime_directory(), name)
    }

    /// The lock on a file of that name in a directory, which is made if it is not there.
    pub(crate) fn file(directory: &Path, name: &str) -> Result<Self, Error> {
        let path = directory.join(name);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600).custom_flags(NO_LINK);
        loop {
            make_directory(directory)?;
            let file = match options.open(&path) {
                Ok(file) => file,
                // Whoever was last has just taken the directory away.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(Error::file(&path, "open the lock")(error)),
            };
            like_its_directory(&file, directory);
            let held = hold(file, &path)?;
            // Whoever held it may have taken the file away, and then this lock locks nothing.
            if held.as_ref().is_none_or(|held| same(held, &path)) {
                return Ok(Lock { _held: held, path });
            }
        }
    }

    /// The file, or the directory, that is locked.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the file away with the lock, and the directory if nothing is left in it.
    pub(crate) fn remove(self) {
        let _ = fs::remove_file(&self.path);
        if let Some(directory) = self.path.parent() {
            let _ = fs::remove_dir(directory);
        }
    }
}

/// Makes a directory, if it is not there. Of a service of systemd that has stopped, a link to nowhere is left: what it
/// leads to is made.
pub(crate) fn make_directory(path: &Path) -> Result<(), Error> {
    let made = fs::create_dir_all(path).or_else(|why| {
        let (Ok(target), Some(parent)) = (fs::read_link(path), path.parent()) else { return Err(why) };
        fs::create_dir_all(parent.join(target))
    });
    made.map_err(Error::file(path, "make the directory"))
}

/// Makes a file belong to whom its directory belongs to, as far as we may: what root makes by hand is to be the
/// service's, which is somebody else. What has another name elsewhere we did not make.
pub(crate) fn like_its_directory(file: &File, directory: &Path) {
    if let (Ok(is), Ok(wanted)) = (file.metadata(), fs::metadata(directory))
        && is.nlink() <= 1
        && (is.uid(), is.gid()) != (wanted.uid(), wanted.gid())
    {
        let _ = fchown(file, Some(wanted.uid()), Some(wanted.gid()));
    }
}

/// The lock on a file; `None`: this process goes on without.
fn hold(file: File, path: &Path) -> Result<Option<Flock<File>>, Error> {
    let bold = BOLD.load(Ordering::Relaxed);
    let limit = match (bold, WAITED.load(Ordering::Relaxed)) {
        (false, _) => LIMIT,
        (true, false) => BOLD_LIMIT,
        (true, true) => Duration::ZERO,
    };
    match wait(file, path, limit) {
        Err(Error::Locked { .. }) if bold => {
            WAITED.store(true, Ordering::Relaxed);
            Ok(None)
        }
        held => held.map(Some),
    }
}

/// Locks a file, and waits for whoever has it locked, but not longer than `limit`.
pub(crate) fn wait(mut file: File, path: &Path, limit: Duration) -> Result<Flock<File>, Error> {
    let started = Instant::now();
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(held) => return Ok(held),
            Err((back, Errno::EWOULDBLOCK | Errno::EINTR)) => file = back,
            Err((_, errno)) => return Err(Error::file(path, "lock it")(errno.into())),
        }
        if started.elapsed() > limit {
            return Err(Error::Locked { path: path.to_owned(), limit });
        }
        thread::sleep(PAUSE);
    }
}

fn same(file: &File, path: &Path) -> bool {
    let stands = |meta: io::Result<fs::Metadata>| meta.ok().map(|meta| (meta.dev(), meta.ino()));
    let held = stands(file.metadata());
    held.is_some() && held == stands(fs::metadata(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_led_to_another_file() {
        let directory = tempfile::tempdir().unwrap();
        let (link, led_to) = (directory.path().join("lock"), directory.path().join("shadow"));
        std::os::unix::fs::symlink(&led_to, &link).unwrap();
        let refused = Lock::file(directory.path(), "lock").err().unwrap().to_string();
        assert!(refused.contains("cannot open the lock"), "{refused}");
        assert!(!led_to.exists());
    }

    #[test]
    fn the_second_waits_for_the_first() {
        let directory = tempfile::tempdir().unwrap();
        let first = Lock::directory(directory.path()).unwrap();
        let path = directory.path().to_owned();
        let second = thread::spawn(move || {
            let started = Instant::now();
            Lock::directory(&path).map(|_| started.elapsed())
        });
        thread::sleep(Duration::from_millis(200));
        drop(first);
        assert!(second.join().unwrap().unwrap() >= Duration::from_millis(150));
    }
}
