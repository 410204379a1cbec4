//! What the judge needs to know of a probe: a few numbers, without a text, so that they can be read fast and copied.

use std::net::IpAddr;

use psentry_records::{Kind, Probe, Proto, Timestamp, canonical};

/// One packet or connection that a sensor saw, or several alike.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observation {
    /// When the sensor saw it.
    pub at: Timestamp,
    /// The source, in canonical form: IPv4 where it was written as IPv6.
    pub src: IpAddr,
    /// The source port, where the protocol has ports.
    pub src_port: Option<u16>,
    /// A hash of the address of this machine that was touched; 0 where no sensor named one.
    pub dest: u8,
    /// The port that was touched, where the protocol has ports.
    pub port: Option<u16>,
    /// Its protocol; [`Proto::Other`] where the sensor did not say.
    pub proto: Proto,
    /// Which kind of packet it was, or a connection.
    pub kind: Kind,
    /// Whether a handshake was completed.
    pub handshake: bool,
    /// Whether that handshake was by SYN cookie, which a patient forger can guess.
    pub cookie: bool,
    /// Whether the sensor recognized a scanner by its packet.
    pub signature: bool,
    /// Whether a sensor saw it at a port that merely is closed, not at a decoy.
    pub closed: bool,
    /// How many alike the sensor folded into this one; a sensor may say 0.
    pub count: u32,
}

/// Whether that sensor reports closed ports: psentry-trap; a mirage, which answers for every port without a service; and,
/// by the name of `parse`, whoever turns the logs of firewalls into probes.
pub(crate) fn reports_closed_ports(sensor: &str) -> bool {
    matches!(sensor, "trap" | "parse" | "mirage")
}

/// A byte that differs for most of a machine's addresses: a contact has no room for more. Two addresses that share it
/// are taken for one, which makes a port at both of them count less, not more.
pub(crate) fn address_hash(dest: Option<IpAddr>) -> u8 {
    let bytes = match dest {
        None => return 0,
        Some(IpAddr::V4(addr)) => {
            addr.octets().iter().fold(0u32, |sum, &byte| sum.wrapping_mul(31) + u32::from(byte))
        }
        Some(IpAddr::V6(addr)) => {
            addr.octets().iter().fold(0u32, |sum, &byte| sum.wrapping_mul(31) + u32::from(byte))
        }
    };
    (bytes.wrapping_mul(0x9e37_79b1) >> 24).to_le_bytes()[0]
}

impl Observation {
    /// What a probe says; `None` without an address, which no probe that was read from a stream lacks.
    #[must_use]
    pub fn of(probe: &Probe) -> Option<Self> {
        let (common, body) = (&probe.common, &probe.body);
        Some(Observation {
            at: common.timestamp,
            src: canonical(common.src_ip?),
            src_port: common.src_port,
            dest: address_hash(common.dest_ip),
            port: common.dest_port,
            proto: common.proto.unwrap_or(Proto::Other),
            kind: body.kind,
            handshake: body.handshake,
            cookie: body.cookie,
            signature: body.signature.is_some(),
            closed: body.sensor.as_deref().is_some_and(reports_closed_ports),
            count: body.count,
        })
    }
}
