//! What is restored is what was saved, whatever happened to the file.

use std::fs;
use std::time::Duration;

use proptest::prelude::*;
use psentry_records::{Record, Verdict};

use super::sync::WITHIN;
use super::*;
use crate::policy::tests::policy_of;
use crate::{Policy, step};

/// A small world, so that bounds are met: few sources are remembered, sweeps and the brake are soon on.
fn policy() -> Policy {
    policy_of(
        "[memory]\nsources = 12\n[sweep]\nsources = 3\n[brake]\nproven = 2\nunproven = 1\npause = \"2m\"\n\
         [levels]\nwatch = 2\nblock = 0\n[block]\njitter = 0.2\nduration = \"3m\"\nforgive = \"5m\"\n",
    )
}

fn line(n: usize, secs: u64, host: u8, port: u16, what: u8) -> String {
    let at = psentry_records::Timestamp::from_secs(1_700_000_000 + secs).unwrap();
    let (src, kind, handshake) = (format!("192.0.{}.{host}", host / 16), what % 3, what.is_multiple_of(2));
    if what == 9 {
        return format!(
            r#"{{"timestamp":"{at}","event_type":"vouch","src_ip":"{src}","vouch":{{"user":"u{n}","duration":200}}}}"#
        );
    }
    let kind = ["connect", "ack", "syn"][usize::from(kind)];
    format!(
        r#"{{"timestamp":"{at}","event_type":"probe","src_ip":"{src}","dest_port":{port},"proto":"TCP","probe":{{"kind":"{kind}","handshake":{handshake}}}}}"#
    )
}

fn stories() -> impl Strategy<Value = Vec<String>> {
    let touch = (0..90u64, 0..40u8, 1..8u16, 0..10u8);
    prop::collection::vec(touch, 1..250).prop_map(|touches| {
        let mut now: u64 = 1000;
        touches
            .into_iter()
            .enumerate()
            .map(|(n, (gap, host, port, what))| {
                // Mostly forwards, now and then late, rarely a jump.
                now += gap / 10;
                let secs = if gap == 88 {
                    now - 300
                } else if gap == 89 {
                    now + 8_000_000
                } else {
                    now
                };
                line(n, secs, host, port, what)
            })
            .collect()
    })
}

fn judge(state: &mut State, policy: &Policy, lines: &[String]) -> String {
    let mut said = String::new();
    let mut verdicts: Vec<Verdict> = Vec::new();
    for line in lines {
        step(state, policy, &Record::parse(line).unwrap(), &mut verdicts);
        for verdict in verdicts.drain(..) {
            let mut line = Vec::new();
            Record::Verdict(verdict).encode(&mut line).unwrap();
            said.push_str(std::str::from_utf8(&line).unwrap());
        }
    }
    said
}

fn content(state: &mut State) -> String {
    let folder = tempfile::tempdir().unwrap();
    rewrite(folder.path(), state).unwrap();
    fs::read_to_string(folder.path().join(FILE)).unwrap()
}

fn open(folder: &Path, policy: &Policy) -> (State, Journal, Damage) {
    let mut state = State::new(policy.max_sources);
    let (journal, damage) = Journal::open(folder, &mut state).unwrap();
    (state, journal, damage)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 128, ..ProptestConfig::default() })]

    /// Split anywhere over judges that end, or are killed after they saved, the verdicts are the same, byte for byte.
    #[test]
    fn in_one_run_or_in_many_the_verdicts_are_the_same(
        lines in stories(),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 0..6),
    ) {
        let policy = policy();
        let want = judge(&mut State::new(policy.max_sources), &policy, &lines);
        let folder = tempfile::tempdir().unwrap();
        let mut cuts: Vec<(usize, bool)> =
            cuts.into_iter().map(|(at, ends)| (at.index(lines.len()), ends)).collect();
        cuts.sort_unstable();
        cuts.push((lines.len(), true));
        let mut said = String::new();
        let mut from = 0;
        for (to, ends) in cuts {
            let (mut state, mut journal, damage) = open(folder.path(), &policy);
            prop_assert_eq!(damage, Damage::default());
            for piece in lines[from..to].chunks(17) {
                said += &judge(&mut state, &policy, piece);
                journal.save(&mut state, Instant::now()).unwrap();
            }
            if ends {
                journal.compact(&mut state).unwrap();
            }
            let (mut again, _) = (State::new(policy.max_sources), ());
            restore(File::open(folder.path().join(FILE)).unwrap(), &mut again).unwrap();
            prop_assert_eq!(content(&mut again), content(&mut state));
            from = to;
        }
        prop_assert_eq!(said, want);
    }

    /// Cut anywhere, or with bytes overwritten, a file is read as far as it goes.
    #[test]
    fn a_damaged_file_is_never_fatal(
        lines in stories(),
        cut in any::<prop::sample::Index>(),
        bytes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..5),
    ) {
        let policy = policy();
        let mut state = State::new(policy.max_sources);
        judge(&mut state, &policy, &lines);
        let mut text = content(&mut state).into_bytes();
        for (at, byte) in bytes {
            let at = at.index(text.len());
            text[at] = byte;
        }
        text.truncate(cut.index(text.len() + 1));
        let mut restored = State::new(policy.max_sources);
        let damage = restore(&text[..], &mut restored).unwrap();
        prop_assert!(damage.torn == (!text.is_empty() && text.last() != Some(&b'\n')) || damage.lines > 0);
        prop_assert!(restored.sources.held() <= 12);
        judge(&mut restored, &policy, &lines);
    }
}

