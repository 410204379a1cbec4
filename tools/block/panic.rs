//! A panic: an administrator opened everything, and until `resume` nobody is blocked, by no psentry-block. It is a file
//! `panic` in the directory of `--state`, where it outlives a reboot, and in the runtime directory, where every
//! psentry-block of this machine looks. That it is there is what counts; what it says is for people.
//!
//! A second file in the runtime directory, `panicked`, outlasts `resume`: whoever was in the midst of something all the
//! while sees by it that there was a panic, and undoes it. It goes with the next boot.

use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use psentry_records::Timestamp;
use psentry_stage::{printable, replace_file};
use serde::{Deserialize, Serialize};

use crate::backend::told;
use crate::cli::Flags;
use crate::error::Error;
use crate::lock::{like_its_directory, make_directory, runtime_directory};
use crate::memory::recall::Recall;
use crate::note::second;

/// What the file is called.
const NAME: &str = "panic";

/// What the file is called by which it is known later that there was one.
const MARK: &str = "panicked";

/// The longest file that is read; ours are shorter.
const LONGEST: u64 = 4096;

/// Where it is looked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Panic {
    files: Vec<PathBuf>,
    mark: Option<PathBuf>,
}

/// Which panic was the last one, by its file: the number of it, and when it was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark(Option<(u64, i64, i64)>);

impl Mark {
    /// Whether this one came after `other`, or at least is not the same.
    pub(crate) fn is_after(self, other: Mark) -> bool {
        self.0.is_some() && self != other
    }
}

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
}

impl Panic {
    /// Where commands and the psentry-block of these flags look.
    pub(crate) fn of(flags: &Flags) -> Self {
        let state = Recall::of(flags).directory().map(Path::to_owned);
        Panic {
            files: state.into_iter().chain([runtime_directory()]).map(|d| d.join(NAME)).collect(),
            mark: Some(runtime_directory().join(MARK)),
        }
    }

    /// In these directories.
    #[cfg(test)]
    pub(crate) fn looks_in(directories: &[&Path]) -> Self {
        Panic {
            files: directories.iter().map(|directory| directory.join(NAME)).collect(),
            mark: directories.last().map(|directory| directory.join(MARK)),
        }
    }

    /// The order that holds now, if one does: any file of that name is one, whatever it says.
    pub(crate) fn holds(&self) -> Option<Order> {
        self.files.iter().find(|file| is_there(file)).map(|file| read(file))
    }

    /// Which panic was the last one, of those since the machine was booted.
    pub(crate) fn mark(&self) -> Mark {
        let meta = self.mark.as_ref().and_then(|mark| fs::symlink_metadata(mark).ok());
        Mark(meta.map(|meta| (meta.ino(), meta.mtime(), meta.mtime_nsec())))
    }

    /// Why it cannot be told whether one holds; `None`: it can.
    pub(crate) fn unknown(&self) -> Option<Error> {
        let looked = self.files.iter().map(|file| (file, fs::symlink_metadata(file)));
        let unseen = |(file, looked): (&PathBuf, io::Result<_>)| {
            let why = looked.err().filter(|why| !is_absent(why))?;
            Some(Error::file(file, "tell whether a panic holds")(why))
        };
        looked.filter_map(unseen).next()
    }

    /// Gives the order.
    ///
    /// # Errors
    /// When it could be written nowhere, or not where it outlives a reboot.
    pub(crate) fn declare(&self, order: &Order) -> Result<(), Error> {
        let mut text = serde_json::to_vec(order).unwrap_or_default();
        text.push(b'\n');
        // Whatever fails, the rest is written.
        let tried: Vec<_> = self.files.iter().chain(&self.mark).map(|file| write(file, &text)).collect();
        tried.into_iter().collect()
    }

    /// Takes the order back; `false`: there was none.
    ///
    /// # Errors
    /// When it still holds.
    pub(crate) fn end(&self) -> Result<bool, Error> {
        let (mut held, mut trouble) = (false, None);
        for file in &self.files {
            match fs::remove_file(file) {
                Ok(()) => held = true,
                // On a medium that is only read nothing can be removed, and what is not there need not be.
                Err(error) if is_absent(&error) || !is_there(file) => {}
                Err(error) => trouble = trouble.or(Some(Error::file(file, "remove it")(error))),
            }
        }
        if let Some(error) = trouble {
            return Err(error);
        }
        Ok(held)
    }
}

impl Order {
    /// An order of now, in the name of whoever runs this program.
    pub(crate) fn now(reason: Option<&str>) -> Self {
        let uid = nix::unistd::geteuid();
        let user = std::env::var("SUDO_USER").ok().filter(|_| uid.is_root());
        let by = user.map_or_else(|| format!("uid {uid}"), |user| format!("{} (sudo)", printable(&user)));
        Order { timestamp: Timestamp::now(), by, reason: reason.and_then(told) }
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
    let opened = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(file);
    let _ = opened.and_then(|file| file.take(LONGEST).read_to_end(&mut text));
    let order = serde_json::from_slice::<Order>(&text).map(|order| Order {
        by: told(&order.by).unwrap_or_else(|| "somebody".to_owned()),
        reason: order.reason.as_deref().and_then(told),
        ..order
    });
    order.unwrap_or_else(|_| {
        let made = fs::symlink_metadata(file).and_then(|meta| meta.modified()).ok();
        let since = made.and_then(|made| made.duration_since(std::time::UNIX_EPOCH).ok());
        let timestamp = since.and_then(|since| Timestamp::from_secs(since.as_secs()));
        Order { timestamp: timestamp.unwrap_or_else(Timestamp::now), by: "somebody".to_owned(), reason: None }
    })
}

/// Writes it in one step, so that it is never half there. Readable to the service, which is somebody else.
fn write(file: &Path, text: &[u8]) -> Result<(), Error> {
    let wrong = |why| Error::file(file, "write it")(why);
    let Some(directory) = file.parent() else { return Ok(()) };
    make_directory(directory)?;
    let written = replace_file(file, text, |new| {
        like_its_directory(new, directory);
        new.set_permissions(fs::Permissions::from_mode(0o644))
    });
    written.map_err(wrong)
}

fn is_there(file: &Path) -> bool {
    fs::symlink_metadata(file).is_ok()
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests;
