//! Files in a directory of a user with less rights, such as a service that somebody took over: it must not lead root, who runs a
//! command there, to another file, nor into a pipe on which he waits for ever. Nor are ignore files such pipes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::Path;

use nix::fcntl::OFlag;
use psentry_records::IgnoreError;

/// Opens a regular file, and nothing else; a symbolic link is not followed.
///
/// # Errors
/// open(2)'s, and that it is no regular file.
pub fn open_regular(path: &Path, options: &OpenOptions) -> io::Result<File> {
    open(path, options, OFlag::O_NOFOLLOW)
}

fn open(path: &Path, options: &OpenOptions, more: OFlag) -> io::Result<File> {
    let file = options.clone().custom_flags((more | OFlag::O_NONBLOCK).bits()).open(path)?;
    let is_file = file.metadata()?.is_file();
    if is_file { Ok(file) } else { Err(io::Error::other("it is no regular file")) }
}

/// What an ignore file says. It may be a symbolic link, and is read again when it changes: a pipe is none.
///
/// # Errors
/// It cannot be read.
pub(crate) fn read_ignore_file(file: &Path) -> Result<Vec<u8>, IgnoreError> {
    let mut bytes = Vec::new();
    // Which says that nobody is meant.
    if file == Path::new("/dev/null") {
        return Ok(bytes);
    }
    open(file, OpenOptions::new().read(true), OFlag::empty())
        .and_then(|mut opened| opened.read_to_end(&mut bytes))
        .map_err(|source| IgnoreError::Read { file: file.to_owned(), source })?;
    Ok(bytes)
}

/// Makes a file belong to whom its directory belongs to, as far as the program may: what root makes with a command is to be the
/// service's. What has another name elsewhere the program did not make.
pub fn own_like_directory(file: &File, directory: &Path) {
    if let (Ok(is), Ok(wanted)) = (file.metadata(), fs::metadata(directory))
        && is.nlink() <= 1
        && (is.uid(), is.gid()) != (wanted.uid(), wanted.gid())
    {
        let _ = fchown(file, Some(wanted.uid()), Some(wanted.gid()));
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;

    #[test]
    fn only_a_regular_file_is_opened() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("file"), "").unwrap();
        symlink(path("file"), path("link")).unwrap();
        mkfifo(&path("pipe"), Mode::S_IRWXU).unwrap();
        let _socket = UnixListener::bind(path("socket")).unwrap();
        let mut options = OpenOptions::new();
        options.read(true).append(true);
        open_regular(&path("file"), &options).unwrap();
        for name in ["link", "pipe", "socket", "absent"] {
            assert!(open_regular(&path(name), &options).is_err(), "{name}");
        }
    }

    #[test]
    fn an_ignore_file_may_be_a_link_and_no_pipe() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("file"), "192.0.2.7\n").unwrap();
        symlink(path("file"), path("link")).unwrap();
        mkfifo(&path("pipe"), Mode::S_IRWXU).unwrap();
        let lengths = [path("file"), "/dev/null".into(), path("link")]
            .map(|file| read_ignore_file(&file).unwrap().len());
        assert_eq!(lengths, [10, 0, 10]);
        let error = read_ignore_file(&path("pipe")).unwrap_err().to_string();
        assert!(error.ends_with("pipe: it is no regular file"), "{error}");
    }
}
