//! Clocks that are wrong: a machine without one of its own, a wall clock that somebody sets, and one that was wrong for a while.
//! While psentry-block runs, ends go by the clock that nobody sets.

use std::process::ChildStdin;

use super::*;
use crate::lab::FakeClock;
use crate::lab::blocker::say_at;

const HOUR: u64 = 3600;

/// 1970, a minute after the machine was started.
fn to_1970() -> i64 {
    60 - i64::try_from(Timestamp::now().secs_ceil()).unwrap()
}

fn start_at(lab: &Lab, clock: &FakeClock, flags: &[&str]) -> (Program, ChildStdin) {
    let mut command = lab.guard.command(bin("psentry-block"));
    let mut block = Program::start_fed(command.args(flags).envs(clock.environment()));
    let stdin = block.stdin();
    (block, stdin)
}

/// How many seconds each scope has left on each backend, by the wall clock that is set; asked of the one that runs.
fn left(lab: &Lab, clock: &FakeClock) -> Vec<(String, String, i64)> {
    let mut command = lab.guard.command(bin("psentry-block"));
    let list = command.args(["list", "--json"]).envs(clock.environment()).output().unwrap();
    assert!(list.status.success(), "{list:?}");
    let now = clock.now().micros();
    let entry = |line: &str| {
        let Ok(Record::Outcome(outcome)) = Record::parse(line) else { panic!("{line}") };
        let until = outcome.body.until.unwrap().micros();
        (outcome.body.scope.to_string(), outcome.body.backend.unwrap(), (until - now) / 1_000_000)
    };
    String::from_utf8(list.stdout).unwrap().lines().map(entry).collect()
}

/// Waits until every backend has these, each with so much of its time left.
fn wait_for(lab: &Lab, clock: &FakeClock, wanted: &[(&str, u64)]) {
    wait_until(&format!("{wanted:?} are left"), || {
        let seen = left(lab, clock);
        println!("{seen:?}");
        let is_there = |scope: &str, rest: u64, backend: &str| {
            let rest = i64::try_from(rest).unwrap();
            seen.iter()
                .any(|(is, on, left)| is == scope && on == backend && (rest - 60..=rest + 3).contains(left))
        };
        let all = |backend| wanted.iter().all(|(scope, rest)| is_there(scope, *rest, backend));
        seen.len() == 2 * wanted.len() && all("nft") && all("route")
    });
}

/// What the kernel itself keeps of it: the longest rest of an element of nft, in seconds.
fn longest_in_kernel(lab: &Lab) -> u64 {
    let elements = "nft -j list set inet psentry v4_32 | jq '[.nftables[] | .set.elem // empty | .[].elem.expires] | max'";
    lab.guard.sh(elements).trim().parse().unwrap()
}

#[test]
fn a_machine_without_a_clock_of_its_own_goes_on_where_it_was() {
    let (state, mut clock) = (State::new(), FakeClock::new());
    let flags = state.flags(&["--backend", "nft", "--backend", "route"]);
    let (short, long, later) = ("203.0.113.6/32", "203.0.113.7/32", "203.0.113.8/32");
    let block_for = |block: &mut Program, stdin: &mut ChildStdin, now, scope, seconds| {
        say_at(stdin, now, Action::Block, scope, Some(seconds));
        for _ in 0..2 {
            assert_eq!(result(block, scope), OutcomeResult::Applied);
        }
    };
    let lab = Lab::new();
    let (mut block, mut stdin) = start_at(&lab, &clock, &flags);
    block_for(&mut block, &mut stdin, clock.now(), short, HOUR);
    block_for(&mut block, &mut stdin, clock.now(), long, 24 * HOUR);
    // Over, and told to be: no clock brings it back.
    say_at(&mut stdin, clock.now(), Action::Block, "203.0.113.9/32", Some(1));
    wait_until("it has ended", || result(&mut block, "203.0.113.9/32") == OutcomeResult::Expired);
    assert_eq!(result(&mut block, "203.0.113.9/32"), OutcomeResult::Expired);
    kill(&mut block);
    drop(lab);

    // The machine is started again, in 1970.
    clock.reboot();
    clock.set_ahead(to_1970());
    let lab = Lab::new();
    let (mut block, mut stdin) = start_at(&lab, &clock, &flags);
    assert_eq!(restored(&mut block), 2);
    wait_for(&lab, &clock, &[(short, HOUR), (long, 24 * HOUR)]);
    block_for(&mut block, &mut stdin, clock.now(), later, 2 * HOUR);
    // And so is psentry-block.
    kill(&mut block);
    let (mut block, _stdin) = start_at(&lab, &clock, &flags);
    assert_eq!(restored(&mut block), 3);
    wait_for(&lab, &clock, &[(short, HOUR), (later, 2 * HOUR), (long, 24 * HOUR)]);

    // Somebody sets the time, which is later than all that is written down.
    clock.set_ahead(1800);
    wait_for(&lab, &clock, &[(short, HOUR), (later, 2 * HOUR), (long, 24 * HOUR)]);
    assert!((24 * HOUR - 60..=24 * HOUR).contains(&longest_in_kernel(&lab)));
    kill(&mut block);
    let (mut block, mut stdin) = start_at(&lab, &clock, &flags);
    assert_eq!(restored(&mut block), 3);
    wait_for(&lab, &clock, &[(short, HOUR), (later, 2 * HOUR), (long, 24 * HOUR)]);

    // Time goes on, the fastest way: the machine sleeps.
    for (over, hours, rest) in [
        (short, 1, &[(later, HOUR), (long, 23 * HOUR)][..]),
        (later, 1, &[(long, 22 * HOUR)]),
        (long, 22, &[]),
    ] {
        clock.sleep(Duration::from_secs(hours * HOUR));
        // Something wakes it.
        say_at(&mut stdin, clock.now(), Action::Unblock, "192.0.2.200", None);
        for _ in 0..2 {
            assert_eq!(result(&mut block, over), OutcomeResult::Expired);
        }
        wait_for(&lab, &clock, rest);
    }
    assert!(!lab.guard.sh("nft list ruleset; ip route show type blackhole").contains("203.0.113."));
}

