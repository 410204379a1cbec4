//! What a confirmed block costs, by psentry-block and by the ways of others: a process `nft` or `iptables` for each
//! address, as PortSentry does it through a shell; fail2ban, with the actions that it comes with; and the floor, `nft -f`
//! of many at once. Each address is a new one, and counts when it is confirmed: by the kernel, by an outcome, by the end
//! of the process, or, for fail2ban, once it is seen to stand.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use psentry_block::backend::{Backend, Op};
use psentry_block::backends::nft::Nft;
use psentry_block::block::Block;
use psentry_block::reach::Reach;
use psentry_records::Timestamp;
use tempfile::TempDir;

use crate::lab::{Lab, Program, bin, wait_until};
use crate::{INSIDE, address, median, verdict};

/// How many elements `nft -f` gets at once.
const TOGETHER: usize = 500;

/// Runs it on the guard of a laboratory.
pub(crate) fn measure(print: bool, older: Option<&Path>) {
    let lab = Lab::new();
    let this = std::env::current_exe().unwrap();
    let mut inside = lab.guard.command(this.to_str().unwrap());
    inside.args([INSIDE, if print { "print" } else { "" }]).args(older);
    assert!(inside.status().unwrap().success());
}

/// How often many verdicts are sent at once.
const AT_ONCE: usize = 9;

/// What was measured: seconds for one block.
struct Price(String, f64);

impl Price {
    /// The same of somebody.
    fn of(self, whose: &str) -> Self {
        Price(format!("{whose}{}", self.0), self.1)
    }
}

/// Does it so often, each time for so many blocks; the median, since other work on the machine takes its time from some.
fn timed(name: impl Into<String>, rounds: u32, of: u32, mut block: impl FnMut()) -> Price {
    let times = (0..rounds).map(|_| {
        let began = Instant::now();
        block();
        began.elapsed().as_secs_f64()
    });
    Price(name.into(), median(&times.collect::<Vec<_>>()) / f64::from(of))
}

pub(crate) fn inside(print: bool, older: Option<&Path>) {
    let of = |many: u32| if print { many } else { 1 };
    let mut next = 0;
    let mut prices =
        vec![through_the_backend(of(3000), 1, &mut next), through_the_backend(of(300), 100, &mut next)];
    let this = Path::new(bin("psentry-block"));
    let both = || [("", this)].into_iter().chain(older.map(|older| ("an older one: ", older)));
    for (whose, program) in both() {
        prices.push(through_the_program(program, "nft", &[], of(3000), &mut next).of(whose));
    }
    for (whose, program) in both() {
        let price = on_one_processor(|| through_the_program(program, "nft", &[], of(3000), &mut next));
        let what = "the same, whoever sends and reads it being on the same processor";
        prices.push(Price(what.to_owned(), price.1).of(whose));
    }
    // In turns, since other work on the machine takes its time from some.
    let mut at_once: Vec<_> = both().map(|(whose, program)| (whose, program, Vec::new())).collect();
    for _ in 0..if print { AT_ONCE } else { 1 } {
        for (_, program, times) in &mut at_once {
            times.push(all_at_once(program, of(10_000), &mut next));
        }
    }
    let at_once = at_once.into_iter().map(|(whose, _, times)| {
        Price("psentry-block, 10,000 verdicts at once".to_owned(), median(&times)).of(whose)
    });
    prices.extend(at_once);
    let state = tempfile::tempdir().unwrap();
    prices.push(through_the_program(
        this,
        "nft",
        &["--state", state.path().to_str().unwrap()],
        of(3000),
        &mut next,
    ));
    prices.push(by_processes("a process 'nft add element' each", of(300), &mut next, |addr| {
        let element = format!("{{ {addr} timeout 1d comment \"bench\" }}");
        run("nft", &["add", "element", "inet", "psentry", "v4_32", &element]);
    }));
    prices.push(by_a_file(of(10_000), &mut next));
    sh("nft flush ruleset");
    prices.push(through_the_program(this, "ipset", &[], of(3000), &mut next));
    prices.push(by_processes("a process 'ipset add' each", of(300), &mut next, |addr| {
        run("ipset", &["add", "psentry4", addr, "timeout", "86400", "comment", "bench"]);
    }));
    sh("nft flush ruleset; ipset destroy");
    prices.push(by_processes(
        "a shell and 'iptables -I' each, as PortSentry does",
        of(300),
        &mut next,
        |addr| {
            run("sh", &["-c", &format!("iptables -I INPUT -s {addr} -j DROP")]);
        },
    ));
    sh("nft flush ruleset");
    if Command::new("fail2ban-server").arg("--version").stdout(Stdio::null()).status().is_ok() {
        prices.extend(by_fail2ban(of(40), of(200), &mut next));
    } else if print {
        println!("fail2ban is not installed, and not measured");
    }
    if !print {
        return;
    }
    println!("\n| a confirmed block | µs | times the backend's | times the program's |\n|---|---|---|---|");
    let (backend, program) = (prices[0].1, prices[2].1);
    for Price(name, each) in &prices {
        println!("| {name} | {:.1} | {:.1} | {:.1} |", each * 1e6, each / backend, each / program);
    }
}

