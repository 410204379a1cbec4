//! A memory that is torn, full, read-only, kept by another, from another time or too large costs no block but its own,
//! and is told of.

use super::*;

/// Remembers some blocks and is killed.
fn remembering(state: &State, scopes: &[&str]) {
    let lab = Lab::new();
    let (mut block, mut stdin) = start(&lab, &state.flags(&["--backend", "nft"]));
    for scope in scopes {
        say(&mut stdin, Action::Block, scope, Some(600));
        assert_eq!(result(&mut block, scope), OutcomeResult::Applied);
    }
    kill(&mut block);
}

/// Starts after a reboot; whom it shuts out once it has put back what it remembers.
fn back(state: &State) -> Vec<String> {
    let lab = Lab::new();
    let (mut block, mut stdin) = start(&lab, &state.flags(&["--backend", "nft"]));
    let put_back = block.complaint("put back");
    println!("{put_back}");
    say(&mut stdin, Action::Unblock, "192.0.2.200", None);
    result(&mut block, "192.0.2.200/32");
    listed(&lab, &["--backend", "nft"]).into_iter().map(|(scope, ..)| scope).collect()
}

#[test]
fn a_torn_line_is_dropped_and_told_and_costs_no_other() {
    let state = State::new();
    remembering(&state, &["203.0.113.7/32", "203.0.113.8/32"]);
    let journal = std::fs::read(state.file("nft")).unwrap();
    std::fs::write(state.file("nft"), &journal[..journal.len() - 30]).unwrap();
    let lab = Lab::new();
    let (mut block, mut stdin) = start(&lab, &state.flags(&["--backend", "nft"]));
    let said = block.complaint("no verdict");
    assert!(said.contains("nft.jsonl: 1 line that is no verdict passed over, the first is line 2"), "{said}");
    // What is written behind it is read again.
    say(&mut stdin, Action::Block, "203.0.113.9/32", Some(600));
    assert_eq!(result(&mut block, "203.0.113.9/32"), OutcomeResult::Applied);
    kill(&mut block);
    assert_eq!(back(&state), ["203.0.113.7/32", "203.0.113.9/32"]);
    // Nor does noise, whoever made it.
    std::fs::write(state.file("nft"), [&[0xff, 0, b'\n', b'{', b'\n'], &journal[..]].concat()).unwrap();
    assert_eq!(back(&state), ["203.0.113.7/32", "203.0.113.8/32"]);
}

#[test]
fn a_full_disk_is_told_once_and_blocking_goes_on() {
    let lab = Lab::new();
    lab.guard.sh("mkdir /run/full; mount -t tmpfs -o size=64k tmpfs /run/full");
    let flags = ["--backend", "nft", "--state", "/run/full"];
    let (mut block, mut stdin) = start(&lab, &flags);
    say(&mut stdin, Action::Block, "203.0.113.6/32", Some(600));
    assert_eq!(result(&mut block, "203.0.113.6/32"), OutcomeResult::Applied);
    lab.guard.run(&["sh", "-c", "head -c 100k /dev/zero > /run/full/ballast"]);
    // More than the page that the journal already has.
    let stdin = block_many(&mut block, stdin, 100);
    let said = block.complaint("No space left");
    assert!(said.contains("not remembered"), "{said}");
    let mut stdin = block_many(&mut block, stdin, 150);
    say(&mut stdin, Action::Unblock, "198.18.0.1", None);
    assert_eq!(result(&mut block, "198.18.0.1/32"), OutcomeResult::Released);
    lab.guard.sh("rm /run/full/ballast");
    block.complaint("is remembered again");
    block.signal(Signal::SIGKILL);
    let (_, _, errors) = block.end();
    assert!(!errors.iter().any(|line| line.contains("No space left")), "told once: {errors:?}");
    lab.guard.sh("nft delete table inet psentry");
    let (mut block, _stdin) = start(&lab, &flags);
    let said = block.complaint("put back");
    assert!(said.contains("put back 150 blocks"), "{said}");
}

