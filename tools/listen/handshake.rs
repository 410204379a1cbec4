//! What a connection's handshake proves, and which scanner built its SYN, as far as the kernel kept it.
//!
//! A kernel whose queue of half-open connections is full answers a SYN by a cookie, and forgets it. Whoever then sends
//! an ACK with the right number is connected, and may have guessed: so no SYN is a weaker proof.

use std::io;
use std::time::{Duration, Instant};

use psentry_packet::{Packet, Signature};
use socket2::Socket;

/// The longest headers that are read: no system's own SYN comes near it. One that is longer is a SYN all the same.
const LONGEST: usize = 256;

/// For how long the kernel waits for the ACK of a handshake: the time of its five repetitions (tcp_synack_retries).
const HALF_OPEN: Duration = Duration::from_secs(63);

/// What is known of a handshake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Handshake {
    /// Whether it was by SYN cookie.
    pub(crate) cookie: bool,
    /// Which scanner writes such a SYN.
    pub(crate) signature: Option<Signature>,
}

/// Whether the kernel keeps the SYNs that come to a listening socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SavedSyns {
    /// The kernel cannot keep them.
    Forgotten,
    /// It kept them before there could be a connection.
    Kept,
    /// It keeps them since then: handshakes that began before have none, although they had no cookie.
    KeptSince(Instant),
}

impl SavedSyns {
    /// Has the SYNs that come to `listener` kept from now on. Call it before listen(2) where that is possible: then
    /// there is none that came before.
    pub(crate) fn keep(listener: &Socket) -> Self {
        match psentry_tcp_options::save_syns(listener) {
            Ok(true) => SavedSyns::Kept,
            Ok(false) => SavedSyns::KeptSince(Instant::now()),
            Err(_) => SavedSyns::Forgotten,
        }
    }

    /// What the saved SYN of `connection` shows, or that there is none.
    pub(crate) fn read(self, connection: &Socket) -> Handshake {
        if self == SavedSyns::Forgotten {
            return Handshake::default();
        }
        let mut buffer = [0; LONGEST];
        let taken = psentry_tcp_options::take_saved_syn(connection, &mut buffer);
        self.interpret(&taken, Instant::now)
    }

    /// The decision, apart from the kernel.
    fn interpret(self, taken: &io::Result<Option<&[u8]>>, now: impl FnOnce() -> Instant) -> Handshake {
        match taken {
            Ok(Some(syn)) => Handshake {
                cookie: false,
                signature: Packet::parse(syn).ok().and_then(|packet| packet.signature()),
            },
            Ok(None) => Handshake { cookie: self.is_sure(now), signature: None },
            Err(_) => Handshake::default(),
        }
    }

    /// Whether a SYN that is not there was never kept.
    fn is_sure(self, now: impl FnOnce() -> Instant) -> bool {
        match self {
            SavedSyns::Forgotten => false,
            SavedSyns::Kept => true,
            SavedSyns::KeptSince(then) => now().saturating_duration_since(then) > HALF_OPEN,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// masscan's: IPv4, TTL 255; SYN, window 1024, no options.
    const MASSCAN: [u8; 40] = [
        0x45, 0, 0, 40, 0x12, 0x34, 0, 0, 255, 6, 0, 0, 203, 0, 113, 7, 198, 51, 100, 1, //
        0x9c, 0x40, 0, 23, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0x04, 0, 0, 0, 0, 0,
    ];

    #[test]
    fn a_syn_tells_which_scanner_built_it() {
        let handshake = SavedSyns::Kept.interpret(&Ok(Some(&MASSCAN)), Instant::now);
        assert_eq!(handshake, Handshake { cookie: false, signature: Some(Signature::Masscan) });
    }

    #[test]
    fn a_syn_that_cannot_be_read_is_a_syn() {
        for bytes in [&MASSCAN[..10], &[0xff; 60]] {
            assert_eq!(SavedSyns::Kept.interpret(&Ok(Some(bytes)), Instant::now), Handshake::default());
        }
        let too_long = Err(io::Error::from_raw_os_error(nix::libc::EINVAL));
        assert_eq!(SavedSyns::Kept.interpret(&too_long, Instant::now), Handshake::default());
    }

    #[test]
    fn none_is_a_cookie_once_none_can_be_older() {
        let then = Instant::now();
        let after = |secs| then + Duration::from_secs(secs);
        for (syns, secs, cookie) in [
            (SavedSyns::Kept, 0, true),
            (SavedSyns::KeptSince(then), 0, false),
            (SavedSyns::KeptSince(then), 63, false),
            (SavedSyns::KeptSince(then), 64, true),
            (SavedSyns::Forgotten, 1000, false),
        ] {
            assert_eq!(syns.interpret(&Ok(None), || after(secs)).cookie, cookie, "{syns:?} after {secs} s");
        }
    }
}
