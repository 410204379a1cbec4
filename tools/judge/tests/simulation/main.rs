//! How often the judge is wrong: 100,000 innocent sources and 10,000 scanners meet it, and beside it the rules of its
//! peers with their documented parameters. Everything is drawn from one seed, so that the table is always the same;
//! `cargo test -p psentry-judge --test simulation -- --nocapture` prints it.
//!
//! The machine has a service on 12 of its ports. Decoys listen on 24 ports that people and programs try; to every other
//! port a packet is seen as one to a closed port, and psentry-trap says its class: a stray at the closed neighbours of those
//! services, and without a SYN. What innocents do, each source within 30 days:
//!
//! | share | innocents | what they do |
//! |---|---|---|
//! | 30 % | crawlers, link checkers | touch one decoy (8080, 8443, 8000, 8888) once, one in 50 of them a second one, days later |
//! | 15 % | people | mistype one port: a decoy with 1 in 3, else a closed one; the browser tries 1 to 3 times |
//! | 11 % | users of a service that restarts | 1 to 20 SYNs to the one port, one in 5 to two ports (80 and 443, 993 and 587) |
//! | 8 % | former peers | 1 to 4 late FIN+ACK or ACK to the service's port; one in 10 to two ports |
//! | 8 % | servers that this machine spoke to | 1 to 40 late packets, from 443 or 53, to as many ephemeral ports |
//! | 4 % | stale peers of a UDP service that has moved | 5 to 200 datagrams to one closed port |
//! | 1 % | NAT with 2 to 200 people | each person slips as above once in 400 days |
//! | 5 % | clients that try a neighbour of what is served first | 443, 853, 995, 110 or 5061, over TCP and UDP, one to three kinds of them within minutes |
//! | 3 % | monitors | poll one dead port, one in three of them two, every 30 s for an hour |
//! | 2 % | clients that come before the services | three ports, every second for ten seconds, all strays in the time of grace |
//! | 2 % | servers after a power loss | data and retransmissions for 2 to 20 connections, to ports of clients |
//! | 2 % | late replies | 1 to 5 datagrams from 53, 123, 1900 or 5353 to ports outside the clients' range, up to 20 inside it |
//! | 2 % | pings, neighbour discovery, IGMP, tunnels, routers | 9 to 90 packets without a port, of one to seven protocols |
//! | 2 % | clients of a machine with two addresses | 80 and 443 at both, one to three times, while both are down |
//! | 2 % | one command | smbclient, showmount, a telephone, a domain member: handshakes with all ports of a family |
//! | 1 % | eight PCs of the LAN | 445, 135 and 139 each, one after another, by handshake |
//! | 1 % | containers and guests | look for 1 to 5 services of their host |
//! | 1 % | many behind NAT64 | 2 to 60 translated addresses, each with a slip |
//!
//! What scanners do:
//!
//! | share | scanners | what they do |
//! |---|---|---|
//! | 25 % | nmap -sT | at -T3 and -T4 |
//! | 15 % | nmap -sS | at -T1 to -T4, and of all ports; decoys see a packet only |
//! | 5 % | nmap -sF, -sX, -sN, -sA | segments without a SYN |
//! | 5 % | nmap -sU | the likeliest 100 ports, by datagrams |
//! | 15 % | masscan | all ports at 1,000 a second, 7 at 10 a second, or a /24, 20 ports a host; with its signature |
//! | 20 % | Mirai-like | 23 nine times in ten, else 2323, by SYN, then 5555, 7547, 8080, 37215 |
//! | 5 % | port knockers and brute forcers | three to five fixed decoys in order, a second apart |
//! | 5 % | distributed | two ports each, by handshake, a minute apart |
//! | 3 % | slow | a port every 2 to 20 hours, by handshake, for 30 days |
//! | 2 % | nmap -sO | every protocol of IP once, in any order |
//!
//! nmap and masscan are recordings of real runs, each source one of them, of which the first 160 packets were kept
//! (`recorded/`; `recorded/record` makes them again). Hosts that refuse, that say nothing and that have services were
//! scanned; here packets to services are left out, because no sensor sees them. psad's levels 4 and 5, which ask for
//! 1,500 packets and more, convict nobody here, where a scan of all ports would reach them.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::cast_possible_truncation)]
#![allow(clippy::cast_precision_loss, unreachable_pub, missing_docs)]

