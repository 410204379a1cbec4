//! What blocks cost the packets of those who are not blocked: connections, round trips and datagrams between an innocent
//! and a real service, with so many blocks on each backend. Each has a laboratory of its own, and all are measured in
//! turns. hosts.deny has no price for packets; a chain of iptables is linear, which is shown as far as it makes sense.

use std::io::Write;
use std::path::Path;
use std::process::ChildStdin;

use crate::lab::{GUARD, Lab, Program, bin, wait_until};
use crate::remembered::{Remembered, State, state};
use crate::visits::HELLO;
use crate::{CLIENT, SERVICE, median};

/// How often each is measured, and how much of it at a time.
const ROUNDS: usize = 30;
const VISITS: [(&str, usize); 3] = [("connection", 20), ("trip", 100), ("flood", 3000)];

const WAYS: [(&str, &[u32]); 4] = [
    ("nft", &[0, 1000, 10_000, 100_000]),
    ("ipset", &[0, 1000, 10_000, 100_000]),
    ("route", &[0, 1000, 10_000, 100_000]),
    ("iptables", &[0, 1000, 4000]),
];

/// One laboratory, and what was measured in it, in nanoseconds.
struct Way {
    name: String,
    client: Program,
    order: ChildStdin,
    measured: [Vec<f64>; 3],
    _remembered: Option<Remembered>,
    _state: State,
    _service: Program,
    _lab: Lab,
}

pub(crate) fn measure(print: bool) {
    let mut ways = vec![Way::new("nothing", "nft", None), Way::new("nothing, again", "nft", None)];
    for (backend, counts) in WAYS {
        for many in counts.iter().filter(|many| print || **many == 0) {
            ways.push(Way::new(&format!("{backend}, {many} blocks"), backend, Some(*many)));
        }
    }
    let rounds = if print { ROUNDS } else { 1 };
    for round in 0..rounds {
        // Nobody is always the first.
        for turn in 0..ways.len() {
            let way = (round + turn) % ways.len();
            ways[way].measure();
        }
    }
    if !print {
        return;
    }
    println!("\nmedians of {rounds} rounds in turns; client and service share one processor");
    println!(
        "| in the way | a connection, µs | ratio | a round trip, µs | ratio | datagrams a second | ratio |"
    );
    println!("|---|---|---|---|---|---|---|");
    let nothing = ways[0].medians();
    for way in &ways {
        let is = way.medians();
        println!(
            "| {} | {:.1} | {:.2} | {:.1} | {:.2} | {:.0} | {:.2} |",
            way.name,
            is[0] / 1e3,
            is[0] / nothing[0],
            is[1] / 1e3,
            is[1] / nothing[1],
            1e9 / is[2],
            nothing[2] / is[2]
        );
    }
}

impl Way {
    fn new(name: &str, backend: &str, many: Option<u32>) -> Self {
        let this = std::env::current_exe().unwrap();
        let this = this.to_str().unwrap();
        let lab = Lab::new();
        let service = Program::start(lab.guard.command(this).arg(SERVICE));
        wait_until("the service answers", || lab.innocent.reaches(GUARD[0], HELLO));
        let state = state("journal.jsonl", many.unwrap_or(0));
        let remembered =
            many.map(|_| Remembered::start(&lab, Path::new(bin("psentry-block")), backend, &state));
        let mut client = Program::start_fed(lab.innocent.command(this).arg(CLIENT));
        let order = client.stdin();
        let measured = Default::default();
        let name = name.to_owned();
        Way {
            name,
            client,
            order,
            measured,
            _remembered: remembered,
            _state: state,
            _service: service,
            _lab: lab,
        }
    }

    /// One round.
    fn measure(&mut self) {
        for ((what, many), into) in VISITS.iter().zip(&mut self.measured) {
            writeln!(self.order, "{what} {many}").unwrap();
            into.push(self.client.line(what, |_| true).parse().unwrap());
        }
    }

    fn medians(&self) -> [f64; 3] {
        [0, 1, 2].map(|n| median(&self.measured[n]))
    }
}
