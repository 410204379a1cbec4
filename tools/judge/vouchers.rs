//! Addresses that proved themselves by a login. Bounded: the voucher that ends first is forgotten first.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use psentry_records::{Prefix, Timestamp, VouchBody};
use serde::{Deserialize, Serialize};

/// How many are kept: more addresses than log in to one machine within a week.
const MAX_VOUCHERS: usize = 10_000;

/// How long a name may be that a verdict repeats.
const MAX_NAME: usize = 40;

/// One address, and who vouches for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Voucher {
    /// When it begins: the time of the login, or of the stream where that is earlier.
    pub from: Timestamp,
    /// When it ends, exclusive.
    pub until: Timestamp,
    /// The user, as the record names it, cut and without control characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// By what: `ssh`, for example.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
}

impl Voucher {
    /// From a record, for `most` at the longest.
    #[must_use]
    pub fn new(body: &VouchBody, at: Timestamp, most: Duration) -> Self {
        let span = body.duration.map_or(most, |secs| Duration::from_secs(secs).min(most));
        let short = |text: &Option<String>| {
            text.as_ref().map(|text| text.chars().filter(|c| !c.is_control()).take(MAX_NAME).collect())
        };
        Voucher { from: at, until: at.plus(span), user: short(&body.user), method: short(&body.method) }
    }

    /// The sentence that verdicts add, without its full stop.
    #[must_use]
    pub fn describe(&self) -> String {
        self.describe_at(|moment| moment.to_string())
    }

    /// The same with the moments as people read them.
    pub fn describe_at(&self, moment: impl Fn(Timestamp) -> String) -> String {
        let who = self.user.as_deref().unwrap_or("Somebody");
        let how = self.method.as_ref().map(|method| format!(" by {method}")).unwrap_or_default();
        format!(
            "{who} logged in from there{how} at {}, so it is only watched until {}",
            moment(self.from),
            moment(self.until)
        )
    }
}

/// The vouchers of all addresses.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Vouchers {
    entries: BTreeMap<Prefix, Voucher>,
    /// Those that changed since the journal was last written.
    changed: BTreeSet<Prefix>,
}

impl Vouchers {
    /// Adds one, unless the scope has one already that lasts as long.
    pub fn add(&mut self, scope: Prefix, voucher: Voucher) {
        if self.entries.get(&scope).is_some_and(|held| held.until >= voucher.until) {
            return;
        }
        if self.entries.len() >= MAX_VOUCHERS && !self.entries.contains_key(&scope) {
            let first = self.entries.iter().min_by_key(|(_, voucher)| voucher.until).map(|(&scope, _)| scope);
            if let Some(first) = first {
                self.entries.remove(&first);
                self.changed.insert(first);
            }
        }
        self.changed.insert(scope);
        self.entries.insert(scope, voucher);
    }

    /// Who vouches for that scope, or for an address in it, at that moment.
    #[must_use]
    pub fn active(&self, scope: Prefix, now: Timestamp) -> Option<&Voucher> {
        if self.entries.is_empty() {
            return None;
        }
        let active = |(_, voucher): &(&Prefix, &Voucher)| now < voucher.until;
        // In the order of prefixes those within one follow it; what holds it is the /64 of a single address.
        let group = Prefix::around(scope.addr(), 64);
        let around =
            (!scope.is_ipv4() && scope.len() > 64).then(|| self.entries.get_key_value(&group)).flatten();
        let within = self.entries.range(scope..).take_while(|(held, _)| scope.overlaps(**held));
        around.into_iter().chain(within).find(active).map(|(_, voucher)| voucher)
    }

    /// All that are kept, in the order of their scopes; some may have ended.
    pub fn iter(&self) -> impl Iterator<Item = (&Prefix, &Voucher)> {
        self.entries.iter()
    }

    /// Forgets those that have ended.
    pub fn expire(&mut self, now: Timestamp) {
        let changed = &mut self.changed;
        self.entries.retain(|&scope, voucher| {
            let active = now < voucher.until;
            if !active {
                changed.insert(scope);
            }
            active
        });
    }

    /// The clock was set back: those that begin in what is the future now begin now.
    pub(crate) fn clock_set_back(&mut self, now: Timestamp) {
        for (&scope, voucher) in &mut self.entries {
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
        changed.into_iter().map(|scope| (scope, self.entries.get(&scope).cloned())).collect()
    }

    pub(crate) fn restore(&mut self, scope: Prefix, voucher: Option<Voucher>) {
        match voucher {
            Some(voucher) if self.entries.len() < MAX_VOUCHERS || self.entries.contains_key(&scope) => {
                self.entries.insert(scope, voucher)
            }
            Some(_) => None,
            None => self.entries.remove(&scope),
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
            assert_eq!(vouchers.active(scope.parse().unwrap(), at(secs)).is_some(), want, "{scope} {secs}");
        }
    }

    #[test]
    fn they_are_bounded_and_the_first_to_end_goes_first() {
        let mut vouchers = Vouchers::default();
        for n in 0..=MAX_VOUCHERS as u32 {
            let scope = Prefix::host(std::net::Ipv4Addr::from(n).into());
            vouchers.add(scope, Voucher { until: at(u64::from(n) + 1), ..voucher(1) });
        }
        assert_eq!(vouchers.entries.len(), MAX_VOUCHERS);
        assert!(vouchers.active("0.0.0.0".parse().unwrap(), at(0)).is_none());
        assert!(vouchers.active("0.0.0.1".parse().unwrap(), at(0)).is_some());
    }
}
