//! When the file of changes is brought onto the disk: a few seconds after something was appended, and by a thread,
//! because a disk may take its time, and no record is to wait for it. It writes nothing itself.

use std::fs::File;
use std::io;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

/// How long what was appended may be in the kernel's memory only. Shorter would keep disks from ever resting.
pub(super) const WITHIN: Duration = Duration::from_secs(5);

/// What is not on the disk yet.
#[derive(Default)]
pub(super) struct Sync {
    /// Since when something waits to be.
    pub(super) since: Option<Instant>,
    /// The thread that syncs now, if one does.
    pub(super) thread: Option<JoinHandle<io::Result<()>>>,
}

impl Sync {
    /// Something was appended, and has to be on the disk within [`WITHIN`].
    pub(super) fn appended(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    /// Lets a thread bring the file onto the disk if that is due; one at a time.
    ///
    /// # Errors
    /// The disk did not take what it was last given, or no thread is to be had.
    pub(super) fn sync_if_due(&mut self, file: &File, now: Instant) -> io::Result<()> {
        if let Some(thread) = self.thread.take_if(|thread| thread.is_finished()) {
            thread.join().map_err(|_| io::Error::other("the thread that waits for the disk died"))??;
        }
        let due = self.since.is_some_and(|since| now.duration_since(since) >= WITHIN);
        if due && self.thread.is_none() {
            let file = file.try_clone()?;
            self.thread = Some(Builder::new().name("sync".to_owned()).spawn(move || file.sync_data())?);
            self.since = None;
        }
        Ok(())
    }
}
