//! What ordinary clients wait for at the veil: real programs connect to real services, without the trap, for the first time
//! with the veil, and once more; on a veth, and over 20 ms with 5 % loss. Then a poll each 10 s, which gives up after a while.
//!
//!     cargo bench --bench clients -- [--runs N] [--client NAME]...
//!
//! It takes root, nginx, postgresql, openssh-server, chromium, nodejs, curl, openssl and ethtool. Every service listens in
//! a namespace, and is gone with the benchmark.

// A benchmark may end at the first surprise.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[allow(dead_code, unreachable_pub, unused_imports)] // the tests use the rest of it
#[path = "../../lab/mod.rs"]
mod lab;
mod programs;
mod servers;
#[allow(dead_code)] // the disclosure benchmark uses the rest of it
#[path = "../disclosure/wire.rs"]
mod wire;

use std::env;
use std::thread;
use std::time::Instant;

use lab::{Lab, Program, bin, wait_until};
use programs::Client;
use servers::Servers;

/// Every port that is served.
const VEIL: &[&str] = &["--veil", "2222,5432,8080,8443", "--veil-own"];

/// The networks: a round trip in milliseconds, and of how many frames in a hundred one is lost.
const NETWORKS: [(u32, u32); 2] = [(0, 0), (20, 5)];

/// After how many seconds a poll gives up.
const POLLS: [f32; 3] = [1.0, 3.0, 10.0];

fn main() {
    let args: Vec<String> = env::args().skip(1).collect();
    // As a test (`cargo test --benches`) nothing is measured.
    if !args.iter().any(|arg| arg == "--bench") {
        return;
    }
    let all = |flag: &str| -> Vec<&String> {
        args.windows(2).filter(|pair| pair[0] == flag).map(|pair| &pair[1]).collect()
    };
    let runs: usize = all("--runs").last().map_or(10, |runs| runs.parse().expect("--runs takes a number"));
    let chosen = |client: &&Client| {
        all("--client").is_empty() || all("--client").iter().any(|name| **name == client.name)
    };
    let servers = Servers::prepare();
    println!("seconds: median of {runs} (worst); what fails is counted");
    println!("| client | network | without the veil | first connection | the next |");
    println!("|---|---|---|---|---|");
    for (delay, loss) in NETWORKS {
        let lab = Lab::new();
        let _relay = (delay > 0).then(|| wire::delay(&lab, delay, loss));
        let _running = servers.start(&lab);
        for client in Client::ALL.iter().filter(chosen) {
            let without: Vec<_> = (0..runs).map(|_| time(&lab, client, &servers)).collect();
            let (mut first, mut next) = (Vec::new(), Vec::new());
            for _ in 0..runs {
                let mut trap = veil(&lab);
                first.push(time(&lab, client, &servers));
                next.push(time(&lab, client, &servers));
                assert!(trap.terminate().0.success());
            }
            let network = if delay == 0 { "a veth".to_owned() } else { format!("{delay} ms, {loss} % loss") };
            let [without, first, next] = [without, first, next].map(spread);
            println!("| {} | {network} | {without} | {first} | {next} |", client.name);
        }
    }
    println!("| a poll each 10 s that gives up after | what it says in a minute |");
    println!("|---|---|");
    thread::scope(|scope| {
        let polls = POLLS.map(|patience| scope.spawn(move || poll(patience)));
        for (patience, said) in POLLS.iter().zip(polls) {
            println!("| {patience} s | {} |", said.join().unwrap());
        }
    });
}

/// The trap, to which everybody is a stranger.
fn veil(lab: &Lab) -> Program {
    // Whoever is connected when it starts is familiar.
    wait_until("nobody is connected", || {
        lab.guard.sh("ss -Htn state connected exclude time-wait").trim().is_empty()
    });
    let trap = Program::start(lab.guard.command(bin("psentry-trap")).args(VEIL));
    wait_until("the veil is there", || {
        lab.guard.ok(&["nft", "list", "chain", "inet", "psentry_trap", "veil"])
    });
    trap
}

/// How long a client took, unless it failed.
fn time(lab: &Lab, client: &Client, servers: &Servers) -> Option<f32> {
    let began = Instant::now();
    let output = lab.scanner.run(&["timeout", "30", "sh", "-ec", &client.line(servers.folder())]);
    let took = began.elapsed().as_secs_f32();
    let said = String::from_utf8_lossy(&output.stdout);
    let is_well = output.status.success() && said.contains(client.expects);
    eprintln!("{}: {} {took:.3}", client.name, if is_well { "got in after" } else { "failed after" });
    is_well.then(|| client.own_time(&said).unwrap_or(took))
}

/// What a poll with so many seconds of patience says of an HTTP server, in the first minute behind the veil.
fn poll(patience: f32) -> String {
    let lab = Lab::new();
    let _service = lab.service(8080);
    let _trap = veil(&lab);
    let script = "import socket, sys, time
for poll in range(6):
    began = time.monotonic()
    try:
        socket.create_connection((sys.argv[1], 8080), float(sys.argv[2])).close()
        print(f'up in {time.monotonic() - began:.2f} s', end='; ')
    except OSError as error:
        print(f'down: {error}', end='; ')
    if poll < 5: time.sleep(began + 10 - time.monotonic())";
    let said = lab.scanner.read(&["python3", "-c", script, lab::GUARD[0], &patience.to_string()]);
    said.trim_end_matches("; ").to_owned()
}

/// The median (of an even number the larger of the two in the middle), the largest behind it, and how many failed.
fn spread(all: Vec<Option<f32>>) -> String {
    let mut values: Vec<f32> = all.iter().flatten().copied().collect();
    values.sort_by(f32::total_cmp);
    let failed = all.len() - values.len();
    let Some(worst) = values.last() else { return format!("{failed} failed") };
    let figures = format!("{:.2} ({worst:.2})", values[values.len() / 2]);
    if failed == 0 { figures } else { format!("{figures}, {failed} failed") }
}