#[test]
fn a_step_of_the_wall_clock_moves_no_end() {
    let (state, lab, mut clock) = (State::new(), Lab::new(), FakeClock::new());
    let flags = state.flags(&["--backend", "nft", "--backend", "route"]);
    let (mut block, mut stdin) = start_at(&lab, &clock, &flags);
    let (mut scopes, day) = (vec![("203.0.113.7/32".to_owned(), 600)], 86_400);
    say_at(&mut stdin, clock.now(), Action::Block, &scopes[0].0, Some(600));
    for (soon, ahead) in (10..).zip([-day, 30 * day, -365 * day, to_1970(), 0]) {
        // One that ends soon: by the wall clock it would end much later, or at once.
        let scope = format!("203.0.113.{soon}/32");
        say_at(&mut stdin, clock.now(), Action::Block, &scope, Some(2));
        for _ in 0..2 {
            assert_eq!(result(&mut block, &scope), OutcomeResult::Applied);
        }
        clock.set_ahead(ahead);
        // What is blocked from now on has its whole time.
        let more = format!("203.0.113.{}/32", soon + 100);
        say_at(&mut stdin, clock.now(), Action::Block, &more, Some(1200));
        scopes.push((more, 1200));
        for _ in 0..2 {
            assert_eq!(result(&mut block, &scope), OutcomeResult::Expired);
        }
        let wanted: Vec<(&str, u64)> = scopes.iter().map(|(scope, left)| (&**scope, *left)).collect();
        wait_for(&lab, &clock, &wanted);
        assert!((1140..=1200).contains(&longest_in_kernel(&lab)), "{}", longest_in_kernel(&lab));
    }
    assert!(
        !block
            .said()
            .iter()
            .any(|line| line.contains("expired") && scopes.iter().any(|(scope, _)| line.contains(scope)))
    );
}

/// A wall clock that was a century ahead for a while, or behind, is not what a restart goes by.
#[test]
fn a_wall_clock_that_was_wrong_for_a_while_ends_nothing_at_the_next_start() {
    for wrong in [100 * 365 * 86_400, -400 * 86_400] {
        let (state, mut clock) = (State::new(), FakeClock::new());
        let flags = state.flags(&["--backend", "nft", "--backend", "route"]);
        let lab = Lab::new();
        let (mut block, mut stdin) = start_at(&lab, &clock, &flags);
        let scopes = ["203.0.113.6/32", "203.0.113.7/32", "203.0.113.8/32"];
        for (scope, ahead) in scopes.iter().zip([0, wrong, 0]) {
            clock.set_ahead(ahead);
            say_at(&mut stdin, clock.now(), Action::Block, scope, Some(600));
            for _ in 0..2 {
                assert_eq!(result(&mut block, scope), OutcomeResult::Applied);
            }
            // One that is released is the newest entry, too.
            say_at(&mut stdin, clock.now(), Action::Block, "203.0.113.9", Some(600));
            say_at(&mut stdin, clock.now(), Action::Unblock, "203.0.113.9", None);
            wait_until("it is released", || result(&mut block, "203.0.113.9/32") == OutcomeResult::Released);
        }
        let text = || std::fs::read_to_string(state.journal()).unwrap();
        let of_this_century = |line: &str| line.starts_with("{\"timestamp\":\"20");
        wait_until("what the wrong clock wrote is gone", || text().lines().all(of_this_century));
        kill(&mut block);
        drop(lab);
        let lab = Lab::new();
        clock.reboot();
        let (mut block, _stdin) = start_at(&lab, &clock, &flags);
        assert_eq!(restored(&mut block), 3);
        wait_for(&lab, &clock, &scopes.map(|scope| (scope, 600)));
    }
}

/// Written when the clock was ten days ahead, as after the loss of a battery: nobody is blocked for longer than that
/// verdict said. What was over by then is over.
#[test]
fn a_clock_that_was_set_back_prolongs_nothing() {
    let state = State::new();
    let line = |when: Timestamp, scope: &str| {
        format!(
            "{{\"timestamp\":\"{when}\",\"event_type\":\"verdict\",\
             \"verdict\":{{\"action\":\"block\",\"scope\":\"{scope}\",\"duration\":600}}}}\n"
        )
    };
    let now = Timestamp::now();
    let ahead = now.plus(Duration::from_secs(864_000));
    let past = Timestamp::from_secs(now.secs_ceil() - 601).unwrap();
    std::fs::write(state.journal(), [line(ahead, "203.0.113.7"), line(past, "203.0.113.8")].concat())
        .unwrap();
    let lab = Lab::new();
    let (mut block, _stdin) = start(&lab, &state.flags(&["--backend", "nft"]));
    assert_eq!(restored(&mut block), 1);
    let listed = listed(&lab, &["--backend", "nft"]);
    assert_eq!(listed.len(), 1);
    let left = listed[0].2.unwrap().since(now).as_secs();
    assert!((590..=660).contains(&left), "{left} s");
}
