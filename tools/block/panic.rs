//! A panic: an administrator released everybody, and until `resume` nobody is blocked, by no stage of psentry. It is one file,
//! /var/lib/psentry/panic, in a directory of root's, so that no stage that somebody took over can end it or feign it.
//! Commands write it; psentry-block and psentry-trap read it before they block.
//!
//! `resume` does not remove the file but notes in it when the panic was over. So an engine that was busy all the while sees
//! that there was one, and releases everybody nevertheless. Whatever else the file says, or if it says nothing, a panic holds:
//! `touch` is enough.
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use psentry_records::Timestamp;
use psentry_stage::{printable, replace_file};
use serde::{Deserialize, Serialize};

use crate::block::clean;
use crate::error::Error;
use crate::note::second;

/// Where the file is.
const DIRECTORY: &str = "/var/lib/psentry";
const NAME: &str = "panic";

/// Why everybody counts as released once a panic is over: then the judge forgets whom it convicted before and meanwhile.
pub(crate) const PANIC_OVER: &str = "a panic is over: whoever was convicted before is judged anew";

/// The longest file that is read; ours are shorter.
const LONGEST: u64 = 4096;

/// The file of panics.
#[derive(Clone, Debug)]
pub(crate) struct PanicFile(PathBuf);

/// Which file was seen last: its number, and when it was written. It differs after each `panic` and each `resume`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark(Option<(u64, i64, i64)>);

/// That nobody is to be blocked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Order {
    /// Since when.
    pub(crate) timestamp: Timestamp,
    /// Who said so.
    pub(crate) by: String,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    /// When it was over; absent: it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) over: Option<Timestamp>,
}

impl Default for PanicFile {
    fn default() -> Self {
        PanicFile(Path::new(DIRECTORY).join(NAME))
    }
}

impl PanicFile {
    /// Another one, for tests.
    #[cfg(test)]
    pub(crate) fn at(path: &Path) -> Self {
        PanicFile(path.to_owned())
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Which file is there now: one system call, for before each operation.
    pub(crate) fn mark(&self) -> Mark {
        let meta = fs::symlink_metadata(&self.0).ok();
        Mark(meta.map(|meta| (meta.ino(), meta.mtime(), meta.mtime_nsec())))
    }

    /// The panic that was declared last, over or not; `None`: there was none.
    pub(crate) fn last(&self) -> Option<Order> {
        fs::symlink_metadata(&self.0).is_ok().then(|| read(&self.0))
    }

    /// The panic that holds.
    pub(crate) fn holds(&self) -> Option<Order> {
        self.last().filter(|order| order.over.is_none())
    }

    /// Why it cannot be told whether one holds; `None`: it can.
    pub(crate) fn unknown(&self) -> Option<Error> {
        let why = fs::symlink_metadata(&self.0).err()?;
        let absent = matches!(why.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
        (!absent).then(|| Error::file(&self.0, "tell whether a panic holds")(why))
    }

    /// Declares a panic, or that it is over, in one step.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn write(&self, order: &Order) -> Result<(), Error> {
        let mut text = serde_json::to_vec(order).unwrap_or_default();
        text.push(b'\n');
        if let Some(directory) = self.0.parent() {
            fs::create_dir_all(directory).map_err(Error::file(directory, "make the directory"))?;
        }
        let readable = |new: &fs::File| new.set_permissions(fs::Permissions::from_mode(0o644));
        replace_file(&self.0, &text, readable).map_err(Error::file(&self.0, "write it"))
    }
}

impl Order {
    /// A panic of now, in the name of whoever runs this program.
    pub(crate) fn now(reason: Option<&str>) -> Self {
        let uid = nix::unistd::geteuid();
        let user = std::env::var("SUDO_USER").ok().filter(|_| uid.is_root());
        let by = user.map_or_else(|| format!("uid {uid}"), |user| format!("{} (sudo)", printable(&user)));
        Order { timestamp: Timestamp::now(), by, reason: reason.and_then(clean), over: None }
    }

    /// As a sentence.
    pub(crate) fn sentence(&self) -> String {
        let reason = self.reason.as_ref().map_or_else(String::new, |reason| format!(" ({reason})"));
        format!(
            "a panic holds since {}, declared by {}{reason}: nobody is blocked until 'psentry-block resume'",
            second(self.timestamp),
            self.by
        )
    }
}

fn read(file: &Path) -> Order {
    let mut text = Vec::new();
    // A pipe of that name must hold up nobody, nor a file without an end fill the memory.
    let flags = (OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW).bits();
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(file);
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
