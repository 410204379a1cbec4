//! The file that lines are appended to. It is rotated when it is full, and opened anew when somebody else moved or removed
//! it. Whatever becomes of it, the program goes on: what cannot be written is lost and counted.

use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::Flock;
use nix::unistd::{AccessFlags, access};
use psentry_stage::{LineFile, lock_file, open_regular};

use crate::rotation;
use crate::settings::LogSettings;

/// The owner writes, the group reads: records name addresses.
const MODE: u32 = 0o640;

/// How often it is looked whether the file is still the one of its name, and how often one that could not be opened is tried
/// again.
const LOOK: Duration = Duration::from_secs(1);

/// How often at most the oldest file is removed because there was no room. Where it is somebody else who fills the disk, that must
/// not cost the whole log at once.
const FREE: Duration = Duration::from_secs(60);

/// The file of a log, and those it is rotated to.
pub(crate) struct LogFile {
    settings: LogSettings,
    lines: LineFile,
    open: Result<Open, io::Error>,
    looked: Instant,
    freed: Option<Instant>,
    /// How often it was rotated.
    pub(crate) rotations: u64,
}

/// What is known of the file that is open.
struct Open {
    length: u64,
    /// Its device and inode.
    identity: (u64, u64),
    /// Held as long as it is written: a second writer would rotate it away.
    _lock: Flock<File>,
}

impl LogFile {
    /// Opens it, or makes it. What the system refuses, such as a directory that is not there or may not be written, is no
    /// error: it is reported, and tried again every second.
    ///
    /// # Errors
    /// It is no regular file, or somebody else writes it: waiting mends neither.
    pub(crate) fn open(settings: LogSettings, now: Instant) -> io::Result<Self> {
        let name = format!("the log {}", settings.path.display());
        let (lines, open) = match open(&settings.path) {
            Ok((file, open)) => (LineFile::new(file, &name), Ok(open)),
            Err(why) if why.raw_os_error().is_some() => {
                // Nothing is written to the file in its place.
                let mut lines = LineFile::new(File::open("/dev/null")?, &name);
                lines.note_failure(&why, now);
                (lines, Err(why))
            }
            Err(why) => return Err(why),
        };
        // What cannot be removed costs room, but no record.
        let _ = rotation::remove_surplus(&settings.path, settings.files);
        Ok(LogFile { settings, lines, open, looked: now, freed: None, rotations: 0 })
    }

    /// Appends a line, which ends with a newline. What cannot be written is counted.
    pub(crate) fn append(&mut self, line: &[u8], now: Instant) {
        self.look(now);
        let before = self.lines.lost();
        if let Err(why) = self.write(line, now) {
            self.lines.count_loss(&why, now);
        }
        if self.lines.lost() > before && self.lines.is_full() {
            self.make_room(now);
        }
    }

    /// The file, for what was lost of it.
    pub(crate) fn lines(&self) -> &LineFile {
        &self.lines
    }

    /// The sentence that is to be printed now, if there is one.
    pub(crate) fn report(&mut self) -> Option<String> {
        self.lines.report()
    }

    fn write(&mut self, line: &[u8], now: Instant) -> io::Result<()> {
        let bytes = u64::try_from(line.len()).unwrap_or(u64::MAX);
        let full = |open: &Open| open.length > 0 && open.length.saturating_add(bytes) > self.settings.size;
        if self.open.as_ref().is_ok_and(full) {
            rotation::rotate(&self.settings.path, self.settings.files)?;
            self.rotations += 1;
            self.reopen();
        }
        match &mut self.open {
            Ok(open) => {
                self.lines.write_line(line, now)?;
                open.length = open.length.saturating_add(bytes);
                Ok(())
            }
            Err(why) => Err(again(why)),
        }
    }

    /// Looks from time to time whether the file is still there.
    fn look(&mut self, now: Instant) {
        if now.saturating_duration_since(self.looked) < LOOK {
            return;
        }
        self.looked = now;
        match (fs::symlink_metadata(&self.settings.path), &mut self.open) {
            // Somebody may have cut it.
            (Ok(there), Ok(open)) if identity(&there) == open.identity => open.length = there.len(),
            _ => self.reopen(),
        }
    }

