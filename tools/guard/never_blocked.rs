//! Whom nobody can make you shut out, whatever a verdict says: this machine itself, its way out, those that it asks for
//! names, and addresses that are nobody's. A pure decision; what the machine's own addresses are, `guard.rs` finds out.

use std::sync::LazyLock;

use psentry_linux::HostAddresses;
use psentry_records::Prefix;

/// The widest prefix that may be blocked: a /8 is a 256th of all addresses.
pub(crate) const WIDEST_V4: u8 = 8;

/// For IPv6, where a provider's whole allocation is a /32 or longer.
const WIDEST_V6: u8 = 16;

/// Ranges that hold no source which may be blocked, and what they are.
const SPECIAL: [(&str, &str); 9] = [
    ("0.0.0.0/32", "the unspecified address"),
    ("127.0.0.0/8", "a loopback address"),
    ("169.254.0.0/16", "a link-local address"),
    ("224.0.0.0/4", "a multicast address"),
    ("255.255.255.255/32", "the broadcast address"),
    ("::/128", "the unspecified address"),
    ("::1/128", "a loopback address"),
    ("fe80::/10", "a link-local address"),
    ("ff00::/8", "a multicast address"),
];

/// Why `scope` must not be blocked, as a sentence; `None`: it may.
pub(crate) fn refusal(scope: Prefix, around: &HostAddresses) -> Option<String> {
    let widest = if scope.is_ipv4() { WIDEST_V4 } else { WIDEST_V6 };
    if scope.len() < widest {
        return Some(format!("{scope} is wider than /{widest}, which is more than one verdict may block"));
    }
    let verb = if scope.is_host() { "is" } else { "holds" };
    // Read once: a hundred thousand scopes are asked for at a start.
    static RANGES: LazyLock<Vec<(Prefix, &str)>> = LazyLock::new(|| {
        SPECIAL.iter().filter_map(|(range, what)| Some((range.parse().ok()?, *what))).collect()
    });
    for (range, what) in RANGES.iter() {
        if scope.overlaps(*range) {
            return Some(format!("{scope} {verb} {what}, which is never blocked"));
        }
    }
    let near = [
        (&around.own, "an address of this machine"),
        (&around.broadcasts, "the broadcast address of a network of this machine"),
        (&around.gateways, "the default gateway of this machine"),
        (&around.resolvers, "a resolver of this machine"),
    ];
    near.into_iter().find_map(|(addresses, what)| {
        let addr = addresses.iter().find(|addr| scope.contains(**addr))?;
        Some(format!("{scope} {verb} {addr}, {what}"))
    })
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use proptest::prelude::*;

    fn around() -> HostAddresses {
        HostAddresses {
            own: ["192.0.2.1", "2001:db8::1"].map(|a| a.parse().unwrap()).to_vec(),
            broadcasts: vec!["192.0.2.255".parse().unwrap()],
            gateways: ["198.51.100.1", "2001:db8:ffff::1"].map(|a| a.parse().unwrap()).to_vec(),
            resolvers: ["203.0.113.53", "2001:db8:ffff::53"].map(|a| a.parse().unwrap()).to_vec(),
        }
    }

    fn refused(scope: &str) -> Option<String> {
        refusal(scope.parse().unwrap(), &around())
    }

    #[test]
    fn strangers_may_be_blocked() {
        for scope in
            ["192.0.2.7", "203.0.114.0/24", "9.0.0.0/8", "2001:db8::2", "2001:db8:1::/64", "2a00::/16"]
        {
            assert_eq!(refused(scope), None, "{scope}");
        }
    }

    #[test]
    fn nobody_cuts_himself_off() {
        for (scope, why) in [
            ("192.0.2.1", "192.0.2.1/32 is 192.0.2.1, an address of this machine"),
            ("192.0.2.0/24", "192.0.2.0/24 holds 192.0.2.1, an address of this machine"),
            ("::ffff:192.0.2.1", "192.0.2.1/32 is 192.0.2.1, an address of this machine"),
            ("2001:db8::/64", "2001:db8::/64 holds 2001:db8::1, an address of this machine"),
            (
                "192.0.2.255",
                "192.0.2.255/32 is 192.0.2.255, the broadcast address of a network of this machine",
            ),
            ("198.51.0.0/16", "198.51.0.0/16 holds 198.51.100.1, the default gateway of this machine"),
            ("203.0.113.53", "203.0.113.53/32 is 203.0.113.53, a resolver of this machine"),
            ("203.0.113.0/24", "203.0.113.0/24 holds 203.0.113.53, a resolver of this machine"),
            ("127.0.0.53", "127.0.0.53/32 is a loopback address, which is never blocked"),
            ("169.254.1.1", "169.254.1.1/32 is a link-local address, which is never blocked"),
            ("224.0.0.0/8", "224.0.0.0/8 holds a multicast address, which is never blocked"),
            ("255.255.255.255", "255.255.255.255/32 is the broadcast address, which is never blocked"),
            ("0.0.0.0/8", "0.0.0.0/8 holds the unspecified address, which is never blocked"),
            ("::/16", "::/16 holds the unspecified address, which is never blocked"),
            ("::1", "::1/128 is a loopback address, which is never blocked"),
            ("fe80::1", "fe80::1/128 is a link-local address, which is never blocked"),
            ("ff02::/16", "ff02::/16 holds a multicast address, which is never blocked"),
            ("9.0.0.0/7", "8.0.0.0/7 is wider than /8, which is more than one verdict may block"),
            ("0.0.0.0/0", "0.0.0.0/0 is wider than /8, which is more than one verdict may block"),
            ("2001::/15", "2000::/15 is wider than /16, which is more than one verdict may block"),
        ] {
            assert_eq!(refused(scope).as_deref(), Some(why), "{scope}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_let_through_leaves_own_addresses_gateways_and_resolvers_alone(v4: bool, bits: u128, len in 0u8..=128) {
            let addr: IpAddr = if v4 {
                std::net::Ipv4Addr::from((bits >> 96) as u32).into()
            } else {
                std::net::Ipv6Addr::from(bits).into()
            };
            let scope = Prefix::around(addr, len);
            if refusal(scope, &around()).is_none() {
                for addr in around().own.into_iter().chain(around().gateways).chain(around().resolvers) {
                    prop_assert!(!scope.contains(addr));
                }
                prop_assert!(!scope.addr().is_loopback() && !scope.addr().is_multicast());
                prop_assert!(!scope.addr().is_unspecified());
            }
        }
    }
}
