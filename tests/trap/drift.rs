//! Rules that somebody else changes are loaded again within a second, and the quarantine is kept, where
//! somebody changed the rules and not the quarantine.

use psentry_records::Record;

use super::{counter, probe, quarantined, stands, trap};
use crate::lab::{GUARD, Lab, SCANNER, wait_until};

/// As it is in a set, for as long as a second.
const PROBED: &str = "elements = { 198.51.100.1 . 9 }";

/// The lines of the table, but for what the rules put into its sets: the scanner's address, and the port that it probed. A chain
/// that is made anew has another place.
fn rules(lab: &Lab) -> Vec<String> {
    let text = lab.guard.read(&["nft", "-s", "list", "table", "inet", "psentry_trap"]);
    let mut lines: Vec<String> = text
        .lines()
        .filter(|line| !line.contains(SCANNER[0]) && !line.contains(PROBED))
        .map(str::to_owned)
        .collect();
    lines.sort();
    lines
}

/// The handle of a rule in a chain, by its text.
fn handle(lab: &Lab, chain: &str, rule: &str) -> String {
    let listing = lab.guard.read(&["nft", "-a", "list", "chain", "inet", "psentry_trap", chain]);
    let line =
        listing.lines().find(|line| line.trim().starts_with(rule)).unwrap_or_else(|| panic!("{listing}"));
    line.rsplit_once("# handle ").unwrap().1.to_owned()
}

#[test]
fn whatever_others_change_is_changed_back() {
    let lab = Lab::new();
    let allow = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&allow, "192.0.2.77\n").unwrap();
    let table = "inet psentry_trap";
    for (vandal, kept) in [
        (format!("flush table {table}"), true),
        (format!("flush chain {table} input"), true),
        (format!("flush chain {table} prerouting"), true),
        ("one rule".to_owned(), true),
        ("another rule".to_owned(), true),
        (format!("add table {table} {{ flags dormant; }}"), true),
        (format!("chain {table} input {{ policy drop; }}"), true),
        (format!("insert rule {table} input accept"), true),
        (format!("flush set {table} allow4"), true),
        (format!("delete element {table} allow4 {{ 192.0.2.77 }}"), true),
        (format!("flush table {table}; delete chain {table} input"), true),
        (format!("flush table {table}; delete set {table} siblings"), false),
        (
            format!(
                "flush table {table}; add table {table} {{ flags dormant; }}; delete chain {table} input"
            ),
            true,
        ),
        (format!("delete table {table}"), false),
        ("flush ruleset".to_owned(), false),
    ] {
        let mut trap = trap(&lab, &["--quarantine", "10m", "--allow", allow.path().to_str().unwrap()]);
        let before = rules(&lab);
        lab.scanner.is_shut_out(GUARD[0], 9);
        assert_eq!(quarantined(&lab), [true, false]);
        probe(&mut trap, "the first probe", |_| true);
        let text = match vandal.as_str() {
            "one rule" => {
                format!(
                    "delete rule {table} input handle {}",
                    handle(&lab, "input", "meta l4proto { tcp, udp }")
                )
            }
            "another rule" => {
                let handle = handle(&lab, "probe", "goto quarantine_probe");
                format!("replace rule {table} probe handle {handle} accept")
            }
            text => text.to_owned(),
        };
        lab.guard.read(&["nft", &text]);
        let told = trap.complaint("the rules");
        let how = if kept { "quarantine is kept" } else { "quarantine is empty" };
        assert!(told.contains("'nft' (process ") && told.contains(how), "{vandal}: {told}");
        let after = rules(&lab);
        assert!(after == before, "{vandal}: {after:#?}");
        assert_eq!(quarantined(&lab), [kept, false], "{vandal}");
        lab.innocent.is_shut_out(GUARD[0], 11);
        probe(&mut trap, &vandal, |probe| probe.common.dest_port == Some(11));
        let (_, lines, errors) = trap.terminate();
        assert_eq!(counter(&lines, "repairs"), 1, "{vandal}: {errors:?}");
    }
}

/// What the rules fill themselves is the administrator's, and other tables are their owners'.
#[test]
fn what_is_no_rule_is_left_as_others_have_it() {
    let lab = Lab::new();
    let mut trap = trap(&lab, &[]);
    lab.scanner.is_shut_out(GUARD[0], 9);
    lab.guard.sh("nft flush set inet psentry_trap quarantine4
        nft add table inet mine; nft add chain inet mine one; nft add rule inet mine one accept; nft delete table inet mine
        nft reset counters table inet psentry_trap > /dev/null
        ip route add 203.0.113.128/25 via 203.0.113.7");
    // The trap's own changes are none of others.
    lab.guard.sh("ip route add default via 203.0.113.7");
    wait_until("its own change is made", || {
        lab.guard
            .read(&["nft", "list", "set", "inet", "psentry_trap", "infrastructure4"])
            .contains("203.0.113.7")
    });
    let (_, lines, errors) = trap.terminate();
    assert_eq!((counter(&lines, "repairs"), said_to_be_loaded_again(&errors)), (0, 0), "{errors:?}");
}

fn said_to_be_loaded_again(errors: &[String]) -> usize {
    errors.iter().filter(|line| line.contains("loaded again")).count()
}

#[test]
fn who_changes_the_rules_again_and_again_is_told_of_and_not_fought() {
    let lab = Lab::new();
    let mut trap = trap(&lab, &[]);
    for _ in 0..5 {
        lab.guard.read(&["nft", "flush chain inet psentry_trap input"]);
        trap.complaint("changed the rules");
    }
    trap.complaint("at most every 10 s");
    lab.guard.read(&["nft", "flush chain inet psentry_trap input"]);
    trap.signal(nix::sys::signal::Signal::SIGUSR1);
    trap.record(
        "stats",
        |record| matches!(record, Record::Stats(stats) if stats.body.counter("repairs") == 5),
    );
    assert!(stands(&lab));
}
