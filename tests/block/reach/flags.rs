//! The ruleset follows the flags: another run with others makes it anew, and what somebody deletes is put back as these flags
//! have it. And it explains itself without psentry.

use super::*;

/// The rules and chains of our table, without counters and elements.
fn table(lab: &Lab) -> String {
    lab.guard.sh("nft -s list table inet psentry | grep -v -e elements -e ' timeout [0-9]'")
}

#[test]
fn other_flags_make_another_ruleset_and_a_flush_brings_it_back() {
    let lab = Lab::new();
    let _service = service(&lab.guard, 8087);
    let variants: [&[&str]; 5] = [
        &["--answer", "reject"],
        &["--forward", "no", "--egress", "yes"],
        &["--spare-established", "--egress", "yes"],
        &["--ports", "probed"],
        &[],
    ];
    let (mut program, mut stdin) = start(&lab, &["--backend", "nft"]);
    block(&mut program, &mut stdin);
    let plain = table(&lab);
    program.terminate();
    for flags in variants {
        let (mut program, mut stdin) = start(&lab, &[&["--backend", "nft"], flags].concat());
        say(&mut stdin, Action::Block, "203.0.113.8", Some(600));
        assert_eq!(result(&mut program, "203.0.113.8/32"), OutcomeResult::Applied);
        let made = table(&lab);
        assert_eq!(made == plain, flags.is_empty() || flags == ["--ports", "probed"], "{flags:?}: {made}");
        let heard = if flags.contains(&"reject") { "refused" } else { "timed out" };
        assert_eq!(call(&lab.scanner, GUARD[0], 8087), heard, "{flags:?}: what an earlier run blocked");
        let flush_chain = "nft flush chain inet psentry $(nft list table inet psentry | sed -n \
             's/.*chain \\([a-z_]*\\) .*/\\1/p' | head -1)";
        for (vandal, blocks) in [("nft flush ruleset", true), (flush_chain, false)] {
            lab.guard.sh(vandal);
            program.complaint("put back within");
            if blocks {
                put_back(&mut program, "203.0.113.8/32");
            }
            assert_eq!(table(&lab), made, "{vandal} {flags:?}");
            assert_eq!(call(&lab.scanner, GUARD[0], 8087), heard, "{vandal} {flags:?}");
        }
        say(&mut stdin, Action::Unblock, "203.0.113.8", None);
        assert_eq!(result(&mut program, "203.0.113.8/32"), OutcomeResult::Released);
        program.terminate();
    }
    assert_eq!(table(&lab), plain);
}

#[test]
fn other_flags_make_other_rules_of_iptables_and_ipset() {
    for backend in ["iptables", "ipset"] {
        let lab = Lab::new();
        let _service = service(&lab.guard, 8087);
        // Whether psentry made a chain depends on what was there before.
        let rules = || {
            lab.guard
                .sh("(iptables -S; ip6tables -S) | sed 's/ -m comment --comment .psentry made [^ ]* [^ ]*//'")
        };
        let before = firewall(&lab);
        let (mut program, mut stdin) = start(&lab, &["--backend", backend]);
        let mut known = Vec::new();
        say(&mut stdin, Action::Block, SCOPE, None);
        assert_eq!(result(&mut program, SCOPE), OutcomeResult::Applied);
        known.push(rules());
        program.terminate();
        for flags in [
            &["--answer", "reject"][..],
            &["--forward", "no"],
            &["--egress", "yes"],
            &["--egress", "yes", "--spare-established"],
            &[],
        ] {
            let mut seen = Vec::new();
            for _ in 0..2 {
                let (mut program, mut stdin) = start(&lab, &[&["--backend", backend], flags].concat());
                say(&mut stdin, Action::Unblock, "198.18.0.1", None);
                assert_eq!(result(&mut program, "198.18.0.1/32"), OutcomeResult::Already);
                // That nobody is blocked there was known before the block of an earlier run had got its new rules.
                wait_until("all is as these flags say", || {
                    lab.guard.ok(&[bin("psentry-block"), "status", "--json"])
                });
                seen.push(rules());
                let heard = if flags.contains(&"reject") { "refused" } else { "timed out" };
                assert_eq!(call(&lab.scanner, GUARD[0], 8087), heard, "{backend} {flags:?}");
                program.terminate();
            }
            assert_eq!(
                seen[seen.len() - 2],
                seen[seen.len() - 1],
                "{backend} {flags:?}: again it is the same"
            );
            let new = seen.pop().unwrap();
            assert_eq!(known.contains(&new), flags.is_empty(), "{backend} {flags:?}: {new}");
            known.push(new);
        }
        assert_eq!(known.first(), known.last(), "{backend}");
        flush(&lab, backend);
        assert_eq!(firewall(&lab), before, "{backend}");
    }
}

