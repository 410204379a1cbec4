//! Real sockets in a directory of the test, and a main loop that the test plays.

use super::*;
use crate::{Reply, Silence, ask};

/// Long enough for whatever does come.
const LONG: Duration = Duration::from_secs(20);

fn long() -> Limits {
    Limits { reading: LONG, waiting: LONG, writing: LONG }
}

fn server(limits: Limits) -> (tempfile::TempDir, std::path::PathBuf, Server) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control");
    let server = Server::with(&path, 0o700, "psentry-test", limits).unwrap();
    (directory, path, server)
}

/// The next request; waits for the bell.
fn next(server: &Server) -> Request {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let bell = server.bell().unwrap();
    let limit = PollTimeout::from(u16::try_from(LONG.as_millis()).unwrap());
    assert_eq!(poll(&mut [PollFd::new(bell.as_fd(), PollFlags::POLLIN)], limit), Ok(1));
    let mut requests = server.requests();
    assert_eq!(requests.len(), 1);
    requests.remove(0)
}

/// Asks in a thread of its own.
fn asking(path: &Path, line: &str) -> thread::JoinHandle<Result<Reply, Silence>> {
    let (path, line) = (path.to_owned(), format!("{line}\n"));
    thread::spawn(move || ask(&path, line.as_bytes(), LONG))
}

