//! What `--cut` adds to every backend: whoever is blocked loses established connections at once, but only if handshakes prove
//! who it is. A block that is put again, because others deleted it or after a reboot, does the same: the source may have
//! connected meanwhile.
//!
//! A block is in place whether or not connections could be killed, and its outcome says so; what went wrong is said once.

use std::collections::{BTreeSet, HashMap};
use std::io::{self, Write};

use psentry_linux::{ConnectionKiller, Error as LinuxError, Flow};
use psentry_records::Prefix;

use crate::backend::Op;
use crate::block::Block;
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
            say(
                "--cut: this kernel cannot destroy sockets (it was built without CONFIG_INET_DIAG_DESTROY); nothing \
                 arrives from blocked sources, but services see that only when their own time is up",
            );
        }
        Ok(Some(KillOnBlock { killer, forward: reach.forward, sockets, failing: false }))
    }

    /// Kills the connections of those whom these operations of a backend have blocked.
    pub(crate) fn after(&mut self, backend: &str, ops: &[Op], results: &[Result<(), Error>]) {
        let done = ops.iter().zip(results).filter(|(_, result)| result.is_ok()).map(|(op, _)| op);
        let blocks: HashMap<Prefix, &Block> = done
            .filter_map(|op| Some((op.scope(), op.block()?)))
            // Anybody may have forged what convicts an unproven source.
            .filter(|(_, block)| !block.unproven)
            .collect();
        if blocks.is_empty() {
            return;
        }
        match self.kill(&blocks) {
            Ok(()) => self.failing = false,
            Err(error) if !self.failing => {
                self.failing = true;
                say(&format!("{backend}: --cut: connections of blocked sources may go on: {error}"));
            }
            Err(_) => {}
        }
    }

    fn kill(&mut self, blocks: &HashMap<Prefix, &Block>) -> Result<(), LinuxError> {
        let scopes: Vec<Prefix> = blocks.keys().copied().collect();
        let lengths: BTreeSet<(bool, u8)> =
            scopes.iter().map(|scope| (scope.is_ipv4(), scope.len())).collect();
        let chosen = |flow: Flow| is_blocked(blocks, &lengths, flow);
        let sockets = if self.sockets { self.killer.destroy_sockets(&scopes, chosen) } else { Ok(0) };
        // If one kind fails, the other one is killed nevertheless.
        let tracked =
            if self.forward { self.killer.delete_conntrack_entries(&scopes, chosen) } else { Ok(0) };
        sockets.and(tracked).map(drop)
    }
}

/// Whether the blocks apply to this flow. `lengths` are those of their scopes, by family.
fn is_blocked(blocks: &HashMap<Prefix, &Block>, lengths: &BTreeSet<(bool, u8)>, flow: Flow) -> bool {
    let of_family = lengths.iter().filter(|(ipv4, _)| *ipv4 == flow.remote_addr.is_ipv4());
    let mut around = of_family.filter_map(|(_, len)| blocks.get(&Prefix::around(flow.remote_addr, *len)));
    around.any(|block| {
        let port = block.ports.contains(&flow.local_port) && block.transports().contains(&flow.protocol);
        block.ports.is_empty() || port
    })
}

fn say(sentence: &str) {
    let _ = writeln!(io::stderr(), "psentry-block: {sentence}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use psentry_records::Proto;

    #[test]
    fn who_is_blocked_at_a_port_keeps_the_others() {
        let some = Block { ports: vec![22], proto: Some(Proto::Tcp), ..Block::default() };
        let whole = Block::default();
        let blocks = HashMap::from([
            ("192.0.2.7".parse().unwrap(), &some),
            ("198.51.96.0/20".parse().unwrap(), &whole),
            ("2001:db8::/64".parse().unwrap(), &whole),
        ]);
        let lengths = [(true, 32), (true, 20), (false, 64)].into();
        for (remote, port, transport, blocked) in [
            ("192.0.2.7", 22, 6, true),
            ("192.0.2.7", 80, 6, false),
            ("192.0.2.7", 22, 17, false),
            ("192.0.2.8", 22, 6, false),
            ("198.51.111.9", 80, 17, true),
            ("2001:db8::9", 443, 6, true),
            ("2001:db8:1::9", 443, 6, false),
        ] {
            let flow = Flow { remote_addr: remote.parse().unwrap(), local_port: port, protocol: transport };
            assert_eq!(is_blocked(&blocks, &lengths, flow), blocked, "{flow:?}");
        }
    }

    #[test]
    fn without_the_flag_nothing_is_opened() {
        assert!(KillOnBlock::open(Reach::default()).unwrap().is_none());
    }
}
