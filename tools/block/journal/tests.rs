//! The journal on a real disk: how often it syncs, what it keeps when it cannot write, how it stays short, and what it does
//! with files that somebody else put in its place.

mod anew;

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::stat::Mode;
use nix::unistd::{geteuid, mkfifo};
use psentry_records::Prefix;

use super::flusher::PAUSE;
use super::*;
use crate::block::Block;

fn scope(number: u32) -> Prefix {
    Prefix::host(std::net::Ipv4Addr::from_bits(0xc612_0000 + number).into())
}

fn block() -> Block {
    Block { until: Some(Timestamp::now().plus(Duration::from_secs(600))), ..Block::default() }
}

fn place(directory: &Path) -> Place {
    Place { directory: directory.to_owned(), given: true, exec_roll: None }
}

/// Opens the journal in a directory; what it said meanwhile is lost.
fn open(directory: &Path) -> (Journal, HashMap<Prefix, Block>) {
    let (journal, recorded) = Journal::open(&place(directory), |_| {}).unwrap();
    (journal, recorded.blocks)
}

/// The same, with what it says.
fn open_with_messages(directory: &Path) -> (Journal, Recorded, Arc<Mutex<Vec<String>>>) {
    let messages = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&messages);
    let say = move |sentence: &str| kept.lock().unwrap().push(sentence.to_owned());
    let (journal, recorded) = Journal::open(&place(directory), say).unwrap();
    (journal, recorded, messages)
}

fn write(journal: &mut Journal, entries: impl IntoIterator<Item = JournalEntry>) {
    entries.into_iter().for_each(|entry| journal.record(entry));
    journal.commit(Timestamp::now());
}

/// Has the journal written anew, as the engine does where that is due.
fn write_anew(journal: &Journal, numbers: impl IntoIterator<Item = u32>) {
    let blocks = numbers.into_iter().map(|number| (scope(number), block())).collect();
    journal.write_anew(Recorded { blocks, ..Recorded::default() }, Timestamp::now());
}

/// Whoever waits for a journal may have opened a file that has lost its name when he gets the lock.
#[test]
fn who_waits_while_it_is_written_anew_waits_for_the_new_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal");
    let first = JournalFile::open(&path).unwrap();
    let second = thread::spawn({
        let path = path.clone();
        move || JournalFile::open(&path).map(drop)
    });
    let opened = || {
        let links =
            fs::read_dir("/proc/self/fd").unwrap().filter_map(|fd| fs::read_link(fd.unwrap().path()).ok());
        links.filter(|link| *link == path).count()
    };
    while opened() < 2 && !second.is_finished() {
        thread::sleep(Duration::from_millis(1));
    }
    let (anew, replacement) = JournalFile::beside(&path, b"\n").unwrap();
    replacement.rename().unwrap();
    drop(first);
    let second = second.join().unwrap();
    assert!(matches!(second, Err(Error::Kept { .. })), "{second:?}");
    drop(anew);
}

fn want(number: u32) -> JournalEntry {
    JournalEntry::Wanted(scope(number), block())
}

fn sorted(blocks: &HashMap<Prefix, Block>) -> Vec<Prefix> {
    let mut scopes: Vec<Prefix> = blocks.keys().copied().collect();
    scopes.sort_unstable();
    scopes
}

fn wait_until(condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < Duration::from_secs(20));
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_block_alone_is_on_the_disk_at_once_and_ten_thousand_take_few_syncs() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(directory.path());
    write(&mut journal, [want(0)]);
    wait_until(|| journal.shared.lock().syncs == 1);
    let started = Instant::now();
    for number in 1..10_000 {
        write(&mut journal, [want(number)]);
    }
    let most = 3 + started.elapsed().as_millis() / PAUSE.as_millis();
    let synced = u128::from(journal.shared.lock().syncs);
    assert!(synced <= most, "{synced} syncs, {most} at most");
    // A block later than that is synced without anything after it.
    wait_until(|| !journal.shared.lock().dirty);
    let before = journal.shared.lock().syncs;
    write(&mut journal, [want(10_000)]);
    wait_until(|| journal.shared.lock().syncs > before);
    drop(journal);
    assert_eq!(open(directory.path()).1.len(), 10_001);
}

