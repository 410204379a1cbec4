//! Blocks of single ports: what another verdict adds, and what others take away.

use super::*;

fn some(ports: &[u16], until: Option<Timestamp>) -> Block {
    Block { ports: ports.to_vec(), ..block(until) }
}

impl Bench {
    fn ports(&self) -> Vec<u16> {
        self.fake.0.lock().unwrap().ports.get(&scope()).cloned().unwrap_or_default()
    }

    /// Somebody leaves these open, and does other damage.
    fn opens(&self, left: &[u16]) {
        let mut state = self.fake.0.lock().unwrap();
        state.ports.insert(scope(), left.to_vec());
        state.noticed.damaged = Some("somebody".to_owned());
    }
}

#[test]
fn what_a_verdict_adds_stands_with_the_rest_to_the_later_end() {
    let mut bench = bench(Left::default());
    let (long, short) = (from_now(600), from_now(60));
    bench.ask_for(some(&[22], long), None);
    bench.ask_for(some(&[23], short), Some(some(&[22, 23], long)));
    assert_eq!((bench.ports(), bench.stands()), (vec![22, 23], Some(long)));
    bench.ask_for(some(&[23], short), Some(some(&[22, 23], long)));
    let told: Vec<OutcomeResult> = bench.told().into_iter().map(|(result, _)| result).collect();
    assert_eq!(told, [OutcomeResult::Applied, OutcomeResult::Applied, OutcomeResult::Already]);
}

#[test]
fn who_was_let_in_by_hand_is_shut_out_of_no_more_than_the_new_verdict_says() {
    let mut bench = bench(Left::default());
    let (long, short) = (from_now(600), from_now(60));
    bench.ask_for(some(&[22], long), None);
    bench.fake.0.lock().unwrap().stands.clear();
    bench.ask_for(some(&[23], short), Some(some(&[22, 23], long)));
    assert_eq!((bench.ports(), bench.stands()), (vec![23], Some(short)));
    let found = Found { scope: scope(), was: some(&[22, 23], long), is: some(&[23], short) };
    assert_eq!(bench.worker.inbox.found(), [found]);
}

#[test]
fn a_port_that_somebody_opened_stays_open_and_a_block_without_its_ports_is_none() {
    let mut bench = bench(Left::default());
    let until = from_now(600);
    bench.ask_for(some(&[22, 23], until), None);
    bench.opens(&[23]);
    bench.worker.round(Vec::new());
    assert_eq!(bench.ports(), [23]);
    let found = Found { scope: scope(), was: some(&[22, 23], until), is: some(&[23], until) };
    assert_eq!(bench.worker.inbox.found(), [found]);
    // Another port in the place of ours.
    bench.opens(&[80]);
    while bench.ports() != [23] {
        thread::sleep(Duration::from_millis(20));
        bench.worker.round(Vec::new());
    }
    // Of whom all was shut, a port alone is not.
    bench.ask_for(some(&[], until), Some(some(&[], until)));
    bench.opens(&[80]);
    while !bench.ports().is_empty() {
        thread::sleep(Duration::from_millis(20));
        bench.worker.round(Vec::new());
    }
}

#[test]
fn who_opens_a_port_chose_to_whatever_is_damaged_later() {
    let mut bench = bench(Left::default());
    let until = from_now(600);
    bench.ask_for(some(&[22, 23], until), None);
    {
        let mut state = bench.fake.0.lock().unwrap();
        state.ports.insert(scope(), vec![23]);
        state.noticed.let_in = vec![(scope(), "'nft'".to_owned())];
    }
    bench.worker.round(Vec::new());
    let found = Found { scope: scope(), was: some(&[22, 23], until), is: some(&[23], until) };
    assert_eq!(bench.worker.inbox.found(), [found]);
    {
        let mut state = bench.fake.0.lock().unwrap();
        state.stands.clear();
        state.ports.clear();
        state.noticed.damaged = Some("somebody".to_owned());
    }
    bench.worker.round(Vec::new());
    assert_eq!(bench.ports(), [23]);
}

/// Brought back from a saved ruleset, for one.
#[test]
fn of_whom_ports_are_shut_not_all_is() {
    let mut bench = bench(Left::default());
    bench.ask_for(some(&[22], from_now(600)), None);
    bench.opens(&[]);
    bench.worker.round(Vec::new());
    assert_eq!(bench.ports(), [22]);
}

#[test]
fn what_another_psentry_block_shuts_beside_ours_is_added_and_what_it_shuts_anew_is_its_own() {
    let mut bench = bench(Left::default());
    let (long, short) = (from_now(600), from_now(60));
    bench.ask_for(some(&[22], long), None);
    let mut decides = |ports: &[u16], until| {
        let entry = Entry { ports: ports.to_vec(), ..Entry::new(scope(), until, None) };
        bench.fake.0.lock().unwrap().noticed.decided.insert(scope(), entry);
        bench.worker.round(Vec::new());
        let block = bench.worker.schedule.get(scope()).map(|plan| plan.block.clone()).unwrap();
        (block.ports, block.until)
    };
    assert_eq!(decides(&[23], short), (vec![22, 23], long));
    assert_eq!(decides(&[22, 23, 24], short), (vec![22, 23, 24], short));
    assert_eq!(decides(&[], long), (vec![], long));
    assert_eq!(decides(&[25], short), (vec![25], short));
}
