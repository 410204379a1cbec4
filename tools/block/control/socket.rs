//! The file of the control socket. Who may open it is the file's mode, from the first moment on; one that a dead
//! process left is taken over, one of a living process never.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use nix::sys::stat::{Mode, umask};

use crate::error::Error;
use crate::lock::make_directory;

/// A socket that listens; its file goes with it.
pub(super) struct Socket {
    path: PathBuf,
    /// Which file it is, so that nobody else's is taken away.
    file: (u64, u64),
}

impl Socket {
    /// Makes it. Before the first thread: while it is made, every new file of this process is closed to others.
    pub(super) fn listen(path: &Path, mode: u32) -> Result<(Self, UnixListener), Error> {
        let wrong = |doing| Error::file(path, doing);
        if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
            make_directory(directory)?;
        }
        clear_the_way(path)?;
        let before = umask(Mode::from_bits_truncate(0o177));
        let bound = UnixListener::bind(path);
        umask(before);
        let listener = bound.map_err(wrong("listen there (--control)"))?;
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(wrong("set its mode"))?;
        let file = identity(path).map_err(wrong("look at it"))?;
        Ok((Socket { path: path.to_owned(), file }, listener))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|file| file == self.file) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Takes away what a dead process left.
fn clear_the_way(path: &Path) -> Result<(), Error> {
    let kind = match fs::symlink_metadata(path) {
        Ok(meta) => meta.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::file(path, "look at it (--control)")(error)),
    };
    if !kind.is_socket() {
        let what = "this is no socket, and psentry-block does not take away what is not its own";
        return Err(Error::Usage(format!("--control {}: {what}", path.display())));
    }
    match reach(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(Error::file(path, "remove what a dead process left"))
        }
        _ => Err(Error::Listened { path: path.to_owned() }),
    }
}

/// Connects without waiting: a process that hangs takes no connection, and is not waited for.
pub(super) fn reach(path: &Path) -> io::Result<UnixStream> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    let address = UnixAddr::new(path)?;
    match connect(socket.as_raw_fd(), &address) {
        Ok(()) => {}
        Err(Errno::EAGAIN) => return Err(io::ErrorKind::TimedOut.into()),
        Err(errno) => return Err(errno.into()),
    }
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// What is left of `limit` since then, for a socket's timeout, which must not be zero.
pub(super) fn left(limit: Duration, since: std::time::Instant) -> io::Result<Duration> {
    let left = limit.saturating_sub(since.elapsed());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|meta| (meta.dev(), meta.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_ones_place_is_taken_a_living_ones_is_not_and_what_is_no_socket_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control");
        // Dropping a listener leaves its file, as kill -9 does.
        drop(UnixListener::bind(&path).unwrap());
        let (socket, listener) = Socket::listen(&path, 0o600).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(matches!(Socket::listen(&path, 0o600), Err(Error::Listened { .. })));
        drop((socket, listener));
        assert!(!path.exists());
        fs::write(&path, "mine").unwrap();
        assert!(Socket::listen(&path, 0o600).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"mine");
    }

    #[test]
    fn a_file_that_came_in_its_place_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control");
        let (socket, _listener) = Socket::listen(&path, 0o660).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o660);
        fs::rename(&path, directory.path().join("old")).unwrap();
        fs::write(&path, "another").unwrap();
        drop(socket);
        assert!(path.exists());
    }

    #[test]
    fn a_directory_that_is_not_there_is_made() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/psentry-block/control");
        assert!(Socket::listen(&path, 0o600).is_ok());
    }

    #[test]
    fn who_takes_no_connection_is_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control");
        let _listener = UnixListener::bind(&path).unwrap();
        let mut held = Vec::new();
        let full = loop {
            match reach(&path) {
                Ok(stream) => held.push(stream),
                Err(error) => break error,
            }
            assert!(held.len() < 10_000);
        };
        assert_eq!(full.kind(), io::ErrorKind::TimedOut);
    }
}
