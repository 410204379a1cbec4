//! The transport of a record.

use std::sync::LazyLock;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

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
    /// A transport that has no name here, by its number (IANA). [`Proto::from_number`] makes it.
    Number(u8),
    /// Any other transport; how it was named is not kept.
    Other,
}

/// Those with a name, and their numbers (IANA).
const NAMED: [(Proto, u8); 6] = [
    (Proto::Tcp, 6),
    (Proto::Udp, 17),
    (Proto::Icmp, 1),
    (Proto::Icmpv6, 58),
    (Proto::Igmp, 2),
    (Proto::Sctp, 132),
];

/// The numbers as text, so that every name is there as long as the program.
static NUMBERS: LazyLock<Vec<String>> =
    LazyLock::new(|| (0..=u8::MAX).map(|number| number.to_string()).collect());

impl Proto {
    /// The name in a record; a number without leading zeros where there is no name, as EVE has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Proto::Tcp => "TCP",
            Proto::Udp => "UDP",
            Proto::Icmp => "ICMP",
            Proto::Icmpv6 => "IPv6-ICMP",
            Proto::Igmp => "IGMP",
            Proto::Sctp => "SCTP",
            Proto::Number(number) => NUMBERS.get(usize::from(number)).map_or("OTHER", String::as_str),
            Proto::Other => "OTHER",
        }
    }

    /// The transport with this number in the IP header.
    #[must_use]
    pub fn from_number(number: u8) -> Self {
        let named = NAMED.iter().find(|(_, its)| *its == number);
        named.map_or(Proto::Number(number), |(proto, _)| *proto)
    }

    /// The transport with this name in a record: ours, another spelling of it, or a number.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        let named =
            NAMED.iter().map(|(proto, _)| *proto).find(|proto| proto.name().eq_ignore_ascii_case(name));
        match named {
            Some(proto) => proto,
            None if name.eq_ignore_ascii_case("ICMPV6") => Proto::Icmpv6,
            None => name.parse().map_or(Proto::Other, Proto::from_number),
        }
    }
}

impl Serialize for Proto {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Proto {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;
        impl serde::de::Visitor<'_> for Name {
            type Value = Proto;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("the name of a transport")
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Proto, E> {
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
    fn every_number_is_a_transport_of_its_own_and_is_read_as_it_is_written() {
        let all: Vec<Proto> = (0..=u8::MAX).map(Proto::from_number).collect();
        assert_eq!(
            all.iter().map(|proto| proto.name()).collect::<std::collections::BTreeSet<_>>().len(),
            256
        );
        for proto in all {
            assert_eq!(Proto::from_name(proto.name()), proto);
        }
        for (number, name) in [(0, "0"), (9, "9"), (47, "47"), (6, "TCP"), (58, "IPv6-ICMP"), (253, "253")] {
            assert_eq!(Proto::from_number(number).name(), name);
        }
    }

    #[test]
    fn other_spellings_are_read_and_unknown_names_are_not_kept() {
        for (name, want) in [
            ("tcp", Proto::Tcp),
            ("ICMPV6", Proto::Icmpv6),
            ("ipv6-icmp", Proto::Icmpv6),
            ("047", Proto::Number(47)),
            ("17", Proto::Udp),
            ("256", Proto::Other),
            ("GRE", Proto::Other),
            ("", Proto::Other),
        ] {
            assert_eq!(Proto::from_name(name), want, "{name}");
        }
    }
}