/// The whole answer to these bytes.
fn exchange(path: &Path, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

#[test]
fn a_question_is_answered_in_pieces_until_the_answer_is_dropped() {
    let (_directory, path, server) = server(long());
    assert!(server.requests().is_empty());
    let client = asking(&path, "how are you?");
    let Request { line, may_change, answer } = next(&server);
    assert_eq!((&*line, may_change), ("how are you?", true));
    answer.send(b"well\n".to_vec());
    answer.send(b"and\nyou?\n".to_vec());
    drop(answer);
    assert_eq!(client.join().unwrap().unwrap().lines, ["well", "and", "you?"]);
    // An answer of no lines is one as well.
    let client = asking(&path, "what?");
    drop(next(&server));
    assert_eq!(client.join().unwrap(), Ok(Reply::default()));
}

#[test]
fn what_is_refused_and_what_is_forbidden_differ() {
    let (_directory, path, server) = server(long());
    let client = asking(&path, "x");
    next(&server).answer.refuse("there is no such thing");
    assert_eq!(client.join().unwrap(), Err(Silence::Refused("there is no such thing".to_owned())));
    let client = asking(&path, "x");
    next(&server).answer.forbid();
    assert_eq!(client.join().unwrap(), Err(Silence::Forbidden));
}

#[test]
fn what_is_no_question_or_may_not_be_asked_is_answered_without_the_tool() {
    let (_directory, path, server) = server(long());
    let asked = |line: &str, may_change: bool| {
        let client = asking(&path, line);
        let question = Request { may_change, ..next(&server) }.question().map(|(question, _)| question);
        (question, client.join().unwrap())
    };
    let flush = "{\"ask\":\"flush\"}";
    assert_eq!(asked(flush, true), (Some(Question::Flush), Ok(Reply::default())));
    assert_eq!(asked(flush, false), (None, Err(Silence::Forbidden)));
    assert_eq!(asked("{\"ask\":\"list\"}", false).0, Some(Question::List));
    assert!(matches!(asked("x", true), (None, Err(Silence::Refused(why))) if why.contains("no question")));
}

#[test]
fn a_line_has_its_size_and_is_text() {
    let (_directory, path, server) = server(long());
    let longest = "x".repeat(LONGEST_LINE - 1);
    let client = asking(&path, &longest);
    assert_eq!(next(&server).line, longest);
    assert_eq!(client.join().unwrap(), Ok(Reply::default()));
    for bytes in [format!("{longest}x\n"), format!("{longest}x"), "y".repeat(1 << 20)] {
        let answer = exchange(&path, bytes.as_bytes());
        // Of what was not read the kernel may reset the connection before the answer is read.
        assert!(answer.is_empty() || answer.contains("more than 4096 bytes"), "{answer}");
    }
    assert!(exchange(&path, b"\xff\xfe\n").contains("UTF-8"));
    assert!(server.requests().is_empty(), "nothing of that was a question");
    // Without a newline, and with more behind it, one line is asked.
    for bytes in [&b"how?"[..], b"how?\nand more\n"] {
        let path = path.clone();
        let client = thread::spawn(move || exchange(&path, bytes));
        assert_eq!(next(&server).line, "how?");
        assert_eq!(client.join().unwrap(), "\n");
    }
}

#[test]
fn who_hangs_is_named() {
    let (_directory, path, server) = server(Limits { waiting: Duration::from_millis(50), ..long() });
    let client = asking(&path, "x");
    assert_eq!(client.join().unwrap(), Err(Silence::Hangs));
    next(&server).answer.send(b"too late\n".to_vec());
}

#[test]
fn what_came_before_somebody_hung_is_passed_on() {
    let (_directory, path, server) = server(Limits { waiting: Duration::from_secs(2), ..long() });
    let client = thread::spawn(move || exchange(&path, b"x\n"));
    let request = next(&server);
    request.answer.send(b"a part\n".to_vec());
    let hangs = "{\"error\":\"psentry-test hangs: it has not answered within 2 s\",\"kind\":\"hangs\"}";
    assert_eq!(client.join().unwrap(), format!("a part\n{hangs}\n\n"));
}

#[test]
fn who_is_silent_or_does_not_read_is_not_waited_for() {
    let short = Duration::from_millis(50);
    let (_directory, path, server) = server(Limits { reading: short, writing: short, ..long() });
    let mut silent = UnixStream::connect(&path).unwrap();
    silent.set_read_timeout(Some(LONG)).unwrap();
    let mut answer = String::new();
    silent.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("no question came within 0 s"), "{answer}");
    let mut deaf = UnixStream::connect(&path).unwrap();
    deaf.write_all(b"x\n").unwrap();
    let request = next(&server);
    request.answer.send(vec![b'x'; 1 << 24]);
    drop(request);
    // Its thread ends, and the connection with it.
    let began = Instant::now();
    while !server.shared.served().is_empty() {
        assert!(began.elapsed() < LONG);
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn more_than_a_few_are_asked_to_come_again_and_do() {
    let (_directory, path, server) = server(long());
    let silent: Vec<UnixStream> = (0..MOST).map(|_| UnixStream::connect(&path).unwrap()).collect();
    let began = Instant::now();
    while server.shared.served().len() < MOST {
        assert!(began.elapsed() < LONG);
        thread::sleep(Duration::from_millis(5));
    }
    assert!(exchange(&path, b"x\n").contains("\"kind\":\"busy\""));
    assert_eq!(
        ask(&path, b"x\n", Duration::from_millis(50)),
        Err(Silence::Refused("too many ask at once; ask again".to_owned()))
    );
    let client = asking(&path, "patient");
    drop(silent);
    // Each of them asked nothing, which is an empty line.
    let mut lines = Vec::new();
    while lines.len() <= MOST {
        lines.push(server.requests.recv_timeout(LONG).unwrap().line);
    }
    lines.retain(|line| !line.is_empty());
    assert_eq!(lines, ["patient"]);
    assert_eq!(client.join().unwrap(), Ok(Reply::default()));
}

/// However soon the program ends after its answer.
#[test]
fn what_was_answered_before_the_end_arrives_whole() {
    for _ in 0..50 {
        let (_directory, path, server) = server(long());
        let client = asking(&path, "x");
        next(&server).answer.send(b"{\"answer\":1}\n".to_vec());
        server.close().wait();
        assert_eq!(client.join().unwrap().unwrap().lines, ["{\"answer\":1}"]);
    }
}

#[test]
fn what_is_unanswered_at_the_end_is_refused() {
    let (_directory, path, server) = server(long());
    let client = asking(&path, "x");
    let request = next(&server);
    drop(server);
    drop(request);
    assert_eq!(client.join().unwrap(), Err(Silence::Dead));
    assert_eq!(ask(&path, b"x\n", LONG), Err(Silence::Absent), "the file goes with its process");
}

/// Nor does one of them keep out the next.
#[test]
fn who_may_only_ask_keeps_no_slot_from_who_may_change() {
    let (_directory, _path, server) = server(long());
    let own = geteuid().as_raw();
    let take = |uid: u32| Slot::take(&server.shared, uid);
    let of = |uid: u32| std::iter::from_fn(|| take(uid)).collect::<Vec<_>>();
    let held: Vec<Vec<Slot>> = (1..4).map(|n| of(own + n)).collect();
    assert_eq!(held.iter().map(Vec::len).collect::<Vec<_>>(), [OF_ONE_USER, OF_ONE_USER, 0]);
    assert_eq!(of(own).len(), MOST);
    drop(held);
    assert!(take(own + 3).is_some());
}

/// What was asked of a main loop that takes nothing is not forgotten, and not waited for by those who ask later.
#[test]
fn who_takes_no_question_hangs_and_is_not_busy() {
    let (_directory, path, _server) = server(Limits { waiting: Duration::from_millis(1), ..long() });
    for _ in 0..=3 * MOST {
        assert_eq!(ask(&path, b"x\n", LONG), Err(Silence::Hangs));
    }
}
