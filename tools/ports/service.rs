//! A protocol and a port, and several ports of one protocol: `tcp/443`, `udp/137-138`.

use std::fmt;
use std::str::FromStr;

use psentry_records::Proto;
use psentry_stage::parse_ports;

/// A port of TCP or UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Service {
    /// [`Proto::Tcp`] or [`Proto::Udp`].
    pub proto: Proto,
    /// From 1 to 65535.
    pub port: u16,
}

/// A range of ports of TCP or UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Services {
    /// [`Proto::Tcp`] or [`Proto::Udp`].
    pub proto: Proto,
    /// The first port.
    pub first: u16,
    /// The last port; the first one again, if it is one port.
    pub last: u16,
}

/// Why a text names no ports.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a protocol and its ports, such as tcp/443 or udp/137-138")]
pub struct ServiceError(String);

impl Services {
    /// Whether that port is one of them.
    #[must_use]
    pub fn contain(self, service: Service) -> bool {
        self.proto == service.proto && (self.first..=self.last).contains(&service.port)
    }
}

impl FromStr for Services {
    type Err = ServiceError;

    fn from_str(text: &str) -> Result<Self, ServiceError> {
        // What is quoted in a message: a typing error, not a whole file.
        let wrong = || ServiceError(text.chars().take(40).collect());
        let (proto, ports) = text.split_once('/').ok_or_else(wrong)?;
        let proto = match proto {
            "tcp" => Proto::Tcp,
            "udp" => Proto::Udp,
            _ => return Err(wrong()),
        };
        match parse_ports(ports).map_err(|_| wrong())?.as_slice() {
            [range] => Ok(Services { proto, first: *range.start(), last: *range.end() }),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.proto.name().to_ascii_lowercase(), self.first)?;
        if self.last > self.first { write!(f, "-{}", self.last) } else { Ok(()) }
    }
}
