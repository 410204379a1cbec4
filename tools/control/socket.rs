//! The file of the control socket, and connections to it. Who may connect is the file's mode, from the first moment on; a
//! file that a dead process left is taken over, one of a living process never.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, lchown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use nix::sys::stat::{Mode, umask};
use nix::unistd::Group;
use psentry_stage::make_directory;

use crate::ControlError;

/// Whose members may ask, where the mode lets a group in.
const GROUP: &str = "psentry";

/// The umask is one for the whole process.
static UMASK: Mutex<()> = Mutex::new(());

/// A socket that listens. Its file is removed with it.
#[derive(Debug)]
pub(crate) struct Socket {
    path: PathBuf,
    /// Which file it is, so that nobody else's is removed.
    file: (u64, u64),
}

impl Socket {
    /// Makes it. Before the first thread: while it is made, the umask of this process is another.
    pub(crate) fn listen(path: &Path, mode: u32, owner: &str) -> Result<(Self, UnixListener), ControlError> {
        if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
            make_directory(directory).map_err(wrong(directory, "make the directory"))?;
        }
        remove_dead(path, owner)?;
        // By the umask it has its mode from the start: chmod(2) would follow a link that somebody put in its place.
        let bound = {
            let _alone = UMASK.lock();
            let before = umask(Mode::from_bits_truncate(!mode & 0o777));
            let bound = UnixListener::bind(path);
            umask(before);
            bound
        };
        let listener = bound.map_err(wrong(path, "listen there"))?;
        if mode & 0o070 != 0
            && let Ok(Some(group)) = Group::from_name(GROUP)
        {
            // Where this user may not, it stays with the user's own group.
            let _ = lchown(path, None, Some(group.gid.as_raw()));
        }
        let file = identity(path).map_err(wrong(path, "look at it"))?;
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

/// Removes what a dead process left.
fn remove_dead(path: &Path, owner: &str) -> Result<(), ControlError> {
    let kind = match fs::symlink_metadata(path) {
        Ok(meta) => meta.file_type(),
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(why) => return Err(wrong(path, "look at it")(why)),
    };
    if !kind.is_socket() {
        return Err(ControlError::NotASocket { path: path.to_owned() });
    }
    match open(path) {
        Err(why) if why.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(wrong(path, "remove what a dead process left"))
        }
        // Also one that takes no connection, because it hangs: it lives.
        _ => Err(ControlError::Taken { path: path.to_owned(), owner: owner.to_owned() }),
    }
}

/// Connects without waiting: a process that hangs accepts no connection once its queue is full.
pub(crate) fn open(path: &Path) -> io::Result<UnixStream> {
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
pub(crate) fn left(limit: Duration, since: Instant) -> io::Result<Duration> {
    let left = limit.saturating_sub(since.elapsed());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|meta| (meta.dev(), meta.ino()))
}

fn wrong(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> ControlError {
    let path = path.to_owned();
    move |why| ControlError::File { path, doing, why }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With the owner's rights whole: other tests make directories meanwhile, under the umask of this one.
    fn listen(path: &Path, mode: u32) -> Result<(Socket, UnixListener), ControlError> {
        Socket::listen(path, mode, "psentry-test")
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn what_a_dead_process_left_is_taken_over_and_nothing_else_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control");
        // Dropping a listener leaves its file, as kill -9 does.
        drop(UnixListener::bind(&path).unwrap());
        let (socket, listener) = listen(&path, 0o700).unwrap();
        assert_eq!(mode(&path), 0o700);
        let taken = listen(&path, 0o700).unwrap_err();
        assert!(matches!(taken, ControlError::Taken { .. }));
        assert!(taken.to_string().ends_with("another psentry-test listens there"), "{taken}");
        drop((socket, listener));
        assert!(!path.exists());
        fs::write(&path, "mine").unwrap();
        assert!(matches!(listen(&path, 0o700), Err(ControlError::NotASocket { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"mine");
    }

    #[test]
    fn a_file_that_came_in_its_place_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control");
        let (socket, _listener) = listen(&path, 0o770).unwrap();
        assert_eq!(mode(&path), 0o770);
        fs::rename(&path, directory.path().join("old")).unwrap();
        fs::write(&path, "another").unwrap();
        drop(socket);
        assert!(path.exists());
    }

    #[test]
    fn the_group_is_psentry_where_there_is_one_and_the_mode_lets_a_group_in() {
        let directory = tempfile::tempdir().unwrap();
        let group = Group::from_name(GROUP).unwrap().map(|group| group.gid.as_raw());
        let own = fs::metadata(directory.path()).unwrap().gid();
        let may = nix::unistd::geteuid().is_root();
        for (mode, group) in [(0o700, own), (0o770, group.filter(|_| may).unwrap_or(own))] {
            let path = directory.path().join(format!("{mode:o}"));
            let _socket = listen(&path, mode).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().gid(), group, "{mode:o}");
        }
    }

    #[test]
    fn a_directory_that_is_missing_is_made() {
        let directory = tempfile::tempdir().unwrap();
        assert!(listen(&directory.path().join("run/psentry-block/control"), 0o700).is_ok());
    }

    #[test]
    fn who_accepts_no_connection_lives_and_is_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control");
        let _listener = UnixListener::bind(&path).unwrap();
        let mut held = Vec::new();
        let full = loop {
            match open(&path) {
                Ok(stream) => held.push(stream),
                Err(error) => break error,
            }
            assert!(held.len() < 10_000);
        };
        assert_eq!(full.kind(), io::ErrorKind::TimedOut);
        assert!(matches!(listen(&path, 0o700), Err(ControlError::Taken { .. })));
    }
}
