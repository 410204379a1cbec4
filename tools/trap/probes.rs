//! A packet as the probe that the judge reads, and which packets make the same probe.

use std::net::IpAddr;

use psentry_packet::{Packet, Transport};
use psentry_records::{Common, Kind, Probe, ProbeBody, Proto, Timestamp, canonical};

use crate::nflog_message::Judgement;

/// What makes two probes alike: both addresses, the port, the protocol, the kind, the odd flags or ICMP's type, and what
/// the rules made of it.
pub(crate) type DedupKey = (IpAddr, IpAddr, Option<u16>, Proto, Kind, Option<String>, Judgement);

/// The key under which a packet is deduplicated.
pub(crate) fn dedup_key(packet: &Packet, judgement: Judgement) -> DedupKey {
    let odd = match &packet.transport {
        Transport::Icmp { icmp_type, .. } => Some(icmp_type.to_string()),
        Transport::Other(protocol) => Some(protocol.to_string()),
        _ => packet.unusual_flags(),
    };
    let port = packet.ports().map(|(_, to)| to);
    (packet.source, packet.destination, port, packet.proto(), packet.kind(), odd, judgement)
}

/// The record of `count` alike packets, of which `packet` came last, at `timestamp`.
pub(crate) fn probe(
    host: Option<String>,
    timestamp: Timestamp,
    packet: &Packet,
    judgement: Judgement,
    count: u32,
) -> Probe {
    let ports = packet.ports();
    let common = Common {
        timestamp,
        host,
        src_ip: Some(canonical(packet.source)),
        src_port: ports.map(|(from, _)| from),
        dest_ip: Some(canonical(packet.destination)),
        dest_port: ports.map(|(_, to)| to),
        proto: Some(packet.proto()),
    };
    let body = ProbeBody {
        sensor: Some("trap".to_owned()),
        signature: packet.signature().map(|signature| signature.name().to_owned()),
        class: judgement.class,
        veiled: judgement.veiled,
        hidden: judgement.hidden,
        quarantine: judgement.quarantine,
        count,
        ..ProbeBody::new(packet.kind())
    };
    Probe { common, body }
}

#[cfg(test)]
mod tests {
    use psentry_records::{Class, Record};

    use super::*;

    #[test]
    fn a_packet_becomes_a_probe_that_proves_nothing() {
        let mut bytes = vec![0x45, 0, 0, 40, 0, 1, 0, 0, 255, 6, 0, 0, 203, 0, 113, 7, 198, 51, 100, 1];
        bytes.extend([0x9c, 0x40, 0, 23, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 4, 0, 0, 0, 0, 0]);
        let time = Timestamp::from_secs(1_800_000_000).unwrap();
        let judgement =
            Judgement { class: Some(Class::Probe), quarantine: Some(30), veiled: false, hidden: false };
        let record = Record::Probe(probe(None, time, &Packet::parse(&bytes).unwrap(), judgement, 3));
        let mut line = Vec::new();
        record.encode(&mut line).unwrap();
        assert_eq!(
            String::from_utf8(line).unwrap(),
            "{\"timestamp\":\"2027-01-15T08:00:00.000000Z\",\"event_type\":\"probe\",\"src_ip\":\"203.0.113.7\",\
             \"src_port\":40000,\"dest_ip\":\"198.51.100.1\",\"dest_port\":23,\"proto\":\"TCP\",\"probe\":{\
             \"sensor\":\"trap\",\"kind\":\"syn\",\"handshake\":false,\"signature\":\"masscan\",\"class\":\"probe\",\
             \"quarantine\":30,\"count\":3}}\n"
        );
    }
}
