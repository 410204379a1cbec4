//! kill -9 at any moment: what an outcome said is so for whoever comes next, as long as the kernel has it and after a reboot.

use std::collections::HashSet;

use super::*;

/// In the middle of blocks and releases on a backend that can be listed and on one that cannot.
#[test]
fn what_an_outcome_said_is_so_after_a_kill() {
    let (state, mut lab) = (State::new(), Lab::new());
    let exec = ["--backend", "exec", "--exec", "true {addr}", "--exec-undo", "true {addr}"];
    let flags = state.flags(&[&["--backend", "nft"][..], &exec].concat());
    let (mut applied, mut released) = (HashSet::new(), HashSet::new());
    let scope = |n: u32| format!("198.18.{}.{}", n / 250, n % 250);
    for round in 0..8_u32 {
        let (mut block, mut stdin) = start(&lab, &flags);
        let feeder = std::thread::spawn(move || {
            for n in round * 1000..round * 1000 + 1000 {
                let verdict = |stdin: &mut std::process::ChildStdin, action, scope: &str| {
                    let body = VerdictBody {
                        duration: Some(7200),
                        ..VerdictBody::new(action, scope.parse().unwrap())
                    };
                    Writer::new(stdin)
                        .write(&Record::Verdict(Verdict { common: Common::at(Timestamp::now()), body }))
                };
                // Every third one is released soon, so that nobody can say what becomes of those that are not answered.
                let result = verdict(&mut stdin, Action::Block, &scope(n));
                let again = if n % 3 == 0 && n >= 30 {
                    verdict(&mut stdin, Action::Unblock, &scope(n - 30))
                } else {
                    Ok(())
                };
                if result.and(again).is_err() {
                    return;
                }
            }
        });
        let mut told = Vec::new();
        while told.len() < (1 + 61 * round) as usize {
            told.push(block.line("outcome", |line| line.contains("\"outcome\"")));
        }
        block.signal(Signal::SIGKILL);
        told.extend(block.end().1);
        feeder.join().unwrap();
        for line in told {
            let Ok(Record::Outcome(outcome)) = Record::parse(&line) else { continue };
            let key = (outcome.body.scope.to_string(), outcome.body.backend.unwrap());
            match outcome.body.result {
                OutcomeResult::Applied => _ = applied.insert(key),
                OutcomeResult::Released => _ = released.insert(key),
                _ => {}
            }
        }
        let check = |lab: &Lab, when: &str| {
            let there: HashSet<(String, String)> =
                listed(lab, &flags).into_iter().map(|(scope, backend, _)| (scope, backend)).collect();
            let is_released = |(scope, _): &&(String, String)| {
                let number = scope.split(['.', '/']).skip(2).take(2).map(|part| part.parse::<u32>().unwrap());
                number.reduce(|third, fourth| third * 250 + fourth).unwrap() % 3 == 0
            };
            let lost = applied.difference(&there).find(|key| !is_released(key));
            assert_eq!(lost, None, "round {round}, {when}: an outcome said applied");
            assert_eq!(
                released.intersection(&there).next(),
                None,
                "round {round}, {when}: an outcome said released"
            );
            println!("{} there {when}", there.len());
        };
        check(&lab, "after the kill");
        if round % 2 == 1 {
            // The machine is started again. What is only in the journal is in the kernel once it is ready.
            lab = Lab::new();
            let (mut block, _stdin) = start(&lab, &flags);
            restored(&mut block);
            check(&lab, "after a reboot");
            kill(&mut block);
        }
    }
    assert!(applied.len() > 1000 && released.len() > 50, "{} {}", applied.len(), released.len());
}
