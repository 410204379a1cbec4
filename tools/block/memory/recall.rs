//! What is remembered, for commands: they run beside the psentry-block that keeps it, or without one, and what they
//! end must not come back with the next boot.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use psentry_records::Prefix;

use crate::backend::Block;
use crate::cli::{Flags, Which};
use crate::error::Error;
use crate::memory;

/// Where psentry-block.service keeps it, so that commands find it without a flag.
const SERVICE: &str = "/var/lib/psentry-block";

/// What is remembered, if anything is.
pub(crate) struct Recall {
    directory: Option<PathBuf>,
}

impl Recall {
    /// In `--state`, or else where the service keeps it, if it does.
    pub(crate) fn of(flags: &Flags) -> Self {
        let service = || Some(PathBuf::from(SERVICE)).filter(|directory| may_be(directory));
        Recall { directory: flags.state.clone().or_else(service) }
    }

    /// Where it is.
    pub(crate) fn directory(&self) -> Option<&Path> {
        self.directory.as_deref()
    }

    /// What is remembered of a backend.
    pub(crate) fn blocks(&self, which: Which) -> Result<HashMap<Prefix, Block>, Error> {
        self.directory.as_deref().map_or_else(|| Ok(HashMap::new()), |d| memory::read(d, which.name()))
    }

    /// Has a block remembered; `false`: it is remembered nowhere.
    pub(crate) fn add(&self, which: Which, scope: Prefix, block: &Block) -> Result<bool, Error> {
        let Some(directory) = self.directory.as_deref().filter(|_| which != Which::DryRun) else {
            return Ok(false);
        };
        memory::add(directory, which.name(), scope, block).map(|()| true)
    }

    /// Has these forgotten.
    pub(crate) fn let_in(&self, which: Which, scopes: &[Prefix]) -> Result<(), Error> {
        match self.directory.as_deref() {
            Some(directory) if !scopes.is_empty() => memory::let_in(directory, which.name(), scopes),
            _ => Ok(()),
        }
    }
}

/// Whether it is a directory, or may be one: it is closed to whoever is not the service.
fn may_be(directory: &Path) -> bool {
    match directory.metadata() {
        Ok(meta) => meta.is_dir(),
        Err(error) => error.kind() == io::ErrorKind::PermissionDenied,
    }
}
