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
    /// A hash of the name of the machine that was touched; 0 where no sensor named one.
    pub host: u8,
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
    /// What the sensor took it for, if it makes a difference.
    pub class: Option<psentry_records::Class>,
    /// Whether it was dropped at a veiled port, as the first packet of an innocent is.
    pub veiled: bool,
    /// How many alike the sensor folded into this one; a sensor may say 0.
    pub count: u32,
}

/// Whether that sensor reports closed ports: psentry-trap; a mirage, which answers for every port without a service; and,
/// by the name of `parse`, whoever turns the logs of firewalls into probes.
pub(crate) fn reports_closed_ports(sensor: &str) -> bool {
    matches!(sensor, "trap" | "parse" | "mirage")
}

/// A byte that differs for most machines that write into one stream: a contact has no room for more. Two that share it are
/// taken for one, which makes a port at both of them count less, not more.
pub(crate) fn host_hash(name: &str) -> u8 {
    // Every record has it, so it costs two instructions a byte.
    let sum = name.bytes().fold(0u32, |sum, byte| sum.rotate_left(5) ^ u32::from(byte));
    (sum.wrapping_mul(0x9e37_79b1) >> 24).to_le_bytes()[0].max(1)
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
            host: common.host.as_deref().map_or(0, host_hash),
            port: common.dest_port,
            proto: common.proto.unwrap_or(Proto::Other),
            kind: body.kind,
            handshake: body.handshake,
            cookie: body.cookie,
            signature: body.signature.is_some(),
            closed: body.sensor.as_deref().is_some_and(reports_closed_ports),
            class: body.class,
            veiled: body.veiled,
            count: body.count,
        })
    }
}
