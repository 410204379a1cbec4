//! Which elements blocks are, and which blocks elements are.

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[test]
fn an_element_is_read_back() {
    let now = at("2026-11-22T15:04:05Z");
    let scope: Prefix = "2001:db8::/64".parse().unwrap();
    let read = |until: &str, left: u64| {
        let block = Block { until: Some(at(until)), rule: Some("fan".to_owned()), ..Block::default() };
        let NewElement { key, comment, .. } = new_element(((scope, None), &block), now);
        let element = Element { key: &key, left: Some(Duration::from_millis(left)), comment };
        entry(SetId::FIRST[1], &element, now).unwrap().1
    };
    let until = at("2026-11-22T15:14:05Z");
    let want = Entry::new(scope, Some(until), Some("fan".to_owned()));
    assert_eq!(read("2026-11-22T15:14:05Z", 599_400), want);
    // Where they disagree, the note says what was wanted.
    let until = at("2080-01-01T00:00:00Z");
    assert_eq!(read("2080-01-01T00:00:00Z", 599_400), Entry { until: Some(until), damaged: true, ..want });
}

#[test]
fn a_transaction_is_bounded_by_its_elements_and_never_empty() {
    let block = |ports: u16| Block { ports: (1..=ports).collect(), ..Block::default() };
    let scope: Prefix = "192.0.2.7".parse().unwrap();
    let fits = |blocks: &[(u16, Option<u16>)], most: usize| {
        let blocks: Vec<(Block, Option<Entry>)> =
            blocks.iter().map(|(new, old)| (block(*new), old.map(|old| block(old).entry(scope)))).collect();
        let puts: Vec<Put<'_>> =
            blocks.iter().map(|(block, was)| Put { scope, block, was: was.as_ref() }).collect();
        batches(&puts, most, Put::weight).iter().map(|batch| batch.len()).collect::<Vec<_>>()
    };
    assert_eq!(fits(&[(0, None); 3], 2), [2, 1]);
    // TCP and UDP of each port.
    assert_eq!(fits(&[(2, None), (1, None), (1, None)], 7), [2, 1]);
    assert_eq!(fits(&[(9, None), (0, None)], 2), [1, 1]);
    // And what they replace.
    assert_eq!(fits(&[(0, Some(2)), (0, Some(1)), (0, None)], 8), [2, 1]);
    assert!(fits(&[], 8).is_empty());
}

#[test]
fn an_element_that_is_replaced_by_itself_is_deleted_once() {
    let scope: Prefix = "192.0.2.7".parse().unwrap();
    let block = |ports: &[u16]| Block { ports: ports.to_vec(), ..Block::default() };
    let (old, new) = (block(&[22]).entry(scope), block(&[22, 53]));
    let puts = [Put { scope, block: &new, was: Some(&old) }];
    let now = Timestamp::now();
    let set = SetId::all(scope)[1];
    let keys = Keys::from([(
        set,
        [22, 53].iter().flat_map(|port| [6, 17].map(|t| (scope, Some((t, *port))))).collect(),
    )]);
    let mut want = delete_if_there(&keys);
    let added = Put::added(&puts);
    want.add(&set.name(), added[&set].iter().map(|added| new_element(*added, now)));
    assert_eq!(replace(Put::replaced(&puts), &added, now), want);
}

#[test]
fn no_transaction_is_longer_than_its_elements_allow() {
    let long = |ports: u16| Block {
        rule: Some("x".repeat(200)),
        since: Some(Timestamp::MAX),
        until: Some(Timestamp::MAX),
        ports: (0..ports).collect(),
        ..Block::default()
    };
    let (whole, one, many) = (long(0), long(1), long(120));
    // Of one set, and each of a set of its own.
    let near: Vec<Prefix> = (0..500).map(|n| format!("2001:db8:{n}::/64").parse().unwrap()).collect();
    let far: Vec<Prefix> = (1..=128).map(|len| format!("2001:db8::/{len}").parse().unwrap()).collect();
    for (scopes, block) in [(&near, &whole), (&near, &one), (&near, &many), (&far, &whole), (&far, &one)] {
        let was: Vec<Entry> =
            scopes.iter().map(|scope| Block { ports: Vec::new(), ..block.clone() }.entry(*scope)).collect();
        let puts: Vec<Put<'_>> = scopes
            .iter()
            .zip(&was)
            .map(|(scope, was)| Put { scope: *scope, block, was: Some(was) })
            .collect();
        let length = replace(Put::replaced(&puts), &Put::added(&puts), Timestamp::now()).length();
        let weight: usize = puts.iter().map(Put::weight).sum();
        assert!(length <= weight * BYTES, "{length} of {}", block.ports.len());
    }
}
