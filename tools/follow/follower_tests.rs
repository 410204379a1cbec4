//! The follower beside whoever writes, rotates, compresses and removes the files of a log: each line is read once and in order, and what
//! cannot be is reported.

use std::fs;
use std::io::{self, BufReader, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;

use super::*;
use crate::decompress::decompressed;
use crate::files::rotated;

/// A log that is written and rotated as psentry-log does it, and compressed as an administrator may.
struct Written {
    folder: tempfile::TempDir,
    log: PathBuf,
    count: u32,
    /// The newest line that was removed with its file.
    removed: Option<u32>,
}

impl Written {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("records.jsonl");
        Written { folder, log, count: 0, removed: None }
    }

    fn write(&mut self, lines: u32) {
        let mut file = fs::OpenOptions::new().create(true).append(true).open(&self.log).unwrap();
        for _ in 0..lines {
            writeln!(file, "line {}", self.count).unwrap();
            self.count += 1;
        }
    }

    fn gz(&self, times: u32) -> PathBuf {
        rotated(&self.log, times).with_extension(format!("{times}.gz"))
    }

    fn rotate(&mut self) {
        for times in (1..60).rev() {
            let _ = fs::rename(rotated(&self.log, times), rotated(&self.log, times + 1));
            let _ = fs::rename(self.gz(times), self.gz(times + 1));
        }
        let _ = fs::rename(&self.log, rotated(&self.log, 1));
    }

    fn compress(&mut self, times: u32) {
        let path = rotated(&self.log, times);
        let Ok(text) = fs::read(&path) else { return };
        let mut file = GzEncoder::new(fs::File::create(self.gz(times)).unwrap(), Compression::fast());
        file.write_all(&text).unwrap();
        file.finish().unwrap();
        fs::remove_file(path).unwrap();
    }

    fn remove_oldest(&mut self) {
        let Some(oldest) = files(&self.log).unwrap().pop() else { return };
        let file = BufReader::new(fs::File::open(&oldest.path).unwrap());
        let text = io::read_to_string(decompressed(file).unwrap()).unwrap();
        self.removed = text.lines().last().map(|line| number(line.as_bytes())).or(self.removed);
        fs::remove_file(&oldest.path).unwrap();
    }
}

fn number(line: &[u8]) -> u32 {
    std::str::from_utf8(line).unwrap().strip_prefix("line ").unwrap().parse().unwrap()
}

fn rest(follower: &mut Follower) -> Vec<u32> {
    let mut lines = Vec::new();
    loop {
        match follower.step().unwrap() {
            Step::Line(line) => lines.push(number(&line)),
            Step::Missing(why) => panic!("{why}"),
            Step::End => return lines,
        }
    }
}

