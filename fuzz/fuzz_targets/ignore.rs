//! Any bytes as an ignore file: it is used or refused, and what it ignores it ignores.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use psentry_records::{Ignore, canonical};

fuzz_target!(|bytes: &[u8]| {
    let Ok(prefixes) = Ignore::parse(Path::new("ignore"), bytes) else { return };
    let ignore: Ignore = prefixes.iter().copied().collect();
    for prefix in prefixes {
        assert!(ignore.touches(prefix));
        // A wide IPv6 prefix may end among the addresses that stand for IPv4; those are IPv4.
        for addr in [prefix.addr(), prefix.last()] {
            assert!(ignore.holds(addr) || canonical(addr) != addr);
        }
    }
});
