//! What a record costs psentry-judge, end to end: records from a file to verdicts on /dev/null, beside the floor of
//! merely reading the lines, and of reading and parsing them; and what a source costs in memory, up to a flood of ten
//! million forged ones. `cargo bench --bench judge`.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use psentry_records::{Reader, Record};

/// How many records a file has: as many as there are sources, so that the table is full at the end.
const RECORDS: u32 = 1_000_000;

/// How many forged sources a flood has.
const FLOOD: u32 = 10_000_000;

/// How many sources are remembered meanwhile.
const BOUND: &str = "1000000";

/// The line of a probe: the n-th, a tenth of a millisecond after the one before.
fn line(n: u32, src: [u8; 4], port: u16, proof: &str) -> String {
    let (seconds, micros, [a, b, c, d]) = (n / 10_000, n % 10_000 * 100, src);
    format!(
        r#"{{"timestamp":"2026-11-22T{:02}:{:02}:{:02}.{micros:06}Z","event_type":"probe","host":"guard","src_ip":"{a}.{b}.{c}.{d}","src_port":40000,"dest_ip":"198.51.100.1","dest_port":{port},{proof}}}}}"#,
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
    )
}

const HANDSHAKE: &str = r#""proto":"TCP","probe":{"sensor":"listen","kind":"connect","handshake":true"#;
const SYN: &str = r#""proto":"TCP","probe":{"sensor":"trap","kind":"syn","handshake":false"#;
const FORGED: &str = r#""proto":"UDP","probe":{"sensor":"listen","kind":"udp","handshake":false"#;

/// A source of its own for each n, in networks of many.
fn distinct(n: u32) -> [u8; 4] {
    (0x0b00_0000 + n).to_be_bytes()
}

/// A file of probes, each from a source of its own or all from one.
fn probes(path: &Path, one: bool) {
    let mut file = BufWriter::new(File::create(path).unwrap());
    for n in 0..RECORDS {
        let src = if one { [198, 0, 2, 7] } else { distinct(n) };
        writeln!(file, "{}", line(n, src, 23, HANDSHAKE)).unwrap();
    }
}

fn judge(path: &Path, flags: &[&str]) {
    let status = Command::new(env!("CARGO_BIN_EXE_psentry-judge"))
        .args(["--max-sources", BOUND])
        .args(flags)
        .stdin(File::open(path).unwrap())
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
}

fn lines(path: &Path) -> usize {
    BufReader::new(File::open(path).unwrap()).split(b'\n').count()
}

fn parsed(path: &Path) -> usize {
    let mut reader = Reader::new(File::open(path).unwrap());
    let mut records = 0;
    while reader.next_item().unwrap().is_some() {
        records += 1;
    }
    records
}

/// What the processor itself spent on a file, here or in a child, which other work on the machine changes little.
fn processor_time(name: &str, who: UsageWho, work: impl Fn()) {
    let spent = || {
        let usage = getrusage(who).unwrap();
        let (user, system) = (usage.user_time(), usage.system_time());
        Duration::from_micros((user.num_microseconds() + system.num_microseconds()).try_into().unwrap())
    };
    let before = spent();
    for _ in 0..5 {
        work();
    }
    let each = (spent() - before).as_secs_f64() / 5.0;
    println!("{name}: {each:.2} s of processor time, {:.0} records a second", f64::from(RECORDS) / each);
}

