//! Any bytes as a state: it is read as far as it goes, and what was read can judge.

#![no_main]

use libfuzzer_sys::fuzz_target;
use psentry_judge::{Policy, PolicyFlags, State, journal, step};
use psentry_records::Record;

const STORY: &str = include_str!("../seeds/record/probes");

fuzz_target!(|bytes: &[u8]| {
    let mut state = State::new(8);
    journal::restore(bytes, &mut state).unwrap();
    assert!(state.sources.held() <= 8);
    let policy = Policy::from_flags(&PolicyFlags::default()).unwrap();
    let mut verdicts = Vec::new();
    for line in STORY.lines() {
        step(&mut state, &policy, &Record::parse(line).unwrap(), &mut verdicts);
    }
});
