//! Any backend, and what `--cut` adds to it: whoever is shut out loses the connections that he has, at once, but only if
//! handshakes prove who he is. That a block is made anew, because others took it away or after a reboot, makes no
//! difference: meanwhile he may have come in.
//!
//! A block stands whether or not connections could be ended, and is told as applied; what went wrong is said once.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io::{self, Write};
use std::os::fd::BorrowedFd;
use std::time::Duration;

use psentry_linux::{ConnectionKiller, Error as Below, Flow};
use psentry_records::{Prefix, Timestamp};

use crate::backend::{Backend, Block, Change, Count, Effect, Entry, Noticed};
use crate::error::Error;
use crate::extent::Extent;

/// A backend that cuts.
pub(super) struct Cutting {
    inner: Box<dyn Backend>,
    connections: ConnectionKiller,
    /// Whether connections that only pass through this machine end, too.
    forward: bool,
    /// Whether sockets can be ended, as far as is known.
    sockets: bool,
    /// Whether it has been said that something went wrong.
    failing: bool,
}

impl Cutting {
    pub(super) fn of(inner: Box<dyn Backend>, extent: Extent) -> Result<Self, Error> {
        let connections = ConnectionKiller::open()?;
        Ok(Cutting { inner, connections, forward: extent.forward, sockets: true, failing: false })
    }

    /// Ends the connections of those who are shut out by now.
    fn cut(&mut self, blocks: &HashMap<Prefix, &Block>) -> Result<(), Below> {
        let scopes: Vec<Prefix> = blocks.keys().copied().collect();
        let lengths: BTreeSet<(bool, u8)> =
            scopes.iter().map(|scope| (scope.is_ipv4(), scope.len())).collect();
        let chosen = |peer: Flow| is_shut_out(blocks, &lengths, peer);
        let sockets = if self.sockets { self.connections.destroy_sockets(&scopes, chosen) } else { Ok(0) };
        // Whatever became of the ones, the others end, too.
        let tracked =
            if self.forward { self.connections.delete_conntrack_entries(&scopes, chosen) } else { Ok(0) };
        sockets.and(tracked).map(|_| ())
    }

    /// Ends the connections of those whom these changes have shut out.
    fn cut_off<'a>(&mut self, made: impl Iterator<Item = &'a Change>) {
        let mut blocks: HashMap<Prefix, &Block> =
            made.filter_map(|change| Some((change.scope, change.block()?))).collect();
        blocks.retain(|_, block| !block.unproven);
        if blocks.is_empty() {
            return;
        }
        match self.cut(&blocks) {
            Ok(()) => self.failing = false,
            Err(error) if !self.failing => {
                self.failing = true;
                self.say(&format!("--cut: connections of whom is shut out may still stand: {error}"));
            }
            Err(_) => {}
        }
    }

    fn say(&self, sentence: &str) {
        let _ = writeln!(io::stderr(), "psentry-block: {}: {sentence}", self.inner.name());
    }
}

/// Whether what a peer has here is shut to him.
fn is_shut_out(blocks: &HashMap<Prefix, &Block>, lengths: &BTreeSet<(bool, u8)>, peer: Flow) -> bool {
    let of_family = lengths.iter().filter(|(ipv4, _)| *ipv4 == peer.remote_addr.is_ipv4());
    let mut around = of_family.filter_map(|(_, len)| blocks.get(&Prefix::around(peer.remote_addr, *len)));
    around.any(|block| {
        let port = block.ports.contains(&peer.local_port) && block.transports().contains(&peer.protocol);
        block.ports.is_empty() || port
    })
}

/// Every method is passed on: with one left to its default body, `--cut` would take away what the backend does there.
impl Backend for Cutting {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn prepare(&mut self) -> Result<Vec<Entry>, Error> {
        let found = self.inner.prepare()?;
        self.sockets = self.connections.can_destroy_sockets()?;
        if !self.sockets {
            self.say(
                "--cut: this kernel cannot end sockets (it was built without CONFIG_INET_DIAG_DESTROY); nothing \
                 arrives from whom is shut out, but services see that only when their own time is up",
            );
        }
        Ok(found)
    }