    fn reopen(&mut self) {
        self.open = open(&self.settings.path).map(|(file, open)| {
            self.lines.replace(file);
            open
        });
    }

    fn make_room(&mut self, now: Instant) {
        if self.freed.is_none_or(|freed| now.saturating_duration_since(freed) >= FREE) {
            self.freed = Some(now);
            // Where that fails, the disk stays full, which is reported.
            let _ = rotation::remove_oldest(&self.settings.path, self.settings.files);
        }
    }
}

/// Opens a regular file for appending, or makes it. Its directory has to be writable, too: it is rotated there.
fn open(path: &Path) -> io::Result<(File, Open)> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    access(folder.unwrap_or(Path::new(".")), AccessFlags::W_OK | AccessFlags::X_OK)?;
    let mut options = File::options();
    options.read(true).append(true);
    let file = match open_regular(path, options.clone().create_new(true)) {
        Ok(file) => {
            // Whatever the umask is.
            file.set_permissions(Permissions::from_mode(MODE))?;
            file
        }
        Err(why) if why.kind() == ErrorKind::AlreadyExists => {
            open_regular(path, options.create_new(false)).map_err(link)?
        }
        Err(why) => return Err(why),
    };
    let there = file.metadata()?;
    let taken = || io::Error::other("another psentry-block writes it; give this one another --log");
    let lock = lock_file(file.try_clone()?, Duration::ZERO)?.ok_or_else(taken)?;
    Ok((file, Open { length: there.len(), identity: identity(&there), _lock: lock }))
}

/// What open(2) says of a symbolic link is no help.
fn link(why: io::Error) -> io::Error {
    match why.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ELOOP) => io::Error::other("it is a symbolic link; name the file itself"),
        _ => why,
    }
}

