//! What kind of evidence a touch is. Weights differ, because some contacts happen to innocents more often.

use psentry_records::{Class as SensorClass, Kind, Proto};

use crate::machine::MachineFacts;
use crate::observation::Observation;

/// A datagram from a port below may be an answer: of a resolver, a time server. Above are peers of any kind.
const UDP_SERVICES: u16 = 1024;

/// A segment from a port below may be a server's, such as a database's: clients of Linux, and of others even more so, have
/// higher ones. That it is none of a handshake is known already.
const TCP_SERVERS: u16 = 32_768;

/// A kind of evidence: how likely an innocent is to do that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A completed handshake with a port that nobody has a reason to touch.
    Decoy,
    /// A datagram to such a port.
    Udp,
    /// Any other packet to such a port, or of a sensor that does not say.
    Packet,
    /// A packet to a port that is closed, or a handshake with a sensor that answers for all of them: a service may just
    /// restart, or have moved.
    Closed,
    /// Flags that no ordinary stack sends: FIN alone (RFC 9293 has ACK in every segment after the first), none at all,
    /// FIN with PSH and URG.
    Flags,
    /// What an honest peer, client or guest may send: ACK, FIN and ACK of a connection that is just gone; and what the
    /// sensor says is one.
    Stray,
}

impl Class {
    /// All of them, heaviest first as a rule.
    pub const ALL: [Class; 6] =
        [Class::Decoy, Class::Udp, Class::Packet, Class::Closed, Class::Flags, Class::Stray];

    /// Of what an observation is evidence; `None`: it may be an answer to somebody here, which is evidence of nothing. The
    /// kernel lends the ports of `machine`'s clients to connections that they open.
    #[must_use]
    pub fn of(seen: &Observation, machine: &MachineFacts) -> Option<Class> {
        // The sensor knows which ports are served and which networks are near; the packet itself does not tell.
        let stray = match seen.class {
            Some(SensorClass::Chatter) => return None,
            Some(SensorClass::Stray) => true,
            Some(SensorClass::Probe) => false,
            None => matches!(seen.kind, Kind::Ack | Kind::Maimon | Kind::Window),
        };
        if seen.handshake {
            return Some(match (stray, seen.closed) {
                (true, _) => Class::Stray,
                (false, true) => Class::Closed,
                (false, false) => Class::Decoy,
            });
        }
        let class = match seen.kind {
            // Whatever it is taken for: no honest peer sends that.
            Kind::Fin | Kind::Null | Kind::Xmas => Class::Flags,
            _ if stray => Class::Stray,
            _ if seen.closed => Class::Closed,
            Kind::Udp => Class::Udp,
            Kind::Syn => Class::Closed,
            Kind::Connect | Kind::Ack | Kind::Maimon | Kind::Window | Kind::Other => Class::Packet,
        };
        let lent = seen.port.is_some_and(|port| machine.is_client_port(port));
        let below = match (seen.proto, class) {
            (Proto::Udp, _) => UDP_SERVICES,
            (_, Class::Stray) => TCP_SERVERS,
            _ => 0,
        };
        let answer = lent && seen.src_port.is_some_and(|port| port < below);
        (!answer).then_some(class)
    }
}

/// A set of classes, in one byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Classes(u8);

impl Classes {
    /// How many sets there are.
    pub(crate) const SETS: usize = 1 << Class::ALL.len();

    /// The set of one class.
    #[must_use]
    pub fn one(class: Class) -> Self {
        Classes(1 << (class as u8))
    }

    /// Whether it holds that class.
    #[must_use]
    pub fn has(self, class: Class) -> bool {
        self.0 & (1 << (class as u8)) != 0
    }

    /// Whether it holds all of the other.
    #[must_use]
    pub fn hold(self, other: Classes) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether it says something in a month too: everybody sends late packets then, and behind one address many people
    /// knock at ports that are closed.
    #[must_use]
    pub fn last_long(self) -> bool {
        [Class::Decoy, Class::Udp, Class::Packet, Class::Flags].into_iter().any(|class| self.has(class))
    }

    /// Whether each touch was a stray.
    #[must_use]
    pub fn are_strays(self) -> bool {
        self == Classes::one(Class::Stray)
    }

    /// Whether each touch was of a decoy.
    #[must_use]
    pub fn are_decoys(self) -> bool {
        ![Class::Closed, Class::Flags, Class::Stray].into_iter().any(|class| self.has(class))
    }

    pub(crate) fn bits(self) -> u8 {
        self.0
    }

    pub(crate) fn from_bits(bits: u8) -> Self {
        Classes(bits & (Self::SETS - 1) as u8)
    }
}
