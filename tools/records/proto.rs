//! The transport of a record.

use serde::{Deserialize, Serialize};

/// The transport of a record, as EVE spells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Proto {
    /// TCP.
    #[serde(rename = "TCP", alias = "tcp")]
    Tcp,
    /// UDP.
    #[serde(rename = "UDP", alias = "udp")]
    Udp,
    /// ICMP for IPv4.
    #[serde(rename = "ICMP", alias = "icmp")]
    Icmp,
    /// ICMP for IPv6.
    #[serde(rename = "IPv6-ICMP", alias = "ICMPV6", alias = "icmpv6", alias = "ipv6-icmp")]
    Icmpv6,
    /// IGMP.
    #[serde(rename = "IGMP", alias = "igmp")]
    Igmp,
    /// SCTP.
    #[serde(rename = "SCTP", alias = "sctp")]
    Sctp,
    /// Any other transport; how it was named is not kept.
    #[serde(other, rename = "OTHER")]
    Other,
}

impl Proto {
    /// The name in a record.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Proto::Tcp => "TCP",
            Proto::Udp => "UDP",
            Proto::Icmp => "ICMP",
            Proto::Icmpv6 => "IPv6-ICMP",
            Proto::Igmp => "IGMP",
            Proto::Sctp => "SCTP",
            Proto::Other => "OTHER",
        }
    }
}
