//! What a blocked source is answered.

use super::*;

#[test]
fn who_is_rejected_is_answered_at_once_and_who_is_dropped_never() {
    for backend in FILTERS {
        let lab = Lab::new();
        let (_behind, _own, _echo) = (router(&lab), service(&lab.guard, 8087), echo(&lab.guard, 9053));
        let before = firewall(&lab);
        let targets = [(GUARD[0], 8087), (INNOCENT[0], 8088), (GUARD[0], LEADS_ON)];
        for (answer, heard) in [("drop", "timed out"), ("reject", "refused")] {
            let (mut program, mut stdin) = start(&lab, &["--backend", backend, "--answer", answer]);
            assert!(answered(&lab.scanner, ROUTER, 9053));
            block(&mut program, &mut stdin);
            for (address, port) in targets {
                assert_eq!(call(&lab.scanner, address, port), heard, "{backend} {address}");
            }
            let (answered, said) = asked(&lab.scanner, ROUTER, 9053);
            assert!(!answered);
            assert_eq!(said.contains("No route to host"), answer == "reject", "{backend}: {said}");
            let echoed = lab.scanner.ok(&["ping", "-n", "-c", "1", "-W", "1", GUARD[0]]);
            assert!(!echoed, "{backend}: not a ping either");
            // The longer prefix of IPv6 as well.
            say(&mut stdin, Action::Block, "2001:db8:7::/64", Some(600));
            assert_eq!(result(&mut program, "2001:db8:7::/64"), OutcomeResult::Applied);
            assert_eq!(call(&lab.scanner, GUARD[1], 8087), heard, "{backend}");
            say(&mut stdin, Action::Unblock, "2001:db8:7::/64", None);
            assert_eq!(result(&mut program, "2001:db8:7::/64"), OutcomeResult::Released);
            unblock(&mut program, &mut stdin);
            assert_eq!(call(&lab.scanner, GUARD[0], 8087), "reached");
            program.terminate();
        }
        flush(&lab, backend);
        assert_eq!(firewall(&lab), before, "{backend}");
    }
}

/// Of a route it is whoever sends to the source who is told.
#[test]
fn a_route_that_rejects_tells_who_sends() {
    let lab = Lab::new();
    let _behind = router(&lab);
    for (answer, kind, said) in
        [("drop", "blackhole", "Invalid argument"), ("reject", "prohibit", "Permission denied")]
    {
        let (mut program, mut stdin) = start(&lab, &["--backend", "route", "--answer", answer]);
        // What the first one blocked lasts for longer than the second one is asked for.
        let (seconds, want) =
            if answer == "drop" { (600, OutcomeResult::Applied) } else { (60, OutcomeResult::Already) };
        say(&mut stdin, Action::Block, SCOPE, Some(seconds));
        assert_eq!(result(&mut program, SCOPE), want);
        let routes = lab.guard.sh("ip route show proto 158");
        assert!(routes.starts_with(&format!("{kind} 203.0.113.7 ")), "{routes}");
        let (_, error) = asked(&lab.guard, SCANNER[0], 9053);
        assert!(error.contains(said), "{error}");
        let (_, error) = asked(&lab.innocent, SCANNER[0], 9053);
        assert_eq!(error.contains("No route to host"), answer == "reject", "{error}");
        // Killed, so that the next one finds the route and gives it its own kind.
        program.signal(Signal::SIGKILL);
        program.end();
    }
    let (mut program, mut stdin) = start(&lab, &["--backend", "route"]);
    let list = || lab.guard.sh("ip route show proto 158");
    wait_until("the route is a blackhole again", || list().starts_with("blackhole 203.0.113.7 "));
    assert_eq!(list().lines().count(), 1);
    // The ends of a longer and of a shorter block, over a route of the other kind.
    unblock(&mut program, &mut stdin);
    assert_eq!(list(), "");
    program.terminate();
}

/// Of two rules that answer one set the reset comes first, whichever of them somebody takes away.
#[test]
fn a_reset_that_somebody_took_away_is_a_reset_again() {
    let lab = Lab::new();
    let _own = service(&lab.guard, 8087);
    let (mut program, mut stdin) = start(&lab, &["--backend", "nft", "--answer", "reject"]);
    block(&mut program, &mut stdin);
    for words in ["tcp reset", "admin-prohibited"] {
        lab.guard.sh(&format!(
            "nft delete rule inet psentry prerouting handle \
             $(nft -a list chain inet psentry prerouting | sed -n 's/.*@v4_32 .*{words}.*handle //p')"
        ));
        program.complaint("put back within");
        assert_eq!(call(&lab.scanner, GUARD[0], 8087), "refused", "{words}");
    }
}
