//! A scope as the table's key: 17 bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use psentry_records::Prefix;

/// An address and how many of its bits count; IPv4 in its mapped form, which no IPv6 source has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) high: u64,
    pub(crate) low: u64,
    pub(crate) len: u8,
}

impl From<Prefix> for Key {
    #[allow(clippy::cast_possible_truncation)] // the two halves
    fn from(scope: Prefix) -> Self {
        let (addr, more) = match scope.addr() {
            IpAddr::V4(addr) => (addr.to_ipv6_mapped(), 96),
            IpAddr::V6(addr) => (addr, 0),
        };
        let bits = u128::from(addr);
        Key { high: (bits >> 64) as u64, low: bits as u64, len: scope.len() + more }
    }
}

impl From<Key> for Prefix {
    fn from(key: Key) -> Self {
        let addr = Ipv6Addr::from(u128::from(key.high) << 64 | u128::from(key.low));
        match addr.to_ipv4_mapped() {
            Some(addr) => Prefix::around(Ipv4Addr::into(addr), key.len.saturating_sub(96)),
            None => Prefix::around(addr.into(), key.len),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_its_scope() {
        for scope in ["192.0.2.7/32", "192.0.2.0/24", "2001:db8::/64", "2001:db8::1/128", "::/64"] {
            let scope: Prefix = scope.parse().unwrap();
            assert_eq!(Prefix::from(Key::from(scope)), scope);
        }
    }
}
