//! Who is logged in on this machine, or is asked something by it, at this moment: whoever is, is not shut out as long as
//! that lasts. A pure decision over what was listed and when; `connections.rs` lists it.
//!
//! An established connection is no login: a scanner may open one to sshd and keep it. But sshd ends it when nobody has
//! logged in for a while, and a login has a record. So a connection counts once it has stood for longer than sshd bears
//! with strangers, or the record names its address. Where nobody keeps a record a young one may be a login: then those
//! count that stood when somebody was first to be shut out, and later ones do not, so that nobody protects himself by
//! one after the other.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use psentry_linux::Socket;
use psentry_records::Prefix;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// Somebody came to a port where people log in.
    Login,
    /// This machine asks a resolver.
    Names,
    /// This machine asks a time server.
    Time,
}

/// The connections that stand, and since when.
pub(crate) struct Sessions {
    grace: Duration,
    standing: BTreeMap<(IpAddr, [u8; 8]), Standing>,
    /// Whence people are logged in, by the record that the machine keeps; `None`: it keeps none.
    record: Option<HashSet<IpAddr>>,
    /// When somebody who may be logged in was first to be shut out.
    doubts: HashMap<Prefix, Instant>,
    looked: bool,
}

#[derive(Clone, Copy)]
struct Standing {
    what: Use,
    port: u16,
    /// When it was first seen; `None`: when it was first looked, so that nobody knows how long it had stood by then.
    since: Option<Instant>,
}

impl Sessions {
    /// Nobody is seen. A stranger stays connected for at most `grace` without logging in.
    pub(crate) fn new(grace: Duration) -> Self {
        let (standing, doubts) = (BTreeMap::new(), HashMap::new());
        Sessions { grace, standing, record: None, doubts, looked: false }
    }

    /// Whence people are logged in now, by the record that the machine keeps; `None`: it keeps none.
    pub(crate) fn heed_record(&mut self, record: Option<HashSet<IpAddr>>) {
        self.record = record;
    }

    /// Whether the machine keeps a record of logins.
    pub(crate) fn has_record(&self) -> bool {
        self.record.is_some()
    }

    /// Whether what stands has to be known as it is at this moment to answer for `scope`. Otherwise nobody is connected from
    /// there whom [`refusal`](Self::refusal) would spare: who was not connected when it was looked last has come since.
    pub(crate) fn may_refuse(&self, scope: Prefix) -> bool {
        let on_record = |record: &HashSet<IpAddr>| record.iter().any(|addr| scope.contains(*addr));
        self.record.as_ref().is_none_or(on_record) || of(&self.standing, scope).next().is_some()
    }

    /// Takes note of the connections that stand now.
    pub(crate) fn note(&mut self, now: Instant, connections: Vec<(Use, Socket)>) {
        let since = std::mem::replace(&mut self.looked, true).then_some(now);
        let before = std::mem::take(&mut self.standing);
        for (what, connection) in connections {
            let key = (connection.remote_addr, connection.cookie);
            let since = before.get(&key).map_or(since, |known| known.since);
            let port = if what == Use::Login { connection.local_port } else { connection.remote_port };
            self.standing.insert(key, Standing { what, port, since });
        }
        let standing = &self.standing;
        self.doubts.retain(|scope, _| of(standing, *scope).next().is_some());
    }

    /// Why `scope` is not to be shut out now, as a sentence; `None`: it may be.
    pub(crate) fn refusal(&mut self, scope: Prefix, now: Instant) -> Option<String> {
        let verb = if scope.is_host() { "is" } else { "holds" };
        let mut young = Vec::new();
        for (addr, Standing { what, port, since }) in of(&self.standing, scope) {
            let what = match what {
                Use::Names => format!("a resolver that this machine is asking on port {port}"),
                Use::Time => "a time server that this machine is asking".to_owned(),
                Use::Login => {
                    let named = self.record.as_ref().is_some_and(|record| record.contains(&addr));
                    match since {
                        Some(since) if now.saturating_duration_since(since) < self.grace && !named => {
                            young.push((addr, port, since));
                            continue;
                        }
                        _ => format!("which is logged in on port {port}"),
                    }
                }
            };
            return Some(format!("{scope} {verb} {addr}, {what}; it is blocked when that has ended"));
        }
        if self.record.is_some() || young.is_empty() {
            return None;
        }
        let first = *self.doubts.entry(scope).or_insert(now);
        let (addr, port, _) = young.into_iter().find(|(_, _, since)| *since <= first)?;
        Some(format!(
            "{scope} {verb} {addr}, which may be logging in on port {port}; it is blocked when that has ended"
        ))
    }
}

/// The established connections with the addresses of a scope.
fn of(
    standing: &BTreeMap<(IpAddr, [u8; 8]), Standing>,
    scope: Prefix,
) -> impl Iterator<Item = (IpAddr, Standing)> + '_ {
    let (first, last) = ((scope.addr(), [u8::MIN; 8]), (scope.last(), [u8::MAX; 8]));
    standing.range(first..=last).map(|((addr, _), standing)| (*addr, *standing))
}

#[cfg(test)]
mod tests;
