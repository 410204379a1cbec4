//! Golden cases: `tests/cases/reconcile/NAME.steps` says what happens on a backend, one step a line, and `NAME.ops` holds the
//! same lines with the operations below each that bring the backend to what is wanted. The backend here is a map that does all
//! it is told, and ends blocks by itself if its `caps` say so. `PSENTRY_GOLDEN=write` writes them anew.
//!
//! ```text
//! caps nft | route | hosts-deny | exec       the backend, first
//! at 30                                      the clock says 30 seconds
//! block 192.0.2.7 60 [unproven] [ports 22,23/tcp]   wanted until then; "-": until it is unblocked
//! unblock 192.0.2.7                          not wanted any more
//! gone 192.0.2.7                             somebody deletes it on the backend
//! there 192.0.2.7 90 [unproven] [damaged]    somebody puts it there
//! unsure 192.0.2.7                           a command failed half-way
//! flush                                      somebody deletes everything
//! ```

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use psentry_records::Proto;

use super::*;

struct Case {
    caps: Caps,
    now: Timestamp,
    desired: Desired,
    actual: Actual,
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_secs(seconds).unwrap()
}

fn caps(name: &str) -> Caps {
    match name {
        "nft" => Caps::of("nft"),
        "route" => Caps { expires: false, spares: false, ..Caps::of("route") },
        "hosts-deny" => Caps { expires: false, ..Caps::of("hosts-deny") },
        "exec" => Caps { expires: false, lists: false, journaled: true, ..Caps::of("exec") },
        name => panic!("caps {name}"),
    }
}

fn block(words: &[&str]) -> Block {
    let ports = words.iter().position(|word| *word == "ports").map(|place| words[place + 1]);
    let (ports, proto) = ports.map_or(("", ""), |ports| ports.split_once('/').unwrap_or((ports, "")));
    Block {
        until: words[0].parse().ok().map(at),
        unproven: words.contains(&"unproven"),
        ports: ports.split(',').filter_map(|port| port.parse().ok()).collect(),
        proto: match proto {
            "tcp" => Some(Proto::Tcp),
            "udp" => Some(Proto::Udp),
            _ => None,
        },
        ..Block::default()
    }
}

impl Case {
    fn step(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let scope = || -> Prefix { words[1].parse().unwrap() };
        match words[0] {
            "caps" => self.caps = caps(words[1]),
            "at" => {
                self.now = at(words[1].parse().unwrap());
                self.desired.expire(self.now);
                let (now, ends) = (self.now, self.caps.expires);
                self.actual
                    .entries
                    .retain(|_, entry| !(ends && entry.until.is_some_and(|until| until <= now)));
            }
            "block" => _ = self.desired.block(scope(), block(&words[2..])),
            "unblock" => _ = self.desired.release(scope()),
            "gone" => _ = self.actual.entries.remove(&scope()),
            "there" => {
                let damaged = words.contains(&"damaged");
                let entry = Entry { damaged, ..block(&words[2..]).entry(scope()) };
                self.actual.entries.insert(scope(), entry);
            }
            "unsure" => _ = self.actual.unsure.insert(scope()),
            "flush" => self.actual.entries.clear(),
            step => panic!("{step}"),
        }
    }

    /// Has the operations done.
    fn reconcile(&mut self) -> Vec<String> {
        let due = || reconcile(&self.desired, &self.actual, &self.caps, self.now);
        let planned = |scope| plan(scope, &self.desired, &self.actual, &self.caps, self.now).unwrap();
        let ops: Vec<Op> = due().into_iter().map(planned).collect();
        for op in &ops {
            self.actual.unsure.remove(&op.scope());
            match op {
                Op::Put { scope, block, .. } => self.actual.entries.insert(*scope, block.entry(*scope)),
                Op::Delete { scope, .. } => self.actual.entries.remove(scope),
            };
        }
        // Nothing is left to do, and each was done once.
        assert_eq!(reconcile(&self.desired, &self.actual, &self.caps, self.now), []);
        let scopes: BTreeSet<Prefix> = ops.iter().map(Op::scope).collect();
        assert_eq!(scopes.len(), ops.len());
        ops.iter().map(words).collect()
    }
}

