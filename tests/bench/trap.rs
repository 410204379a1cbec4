//! What the trap costs those who use real services: how long a connection and a round trip take with nothing in the
//! way, with a rule that only asks for the state of connections, with the trap, and with thousands in quarantine. Each
//! has a laboratory of its own, and all are measured in turns in one run, so that the ratios stand on a noisy machine.
//! "Nothing, again" shows how much of a ratio is noise.
//!
//!     cargo bench --bench trap -- [--older DIR]
//!
//! With --older the psentry-trap of DIR is measured, too, to compare with. It needs no root, only namespaces.

// A benchmark may end at the first surprise.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[allow(dead_code, unreachable_pub, unused_imports)] // the tests use the rest of it
#[path = "../lab/mod.rs"]
mod lab;

use std::env;
use std::io::{self, BufRead, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::ChildStdin;
use std::thread;
use std::time::{Duration, Instant};

use lab::{GUARD, Lab, Program, bin, wait_until};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use socket2::SockRef;

/// How often each is measured, and how much of it at a time.
const ROUNDS: usize = 300;
const CONNECTIONS: usize = 40;
const TRIPS: usize = 200;

/// The arguments that make this program the service, and its client.
const SERVICE: &str = "--service";
const CLIENT: &str = "--client";

/// Where a service says hello and closes, and where one says everything again.
const HELLO: u16 = 8088;
const ECHO: u16 = 8089;

/// What may stand in the way, the flags of a trap, and how many sources are in which of its sets.
type WayOf = (&'static str, Option<&'static [&'static str]>, &'static str, u32);
const WAYS: [WayOf; 10] = [
    (NOTHING, None, "", 0),
    ("nothing, again", None, "", 0),
    (STATE, None, "", 0),
    (TRAP, Some(&[]), "", 0),
    ("psentry-trap --mirage", Some(&["--mirage", "61999"]), "", 0),
    ("psentry-trap, 10,000 in quarantine", Some(&[]), "quarantine4", 10_000),
    ("psentry-trap, 100,000 in quarantine", Some(&[]), "quarantine4", 100_000),
    ("psentry-trap --veil, a familiar client", Some(VEIL), "", 0),
    (FAMILIAR, Some(VEIL), "familiar4", 100_000),
    (OLDER, Some(&[]), "", 0),
];
/// Both services are behind the veil. The client is in a network of the guard's, and familiar with its first connection.
const VEIL: &[&str] = &["--veil", "8088-8089", "--veil-own"];
const FAMILIAR: &str = "psentry-trap --veil, one of 100,000 familiar";
const NOTHING: &str = "nothing";
const STATE: &str = "one rule, ct state established";
const TRAP: &str = "psentry-trap";
const OLDER: &str = "the older psentry-trap";

fn main() {
    let args: Vec<String> = env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some(SERVICE) => serve(),
        Some(CLIENT) => visit(),
        // As a test (`cargo test --benches`) each is looked at once, and nothing is printed.
        _ => {
            let older = args.iter().position(|arg| arg == "--older").map(|at| args[at + 1].as_str());
            measure(args.iter().any(|arg| arg == "--bench"), older);
        }
    }
}

/// One laboratory, and what was measured in it: a round's median each.
struct Way {
    name: &'static str,
    client: Program,
    order: ChildStdin,
    connection: Vec<f64>,
    trip: Vec<f64>,
    _running: Vec<Program>,
    _lab: Lab,
}

fn measure(print: bool, older: Option<&str>) {
    let older = older.map(|folder| format!("{folder}/psentry-trap"));
    let these = WAYS.iter().filter(|(name, ..)| *name != OLDER || older.is_some());
    let start = |(name, flags, set, many): &WayOf| {
        let program = older.as_deref().filter(|_| *name == OLDER).unwrap_or(bin("psentry-trap"));
        Way::new(name, flags.map(|flags| (program, flags)), set, *many)
    };
    let mut ways: Vec<Way> = these.map(start).collect();
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
    let nothing = [median(&ways[0].connection), median(&ways[0].trip)];
    println!("medians of {rounds} rounds in turns; client and service share one processor");
    println!("| in the way | a connection, µs | a second | ratio | a round trip, µs | ratio |");
    println!("|---|---|---|---|---|---|");
    for way in &ways {
        let [connection, trip] = [median(&way.connection), median(&way.trip)];
        println!(
            "| {} | {:.2} | {:.0} | {:.3} | {:.2} | {:.3} |",
            way.name,
            connection / 1e3,
            1e9 / connection,
            connection / nothing[0],
            trip / 1e3,
            trip / nothing[1]
        );
    }
    let named = |name| ways.iter().find(|way| way.name == name);
    for (what, one, other) in [
        ("psentry-trap beside the older one", TRAP, OLDER),
        ("a familiar client behind the veil beside psentry-trap without", FAMILIAR, TRAP),
    ] {
        let (Some(one), Some(other)) = (named(one), named(other)) else { continue };
        let ratio = |of: fn(&Way) -> &Vec<f64>| median(of(one)) / median(of(other));
        println!(
            "{what}: a connection {:.3}, a round trip {:.3} (aim: at most 1.01)",
            ratio(|way| &way.connection),
            ratio(|way| &way.trip)
        );
    }
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

impl Way {
    /// With the program and the flags of a trap.
    fn new(name: &'static str, trap: Option<(&str, &[&str])>, set: &str, many: u32) -> Self {
        let this = env::current_exe().unwrap();
        let this = this.to_str().unwrap();
        let lab = Lab::new();
        let mut running = vec![Program::start(lab.guard.command(this).arg(SERVICE))];
        wait_until("the service answers", || lab.innocent.reaches(GUARD[0], HELLO));
        if name == STATE {
            lab.guard.sh(
                "nft 'table inet state { chain c { type filter hook prerouting priority 0; ct state established accept; }; }'",
            );
        }
        if let Some((program, flags)) = trap {
            running.push(Program::start(lab.guard.command(program).args(flags)));
            wait_until("the trap stands", || lab.guard.ok(&["nft", "list", "table", "inet", "psentry_trap"]));
            fill(&lab, set, many);
        }
        let mut client = Program::start_fed(lab.innocent.command(this).arg(CLIENT));
        let order = client.stdin();
        Way { name, client, order, connection: Vec::new(), trip: Vec::new(), _running: running, _lab: lab }
    }

    /// One round.
    fn measure(&mut self) {
        for (what, many, into) in
            [("connection", CONNECTIONS, &mut self.connection), ("trip", TRIPS, &mut self.trip)]
        {
            writeln!(self.order, "{what} {many}").unwrap();
            into.push(self.client.line(what, |_| true).parse().unwrap());
        }
    }
}

/// Puts so many sources into a set, for as long as this takes.
fn fill(lab: &Lab, set: &str, many: u32) {
    let of = |n: u32| format!("10.{}.{}.{} timeout 1h", n >> 16, n >> 8 & 255, n & 255);
    let numbers: Vec<u32> = (0..many).collect();
    // More than that is too long a message, without root.
    for some in numbers.chunks(2_000) {
        let list = some.iter().map(|n| of(*n)).collect::<Vec<_>>().join(", ");
        let line = format!("add element inet psentry_trap {set} {{ {list} }}\n");
        let mut nft = Program::start_fed(lab.guard.command("nft").args(["-f", "-"]));
        nft.stdin().write_all(line.as_bytes()).unwrap();
        let (status, _, errors) = nft.end();
        assert!(status.success(), "{errors:?}");
    }
}

/// Keeps this process on one processor, the same for client and service: what counts is the work, not how soon another
/// processor wakes up.
fn pin() {
    let mut one = CpuSet::new();
    one.set(0).unwrap();
    sched_setaffinity(Pid::from_raw(0), &one).unwrap();
}

/// Is the service, until killed.
fn serve() {
    pin();
    let listen = |port| TcpListener::bind(("0.0.0.0", port)).unwrap();
    let (hello, echo) = (listen(HELLO), listen(ECHO));
    thread::spawn(move || {
        for mut client in echo.incoming().flatten() {
            client.set_nodelay(true).unwrap();
            thread::spawn(move || {
                let mut byte = [0];
                while client.read(&mut byte).is_ok_and(|got| got > 0) && client.write_all(&byte).is_ok() {}
            });
        }
    });
    for mut client in hello.incoming().flatten() {
        let _ = client.write_all(b"h");
    }
}

/// Is the client: for each line, `connection N` or `trip N`, does it N times, and says how many nanoseconds one of them
/// took, the median.
fn visit() {
    pin();
    let mut session = TcpStream::connect((GUARD[0], ECHO)).unwrap();
    session.set_nodelay(true).unwrap();
    for line in io::stdin().lock().lines() {
        let line = line.unwrap();
        let (what, many) = line.split_once(' ').unwrap();
        let times = (0..many.parse().unwrap()).map(|_| {
            let began = Instant::now();
            if what == "trip" {
                session.write_all(b"x").unwrap();
                session.read_exact(&mut [0]).unwrap();
            } else {
                connect();
            }
            began.elapsed().as_nanos() as f64
        });
        println!("{}", median(&times.collect::<Vec<_>>()));
        io::stdout().flush().unwrap();
    }
}

/// Connects, reads what the service says, and closes, by a reset: else the client would soon be out of ports.
fn connect() {
    let mut stream = TcpStream::connect((GUARD[0], HELLO)).unwrap();
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    stream.read_exact(&mut [0]).unwrap();
}
