//! A contact with a decoy, and the probe that it becomes.

use std::io;
use std::net::SocketAddr;

use psentry_records::{
    Common, Kind, Probe, ProbeBody, Proto, Record, Stats, StatsBody, Timestamp, canonical,
};

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    /// A completed handshake: the source is who it says.
    Tcp(Handshake),
    /// One packet that anybody can forge.
    Udp,
}

impl Contact {
    /// The probe, as of the machine `host`, with the first bytes that were sent.
    fn probe(&self, host: Option<String>, bytes: &[u8]) -> Probe {
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
            payload,
            ..ProbeBody::new(kind)
        };
        Probe { common, body }
    }
}

/// Writes records in the name of this machine.
pub(crate) struct RecordWriter<W> {
    host: Option<String>,
    write: W,
    probes: u64,
}

impl<W: FnMut(&Record) -> io::Result<()>> RecordWriter<W> {
    /// Records of the machine `host`, through `write`.
    pub(crate) fn new(host: Option<String>, write: W) -> Self {
        RecordWriter { host, write, probes: 0 }
    }

    /// Writes the probe of a contact, with the first bytes that were sent.
    ///
    /// # Errors
    /// What `write` returns.
    pub(crate) fn probe(&mut self, contact: &Contact, bytes: &[u8]) -> io::Result<()> {
        (self.write)(&Record::Probe(contact.probe(self.host.clone(), bytes)))?;
        self.probes += 1;
        Ok(())
    }

    /// How many probes were written.
    pub(crate) fn probes(&self) -> u64 {
        self.probes
    }

    /// Writes the counters as a `stats` record, with the time of now.
    ///
    /// # Errors
    /// What `write` returns.
    pub(crate) fn stats<'a>(&mut self, counters: impl IntoIterator<Item = (&'a str, u64)>) -> io::Result<()> {
        let common = Common { host: self.host.clone(), ..Common::at(Timestamp::now()) };
        (self.write)(&Record::Stats(Stats { common, body: StatsBody::new("listen", counters) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contact_becomes_one_line() {
        let mut lines = Vec::new();
        let mut writer = RecordWriter::new(Some("gate".to_owned()), |record: &Record| {
            let mut line = Vec::new();
            record.encode(&mut line)?;
            lines.push(String::from_utf8(line).unwrap());
            Ok(())
        });
        let contact = Contact {
            at: "2026-11-22T15:04:05Z".parse().unwrap(),
            source: "[::ffff:192.0.2.7]:40000".parse().unwrap(),
            dest: "[::ffff:198.51.100.1]:23".parse().unwrap(),
            transport: Transport::Tcp(Handshake::default()),
            mirage: false,
        };
        writer.probe(&contact, b"GET /\"\r\n\x00\xff").unwrap();
        writer.probe(&Contact { transport: Transport::Udp, ..contact }, b"").unwrap();
        writer.probe(&Contact { transport: Transport::Udp, mirage: true, ..contact }, b"").unwrap();
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