fn words(op: &Op) -> String {
    let end = |until: Option<Timestamp>| {
        until.map_or_else(|| "it is unblocked".to_owned(), |until| (until.micros() / 1_000_000).to_string())
    };
    match op {
        Op::Put { scope, block, was } => {
            let was = was.as_ref().map_or_else(String::new, |was| format!(", was until {}", end(was.until)));
            let unproven = if block.unproven { " unproven" } else { "" };
            let ports = if block.ports.is_empty() {
                String::new()
            } else {
                format!(" ports {}", psentry_ports::named_ports(&block.ports, block.proto))
            };
            format!("    put {scope}{unproven}{ports} until {}{was}\n", end(block.until))
        }
        Op::Delete { scope, .. } => format!("    delete {scope}\n"),
    }
}

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/cases/reconcile");
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let mut steps: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|e| e == "steps")).collect();
    steps.sort();
    assert!(steps.len() > 10);
    steps
}

#[test]
fn each_case_has_its_operations() {
    let write = std::env::var("PSENTRY_GOLDEN").is_ok_and(|golden| golden == "write");
    for path in cases() {
        let text = fs::read_to_string(&path).unwrap();
        let mut case =
            Case { caps: caps("nft"), now: at(0), desired: Desired::new(100), actual: Actual::default() };
        let mut found = String::new();
        for line in text.lines() {
            found.push_str(&format!("{line}\n"));
            if !line.is_empty() && !line.starts_with('#') {
                case.step(line);
                found.extend(case.reconcile());
            }
        }
        let golden = path.with_extension("ops");
        if write {
            fs::write(&golden, found).unwrap();
        } else {
            assert_eq!(fs::read_to_string(&golden).unwrap_or_default(), found, "{}", golden.display());
        }
    }
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    fn step() -> impl Strategy<Value = String> {
        let scope = (0..6u8).prop_map(|n| format!("192.0.2.{n}"));
        let until = prop_oneof![Just("-".to_owned()), (1..100u32).prop_map(|seconds| seconds.to_string())];
        let unproven = prop_oneof![Just(""), Just(" unproven")];
        prop_oneof![
            4 => (scope.clone(), until.clone(), unproven.clone()).prop_map(|(s, t, u)| format!("block {s} {t}{u}")),
            2 => scope.clone().prop_map(|scope| format!("unblock {scope}")),
            2 => scope.clone().prop_map(|scope| format!("gone {scope}")),
            1 => (scope.clone(), until, unproven).prop_map(|(s, t, u)| format!("there {s} {t}{u}")),
            1 => scope.prop_map(|scope| format!("unsure {scope}")),
            1 => Just("flush".to_owned()),
            1 => (0..120u32).prop_map(|seconds| format!("at {seconds}")),
        ]
    }

    proptest! {
        /// Whatever happens in whatever order: one round of operations makes what is there what is wanted.
        #[test]
        fn one_round_is_enough(name in prop_oneof![Just("nft"), Just("route"), Just("hosts-deny"), Just("exec")],
                               steps in prop::collection::vec(step(), 1..40)) {
            let mut case = Case { caps: caps(name), now: at(0), desired: Desired::new(100), actual: Actual::default() };
            for line in steps {
                // The clock goes on only.
                if line.strip_prefix("at ").is_some_and(|to| at(to.parse().unwrap()) < case.now) {
                    continue;
                }
                case.step(&line);
                case.reconcile();
                // What is over by now the kernel ends by itself, where it does.
                let now = case.now;
                let live = |entry: &&Entry| entry.until.is_none_or(|until| until > now);
                for (scope, block) in case.desired.iter() {
                    let wanted = !block.is_over(now) && case.caps.takes(block);
                    let there = case.actual.entries.get(&scope).filter(live).is_some_and(|entry| entry.is(block));
                    prop_assert_eq!(wanted, there, "{}", scope);
                }
                for entry in case.actual.entries.values().filter(live) {
                    prop_assert!(case.desired.get(entry.scope).is_some(), "{}", entry.scope);
                }
            }
        }
    }
}
