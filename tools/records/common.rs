//! The fields that every record may have, beside the object that its type is named after.

use std::net::IpAddr;

use crate::{Proto, Timestamp};

/// The fields that all records share, named as Suricata's EVE JSON names them.
#[derive(Clone, Debug, PartialEq)]
pub struct Common {
    /// The moment, in UTC and microseconds.
    pub timestamp: Timestamp,
    /// The name of the machine that wrote the record first.
    pub host: Option<String>,
    /// The address that the record is about, where a contact came from.
    pub src_ip: Option<IpAddr>,
    /// Its port.
    pub src_port: Option<u16>,
    /// The address of this machine that was touched.
    pub dest_ip: Option<IpAddr>,
    /// The port that was touched.
    pub dest_port: Option<u16>,
    /// The transport of both ports.
    pub proto: Option<Proto>,
}

impl Common {
    /// A moment, and nothing else.
    #[must_use]
    pub fn at(timestamp: Timestamp) -> Self {
        Common {
            timestamp,
            host: None,
            src_ip: None,
            src_port: None,
            dest_ip: None,
            dest_port: None,
            proto: None,
        }
    }
}
