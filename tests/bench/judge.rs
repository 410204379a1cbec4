//! What a record costs psentry-judge, end to end: records from a file to verdicts on /dev/null, beside the floor of
//! merely reading the lines, and of reading and parsing them. `cargo bench --bench judge`.

#![allow(missing_docs, clippy::unwrap_used)]

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use psentry_records::Reader;

/// How many records a file has; enough that starting the process does not count.
const RECORDS: u32 = 200_000;

/// A file of probes, each from a source of its own or all from one.
fn probes(path: &Path, distinct: bool) {
    let mut file = std::io::BufWriter::new(File::create(path).unwrap());
    for n in 0..RECORDS {
        let [_, a, b, c] = if distinct { n.to_be_bytes() } else { [0, 0, 2, 7] };
        let (second, micros) = (n / 10_000, n % 10_000 * 100);
        writeln!(
            file,
            r#"{{"timestamp":"2026-11-22T15:{:02}:{:02}.{micros:06}Z","event_type":"probe","host":"guard","src_ip":"198.{a}.{b}.{c}","src_port":40000,"dest_ip":"198.51.100.1","dest_port":23,"proto":"TCP","probe":{{"sensor":"listen","kind":"connect","handshake":true}}}}"#,
            second / 60,
            second % 60,
        )
        .unwrap();
    }
}

fn judge(path: &Path) {
    let status = Command::new(env!("CARGO_BIN_EXE_psentry-judge"))
        .args(["--max-sources", "1000000"])
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

fn bench(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let [distinct, one] = ["distinct", "one"].map(|name| folder.path().join(name));
    probes(&distinct, true);
    probes(&one, false);
    fs::read(&distinct).unwrap();

    let mut group = criterion.benchmark_group("judge");
    group.sample_size(10).throughput(Throughput::Elements(RECORDS.into()));
    group.bench_function("floor: lines of the file", |bencher| bencher.iter(|| lines(&distinct)));
    group.bench_function("floor: lines read and parsed", |bencher| bencher.iter(|| parsed(&distinct)));
    group.bench_function("all distinct sources", |bencher| bencher.iter(|| judge(&distinct)));
    group.bench_function("all one source", |bencher| bencher.iter(|| judge(&one)));
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
