//! Directories that are made when they are needed.

use std::fs;
use std::io;
use std::path::Path;

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
