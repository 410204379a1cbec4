//! The bound, who is forgotten first, and that the journal's view is the table's.

use std::collections::BTreeMap;

use proptest::prelude::*;
use psentry_records::{Kind, Proto, Timestamp};

use super::*;
use crate::evidence::Classes;
use crate::memory::Conviction;
use crate::observation::Observation;
use crate::policy::Retention;

fn scope(n: u32) -> Prefix {
    Prefix::host(std::net::Ipv4Addr::from(0x0a00_0000 + n).into())
}

fn seen(n: u32, port: u16, handshake: bool) -> Observation {
    Observation {
        at: Timestamp::from_secs(1_700_000_000).unwrap(),
        src: scope(n).addr(),
        src_port: None,
        host: 0,
        port: Some(port),
        proto: Proto::Tcp,
        kind: Kind::Connect,
        handshake,
        cookie: false,
        signature: false,
        closed: false,
        class: None,
        veiled: false,
        count: 1,
    }
}

fn touch(table: &mut Table, n: u32, port: u16, handshake: bool) {
    let families = crate::policy::Families::default();
    let day = std::time::Duration::from_secs(86_400);
    let (seen, retention) = (
        seen(n, port, handshake),
        Retention { max_contacts: 32, keep: day, window: day, touches: 0, families: &families },
    );
    table.update(scope(n), |source| source.add(&seen, seen.at, Classes::default(), retention));
}

fn order(table: &Table) -> Vec<Prefix> {
    table.oldest_first().map(|(scope, _)| scope).collect()
}

#[test]
fn a_slot_is_as_small_as_the_manual_says() {
    assert_eq!(size_of::<Slot>(), 96);
}

#[test]
fn a_flood_of_forged_sources_leaves_those_with_handshakes() {
    let mut table = Table::new(100);
    touch(&mut table, 1, 23, true);
    (100..5000).for_each(|n| touch(&mut table, n, 23, false));
    assert_eq!((table.held(), table.evicted()), (100, 4801));
    assert!(table.peek(scope(1)).is_some());
    assert!(table.peek(scope(4999)).is_some() && table.peek(scope(4900)).is_none());
}

#[test]
fn those_with_handshakes_leave_room_for_others_and_push_out_their_own_oldest() {
    let mut table = Table::new(80);
    (0..1000).for_each(|n| touch(&mut table, n, 23, true));
    assert_eq!(table.held(), 80);
    assert!(table.peek(scope(999)).is_some() && table.peek(scope(900)).is_none());
    touch(&mut table, 5000, 23, false);
    touch(&mut table, 5001, 23, false);
    assert!(table.peek(scope(5000)).is_some(), "a newcomer does not push out the newcomer before it");
}

#[test]
fn whom_handshakes_convicted_one_handshake_of_many_does_not_push_out() {
    let convict = |table: &mut Table, n: u32| {
        let until = Timestamp::from_secs(1_700_003_600).unwrap();
        table
            .update(scope(n), |source| source.convict(until, Conviction { proven: true, watch_only: false }));
    };
    let mut table = Table::new(80);
    convict(&mut table, 1);
    (100..5000).for_each(|n| touch(&mut table, n, 23, true));
    (5000..9000).for_each(|n| touch(&mut table, n, 23, false));
    assert!(table.peek(scope(1)).is_some_and(|source| source.offences() == 1));
    // Nor do those who were convicted take all the room.
    (10_000..11_000).for_each(|n| convict(&mut table, n));
    (0..8).for_each(|n| touch(&mut table, 20_000 + n, 23, true));
    (0..8).for_each(|n| touch(&mut table, 30_000 + n, 23, false));
    (11_000..12_000).for_each(|n| convict(&mut table, n));
    assert_eq!(table.held(), 80);
    for newcomer in [20_000, 30_000] {
        assert!((newcomer..newcomer + 8).all(|n| table.peek(scope(n)).is_some()), "{newcomer}");
    }
}

#[test]
fn many_ports_of_few_sources_are_bounded_too() {
    let mut table = Table::new(100);
    for n in 0..100 {
        (0..32).for_each(|port| touch(&mut table, n, port, false));
    }
    assert!(table.spilled <= 100 * SPILL + 32, "{}", table.spilled);
    assert!(table.held() < 100);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Beside a plain model: who is held, in which order; and a second table that is fed by the changes only.
    #[test]
    fn it_holds_what_a_plain_model_holds(
        touches in prop::collection::vec((0..40u32, 0..6u16, any::<bool>(), prop::bool::weighted(0.1)), 0..300),
    ) {
        let mut table = Table::new(10);
        table.keep_journal();
        let mut copy = Table::new(10);
        let mut model: Vec<(u32, bool)> = Vec::new();
        for (n, port, handshake, flush) in touches {
            let known = model.iter().position(|&(held, _)| held == n).map(|at| model.remove(at).1);
            if known.is_none() && model.len() >= 10 {
                let proven = model.iter().filter(|(_, known)| *known).count();
                let oldest = model.iter().position(|&(_, known)| !known).filter(|_| proven <= 9);
                model.remove(oldest.unwrap_or_else(|| model.iter().position(|&(_, known)| known).unwrap()));
            }
            model.push((n, known.unwrap_or(false) || handshake));
            touch(&mut table, n, port, handshake);
            if flush {
                let copied = table.drain_changes(|scope, source| {
                    match source {
                        Some(source) => copy.restore(scope, source.clone()),
                        None => copy.remove(scope),
                    }
                    Ok::<(), ()>(())
                });
                prop_assert_eq!(copied, Ok(()));
                prop_assert_eq!(order(&copy), order(&table));
            }
            let want: Vec<Prefix> = [false, true]
                .into_iter()
                .flat_map(|class| model.iter().filter(move |(_, known)| *known == class))
                .map(|&(n, _)| scope(n))
                .collect();
            prop_assert_eq!(order(&table), want);
            let found: BTreeMap<Prefix, bool> =
                (0..40).map(scope).map(|scope| (scope, table.peek(scope).is_some())).collect();
            prop_assert_eq!(found.values().filter(|&&found| found).count(), model.len());
        }
    }
}
