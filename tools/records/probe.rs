//! A probe: a contact with a port that nobody has a reason to touch. Sensors write it.

use serde::{Deserialize, Serialize};

use crate::Common;

/// One contact, or several alike that are one record.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// When, from where, to where. A probe always has a `src_ip`.
    pub common: Common,
    /// Which sensor saw what.
    pub body: ProbeBody,
}

/// The object `probe` of a record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProbeBody {
    /// Which sensor saw it: "listen", "trap", ...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sensor: Option<String>,
    /// What kind of packet was sent.
    #[serde(default)]
    pub kind: Kind,
    /// Whether the source completed a TCP handshake, so that its address cannot be forged.
    #[serde(default)]
    pub handshake: bool,
    /// Whether that handshake was by SYN cookie: the kernel remembered nothing of the SYN, and takes any ACK that
    /// carries one of eight numbers of 2^32 for its answer. A weaker proof.
    #[serde(default, skip_serializing_if = "is_false")]
    pub cookie: bool,
    /// Which scanner built the first packet: "nmap", "masscan", "zmap", or "raw" for any other program that
    /// writes its packets itself. Evidence, and as easily imitated as avoided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
    /// What the sensor took the packet for. Absent: the sensor makes no difference, or wrote before there were classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<Class>,
    /// Whether it was the first packet to a veiled port, which nobody sent again, as whoever wants to connect would. By itself it
    /// says nothing of its source.
    #[serde(default, skip_serializing_if = "is_false")]
    pub veiled: bool,
    /// Whether a service is there that psentry-trap hides from its source, for whom it is a closed port.
    #[serde(default, skip_serializing_if = "is_false")]
    pub hidden: bool,
    /// For how many seconds this packet put its source into quarantine, or renewed its quarantine. Absent: it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantine: Option<u32>,
    /// How many equal contacts this record stands for.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub count: u32,
    /// The first bytes that were sent, printable ASCII with `\r`, `\n`, `\t`, `\\` and `\xNN` for the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<String>,
}

impl ProbeBody {
    /// One contact of a kind, that proves nothing.
    #[must_use]
    pub fn new(kind: Kind) -> Self {
        ProbeBody {
            sensor: None,
            kind,
            handshake: false,
            cookie: false,
            signature: None,
            class: None,
            veiled: false,
            hidden: false,
            quarantine: None,
            count: 1,
            payload: None,
        }
    }
}

fn one() -> u32 {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
fn is_false(flag: &bool) -> bool {
    !flag
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
fn is_one(count: &u32) -> bool {
    *count == 1
}

/// What a packet to a port without a socket is taken for; psentry-trap(8) has the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// What machines send regularly on their own network.
    Chatter,
    /// What an honest peer, client or guest may send.
    Stray,
    /// Anything else, and what a later version may name: nobody has a reason to send it.
    #[serde(other)]
    Probe,
}

impl Class {
    /// The name in a record.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Class::Chatter => "chatter",
            Class::Stray => "stray",
            Class::Probe => "probe",
        }
    }
}

/// What kind of packet a probe was. Names as scanners' manuals have them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A completed TCP connection.
    Connect,
    /// A TCP SYN that no handshake followed.
    Syn,
    /// FIN alone.
    Fin,
    /// No flag at all.
    Null,
    /// FIN, PSH and URG.
    Xmas,
    /// ACK alone.
    Ack,
    /// FIN and ACK.
    Maimon,
    /// ACK, read by its window.
    Window,
    /// A UDP datagram.
    Udp,
    /// Anything else, and what a later version may name.
    #[default]
    #[serde(other)]
    Other,
}

impl Kind {
    /// The name in a record.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Connect => "connect",
            Kind::Syn => "syn",
            Kind::Fin => "fin",
            Kind::Null => "null",
            Kind::Xmas => "xmas",
            Kind::Ack => "ack",
            Kind::Maimon => "maimon",
            Kind::Window => "window",
            Kind::Udp => "udp",
            Kind::Other => "other",
        }
    }
}