#[test]
fn what_could_not_be_written_is_written_when_it_can_be_and_the_newest_counts() {
    let directory = tempfile::tempdir().unwrap();
    let inner = directory.path().join("state");
    fs::write(&inner, "in the way").unwrap();
    let (mut journal, recorded, messages) = open_with_messages(&inner);
    assert!(recorded.blocks.is_empty() && journal.trouble().is_some());
    for entry in [want(1), want(2), JournalEntry::Released(scope(1))] {
        write(&mut journal, [entry]);
    }
    let trouble = journal.trouble().unwrap();
    assert!(trouble.ends_with("; 3 changes are not remembered"), "{trouble}");
    fs::remove_file(&inner).unwrap();
    // At its end at the latest it tries again.
    drop(journal);
    assert_eq!(sorted(&open(&inner).1), [scope(2)]);
    let messages = messages.lock().unwrap();
    let [unknown, once, again] = &**messages else { panic!("{messages:?}") };
    assert!(unknown.contains("is not known") && once.contains("blocking goes on"), "{messages:?}");
    assert!(again.ends_with("state/journal.jsonl: what is blocked is remembered again"), "{again}");
}

/// Nothing need be written for it to be known that it can be again.
#[test]
fn a_directory_that_comes_back_is_enough() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    fs::write(&state, "a file in its place").unwrap();
    let (journal, _) = open(&state);
    let why = journal.trouble().unwrap();
    assert!(why.contains("cannot make the directory") && !why.contains("not remembered"), "{why}");
    fs::remove_file(&state).unwrap();
    wait_until(|| journal.trouble().is_none());
    assert!(state.join(NAME).exists());
}

#[test]
fn a_second_one_is_turned_away() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(directory.path());
    write(&mut journal, [want(1)]);
    assert!(matches!(Journal::open(&place(directory.path()), |_| {}), Err(Error::Kept { .. })));
    // Who only reads needs no lock.
    assert_eq!(sorted(&place(directory.path()).read().unwrap().blocks), [scope(1)]);
}

/// A power loss leaves half a line, or anything: it costs itself alone, and what is written after it is read again.
#[test]
fn a_torn_line_costs_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(directory.path());
    write(&mut journal, [want(1), want(2)]);
    drop(journal);
    let path = directory.path().join(NAME);
    let text = fs::read(&path).unwrap();
    fs::write(&path, [b"\xff\0\n{\n", &text[..text.len() - 30]].concat()).unwrap();
    let (mut journal, recorded, messages) = open_with_messages(directory.path());
    assert_eq!(sorted(&recorded.blocks), [scope(1)]);
    let said = format!("{}: 3 lines that are no record passed over, the first is line 1", path.display());
    assert_eq!(*messages.lock().unwrap(), [said]);
    write(&mut journal, [want(3)]);
    drop(journal);
    assert_eq!(sorted(&open(directory.path()).1), [scope(1), scope(3)]);
}

/// Whoever owns the directory, such as a blocker that was taken over, leads root neither to another file nor into a pipe.
#[test]
fn only_a_regular_file_is_a_journal() {
    type Make = fn(&Path, &Path);
    let makers: [(&str, Make); 3] = [
        ("a pipe", |path, _| mkfifo(path, Mode::S_IRWXU).unwrap()),
        ("a link", |path, other| symlink(other, path).unwrap()),
        ("a socket", |path, _| drop(std::os::unix::net::UnixListener::bind(path).unwrap())),
    ];
    for (what, make) in makers {
        // The journal, and files of an earlier psentry-block.
        for name in [NAME, "nft.jsonl", "exec-roll.jsonl"] {
            let directory = tempfile::tempdir().unwrap();
            let (path, other) = (directory.path().join(name), directory.path().join("other"));
            fs::write(&other, "something else\n").unwrap();
            make(&path, &other);
            let error = place(directory.path()).read().unwrap_err().to_string();
            assert!(error.starts_with(&format!("{}: ", path.display())), "{what}: {error}");
            let (mut journal, recorded, messages) = open_with_messages(directory.path());
            assert!(!recorded.known, "{what}, {name}");
            assert!(messages.lock().unwrap()[0].contains("is not known"), "{what}, {name}");
            write(&mut journal, [want(1)]);
            journal.shorten();
            assert!(!journal.is_due(), "what is not known to be in it would be lost");
            assert_eq!(journal.trouble().is_some(), name == NAME, "{what}, {name}");
            drop(journal);
            assert!(!path.metadata().is_ok_and(|meta| meta.file_type().is_file()) || what == "a link");
            assert_eq!(fs::read_to_string(&other).unwrap(), "something else\n", "{what}, {name}");
        }
    }
}

