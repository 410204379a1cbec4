//! What the judge needs to know of a probe: a few numbers, without a text.

use std::net::IpAddr;

use psentry_records::{Kind, Probe, Proto, Timestamp, canonical};

/// One contact, or several alike.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observation {
    /// When.
    pub at: Timestamp,
    /// From where, in canonical form.
    pub src: IpAddr,
    /// From which port.
    pub src_port: Option<u16>,
    /// To which of this machine's addresses, in a byte that tells most of them apart.
    pub dest: u8,
    /// To which port, where the protocol has ports.
    pub port: Option<u16>,
    /// By which protocol.
    pub proto: Proto,
    /// What was sent.
    pub kind: Kind,
    /// Whether a handshake was completed.
    pub handshake: bool,
    /// Whether that handshake was by SYN cookie, which a patient forger can guess.
    pub cookie: bool,
    /// Whether the sensor recognized a scanner by its packet.
    pub signature: bool,
    /// Whether a sensor saw it at a port that merely is closed, not at a decoy.
    pub closed: bool,
    /// How many alike.
    pub count: u32,
}

/// Whether that sensor tells of closed ports: psentry-trap; psentry-parse, which reads firewalls' logs; a mirage, which
/// answers for every port without a service.
pub(crate) fn reports_closed_ports(sensor: &str) -> bool {
    matches!(sensor, "trap" | "parse" | "mirage")
}

/// A byte of an address.
pub(crate) fn tag(dest: Option<IpAddr>) -> u8 {
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
            dest: tag(common.dest_ip),
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
