//! What is a decision and what is damage: on nft, and where the kernel tells less of who it was.

use super::*;

/// Who names an element, with nft or with psentry-block, knows whom he lets in. A repair afterwards leaves him in.
#[test]
fn whom_somebody_let_in_stays_let_in() {
    let lab = Lab::new();
    let (mut program, mut stdin) = start(&lab, &["--backend", "nft"]);
    let (flush, unblock) = (format!("{} flush --backend nft", bin("psentry-block")), bin("psentry-block"));
    let stays = "198.18.0.0/24";
    for (who, hand, scopes) in [
        ("'nft'", "nft delete element inet psentry v4_32 '{ 203.0.113.7 }'", &[SCANNER][..]),
        (
            "'nft'",
            // One stays until this was seen: a set that is empty by then was flushed.
            "nft add element inet psentry v4_32 '{ 203.0.113.99 }'; \
                nft delete element inet psentry v4_32 '{ 203.0.113.7, 203.0.113.8 }'",
            &[SCANNER, "203.0.113.8/32"],
        ),
        ("'psentry-block'", &format!("{unblock} unblock 203.0.113.7"), &[SCANNER]),
        ("'psentry-block'", &flush, &[SCANNER, "203.0.113.8/32"]),
    ] {
        block(&mut program, &mut stdin, scopes);
        let others = hand != flush;
        if others {
            say(&mut stdin, Action::Block, stays, Some(600));
            outcome(&mut program, stays);
        }
        lab.guard.sh(hand);
        for scope in scopes {
            let told = outcome(&mut program, scope).body;
            assert_eq!(told.result, OutcomeResult::Released, "{hand}");
            assert!(told.error.as_ref().is_some_and(|why| why.contains(who)), "{hand}: {told:?}");
        }
        if others {
            let took = damaged(&program, &lab.guard, "nft flush ruleset", || count(&lab.guard, "v4_24") == 1);
            assert!(took < SECOND, "{took:?}: {hand}");
        }
        assert!(!lab.guard.sh("nft list ruleset").contains("203.0.113."), "{hand}");
        // A new verdict counts, and as it is: whoever was let in is not shut out for longer than asked.
        for scope in scopes {
            say(&mut stdin, Action::Block, scope, Some(60));
            let told = outcome(&mut program, scope);
            assert_eq!(told.body.result, OutcomeResult::Applied, "{hand}");
            assert!(told.body.until.unwrap().since(Timestamp::now()).as_secs() <= 60);
            say(&mut stdin, Action::Unblock, scope, None);
            assert_eq!(result(&mut program, scope), OutcomeResult::Released, "{hand}");
        }
    }
    block(&mut program, &mut stdin, &[stays]);
    lab.guard.sh(&flush);
    assert_eq!(result(&mut program, stays), OutcomeResult::Released);
    assert_eq!(lab.guard.sh("nft list ruleset"), "", "flushed on purpose, it is not made again");
}

/// Routes and hosts.deny have other guardians, and the same rules.
#[test]
fn routes_and_hosts_deny_mend_themselves_too() {
    let lab = Lab::new();
    let file = "/run/hosts.deny";
    let psentry = |words: &str| format!("{} {words} --hosts-deny {file}", bin("psentry-block"));
    for (backend, look, vandals) in [
        ("route", "ip route show type blackhole", &["ip route flush proto 158"; 2][..]),
        (
            "hosts-deny",
            "cat /run/hosts.deny 2>/dev/null || true",
            &["echo 'ALL: x' > /run/hosts.deny", "rm /run/hosts.deny"],
        ),
    ] {
        let (mut program, mut stdin) = start(&lab, &["--backend", backend, "--hosts-deny", file]);
        block(&mut program, &mut stdin, &[SCANNER, "203.0.113.8/32"]);
        let standing = || lab.guard.sh(look).matches("203.0.113.").count();
        for vandal in vandals {
            let took = damaged(&program, &lab.guard, vandal, || standing() == 2);
            println!("{took:>7.0?} {vandal}");
            assert!(took < SECOND, "{took:?}: {vandal}");
            assert!(program.complaint("put back").contains("somebody"), "{vandal}");
        }
        lab.guard.sh(&psentry(&format!("unblock 203.0.113.8 --backend {backend}")));
        let told = outcome(&mut program, "203.0.113.8/32").body;
        assert_eq!(told.result, OutcomeResult::Released, "{backend}");
        damaged(&program, &lab.guard, vandals[0], || standing() == 1);
        lab.guard.sh(&psentry(&format!("flush --backend {backend}")));
        assert_eq!(result(&mut program, SCANNER), OutcomeResult::Released, "{backend}");
        assert_eq!(standing(), 0, "{backend}");
    }
    let (mut program, mut stdin) = start(&lab, &["--backend", "hosts-deny", "--hosts-deny", file]);
    block(&mut program, &mut stdin, &[SCANNER, "203.0.113.8/32"]);
    lab.guard.sh(&format!("sed -i '/203.0.113.8$/d' {file}"));
    assert_eq!(result(&mut program, "203.0.113.8/32"), OutcomeResult::Released);
}
