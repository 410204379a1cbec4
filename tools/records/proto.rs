//! The transport of a record.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The transport of a record, as EVE spells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Proto {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP for IPv4.
    Icmp,
    /// ICMP for IPv6.
    Icmpv6,
    /// IGMP.
    Igmp,
    /// SCTP.
    Sctp,
    /// Any other protocol, by its number (IANA, Assigned Internet Protocol Numbers). One that has a name here never stands
    /// here: [`Proto::from_number`] makes them.
    Number(u8),
    /// The sensor did not say which, or by a name that is not known here; it is not kept.
    Other,
}

/// Those with names, by their numbers.
const NAMED: [(u8, Proto); 6] = [
    (1, Proto::Icmp),
    (2, Proto::Igmp),
    (6, Proto::Tcp),
    (17, Proto::Udp),
    (58, Proto::Icmpv6),
    (132, Proto::Sctp),
];

impl Proto {
    /// The protocol of that number in the header of a packet.
    #[must_use]
    pub fn from_number(number: u8) -> Self {
        NAMED.iter().find(|(known, _)| *known == number).map_or(Proto::Number(number), |&(_, proto)| proto)
    }

    /// The protocol of a record: by its name, or by its number as text, such as `47`.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        match name {
            "TCP" | "tcp" => Proto::Tcp,
            "UDP" | "udp" => Proto::Udp,
            "ICMP" | "icmp" => Proto::Icmp,
            "IPv6-ICMP" | "ICMPV6" | "icmpv6" | "ipv6-icmp" => Proto::Icmpv6,
            "IGMP" | "igmp" => Proto::Igmp,
            "SCTP" | "sctp" => Proto::Sctp,
            number => number.parse().map_or(Proto::Other, Proto::from_number),
        }
    }

    /// The name in a record; of a protocol without one, its number.
    #[must_use]
    pub fn name(self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Proto::Tcp => "TCP",
            Proto::Udp => "UDP",
            Proto::Icmp => "ICMP",
            Proto::Icmpv6 => "IPv6-ICMP",
            Proto::Igmp => "IGMP",
            Proto::Sctp => "SCTP",
            Proto::Number(number) => return Cow::Owned(number.to_string()),
            Proto::Other => "OTHER",
        })
    }
}

impl Serialize for Proto {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name())
    }
}

impl<'de> Deserialize<'de> for Proto {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;
        impl de::Visitor<'_> for Name {
            type Value = Proto;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a protocol, or its number as text")
            }
            fn visit_str<E: de::Error>(self, name: &str) -> Result<Proto, E> {
                Ok(Proto::from_name(name))
            }
        }
        deserializer.deserialize_str(Name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_read_as_it_is_written() {
        for number in 0..=255 {
            let proto = Proto::from_number(number);
            assert_eq!(Proto::from_name(&proto.name()), proto);
            assert_eq!(Proto::from_name(&number.to_string()), proto, "{number}");
        }
        assert_eq!((Proto::from_number(6), Proto::from_number(47)), (Proto::Tcp, Proto::Number(47)));
        assert_eq!(Proto::from_number(47).name(), "47");
        for name in ["quic", "256", "-1", "", "OTHER"] {
            assert_eq!(Proto::from_name(name), Proto::Other, "{name}");
        }
    }
}
