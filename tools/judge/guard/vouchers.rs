//! Addresses that proved themselves by a login. Bounded: the voucher that ends first is forgotten first.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use psentry_records::{Prefix, Timestamp, VouchBody};
use serde::{Deserialize, Serialize};

/// How many are kept.
const MOST: usize = 10_000;

/// How long a name may be that a verdict repeats.
const NAME: usize = 40;

/// One address, and who vouches for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Voucher {
    /// When it began.
    pub from: Timestamp,
    /// When it ends.
    pub until: Timestamp,
    /// Who logged in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// How.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
}

impl Voucher {
    /// From a record, for `most` at the longest.
    #[must_use]
    pub fn new(body: &VouchBody, at: Timestamp, most: Duration) -> Self {
        let span = body.duration.map_or(most, |secs| Duration::from_secs(secs).min(most));
        let short = |text: &Option<String>| {
            text.as_ref().map(|text| text.chars().filter(|c| !c.is_control()).take(NAME).collect())
        };
        Voucher { from: at, until: at.plus(span), user: short(&body.user), method: short(&body.method) }
    }

    /// A sentence that says so.
    #[must_use]
    pub fn words(&self) -> String {
        let who = self.user.as_deref().unwrap_or("Somebody");
        let how = self.method.as_ref().map(|method| format!(" by {method}")).unwrap_or_default();
        format!(
            "{who} logged in from there{how} at {}, so it is only watched until {}",
            self.from, self.until
        )
    }
}

/// All of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Vouchers {
    held: BTreeMap<Prefix, Voucher>,
    /// Those that changed since the journal was last written.
    changed: BTreeSet<Prefix>,
}

impl Vouchers {
    /// Adds one; a longer one that stands already stays.
    pub fn add(&mut self, scope: Prefix, voucher: Voucher) {
        if self.held.get(&scope).is_some_and(|standing| standing.until >= voucher.until) {
            return;
        }
        if self.held.len() >= MOST && !self.held.contains_key(&scope) {
            let first = self.held.iter().min_by_key(|(_, voucher)| voucher.until).map(|(&scope, _)| scope);
            if let Some(first) = first {
                self.held.remove(&first);
                self.changed.insert(first);
            }
        }
        self.changed.insert(scope);
        self.held.insert(scope, voucher);
    }

    /// Who vouches for that scope, or for an address in it, at that moment.
    #[must_use]
    pub fn of(&self, scope: Prefix, now: Timestamp) -> Option<&Voucher> {
        if self.held.is_empty() {
            return None;
        }
        let stands = |(_, voucher): &(&Prefix, &Voucher)| now < voucher.until;
        // What lies in a prefix stands from it on in order; what holds it is the /64 of a single address.
        let group = Prefix::around(scope.addr(), 64);
        let around =
            (!scope.is_ipv4() && scope.len() > 64).then(|| self.held.get_key_value(&group)).flatten();
        let within = self.held.range(scope..).take_while(|(held, _)| scope.overlaps(**held));
        around.into_iter().chain(within).find(stands).map(|(_, voucher)| voucher)
    }

    /// Those that still stand.
    pub fn iter(&self) -> impl Iterator<Item = (&Prefix, &Voucher)> {
        self.held.iter()
    }

    /// Forgets those that have ended.
    pub fn expire(&mut self, now: Timestamp) {
        let changed = &mut self.changed;
        self.held.retain(|&scope, voucher| {
            let stands = now < voucher.until;
            if !stands {
                changed.insert(scope);
            }
            stands
        });
    }

    /// The clock was set back: those that begin in what is the future now begin now.
    pub(crate) fn set_back(&mut self, now: Timestamp) {
        for (&scope, voucher) in &mut self.held {
            if voucher.from > now {
                voucher.until = now.plus(voucher.until.since(voucher.from));
                voucher.from = now;
                self.changed.insert(scope);
            }
        }
    }

    /// What changed since the last call; `None`: it has ended, or was forgotten.
    pub(crate) fn drain_changes(&mut self) -> Vec<(Prefix, Option<Voucher>)> {
        let changed = std::mem::take(&mut self.changed);
        changed.into_iter().map(|scope| (scope, self.held.get(&scope).cloned())).collect()
    }

    pub(crate) fn restore(&mut self, scope: Prefix, voucher: Option<Voucher>) {
        match voucher {
            Some(voucher) if self.held.len() < MOST || self.held.contains_key(&scope) => {
                self.held.insert(scope, voucher)
            }
            Some(_) => None,
            None => self.held.remove(&scope),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_secs(1_700_000_000 + secs).unwrap()
    }

    fn voucher(secs: u64) -> Voucher {
        let body = VouchBody { user: Some("alice".into()), method: None, duration: Some(secs) };
        Voucher::new(&body, at(0), Duration::from_secs(1000))
    }

    #[test]
    fn a_voucher_holds_for_what_it_lies_in_until_it_ends() {
        let mut vouchers = Vouchers::default();
        vouchers.add("192.0.2.7".parse().unwrap(), voucher(100));
        vouchers.add("2001:db8::/64".parse().unwrap(), voucher(5000));
        for (scope, secs, want) in [
            ("192.0.2.7", 99, true),
            ("192.0.2.7", 100, false),
            ("192.0.2.8", 1, false),
            ("192.0.2.0/24", 1, true),
            ("192.0.3.0/24", 1, false),
            ("2001:db8::5/128", 999, true),
            ("2001:db8::5/128", 1000, false), // the policy's own bound
            ("2001:db8::/48", 1, true),
            ("2001:db8:0:1::/64", 1, false),
        ] {
            assert_eq!(vouchers.of(scope.parse().unwrap(), at(secs)).is_some(), want, "{scope} {secs}");
        }
    }

    #[test]
    fn they_are_bounded_and_the_first_to_end_goes_first() {
        let mut vouchers = Vouchers::default();
        for n in 0..=MOST as u32 {
            let scope = Prefix::host(std::net::Ipv4Addr::from(n).into());
            vouchers.add(scope, Voucher { until: at(u64::from(n) + 1), ..voucher(1) });
        }
        assert_eq!(vouchers.held.len(), MOST);
        assert!(vouchers.of("0.0.0.0".parse().unwrap(), at(0)).is_none());
        assert!(vouchers.of("0.0.0.1".parse().unwrap(), at(0)).is_some());
    }
}
