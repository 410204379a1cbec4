//! What `--cut` adds to every backend: whoever is blocked loses established connections at once, but only if handshakes prove
//! who it is. A block that is put again, because others deleted it or after a reboot, does the same: the source may have
//! connected meanwhile.
//!
//! A block is in place whether or not connections could be killed, and its outcome says so; what went wrong is said once.

use psentry_linux::{ConnectionKiller, Error as LinuxError, Targets};
use psentry_stage::speak;

use crate::backend::Op;
use crate::error::Error;
use crate::reach::{Established, Reach};

/// Kills the connections of blocked sources.
pub(crate) struct KillOnBlock {
    killer: ConnectionKiller,
    /// Whether connections that this machine only forwards are killed, too.
    forward: bool,
    /// Whether this kernel can destroy sockets of others.
    sockets: bool,
    /// It has been said that something goes wrong, and still does.
    failing: bool,
}

impl KillOnBlock {
    /// For blocks with this reach; `None`: connections are not to be killed.
    ///
    /// # Errors
    /// When the kernel cannot be asked, or the right is missing.
    pub(crate) fn open(reach: Reach) -> Result<Option<Self>, Error> {
        if reach.established != Established::Cut {
            return Ok(None);
        }
        let mut killer = ConnectionKiller::open()?;
        let sockets = killer.can_destroy_sockets()?;
        if !sockets {
            speak(
                "psentry-block: --cut: this kernel cannot destroy sockets (it was built without CONFIG_INET_DIAG_DESTROY); nothing \
                 arrives from blocked sources, but services see that only when their own time is up",
            );
        }
        Ok(Some(KillOnBlock { killer, forward: reach.forward, sockets, failing: false }))
    }

    /// Kills the connections of those whom these operations of a backend have blocked.
    pub(crate) fn after(&mut self, backend: &str, ops: &[Op], results: &[Result<(), Error>]) {
        let mut targets = Targets::default();
        for (op, _) in ops.iter().zip(results).filter(|(_, result)| result.is_ok()) {
            // Anybody may have forged what convicts an unproven source.
            if let Some(block) = op.block().filter(|block| !block.unproven) {
                targets.insert(op.scope(), &block.ports, block.transports());
            }
        }
        if targets.is_empty() {
            return;
        }
        match self.kill(&targets) {
            Ok(()) => self.failing = false,
            Err(error) if !self.failing => {
                self.failing = true;
                let why = format!("--cut: connections of blocked sources may go on: {error}");
                speak(&format!("psentry-block: {backend}: {why}"));
            }
            Err(_) => {}
        }
    }

    fn kill(&mut self, targets: &Targets<'_>) -> Result<(), LinuxError> {
        let sockets = if self.sockets { self.killer.destroy_sockets(targets) } else { Ok(()) };
        // If one kind fails, the other one is killed nevertheless.
        let tracked = if self.forward { self.killer.delete_conntrack_entries(targets) } else { Ok(()) };
        sockets.and(tracked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_the_flag_nothing_is_opened() {
        assert!(KillOnBlock::open(Reach::default()).unwrap().is_none());
    }
}
