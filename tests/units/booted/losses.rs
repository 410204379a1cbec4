//! What is lost under load: nothing by a stage that is restarted or asked to stop, by one that is killed what it had
//! in hand, and nothing by a restart of all of psentry, which closes neither pipe nor decoy.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Read;
use std::net::IpAddr;

use psentry_records::{OutcomeResult, Record};

use super::guard_and_scanner;
use super::load::{Load, Sent, VISITORS};
use crate::lab::{Booted, Host, wait_until};

/// How often each stage is hit in each way. First as soon as it is back, while it works off what came meanwhile, and
/// each time [`LATER`] probes later, until it is idle.
const TIMES: u32 = 4;

/// 150 milliseconds.
const LATER: u32 = 75;

/// How many blocks the blocker lets wait for the kernel.
const AHEAD: u32 = 256;

/// What a stage may have read and not yet written: what one read(2) gives, what was left of the read before, and
/// the probe that is cut in two by them.
fn in_hand() -> u32 {
    u32::try_from(4096 / Load::probe(0).len()).unwrap() + 2
}

/// A guard on which psentry runs and convicts at the first touch, however many come, except those who visit its
/// decoys.
fn standing() -> (Booted, Host, Load) {
    let (guard, scanner) = guard_and_scanner();
    guard.sh(&format!(
        "/opt/psentry/units/install --programs /opt/psentry/bin
         sed -i 's/^MODE=.*/OBSERVE=/; s/^JUDGE=.*/JUDGE=--trigger 1/; s|^BLOCK=.*|& --max-blocks 1000000 --brake 1000000/min --log /var/log/psentry/records.jsonl,1G,2 --log-rate none|' /etc/psentry/psentry.conf
         printf '[brake]\nblocks = 0\n[sweep]\nsources = 0\n' > /etc/psentry/policy.toml
         echo {VISITORS} >> /etc/psentry/ignore; systemctl restart psentry.target"
    ));
    wait_until("all stand", || guard.ok("systemctl is-active psentry-listen psentry-judge psentry-block"));
    let decoys = guard.sh("systemctl list-units --plain --no-legend --state=active 'psentry-tcp@*.socket' |
         sed -n 's/^psentry-tcp@\\([0-9]*\\).*/\\1/p'");
    let decoys = decoys.lines().map(|port| port.parse().unwrap()).collect();
    let load = Load::new(&guard, &scanner, decoys);
    (guard, scanner, load)
}

/// The log of a guard, as far as it was read.
struct Log {
    file: File,
    rest: String,
    /// How often each probe was told, by source and, for visits, port.
    probes: HashMap<(IpAddr, Option<u16>), u32>,
    /// Whom a verdict is about.
    convicted: HashSet<IpAddr>,
    /// Whose block was told.
    applied: HashSet<IpAddr>,
}

impl Log {
    fn of(guard: &Booted) -> Self {
        let file = File::open(guard.path("/var/log/psentry/records.jsonl")).unwrap();
        let (convicted, applied) = (HashSet::new(), HashSet::new());
        Log { file, rest: String::new(), probes: HashMap::new(), convicted, applied }
    }

    /// Reads what is new, but for a line that is being written. Whatever happens to a stage, it writes whole lines.
    fn read(&mut self) {
        self.file.read_to_string(&mut self.rest).unwrap();
        let whole = self.rest.rfind('\n').map_or(0, |end| end + 1);
        let rest = self.rest.split_off(whole);
        for line in std::mem::replace(&mut self.rest, rest).lines() {
            match Record::parse(line).unwrap_or_else(|why| panic!("the log has {line:?}: {why}")) {
                Record::Probe(probe) => {
                    let who = (probe.common.src_ip.unwrap(), probe.common.src_port);
                    *self.probes.entry(who).or_default() += 1;
                }
                Record::Verdict(verdict) => {
                    self.convicted.insert(verdict.body.scope.addr());
                }
                Record::Outcome(outcome) if outcome.body.result == OutcomeResult::Applied => {
                    self.applied.insert(outcome.body.scope.addr());
                }
                _ => {}
            }
        }
    }
}

/// What did not arrive.
#[derive(Debug, PartialEq, Eq)]
struct Lost {
    /// Probes that were written into the FIFO and are not in the log.
    probes: u32,
    /// Visits to decoys whose handshake was completed and that are not in the log.
    visits: u32,
    /// Sources whose probe was written into the FIFO and about whom the log has no verdict.
    verdicts: u32,
    /// Such sources who are not blocked, whatever the log says.
    blocks: u32,
}

const NOTHING: Lost = Lost { probes: 0, visits: 0, verdicts: 0, blocks: 0 };

/// Waits until all has arrived that will, and says what has not; prints it, too.
fn lost(what: &str, guard: &Booted, log: &mut Log, sent: &Sent) -> Lost {
    let last: IpAddr = Load::source(sent.probes.end - 1).into();
    wait_until("the last probe is answered", || {
        log.read();
        log.applied.contains(&last)
    });
    let rules = guard.sh("nft list ruleset");
    let shut_out: HashSet<IpAddr> =
        rules.split([' ', ',', '\n', '\t']).filter_map(|word| word.parse().ok()).collect();
    let sources: Vec<IpAddr> = sent.probes.clone().map(|number| Load::source(number).into()).collect();
    let probes = sources.iter().map(|&source| (source, None));
    let visits = sent.visits.iter().map(|&port| (IpAddr::from(Load::visitor(port)), Some(port)));
    let twice = probes.clone().chain(visits.clone()).find(|who| log.probes.get(who).is_some_and(|&n| n > 1));
    assert_eq!(twice, None, "{what}: told twice");
    let count = |missing: usize| u32::try_from(missing).unwrap();
    let lost = Lost {
        probes: count(probes.filter(|who| !log.probes.contains_key(who)).count()),
        visits: count(visits.filter(|who| !log.probes.contains_key(who)).count()),
        verdicts: count(sources.iter().filter(|source| !log.convicted.contains(source)).count()),
        blocks: count(sources.iter().filter(|source| !shut_out.contains(source)).count()),
    };
    println!(
        "{what}: lost {} of {} probes ({} a second), {} of {} visits ({} a second), {} verdicts, {} blocks",
        lost.probes,
        sources.len(),
        sent.rates.0,
        lost.visits,
        sent.visits.len(),
        sent.rates.1,
        lost.verdicts,
        lost.blocks
    );
    assert_eq!((sent.missing, sent.refused), (0, 0), "{what}: the FIFO was missing, a decoy was closed");
    lost
}

#[test]
fn stages_that_stop_lose_nothing_and_killed_ones_what_they_had_in_hand() {
    if !Booted::possible() {
        return;
    }
    let (guard, _scanner, mut load) = standing();
    let mut log = Log::of(&guard);
    let process = |stage: &str| guard.sh(&format!("systemctl show -P MainPID psentry-{stage}"));
    let mut hit = |stage: &str, name: &str, how: &str| {
        let sent = load.during(|progress| {
            for time in 0..TIMES {
                progress.more(time * LATER);
                let before = process(stage);
                guard.sh(&format!("systemctl {how} psentry-{stage}"));
                wait_until(&format!("psentry-{stage} is back"), || {
                    !["0\n", &before].contains(&&*process(stage))
                });
            }
            progress.more(TIMES * LATER);
        });
        lost(&format!("psentry-{stage} {name} {TIMES} times"), &guard, &mut log, &sent)
    };
    for stage in ["block", "judge", "listen"] {
        assert_eq!(hit(stage, "restarted", "restart"), NOTHING);
        assert_eq!(hit(stage, "asked to stop", "kill --signal=TERM"), NOTHING);
        let Lost { probes, visits, verdicts, blocks } = hit(stage, "killed", "kill --signal=KILL");
        if stage == "listen" {
            // It notes a visitor before it receives the next; others wait in the socket, which systemd holds.
            assert!(visits <= TIMES);
            assert_eq!((probes, verdicts, blocks), (0, 0, 0));
        } else {
            assert!(probes + visits <= TIMES * in_hand());
            assert!(verdicts <= TIMES * in_hand());
            // The blocker reads on while the kernel works, but no further than that: one lot is with the kernel and
            // one waits. What came meanwhile is still in the pipe.
            let waits = if stage == "block" { TIMES * 2 * AHEAD } else { 0 };
            assert!(blocks <= verdicts + waits);
        }
    }
}

#[test]
fn a_restart_of_all_of_psentry_loses_nothing() {
    if !Booted::possible() {
        return;
    }
    let (guard, _scanner, mut load) = standing();
    let mut log = Log::of(&guard);
    // More often than systemd starts a unit by default.
    let sent = load.during(|progress| {
        for _ in 0..8 {
            progress.more(LATER);
            guard.sh("systemctl restart psentry.target");
        }
        progress.more(LATER);
    });
    assert_eq!(lost("psentry.target restarted 8 times", &guard, &mut log, &sent), NOTHING);
}
