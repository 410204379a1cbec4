//! Privileges: the one capability that the monitor needs, and how the worker drops all of them before it reads the first
//! byte that a stranger sent.

use caps::{CapSet, Capability};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Uid, geteuid, getppid, setgroups, setresgid, setresuid};

use crate::TrapError;

/// "nobody" and "nogroup", on every Linux.
const NOBODY: u32 = 65534;

/// Whether this process has CAP_NET_ADMIN.
pub(crate) fn has_net_admin() -> bool {
    caps::has_cap(None, CapSet::Effective, Capability::CAP_NET_ADMIN).unwrap_or(false)
}

/// Drops all capabilities, and the user root where that is possible, for good. From now on the process also ends with
/// its parent.
///
/// # Errors
/// A capability remains, or the parent is gone already.
pub(crate) fn drop_privileges(parent: i32) -> Result<(), TrapError> {
    // A system call that must not fail.
    let must = |doing: &'static str| move |error: std::io::Error| TrapError::System(doing, error);
    prctl::set_no_new_privs().map_err(|errno| must("give up new rights")(errno.into()))?;
    // Without CAP_SETPCAP the bounding set stays, and bounds nothing that could be gained.
    let _ = caps::clear(None, CapSet::Bounding);
    if geteuid().is_root() {
        // In a namespace there may be no other user; without CAP_SETUID there is no other way but to stay.
        let _ = setgroups(&[]);
        let _ = setresgid(Gid::from_raw(NOBODY), Gid::from_raw(NOBODY), Gid::from_raw(NOBODY));
        let _ = setresuid(Uid::from_raw(NOBODY), Uid::from_raw(NOBODY), Uid::from_raw(NOBODY));
    }
    for set in [CapSet::Ambient, CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
        caps::clear(None, set)
            .map_err(|error| must("give up capabilities")(std::io::Error::other(error.to_string())))?;
    }
    // After all changes of rights, since each of them cancels it.
    prctl::set_pdeathsig(Signal::SIGTERM)
        .map_err(|errno| must("be told of the parent's end")(errno.into()))?;
    if getppid().as_raw() != parent {
        return Err(must("read packets")(std::io::Error::other("the process that started this one is gone")));
    }
    Ok(())
}
