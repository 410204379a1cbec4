//! What a scanner learns before it is shut out: a guard with twenty real services, or with eight, scanned by nmap and masscan, with
//! nothing, PortSentry 1.2 and psentry between them. Needs no root: all of it happens in throw-away namespaces.
//!
//!     cargo bench --bench disclosure -- [--runs N] [--delay MS] [--guard NAME]... [--scan NAME]... [--older DIR]
//!
//! Scans that are aimed at services ask a few of the guards only. Two of the guards stand in a flood of forged packets meanwhile. With --older the programs psentry-trap, psentry-judge
//! and psentry-block of DIR guard as well, to compare with.
//!
//! For every guard and scan, the median of the runs (and the worst of them) of: services that the scanner learnt,
//! packets of the scanner that got past the firewall, and the time from its first packet to the first one dropped.
//! The guards take turns, so that what else the machine does falls on all of them; every run goes to standard error.
//! It needs nmap, masscan, tcpdump, python3 and ethtool; of Debian's portsentry it takes the package from where
//! `apt-get download` finds it, and unpacks it into a temporary directory.

// A benchmark may end at the first surprise.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod flood;
mod guards;
#[allow(dead_code, unreachable_pub, unused_imports)] // the tests use the rest of it
#[path = "../../lab/mod.rs"]
mod lab;
mod scans;
#[path = "../flood/sender.rs"]
mod sender;
mod services;
mod wire;

use std::env;
use std::path::Path;

use guards::Guard;
use lab::{GUARD, Lab, SCANNER};
use scans::Scan;
use wire::Wire;

fn main() {
    let args: Vec<String> = env::args().skip(1).collect();
    if args.first().is_some_and(|arg| arg == services::ARGUMENT) {
        return services::serve();
    }
    if args.first().is_some_and(|arg| arg == flood::ARGUMENT) {
        return flood::send();
    }
    // As a test (`cargo test --benches`) nothing is measured.
    if !args.iter().any(|arg| arg == "--bench") {
        return;
    }
    let all = |flag: &str| -> Vec<&String> {
        args.windows(2).filter(|pair| pair[0] == flag).map(|pair| &pair[1]).collect()
    };
    let runs: usize = all("--runs").last().map_or(10, |runs| runs.parse().expect("--runs takes a number"));
    let delay: u32 =
        all("--delay").last().map_or(0, |delay| delay.parse().expect("--delay takes milliseconds"));
    let every_guard = Guard::all(all("--older").last().map(Path::new));
    let chosen = |flag, name: &str| all(flag).is_empty() || all(flag).iter().any(|chosen| *chosen == name);

    println!(
        "round trip: {}",
        if delay == 0 { "as the cable has it".to_owned() } else { format!("{delay} ms") }
    );
    println!("| scan | guard | services learnt | packets let through | ms to the first drop |");
    println!("|---|---|---|---|---|");
    for scan in Scan::ALL.iter().filter(|scan| chosen("--scan", scan.name)) {
        let asked =
            |guard: &&Guard| chosen("--guard", &guard.name) && (scan.aims_at.is_empty() || guard.aimed_at);
        let guards: Vec<&Guard> = every_guard.iter().filter(asked).collect();
        let mut all_seen: Vec<Vec<Seen>> = guards.iter().map(|_| Vec::new()).collect();
        for run in 1..=runs {
            for (guard, seen) in guards.iter().zip(&mut all_seen) {
                let look = look(scan, guard, delay, run);
                eprintln!("run {run}, {}, {}: {look:?}", scan.name, guard.name);
                seen.push(look);
            }
        }
        for (guard, seen) in guards.iter().zip(&all_seen) {
            println!(
                "| {} | {} | {} of {} | {} | {} |",
                scan.name,
                guard.name,
                spread(seen.iter().map(|seen| seen.learnt as f64), 0),
                scan.asks_for(guard.services),
                spread(seen.iter().map(|seen| seen.passed as f64), 0),
                if seen.iter().all(|seen| seen.drop_ms.is_some()) {
                    spread(seen.iter().filter_map(|seen| seen.drop_ms), 2)
                } else {
                    let never = seen.iter().filter(|seen| seen.drop_ms.is_none()).count();
                    format!("never, {never} of {runs} times")
                },
            );
        }
        let median = |name: &str| {
            let at = guards.iter().position(|guard| guard.name == name)?;
            let mut learnt: Vec<usize> = all_seen[at].iter().map(|seen| seen.learnt).collect();
            learnt.sort_unstable();
            Some(learnt[learnt.len() / 2])
        };
        for flooded in guards.iter().filter(|guard| guard.flood > 0) {
            if let (Some(calm), Some(flood)) = (median(guards::TRAP), median(&flooded.name)) {
                let more = flood.saturating_sub(calm);
                eprintln!("{}, {}: {more} more than without (aim: at most 2)", scan.name, flooded.name);
            }
        }
    }
}

/// What one run showed.
#[derive(Debug)]
struct Seen {
    learnt: usize,
    passed: usize,
    drop_ms: Option<f64>,
}

/// One run, in a laboratory of its own.
fn look(scan: &Scan, guard: &Guard, delay: u32, run: usize) -> Seen {
    let lab = Lab::new();
    let _relay = (delay > 0).then(|| wire::delay(&lab, delay, 0));
    let _services = services::start(&lab, guard.services);
    let standing = guard.start(&lab);
    let flood = (guard.flood > 0).then(|| flood::start(&lab, guard.flood));
    let wire = Wire::tap(&lab, SCANNER[0]);
    let learnt = scan.run(&lab, GUARD[0], run);
    let (passed, drop_ms) = wire.read();
    drop(flood);
    drop(standing);
    Seen { learnt: guard.services.iter().filter(|port| learnt.contains(port)).count(), passed, drop_ms }
}

/// The median (of an even number the larger of the two in the middle), and the largest behind it.
fn spread(values: impl Iterator<Item = f64>, digits: usize) -> String {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let (median, worst) = (values[values.len() / 2], values[values.len() - 1]);
    format!("{median:.digits$} ({worst:.digits$})")
}
