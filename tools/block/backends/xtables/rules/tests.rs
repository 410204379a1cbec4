//! Rules as iptables prints them.

use super::*;

const LISTED: &str = "-P INPUT ACCEPT\n-N PSENTRY\n-N DOCKER-USER\n\
     -A INPUT -j PSENTRY\n\
     -A INPUT -s 10.0.0.0/8 -j ACCEPT\n\
     -A PSENTRY -s 192.0.2.7/32 -m comment --comment \"fan until 2026-11-22T15:04:05Z\" -j DROP\n";

#[test]
fn a_list_is_read_as_iptables_prints_it() {
    let rules = Rules::read(LISTED, false);
    assert!(rules.has_chain("PSENTRY") && !rules.has_chain("INPUT") && !rules.has_chain("PSEN"));
    assert_eq!((rules.chain("INPUT").count(), rules.chain("INP").count()), (2, 0));
    let rule = rules.chain("PSENTRY").next().unwrap();
    assert_eq!(rule.scope(), Some("192.0.2.7".parse().unwrap()));
    assert!(
        rule.is("-A PSENTRY -s 192.0.2.7/32 -m comment --comment \"fan until 2026-11-22T15:04:05Z\" -j DROP")
    );
    assert!(!rule.is("-A PSENTRY -s 192.0.2.7/32 -j DROP"));
    assert_eq!(rule.comment(), Some("fan until 2026-11-22T15:04:05Z"));
    assert_eq!(rule.target(), Some("DROP"));
    assert_eq!(
        rule.deletion(),
        "-D PSENTRY -s 192.0.2.7/32 -m comment --comment \"fan until 2026-11-22T15:04:05Z\" -j DROP"
    );
}

#[test]
fn commands_make_of_rules_what_iptables_lists_afterwards() {
    let mut rules = Rules::read(LISTED, false);
    let commands = [
        ":PSENTRY-OUT - [0:0]",
        "-I INPUT 1 -j PSENTRY-OUT",
        "-I INPUT 3 -j LOG",
        "-I OUTPUT 1 -j PSENTRY-OUT",
        "-D INPUT -s 10.0.0.0/8 -j ACCEPT",
        "-A PSENTRY-OUT -d 192.0.2.7/32 -j DROP",
        "-F PSENTRY",
        "-X PSENTRY",
    ];
    rules.run(&commands.map(str::to_owned));
    let after = Rules::read(
        "-N DOCKER-USER\n-N PSENTRY-OUT\n-A INPUT -j PSENTRY-OUT\n-A INPUT -j PSENTRY\n-A INPUT -j LOG\n\
         -A OUTPUT -j PSENTRY-OUT\n-A PSENTRY-OUT -d \"192.0.2.7/32\" -j DROP\n",
        false,
    );
    for chain in ["INPUT", "OUTPUT", "PSENTRY", "PSENTRY-OUT", "DOCKER-USER"] {
        assert!(rules.agrees(&after, chain), "{chain}");
    }
    rules.run(&["-D PSENTRY-OUT -d 192.0.2.7/32 -j DROP".to_owned()]);
    assert!(!rules.agrees(&after, "PSENTRY-OUT"));
}

#[test]
fn our_rules_are_kept_before_all_but_those_of_the_other_backend() {
    let placed = |listed: &str| {
        let is_jump = |rule: &Rule| rule.target() == Some("PSENTRY");
        let wanted = ["-j PSENTRY"];
        Rules::read(listed, false).place("INPUT", &wanted, is_jump).join("; ")
    };
    let insertion = "-I INPUT 1 -j PSENTRY";
    let set = "-A INPUT -m set --match-set psentry4 src -j DROP\n";
    assert_eq!(placed("-A FORWARD -j PSENTRY\n"), insertion);
    assert_eq!(placed("-A INPUT -j PSENTRY\n-A INPUT -j ACCEPT\n"), "");
    assert_eq!(placed(&format!("{set}-A INPUT -j PSENTRY\n")), "");
    let moved = format!("-D INPUT -j PSENTRY; {insertion}");
    assert_eq!(placed("-A INPUT -j DOCKER\n-A INPUT -j PSENTRY\n"), moved);
    assert_eq!(placed(&format!("{set}-A INPUT -j DOCKER\n-A INPUT -j PSENTRY\n")), moved);
    let twice = "-A INPUT -j PSENTRY\n-A INPUT -j PSENTRY\n";
    assert_eq!(placed(twice), format!("-D INPUT -j PSENTRY; {moved}"));
    // As psentry-block wrote it before, with a comment on what it had made.
    let noted = "INPUT -m comment --comment \"psentry made this table\" -j PSENTRY";
    assert_eq!(placed(&format!("-A {noted}\n")), format!("-D {noted}; {insertion}"));
}

#[test]
fn only_what_accepts_counts_whether_it_says_so_itself_or_its_chain_does() {
    let rules = Rules::read(
        "-P INPUT ACCEPT\n-N PSENTRY\n-N f2b\n-N ufw\n-N loop\n\
         -A INPUT -i lo -j ACCEPT\n-A INPUT -j f2b\n-A INPUT -j ufw\n-A INPUT -j loop\n\
         -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT\n-A INPUT -j PSENTRY\n-A INPUT -j ACCEPT\n\
         -A f2b -s 192.0.2.7/32 -j REJECT\n-A f2b -j RETURN\n\
         -A ufw -p tcp --dport 22 -j ACCEPT\n-A loop -j loop\n",
        false,
    );
    let is_jump = |rule: &Rule| rule.target() == Some("PSENTRY");
    let comes_before =
        |rule| format!("'iptables {rule}' comes before psentry's rule: what it accepts is not blocked");
    let before = ["-A INPUT -j ufw", "-A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT"];
    assert_eq!(rules.shadowing(true, is_jump), before.map(comes_before));
    let none = rules.shadowing(false, |rule| rule.target() == Some("PSENTRY-OUT"));
    assert_eq!(none, ["'ip6tables -S INPUT' has no rule of psentry: its blocks have no effect"]);
}

#[test]
fn what_no_packet_comes_to_has_no_effect() {
    let is_jump = |rule: &Rule| rule.target() == Some("PSENTRY");
    let listed = "-P INPUT ACCEPT\n-N PSENTRY\n-A INPUT -j PSENTRY\n";
    let shadowing = |listed: &str, dormant| Rules::read(listed, dormant).shadowing(true, is_jump);
    assert_eq!(shadowing(listed, false), [""; 0]);
    assert!(shadowing(listed, true)[0].starts_with("table ip filter is dormant"));
    // As iptables-nft lists a chain INPUT without a hook.
    let unhooked = shadowing(&format!("-N INPUT\n{listed}"), false);
    assert!(unhooked[0].starts_with("chain INPUT of table ip filter has no hook"), "{unhooked:?}");
    assert!(!Rules::read(listed, true).agrees(&Rules::read(listed, false), "INPUT"));
}
