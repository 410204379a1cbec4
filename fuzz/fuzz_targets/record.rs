//! Any bytes as a stream of records: the reader goes on to the end, the judge's quick way reads what the long one
//! reads, and judging it breaks no bound.

#![no_main]

use libfuzzer_sys::fuzz_target;
use psentry_judge::{Decoded, Observation, Policy, PolicyFlags, State, decode, step, step_observation};
use psentry_records::{Reader, Record};

fuzz_target!(|bytes: &[u8]| {
    let policy = Policy::from_flags(&PolicyFlags { max_sources: Some(16), ..PolicyFlags::default() }).unwrap();
    let mut state = State::new(policy.max_sources);
    let mut verdicts = Vec::new();
    let mut reader = Reader::new(bytes);
    while let Some(item) = reader.next_item().unwrap() {
        let Ok(record) = item.record else { continue };
        // What was read can be written, but for other tools' events and counters that fill more than a line, and read again.
        let mut line = Vec::new();
        if record.encode(&mut line).is_ok() {
            Record::parse(std::str::from_utf8(&line).unwrap()).unwrap();
        }
        step(&mut state, &policy, &record, &mut verdicts);
    }
    for line in bytes.split(|&byte| byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok()) {
        let Ok(Decoded::Probe(seen)) = decode(line) else { continue };
        let Ok(Record::Probe(probe)) = Record::parse(line) else { panic!("{line}") };
        assert_eq!(Some(seen), Observation::of(&probe));
        step_observation(&mut state, &policy, &seen, &mut verdicts);
    }
    assert!(state.sources.held() <= 16);
    for verdict in verdicts {
        let mut line = Vec::new();
        Record::Verdict(verdict).encode(&mut line).unwrap();
        Record::parse(std::str::from_utf8(&line).unwrap()).unwrap();
    }
});
