//! Rules that lead to blocks, among those of others.

use super::*;

#[test]
fn our_rules_are_kept_before_all_but_those_of_the_other_backend() {
    let placed = |listed: &str| {
        let is_jump = |rule: &Rule| rule.target() == Some("PSENTRY");
        let wanted = ["-j PSENTRY".to_owned()];
        place(&Rules::read(listed, false), "INPUT", &wanted, is_jump).join("; ")
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
    assert_eq!(shadowing(&rules, true, is_jump), before.map(comes_before));
    let none = shadowing(&rules, false, |rule| rule.target() == Some("PSENTRY-OUT"));
    assert_eq!(none, ["'ip6tables -S INPUT' has no rule of psentry: its blocks have no effect"]);
}

#[test]
fn what_no_packet_comes_to_has_no_effect() {
    let is_jump = |rule: &Rule| rule.target() == Some("PSENTRY");
    let listed = "-P INPUT ACCEPT\n-N PSENTRY\n-A INPUT -j PSENTRY\n";
    let shadowing = |listed: &str, dormant| super::shadowing(&Rules::read(listed, dormant), true, is_jump);
    assert_eq!(shadowing(listed, false), [""; 0]);
    assert!(shadowing(listed, true)[0].starts_with("table ip filter is dormant"));
    // As iptables-nft lists a chain INPUT without a hook.
    let unhooked = shadowing(&format!("-N INPUT\n{listed}"), false);
    assert!(unhooked[0].starts_with("chain INPUT of table ip filter has no hook"), "{unhooked:?}");
    assert!(!Rules::read(listed, true).agrees(&Rules::read(listed, false), "INPUT"));
}