mod peers;
mod recorded;
mod world;

use psentry_judge::machine::MachineFacts;
use psentry_judge::{Policy, PolicyFlags, State, step, step_observation};
use psentry_records::{Action, Common, Machine, Record, Stats, StatsBody, Timestamp};

use peers::{Crowdsec, Detector, PortSentry, Psad, Zeek};
use world::{Touch, World};

const INNOCENTS: u32 = 100_000;
const SCANNERS: u32 = 10_000;

/// psentry itself, with its defaults but for sweeps and the brake: the sources here are independent of each other.
struct Psentry {
    policy: Policy,
    state: State,
    machine: MachineFacts,
}

impl Detector for Psentry {
    fn see(&mut self, touch: &Touch) -> bool {
        let mut verdicts = Vec::new();
        step_observation(&mut self.state, &self.policy, &touch.observation(), &mut verdicts);
        // Who is only watched is not shut out.
        verdicts.iter().any(|verdict| verdict.body.action == Action::Block)
    }

    fn forget(&mut self) {
        self.state = State::new(64);
        self.state.machine = self.machine.clone();
    }

    fn sees_pings(&self) -> bool {
        true
    }
}

fn psentry() -> Box<dyn Detector> {
    let mut policy = Policy::from_flags(&PolicyFlags::default()).unwrap();
    (policy.sweep.sources, policy.brake.unproven) = (0, 0);
    let machine = Machine {
        own_networks: vec![world::LAN.parse().unwrap()],
        inside_networks: vec![world::INSIDE.parse().unwrap()],
        client_ports: (32_768, 60_999),
    };
    let body = StatsBody { machine: Some(machine), ..StatsBody::new("trap", []) };
    let stats = Record::Stats(Stats { common: Common::at(Timestamp::from_secs(1).unwrap()), body });
    let mut state = State::new(64);
    step(&mut state, &policy, &stats, &mut Vec::new());
    let machine = state.machine.clone();
    Box::new(Psentry { policy, state, machine })
}

/// What becomes of a kind of source under one detector.
#[derive(Clone, Debug, Default)]
struct Tally {
    sources: u32,
    convicted: u32,
    probes: Vec<u32>,
}

impl Tally {
    fn share(&self) -> f64 {
        f64::from(self.convicted) / f64::from(self.sources.max(1))
    }

    /// How many probes it took; none where nobody is convicted.
    fn median(&mut self) -> Option<u32> {
        self.probes.sort_unstable();
        self.probes.get(self.probes.len() / 2).copied()
    }
}

type Make = fn() -> Box<dyn Detector>;

/// The detectors, each as its makers document it.
const DETECTORS: [(&str, Make); 10] = [
    ("psentry", psentry),
    ("PortSentry 2, SCAN_TRIGGER=1", || Box::new(PortSentry { trigger: 1, seen: 0 })),
    ("PortSentry 2, SCAN_TRIGGER=5", || Box::new(PortSentry { trigger: 5, seen: 0 })),
    ("psad, danger level 1 (5 packets)", || Box::new(Psad::new(5))),
    ("psad, danger level 2 (15 packets)", || Box::new(Psad::new(15))),
    ("psad, danger level 3 (150 packets)", || Box::new(Psad::new(150))),
    ("psad, danger level 4 (1,500 packets)", || Box::new(Psad::new(1500))),
    ("psad, danger level 5 (10,000 packets)", || Box::new(Psad::new(10_000))),
    ("CrowdSec, 15 ports, leak 5 s", || Box::new(Crowdsec::default())),
    ("Zeek, 15 ports in 5 min", || Box::new(Zeek::default())),
];

