//! That a file may be another than before, by inotify(7): for configuration that is followed as it changes without looking at
//! it again and again. It says only that something happened; what changed, and whether at all, the caller finds out by
//! [`file_stamp`](crate::file_stamp) or by reading.
//!
//! A path leads through directories and symbolic links, and any of them may be replaced: an editor renames, NixOS and
//! Kubernetes replace a link further up. So each directory on the way is watched for the name that is looked up in it, and
//! what is at the end is watched itself, for it may be a mount of its own, as /etc/resolv.conf is in a container.
//!
//! Not seen are a mount over a directory or a file that is watched, and what another machine writes on a file system that is
//! shared with it. Nor is a directory watched that this program may search but not read. Callers look every now and then.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};

/// What changes a file, or whether it may be read: of what is written into it, only the end counts.
const CHANGES: AddWatchFlags = AddWatchFlags::IN_CREATE
    .union(AddWatchFlags::IN_MOVE)
    .union(AddWatchFlags::IN_DELETE)
    .union(AddWatchFlags::IN_CLOSE_WRITE)
    .union(AddWatchFlags::IN_ATTRIB)
    .union(AddWatchFlags::IN_MOVE_SELF)
    .union(AddWatchFlags::IN_DELETE_SELF);

/// How many symbolic links one path leads through at most, as for the kernel (path_resolution(7)).
const MAX_LINKS: u32 = 40;

/// The most reads in one call, so that it returns even under a flood of events; then more is left to read.
const MAX_READS: usize = 64;

/// A watch over some files. Its descriptor is readable when one of them may have changed.
pub struct FileWatch {
    inotify: Inotify,
    paths: Vec<PathBuf>,
    /// In each directory the names that matter; `None`: whatever happens to it, or in it, matters.
    names: HashMap<WatchDescriptor, Option<HashSet<OsString>>>,
}

impl FileWatch {
    /// Watches what these paths lead to, now or later: none of them need be there. Of a directory each change of its entries
    /// counts.
    ///
    /// # Errors
    /// inotify_init1(2)'s: this user has as many watches as he may have (EMFILE), or the kernel has none.
    pub fn open(paths: &[PathBuf]) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let paths = paths.iter().map(std::path::absolute).collect::<io::Result<_>>()?;
        let mut watch = FileWatch { inotify, paths, names: HashMap::new() };
        watch.renew();
        Ok(watch)
    }

    /// Whether something may have changed since the last call, without waiting.
    pub fn changed(&mut self) -> bool {
        let mut changed = false;
        for _ in 0..MAX_READS {
            match self.inotify.read_events() {
                Ok(events) => changed |= events.iter().any(|event| self.matters(event)),
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => {}
                Err(_) => {
                    changed = true;
                    break;
                }
            }
        }
        if changed {
            self.renew();
        }
        changed
    }

    fn matters(&self, event: &InotifyEvent) -> bool {
        // When the queue has overflowed, anything may have happened.
        if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
            return true;
        }
        match (self.names.get(&event.wd), &event.name) {
            // What is not watched any more.
            (None, _) => false,
            (Some(Some(names)), Some(name)) => names.contains(name),
            (Some(_), _) => true,
        }
    }

    /// Watches what the paths lead through by now, and nothing else.
    fn renew(&mut self) {
        let before = std::mem::take(&mut self.names);
        for path in self.paths.clone() {
            self.follow(&path);
        }
        for descriptor in before.into_keys().filter(|descriptor| !self.names.contains_key(descriptor)) {
            // The kernel has ended it already where the directory is gone.
            let _ = self.inotify.rm_watch(descriptor);
        }
    }

    /// Watches everything that an absolute path leads through. Each directory is watched before a name is looked up in it, so
    /// that no change in between is missed.
    fn follow(&mut self, path: &Path) {
        let mut at = PathBuf::from("/");
        let mut links = 0;
        let mut rest = components(path);
        while let Some(name) = rest.pop() {
            if name == ".." {
                at.pop();
                continue;
            }
            self.watch(&at, Some(&name));
            at.push(&name);
            let Ok(target) = fs::read_link(&at) else { continue };
            links += 1;
            if links > MAX_LINKS {
                return;
            }
            at.pop();
            if target.is_absolute() {
                at = PathBuf::from("/");
            }
            rest.extend(components(&target));
        }
        self.watch(&at, None);
    }

    /// Watches a directory for one of its names, or what a path leads to. What is not there is seen to come by the directory
    /// that it is to come in.
    fn watch(&mut self, at: &Path, name: Option<&OsString>) {
        let Ok(descriptor) = self.inotify.add_watch(at, CHANGES) else { return };
        let names = self.names.entry(descriptor).or_insert_with(|| Some(HashSet::new()));
        match (names, name) {
            (Some(names), Some(name)) => _ = names.insert(name.clone()),
            (names, None) => *names = None,
            (None, Some(_)) => {}
        }
    }
}

