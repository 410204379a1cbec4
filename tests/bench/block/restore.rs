//! How long it takes until all stand again that are remembered, from the start of psentry-block; beside `nft -f` of the
//! same elements, which reads no journal, asks no guard and tells nobody: the floor.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::lab::{Lab, bin};
use crate::remembered::{Remembered, state};
use crate::{address, median};

/// How often each is done.
const ROUNDS: usize = 5;

/// How many elements `nft -f` gets at once.
const TOGETHER: usize = 1000;

pub(crate) fn measure(print: bool, older: Option<&Path>) {
    let lab = Lab::new();
    if print {
        println!("\n| restored | by | it took | times 'nft -f' of 1,000 at once |\n|---|---|---|---|");
    }
    for many in if print { &[10_000, 100_000][..] } else { &[100] } {
        let mut floor = Vec::new();
        let mut programs =
            vec![("psentry-block", Path::new(bin("psentry-block")), "journal.jsonl", Vec::new())];
        programs.extend(older.map(|older| ("an older one", older, "nft.jsonl", Vec::new())));
        for _ in 0..if print { ROUNDS } else { 1 } {
            for (_, program, file, times) in &mut programs {
                lab.guard.sh("nft flush ruleset");
                let state = state(file, *many);
                let remembered = Remembered::start(&lab, program, "nft", &state);
                assert_eq!(standing(&lab), *many as usize);
                times.push(remembered.took.as_secs_f64());
                drop(remembered);
            }
            lab.guard.sh("nft flush ruleset");
            floor.push(nft(&lab, *many).as_secs_f64());
            assert_eq!(standing(&lab), *many as usize);
        }
        let floor = median(&floor);
        for (name, _, _, times) in programs.iter().filter(|_| print) {
            let took = median(times);
            println!("| {many} | {name} | {:.0} ms | {:.1} |", took * 1e3, took / floor);
        }
    }
}

fn standing(lab: &Lab) -> usize {
    lab.guard.sh("nft list set inet psentry v4_32").matches(" expires ").count()
}

/// Files of so many, each a transaction: without root, the kernel takes no more at once.
fn nft(lab: &Lab, many: u32) -> Duration {
    let until = "comment \"bench until 2100-01-01T00:00:00Z\"";
    let elements: Vec<String> = (0..many).map(|n| format!("{} timeout 1d {until}", address(n))).collect();
    let ruleset = "add table inet psentry
        add set inet psentry v4_32 { type ipv4_addr; flags timeout; size 262144; }
        add chain inet psentry prerouting { type filter hook prerouting priority raw; }
        add rule inet psentry prerouting ip saddr @v4_32 counter drop";
    let parts = elements
        .chunks(TOGETHER)
        .map(|some| format!("add element inet psentry v4_32 {{ {} }}\n", some.join(", ")));
    let files = tempfile::tempdir().unwrap();
    for (n, text) in std::iter::once(ruleset.to_owned()).chain(parts).enumerate() {
        std::fs::write(files.path().join(format!("{n:04}")), text).unwrap();
    }
    let script = format!("for file in {}/*; do nft -f $file; done", files.path().display());
    let began = Instant::now();
    lab.guard.sh(&script);
    began.elapsed()
}