/// Whoever has never heard of psentry sees whose it is, who decided, since when and until when.
#[test]
fn a_ruleset_says_whose_it_is_and_why_and_until_when() {
    let lab = Lab::new();
    for backend in FILTERS {
        let (mut program, mut stdin) = start(&lab, &["--backend", backend]);
        let before = Timestamp::now();
        tell(&mut stdin, &[22], Proto::Tcp, 3600);
        assert_eq!(result(&mut program, SCOPE), OutcomeResult::Applied);
        let story = match backend {
            "nft" => lab.guard.sh("nft list table inet psentry"),
            "iptables" => lab.guard.sh("iptables -S PSENTRY"),
            _ => lab.guard.sh("ipset list psentry4"),
        };
        let (_, rest) = story.split_once("\"sequential at ").unwrap_or_else(|| panic!("{backend}: {story}"));
        let (at, rest) = rest.split_once(" until ").unwrap();
        let (until, _) = rest.split_once('"').unwrap();
        let [at, until]: [Timestamp; 2] = [at, until].map(|text| text.parse().unwrap());
        assert!(before.since(at).as_secs() <= 1 && at.since(before).as_secs() <= 5, "{backend}: {story}");
        assert!((3600..=3601).contains(&until.since(at).as_secs()), "{backend}: {story}");
        if backend == "nft" {
            assert!(story.contains("comment \"kept by psentry-block(8)"), "{story}");
            assert!(story.contains("psentry-block flush"), "{story}");
        }
        program.terminate();
        flush(&lab, backend);
    }
}

/// A command is given no flags of a block's reach, and there may be no socket by which it finds out who runs.
#[test]
fn what_a_running_one_made_outlasts_commands_without_its_flags() {
    for backend in ["nft", "iptables", "ipset", "route"] {
        let lab = Lab::new();
        let flags: &[&str] = if backend == "route" {
            &["--answer", "reject"]
        } else {
            &["--answer", "reject", "--forward", "no"]
        };
        let (mut program, mut stdin) = start(&lab, &[&["--backend", backend], flags].concat());
        block(&mut program, &mut stdin);
        let made = || {
            lab.guard.sh("nft -s list table inet psentry 2>/dev/null | sed '/elements\\|expires/d'
                 (iptables -S; ip6tables -S) | sed '/^-P/d'; ip route")
        };
        let before = made();
        assert!(before.contains("reject") || before.contains("REJECT") || before.contains("prohibit"));
        let command = |line: &[&str]| {
            let output = lab.guard.run(&[&[bin("psentry-block")], line, &["--backend", backend]].concat());
            assert!(
                output.status.success(),
                "{backend} {line:?}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        };
        for line in [&["list"][..], &["why", "203.0.113.7"], &["unblock", "198.18.0.1"]] {
            command(line);
            assert_eq!(made(), before, "{backend} {line:?}");
        }
        command(&["block", "203.0.113.9", "--for", "10m"]);
        command(&["unblock", "203.0.113.9"]);
        wait_until(&format!("{backend} is as it was"), || made() == before);
        command(&["flush"]);
        wait_until(&format!("nothing is left of {backend}"), || {
            let left = made();
            !left.contains("psentry") && !left.contains("PSENTRY") && !left.contains("prohibit")
        });
    }
}

/// An element as an older psentry-block wrote it.
#[test]
fn what_an_older_psentry_block_left_is_adopted() {
    let lab = Lab::new();
    let (mut program, _stdin) = start(&lab, &[]);
    wait_until("the table is there", || lab.guard.ok(&["nft", "list", "set", "inet", "psentry", "v4_32"]));
    program.terminate();
    // It kept its journal elsewhere, or none.
    lab.guard.sh("rm -r /run/psentry-block
         nft 'add element inet psentry v4_32 { 203.0.113.7 timeout 600s comment \"fan until unblocked\" }'");
    let (mut program, mut stdin) = start(&lab, &["--answer", "reject"]);
    say(&mut stdin, Action::Block, SCOPE, Some(60));
    assert_eq!(result(&mut program, SCOPE), OutcomeResult::Already);
}

#[test]
fn a_flag_that_a_backend_cannot_heed_is_refused() {
    for (line, said) in [
        (
            "--backend route --ports probed",
            "--ports probed is not for --backend route: a route knows no ports",
        ),
        (
            "--backend nft --backend hosts-deny --answer reject",
            "--answer reject is not for --backend hosts-deny",
        ),
        ("--answer reject --egress yes", "contradict each other"),
    ] {
        for check in [None, Some("--check")] {
            let mut command = Command::new(bin("psentry-block"));
            let output = command.args(line.split(' ')).args(check).stdin(Stdio::null()).output().unwrap();
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(error.contains(said), "{line}: {error}");
            assert_eq!(output.status.code(), Some(if check.is_some() { 78 } else { 64 }), "{line}");
        }
    }
}