    fn apply(&mut self, changes: &[Change], now: Timestamp) -> Vec<Result<Effect, Error>> {
        let results = self.inner.apply(changes, now);
        let made = changes.iter().zip(&results).filter(|(_, result)| result.is_ok());
        self.cut_off(made.map(|(change, _)| change));
        results
    }

    fn begin(&mut self, changes: &[Change], now: Timestamp) -> Vec<Option<Result<Effect, Error>>> {
        let results = self.inner.begin(changes, now);
        let made = changes.iter().zip(&results).filter(|(_, result)| matches!(result, Some(Ok(_))));
        self.cut_off(made.map(|(change, _)| change));
        results
    }

    fn done(&mut self) -> Vec<(Change, Result<Effect, Error>)> {
        let done = self.inner.done();
        self.cut_off(done.iter().filter(|(_, result)| result.is_ok()).map(|(change, _)| change));
        done
    }

    fn list(&mut self) -> Result<Vec<Entry>, Error> {
        self.inner.list()
    }

    fn unsure(&mut self) -> Result<Vec<Entry>, Error> {
        self.inner.unsure()
    }

    fn standing(&mut self, scopes: &HashSet<Prefix>) -> Result<HashSet<Prefix>, Error> {
        self.inner.standing(scopes)
    }

    fn watch(&self) -> Option<BorrowedFd<'_>> {
        self.inner.watch()
    }

    fn noticed(&mut self) -> Result<Noticed, Error> {
        self.inner.noticed()
    }

    fn look_every(&self) -> Option<Duration> {
        self.inner.look_every()
    }

    fn look(&mut self, should: Count) -> Result<Noticed, Error> {
        self.inner.look(should)
    }

    fn mend(&mut self, blocks: &[(Prefix, &Block)]) -> Result<bool, Error> {
        self.inner.mend(blocks)
    }

    fn remove(&mut self) -> Result<Vec<Entry>, Error> {
        self.inner.remove()
    }

    fn ends_by_itself(&self) -> bool {
        self.inner.ends_by_itself()
    }

    fn spares(&self) -> bool {
        self.inner.spares()
    }

    fn at_once(&self) -> usize {
        self.inner.at_once()
    }

    fn longest(&self) -> Option<Duration> {
        self.inner.longest()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use psentry_records::Proto;

    #[test]
    fn every_method_of_a_backend_is_passed_on() {
        let methods = |source: &'static str, from: &str| -> BTreeSet<&'static str> {
            let body = source.split_once(from).unwrap().1.split("\n}\n").next().unwrap();
            let names = body.lines().filter_map(|line| line.strip_prefix("    fn ")?.split_once('('));
            names.map(|(name, _)| name).collect()
        };
        let all = methods(include_str!("../backend.rs"), "pub trait Backend: Send {");
        assert!(all.contains("look") && all.len() > 12, "{all:?}");
        assert_eq!(methods(include_str!("cutting.rs"), "\nimpl Backend for Cutting {"), all);
    }

    #[test]
    fn who_is_shut_out_of_a_port_keeps_the_others() {
        let some = Block { ports: vec![22], proto: Some(Proto::Tcp), ..Block::default() };
        let whole = Block::default();
        let blocks = HashMap::from([
            ("192.0.2.7".parse().unwrap(), &some),
            ("198.51.96.0/20".parse().unwrap(), &whole),
            ("2001:db8::/64".parse().unwrap(), &whole),
        ]);
        let lengths = [(true, 32), (true, 20), (false, 64)].into();
        for (remote, port, transport, shut) in [
            ("192.0.2.7", 22, 6, true),
            ("192.0.2.7", 80, 6, false),
            ("192.0.2.7", 22, 17, false),
            ("192.0.2.8", 22, 6, false),
            ("198.51.111.9", 80, 17, true),
            ("2001:db8::9", 443, 6, true),
            ("2001:db8:1::9", 443, 6, false),
        ] {
            let peer = Flow { remote_addr: remote.parse().unwrap(), local_port: port, protocol: transport };
            assert_eq!(is_shut_out(&blocks, &lengths, peer), shut, "{peer:?}");
        }
    }
}
