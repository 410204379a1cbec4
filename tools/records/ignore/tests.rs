//! The traps of PortSentry's own reading, each turned right, and a property: the merged ranges hold exactly what
//! the prefixes hold.

use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Result<Ignore, String> {
    let prefixes = Ignore::parse(Path::new("ignore"), text.as_bytes()).map_err(|error| error.to_string())?;
    Ok(prefixes.into_iter().collect())
}

fn holds(ignore: &Ignore, addr: &str) -> bool {
    ignore.holds(addr.parse().unwrap())
}

#[test]
fn it_reads_what_administrators_write() {
    let ignore = parse(
        "# my networks\n\n  10.0.0.0/8\t# LAN\r\n192.168.1.5/24\n0.0.0.0\n2001:DB8::1/32\n::ffff:192.0.2.9\n127.0.0.1/32",
    )
    .unwrap();
    for addr in [
        "10.255.0.1",
        "192.168.1.200",
        "2001:db8:ffff::1",
        "192.0.2.9",
        "127.0.0.1",
        "0.0.0.0",
        "::ffff:10.0.0.1",
    ] {
        assert!(holds(&ignore, addr), "{addr}");
    }
    // PortSentry 2 reads the last line, without a newline, as 127.0.0.1/3.
    for addr in ["11.0.0.0", "192.168.2.0", "96.0.0.1", "127.0.0.2", "192.0.2.8", "2001:db9::"] {
        assert!(!holds(&ignore, addr), "{addr}");
    }
}

#[test]
fn everything_may_be_ignored_and_an_empty_file_ignores_nobody() {
    assert!(holds(&parse("0.0.0.0/0").unwrap(), "203.0.113.1"));
    assert!(!holds(&parse("0.0.0.0/0").unwrap(), "2001:db8::1"));
    assert!(!holds(&parse("").unwrap(), "0.0.0.0"));
    assert!(!holds(&parse("#").unwrap(), "::"));
}

#[test]
fn a_bad_line_is_named_with_its_remedy() {
    for (text, want) in [
        (
            "10.0.0.1\nexample.org\n",
            "ignore, line 2: 'example.org' looks like a host name; write its addresses",
        ),
        (
            "10.0.0.0/255.0.0.0",
            "ignore, line 1: '10.0.0.0/255.0.0.0': write the length of the mask instead, 10.0.0.0/8",
        ),
        // A router's wildcard: what it would be the mask of is everything.
        ("10.0.0.0/0.0.0.255", "'10.0.0.0/0.0.0.255': the length after an IPv4 address is 0 to 32"),
        ("10.0.0.0/33", "the length after an IPv4 address is 0 to 32"),
        ("::/129", "the length after an IPv6 address is 0 to 128"),
        ("fe80::1%eth0", "without its zone"),
        ("10.0.0.1 10.0.0.2", "one address or prefix a line"),
        ("10.0.0.1-10.0.0.9", "is not an address such as"),
        ("\u{1b}[31m", "'\\u{1b}[31m' is not an address"),
    ] {
        let error = parse(text).unwrap_err();
        assert!(error.contains(want), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_ranges_hold_what_the_prefixes_hold(
        prefixes in prop::collection::vec((any::<IpAddr>(), 0..=128u8).prop_map(|(a, l)| Prefix::around(a, l)), 0..20),
        addr in any::<IpAddr>(),
        len in 0..=128u8,
    ) {
        let ignore: Ignore = prefixes.iter().copied().collect();
        let near = prefixes.first().map_or(addr, |prefix| prefix.last());
        for addr in [canonical(addr), near] {
            prop_assert_eq!(ignore.holds(addr), prefixes.iter().any(|prefix| prefix.contains(addr)));
            let scope = Prefix::around(addr, len);
            prop_assert_eq!(ignore.touches(scope), prefixes.iter().any(|prefix| prefix.overlaps(scope)));
        }
    }

    #[test]
    fn no_file_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Ignore::parse(Path::new("ignore"), &bytes);
    }
}
