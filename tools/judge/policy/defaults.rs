//! Every default of the judge, each once and with its reason. `--help` and psentry-policy(5) quote them, and
//! units/etc/policy.toml shows them; tests compare.

/// At most one innocent source in a thousand is convicted.
pub const ALPHA: f64 = 0.001;

/// At least 99 scanners in a hundred are convicted. It moves the threshold by little.
pub const BETA: f64 = 0.99;

/// One in ten first contacts of a scanner is nothing of what is weighed here.
pub const THETA1: f64 = 0.1;

/// How long a touch counts. Longer catches slower scans and remembers more innocent slips.
pub const WINDOW: &str = "15m";

/// Of the first contacts of innocents, one in so many is a completed connection to a decoy. Nobody has a reason to.
pub const DECOY: f64 = 100.0;

/// A datagram to a decoy: as a decoy, but late answers and stale peers are likelier.
pub const UDP: f64 = 50.0;

/// A packet to a decoy, or of a sensor that does not say what it was.
pub const PACKET: f64 = 100.0;

/// A packet to a closed port: a service that restarts or moved makes its users send two; three convict.
pub const CLOSED: f64 = 20.0;

/// A packet to a closed port that worms know: nobody asks for these by mistake, so two convict.
pub const WORM: f64 = 40.0;

/// A packet of a protocol without ports: a peer of a tunnel sends two or three, a router some more; ten convict.
pub const PROTOCOL: f64 = 2.25;

/// Flags that no ordinary stack sends.
pub const FLAGS: f64 = 1000.0;

/// A late packet of a former peer: happens to everybody, so it takes six different ports.
pub const STRAY: f64 = 4.0;

/// A scanner recognized by its packets makes the rest so many times likelier; alone it convicts nobody.
pub const SIGNATURE: f64 = 10.0;

/// How many touches of one port convict; 0: none do. Who calls at one port again and again is a client that was not told
/// that its service has moved.
pub const TOUCHES: u32 = 0;

/// How long different ports are remembered for the slow scan.
pub const SLOW_WINDOW: &str = "30d";

/// How many of them convict.
pub const SLOW_PORTS: u32 = 10;

/// A proven scanner's block. Longer costs an innocent more, and the scanner hardly anything after the first hour.
pub const DURATION: &str = "1h";

/// The block of a source whose packets could be forged. What a forger can do to a third party lasts this long.
pub const UNPROVEN: &str = "1m";

/// Each further offence is blocked so many times as long.
pub const GROWTH: f64 = 2.0;

/// Further offences are never blocked longer than this.
pub const LONGEST: &str = "7d";

/// After so long without one, an offence is forgiven.
pub const FORGIVE: &str = "30d";

/// By how much of itself a duration is varied, so that nobody can time the end of it.
pub const JITTER: f64 = 0.0;

/// psad's DANGER_LEVEL1 to 5, in packets.
pub const PACKETS: [u32; 5] = [5, 15, 150, 1500, 10_000];

/// From which level on a climbing source is reported with a `watch` verdict; 0: never.
pub const WATCH_LEVEL: u8 = 0;

/// From which level on a convicted source is blocked; 0: at once.
pub const BLOCK_LEVEL: u8 = 0;

/// How many convicted sources of a prefix that behave alike have it blocked as a whole; 0: never.
pub const SWEEP_SOURCES: usize = 8;

/// The prefixes of IPv4 sources: /28 is what a customer is given who has more than one address, and no network smaller
/// than a /24 is announced on the Internet, so that is its operator's.
pub const SWEEP_IPV4: [u8; 2] = [28, 24];

/// The prefixes of IPv6 sources, which are /64s already: the two sizes that customers are given (RFC 6177; BCOP-690), of
/// which the wider one may also be a provider's with 256 customers in it.
pub const SWEEP_IPV6: [u8; 2] = [56, 48];

/// How long a prefix is blocked. Short, because innocents live in it.
pub const SWEEP_DURATION: &str = "1h";

/// How many prefixes are blocked at a time.
pub const SWEEP_MOST: usize = 64;

/// New blocks by packets that could be forged, in more networks than this within a minute, are no longer a judgement of
/// sources; 0: no brake.
pub const BRAKE_UNPROVEN: u32 = 300;

/// The same by handshakes. It is off: a botnet of thousands is no error, and whoever completes handshakes owns the
/// addresses.
pub const BRAKE_PROVEN: u32 = 0;

/// How long psentry then only watches.
pub const BRAKE_PAUSE: &str = "10m";

/// How long an address that logged in is only watched.
pub const VOUCH: &str = "7d";

/// How many sources are remembered: about 110 bytes each.
pub const MAX_SOURCES: u32 = 100_000;