fn run(program: &str, args: &[&str]) {
    let status = Command::new(program).args(args).stdout(Stdio::null()).status().unwrap();
    assert!(status.success(), "{program} {args:?}");
}

fn sh(script: &str) {
    run("sh", &["-ec", script]);
}

fn new(next: &mut u32) -> String {
    *next += 1;
    address(*next)
}

fn through_the_backend(rounds: u32, together: u32, next: &mut u32) -> Price {
    let mut nft = Nft::open(Reach::default()).unwrap();
    nft.ensure().unwrap();
    let name = if together == 1 {
        "psentry-block's nft backend, one by one"
    } else {
        "the same, a hundred together"
    };
    timed(name, rounds, together, || {
        let now = Timestamp::now();
        let until = Some(now.plus(Duration::from_secs(86_400)));
        let block = Block { until, rule: Some("bench".to_owned()), ..Block::default() };
        let put = |_| Op::Put { scope: new(next).parse().unwrap(), block: block.clone(), was: None };
        let ops: Vec<Op> = (0..together).map(put).collect();
        nft.apply(&ops, now).into_iter().for_each(Result::unwrap);
    })
}

/// Measures while this program, and whatever it starts, runs on one processor. To wake somebody on another one costs a virtual
/// machine more than all the rest.
fn on_one_processor(measure: impl FnOnce() -> Price) -> Price {
    let (this, all) = (Pid::from_raw(0), sched_getaffinity(Pid::from_raw(0)).unwrap());
    let first = (0..CpuSet::count()).find(|cpu| all.is_set(*cpu).unwrap()).unwrap();
    let mut one = CpuSet::new();
    one.set(first).unwrap();
    sched_setaffinity(this, &one).unwrap();
    let price = measure();
    sched_setaffinity(this, &all).unwrap();
    price
}

/// A psentry-block that knows of nothing that an earlier one wanted, and where it keeps what it wants.
fn start(program: &Path, backend: &str, flags: &[&str]) -> (Child, TempDir) {
    sh("nft flush ruleset");
    let state = tempfile::tempdir().unwrap();
    let mut program = Command::new(program);
    program.args(["--backend", backend]).args(flags).env("RUNTIME_DIRECTORY", state.path());
    (program.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap(), state)
}

/// From a line of its input to the line of its output.
fn through_the_program(program: &Path, backend: &str, flags: &[&str], rounds: u32, next: &mut u32) -> Price {
    let (mut program, _state) = start(program, backend, flags);
    let (mut stdin, mut stdout) =
        (program.stdin.take().unwrap(), BufReader::new(program.stdout.take().unwrap()));
    let mut line = String::new();
    let mut one = |stdin: &mut std::process::ChildStdin| {
        *next += 1;
        stdin.write_all(verdict(*next).as_bytes()).unwrap();
        line.clear();
        stdout.read_line(&mut line).unwrap();
        assert!(line.contains("\"applied\""), "{line}");
    };
    one(&mut stdin);
    let name = match (backend, flags) {
        ("ipset", _) => "psentry-block on ipset, a verdict in and its outcome out, one by one",
        (_, []) => "psentry-block on nft, a verdict in and its outcome out, one by one",
        _ => "psentry-block on nft with --state, one by one",
    };
    let price = timed(name, rounds, 1, || one(&mut stdin));
    drop(stdin);
    program.wait().unwrap();
    price
}

