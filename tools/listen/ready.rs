//! What is said once the decoys are open, on standard error and to systemd: how many ports there are, and where.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use psentry_records::Proto;
use psentry_stage::counted;

use crate::decoy::Decoy;
use crate::ports;

/// The longest list of ports or addresses that is shown; of a longer one only how many there are.
const LONGEST: usize = 100;

/// What a sentence needs to know of a decoy.
#[derive(Clone, Copy, Debug)]
struct Place {
    proto: Proto,
    local: SocketAddr,
    mirage: bool,
}

/// The sentence about these decoys.
pub(crate) fn sentence(decoys: &[Decoy]) -> String {
    let place = |decoy: &Decoy| match decoy {
        Decoy::Tcp(tcp) => Place { proto: Proto::Tcp, local: tcp.local, mirage: tcp.mirage },
        Decoy::Udp(udp) => Place { proto: Proto::Udp, local: udp.local, mirage: udp.mirage },
    };
    say(&decoys.iter().map(place).collect::<Vec<_>>())
}

fn say(places: &[Place]) -> String {
    let of = |proto, mirage| -> BTreeSet<u16> {
        let those = places.iter().filter(|place| place.proto == proto && place.mirage == mirage);
        those.map(|place| place.local.port()).collect()
    };
    let (tcp, udp) = (of(Proto::Tcp, false), of(Proto::Udp, false));
    let list = |proto: &str, ports: &BTreeSet<u16>| {
        let shown = Some(ports::list(ports)).filter(|shown| shown.len() <= LONGEST);
        (!ports.is_empty()).then(|| format!("{proto} {}", shown.unwrap_or_else(|| ports.len().to_string())))
    };
    let lists: Vec<String> = [list("TCP", &tcp), list("UDP", &udp)].into_iter().flatten().collect();
    let count = u64::try_from(tcp.len() + udp.len()).unwrap_or(u64::MAX);
    let mut parts = Vec::new();
    if count > 0 {
        let decoys = counted(count, "decoy port", "decoy ports");
        parts.push(format!("{decoys} ({}) on {}", lists.join("; "), addresses(places)));
    }
    let mirage: BTreeSet<u16> = of(Proto::Tcp, true).union(&of(Proto::Udp, true)).copied().collect();
    if !mirage.is_empty() {
        parts.push(format!("the mirage at port {}", ports::list(&mirage)));
    }
    parts.join(", and ")
}

/// Where the decoys are that are no mirage.
fn addresses(places: &[Place]) -> String {
    let decoys = places.iter().filter(|place| !place.mirage);
    let all: BTreeSet<IpAddr> = decoys.map(|place| place.local.ip()).collect();
    if all.iter().all(IpAddr::is_unspecified) {
        return "all addresses".to_owned();
    }
    let shown = all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if shown.len() <= LONGEST { shown } else { format!("{} addresses", all.len()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(proto: Proto, local: &str) -> Place {
        Place { proto, local: local.parse().unwrap(), mirage: false }
    }

    #[test]
    fn ports_are_counted_once_and_shown() {
        let [tcp, udp] = [Proto::Tcp, Proto::Udp];
        assert_eq!(say(&[place(tcp, "[::]:23")]), "1 decoy port (TCP 23) on all addresses");
        let both = [
            place(tcp, "127.0.0.1:21"),
            place(tcp, "[::1]:21"),
            place(tcp, "[::1]:22"),
            place(udp, "[::1]:69"),
        ];
        assert_eq!(say(&both), "3 decoy ports (TCP 21,22; UDP 69) on 127.0.0.1, ::1");
        let mirage = |proto| Place { mirage: true, ..place(proto, "[::]:61999") };
        assert_eq!(say(&[mirage(tcp), mirage(udp)]), "the mirage at port 61999");
        let beside = say(&[place(udp, "0.0.0.0:69"), mirage(tcp)]);
        assert_eq!(beside, "1 decoy port (UDP 69) on all addresses, and the mirage at port 61999");
    }

    #[test]
    fn a_long_list_is_only_counted() {
        let many: Vec<Place> =
            (0..300).map(|n| place(Proto::Tcp, &format!("192.0.2.{}:{}", n % 200, 1 + 2 * n))).collect();
        assert_eq!(say(&many), "300 decoy ports (TCP 300) on 200 addresses");
    }
}
