//! Who listens to what a service tells systemd (sd_notify(3)).

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use tempfile::TempDir;

use super::WAIT;

/// What a service tells systemd.
pub struct Notified {
    socket: UnixDatagram,
    /// For NOTIFY_SOCKET.
    pub path: PathBuf,
    _folder: TempDir,
}

impl Notified {
    /// A place to tell it.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(WAIT)).unwrap();
        Notified { socket, path, _folder: folder }
    }

    /// Waits until it is told this.
    pub fn hears(&self, word: &str) {
        let mut told = [0; 4096];
        loop {
            let got = self.socket.recv(&mut told).unwrap_or_else(|error| panic!("{word}: {error}"));
            if std::str::from_utf8(&told[..got]).unwrap().contains(word) {
                return;
            }
        }
    }

    /// Forgets what was told so far.
    pub fn forget(&self) {
        self.socket.set_nonblocking(true).unwrap();
        while self.socket.recv(&mut [0; 4096]).is_ok() {}
        self.socket.set_nonblocking(false).unwrap();
    }
}
