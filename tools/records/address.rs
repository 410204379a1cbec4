//! Addresses and prefixes in the one form that psentry compares them in: IPv4-mapped IPv6 becomes IPv4
//! (RFC 4291, 2.5.5.2), and a prefix has no host bits.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// `::ffff:192.0.2.7` is 192.0.2.7; every other address is itself.
#[must_use]
pub fn canonical(addr: IpAddr) -> IpAddr {
    addr.to_canonical()
}

/// A range of addresses: an address and how many of its leading bits count. A single host is a /32 or /128.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix(IpNetwork);

/// Why a text is not a [`Prefix`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not an address such as 192.0.2.7, 192.0.2.0/24, 2001:db8::1 or 2001:db8::/64")]
pub struct PrefixError(String);

impl Prefix {
    /// The prefix of `len` bits around `addr`; a `len` that is too long means the whole address. For a mapped
    /// address `len` counts the bits of its IPv4 form.
    #[must_use]
    pub fn around(addr: IpAddr, len: u8) -> Self {
        let addr = canonical(addr);
        let len = len.min(if addr.is_ipv4() { 32 } else { 128 });
        // `new` refuses only a length that was just made impossible.
        Prefix(
            IpNetwork::new(addr, len).map_or_else(
                |_| IpNetwork::from(addr),
                |net| IpNetwork::new(net.network(), len).unwrap_or(net),
            ),
        )
    }

    /// The prefix that holds one address only.
    #[must_use]
    pub fn host(addr: IpAddr) -> Self {
        Self::around(addr, 128)
    }

    /// The address with all host bits cleared.
    #[must_use]
    pub fn addr(self) -> IpAddr {
        self.0.network()
    }

    /// The address with all host bits set.
    #[must_use]
    pub fn last(self) -> IpAddr {
        self.0.broadcast()
    }

    /// How many leading bits count.
    #[must_use]
    #[allow(clippy::len_without_is_empty)] // no prefix is empty
    pub fn len(self) -> u8 {
        self.0.prefix()
    }

    /// An address of which just those bits are set.
    #[must_use]
    pub fn mask(self) -> IpAddr {
        self.0.mask()
    }

    /// Whether this is one address.
    #[must_use]
    pub fn is_host(self) -> bool {
        self.len() == if self.is_ipv4() { 32 } else { 128 }
    }

    /// As people write it: a single address without its length.
    #[must_use]
    pub fn short(self) -> String {
        if self.is_host() { self.addr().to_string() } else { self.to_string() }
    }

    /// Whether this is a range of IPv4.
    #[must_use]
    pub fn is_ipv4(self) -> bool {
        self.0.is_ipv4()
    }

    /// Whether `addr` is one of the prefix; an address of the other version of IP never is.
    #[must_use]
    pub fn contains(self, addr: IpAddr) -> bool {
        self.0.contains(canonical(addr))
    }

    /// Whether the two have an address in common: one of them then holds the other.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        self.contains(other.addr()) || other.contains(self.addr())
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;

    /// An address with or without `/length`; host bits are cleared, a missing length means the one address.
    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let refuse = || PrefixError(text.chars().take(60).collect());
        let (addr, len) = match text.split_once('/') {
            Some((addr, len)) if !len.is_empty() && len.bytes().all(|b| b.is_ascii_digit()) => {
                (addr, Some(len.parse::<u8>().map_err(|_| refuse())?))
            }
            Some(_) => return Err(refuse()),
            None => (text, None),
        };
        let addr: IpAddr = addr.parse().map_err(|_| refuse())?;
        let Some(len) = len else { return Ok(Self::host(addr)) };
        match addr {
            IpAddr::V4(_) if len > 32 => Err(refuse()),
            IpAddr::V6(_) if len > 128 => Err(refuse()),
            IpAddr::V6(v6) => Ok(mapped(v6, len).unwrap_or_else(|| Self::around_v6(v6, len))),
            IpAddr::V4(_) => Ok(Self::around(addr, len)),
        }
    }
}

impl Prefix {
    /// Like `around`, for a range that is IPv6 although its first address may look mapped (`::ffff:0:0/90`).
    fn around_v6(addr: Ipv6Addr, len: u8) -> Self {
        let mask = u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0);
        let first = Ipv6Addr::from(u128::from(addr) & mask);
        Prefix(
            ipnetwork::Ipv6Network::new(first, len)
                .map_or_else(|_| IpNetwork::from(IpAddr::V6(first)), Into::into),
        )
    }
}

/// The IPv4 range that a range within `::ffff:0:0/96` stands for.
fn mapped(addr: Ipv6Addr, len: u8) -> Option<Prefix> {
    let v4: Ipv4Addr = addr.to_ipv4_mapped()?;
    Some(Prefix::around(v4.into(), len.checked_sub(96)?))
}

impl Serialize for Prefix {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Prefix {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl de::Visitor<'_> for Text {
            type Value = Prefix;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address or a prefix")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Prefix, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// For serde: an optional address, read in its canonical form.
pub(crate) fn read_addr<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<IpAddr>, D::Error> {
    Ok(Option::<IpAddr>::deserialize(deserializer)?.map(canonical))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_has_the_bits_that_count() {
        for (prefix, mask) in [
            ("198.51.96.0/20", "255.255.240.0"),
            ("192.0.2.7", "255.255.255.255"),
            ("0.0.0.0/0", "0.0.0.0"),
            ("2001:db8::/64", "ffff:ffff:ffff:ffff::"),
        ] {
            assert_eq!(prefix.parse::<Prefix>().unwrap().mask().to_string(), mask);
        }
    }

    #[test]
    fn prefixes_lose_host_bits_and_mapped_addresses_become_ipv4() {
        for (text, want) in [
            ("192.0.2.7", "192.0.2.7/32"),
            ("192.0.2.7/24", "192.0.2.0/24"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("2001:DB8::5/64", "2001:db8::/64"),
            ("::ffff:192.0.2.7", "192.0.2.7/32"),
            ("::ffff:192.0.2.7/120", "192.0.2.0/24"),
            ("::ffff:0:0/90", "::ffc0:0:0/90"),
            ("::/0", "::/0"),
        ] {
            assert_eq!(text.parse::<Prefix>().unwrap().to_string(), want, "{text}");
        }
    }

    #[test]
    fn what_is_no_prefix_is_refused() {
        for text in [
            "",
            "example.org",
            "192.0.2.0/33",
            "192.0.2.0/",
            "192.0.2.0/+8",
            "192.0.2",
            "fe80::1%eth0",
            "::1/129",
            "/8",
        ] {
            assert!(text.parse::<Prefix>().is_err(), "{text}");
        }
    }

    #[test]
    fn ranges_overlap_when_one_holds_the_other() {
        let of = |text: &str| text.parse::<Prefix>().unwrap();
        assert!(of("192.0.2.0/24").overlaps(of("192.0.2.7")));
        assert!(of("192.0.2.7").overlaps(of("192.0.0.0/16")));
        assert!(!of("192.0.2.0/25").overlaps(of("192.0.2.128/25")));
        assert!(!of("0.0.0.0/0").overlaps(of("::/0")));
        assert!(of("192.0.2.0/24").contains("::ffff:192.0.2.9".parse().unwrap()));
    }
}
