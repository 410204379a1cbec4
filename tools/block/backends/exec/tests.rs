//! The exec backend with real commands.

use std::fs;
use std::path::Path;

use nix::poll::{PollFd, PollFlags, poll};
use psentry_records::Proto;

use super::commands::duration;
use super::*;

fn exec(directory: &Path, block: &str, undo: Option<&str>) -> Exec {
    let roll = Roll::at(directory.join("exec.jsonl"));
    Exec::new(Some(block), undo, Duration::from_secs(5), roll, 1).unwrap()
}

fn change(scope: &str, until: Option<Timestamp>) -> Change {
    let block = Block { until, port: Some(23), proto: Some(Proto::Tcp), ..Block::default() };
    Change { scope: scope.parse().unwrap(), wish: Wish::Block(block) }
}

fn release(scope: &str) -> Change {
    Change { scope: scope.parse().unwrap(), wish: Wish::Release(Block::default()) }
}

#[test]
fn a_command_gets_words_and_surroundings_and_its_status_decides() {
    let directory = tempfile::tempdir().unwrap();
    let told = directory.path().join("told");
    let script = format!(
        "sh -c 'printf \"%s|\" \"$@\" $PSENTRY_ACTION $PSENTRY_SCOPE $PSENTRY_DURATION >>{}' x {{addr}} \
         \"{{scope}} {{port}}/{{proto}}\" {{duration}}",
        told.display()
    );
    let mut backend = exec(directory.path(), &script, Some(&script));
    assert_eq!(backend.prepare().unwrap(), []);
    let now = Timestamp::now();
    let until = now.plus(Duration::from_secs(60));
    let changes =
        [change("192.0.2.7", Some(until)), change("192.0.2.7", Some(until)), change("2001:db8::/64", None)];
    for change in changes {
        assert_eq!(backend.apply(&[change], now).remove(0).unwrap(), Effect::Done);
    }
    assert_eq!(
        fs::read_to_string(&told).unwrap(),
        "192.0.2.7|192.0.2.7/32 23/tcp|60|block|192.0.2.7/32|60|\
         2001:db8::|2001:db8::/64 23/tcp|0|block|2001:db8::/64|0|"
    );
    assert_eq!(backend.list().unwrap().len(), 2);
    assert_eq!(backend.apply(&[release("192.0.2.8")], now).remove(0).unwrap(), Effect::WasNotThere);
    assert_eq!(backend.apply(&[release("192.0.2.7")], now).remove(0).unwrap(), Effect::Done);
    assert_eq!(backend.remove().unwrap().len(), 1);
    assert!(fs::read_to_string(&told).unwrap().ends_with("unblock|2001:db8::/64|0|"));
}

#[test]
fn what_failed_is_not_listed_and_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let mut backend = exec(directory.path(), "sh -c 'echo no such router >&2; exit 3'", None);
    let error = backend.apply(&[change("192.0.2.7", None)], Timestamp::now()).remove(0).unwrap_err();
    assert_eq!(error.to_string(), "'sh' failed (exit status: 3): no such router");
    assert_eq!(backend.list().unwrap(), []);
}

#[test]
fn without_an_undo_the_command_ends_its_blocks_and_nobody_else_can() {
    let directory = tempfile::tempdir().unwrap();
    let mut backend = exec(directory.path(), "true {addr}", None);
    let now = Timestamp::now();
    let until = now.plus(Duration::from_secs(5));
    backend.apply(&[change("192.0.2.7", Some(until))], now).remove(0).unwrap();
    assert!(backend.ends_by_itself());
    assert!(
        backend
            .apply(&[release("192.0.2.7")], now)
            .remove(0)
            .unwrap_err()
            .to_string()
            .contains("--exec-undo")
    );
    assert_eq!(backend.apply(&[release("192.0.2.7")], until).remove(0).unwrap(), Effect::Done);
}

#[test]
fn a_command_that_is_not_there_is_missed_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let mut backend = exec(directory.path(), "/nonexistent/ban {addr}", None);
    assert!(matches!(backend.prepare(), Err(Error::Missing { .. })));
}

/// A command may block first and fail then, or hang: its undo is run all the same.
#[test]
fn what_may_stand_is_undone() {
    for end in ["exit 3", "kill -9 $$", "sleep 60"] {
        let directory = tempfile::tempdir().unwrap();
        let stands = directory.path().join("stands");
        let block = format!("sh -c 'touch {}; {end}'", stands.display());
        let undo = format!("rm {}", stands.display());
        let roll = Roll::at(directory.path().join("exec.jsonl"));
        let mut backend = Exec::new(Some(&block), Some(&undo), Duration::from_millis(500), roll, 1).unwrap();
        let now = Timestamp::now();
        for flush in [false, true] {
            backend.apply(&[change("192.0.2.7", None)], now).remove(0).unwrap_err();
            assert_eq!((backend.list().unwrap(), backend.unsure().unwrap().len()), (vec![], 1));
            assert_eq!((backend.prepare().unwrap(), stands.exists()), (vec![], true));
            if flush {
                assert_eq!(backend.remove().unwrap().len(), 1);
            } else {
                assert_eq!(backend.apply(&[release("192.0.2.7")], now).remove(0).unwrap(), Effect::Done);
            }
            assert_eq!((backend.unsure().unwrap(), stands.exists()), (vec![], false));
        }
    }
}

