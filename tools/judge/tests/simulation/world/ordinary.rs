//! What innocents do that was taken for a scan once: the last eleven rows of the table of innocents in `main.rs`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use psentry_records::{Class, Kind, Proto};

use super::{Touch, World};

impl World {
    /// What was taken for a scan once, and is none.
    pub(super) fn ordinary(
        &mut self,
        kind: usize,
        n: u32,
        start: u64,
        touch: &dyn Fn(u64, u16, Kind) -> Touch,
        touches: &mut Vec<Touch>,
    ) {
        const SECOND: u64 = 1_000_000;
        let stray = |touch: Touch| Touch { class: Some(Class::Stray), ..touch };
        match kind {
            7 => {
                let neighbours: [&[(u16, Kind)]; 4] = [
                    &[(443, Kind::Syn), (443, Kind::Udp)],
                    &[(853, Kind::Syn), (853, Kind::Udp)],
                    &[(995, Kind::Syn), (110, Kind::Syn)],
                    &[(5061, Kind::Syn)],
                ];
                for n in 0..self.between(1, 3) {
                    for (m, &(port, kind)) in self.of(&neighbours).iter().enumerate() {
                        touches.push(stray(touch(start + n * 60 * SECOND + m as u64 * 300_000, port, kind)));
                    }
                }
            }
            8 => {
                let ports = self.of(&[[9100, 9090], [9115, 9187]]);
                let both = self.one_in(3);
                for n in 0..120 {
                    let port = ports[if both { n as usize % 2 } else { 0 }];
                    touches.push(touch(start + n * 30 * SECOND, port, Kind::Syn));
                }
            }
            9 => {
                let ports = self.of(&[[5432, 6379, 8080], [3306, 11211, 9200], [80, 443, 5672]]);
                for n in 0..30u64 {
                    touches.push(stray(touch(start + n * SECOND / 3, ports[n as usize % 3], Kind::Syn)));
                }
            }
            10 => {
                let src_port = self.of(&[5432, 3306, 443, 5222, 6379, 9092]);
                for n in 0..self.between(2, 20) {
                    let port = self.between(32_768, 60_999) as u16;
                    for (m, kind) in [Kind::Other, Kind::Other, Kind::Maimon].into_iter().enumerate() {
                        let at = start + n * 10_000 + m as u64 * 2 * SECOND;
                        touches.push(stray(Touch { src_port, ..touch(at, port, kind) }));
                    }
                }
                touches.sort_by_key(|touch| touch.at);
            }
            11 => {
                let src_port = self.of(&[53, 123, 1900, 5353]);
                for n in 0..self.between(1, 5) {
                    let port = self.between(1024, 32_767) as u16;
                    touches.push(stray(Touch { src_port, ..touch(start + n * SECOND, port, Kind::Udp) }));
                }
                if src_port < 1024 {
                    for n in 0..self.between(1, 20) {
                        let port = self.between(32_768, 60_999) as u16;
                        let at = start + (10 + n) * SECOND;
                        touches.push(stray(Touch { src_port, ..touch(at, port, Kind::Udp) }));
                    }
                }
            }
            12 => {
                // A host that pings, a peer of tunnels, a router.
                let numbered =
                    |numbers: &[u8]| numbers.iter().map(|&number| Proto::from_number(number)).collect();
                let protos: Vec<Proto> = match self.below(4) {
                    0 => numbered(&[4, 41, 47, 50, 51]),
                    1 => numbered(&[2, 46, 88, 89, 103, 112, 115]),
                    _ => vec![self.of(&[Proto::Icmp, Proto::Icmpv6, Proto::Igmp, Proto::Other])],
                };
                for n in 0..self.between(9, 90) {
                    let proto = Some(self.of(&protos));
                    touches.push(Touch { proto, ..touch(start + n * 10 * SECOND, 0, Kind::Other) });
                }
            }
            13 => {
                for n in 0..self.between(1, 3) {
                    for (m, port) in [80, 443, 80, 443].into_iter().enumerate() {
                        touches.push(touch(start + n * 5 * SECOND + m as u64 * 200_000, port, Kind::Syn));
                    }
                }
            }
            14 => {
                let commands: [&[(u16, Kind)]; 4] = [
                    &[(445, Kind::Connect), (139, Kind::Connect), (137, Kind::Udp)],
                    &[(111, Kind::Connect), (111, Kind::Udp), (2049, Kind::Connect)],
                    &[(5061, Kind::Connect), (5060, Kind::Udp), (5060, Kind::Connect)],
                    &[(389, Kind::Connect), (636, Kind::Connect), (3268, Kind::Connect)],
                ];
                for (m, &(port, kind)) in self.of(&commands).iter().enumerate() {
                    touches.push(touch(start + m as u64 * 100_000, port, kind));
                }
            }
            15 => {
                for pc in 0..8u64 {
                    let src = IpAddr::from(Ipv4Addr::new(10, 1, (n % 250) as u8, 10 + pc as u8));
                    for (m, port) in [445, 135, 139].into_iter().enumerate() {
                        let at = start + pc * 60 * SECOND + m as u64 * SECOND;
                        touches.push(Touch { src, ..touch(at, port, Kind::Connect) });
                    }
                }
            }
            16 => {
                let src = IpAddr::from(Ipv4Addr::new(10, 88, (n % 250) as u8, 7));
                let ports = self.shuffled(&[9100, 5432, 6379, 9090, 3100]);
                for (m, port) in ports.into_iter().take(self.between(1, 5) as usize).enumerate() {
                    let at = start + m as u64 * SECOND;
                    touches.push(stray(Touch { src, ..touch(at, port, Kind::Connect) }));
                }
            }
            _ => {
                for m in 0..self.between(2, 60) {
                    let translated = 0x0064_ff9b_u128 << 96 | u128::from(n) << 8 | u128::from(m);
                    let src = IpAddr::from(Ipv6Addr::from(translated));
                    let at = start + m * 7 * SECOND;
                    self.slip(at, &|at, port, kind| Touch { src, ..touch(at, port, kind) }, touches);
                }
                touches.sort_by_key(|touch| touch.at);
            }
        }
    }
}
