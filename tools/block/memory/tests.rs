//! The memory on a real disk: how often it syncs, what it keeps when it cannot write, and how it stays short.

use std::fs;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::*;

fn reporter() -> Arc<Reporter> {
    let (pipe, _writer) = std::io::pipe().unwrap();
    Arc::new(Reporter::stdout(None, pipe.as_fd()).unwrap())
}

fn scope(number: u32) -> Prefix {
    std::net::IpAddr::from(std::net::Ipv4Addr::from_bits(0xc612_0000 + number)).to_string().parse().unwrap()
}

fn block() -> Block {
    Block { until: Some(Timestamp::now().plus(Duration::from_secs(600))), ..Block::default() }
}

fn open(directory: &Path) -> (Memory, HashMap<Prefix, Block>) {
    Memory::open(directory, "nft", &reporter()).unwrap()
}

fn wait_until(condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < Duration::from_secs(20));
        thread::sleep(Duration::from_millis(5));
    }
}

fn syncs(memory: &Memory) -> u32 {
    memory.shared.syncs.load(Ordering::Relaxed)
}

#[test]
fn a_block_alone_is_on_the_disk_at_once_and_ten_thousand_take_few_syncs() {
    let directory = tempfile::tempdir().unwrap();
    let (mut memory, _) = open(directory.path());
    memory.note(scope(0), Some(&block()));
    memory.commit();
    wait_until(|| syncs(&memory) == 1);
    let started = Instant::now();
    for number in 1..10_000 {
        memory.note(scope(number), Some(&block()));
        memory.commit();
    }
    drop(memory.shared.lock());
    let most = 3 + started.elapsed().as_millis() / PAUSE.as_millis();
    let synced = u128::from(syncs(&memory));
    assert!(synced <= most, "{synced} syncs, {most} at most");
    // A block later than that is synced without anything after it.
    wait_until(|| !memory.shared.lock().dirty);
    let before = syncs(&memory);
    memory.note(scope(10_000), Some(&block()));
    memory.commit();
    wait_until(|| syncs(&memory) > before);
    drop(memory);
    assert_eq!(open(directory.path()).1.len(), 10_001);
}

#[test]
fn what_could_not_be_written_is_written_when_it_can_be_and_the_newest_counts() {
    let directory = tempfile::tempdir().unwrap();
    let inner = directory.path().join("state");
    fs::write(&inner, "in the way").unwrap();
    let (mut memory, remembered) = open(&inner);
    assert!(remembered.is_empty() && memory.trouble().is_some());
    for (number, block) in [(1, Some(block())), (2, Some(block())), (1, None)] {
        memory.note(scope(number), block.as_ref());
        memory.commit();
    }
    assert_eq!(memory.shared.lock().backlog.len(), 2);
    fs::remove_file(&inner).unwrap();
    // At its end at the latest it tries again.
    drop(memory);
    assert_eq!(open(&inner).1.keys().collect::<Vec<_>>(), [&scope(2)]);
}

#[test]
fn what_is_added_while_it_is_written_anew_goes_along() {
    let directory = tempfile::tempdir().unwrap();
    let (mut memory, _) = open(directory.path());
    for round in 0..40 {
        for number in 0..200 {
            let wanted = block();
            memory.note(scope(number), Some(&wanted).filter(|_| round % 2 == 0 || number == round));
        }
        memory.commit();
        // A command adds to it, too.
        let_in(directory.path(), "nft", &[scope(1000 + round)]).unwrap();
        memory.note(scope(2000 + round), Some(&block()));
        memory.commit();
        thread::sleep(Duration::from_millis(10));
    }
    let file = directory.path().join("nft.jsonl");
    wait_until(|| file.metadata().is_ok_and(|meta| meta.len() < 2 * SHORT));
    drop(memory);
    assert!(!directory.path().join("nft.jsonl.new").exists());
    let mut is: Vec<Prefix> = open(directory.path()).1.into_keys().collect();
    is.sort_unstable();
    let wanted: Vec<Prefix> = [39].into_iter().chain(2000..2040).map(scope).collect();
    assert_eq!(is, wanted);
}

#[test]
fn a_second_one_is_turned_away_and_a_cleared_one_holds_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (mut memory, _) = open(directory.path());
    memory.note(scope(1), Some(&block()));
    memory.commit();
    assert!(matches!(Memory::open(directory.path(), "nft", &reporter()), Err(Error::Kept { .. })));
    memory.clear();
    drop(memory);
    assert!(open(directory.path()).1.is_empty());
}

/// Nothing need be written for it to be known that it can be again.
#[test]
fn a_directory_that_comes_back_is_enough() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    fs::write(&state, "a file in its place").unwrap();
    let (memory, _) = open(&state);
    let why = memory.trouble().unwrap();
    assert!(why.contains("cannot make the directory") && !why.contains("not remembered"), "{why}");
    fs::remove_file(&state).unwrap();
    wait_until(|| memory.trouble().is_none());
    assert!(state.join("nft.jsonl").exists());
}