#[test]
fn an_extension_that_fails_leaves_what_stood_on_the_roll() {
    let directory = tempfile::tempdir().unwrap();
    let flag = directory.path().join("flag");
    fs::write(&flag, "").unwrap();
    let mut backend = exec(directory.path(), &format!("test -e {}", flag.display()), Some("true"));
    let now = Timestamp::now();
    let end = now.plus(Duration::from_secs(60));
    backend.apply(&[change("192.0.2.7", Some(end))], now).remove(0).unwrap();
    fs::remove_file(&flag).unwrap();
    backend.apply(&[change("192.0.2.7", None)], now).remove(0).unwrap_err();
    assert_eq!(backend.list().unwrap()[0].until, Some(end));
    assert_eq!(backend.unsure().unwrap()[0].until, None);
    assert_eq!(backend.apply(&[release("192.0.2.7")], now).remove(0).unwrap(), Effect::Done);
    assert_eq!((backend.list().unwrap(), backend.unsure().unwrap()), (vec![], vec![]));
}

#[test]
fn a_command_that_was_never_run_leaves_no_doubt() {
    let directory = tempfile::tempdir().unwrap();
    let mut backend = exec(directory.path(), "/nonexistent/ban {addr}", None);
    backend.apply(&[change("192.0.2.7", None)], Timestamp::now()).remove(0).unwrap_err();
    assert_eq!(backend.unsure().unwrap(), []);
}

#[test]
fn to_a_command_no_end_is_not_the_end() {
    let now = Timestamp::now();
    let block = |until| Block { until, ..Block::default() };
    assert_eq!(duration(&block(Some(now)), "block", now), 1);
    assert_eq!(duration(&block(Some(now)), "unblock", now), 0);
    assert_eq!(duration(&block(None), "block", now), 0);
}

/// Several at once, and never more than may; each has its own result.
#[test]
fn commands_run_beside_each_other_and_not_more_than_may() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().display();
    // Says how many are at it, this one with them; the last address of them fails.
    let script = format!(
        "sh -c 'mkdir {place}/at-$0; ls -d {place}/at-* | wc -l >>{place}/count; sleep 0.3; rmdir {place}/at-$0; \
         test $0 != 192.0.2.7' {{addr}}"
    );
    let roll = Roll::at(directory.path().join("exec.jsonl"));
    let mut backend = Exec::new(Some(&script), Some("true"), Duration::from_secs(5), roll, 3).unwrap();
    assert_eq!(backend.at_once(), 3);
    let changes: Vec<Change> = (1..=7).map(|n| change(&format!("192.0.2.{n}"), None)).collect();
    let results = backend.apply(&changes, Timestamp::now());
    assert_eq!(
        results.iter().map(Result::is_ok).collect::<Vec<_>>(),
        [[true; 6].as_slice(), &[false]].concat()
    );
    let counts = fs::read_to_string(directory.path().join("count")).unwrap();
    let most = counts.lines().filter_map(|line| line.trim().parse::<u32>().ok()).max();
    assert_eq!((counts.lines().count(), most), (7, Some(3)), "{counts}");
    assert_eq!((backend.list().unwrap().len(), backend.unsure().unwrap().len()), (6, 1));
    assert_eq!(backend.remove().unwrap().len(), 7);
}

/// One that takes long keeps its own slot, and none of the others.
#[test]
fn a_command_that_takes_long_holds_up_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let go = directory.path().join("go");
    let script =
        format!("sh -c 'until test $0 != 192.0.2.1 -o -e {}; do sleep 0.05; done' {{addr}}", go.display());
    let roll = Roll::at(directory.path().join("exec.jsonl"));
    let mut backend = Exec::new(Some(&script), Some("true"), Duration::from_secs(60), roll, 2).unwrap();
    let now = Timestamp::now();
    let begin = |backend: &mut Exec, n: u8| {
        assert_eq!(backend.begin(&[change(&format!("192.0.2.{n}"), None)], now).len(), 1);
    };
    // What `apply` waited for has rung as well.
    let done = |backend: &mut Exec| loop {
        let mut fds = [PollFd::new(backend.watch().unwrap(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut fds, 30_000u16).unwrap(), 1, "nothing is over");
        let over: Vec<_> =
            backend.done().into_iter().map(|(c, result)| (c.scope.to_string(), result.unwrap())).collect();
        if !over.is_empty() {
            break over;
        }
    };
    begin(&mut backend, 1);
    for n in 2..6 {
        assert_eq!(backend.at_once(), 1);
        begin(&mut backend, n);
        assert_eq!(backend.at_once(), 0);
        assert_eq!(done(&mut backend), [(format!("192.0.2.{n}/32"), Effect::Done)]);
    }
    // What is asked beside it is answered, and it is not lost.
    assert_eq!(backend.apply(&[release("192.0.2.2")], now).remove(0).unwrap(), Effect::Done);
    fs::write(go, "").unwrap();
    assert_eq!(done(&mut backend), [("192.0.2.1/32".to_owned(), Effect::Done)]);
    assert_eq!((backend.at_once(), backend.list().unwrap().len()), (2, 4));
}

/// What people want to know stands in the environment, and no trick of it does.
#[test]
fn a_command_is_told_why() {
    let directory = tempfile::tempdir().unwrap();
    let told = directory.path().join("told");
    let script =
        format!("sh -c 'echo \"$PSENTRY_RULE|$PSENTRY_REASON|$PSENTRY_OFFENCE\" >>{}'", told.display());
    let mut backend = exec(directory.path(), &script, None);
    let block = Block {
        rule: Some("fan".to_owned()),
        reason: Some("two decoys\u{1b}[2J\u{202e}".into()),
        offence: Some(3),
        ..Block::default()
    };
    for (scope, block) in [("192.0.2.7", block), ("192.0.2.8", Block::default())] {
        let change = Change { scope: scope.parse().unwrap(), wish: Wish::Block(block) };
        backend.apply(&[change], Timestamp::now()).remove(0).unwrap();
    }
    assert_eq!(fs::read_to_string(&told).unwrap(), "fan|two decoys\\u{1b}[2J\\u{202e}|3\n||\n");
}