fn identity(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

/// The same error once more.
fn again(why: &io::Error) -> io::Error {
    why.raw_os_error()
        .map_or_else(|| io::Error::new(why.kind(), why.to_string()), io::Error::from_raw_os_error)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    use super::*;

    fn settings(path: &Path) -> LogSettings {
        LogSettings { path: path.to_owned(), size: 100, files: 3 }
    }

    fn log() -> (tempfile::TempDir, PathBuf, LogFile, Instant) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records.jsonl");
        let now = Instant::now();
        let log = LogFile::open(settings(&path), now).unwrap();
        (folder, path, log, now)
    }

    fn text(path: &Path) -> String {
        fs::read_to_string(path).unwrap_or_default()
    }

    #[test]
    fn each_file_has_its_size_and_mode_and_there_are_no_more_than_so_many() {
        let (folder, path, mut log, now) = log();
        for number in 0..100 {
            log.append(format!("{number:039}\n").as_bytes(), now);
        }
        assert_eq!((log.rotations, log.lines().lost()), (49, 0));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
        for (times, first) in [(0, 98), (1, 96), (2, 94)] {
            let file = if times == 0 { path.clone() } else { rotation::rotated(&path, times) };
            assert_eq!(text(&file), format!("{first:039}\n{:039}\n", first + 1));
            assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, MODE);
        }
        // A line that is longer than a file is written whole.
        log.append(&[b'x'; 200], now);
        assert_eq!(text(&path).len(), 200);
    }

    #[test]
    fn it_goes_on_where_it_ended_and_ends_what_a_kill_cut_off() {
        let (_folder, path, mut log, now) = log();
        log.append(b"one\n", now);
        drop(log);
        fs::write(&path, "one\ntw").unwrap();
        let mut log = LogFile::open(settings(&path), now).unwrap();
        log.append(b"three\n", now);
        assert_eq!(text(&path), "one\ntw\nthree\n");
        // And where a rotation was killed before the new file was made.
        fs::rename(&path, rotation::rotated(&path, 1)).unwrap();
        drop(log);
        let mut log = LogFile::open(settings(&path), now).unwrap();
        log.append(b"four\n", now);
        assert_eq!(
            (text(&path), text(&rotation::rotated(&path, 1))),
            ("four\n".into(), "one\ntw\nthree\n".into())
        );
    }

    #[test]
    fn a_file_that_somebody_moved_removed_or_cut_is_followed_a_second_later() {
        let (folder, path, mut log, start) = log();
        let away = folder.path().join("away");
        log.append(b"one\n", start);
        fs::rename(&path, &away).unwrap();
        log.append(b"two\n", start + LOOK / 2);
        assert!(!path.exists());
        log.append(b"three\n", start + LOOK);
        assert_eq!((text(&away), text(&path)), ("one\ntwo\n".into(), "three\n".into()));
        fs::remove_file(&path).unwrap();
        log.append(b"four\n", start + 2 * LOOK);
        assert_eq!(text(&path), "four\n");
        // As copytruncate does.
        log.append(&[b'5'; 90], start + 2 * LOOK);
        fs::write(&path, "").unwrap();
        log.append(b"six\n", start + 3 * LOOK);
        assert_eq!((text(&path), log.rotations, log.lines().lost()), ("six\n".into(), 0, 0));
    }

    #[test]
    fn while_it_cannot_be_opened_lines_are_lost_and_counted() {
        let (folder, path, mut log, start) = log();
        log.append(b"one\n", start);
        fs::remove_dir_all(folder.path()).unwrap();
        log.append(b"two\n", start + LOOK);
        log.append(b"three\n", start + LOOK);
        assert_eq!(log.lines().lost(), 2);
        let said = log.report().unwrap();
        assert!(said.contains("cannot be written: No such file or directory (os error 2)"), "{said}");
        fs::create_dir(folder.path()).unwrap();
        log.append(b"four\n", start + LOOK);
        assert_eq!(log.lines().lost(), 3, "it is tried again once a second");
        log.append(b"five\n", start + 2 * LOOK);
        assert_eq!((text(&path), log.lines().lost()), ("five\n".into(), 3));
        assert!(log.report().unwrap().contains("can be written again; 3 records were lost"));
    }

    #[test]
    fn a_log_without_a_directory_is_opened_once_that_is_made() {
        let (folder, _, _log, start) = log();
        let path = folder.path().join("none/records.jsonl");
        let mut log = LogFile::open(settings(&path), start).unwrap();
        let failure = log.lines().failure().unwrap().to_owned();
        assert!(failure.contains("none/records.jsonl cannot be written: No such file"), "{failure}");
        assert_eq!(log.report().as_deref(), Some(format!("{failure}, and the work goes on").as_str()));
        log.append(b"one\n", start);
        fs::create_dir(folder.path().join("none")).unwrap();
        log.append(b"two\n", start + LOOK);
        assert_eq!((text(&path), log.lines().lost(), log.lines().failure()), ("two\n".into(), 1, None));
        assert!(log.report().unwrap().ends_with("can be written again; 1 record was lost"));
        // Nor is one that may not be written, or that is a directory by now.
        fs::create_dir(folder.path().join("taken")).unwrap();
        let log = LogFile::open(settings(&folder.path().join("taken")), start).unwrap();
        assert!(log.lines().failure().unwrap().contains("Is a directory"));
    }

    #[test]
    fn what_is_no_file_of_ones_own_is_refused() {
        let (folder, path, _log, now) = log();
        let file = |name: &str| folder.path().join(name);
        fs::create_dir(file("folder")).unwrap();
        symlink(&path, file("link")).unwrap();
        symlink("/dev/null", file("null")).unwrap();
        for (path, says) in [
            (path, "another psentry-block writes it"),
            (file("link"), "it is a symbolic link"),
            (file("null"), "it is a symbolic link"),
            ("/dev/null".into(), "it is no regular file"),
        ] {
            let Err(why) = LogFile::open(settings(&path), now) else {
                panic!("{} is opened", path.display())
            };
            assert!(why.to_string().contains(says), "{}: {why}", path.display());
        }
    }
}
