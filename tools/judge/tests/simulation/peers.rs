//! The peers' rules for one source, as their makers document them. None of them knows decoys: each sees every packet
//! that its sensor would.

use std::collections::BTreeSet;

use psentry_records::Kind;

use crate::world::Touch;

/// Something that convicts a source.
pub trait Detector {
    /// Sees a contact; whether it convicts.
    fn see(&mut self, touch: &Touch) -> bool;

    /// The next contact is of another source.
    fn forget(&mut self) {}

    /// Whether it is told of packets without a port.
    fn sees_pings(&self) -> bool {
        false
    }
}

/// PortSentry 2 in stealth mode: a counter per address that never expires (SCAN_TRIGGER). It leaves alone segments
/// with ACK.
pub struct PortSentry {
    pub trigger: u32,
    pub seen: u32,
}

impl Detector for PortSentry {
    fn see(&mut self, touch: &Touch) -> bool {
        self.seen += u32::from(!matches!(touch.kind, Kind::Ack | Kind::Maimon | Kind::Window));
        self.seen >= self.trigger
    }

    fn forget(&mut self) {
        self.seen = 0;
    }
}

/// psad: packets within SCAN_TIMEOUT of 3600 s from the scan's start, over at least two ports
/// (PORT_RANGE_SCAN_THRESHOLD 1), as many as DANGER_LEVEL1 to 5 ask for; IGNORE_CONNTRACK_BUG_PKTS leaves alone segments
/// with ACK. Signatures and reputation lists, which can only raise a level, are left out.
pub struct Psad {
    packets: u32,
    seen: u32,
    start: Option<u64>,
    ports: BTreeSet<u16>,
}

impl Psad {
    pub fn new(packets: u32) -> Self {
        Psad { packets, seen: 0, start: None, ports: BTreeSet::new() }
    }
}

impl Detector for Psad {
    fn see(&mut self, touch: &Touch) -> bool {
        if matches!(touch.kind, Kind::Ack | Kind::Maimon | Kind::Window) {
            return false;
        }
        if self.start.is_none_or(|start| touch.at - start > 3_600_000_000) {
            (self.start, self.seen) = (Some(touch.at), 0);
            self.ports.clear();
        }
        self.seen += 1;
        self.ports.insert(touch.port);
        self.seen >= self.packets && self.ports.len() >= 2
    }

    fn forget(&mut self) {
        *self = Psad::new(self.packets);
    }
}

/// CrowdSec's iptables-scan-multi_ports: a bucket of 15 distinct ports that leaks one every 5 s; the 16th overflows.
#[derive(Default)]
pub struct Crowdsec {
    ports: BTreeSet<u16>,
    level: f64,
    last: u64,
}

impl Detector for Crowdsec {
    fn see(&mut self, touch: &Touch) -> bool {
        self.level = (self.level - (touch.at - self.last) as f64 / 5e6).max(0.0);
        self.last = touch.at;
        if self.level <= 0.0 {
            self.ports.clear();
        }
        if self.ports.insert(touch.port) {
            self.level += 1.0;
        }
        self.level > 15.0
    }

    fn forget(&mut self) {
        *self = Crowdsec::default();
    }
}

/// Zeek's scan.zeek: 15 distinct ports on one host within 5 minutes of attempts that fail; an attempt begins with a
/// SYN or is a datagram.
#[derive(Default)]
pub struct Zeek {
    touches: Vec<(u64, u16)>,
}

impl Detector for Zeek {
    fn see(&mut self, touch: &Touch) -> bool {
        if !matches!(touch.kind, Kind::Connect | Kind::Syn | Kind::Udp) {
            return false;
        }
        self.touches.retain(|&(at, port)| touch.at - at <= 300_000_000 && port != touch.port);
        self.touches.push((touch.at, touch.port));
        self.touches.len() >= 15
    }

    fn forget(&mut self) {
        self.touches.clear();
    }
}