/// A judge that is fed by hand, to look at it while it runs.
struct Fed {
    judge: Child,
    input: BufWriter<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Fed {
    fn start() -> Self {
        let mut judge = Command::new(env!("CARGO_BIN_EXE_psentry-judge"))
            .args(["--max-sources", BOUND])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = BufWriter::new(judge.stdin.take().unwrap());
        let output = BufReader::new(judge.stdout.take().unwrap());
        Fed { judge, input, output }
    }

    fn feed(&mut self, line: &str) {
        writeln!(self.input, "{line}").unwrap();
    }

    /// The next verdict, when all that was fed is judged.
    fn verdict(&mut self) -> (String, Option<u32>) {
        self.input.flush().unwrap();
        loop {
            let mut line = String::new();
            self.output.read_line(&mut line).unwrap();
            match Record::parse(&line) {
                Ok(Record::Verdict(verdict)) => {
                    return (verdict.body.scope.to_string(), verdict.body.offence);
                }
                // It writes its counters once a minute.
                Ok(Record::Stats(_)) => {}
                _ => panic!("{line}"),
            }
        }
    }

    /// Its memory, in bytes (proc_pid_status(5)).
    fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.judge.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Has a source convicted, so that all before it is judged too; gives its offence.
    fn convict(&mut self, n: u32, src: [u8; 4]) -> Option<u32> {
        self.feed(&line(n, src, 23, HANDSHAKE));
        self.feed(&line(n, src, 445, HANDSHAKE));
        let (scope, offence) = self.verdict();
        let [a, b, c, d] = src;
        assert_eq!(scope, format!("{a}.{b}.{c}.{d}/32"));
        offence
    }

    fn end(mut self) {
        drop(self.input);
        assert!(self.judge.wait().unwrap().success());
    }
}

/// What a source costs when there are a million.
fn memory_of_a_source() {
    for (touches, name) in
        [(&[(23, HANDSHAKE)][..], "one port each"), (&[(80, SYN), (443, SYN)], "two ports each")]
    {
        let mut fed = Fed::start();
        fed.convict(0, [192, 0, 2, 1]);
        let before = fed.memory();
        for (n, &(port, proof)) in (0..RECORDS - 2).flat_map(|n| touches.iter().map(move |touch| (n, touch)))
        {
            fed.feed(&line(n, distinct(n), port, proof));
        }
        // When this one is convicted, all before it are judged.
        fed.convict(RECORDS, [192, 0, 2, 2]);
        #[allow(clippy::cast_precision_loss)]
        let each = (fed.memory() - before) as f64 / f64::from(RECORDS);
        println!("a million sources, {name}: {each:.1} bytes a source");
        fed.end();
    }
}

/// A flood of forged sources: memory stays at its bound, and an offender who completed handshakes is remembered.
fn flood() {
    let mut fed = Fed::start();
    assert_eq!(fed.convict(0, [192, 0, 2, 1]), Some(1));
    let start = Instant::now();
    for n in 0..FLOOD {
        fed.feed(&line(n, distinct(n), 69, FORGED));
    }
    fed.convict(FLOOD, [192, 0, 2, 2]);
    let seconds = start.elapsed().as_secs_f64();
    let megabytes = fed.memory() / 1_000_000;
    // An hour and a quarter later its block is over.
    let offence = fed.convict(45_000_000, [192, 0, 2, 1]);
    println!(
        "a flood of {FLOOD} forged sources, by a pipe: {:.0} a second, {megabytes} MB; the offender before it is \
         convicted for the {}. time",
        f64::from(FLOOD) / seconds,
        offence.unwrap_or(0)
    );
    assert_eq!(offence, Some(2), "the offender was forgotten");
    fed.end();
}

fn bench(criterion: &mut Criterion) {
    memory_of_a_source();
    flood();

    let folder = tempfile::tempdir().unwrap();
    let [distinct, one] = ["distinct", "one"].map(|name| folder.path().join(name));
    probes(&distinct, false);
    probes(&one, true);
    fs::read(&distinct).unwrap();

    let [here, child] = [UsageWho::RUSAGE_SELF, UsageWho::RUSAGE_CHILDREN];
    processor_time("floor: lines of the file", here, || assert!(lines(&distinct) > 0));
    processor_time("floor: lines read and parsed", here, || assert!(parsed(&distinct) > 0));
    processor_time("all distinct sources", child, || judge(&distinct, &[]));
    processor_time("all one source", child, || judge(&one, &[]));
    let kept = || {
        let state = tempfile::tempdir().unwrap();
        judge(&distinct, &["--state", state.path().to_str().unwrap()]);
    };
    processor_time("all distinct sources, with --state", child, kept);

    let mut group = criterion.benchmark_group("judge");
    group.sample_size(10).throughput(Throughput::Elements(RECORDS.into()));
    group.bench_function("floor: lines of the file", |bencher| bencher.iter(|| lines(&distinct)));
    group.bench_function("floor: lines read and parsed", |bencher| bencher.iter(|| parsed(&distinct)));
    group.bench_function("all distinct sources", |bencher| bencher.iter(|| judge(&distinct, &[])));
    group.bench_function("all one source", |bencher| bencher.iter(|| judge(&one, &[])));
    group.bench_function("all distinct sources, with --state", |bencher| bencher.iter(kept));
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
