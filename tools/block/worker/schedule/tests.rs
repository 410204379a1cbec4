//! The schedule against examples: when something is due, and what is told.

use super::*;

impl Schedule {
    fn next(&self) -> Option<Timestamp> {
        self.agenda().next().map(|(due, _)| due)
    }
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_secs(1_000_000 + seconds).unwrap()
}

fn block(until: Option<u64>) -> Block {
    Block { until: until.map(at), ..Block::default() }
}

fn scope() -> Prefix {
    "192.0.2.7".parse().unwrap()
}

#[test]
fn a_failure_is_tried_again_ever_later_until_its_time_is_over() {
    let mut schedule = Schedule::default();
    let mut now = 0;
    for wait in [1, 2, 4, 8, 16, 32, 60, 60] {
        schedule.fails(scope(), block(Some(1000)), None, at(now), "no");
        assert_eq!(schedule.next(), Some(at(now + wait)));
        now += wait;
        assert_eq!(schedule.due(at(now)), [scope()]);
    }
    schedule.fails(scope(), block(Some(now + 5)), None, at(now), "no");
    assert_eq!(schedule.next(), Some(at(now + 5)));
    assert!(schedule.get(scope()).unwrap().is_over(at(now + 5)));
}

#[test]
fn the_same_failure_is_told_once() {
    let mut schedule = Schedule::default();
    assert!(schedule.fails(scope(), block(None), None, at(0), "no"));
    assert!(!schedule.fails(scope(), block(None), None, at(1), "no"));
    assert!(schedule.fails(scope(), block(None), None, at(3), "never"));
}

#[test]
fn a_clock_that_is_set_back_holds_up_no_retry() {
    let mut schedule = Schedule::default();
    schedule.fails(scope(), block(None), None, at(5000), "no");
    schedule.set_back(at(4999));
    assert_eq!(schedule.next(), Some(at(4999)));
    schedule.fails(scope(), block(None), None, at(5000), "no");
    schedule.set_back(at(5001));
    assert_eq!(schedule.next(), Some(at(5002)));
}

#[test]
fn what_is_longer_than_the_kernel_can_be_told_is_renewed_half_way() {
    let mut schedule = Schedule::default();
    let longest = Some(Duration::from_secs(100));
    schedule.stands(scope(), block(Some(250)), None, at(0), longest);
    assert_eq!(schedule.next(), Some(at(50)));
    schedule.stands(scope(), block(Some(250)), None, at(150), longest);
    assert_eq!(schedule.next(), Some(at(250)));
    schedule.stands(scope(), block(None), None, at(0), longest);
    assert_eq!(schedule.next(), None);
}

#[test]
fn what_stood_before_an_extension_failed_is_not_forgotten() {
    let mut schedule = Schedule::default();
    schedule.stands(scope(), block(Some(10)), None, at(0), None);
    for now in [8, 9] {
        schedule.fails(scope(), block(Some(100)), None, at(now), "no");
    }
    assert_eq!(schedule.get(scope()).unwrap().stands(), Some(&block(Some(10))));
    assert_eq!(schedule.next(), Some(at(10)));
    assert!(schedule.get(scope()).unwrap().ends(at(10)));
    schedule.lapses(scope());
    assert_eq!((schedule.get(scope()).unwrap().stands(), schedule.next()), (None, Some(at(11))));
    assert!(!schedule.get(scope()).unwrap().ends(at(99)));
}

#[test]
fn the_last_renewal_comes_as_soon_as_the_rest_can_be_told() {
    let mut schedule = Schedule::default();
    schedule.stands(scope(), block(Some(110)), None, at(0), Some(Duration::from_secs(100)));
    assert_eq!(schedule.next(), Some(at(10)));
    schedule.stands(scope(), block(Some(110)), None, at(10), Some(Duration::from_secs(100)));
    assert_eq!(schedule.next(), Some(at(110)));
}

#[test]
fn a_plan_that_is_replaced_leaves_nothing_on_the_agenda() {
    let mut schedule = Schedule::default();
    schedule.stands(scope(), block(Some(10)), None, at(0), None);
    schedule.stands(scope(), block(Some(20)), None, at(0), None);
    schedule.stays(scope(), block(Some(20)), None, at(20));
    assert_eq!((schedule.due(at(20)), schedule.next()), (vec![], Some(at(21))));
    schedule.remove(scope());
    assert_eq!((schedule.next(), schedule.scopes()), (None, vec![]));
}

#[test]
fn what_was_let_in_is_forgotten_at_its_end_and_never_tried() {
    let mut schedule = Schedule::default();
    schedule.fails(scope(), block(Some(100)), None, at(0), "no");
    schedule.lets_in(scope());
    assert_eq!((schedule.next(), schedule.get(scope()).unwrap().stands()), (Some(at(100)), None));
    schedule.stands(scope(), block(None), None, at(0), None);
    schedule.lets_in(scope());
    schedule.set_back(at(0));
    assert_eq!(schedule.next(), None);
}
