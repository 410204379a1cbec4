//! Who was seen where and when, and the probe that it becomes.

use std::io;
use std::net::SocketAddr;

use psentry_records::{Common, Kind, Probe, ProbeBody, Proto, Record, Timestamp, canonical};

use crate::handshake::Handshake;

/// One visit to a decoy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sighting {
    /// When it was accepted.
    pub(crate) at: Timestamp,
    /// From where.
    pub(crate) source: SocketAddr,
    /// To which of this machine's addresses and ports.
    pub(crate) dest: SocketAddr,
    /// By which transport.
    pub(crate) way: Way,
    /// Whether it was the mirage: then no decoy was touched, but a port that nobody serves.
    pub(crate) mirage: bool,
}

/// What a visit proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// A completed handshake: the source is who it says.
    Connection(Handshake),
    /// One packet that anybody can forge.
    Datagram,
}

/// Makes records of sightings and hands them on.
pub(crate) struct Journal<W> {
    host: Option<String>,
    write: W,
}

impl<W: FnMut(&Record) -> io::Result<()>> Journal<W> {
    /// Records of the machine `host`, through `write`.
    pub(crate) fn new(host: Option<String>, write: W) -> Self {
        Journal { host, write }
    }

    /// Writes the probe that `sighting` is, with the first bytes that were sent.
    ///
    /// # Errors
    /// What `write` says.
    pub(crate) fn note(&mut self, sighting: &Sighting, bytes: &[u8]) -> io::Result<()> {
        let Sighting { at, source, dest, way, mirage } = sighting;
        let (kind, handshake, proto) = match way {
            Way::Connection(handshake) => (Kind::Connect, Some(handshake), Proto::Tcp),
            Way::Datagram => (Kind::Udp, None, Proto::Udp),
        };
        let common = Common {
            timestamp: *at,
            host: self.host.clone(),
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
            payload,
            ..ProbeBody::new(kind)
        };
        (self.write)(&Record::Probe(Probe { common, body }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sighting_becomes_one_line() {
        let mut lines = Vec::new();
        let mut journal = Journal::new(Some("gate".to_owned()), |record: &Record| {
            let mut line = Vec::new();
            record.encode(&mut line)?;
            lines.push(String::from_utf8(line).unwrap());
            Ok(())
        });
        let sighting = Sighting {
            at: "2026-11-22T15:04:05Z".parse().unwrap(),
            source: "[::ffff:192.0.2.7]:40000".parse().unwrap(),
            dest: "[::ffff:198.51.100.1]:23".parse().unwrap(),
            way: Way::Connection(Handshake::default()),
            mirage: false,
        };
        journal.note(&sighting, b"GET /\"\r\n\x00\xff").unwrap();
        journal.note(&Sighting { way: Way::Datagram, ..sighting }, b"").unwrap();
        journal.note(&Sighting { way: Way::Datagram, mirage: true, ..sighting }, b"").unwrap();
        assert!(lines.pop().unwrap().contains(r#""sensor":"mirage""#));
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
                    r#""proto":"UDP","probe":{"sensor":"listen","kind":"udp","handshake":false}}"#,
                    "\n"
                ),
            ]
        );
    }
}
