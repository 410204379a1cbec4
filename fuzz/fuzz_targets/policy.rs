//! Any text as a policy: it is used or refused, and what is used can judge.

#![no_main]

use libfuzzer_sys::fuzz_target;
use psentry_judge::{Policy, State, step};
use psentry_records::Record;

const STORY: &str = include_str!("../seeds/record/probes");

fuzz_target!(|text: &str| {
    // Files that it names are not looked for.
    if text.contains("files") {
        return;
    }
    let Ok(policy) = Policy::from_text(text) else { return };
    let mut state = State::new(8);
    let mut verdicts = Vec::new();
    for line in STORY.lines() {
        step(&mut state, &policy, &Record::parse(line).unwrap(), &mut verdicts);
    }
});
