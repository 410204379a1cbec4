//! Who comes by, and what he does: the tables of `main.rs`, drawn from a seed; nmap and masscan as they were recorded.

mod ordinary;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::LazyLock;

use psentry_judge::Observation;
use psentry_ports::{PortTable, Service};
use psentry_records::{Class, Kind, Proto, Timestamp};

use crate::recorded::Recorded;

/// Kinds of innocents, and how many of a hundred.
pub const INNOCENTS: [(&str, u32); 18] = [
    ("crawlers", 30),
    ("people who mistype", 15),
    ("users of a restarting service", 11),
    ("former peers", 8),
    ("servers spoken to", 8),
    ("stale UDP peers", 4),
    ("NAT with many people", 1),
    ("clients that try neighbours first", 5),
    ("monitors", 3),
    ("clients that come too early", 2),
    ("servers after a power loss", 2),
    ("late replies", 2),
    ("pings and the like", 2),
    ("clients of two addresses", 2),
    ("one command", 2),
    ("eight PCs of the LAN", 1),
    ("containers and guests", 1),
    ("many behind NAT64", 1),
];

/// The network in which the machine has an address.
pub const LAN: &str = "10.1.0.0/16";

/// The network behind it.
pub const INSIDE: &str = "10.88.0.0/16";

/// Kinds of scanners.
pub const SCANNERS: [(&str, u32); 10] = [
    ("nmap -sT", 25),
    ("nmap -sS", 15),
    ("nmap -sF -sX -sN -sA", 5),
    ("nmap -sU", 5),
    ("masscan", 15),
    ("Mirai-like", 20),
    ("port knockers", 5),
    ("distributed", 5),
    ("slow, over 30 days", 3),
    ("nmap -sO", 2),
];

/// Where decoys listen.
const DECOYS: [u16; 24] = [
    23, 2323, 445, 3389, 5900, 1433, 3306, 6379, 5555, 7547, 8080, 8443, 8000, 8888, 37215, 11211, 27017,
    9200, 5432, 2375, 139, 135, 21, 111,
];

/// Where services are: what a scan sends there no sensor sees.
const SERVICES: [u16; 12] = [22, 25, 53, 80, 143, 443, 465, 587, 993, 4190, 5060, 10_000];

/// The closed neighbours of these services.
static SIBLINGS: LazyLock<BTreeSet<Service>> = LazyLock::new(|| {
    let tcp = SERVICES.map(|port| Service { proto: Proto::Tcp, port });
    let udp = [53, 5060].map(|port| Service { proto: Proto::Udp, port });
    PortTable::builtin().siblings_of(&tcp.into_iter().chain(udp).collect())
});

const DAY: u64 = 86_400_000_000;

/// One contact.
#[derive(Clone, Copy, Debug)]
pub struct Touch {
    /// In microseconds.
    pub at: u64,
    pub src: IpAddr,
    pub src_port: u16,
    pub port: u16,
    pub kind: Kind,
    pub signature: bool,
    /// What the trap takes it for where the port and the kind do not say.
    pub class: Option<Class>,
    /// Of what has no port, the protocol.
    pub proto: Option<Proto>,
}

impl Touch {
    /// What the sensors of psentry make of it: a decoy completes a handshake where one is offered.
    pub fn observation(&self) -> Observation {
        // What the trap gave a class is no decoy's.
        let decoy = self.class.is_none()
            && (DECOYS.contains(&self.port) || self.kind == Kind::Udp && self.port < 512);
        let handshake = self.kind == Kind::Connect && decoy;
        let kind = if self.kind == Kind::Connect && !decoy { Kind::Syn } else { self.kind };
        let proto = if kind == Kind::Udp { Proto::Udp } else { Proto::Tcp };
        // As psentry-trap has it: a segment without a SYN, and the closed neighbours of what is served.
        let segment = matches!(kind, Kind::Ack | Kind::Maimon | Kind::Window | Kind::Fin);
        let stray = segment || SIBLINGS.contains(&Service { proto, port: self.port });
        let class = self.class.unwrap_or(if stray { Class::Stray } else { Class::Probe });
        Observation {
            at: Timestamp::from_micros(1_700_000_000_000_000 + i64::try_from(self.at).unwrap()).unwrap(),
            src: self.src,
            src_port: Some(self.src_port),
            host: 0,
            port: self.proto.is_none().then_some(self.port),
            proto: self.proto.unwrap_or(proto),
            kind,
            handshake,
            cookie: false,
            signature: self.signature,
            closed: !decoy,
            class: (!decoy).then_some(class),
            veiled: false,
            count: 1,
        }
    }
}