#[test]
fn a_reader_goes_on_where_it_was_whatever_became_of_the_files() {
    let mut written = Written::new();
    let mut from_start = Follower::open(&written.log, Start::Oldest).unwrap();
    assert_eq!(from_start.step().unwrap(), Step::End);
    written.write(3);
    let mut follower = Follower::open(&written.log, Start::Now).unwrap();
    written.write(2);
    assert_eq!((rest(&mut from_start), rest(&mut follower)), (vec![0, 1, 2, 3, 4], vec![3, 4]));
    written.write(1);
    let cursor = serde_json::to_string(follower.cursor()).unwrap();
    assert_eq!(cursor, r#"{"first_line":"line 0","offset":35}"#);
    written.rotate();
    written.write(2);
    written.rotate();
    written.compress(2);
    // A file that is not written yet.
    fs::write(&written.log, "").unwrap();
    assert_eq!(rest(&mut follower), [5, 6, 7]);
    let mut again = Follower::open(&written.log, Start::At(serde_json::from_str(&cursor).unwrap())).unwrap();
    assert_eq!(rest(&mut again), [5, 6, 7]);
    written.write(1);
    assert_eq!(
        (rest(&mut again), rest(&mut follower), rest(&mut from_start)),
        (vec![8], vec![8], vec![5, 6, 7, 8])
    );
}

#[test]
fn what_is_gone_is_reported() {
    let mut written = Written::new();
    written.write(2);
    let mut follower = Follower::open(&written.log, Start::Oldest).unwrap();
    assert_eq!(follower.step().unwrap(), Step::Line(b"line 0".to_vec()));
    let cursor = follower.cursor().clone();
    written.rotate();
    written.write(2);
    written.remove_oldest();
    // What is open is read to its end.
    assert_eq!(follower.step().unwrap(), Step::Line(b"line 1".to_vec()));
    let again = Follower::open(&written.log, Start::At(cursor)).unwrap();
    for mut follower in [follower, again] {
        let Step::Missing(why) = follower.step().unwrap() else { panic!() };
        assert!(
            why.ends_with("records.jsonl: files were removed before they were read; lines may be missing"),
            "{why}"
        );
        assert_eq!(rest(&mut follower), [2, 3]);
    }
    let mut follower = Follower::open(&written.log, Start::Now).unwrap();
    fs::write(&written.log, "").unwrap();
    written.write(1);
    let Step::Missing(why) = follower.step().unwrap() else { panic!() };
    assert!(why.contains("it was emptied"), "{why}");
    assert_eq!(rest(&mut follower), [4]);
    assert!(written.folder.path().exists());
}

#[test]
fn a_reader_that_waits_is_woken() {
    let mut written = Written::new();
    written.write(1);
    let mut follower = Follower::open(&written.log, Start::Now).unwrap();
    assert_eq!(follower.step().unwrap(), Step::End);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            written.rotate();
            written.write(1);
        });
        while follower.step().unwrap() == Step::End {
            follower.wait(Duration::from_secs(60));
        }
        writer.join().unwrap();
    });
    assert_eq!(follower.cursor().offset, 7);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is done to the files, each line is read once and in order, but for those that are reported to be missing.
    #[test]
    fn each_line_is_read_once(steps in prop::collection::vec((0u8..7, 1u32..4), 1..60)) {
        let mut written = Written::new();
        let mut follower = Follower::open(&written.log, Start::Oldest).unwrap();
        // The next line that was not read, and whether some from there on may be missing: before the first line, and after it
        // was reported.
        let (mut next, mut gap) = (0, true);
        let mut read = |follower: &mut Follower, written: &Written, most: u32| {
            let behind_removed = || written.removed.map_or(0, |removed| removed + 1);
            for _ in 0..most {
                match follower.step().unwrap() {
                    Step::Line(line) => {
                        let first = if gap { next.max(behind_removed()) } else { next };
                        prop_assert_eq!(number(&line), first);
                        (next, gap) = (first + 1, false);
                    }
                    Step::Missing(_) => {
                        prop_assert!(behind_removed() >= next);
                        gap = true;
                    }
                    Step::End => break,
                }
            }
            Ok(if gap { next.max(behind_removed()) } else { next })
        };
        for (step, n) in steps {
            match step {
                0 | 1 => written.write(n),
                2 => written.rotate(),
                3 => written.compress(n),
                4 => drop(read(&mut follower, &written, n)?),
                5 => follower = Follower::open(&written.log, Start::At(follower.cursor().clone())).unwrap(),
                _ => if n == 1 { written.remove_oldest() },
            }
        }
        prop_assert_eq!(read(&mut follower, &written, 1000)?, written.count);
    }
}

/// Whoever asks for what is new begins in the newest file that begins early enough, also a compressed one.
#[test]
fn a_reader_of_what_is_new_leaves_older_files_unread() {
    let mut written = Written::new();
    for _ in 0..3 {
        written.write(10);
        written.rotate();
    }
    written.compress(2);
    written.write(5);
    let first = |early: u32| {
        let mut follower =
            Follower::open_from(&written.log, |line| number(line.as_bytes()) <= early).unwrap();
        let Step::Line(line) = follower.step().unwrap() else { panic!() };
        number(&line)
    };
    assert_eq!([35, 30, 29, 19, 5].map(first), [30, 30, 20, 10, 0]);
    // Where none is early enough, with all that there is.
    let mut all = Follower::open_from(&written.log, |_| false).unwrap();
    assert_eq!(all.step().unwrap(), Step::Line(b"line 0".to_vec()));
    let files = crate::log_files(&written.log).unwrap();
    assert_eq!(
        files,
        [rotated(&written.log, 3), written.gz(2), rotated(&written.log, 1), written.log.clone()]
    );
}
