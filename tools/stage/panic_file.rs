//! A panic: an administrator released everybody, and until `resume` nobody is blocked, by no stage of psentry. It is one file,
//! /var/lib/psentry/panic, in a directory of root's, so that no stage that somebody took over can end it or feign it.
//! psentry-block's commands write it; psentry-block reads it before it blocks, psentry-trap whenever it changes.
//!
//! `resume` does not remove the file but notes in it when the panic was over. So an engine that was busy all the while sees
//! that there was one, and releases everybody nevertheless. Whatever else the file says, or if it says nothing, a panic holds:
//! `touch` is enough.
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use psentry_records::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{clean, open_regular, printable, replace_file, second};

/// Where the file is.
const DIRECTORY: &str = "/var/lib/psentry";
const NAME: &str = "panic";

/// The longest file that is read; ours are shorter.
const LONGEST: u64 = 4096;

/// The file of panics.
#[derive(Clone, Debug)]
pub struct PanicFile(PathBuf);

/// Which file was seen last: its inode, when it was written, and how long it is. It differs after each `panic` and each `resume`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark(Option<(u64, i64, i64, u64)>);

/// That nobody is to be blocked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// Since when.
    pub timestamp: Timestamp,
    /// Who said so.
    pub by: String,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it was over; absent: it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over: Option<Timestamp>,
}

impl Default for PanicFile {
    fn default() -> Self {
        PanicFile(Path::new(DIRECTORY).join(NAME))
    }
}

impl PanicFile {
    /// Another one, for tests.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        PanicFile(path.to_owned())
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Which file is there now: one system call, for before each operation.
    #[must_use]
    pub fn mark(&self) -> Mark {
        let meta = fs::symlink_metadata(&self.0).ok();
        Mark(meta.map(|meta| (meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.len())))
    }

    /// The panic that was declared last, over or not; `None`: there was none.
    #[must_use]
    pub fn last(&self) -> Option<Order> {
        fs::symlink_metadata(&self.0).is_ok().then(|| read(&self.0))
    }

    /// The panic that holds.
    #[must_use]
    pub fn holds(&self) -> Option<Order> {
        self.last().filter(|order| order.over.is_none())
    }

    /// Why it cannot be told whether one holds; `None`: it can.
    #[must_use]
    pub fn unknown(&self) -> Option<io::Error> {
        let why = fs::symlink_metadata(&self.0).err()?;
        let absent = matches!(why.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
        (!absent).then_some(why)
    }

    /// Declares a panic, or that it is over, in one step. Makes the directory where it is missing.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, order: &Order) -> io::Result<()> {
        let mut text = serde_json::to_vec(order).unwrap_or_default();
        text.push(b'\n');
        // Whatever the umask of who runs the command: other users' stages are to see it.
        if let Some(directory) = self.0.parent().filter(|directory| !directory.exists()) {
            fs::create_dir_all(directory)?;
            fs::set_permissions(directory, Permissions::from_mode(0o755))?;
        }
        replace_file(&self.0, &text, |new| new.set_permissions(Permissions::from_mode(0o644)))
    }
}

impl Order {
    /// A panic that begins now, in the name of the user that runs this program.
    #[must_use]
    pub fn now(reason: Option<&str>) -> Self {
        let uid = nix::unistd::geteuid();
        let user = std::env::var("SUDO_USER").ok().filter(|_| uid.is_root());
        let by = user.map_or_else(|| format!("uid {uid}"), |user| format!("{} (sudo)", printable(&user)));
        Order { timestamp: Timestamp::now(), by, reason: reason.and_then(clean), over: None }
    }

    /// That it holds, since when and why.
    #[must_use]
    pub fn declared(&self) -> String {
        self.declared_at(second)
    }

    /// The same with the moment as people read it.
    pub fn declared_at(&self, moment: impl Fn(Timestamp) -> String) -> String {
        let reason = self.reason.as_ref().map_or_else(String::new, |reason| format!(" ({reason})"));
        format!("a panic holds since {}, declared by {}{reason}", moment(self.timestamp), self.by)
    }

    /// As a sentence of psentry-block's.
    #[must_use]
    pub fn sentence(&self) -> String {
        self.sentence_at(second)
    }

    /// The same with the moment as people read it.
    pub fn sentence_at(&self, moment: impl Fn(Timestamp) -> String) -> String {
        format!("{}: nobody is blocked until 'psentry resume'", self.declared_at(moment))
    }
}

fn read(file: &Path) -> Order {
    let mut text = Vec::new();
    // A pipe of that name must hold up nobody, nor a file without an end fill the memory.
    let opened = open_regular(file, OpenOptions::new().read(true));
    let _ = opened.and_then(|file| file.take(LONGEST).read_to_end(&mut text));
    let order = serde_json::from_slice::<Order>(&text).map(|order| Order {
        by: clean(&order.by).unwrap_or_else(|| "somebody".to_owned()),
        reason: order.reason.as_deref().and_then(clean),
        ..order
    });
    order.unwrap_or_else(|_| {
        let made = fs::symlink_metadata(file).and_then(|meta| meta.modified()).ok();
        let since = made.and_then(|made| made.duration_since(std::time::UNIX_EPOCH).ok());
        let timestamp =
            since.and_then(|since| Timestamp::from_secs(since.as_secs())).unwrap_or_else(Timestamp::now);
        Order { timestamp, by: "somebody".to_owned(), reason: None, over: None }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_holds_until_it_is_over_and_both_are_seen() {
        let directory = tempfile::tempdir().unwrap();
        let file = PanicFile::at(&directory.path().join("lib/psentry/panic"));
        assert_eq!((file.holds(), file.last(), file.mark()), (None, None, Mark::default()));
        let order = Order::now(Some("a test\u{1b}"));
        file.write(&order).unwrap();
        let (declared, held) = (file.mark(), file.holds().unwrap());
        assert_ne!(declared, Mark::default());
        assert!(held.sentence().contains("(a test\\u{1b})"), "{}", held.sentence());
        file.write(&Order { over: Some(Timestamp::now()), ..order.clone() }).unwrap();
        assert_ne!(file.mark(), declared);
        assert_eq!((file.holds(), file.last().unwrap().timestamp), (None, order.timestamp));
    }

    #[test]
    fn everybody_may_read_it_and_who_cannot_does_not_know() {
        let directory = tempfile::tempdir().unwrap();
        let file = PanicFile::at(&directory.path().join("lib/psentry/panic"));
        assert!(file.unknown().is_none());
        file.write(&Order::now(None)).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(file.path().parent().unwrap()), mode(file.path())), (0o755, 0o644));
        let loops = directory.path().join("loop");
        std::os::unix::fs::symlink(&loops, &loops).unwrap();
        assert!(PanicFile::at(&loops.join("panic")).unknown().is_some());
    }

    #[test]
    fn any_file_of_that_name_is_a_panic() {
        let directory = tempfile::tempdir().unwrap();
        let file = PanicFile::at(&directory.path().join("panic"));
        for text in ["", "\n", "yes", "{\"timestamp\":1}", "{\"over\":\"2026-11-22T15:04:05Z\"}"] {
            fs::write(file.path(), text).unwrap();
            assert_eq!(file.holds().unwrap().by, "somebody", "{text}");
        }
        fs::remove_file(file.path()).unwrap();
        nix::unistd::mkfifo(file.path(), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(file.holds().is_some());
    }
}
