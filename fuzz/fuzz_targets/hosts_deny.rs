//! Any bytes as hosts.deny: where its section can be read, writing it back changes no byte outside of it, and what is blocked
//! is blocked afterwards.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use psentry_block::backends::hosts_deny::section::Parts;

fuzz_target!(|bytes: &[u8]| {
    let path = Path::new("hosts.deny");
    let read = |bytes: &[u8]| Parts::read(path, Some(bytes)).expect("what psentry-block wrote can be read");
    let outside = |mut parts: Parts| {
        parts.entries.clear();
        parts.write()
    };
    let Ok(parts) = Parts::read(path, Some(bytes)) else { return };
    if parts.entries.is_empty() && !bytes.windows(15).any(|window| window == b"# BEGIN psentry") {
        assert_eq!(parts.write().as_deref(), Some(bytes));
    }
    let scopes = |parts: &Parts| parts.entries.iter().map(|entry| entry.scope).collect::<Vec<_>>();
    let Some(written) = parts.write() else { return };
    let again = read(&written);
    assert_eq!(scopes(&again), scopes(&parts));
    assert_eq!(outside(again), outside(parts));
});
