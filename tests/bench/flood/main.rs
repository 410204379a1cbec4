//! A flood of SYNs to closed ports from forged sources, a hundred thousand or as many as said, and what becomes of a real service
//! meanwhile: how many of its clients' connections succeed and how long they take, how much memory the trap takes, and
//! whether its counters add up to what the interface received.
//!
//!     cargo bench --bench flood -- [--seconds N] [--rate PACKETS-A-SECOND] [--sources N] [--steer] [--older DIR]
//!
//! With --older the same is done before with the psentry-trap of DIR, to compare it with. Beyond 131,072 sources its
//! quarantine is full. disclosure has what a scanner learns meanwhile.
//!
//! Needs no root, only namespaces. Sender, kernel, trap and service share the processors of this machine, and the sender
//! pays for what the guard's kernel does; with --steer, which takes root, that is done on other processors than its own.

// A benchmark may end at the first surprise.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[allow(dead_code, unreachable_pub, unused_imports)] // the tests use the rest of it
#[path = "../../lab/mod.rs"]
mod lab;
mod sender;

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use lab::{GUARD, Lab, Program, bin, wait_until};

/// The arguments that make this program the sender, the service, and its client.
const SEND: &str = "--send";
const SERVICE: &str = "--service";
const CLIENT: &str = "--client";

/// The service.
const PORT: u16 = 8088;

/// How often the client tries.
const PACE: Duration = Duration::from_millis(10);

/// How long it waits before it gives a connection up. A SYN that is lost comes again after a second.
const PATIENCE: Duration = Duration::from_secs(3);

fn main() {
    let args: Vec<String> = env::args().skip(1).collect();
    let number = |flag: &str, default: u64| {
        let at = args.iter().position(|arg| arg == flag);
        at.map_or(default, |at| args[at + 1].parse().expect("a number"))
    };
    match args.first().map(String::as_str) {
        Some(SEND) => {
            sender::send(&args[1], number("--seconds", 1), number("--rate", 1), number("--sources", 1));
        }
        Some(SERVICE) => serve(),
        Some(CLIENT) => visit(Duration::from_secs(number("--seconds", 1))),
        // As a test (`cargo test --benches`) it only shows that it works.
        _ if !args.iter().any(|arg| arg == "--bench") => {
            flood(bin("psentry-trap"), &Flood { seconds: 1, rate: 1_000, sources: 1_000, steered: false });
        }
        _ => {
            let steered = args.iter().any(|arg| arg == "--steer");
            let (seconds, rate) = (number("--seconds", 20), number("--rate", 200_000));
            let sent = Flood { seconds, rate, sources: number("--sources", 100_000), steered };
            if let Some(at) = args.iter().position(|arg| arg == "--older") {
                println!("the older psentry-trap:");
                flood(&format!("{}/psentry-trap", args[at + 1]), &sent);
                println!("this one:");
            }
            flood(bin("psentry-trap"), &sent);
        }
    }
}

/// What is sent.
struct Flood {
    seconds: u64,
    rate: u64,
    sources: u64,
    steered: bool,
}