/// Nor does a file hold up root that takes ages to read: it is neither read, nor gone on in, nor written anew.
#[test]
fn a_file_of_any_length_holds_nobody_up() {
    for name in [NAME, "nft.jsonl", "exec-roll.jsonl"] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(name);
        let file = fs::File::create(&path).unwrap();
        file.set_len(200 << 30).unwrap();
        let started = Instant::now();
        let error = place(directory.path()).read().unwrap_err().to_string();
        assert_eq!(
            error,
            format!("{}: cannot read it: it is longer than 1024 MiB; remove it", path.display())
        );
        let (mut journal, recorded, _) = open_with_messages(directory.path());
        write(&mut journal, [want(1)]);
        assert_eq!((recorded.known, journal.trouble().is_some()), (false, name == NAME), "{name}");
        // Removed, it is no hindrance any more.
        fs::remove_file(&path).unwrap();
        drop(journal);
        assert_eq!(sorted(&open(directory.path()).1), [scope(1)], "{name}");
        assert!(started.elapsed() < Duration::from_secs(10), "{name}");
    }
    // Made so long while it is open, it is not read to be written anew, either.
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(directory.path());
    write(&mut journal, [want(1)]);
    fs::OpenOptions::new().write(true).open(directory.path().join(NAME)).unwrap().set_len(200 << 30).unwrap();
    let started = Instant::now();
    assert!(journal.is_due());
    write_anew(&journal, [1]);
    drop(journal);
    assert_eq!(sorted(&open(directory.path()).1), [scope(1)]);
    assert!(started.elapsed() < Duration::from_secs(10));
}

/// What a power loss leaves of a long write is passed over however long it is: what is before and after it counts.
#[test]
fn a_long_line_without_an_end_costs_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(directory.path());
    write(&mut journal, [want(1)]);
    drop(journal);
    let path = directory.path().join(NAME);
    let length = path.metadata().unwrap().len();
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(length + (64 << 20)).unwrap();
    let (mut journal, blocks) = open(directory.path());
    assert_eq!(sorted(&blocks), [scope(1)]);
    write(&mut journal, [want(2)]);
    drop(journal);
    assert_eq!(sorted(&open(directory.path()).1), [scope(1), scope(2)]);
}

/// What root makes with a command belongs to whom the directory belongs to, or the service could not go on with it.
#[test]
fn what_root_makes_is_the_services() {
    let directory = tempfile::tempdir().unwrap();
    let of_service = (4321, 4322);
    let is_root = geteuid().is_root();
    if is_root {
        chown(directory.path(), Some(of_service.0), Some(of_service.1)).unwrap();
    }
    let owner =
        |path: &Path| path.metadata().map(|meta| (meta.uid(), meta.gid(), meta.permissions().mode() & 0o777));
    let wanted = owner(directory.path()).map(|(uid, gid, _)| (uid, gid, 0o600)).unwrap();
    assert!(!is_root || (wanted.0, wanted.1) == of_service);
    let path = directory.path().join(NAME);
    let (mut journal, _) = open(directory.path());
    assert_eq!(owner(&path).unwrap(), wanted);
    write(&mut journal, [want(1)]);
    let before = path.metadata().unwrap().ino();
    write_anew(&journal, [1]);
    drop(journal);
    assert_ne!(path.metadata().unwrap().ino(), before, "it was written anew");
    assert_eq!(owner(&path).unwrap(), wanted);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

/// Files of an earlier psentry-block count as older than the journal until they are removed, so that being killed while
/// they are taken over loses nothing.
#[test]
fn taking_over_may_be_cut_short_anywhere() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(directory.path());
    write(&mut journal, [want(1), want(2), want(3)]);
    drop(journal);
    let path = directory.path().join(NAME);
    let (old, written) = (directory.path().join("nft.jsonl"), fs::read(&path).unwrap());
    for cut in [0, 20, written.len() / 2, written.len()] {
        fs::write(&old, &written).unwrap();
        fs::write(&path, &written[..cut]).unwrap();
        // Who only reads takes nothing over.
        assert_eq!(place(directory.path()).read().unwrap().blocks.len(), 3, "{cut}");
        assert!(old.exists());
        let (mut journal, recorded, _) = open_with_messages(directory.path());
        assert!(recorded.known && !old.exists(), "{cut}");
        assert_eq!(sorted(&recorded.blocks), [scope(1), scope(2), scope(3)], "{cut}");
        // What is released from here on is not wanted again because of an old file.
        write(&mut journal, [JournalEntry::Released(scope(2))]);
        drop(journal);
        fs::write(&old, &written).unwrap();
        assert_eq!(sorted(&open(directory.path()).1), [scope(1), scope(3)], "{cut}");
    }
}

/// On a disk without room the old files stay, and are taken over as soon as there is some.
#[test]
fn what_could_not_be_taken_over_stays_where_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(directory.path());
    write(&mut journal, [want(1)]);
    drop(journal);
    let (path, old) = (directory.path().join(NAME), directory.path().join("nft.jsonl"));
    fs::rename(&path, &old).unwrap();
    // A directory in its place cannot be written, not even by root.
    fs::create_dir(&path).unwrap();
    let (journal, recorded, _) = open_with_messages(directory.path());
    assert!(journal.trouble().is_some() && old.exists(), "{recorded:?}");
    drop(journal);
    fs::remove_dir(&path).unwrap();
    assert_eq!(sorted(&open(directory.path()).1), [scope(1)]);
    assert!(!old.exists());
}
