//! What a decoy's socket is marked with, so that the kernel can be asked whether the socket behind a packet is a decoy.

/// The mark (`SO_MARK`) of every decoy's socket, `0x70730001`. psentry-listen and its socket units set it, and
/// psentry-trap's ruleset asks for it (`socket mark`): a SYN to a decoy that no handshake follows is a probe that no
/// listening socket ever sees.
///
/// "ps" in ASCII, then 1: hardly anybody's own mark already, and positive as a signed number of 32 bits, which is what
/// systemd's `Mark=` takes. It must not change alone: the socket units and rulesets in place have it too.
pub const DECOY_MARK: u32 = 0x7073_0001;
