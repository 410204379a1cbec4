//! The two families, each with a filter table and blocks of its own.

use std::path::Path;

use psentry_records::Prefix;

use super::{Filter, PROGRAMS};
use crate::backend::{Block, Change, Effect};
use crate::backends::installed;
use crate::error::Error;

/// IPv4 and IPv6, as it is said of a filter.
pub(super) const FAMILIES: [bool; 2] = [true, false];

/// The filter tables of this machine.
pub(super) struct Filters {
    ipv4: Filter,
    ipv6: Option<Filter>,
}

impl Filters {
    /// That of IPv4, and that of IPv6 where the kernel has it.
    pub(super) fn find(backend: &'static str) -> Result<Self, Error> {
        let family = |ipv4: bool, names: [&str; 2]| -> Result<Filter, Error> {
            let [iptables, restore] = names;
            let (iptables, restore) = (installed(backend, iptables)?, installed(backend, restore)?);
            Ok(Filter { backend, ipv4, iptables, restore })
        };
        let has_ipv6 = Path::new("/proc/net/if_inet6").exists();
        Ok(Filters {
            ipv4: family(true, PROGRAMS)?,
            ipv6: has_ipv6.then(|| family(false, ["ip6tables", "ip6tables-restore"])).transpose()?,
        })
    }

    /// The one of a family.
    pub(super) fn of(&self, ipv4: bool) -> Option<&Filter> {
        if ipv4 { Some(&self.ipv4) } else { self.ipv6.as_ref() }
    }

    /// All there are.
    pub(super) fn all(&self) -> impl Iterator<Item = &Filter> {
        std::iter::once(&self.ipv4).chain(&self.ipv6)
    }

    /// Their families, of those that hold one of these blocks.
    pub(super) fn holding(&self, blocks: &[(Prefix, &Block)]) -> impl Iterator<Item = bool> + use<> {
        let held = |ipv4: &bool| blocks.iter().any(|(scope, _)| scope.is_ipv4() == *ipv4);
        let families: Vec<bool> = self.families().filter(held).collect();
        families.into_iter()
    }

    /// Their families.
    pub(super) fn families(&self) -> impl Iterator<Item = bool> + use<> {
        std::iter::once(true).chain(self.ipv6.as_ref().map(|_| false))
    }
}

/// Has each family's changes made together, and puts the results in the order of the changes.
pub(super) fn by_family(
    changes: &[Change],
    mut apply: impl FnMut(bool, &[&Change]) -> Vec<Result<Effect, Error>>,
) -> Vec<Result<Effect, Error>> {
    let of = |ipv4: bool| -> Vec<&Change> {
        changes.iter().filter(|change: &&Change| change.scope.is_ipv4() == ipv4).collect()
    };
    let mut results = [true, false].map(|ipv4| {
        let changes = of(ipv4);
        let results = if changes.is_empty() { Vec::new() } else { apply(ipv4, &changes) };
        results.into_iter()
    });
    let [v4, v6] = &mut results;
    let result = |scope: Prefix| if scope.is_ipv4() { v4.next() } else { v6.next() };
    let missing = || Err(Error::Unfinished("a change has no result; this is a bug of psentry".to_owned()));
    changes.iter().map(|change| change.scope).map(result).map(|r| r.unwrap_or_else(missing)).collect()
}