#[test]
fn a_torn_last_line_is_dropped_and_the_rest_stays() {
    let folder = tempfile::tempdir().unwrap();
    let policy = policy();
    let (mut state, mut journal, _) = open(folder.path(), &policy);
    judge(&mut state, &policy, &[line(0, 1, 7, 23, 0)]);
    journal.save(&mut state, Instant::now()).unwrap();
    drop(journal);
    let path = folder.path().join(FILE);
    let mut text = fs::read(&path).unwrap();
    text.extend_from_slice(br#"{"source":{"scope":"192.0.2.9/32","numb"#);
    fs::write(&path, text).unwrap();
    let (state, _, damage) = open(folder.path(), &policy);
    assert_eq!((damage, state.sources.held()), (Damage { lines: 0, torn: true }, 1));
}

/// As after a crash of the machine: what was appended last came onto the disk in part, with nothing before it.
#[test]
fn a_hole_in_the_file_is_skipped_and_the_rest_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let policy = policy();
    let (mut state, mut journal, _) = open(folder.path(), &policy);
    for host in [7, 8, 9] {
        judge(&mut state, &policy, &[line(0, 1, host, 23, 0)]);
        journal.save(&mut state, Instant::now()).unwrap();
    }
    drop(journal);
    let path = folder.path().join(FILE);
    let mut text = fs::read(&path).unwrap();
    let hole = text.windows(12).position(|at| at == b"192.0.0.8/32").unwrap();
    text[hole - 20..hole + 20].fill(0);
    fs::write(&path, text).unwrap();
    let (state, _, damage) = open(folder.path(), &policy);
    assert!(damage.lines > 0 && !damage.torn, "{damage:?}");
    let held = |host: u8| state.sources.peek(format!("192.0.0.{host}").parse().unwrap()).is_some();
    assert_eq!([7, 8, 9].map(held), [true, false, true]);
}

#[test]
fn what_was_appended_is_on_the_disk_a_few_seconds_later() {
    let folder = tempfile::tempdir().unwrap();
    let policy = policy();
    let (mut state, mut journal, _) = open(folder.path(), &policy);
    let begin = Instant::now();
    let save = |journal: &mut Journal, state: &mut State, after: Duration| {
        journal.save(state, begin + after).unwrap();
        (journal.sync.since.is_some(), journal.sync.thread.is_some())
    };
    judge(&mut state, &policy, &[line(0, 1, 7, 23, 0)]);
    let moment = Duration::from_millis(1);
    assert_eq!(save(&mut journal, &mut state, Duration::ZERO), (true, false));
    assert_eq!(save(&mut journal, &mut state, WITHIN - moment), (true, false));
    // Nothing new came: it is the first append that counts.
    assert_eq!(save(&mut journal, &mut state, WITHIN), (false, true));
    journal.sync.thread.take().unwrap().join().unwrap().unwrap();
    // A judge that hears nothing writes nothing.
    let size = journal.size;
    assert_eq!(save(&mut journal, &mut state, 3 * WITHIN), (false, false));
    assert_eq!(journal.size, size);
    // What is written anew is on the disk already.
    judge(&mut state, &policy, &[line(0, 1, 8, 23, 0)]);
    assert_eq!(save(&mut journal, &mut state, 4 * WITHIN), (true, false));
    journal.compact(&mut state).unwrap();
    assert!(journal.sync.since.is_none());
}

