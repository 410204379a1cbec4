//! Whatever happens, in whatever order: what stands in the kernel is what a simple model says. Random sequences of
//! verdicts, ends, damage, decisions by hand, commands, kills and restarts, on a real psentry-block in a namespace; after
//! each step what the kernel holds is compared with the model.
//!
//! A sequence that fails is made shorter, and printed as lines, with the seed. `PSENTRY_MODEL_SEED` repeats a run,
//! `PSENTRY_MODEL_TIMES` makes it so many times as long. What is not in it: ends that somebody shortens by hand, which
//! `heal.rs` shows, and damage to ipset and iptables while psentry-block runs, of which the kernel does not tell.

mod known;
mod others;
mod steps;
mod world;

use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

use self::world::{Ground, Run};

/// How many pieces of how many sequences on each backend.
const PIECES: [(&str, usize); 5] =
    [("nft", 15), ("route", 2), ("hosts-deny", 2), ("ipset", 1), ("iptables", 1)];
const PIECE: u32 = 10;

/// More than there are processors: much of the time is waiting for ends.
const WORKERS: usize = 6;

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}

/// Runs one piece; what failed, if something did.
fn piece(ground: &Ground, backend: &'static str, seed: u64) -> Result<(), String> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config {
        cases: PIECE,
        failure_persistence: None,
        max_shrink_iters: 200,
        max_shrink_time: 60_000,
        ..Config::default()
    };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let result = TestRunner::new_with_rng(config, rng).run(&steps::steps(), |steps| {
        let mut run = Run::new(ground, backend);
        steps
            .iter()
            .try_for_each(|step| run.step(step))
            .and_then(|()| run.close())
            .map_err(|why| TestCaseError::fail(format!("{why}\n{}", run.story())))
    });
    result.map_err(|why| format!("on {backend}: {why}"))
}

#[test]
fn whatever_happens_the_kernel_holds_what_the_model_says() {
    let seed = number("PSENTRY_MODEL_SEED", u64::from(std::process::id()) << 20);
    let times = number("PSENTRY_MODEL_TIMES", 1) as usize;
    let pieces = PIECES.iter().flat_map(|(backend, count)| vec![*backend; count * times]);
    let waiting = Mutex::new(pieces.zip(seed..).collect::<Vec<_>>());
    let failed = Mutex::new(Vec::new());
    let (began, total) = (Instant::now(), waiting.lock().unwrap().len() * PIECE as usize);
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                let ground = Ground::new();
                while failed.lock().unwrap().is_empty() {
                    let Some((backend, seed)) = waiting.lock().unwrap().pop() else { return };
                    if let Err(why) = piece(&ground, backend, seed) {
                        failed.lock().unwrap().push(why);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "PSENTRY_MODEL_SEED={seed}\n{}", failed.join("\n"));
    println!("{:>7.0?} {total} sequences, seed {seed}", began.elapsed());
}
