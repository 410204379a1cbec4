//! Whatever happens, in whatever order: what is in the kernel is what a simple model says. Random sequences of verdicts, ends,
//! damage, commands, kills and restarts, on a real psentry-block in a namespace, with one backend or several; after each step
//! what the kernel holds is compared with the model.
//!
//! A sequence that fails is made shorter, and printed as lines, with the seed. `PSENTRY_MODEL_SEED` repeats a run,
//! `PSENTRY_MODEL_TIMES` makes it so many times as long. What is not in it: ends that somebody changes on another backend than
//! nft while psentry-block runs, for nobody reports it and the manual promises nothing; more damage within a minute than is
//! repaired without a pause, which `repair.rs` shows; what others do to what commands of exec made; and ports and panics.
//!
//! | | |
//! |---|---|
//! | `known.rs` | the model: who is blocked, and until when |
//! | `steps.rs` | what may happen |
//! | `drift.rs` | what others do, as lines of shell |
//! | `world.rs` | a real psentry-block beside the model |

mod drift;
mod known;
mod steps;
mod world;

use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

use self::drift::Setting;
use self::world::{Run, Sandbox};

/// How many pieces of how many sequences on which backends.
const PIECES: [(Setting, usize); 10] = [
    (Setting::on(&["nft"]), 7),
    (Setting::on(&["route"]), 2),
    (Setting::on(&["hosts-deny"]), 1),
    (Setting::on(&["ipset"]), 2),
    (Setting::on(&["iptables"]), 2),
    (Setting::legacy(&["ipset"]), 1),
    (Setting::legacy(&["iptables"]), 1),
    (Setting::on(&["nft", "route", "hosts-deny"]), 2),
    (Setting::on(&["nft", "ipset", "iptables"]), 1),
    (Setting::on(&["exec", "route"]), 1),
];
const PIECE: u32 = 10;

/// More than there are processors: much of the time is waiting for ends.
const WORKERS: usize = 6;

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}

/// Runs one piece; what failed, if something did.
fn piece(setting: Setting, seed: u64) -> Result<(), String> {
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
    let sandbox = Sandbox::new(setting);
    let result = TestRunner::new_with_rng(config, rng).run(&steps::steps(), |steps| {
        let mut run = Run::new(&sandbox);
        steps
            .iter()
            .try_for_each(|step| run.step(step))
            .and_then(|()| run.close())
            .map_err(|why| TestCaseError::fail(format!("{why}\n{}", run.story())))
    });
    result.map_err(|why| format!("on {setting:?}: {why}"))
}

#[test]
fn whatever_happens_the_kernel_holds_what_the_model_says() {
    let seed = number("PSENTRY_MODEL_SEED", u64::from(std::process::id()) << 20);
    let times = number("PSENTRY_MODEL_TIMES", 1) as usize;
    let pieces = PIECES.iter().flat_map(|(setting, count)| vec![*setting; count * times]);
    let waiting = Mutex::new(pieces.zip(seed..).collect::<Vec<_>>());
    let failed = Mutex::new(Vec::new());
    let (began, total) = (Instant::now(), waiting.lock().unwrap().len() * PIECE as usize);
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while failed.lock().unwrap().is_empty() {
                    let Some((setting, seed)) = waiting.lock().unwrap().pop() else { return };
                    if let Err(why) = piece(setting, seed) {
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
