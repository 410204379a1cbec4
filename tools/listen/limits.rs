//! Defaults and bounds of the flags, for their help and for their checks.

/// How many milliseconds a connection is held when there is something to send or to capture. A client across the
/// world needs a third of it; each more gives every source a longer grip on one of the held places.
pub(crate) const HOLD_MS: u32 = 1000;

/// The longest hold in milliseconds, ten minutes. Beyond it a typing error is likelier than intent.
pub(crate) const LONGEST_HOLD_MS: u32 = 600_000;

/// How many connections are held at once. Each costs the kernel 4 KiB and a descriptor.
pub(crate) const MAX_HELD: u32 = 1000;

/// The most bytes that can be captured. More would not fit into a record.
pub(crate) const MOST_CAPTURE: u32 = 4096;

/// The longest banner in bytes. It goes out in one write, which a new connection always has room for.
pub(crate) const LONGEST_BANNER: u64 = 4096;

/// How many connections, and how many datagrams, are recorded a second: psentry-trap's.
pub(crate) const RATE: u32 = 5000;

/// How many of those of one source: psentry-trap's.
pub(crate) const SOURCE_RATE: u32 = 20;

/// The most of both. Beyond it a typing error is likelier than intent.
pub(crate) const HIGHEST_RATE: u32 = 1_000_000;
