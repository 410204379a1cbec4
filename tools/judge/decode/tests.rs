//! The quick way beside the long one.

use proptest::prelude::*;

use super::*;

const LINE: &str = r#"{"timestamp":"2026-11-22T15:04:05.000001Z","event_type":"probe","host":"guard","src_ip":"203.0.113.7","src_port":40000,"dest_ip":"198.51.100.1","dest_port":23,"proto":"TCP","probe":{"sensor":"trap","kind":"syn","handshake":false,"signature":"masscan","class":"stray","quarantine":30,"count":3}}"#;

/// What the long way makes of a line.
fn long_way(line: &str) -> Option<Observation> {
    match Record::parse(line) {
        Ok(Record::Probe(probe)) => Observation::of(&probe),
        _ => None,
    }
}

#[test]
fn psentry_s_own_form_takes_the_quick_way() {
    let seen = fast(LINE).unwrap();
    assert_eq!(Some(seen), long_way(LINE));
    assert_eq!((seen.port, seen.count, seen.signature, seen.closed), (Some(23), 3, true, true));
    assert_eq!(seen.class, Some(psentry_records::Class::Stray));
    for cut in 0..LINE.len() {
        assert_eq!(fast(LINE.get(..cut).unwrap()), None);
    }
}

#[test]
fn what_a_sensor_writes_takes_it() {
    let Ok(Record::Probe(probe)) = Record::parse(LINE) else { panic!() };
    for (cookie, payload) in [(false, None), (true, Some("GET /".to_owned()))] {
        let mut probe = probe.clone();
        (probe.body.cookie, probe.body.veiled, probe.body.hidden) = (cookie, cookie, cookie);
        probe.body.payload = payload;
        let mut line = Vec::new();
        Record::Probe(probe.clone()).encode(&mut line).unwrap();
        assert_eq!(fast(std::str::from_utf8(&line).unwrap()), Observation::of(&probe));
    }
}

#[test]
fn times_are_those_of_the_calendar() {
    for text in [
        "1970-01-01T00:00:00.000000Z",
        "2000-02-29T23:59:59.999999Z",
        "2026-12-31T23:59:59.000000Z",
        "2024-03-01T00:00:00.000000Z",
        "9998-12-31T23:59:59.999999Z",
        "2100-02-28T12:00:00.000000Z",
        "2026-01-28T12:00:00.500000Z",
    ] {
        assert_eq!(timestamp(text), text.parse().ok(), "{text}");
        assert!(timestamp(text).is_some(), "{text}");
    }
    for text in ["2026-02-30T00:00:00.000000Z", "2026-13-01T00:00:00.000000Z", "1969-12-31T23:59:59.000000Z"]
    {
        assert_eq!(timestamp(text), None, "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn times_are_those_that_the_long_way_reads(micros in 0..=Timestamp::MAX.micros()) {
        let text = Timestamp::from_micros(micros).unwrap().to_string();
        prop_assert_eq!(timestamp(&text), text.parse().ok());
    }

    /// However a line is damaged, the quick way reads what the long one reads, or leaves it to that.
    #[test]
    fn the_quick_way_never_reads_anything_else(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..4u8, prop::sample::select(
            vec!["0", "1", "9", "-", ".", "\"", "\\", "{", "}", ",", ":", " ", "e", "t", "null", "é", "T", "65536",
                 "\"count\":2,", "\"kind\":\"fin\"", "chatter", "probe", "other", "47", "::ffff:", "\u{1}", "\r"])), 1..4),
    ) {
        let mut line = LINE.to_owned();
        for (at, how, text) in edits {
            let at = at.index(line.len());
            if !line.is_char_boundary(at) {
                continue;
            }
            match how {
                0 => line.insert_str(at, text),
                1 => { line.remove(at); }
                2 => { line.remove(at); line.insert_str(at, text); }
                _ => line.truncate(at.max(1)),
            }
            if line.is_empty() { line.push(' '); }
        }
        if let Some(seen) = fast(&line) {
            prop_assert_eq!(Some(seen), long_way(&line), "{}", line);
        }
    }
}
