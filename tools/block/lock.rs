//! A lock between processes, held with flock(2), for what cannot be changed in one step: read, change, write back. It is
//! waited for, but not for ever. And what files of the service need when root touches them.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::error::Error;

/// How often it is tried: flock(2) that waits cannot be given a limit.
const PAUSE: Duration = Duration::from_millis(10);

/// Where psentry-block keeps what lasts as long as the machine is up: what systemd says, or where psentry-block.service
/// has it, so that commands look into the same place.
pub(crate) fn runtime_directory() -> PathBuf {
    let given = std::env::var_os("RUNTIME_DIRECTORY").unwrap_or_default();
    std::env::split_paths(&given)
        .find(|path| path.is_absolute())
        .unwrap_or_else(|| PathBuf::from("/run/psentry-block"))
}

/// Locks a file, and waits for whoever has it locked, but not longer than `limit`.
pub(crate) fn lock(mut file: File, path: &Path, limit: Duration) -> Result<Flock<File>, Error> {
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

/// Locks a directory, for who changes a file in it.
pub(crate) fn lock_directory(path: &Path, limit: Duration) -> Result<Flock<File>, Error> {
    lock(File::open(path).map_err(Error::file(path, "open it"))?, path, limit)
}

/// Makes a file belong to whom its directory belongs to, as far as we may: what root makes with a command is to be the
/// service's. What has another name elsewhere we did not make.
pub(crate) fn own_like_directory(file: &File, directory: &Path) {
    if let (Ok(is), Ok(wanted)) = (file.metadata(), fs::metadata(directory))
        && is.nlink() <= 1
        && (is.uid(), is.gid()) != (wanted.uid(), wanted.gid())
    {
        let _ = fchown(file, Some(wanted.uid()), Some(wanted.gid()));
    }
}