impl AsFd for FileWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

/// What a path leads through, the last one first.
fn components(path: &Path) -> Vec<OsString> {
    let names = path.components().rev().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::Prefix(_) | Component::RootDir | Component::CurDir => None,
    });
    names.collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::file_stamp;

    fn watch(paths: &[&Path]) -> FileWatch {
        let paths: Vec<PathBuf> = paths.iter().map(|path| path.to_path_buf()).collect();
        FileWatch::open(&paths).unwrap()
    }

    /// Replaces a file in one step, as an editor does.
    fn replace(path: &Path) {
        let new = path.with_extension("new");
        fs::write(&new, "x").unwrap();
        fs::rename(new, path).unwrap();
    }

    #[test]
    fn a_file_that_comes_changes_or_goes_is_seen_and_its_neighbours_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("allow");
        let mut watch = watch(&[&file]);
        assert!(!watch.changed());
        replace(&folder.path().join("other"));
        assert!(!watch.changed());
        let steps: [&dyn Fn(); 6] = [
            &|| fs::write(&file, "x").unwrap(),
            &|| fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap(),
            &|| fs::write(&file, "y").unwrap(),
            &|| replace(&file),
            &|| fs::write(&file, "z").unwrap(),
            &|| fs::remove_file(&file).unwrap(),
        ];
        for step in steps {
            let before = file_stamp(&file);
            step();
            assert!(watch.changed());
            assert!(!watch.changed());
            assert_ne!(file_stamp(&file), before);
        }
    }

    #[test]
    fn what_a_path_leads_through_may_be_replaced_anywhere() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for store in ["store/1", "store/2"] {
            fs::create_dir_all(at(store)).unwrap();
            fs::write(at(store).join("allow"), store).unwrap();
        }
        let lead_to = |store: &str| {
            symlink(store, at("next")).unwrap();
            fs::rename(at("next"), at("static")).unwrap();
        };
        lead_to("store/1");
        fs::create_dir(at("etc")).unwrap();
        symlink("../static/allow", at("etc/allow")).unwrap();
        let mut watch = watch(&[&at("etc/allow")]);
        lead_to("store/2");
        assert!(watch.changed());
        // From then on it is the other one.
        fs::write(at("store/1/allow"), "x").unwrap();
        assert!(!watch.changed());
        fs::write(at("store/2/allow"), "x").unwrap();
        assert!(watch.changed());
        // A directory further up.
        fs::rename(at("etc"), at("old")).unwrap();
        assert!(watch.changed());
        fs::create_dir(at("etc")).unwrap();
        assert!(watch.changed());
        fs::write(at("etc/allow"), "x").unwrap();
        assert!(watch.changed() && !watch.changed());
    }

    #[test]
    fn of_a_directory_each_entry_counts_also_of_one_that_comes_later() {
        let folder = tempfile::tempdir().unwrap();
        let sessions = folder.path().join("systemd/sessions");
        let mut watch = watch(&[&sessions]);
        fs::create_dir_all(&sessions).unwrap();
        assert!(watch.changed());
        replace(&sessions.join("1"));
        assert!(watch.changed());
        fs::remove_file(sessions.join("1")).unwrap();
        assert!(watch.changed() && !watch.changed());
    }

    /// A mount of a file shows what is written into it elsewhere.
    #[test]
    fn what_is_written_by_another_name_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let [file, same] = ["resolv.conf", "elsewhere"].map(|name| folder.path().join(name));
        fs::write(&file, "x").unwrap();
        fs::hard_link(&file, &same).unwrap();
        let mut watch = watch(&[&file]);
        fs::write(&same, "y").unwrap();
        assert!(watch.changed());
    }

    #[test]
    fn links_in_a_circle_lead_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        symlink("link", &link).unwrap();
        let mut watch = watch(&[&link]);
        assert!(!watch.changed());
        fs::remove_file(&link).unwrap();
        assert!(watch.changed());
    }
}