/// Many verdicts in a pipe, from the first one to the last outcome.
fn all_at_once(program: &Path, many: u32, next: &mut u32) -> f64 {
    let first = verdict(*next + 1);
    let lines: String = (1..=many).map(|n| verdict(*next + n + 1)).collect();
    *next += many + 1;
    let (mut program, _state) = start(program, "nft", &[]);
    let (mut stdin, stdout) = (program.stdin.take().unwrap(), BufReader::new(program.stdout.take().unwrap()));
    let mut outcomes = stdout.lines();
    // What it finds at its start is taken over by then.
    stdin.write_all(first.as_bytes()).unwrap();
    assert!(outcomes.next().unwrap().unwrap().contains("\"applied\""));
    let began = Instant::now();
    let feeder = std::thread::spawn(move || stdin.write_all(lines.as_bytes()).map(|()| stdin));
    let outcomes = outcomes.by_ref().take(many as usize).map_while(Result::ok);
    assert_eq!(outcomes.filter(|line| line.contains("\"applied\"")).count(), many as usize);
    let took = began.elapsed();
    drop(feeder.join().unwrap());
    program.wait().unwrap();
    took.as_secs_f64() / f64::from(many)
}

fn by_processes(name: &str, rounds: u32, next: &mut u32, block: impl Fn(&str)) -> Price {
    timed(name, rounds, 1, || block(&new(next)))
}

fn by_a_file(many: u32, next: &mut u32) -> Price {
    let mut text = String::new();
    for _ in 0..many {
        let element = format!("{} timeout 1d comment \"bench\"", new(next));
        text.push_str(&format!("add element inet psentry v4_32 {{ {element} }}\n"));
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let mut parts = lines.chunks(TOGETHER);
    let rounds = many.div_ceil(TOGETHER as u32);
    timed("'nft -f' of 500 at once, the floor", rounds, TOGETHER.min(many as usize) as u32, || {
        std::fs::write(file.path(), parts.next().unwrap().join("\n") + "\n").unwrap();
        run("nft", &["-f", file.path().to_str().unwrap()]);
    })
}

/// With its own settings, but for where it keeps its files, and two jails: one as it comes, which is iptables, one by
/// nftables. An address each, and many in one call.
fn by_fail2ban(each: u32, together: u32, next: &mut u32) -> Vec<Price> {
    let place = tempfile::tempdir().unwrap();
    let at = place.path().to_str().unwrap().to_owned();
    sh(&format!(
        "cp -r /etc/fail2ban {at}/conf; rm -f {at}/conf/jail.d/*; touch {at}/log
         printf '[Definition]\\nlogtarget = {at}/out\\nsocket = {at}/sock\\npidfile = {at}/pid\\ndbfile = {at}/db\\n' \
             > {at}/conf/fail2ban.local
         for name in iptables nftables; do
             printf \"[$name]\\nenabled = true\\nfilter = sshd\\nbackend = polling\\nlogpath = {at}/log\\n\"
             printf \"port = ssh\\nbantime = 1d\\nbanaction = $name-multiport\\n\"
         done > {at}/conf/jail.local"
    ));
    let (conf, sock) = (format!("{at}/conf"), format!("{at}/sock"));
    let mut server = Command::new("fail2ban-server");
    let _server =
        Program::start(server.args(["-c", &conf, "-s", &sock, "-p", &format!("{at}/pid"), "-f", "start"]));
    let client = |args: &[&str]| {
        let base = ["-c", &*conf, "-s", &*sock];
        Command::new("fail2ban-client").args(base).args(args).output().unwrap().status.success()
    };
    wait_until("fail2ban answers", || client(&["status", "nftables"]));
    let mut prices = Vec::new();
    for (jail, one, many) in [
        ("iptables", "fail2ban-client, iptables (its default), one by one", "the same, 200 in one call"),
        ("nftables", "fail2ban-client, nftables, one by one", "the same, 200 in one call"),
    ] {
        let stand = |last: &str| {
            let look = if jail == "iptables" { "iptables -S" } else { "nft list table inet f2b-table" };
            let out = Command::new("sh").args(["-c", look]).output().unwrap().stdout;
            String::from_utf8_lossy(&out).contains(last)
        };
        // The first one makes the rules.
        assert!(client(&["set", jail, "banip", &new(next)]));
        for (name, calls, of) in [(one, each, 1), (many, 1, together)] {
            prices.push(timed(name, calls, of, || {
                let addresses: Vec<String> = (0..of).map(|_| new(next)).collect();
                let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
                assert!(client(&[&["set", jail, "banip"][..], &addresses].concat()));
                wait_until("it stands", || stand(addresses[addresses.len() - 1]));
            }));
        }
    }
    prices
}
