//! What is drift and what is not, on messages as the kernel sends them.

use super::*;

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len() + 4).unwrap();
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn message(family: u8, attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![family, 0, 0, 0];
    attributes.iter().for_each(|(kind, value)| bytes.extend(self::attribute(*kind, value)));
    bytes
}

fn header(kind: u16) -> NetlinkHeader {
    let mut header = NetlinkHeader::default();
    header.message_type = (SUBSYSTEM << 8) | kind;
    header
}

/// A reader that gets these changes of a set of our table, in one transaction of nft's.
fn transaction(reader: &mut DriftReader, changes: &[(u16, &str)]) {
    for (kind, set) in changes {
        let set = format!("{set}\0");
        let about = [(TABLE_NAME, &b"psentry_trap\0"[..]), (SET_NAME, set.as_bytes())];
        reader.read(&header(*kind), &message(INET, &about));
    }
    let end = [(1, &[0, 0, 0, 9][..]), (PROCESS, &[0, 0, 18, 103]), (PROCESS_NAME, b"nft\0")];
    reader.read(&header(NEW_GENERATION), &message(0, &end));
}

fn reader() -> DriftReader {
    DriftReader::new(["allow4", "near4"].into())
}

#[test]
fn what_changes_the_rules_is_drift_and_its_author_is_named() {
    for (changes, deleted) in [
        (&[(DELETED_RULE, "")][..], false),
        (&[(NEW_RULE, "")], false),
        (&[(NEW_CHAIN, "")], false),
        (&[(NEW_TABLE, "")], false),
        (&[(DELETED_ELEMENTS, "near4")], false),
        (&[(NEW_ELEMENTS, "quarantine4"), (NEW_ELEMENTS, "allow4")], false),
        (&[(DELETED_RULE, ""), (DELETED_CHAIN, ""), (DELETED_TABLE, "")], true),
        // Made anew at once, but not by us.
        (&[(DELETED_TABLE, ""), (NEW_TABLE, "")], false),
    ] {
        let mut reader = reader();
        transaction(&mut reader, changes);
        let author = "'nft' (process 4711)".to_owned();
        let want = if deleted { Drift::Deleted(author) } else { Drift::Changed(author) };
        assert_eq!(
            (reader.is_pending(), reader.take(), reader.take()),
            (true, Some(want), None),
            "{changes:?}"
        );
    }
}

#[test]
fn what_the_rules_fill_and_other_tables_are_no_drift() {
    let mut reader = reader();
    transaction(&mut reader, &[(DELETED_ELEMENTS, "quarantine4"), (NEW_ELEMENTS, "served4"), (9, "mine")]);
    for (family, table) in [(INET, &b"psentry\0"[..]), (2, b"psentry_trap\0"), (INET, b"")] {
        reader.read(&header(DELETED_RULE), &message(family, &[(TABLE_NAME, table)]));
    }
    transaction(&mut reader, &[]);
    let mut other = header(DELETED_RULE);
    other.message_type = (1 << 8) | DELETED_RULE;
    reader.read(&other, &message(INET, &[(TABLE_NAME, b"psentry_trap\0")]));
    transaction(&mut reader, &[]);
    assert_eq!(reader.take(), None);
}

#[test]
fn our_own_transactions_are_no_drift_and_one_more_is() {
    let mut reader = reader();
    reader.expect_own(1);
    transaction(&mut reader, &[(NEW_ELEMENTS, "quarantine4")]);
    transaction(&mut reader, &[(NEW_ELEMENTS, "allow4")]);
    assert_eq!(reader.take(), None);
    transaction(&mut reader, &[(NEW_ELEMENTS, "allow4")]);
    assert!(reader.take().is_some());
    reader.expect_own(1);
    reader.expect_own(0);
    transaction(&mut reader, &[(NEW_RULE, "")]);
    assert!(reader.take().is_some());
}

#[test]
fn what_the_kernel_could_not_notify_of_may_be_anything() {
    let mut reader = reader();
    reader.expect_own(1);
    reader.lost();
    assert_eq!(reader.take(), Some(Drift::Unknown));
    transaction(&mut reader, &[(DELETED_RULE, "")]);
    assert!(matches!(reader.take(), Some(Drift::Changed(_))), "it is not taken for our own");
}

#[test]
fn repairs_are_made_at_once_until_somebody_insists() {
    let (mut pace, start) = (RepairPace::default(), Instant::now());
    for n in 0..5u32 {
        let now = start + n * Duration::from_secs(1);
        assert_eq!((pace.due(now), pace.is_contested(now)), (now + SETTLE, false));
        pace.repaired(now);
    }
    let last = start + Duration::from_secs(4);
    assert!(pace.is_contested(last));
    assert_eq!(pace.due(last), last + RepairPace::PATIENCE);
    pace.repaired(last + RepairPace::PATIENCE);
    // The first five were a minute ago.
    let later = last + MINUTE;
    assert_eq!((pace.due(later), pace.is_contested(later)), (later + SETTLE, false));
}

#[test]
fn no_message_is_too_odd() {
    let mut reader = reader();
    for kind in 0..30 {
        for length in 0..20 {
            reader.read(&header(kind), &vec![1; length]);
        }
    }
}
