//! When the journal is written anew, and what goes along.

use super::super::flusher::{BACKLOG, SHORT};
use super::*;

/// While nothing can be written, whoever comes and goes takes no memory: what is not kept any more is written with all that
/// counts, as soon as there is room for that.
#[test]
fn of_what_cannot_be_written_no_more_is_kept_than_a_bound() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(NAME);
    fs::create_dir(&path).unwrap();
    let (mut journal, _) = open(directory.path());
    // More than a hundred bytes each.
    let many = u32::try_from(BACKLOG / 100).unwrap();
    (0..many).step_by(1000).for_each(|from| write(&mut journal, (from..from + 1000).map(want)));
    let kept = journal.shared.lock().backlog.len();
    assert!((BACKLOG..BACKLOG + 1_000_000).contains(&kept), "{kept}");
    assert!(!journal.is_due(), "there is no file");
    assert!(!journal.shared.lock().is_whole, "what it holds could not be read");
    fs::remove_dir(&path).unwrap();
    wait_until(|| journal.is_due());
    assert!(journal.trouble().is_some() && path.metadata().unwrap().len() == 0);
    write_anew(&journal, [7]);
    wait_until(|| journal.trouble().is_none());
    assert_eq!(sorted(&place(directory.path()).read().unwrap().blocks), [scope(7)]);
    drop(journal);
    assert_eq!(sorted(&open(directory.path()).1), [scope(7)]);
}

#[test]
fn what_is_written_while_it_is_written_anew_goes_along() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(directory.path());
    let mut anew = 0;
    for round in 0..40 {
        let entry = |number| {
            if round % 2 == 0 || number == round {
                want(number)
            } else {
                JournalEntry::Released(scope(number))
            }
        };
        write(&mut journal, (0..200).map(entry));
        if journal.is_due() {
            anew += 1;
            let wanted = (0..200).filter(|number| round % 2 == 0 || *number == round);
            write_anew(&journal, wanted.chain(2000..2000 + round));
        }
        write(&mut journal, [want(2000 + round)]);
        thread::sleep(Duration::from_millis(10));
    }
    assert!(anew > 0);
    write_anew(&journal, [39].into_iter().chain(2000..2040));
    let file = directory.path().join(NAME);
    wait_until(|| file.metadata().is_ok_and(|meta| meta.len() < 2 * SHORT));
    drop(journal);
    assert!(!directory.path().join("journal.jsonl.new").exists());
    let wanted: Vec<Prefix> = [39].into_iter().chain(2000..2040).map(scope).collect();
    assert_eq!(sorted(&open(directory.path()).1), wanted);
}

/// It is written anew when it has grown by what is useful in it, and not by less than is worth it.
#[test]
fn it_is_due_when_it_has_doubled() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(directory.path());
    write(&mut journal, (0..100).map(want));
    assert!(!journal.is_due());
    write(&mut journal, (100..1000).map(want));
    assert!(journal.is_due());
    let file = directory.path().join(NAME);
    let number = || file.metadata().map(|meta| meta.ino()).ok();
    let before = number();
    write_anew(&journal, 0..1000);
    assert!(!journal.is_due(), "it is being written");
    wait_until(|| number() != before);
    write(&mut journal, (0..900).map(want));
    assert!(!journal.is_due());
    write(&mut journal, (0..200).map(want));
    assert!(journal.is_due());
    // Where not all is known that it is to hold, it is left as it is.
    journal.keep_long();
    assert!(!journal.is_due());
}

/// A wall clock that was a century ahead for a while leaves nothing that would be the newest entry for ever.
#[test]
fn what_was_written_by_another_wall_clock_is_forgotten() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(directory.path());
    let ahead = Timestamp::now().plus(Duration::from_secs(100 * 365 * 86_400));
    let (since, until) = (Some(ahead), Some(ahead.plus(Duration::from_secs(600))));
    journal.record(JournalEntry::Wanted(scope(1), Block { since, until, ..Block::default() }));
    journal.record(JournalEntry::Released(scope(2)));
    journal.commit(ahead);
    write(&mut journal, [want(1)]);
    assert!(!journal.is_due());
    journal.shorten();
    assert!(journal.is_due());
    write_anew(&journal, [1]);
    drop(journal);
    let (_, recorded, _) = open_with_messages(directory.path());
    assert!(recorded.newest.unwrap() < ahead, "{recorded:?}");
    assert_eq!(sorted(&recorded.blocks), [scope(1)]);
}

/// A link that takes the place of the journal while it is open is not followed when the journal is written anew.
#[test]
fn a_journal_is_written_anew_whatever_has_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(directory.path());
    write(&mut journal, [want(1), want(2), JournalEntry::Released(scope(1))]);
    let path = directory.path().join(NAME);
    fs::remove_file(&path).unwrap();
    mkfifo(&path, Mode::S_IRWXU).unwrap();
    write_anew(&journal, [2]);
    drop(journal);
    assert_eq!(sorted(&open(directory.path()).1), [scope(2)]);
}
