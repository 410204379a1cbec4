//! A panic: an administrator opened everything, and until `resume` nobody is blocked, by no psentry-block. It is a file
//! `panic` in the directory of `--state`, where it outlives a reboot, and in the runtime directory, where every
//! psentry-block of this machine looks. That it is there is what counts; what it says is for people.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use psentry_records::Timestamp;
use psentry_stage::printable;
use serde::{Deserialize, Serialize};

use crate::backend::told;
use crate::cli::Flags;
use crate::error::Error;
use crate::lock::{like_its_directory, make_directory, runtime_directory};
use crate::note::second;
use crate::recall::Recall;

/// What the file is called.
const NAME: &str = "panic";

/// The longest file that is read; ours are shorter.
const LONGEST: u64 = 4096;

/// Where it is looked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Panic {
    files: Vec<PathBuf>,
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
        Panic { files: state.into_iter().chain([runtime_directory()]).map(|d| d.join(NAME)).collect() }
    }

    /// In these directories.
    #[cfg(test)]
    pub(crate) fn looks_in(directories: &[&Path]) -> Self {
        Panic { files: directories.iter().map(|directory| directory.join(NAME)).collect() }
    }

    /// The order that holds now, if one does: any file of that name is one, whatever it says.
    pub(crate) fn holds(&self) -> Option<Order> {
        self.files.iter().find(|file| fs::symlink_metadata(file).is_ok()).map(|file| read(file))
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
        let tried: Vec<_> = self.files.iter().map(|file| write(file, &text)).collect();
        tried.into_iter().collect()
    }

    /// Takes the order back; `false`: there was none.
    ///
    /// # Errors
    /// When it still holds.
    pub(crate) fn end(&self) -> Result<bool, Error> {
        let mut held = false;
        for file in &self.files {
            match fs::remove_file(file) {
                Ok(()) => held = true,
                Err(error) if is_absent(&error) => {}
                Err(error) => return Err(Error::file(file, "remove it")(error)),
            }
        }
        if held && let Some(directory) = self.files.last().and_then(|file| file.parent()) {
            // Only if it was made for that.
            let _ = fs::remove_dir(directory);
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
    let mut new = tempfile::NamedTempFile::new_in(directory).map_err(wrong)?;
    like_its_directory(new.as_file(), directory);
    let written = new
        .write_all(text)
        .and_then(|()| new.as_file().set_permissions(fs::Permissions::from_mode(0o644)))
        .and_then(|()| new.as_file().sync_all());
    written.map_err(wrong)?;
    new.persist(file).map_err(|error| wrong(error.error))?;
    let directory = fs::File::open(directory).and_then(|directory| directory.sync_all());
    directory.map_err(wrong)
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_holds_in_either_place_until_it_is_taken_back() {
        let (state, run) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let panic = Panic::looks_in(&[state.path(), run.path()]);
        assert_eq!((panic.holds(), panic.end().unwrap()), (None, false));
        let order = Order::now(Some("the office is\nlocked out"));
        panic.declare(&order).unwrap();
        for places in [&[state.path()], &[run.path()]] {
            assert_eq!(Panic::looks_in(places).holds(), Some(order.clone()));
        }
        assert!(order.sentence().contains("(the office is\\nlocked out)"), "{}", order.sentence());
        assert!(panic.end().unwrap());
        assert_eq!((panic.holds(), panic.end().unwrap()), (None, false));
    }

    #[test]
    fn a_place_that_cannot_be_written_to_keeps_no_other_from_it() {
        let run = tempfile::tempdir().unwrap();
        fs::write(run.path().join("file"), "").unwrap();
        let panic = Panic::looks_in(&[&run.path().join("file"), run.path()]);
        assert!(panic.declare(&Order::now(None)).is_err());
        assert!(panic.holds().is_some());
    }

    #[test]
    fn whatever_the_file_is_it_is_an_order() {
        let run = tempfile::tempdir().unwrap();
        let (path, panic) = (run.path().join(NAME), Panic::looks_in(&[run.path()]));
        fs::write(run.path().join("keep"), "").unwrap();
        let by = || panic.holds().map(|order| order.by);
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(by().as_deref(), Some("somebody"));
        assert!(panic.end().unwrap());
        for target in ["/dev/zero", "nowhere"] {
            std::os::unix::fs::symlink(target, &path).unwrap();
            assert_eq!(by().as_deref(), Some("somebody"));
            assert!(panic.end().unwrap());
        }
    }

    #[test]
    fn whatever_the_file_says_it_is_an_order() {
        let run = tempfile::tempdir().unwrap();
        for text in ["", "{", "\u{1b}[2J", "{\"timestamp\":\"2026-11-22T15:04:05Z\",\"by\":\"a\\u001b[2J\"}"]
        {
            fs::write(run.path().join(NAME), text).unwrap();
            let sentence = Panic::looks_in(&[run.path()]).holds().unwrap().sentence();
            assert!(sentence.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{sentence}");
        }
    }
}
