//! A file that takes the place of another in one step, or is taken away in one: whoever reads it finds the old one or the
//! new one, and whoever watches it knows by the name of the draft who it was.

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::Path;

use psentry_stage::{DraftName, Replacement, sync_folder};

use super::watch::{draft, own_prefix};
use crate::error::Error;

/// The rights of a file that is made: every service has to read it.
pub(super) const MODE: u32 = 0o644;

/// Puts a new file in the place of the old one, with its owner and rights.
pub(super) fn replace(path: &Path, flush: bool, content: &[u8]) -> Result<(), Error> {
    let wrong = |doing| Error::file(path, doing);
    let name = own_prefix(flush);
    let created = Replacement::create(path, DraftName::Prefix(&name), 0o600);
    let (replacement, mut file) = created.map_err(wrong("write a new one beside it"))?;
    let (mode, owner) = match fs::metadata(path) {
        Ok(meta) => (meta.mode() & 0o7777, Some((meta.uid(), meta.gid()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => (MODE, None),
        Err(error) => return Err(wrong("read its rights")(error)),
    };
    if let Some((uid, gid)) = owner {
        fchown(&file, Some(uid), Some(gid)).map_err(wrong("keep its owner"))?;
    }
    file.set_permissions(Permissions::from_mode(mode)).map_err(wrong("keep its rights"))?;
    file.write_all(content).map_err(wrong("write a new one beside it"))?;
    file.sync_all().map_err(wrong("write a new one beside it"))?;
    // Closed before it is renamed: a file that is closed under its new name looks as if others had written it.
    drop(file);
    replacement.rename().map_err(wrong("replace it"))
}

/// Takes the file away, by way of a draft's name, so that whoever watches knows who it was.
pub(super) fn remove(path: &Path, directory: &Path, flush: bool) -> Result<(), Error> {
    let wrong = |doing| Error::file(path, doing);
    let aside = draft(directory, flush).map_err(wrong("remove it"))?;
    fs::rename(path, aside.path()).map_err(wrong("remove it"))
}

/// Has the directory of the file written to the disk.
pub(super) fn sync(path: &Path, directory: &Path) -> Result<(), Error> {
    sync_folder(path).map_err(Error::file(directory, "write it to the disk"))
}
