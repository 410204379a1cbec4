//! The directories of a service: made when they are needed, and where systemd has them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Makes a directory and those above it, where they are missing. Of a service of systemd with `DynamicUser=` that has
/// stopped, a link to nowhere is left: the directory that it points to is made.
///
/// # Errors
/// When it cannot be made.
pub fn make_directory(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path).or_else(|why| {
        let (Ok(target), Some(parent)) = (fs::read_link(path), path.parent()) else { return Err(why) };
        fs::create_dir_all(parent.join(target))
    })
}

/// Where a program keeps what lasts as long as the machine is up: what systemd says, or where the service of the program has it,
/// so that commands look into the same place.
#[must_use]
pub fn runtime_directory(program: &str) -> PathBuf {
    let given = std::env::var_os("RUNTIME_DIRECTORY").unwrap_or_default();
    let given = std::env::split_paths(&given).find(|path| path.is_absolute());
    given.unwrap_or_else(|| Path::new("/run").join(program))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_link_points_to_is_made() {
        let directory = tempfile::tempdir().unwrap();
        let link = directory.path().join("psentry-block");
        std::os::unix::fs::symlink("private/psentry-block", &link).unwrap();
        make_directory(&link).unwrap();
        assert!(link.is_dir());
        make_directory(&link).unwrap();
        fs::write(directory.path().join("file"), "").unwrap();
        assert!(make_directory(&directory.path().join("file/more")).is_err());
    }
}