#[test]
fn what_the_disk_did_not_take_is_written_anew() {
    let folder = tempfile::tempdir().unwrap();
    let policy = policy();
    let (mut state, mut journal, _) = open(folder.path(), &policy);
    // It takes every write, and cannot be synchronized.
    journal.file = Some(BufWriter::new(File::options().write(true).open("/dev/null").unwrap()));
    judge(&mut state, &policy, &[line(0, 1, 7, 23, 0)]);
    let begin = Instant::now();
    journal.save(&mut state, begin).unwrap();
    journal.save(&mut state, begin + WITHIN).unwrap();
    while !journal.sync.thread.as_ref().unwrap().is_finished() {
        std::thread::yield_now();
    }
    let error = journal.save(&mut state, begin + WITHIN).unwrap_err().to_string();
    assert!(error.contains("cannot write"), "{error}");
    journal.save(&mut state, begin + WITHIN).unwrap();
    drop(journal);
    let (state, _, damage) = open(folder.path(), &policy);
    assert_eq!((damage, state.sources.held()), (Damage::default(), 1));
}

#[test]
fn the_file_is_bounded_and_one_judge_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let policy = policy();
    let (mut state, mut journal, _) = open(folder.path(), &policy);
    let mut other = State::new(12);
    let error = Journal::open(folder.path(), &mut other).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("another psentry-judge uses"), "{error}");
    for n in 0..8_000u64 {
        judge(&mut state, &policy, &[line(0, n / 10, (n % 40) as u8, (n % 7) as u16, 0)]);
        journal.save(&mut state, Instant::now()).unwrap();
    }
    let size = fs::metadata(folder.path().join(FILE)).unwrap().len();
    assert!(size <= SMALL + 4096 && journal.base < journal.size, "{size}");
}

#[test]
fn a_file_of_something_else_is_not_taken_for_a_state() {
    for text in ["", "x\n", "{\"gone\":\"192.0.2.7\"}\n", "{\"form\":\"psentry-judge state 99\"}\n"] {
        let mut state = State::new(12);
        let damage = restore(text.as_bytes(), &mut state).unwrap();
        assert_eq!((damage.lines > 0, state.sources.held()), (!text.is_empty(), 0), "{text}");
    }
}

#[test]
fn nobody_else_reads_who_logged_in_and_half_a_file_does_not_stay() {
    use std::os::unix::fs::PermissionsExt;
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("state");
    let (mut state, mut journal, _) = open(&folder, &policy());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&folder), mode(&folder.join(FILE))), (0o700, 0o600));
    // What cannot be put in its place is not left beside it.
    fs::remove_file(folder.join(FILE)).unwrap();
    fs::create_dir(folder.join(FILE)).unwrap();
    assert!(journal.compact(&mut state).is_err());
    assert!(!folder.join(NEW).exists());
    fs::remove_dir(folder.join(FILE)).unwrap();
    journal.save(&mut state, Instant::now()).unwrap();
    assert!(folder.join(FILE).exists());
}

#[test]
fn hostile_numbers_are_only_numbers() {
    let (top, low) = (u64::MAX, i64::MIN);
    let counters = format!(r#"{{"records":{top},"probes":{top},"blocks":{top}}}"#);
    let half = format!(r#"{{"since":{},"blocks":4294967295,"until":{}}}"#, i64::MAX, i64::MAX);
    let contacts = vec![format!("[{low},{top},65535,4294967295,65535,255,255]"); 3000].join(",");
    let text = format!(
        "{{\"form\":\"{FORM}\"}}\n\
         {{\"source\":{{\"scope\":\"192.0.2.7/32\",\"numbers\":[{},65535,65535,255,255],\"contacts\":[{contacts}]}}}}\n\
         {{\"rest\":{{\"clock\":{{\"now\":{low},\"claimed\":{low}}},\"brake\":{{\"proven\":{half},\"unproven\":{half}}},\
         \"counters\":{counters},\"evicted\":{top}}}}}\n",
        i64::MAX
    );
    let policy = policy();
    let mut state = State::new(12);
    assert_eq!(restore(text.as_bytes(), &mut state).unwrap(), Damage::default());
    let scope = "192.0.2.7".parse().unwrap();
    assert!(state.sources.peek(scope).unwrap().contacts().count() <= 100);
    // And the brake is not on for ever.
    let lines: Vec<String> = (0..40).map(|n| line(n, 10 + n as u64, 9, 1 + n as u16 % 4, 0)).collect();
    let said = judge(&mut state, &policy, &lines);
    assert!(said.contains(r#""action":"block","scope":"192.0.0.9/32""#), "{said}");
}