/// Every source under a detector that knows only it, which is what tables by source do.
fn run(make: Make, sources: &[(usize, Vec<Touch>)], kinds: usize) -> Vec<Tally> {
    let mut tallies = vec![Tally::default(); kinds];
    let mut detector = make();
    for (kind, touches) in sources {
        detector.forget();
        let tally = &mut tallies[*kind];
        tally.sources += 1;
        let pings = detector.sees_pings();
        if let Some(at) =
            touches.iter().position(|touch| (pings || touch.proto.is_none()) && detector.see(touch))
        {
            tally.convicted += 1;
            tally.probes.push(at as u32 + 1);
        }
    }
    tallies
}

fn or_dash(median: Option<u32>) -> String {
    median.map_or_else(|| "-".to_owned(), |median| median.to_string())
}

fn together(tallies: &[Tally]) -> Tally {
    tallies.iter().fold(Tally::default(), |mut sum, tally| {
        sum.sources += tally.sources;
        sum.convicted += tally.convicted;
        sum.probes.extend_from_slice(&tally.probes);
        sum
    })
}

#[test]
fn innocents_are_left_alone_and_scanners_are_not() {
    let mut world = World::new(0x5eed);
    let innocents: Vec<_> = (0..INNOCENTS).map(|n| world.innocent(n)).collect();
    let scanners: Vec<_> = (0..SCANNERS).map(|n| world.scanner(n)).collect();
    println!("{:<38} {:>10} {:>10} {:>8}", "", "innocents", "scanners", "median");
    let mut rows = Vec::new();
    for (name, make) in DETECTORS {
        let wrong = run(make, &innocents, world::INNOCENTS.len());
        let right = run(make, &scanners, world::SCANNERS.len());
        let (all_wrong, mut all_right) = (together(&wrong), together(&right));
        let median = all_right.median();
        println!(
            "{name:<38} {:>9.3}% {:>9.2}% {:>8}",
            all_wrong.share() * 100.0,
            all_right.share() * 100.0,
            or_dash(median)
        );
        rows.push((all_wrong, all_right, median, wrong, right));
    }
    let (wrong, right, median, by_innocent, by_scanner) = rows.remove(0);
    let kinds: Vec<_> =
        world::INNOCENTS.iter().map(|(name, _)| *name).zip(by_innocent.iter().cloned()).skip(7).collect();
    for (kinds, tallies) in [(&world::INNOCENTS[..], by_innocent), (&world::SCANNERS[..], by_scanner)] {
        for ((name, _), mut tally) in kinds.iter().zip(tallies) {
            let (share, median) = (tally.share() * 100.0, tally.median());
            println!("    {name:<34} {:>7} {share:>9.3}% {:>8}", tally.sources, or_dash(median));
        }
    }
    // Ordinary behaviour that was taken for a scan once: it is spared as a kind, not on average.
    for (name, tally) in &kinds {
        assert!(tally.share() <= 0.001, "{name}: {} of {}", tally.convicted, tally.sources);
    }
    // alpha and beta, as the policy has them by default.
    assert!(wrong.share() <= 0.001, "{} innocents of {} convicted", wrong.convicted, wrong.sources);
    assert!(right.share() >= 0.99, "{} scanners of {} convicted", right.convicted, right.sources);
    assert!(median.is_some_and(|median| median <= 3), "{median:?} probes");
    // The table means something only where somebody does worse: a first touch convicts nearly everybody.
    assert!(rows[0].0.share() > 0.3 && rows.last().unwrap().1.share() < 0.9);
    // A level that needs more packets convicts no more, of either.
    let psad: Vec<_> =
        rows[2..7].iter().map(|(wrong, right, ..)| (wrong.convicted, right.convicted)).collect();
    assert!(psad.is_sorted_by(|lower, higher| lower.0 >= higher.0 && lower.1 >= higher.1), "{psad:?}");
}
