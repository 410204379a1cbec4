//! A contact with a decoy, and the probe that it becomes.

use std::net::SocketAddr;

use psentry_records::{Common, Kind, Probe, ProbeBody, Proto, Timestamp, canonical};

use crate::handshake::Handshake;

/// One connection or datagram to a decoy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Contact {
    /// When it was accepted.
    pub(crate) at: Timestamp,
    pub(crate) source: SocketAddr,
    /// Which of this machine's addresses and ports was touched.
    pub(crate) dest: SocketAddr,
    pub(crate) transport: Transport,
    /// Whether it came to the mirage: then no decoy was touched, but a port without a service.
    pub(crate) mirage: bool,
}

/// The transport, and with it what a contact proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Transport {
    /// A completed handshake: the source is who it says.
    Tcp(Handshake),
    /// One packet that anybody can forge.
    Udp,
}

impl Contact {
    /// The probe of `count` alike contacts, of which this one came last, as of the machine `host`, with the first bytes that
    /// were sent.
    pub(crate) fn probe(&self, host: Option<String>, bytes: &[u8], count: u32) -> Probe {
        let Contact { at, source, dest, transport, mirage } = self;
        let (kind, handshake, proto) = match transport {
            Transport::Tcp(handshake) => (Kind::Connect, Some(handshake), Proto::Tcp),
            Transport::Udp => (Kind::Udp, None, Proto::Udp),
        };
        let common = Common {
            timestamp: *at,
            host,
            src_ip: Some(canonical(source.ip())),
            src_port: Some(source.port()),
            dest_ip: Some(canonical(dest.ip())),
            dest_port: Some(dest.port()),
            proto: Some(proto),
        };
        let payload = (!bytes.is_empty()).then(|| bytes.escape_ascii().to_string());
        let body = ProbeBody {
            sensor: Some(if *mirage { "mirage" } else { "listen" }.to_owned()),
            handshake: handshake.is_some(),
            cookie: handshake.is_some_and(|handshake| handshake.cookie),
            signature: handshake.and_then(|handshake| handshake.signature).map(|scanner| scanner.to_string()),
            count,
            payload,
            ..ProbeBody::new(kind)
        };
        Probe { common, body }
    }
}

#[cfg(test)]
mod tests {
    use psentry_records::Record;

    use super::*;

    #[test]
    fn a_contact_becomes_one_line() {
        let contact = Contact {
            at: "2026-11-22T15:04:05Z".parse().unwrap(),
            source: "[::ffff:192.0.2.7]:40000".parse().unwrap(),
            dest: "[::ffff:198.51.100.1]:23".parse().unwrap(),
            transport: Transport::Tcp(Handshake::default()),
            mirage: false,
        };
        let line = |contact: &Contact, bytes: &[u8], count| {
            let mut line = Vec::new();
            Record::Probe(contact.probe(Some("gate".to_owned()), bytes, count)).encode(&mut line).unwrap();
            String::from_utf8(line).unwrap()
        };
        let datagram = Contact { transport: Transport::Udp, ..contact };
        assert!(line(&Contact { mirage: true, ..datagram }, b"", 1).contains(r#""sensor":"mirage""#));
        let lines = [line(&contact, b"GET /\"\r\n\x00\xff", 1), line(&datagram, b"", 44)];
        assert_eq!(
            lines,
            [
                concat!(
                    r#"{"timestamp":"2026-11-22T15:04:05.000000Z","event_type":"probe","host":"gate","#,
                    r#""src_ip":"192.0.2.7","src_port":40000,"dest_ip":"198.51.100.1","dest_port":23,"#,
                    r#""proto":"TCP","probe":{"sensor":"listen","kind":"connect","handshake":true,"#,
                    r#""payload":"GET /\\\"\\r\\n\\x00\\xff"}}"#,
                    "\n"
                ),
                concat!(
                    r#"{"timestamp":"2026-11-22T15:04:05.000000Z","event_type":"probe","host":"gate","#,
                    r#""src_ip":"192.0.2.7","src_port":40000,"dest_ip":"198.51.100.1","dest_port":23,"#,
                    r#""proto":"UDP","probe":{"sensor":"listen","kind":"udp","handshake":false,"count":44}}"#,
                    "\n"
                ),
            ]
        );
    }
}
