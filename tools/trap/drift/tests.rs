//! What belongs to the rules, and how soon they are repaired.

use super::*;

#[test]
fn what_the_rules_fill_themselves_is_no_drift() {
    let filled = ["allow4", "near4"].into();
    for object in [Object::Rule, Object::Chain, Object::Table { deleted: true }, Object::Elements("near4")] {
        assert!(is_of_the_rules(&filled, object), "{object:?}");
    }
    for object in [Object::Elements("quarantine4"), Object::Elements("served4"), Object::Other] {
        assert!(!is_of_the_rules(&filled, object), "{object:?}");
    }
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