/// Chance (xorshift64*), an address for each, and what was recorded.
pub struct World {
    chance: u64,
    recorded: Recorded,
}

impl World {
    pub fn new(seed: u64) -> Self {
        World { chance: seed | 1, recorded: Recorded::read() }
    }

    fn next(&mut self) -> u64 {
        self.chance ^= self.chance >> 12;
        self.chance ^= self.chance << 25;
        self.chance ^= self.chance >> 27;
        self.chance.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    fn below(&mut self, most: u64) -> u64 {
        self.next() % most.max(1)
    }

    fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most - least + 1)
    }

    fn one_in(&mut self, most: u64) -> bool {
        self.below(most) == 0
    }

    fn of<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    fn kind(&mut self, kinds: &[(&str, u32)]) -> usize {
        let mut ball = self.below(100) as u32;
        kinds
            .iter()
            .position(|&(_, share)| ball.checked_sub(share).map(|rest| ball = rest).is_none())
            .unwrap_or(0)
    }

    fn shuffled(&mut self, ports: &[u16]) -> Vec<u16> {
        let mut ports = ports.to_vec();
        for last in (1..ports.len()).rev() {
            ports.swap(last, self.below(last as u64 + 1) as usize);
        }
        ports
    }

    /// An innocent source: its kind, and what it does, in order.
    pub fn innocent(&mut self, n: u32) -> (usize, Vec<Touch>) {
        let kind = self.kind(&INNOCENTS);
        let src = IpAddr::from(Ipv4Addr::from(0x2000_0000 + n * 7));
        let start = self.below(29 * DAY);
        let touch = |at: u64, port: u16, kind: Kind| Touch {
            at,
            src,
            src_port: 40_000,
            port,
            kind,
            signature: false,
            class: None,
            proto: None,
        };
        let mut touches = Vec::new();
        match kind {
            7.. => self.ordinary(kind, n, start, &touch, &mut touches),
            0 => {
                touches.push(touch(start, self.of(&[8080, 8443, 8000, 8888]), Kind::Connect));
                if self.one_in(50) {
                    let later = start + self.between(DAY / 4, 5 * DAY);
                    touches.push(touch(later, self.of(&[8080, 8443, 8000, 8888]), Kind::Connect));
                }
            }
            1 => self.slip(start, &touch, &mut touches),
            2 => {
                let ports = self.of(&[[80, 443], [993, 587]]);
                let both = self.one_in(5);
                for n in 0..self.between(1, 20) {
                    let port = ports[if both { n as usize % 2 } else { 0 }];
                    touches.push(touch(start + n * 1_000_000, port, Kind::Syn));
                }
            }
            3 => {
                let ports = self.of(&[[443, 80], [993, 587], [22, 443]]);
                let both = self.one_in(10);
                for n in 0..self.between(1, 4) {
                    let port = ports[if both { n as usize % 2 } else { 0 }];
                    touches.push(touch(start + n * 400_000, port, self.of(&[Kind::Maimon, Kind::Ack])));
                }
            }
            4 => {
                let udp = self.one_in(2);
                let (src_port, sent) = if udp { (53, Kind::Udp) } else { (443, Kind::Maimon) };
                for n in 0..self.between(1, 40) {
                    let port = self.between(32_768, 60_999) as u16;
                    touches.push(Touch { src_port, ..touch(start + n * 30_000_000, port, sent) });
                }
            }
            5 => {
                let port = self.of(&[51_413, 27_015, 1194, 4500]);
                for n in 0..self.between(5, 200) {
                    touches.push(touch(start + n * 10_000_000, port, Kind::Udp));
                }
            }
            _ => {
                let people = self.between(2, 200);
                for _ in 0..people {
                    // Once in 400 days, of which 30 are seen.
                    if self.below(400) < 30 {
                        let at = self.below(30 * DAY);
                        self.slip(at, &touch, &mut touches);
                    }
                }
                touches.sort_by_key(|touch| touch.at);
            }
        }
        (kind, touches)
    }

    /// Somebody mistypes a port.
    fn slip(&mut self, at: u64, touch: &dyn Fn(u64, u16, Kind) -> Touch, touches: &mut Vec<Touch>) {
        let decoy = self.one_in(3);
        let port = if decoy { self.of(&DECOYS) } else { self.between(1024, 20_000) as u16 };
        for n in 0..self.between(1, 3) {
            touches.push(touch(at + n * 1_000_000, port, Kind::Connect));
        }
    }

    /// A scanner: its kind, and what it does, in order.
    pub fn scanner(&mut self, n: u32) -> (usize, Vec<Touch>) {
        let kind = self.kind(&SCANNERS);
        let src = IpAddr::from(Ipv4Addr::from(0xb000_0000 + n * 7));
        let start = self.below(10 * DAY);
        let src_port = self.between(1024, 65_535) as u16;
        let touch = |at: u64, port: u16, kind: Kind| Touch {
            at,
            src,
            src_port,
            port,
            kind,
            signature: false,
            class: None,
            proto: None,
        };
        let mut touches = Vec::new();
        match kind {
            0..=4 => {
                let ball = self.next() as usize;
                let Recorded { connect, syn, flags, udp, masscan } = &self.recorded;
                let runs = [connect, syn, flags, udp, masscan][kind];
                let seen = runs[ball % runs.len()].iter().filter(|packet| !SERVICES.contains(&packet.port));
                touches.extend(seen.map(|packet| Touch {
                    signature: kind == 4,
                    ..touch(start + packet.after, packet.port, packet.kind)
                }));
            }
            5 => {
                for n in 0..10 {
                    let port = if self.one_in(10) { 2323 } else { 23 };
                    touches.push(touch(start + n * 2_000_000, port, Kind::Syn));
                }
                for (n, port) in [5555, 7547, 8080, 37_215].into_iter().enumerate() {
                    touches.push(touch(start + (20 + n as u64 * 3) * 1_000_000, port, Kind::Syn));
                }
            }
            6 => {
                let ports = self.shuffled(&DECOYS);
                for (n, port) in ports.into_iter().take(self.between(3, 5) as usize).enumerate() {
                    touches.push(touch(start + n as u64 * 1_000_000, port, Kind::Connect));
                }
            }
            7 => {
                for (n, port) in self.shuffled(&DECOYS).into_iter().take(2).enumerate() {
                    touches.push(touch(start + n as u64 * 60_000_000, port, Kind::Connect));
                }
            }
            9 => {
                let numbers: Vec<u16> = (0..=255).collect();
                for (n, number) in self.shuffled(&numbers).into_iter().enumerate() {
                    let proto = Some(Proto::from_number(number as u8));
                    touches.push(Touch { proto, ..touch(start + n as u64 * 20_000, 0, Kind::Other) });
                }
            }
            _ => {
                let mut at = start;
                for port in self.shuffled(&DECOYS) {
                    at += self.between(2, 20) * 3_600_000_000;
                    touches.push(touch(at, port, Kind::Connect));
                }
            }
        }
        (kind, touches)
    }
}
