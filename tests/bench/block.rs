//! What a confirmed block costs: an element of nft's sets through psentry-block's backend, one by one and a hundred
//! together, against a process `nft add element` for each address. All in one run, in a network namespace of its
//! own, so that nothing on this machine is blocked and the ratio is fair.
//!
//! `cargo bench --bench block`; the last line is the ratio, which is to be at least 50.

#![allow(clippy::expect_used)] // a benchmark has nobody else to tell

use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use psentry_block::backend::{Backend, Block, Change, Wish};
use psentry_block::backends::nft::Nft;
use psentry_block::extent::Extent;
use psentry_records::{Prefix, Timestamp};

/// Says that this process is inside its namespace.
const INSIDE: &str = "PSENTRY_BENCH_INSIDE";

/// How many addresses are blocked one by one for the ratio, either way.
const ROUNDS: u32 = 300;

fn main() -> ExitCode {
    if std::env::var_os(INSIDE).is_some() {
        measure();
        return ExitCode::SUCCESS;
    }
    let namespace = ["--user", "--map-root-user", "--net", "--mount", "--"];
    let Ok(this) = std::env::current_exe() else { return ExitCode::FAILURE };
    let mut command = Command::new("unshare");
    command.args(namespace).arg(this).args(std::env::args_os().skip(1)).env(INSIDE, "1");
    eprintln!("unshare: {}", command.exec());
    ExitCode::FAILURE
}

fn measure() {
    let mut nft = Nft::open(Extent::default()).expect("netlink");
    nft.prepare().expect("nft, and a kernel with nf_tables");
    let mut next = 0;
    let mut criterion = Criterion::default().configure_from_args().measurement_time(Duration::from_secs(3));
    let mut group = criterion.benchmark_group("one confirmed nft element");
    group.throughput(Throughput::Elements(1));
    group.bench_function("backend, one by one", |b| b.iter(|| block(&mut nft, &mut next, 1)));
    group.throughput(Throughput::Elements(100));
    group.bench_function("backend, a hundred together", |b| b.iter(|| block(&mut nft, &mut next, 100)));
    group.throughput(Throughput::Elements(1));
    group.sample_size(20);
    group.bench_function("nft add element, a process each", |b| b.iter(|| fork(&mut next)));
    group.finish();

    let each = |work: &mut dyn FnMut()| {
        let started = Instant::now();
        (0..ROUNDS).for_each(|_| work());
        started.elapsed() / ROUNDS
    };
    let native = each(&mut || block(&mut nft, &mut next, 1));
    let together = each(&mut || block(&mut nft, &mut next, 100)) / 100;
    let forked = each(&mut || fork(&mut next));
    println!(
        "one by one {native:?}, a hundred together {together:?} each, a process each {forked:?}: {:.0} times faster",
        forked.as_secs_f64() / native.as_secs_f64()
    );
}

/// Blocks `count` more addresses, and insists on the confirmation.
fn block(nft: &mut Nft, next: &mut u32, count: u32) {
    let now = Timestamp::now();
    let until = Some(now.plus(Duration::from_secs(60)));
    let change = |_| {
        let block = Block { until, rule: Some("bench".to_owned()), ..Block::default() };
        Change { scope: Prefix::host(address(next).into()), wish: Wish::Block(block) }
    };
    let changes: Vec<Change> = (0..count).map(change).collect();
    for effect in nft.apply(&changes, now) {
        effect.expect("a confirmed element");
    }
}

/// The same by a process.
fn fork(next: &mut u32) {
    let element = format!("{{ {} timeout 60s comment \"bench\" }}", address(next));
    let status = Command::new("nft")
        .args(["add", "element", "inet", "psentry", "v4_32", &element])
        .stdout(Stdio::null())
        .status()
        .expect("nft");
    assert!(status.success());
}

/// The next address of 10.0.0.0/8. The set holds 262144; a window of half of that is refreshed over and over.
fn address(next: &mut u32) -> Ipv4Addr {
    *next = (*next + 1) % 131_072;
    Ipv4Addr::from(0x0a00_0000 + *next)
}