#[test]
fn a_read_only_memory_is_still_read() {
    let state = State::new();
    remembering(&state, &["203.0.113.7/32"]);
    let lab = Lab::new();
    lab.guard.sh(&format!("mount --bind {0} {0}; mount -o remount,bind,ro {0}", state.path()));
    let (mut block, mut stdin) = start(&lab, &state.flags(&["--backend", "nft"]));
    let said = block.complaint("Read-only");
    assert!(said.contains("not remembered"), "{said}");
    block.complaint("put back 1 block");
    say(&mut stdin, Action::Block, "203.0.113.8/32", Some(600));
    assert_eq!(result(&mut block, "203.0.113.8/32"), OutcomeResult::Applied);
    let (_, _, errors) = block.terminate();
    assert!(!errors.iter().any(|line| line.contains("Read-only")), "told once: {errors:?}");
    assert_eq!(back(&state), ["203.0.113.7/32"]);
}

/// Written when the clock was ten days ahead, as after the loss of a battery: nobody is shut out for longer than that
/// verdict said. What was written long ago is over.
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
    std::fs::write(state.file("nft"), [line(ahead, "203.0.113.7"), line(past, "203.0.113.8")].concat())
        .unwrap();
    let lab = Lab::new();
    let (mut block, _stdin) = start(&lab, &state.flags(&["--backend", "nft"]));
    block.complaint("put back 1 block");
    let listed = listed(&lab, &["--backend", "nft"]);
    assert_eq!(listed.len(), 1);
    let left = listed[0].2.unwrap().since(now).as_secs();
    assert!((590..=660).contains(&left), "{left} s");
}

#[test]
fn what_became_an_own_address_is_not_put_back_and_forgotten() {
    let state = State::new();
    remembering(&state, &["203.0.113.7/32", "203.0.113.77/32"]);
    let lab = Lab::new();
    lab.guard.sh("ip address add 203.0.113.77/32 dev lo");
    let (mut block, _stdin) = start(&lab, &state.flags(&["--backend", "nft"]));
    assert_eq!(result(&mut block, "203.0.113.77/32"), OutcomeResult::Refused);
    block.complaint("put back 1 block");
    assert!(!lab.guard.sh("nft list ruleset").contains("203.0.113.77"));
    kill(&mut block);
    assert_eq!(back(&state), ["203.0.113.7/32"]);
}

#[test]
fn no_two_remember_in_one_place() {
    let (state, lab) = (State::new(), Lab::new());
    let flags = state.flags(&["--backend", "nft"]);
    let (mut block, mut stdin) = start(&lab, &flags);
    say(&mut stdin, Action::Block, "203.0.113.7/32", Some(600));
    assert_eq!(result(&mut block, "203.0.113.7/32"), OutcomeResult::Applied);
    let (mut second, _stdin) = start(&lab, &flags);
    let (status, _, errors) = second.end();
    assert_eq!(status.code(), Some(71), "{errors:?}");
    assert!(errors[0].contains("another psentry-block"), "{errors:?}");
}

#[test]
fn no_more_is_put_back_than_may_stand() {
    let state = State::new();
    remembering(&state, &["203.0.113.6/32", "203.0.113.7/32", "203.0.113.8/32"]);
    let lab = Lab::new();
    let (mut block, _stdin) = start(&lab, &state.flags(&["--backend", "nft", "--max-blocks", "2"]));
    let said = block.complaint("--max-blocks 2");
    assert!(said.contains("1 of 3 remembered blocks"), "{said}");
    block.complaint("put back 2 blocks");
}

/// However much comes and goes, the journal stays about as long as what is in it.
#[test]
fn the_journal_does_not_grow_for_ever() {
    let state = State::new();
    let lab = Lab::new();
    let (mut block, mut stdin) = start(&lab, &state.flags(&["--backend", "nft"]));
    say(&mut stdin, Action::Block, "203.0.113.7/32", Some(600));
    for _ in 0..3 {
        stdin = block_many(&mut block, stdin, 1000);
        for n in 0..1000 {
            say(&mut stdin, Action::Unblock, &format!("198.18.{}.{}", n / 250, n % 250), None);
            // A change that is overtaken by the next one would not be noted.
            if n % 200 == 199 {
                result(&mut block, &format!("198.18.{}.{}/32", n / 250, n % 250));
            }
        }
    }
    let length = || Path::new(&state.file("nft")).metadata().unwrap().len();
    // All that was written is more than 800 KiB; a thousand blocks are some 170 KiB, and twice that may stand.
    wait_until("it is short", || length() < 400 * 1024);
    kill(&mut block);
    println!("{} KiB", length() / 1024);
    assert_eq!(back(&state), ["203.0.113.7/32"]);
}
