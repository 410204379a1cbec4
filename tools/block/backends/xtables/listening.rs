//! Whether the kernel tells what others do to the rules, and what is said when it does not.

use std::os::fd::{AsFd, BorrowedFd};

use super::Filter;
use super::families::Filters;
use super::hearing::{Chains, Ear, Told};
use crate::error::Error;

/// A way to hear of changes, where there is one.
#[derive(Default)]
pub(super) struct Listening {
    ear: Option<Ear>,
    said: Vec<String>,
}

impl Listening {
    /// Where nf_tables keeps the rules, the kernel tells of them from now on.
    pub(super) fn begin(&mut self, filters: &Filters) -> Result<(), Error> {
        if filters.of(true).map(Filter::is_nf_tables).transpose()? == Some(true) {
            self.ear = Ear::open().map_err(|error| self.said.push(deaf(&error))).ok();
        }
        Ok(())
    }

    /// What others did to these chains since it was last asked.
    pub(super) fn hear(&mut self, chains: Chains<'_>) -> Told {
        match self.ear.as_mut().map(|ear| ear.hear(chains)) {
            None => Told::default(),
            Some(Ok(told)) => told,
            Some(Err(error)) => {
                self.ear = None;
                self.said.push(deaf(&error));
                Told::default()
            }
        }
    }

    /// Whether nobody tells, so that it has to be looked.
    pub(super) fn is_deaf(&self) -> bool {
        self.ear.is_none()
    }

    /// What is readable once there is something to hear.
    pub(super) fn watch(&self) -> Option<BorrowedFd<'_>> {
        self.ear.as_ref().map(AsFd::as_fd)
    }

    /// What is to be told people.
    pub(super) fn take(&mut self) -> Vec<String> {
        std::mem::take(&mut self.said)
    }
}

fn deaf(error: &Error) -> String {
    format!("the kernel does not tell of changes: {error}; it is looked for them instead")
}
