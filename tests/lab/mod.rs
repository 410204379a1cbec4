//! A throw-away network: a guard between a scanner and an innocent, each in a network namespace of its own, in a
//! user namespace in which we are root. Nothing here can touch the host's firewall, and all of it is gone when the
//! [`Lab`] is dropped, even when the test process is killed.
//!
//! ```text
//!  scanner 203.0.113.7 ───┐                          ┌─── innocent 192.0.2.8
//!  2001:db8:7::7          └── guard 198.51.100.1  ───┘    2001:db8:8::8
//!                               2001:db8:1::1
//! ```
//! The guard's addresses are on no link of the others, as on a real server: so the scanner's /64 is not the guard's.

pub mod blocker;
mod booted;
mod fake_clock;
mod host;
mod iptables;
mod notified;
mod program;
mod signals;
pub mod ssh;

pub use booted::Booted;
pub use fake_clock::FakeClock;
pub use host::Host;
pub use iptables::Iptables;
pub use notified::Notified;
pub use program::{DISK_WAIT, Program, WAIT, bin, complaints, wait_until, wait_until_within, without_stats};

/// The guard's addresses.
pub const GUARD: [&str; 2] = ["198.51.100.1", "2001:db8:1::1"];
/// The scanner's addresses.
pub const SCANNER: [&str; 2] = ["203.0.113.7", "2001:db8:7::7"];
/// The innocent's addresses.
pub const INNOCENT: [&str; 2] = ["192.0.2.8", "2001:db8:8::8"];

/// What the scanner is counted and blocked as.
pub const SCANNER_SCOPE: [&str; 2] = ["203.0.113.7/32", "2001:db8:7::/64"];

/// Three hosts.
pub struct Lab {
    pub scanner: Host,
    pub innocent: Host,
    pub guard: Host,
}

impl Lab {
    /// Makes them and their links.
    pub fn new() -> Self {
        let guard = Host::new_in_user_namespace();
        let [scanner, innocent] = [Host::new_beside(&guard), Host::new_beside(&guard)];
        guard.sh(&format!("ip address add {} dev lo; ip address add {} dev lo nodad", GUARD[0], GUARD[1]));
        for (name, host, [v4, v6], routers, link) in [
            ("scanner", &scanner, SCANNER, ["203.0.113.1", "fe80::1"], "02:00:00:00:07"),
            ("innocent", &innocent, INNOCENT, ["192.0.2.1", "fe80::1"], "02:00:00:00:08"),
        ] {
            // Both ends know each other's link address for good, as if a router stood between them: a blocked host would
            // not be answered when it asks for it.
            guard.sh(&format!(
                "ip link add {name} address {link}:01 type veth peer name eth0 address {link}:02 netns {pid}
                 ip address add {router4}/24 dev {name}
                 ip address add {router6}/64 dev {name} nodad
                 ip link set {name} up
                 ip route add {net6}/48 dev {name}
                 for host in {v4} {v6}; do ip neigh add $host lladdr {link}:02 dev {name}; done",
                pid = host.pid(),
                router4 = routers[0],
                router6 = routers[1],
                net6 = v6.rsplit_once("::").map(|(net, _)| format!("{net}::")).unwrap(),
            ));
            host.sh(&format!(
                "ip address add {v4}/24 dev eth0
                 ip address add {v6}/64 dev eth0 nodad
                 ip link set eth0 up
                 for router in {0} {1}; do ip neigh add $router lladdr {link}:01 dev eth0; done
                 ip route add default via {0}
                 ip -6 route add default via {1} dev eth0",
                routers[0], routers[1]
            ));
            // The kernel learns later that the other end is up.
            let are_up = |host: &Host| !host.sh("ip route; ip -6 route").contains("linkdown");
            wait_until("the link is up", || are_up(&guard) && are_up(host));
        }
        Lab { scanner, innocent, guard }
    }

    /// A real service on the guard, on all its addresses; it says hello and closes.
    pub fn service(&self, port: u16) -> Program {
        let service =
            self.guard.sends(&format!("TCP6-LISTEN:{port},ipv6only=0,reuseaddr,fork"), "/run/hello");
        wait_until("the service answers", || self.innocent.reaches(GUARD[0], port));
        service
    }
}
