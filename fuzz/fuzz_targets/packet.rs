//! Any bytes as a captured packet: whatever a stranger sends, it is a packet or a typed refusal, and each of its answers
//! can be had.

#![no_main]

use libfuzzer_sys::fuzz_target;
use psentry_packet::Packet;

fuzz_target!(|bytes: &[u8]| {
    let Ok(packet) = Packet::parse(bytes) else { return };
    let _ = (packet.kind(), packet.proto(), packet.unusual_flags());
    // Only what carries a TCP header has a fingerprint.
    assert!(packet.signature().is_none() || packet.ports().is_some());
});
