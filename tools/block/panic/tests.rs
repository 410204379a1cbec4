//! Orders in their files.

use super::*;

#[test]
fn an_order_holds_in_either_place_until_it_is_taken_back() {
    let (state, run) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let panic = Panic::looks_in(&[state.path(), run.path()]);
    assert_eq!((panic.holds(), panic.end().unwrap()), (None, false));
    let order = Order::now(Some("the office is\nlocked out"));
    panic.declare(&order).unwrap();
    for places in [&[state.path()], &[run.path()]] {
        assert_eq!(Panic::looks_in(places).holds(), Some(order.clone()));
    }
    assert!(order.sentence().contains("(the office is\\nlocked out)"), "{}", order.sentence());
    assert!(panic.end().unwrap());
    assert_eq!((panic.holds(), panic.end().unwrap()), (None, false));
}

#[test]
fn a_place_that_cannot_be_written_to_keeps_no_other_from_it() {
    let run = tempfile::tempdir().unwrap();
    fs::write(run.path().join("file"), "").unwrap();
    let panic = Panic::looks_in(&[&run.path().join("file"), run.path()]);
    assert!(panic.declare(&Order::now(None)).is_err());
    assert!(panic.holds().is_some());
}

#[test]
fn that_there_was_one_is_known_when_it_is_over() {
    let run = tempfile::tempdir().unwrap();
    let panic = Panic::looks_in(&[run.path()]);
    let mut marks = vec![panic.mark()];
    for _ in 0..2 {
        panic.declare(&Order::now(None)).unwrap();
        panic.end().unwrap();
        marks.push(panic.mark());
    }
    assert!(marks.is_sorted_by(|a, b| b.is_after(*a)), "{marks:?}");
    assert!(!marks[2].is_after(panic.mark()) && !marks[0].is_after(marks[1]));
}

#[test]
fn whatever_the_file_is_it_is_an_order() {
    let run = tempfile::tempdir().unwrap();
    let (path, panic) = (run.path().join(NAME), Panic::looks_in(&[run.path()]));
    fs::write(run.path().join("keep"), "").unwrap();
    let by = || panic.holds().map(|order| order.by);
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(by().as_deref(), Some("somebody"));
    assert!(panic.end().unwrap());
    for target in ["/dev/zero", "nowhere"] {
        std::os::unix::fs::symlink(target, &path).unwrap();
        assert_eq!(by().as_deref(), Some("somebody"));
        assert!(panic.end().unwrap());
    }
}

#[test]
fn whatever_the_file_says_it_is_an_order() {
    let run = tempfile::tempdir().unwrap();
    for text in ["", "{", "\u{1b}[2J", "{\"timestamp\":\"2026-11-22T15:04:05Z\",\"by\":\"a\\u001b[2J\"}"] {
        fs::write(run.path().join(NAME), text).unwrap();
        let sentence = Panic::looks_in(&[run.path()]).holds().unwrap().sentence();
        assert!(sentence.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{sentence}");
    }
}