fn flood(program: &str, sent: &Flood) {
    let Flood { seconds, rate, sources, steered } = *sent;
    let lab = Lab::new();
    lab.guard.sh(&format!("ip route add {} dev scanner", sender::SOURCES));
    let this = env::current_exe().unwrap();
    let this = this.to_str().unwrap();
    if steered {
        steer(&lab);
    }
    let _service = Program::start(lab.guard.command(this).arg(SERVICE));
    wait_until("the service answers", || lab.innocent.reaches(GUARD[0], PORT));
    let shown = lab.guard.read(&["ip", "-o", "link", "show", "scanner"]);
    let to = shown.split_whitespace().skip_while(|word| *word != "link/ether").nth(1).unwrap().to_owned();
    // So that the sender's own measure is known, once without a trap: the kernel answers each packet by a reset.
    let sender = |seconds: u64| {
        let [seconds, rate, sources] = [seconds, rate, sources].map(|number| number.to_string());
        let args = [SEND, &to, "--seconds", &seconds, "--rate", &rate, "--sources", &sources];
        Program::start(lab.scanner.command(this).args(args))
    };
    let alone: u64 = sender(1).line("the sender", |_| true).parse().unwrap();
    println!("sent in a second without a trap: {alone}");
    let mut trap = Program::start(&mut lab.guard.command(program));
    wait_until("the trap stands", || lab.guard.ok(&["nft", "list", "table", "inet", "psentry_trap"]));
    let client = |seconds: u64| {
        let seconds = seconds.to_string();
        Program::start(lab.innocent.command(this).args([CLIENT, "--seconds", &seconds]))
    };
    println!("before the flood: {}", client(seconds.min(5)).line("the client", |_| true));
    let (memory, received) = (resident(trap.pid()), interface(&lab));
    let mut visitor = client(seconds);
    let mut sender = sender(seconds);
    let mut most = memory;
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(seconds) {
        thread::sleep(Duration::from_millis(200));
        most = most.max(resident(trap.pid()));
    }
    println!("in the flood: {}", visitor.line("the client", |_| true));
    let sent: u64 = sender.line("the sender", |_| true).parse().unwrap();
    let received = interface(&lab) - received;
    let listed = lab.guard.read(&["nft", "list", "set", "inet", "psentry_trap", "quarantine4"]);
    let (status, lines, errors) = trap.terminate();
    assert!(status.success(), "{errors:?}");
    let counters = counters(&lines);
    let of = |name: &str| counters.get(name).copied().unwrap_or(0);

    println!(
        "sent {sent}, {:.0} a second; received by the interface {received}",
        sent as f64 / seconds as f64
    );
    println!("resident memory, both processes: {memory} kB before, {most} kB at most");
    println!("in quarantine at the end: {}", listed.matches("expires").count());
    println!("counters: {counters:?}");
    // An older one had other names for them.
    if counters.contains_key("logged") {
        assert_eq!(of("seen"), of("logged") + of("over_source_rate") + of("over_rate"));
        assert_eq!(of("logged"), of("received") + of("kernel_drops"));
        assert_eq!(of("received"), of("probes") + of("duplicates") + of("unreadable"));
    }
    assert_eq!(of("refused"), of("seen"), "nothing was let through");
    println!(
        "received by the interface, but not seen by the trap, or otherwise: {}",
        received.abs_diff(of("seen"))
    );
    println!("sent, but not received, since the kernel's queue was full: {}", sent.saturating_sub(received));
    assert!(most < memory + 32 * 1024, "memory is not flat");
}

/// Lets all processors but the first, which is the sender's, do what the guard's kernel does with what arrives. Only real
/// root may say so, in a view of /sys that is the guard's.
fn steer(lab: &Lab) {
    let processors = thread::available_parallelism().unwrap().get().min(32);
    let queue = "/sys/class/net/scanner/queues/rx-0/rps_cpus";
    let script = format!("mount -t sysfs sysfs /sys; echo {:x} > {queue}", (1_u64 << processors) - 2);
    let network = format!("--net=/proc/{}/ns/net", lab.guard.pid());
    let mut steer = Command::new("nsenter");
    steer.args([&network, "unshare", "--mount", "sh", "-ec", &script]);
    assert!(processors > 1 && steer.status().unwrap().success(), "--steer takes root and a second processor");
}

/// How many packets came from the scanner's side.
fn interface(lab: &Lab) -> u64 {
    let shown = lab.guard.read(&["ip", "-s", "-o", "link", "show", "scanner"]);
    let received = shown.split_once("RX:").unwrap().1.split('\\').nth(1).unwrap();
    received.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Kilobytes of a process and its children.
fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let own = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let own: u64 = own.and_then(|size| size.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0);
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    own + children.split_whitespace().filter_map(|pid| pid.parse().ok()).map(resident).sum::<u64>()
}

/// The counters of the last `stats` record.
fn counters(lines: &[String]) -> BTreeMap<String, u64> {
    let stats = lines.iter().filter(|line| line.contains("\"event_type\":\"stats\""));
    let pairs = stats.flat_map(|line| line.split([',', '{', '}'])).filter_map(|pair| pair.split_once(':'));
    let pair = |(name, value): (&str, &str)| Some((name.trim_matches('"').to_owned(), value.parse().ok()?));
    pairs.filter_map(pair).collect()
}

/// Is the service, until killed.
fn serve() {
    for mut client in TcpListener::bind(("0.0.0.0", PORT)).unwrap().incoming().flatten() {
        let _ = client.write_all(b"hello\n");
    }
}

/// Is its client, and says how it fared.
fn visit(all: Duration) {
    let (began, mut failed, mut times) = (Instant::now(), 0, Vec::new());
    let guard = SocketAddr::from((GUARD[0].parse::<Ipv4Addr>().unwrap(), PORT));
    while began.elapsed() < all {
        let start = Instant::now();
        let hello = TcpStream::connect_timeout(&guard, PATIENCE).and_then(|mut stream| {
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.read_exact(&mut [0; 6])
        });
        match hello {
            Ok(()) => times.push(start.elapsed().as_secs_f64() * 1e3),
            Err(_) => failed += 1,
        }
        thread::sleep(PACE.saturating_sub(start.elapsed()));
    }
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    println!(
        "{} connections served, {failed} failed; ms: median {:.2}, 99 of 100 {:.2}, worst {:.2}",
        times.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
}
