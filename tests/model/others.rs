//! What others do by hand, as lines of shell, and whom they let in with it, by the manual: whoever takes away what blocks
//! stand in decides nothing, whoever names elements does.

use psentry_records::Prefix;

use super::known::Known;

/// A line of shell, and whom it lets in if psentry-block runs.
pub struct Hand {
    pub command: String,
    pub let_in: Vec<Prefix>,
}

const RELOAD: &str = "printf 'flush ruleset\\ntable inet filter { chain input { type filter hook input priority 0; \
    tcp dport 22 accept; }; }\\n' | nft -f -";

/// Ways to take away all or much of a backend's ruleset; `true`: only while psentry-block is dead, for otherwise nobody
/// would tell it.
const DAMAGE: [(&str, bool, &[&str]); 5] = [
    (
        "nft",
        false,
        &[
            "nft flush ruleset",
            RELOAD,
            "nft delete table inet psentry",
            "nft flush set inet psentry v4_32",
            "nft flush set inet psentry v6_64",
            "nft flush chain inet psentry prerouting",
            "nft flush table inet psentry",
            "nft add table inet psentry '{ flags dormant; }'",
        ],
    ),
    ("route", false, &["ip route flush proto 158", "ip -6 route flush proto 158"]),
    ("hosts-deny", false, &["rm -f /run/hosts.deny", "echo 'ALL: x' > /run/hosts.deny"]),
    ("ipset", true, &["ipset flush psentry4", "ipset flush psentry6", "nft flush ruleset"]),
    ("iptables", true, &["iptables -F PSENTRY", "ip6tables -F PSENTRY", "nft flush ruleset"]),
];

/// The set of nft in which a scope stands.
pub fn set(scope: Prefix) -> String {
    format!("{}_{}", if scope.is_ipv4() { "v4" } else { "v6" }, scope.len())
}

impl Hand {
    /// One of the ways of damage, if there is one.
    pub fn damage(backend: &str, way: usize, running: bool, known: &Known) -> Option<Self> {
        let (_, only_dead, ways) = DAMAGE.iter().find(|(name, ..)| *name == backend)?;
        if running && *only_dead {
            return None;
        }
        let command = ways[way % ways.len()].to_owned();
        // A flush of a set with one element looks like the end of that element.
        let flushed = command.strip_prefix("nft flush set inet psentry ");
        let is_in = |scope: &Prefix| flushed.is_some_and(|name| set(*scope) == name);
        let in_it: Vec<Prefix> = known.blocks.keys().filter(|scope| is_in(scope)).copied().collect();
        // What has ended is flushed with the rest until the kernel has swept it out, and then they were several.
        if running && in_it.len() == 1 && known.ended_lately().any(|scope| is_in(&scope)) {
            return None;
        }
        let let_in = if running && in_it.len() == 1 { in_it } else { Vec::new() };
        Some(Hand { command, let_in })
    }
}

/// The end of such of these as are blocked and in one set, in one line.
pub fn delete(backend: &str, scopes: &[&str], known: &Known) -> Option<Hand> {
    let mut chosen: Vec<Prefix> = scopes.iter().map(|scope| scope.parse().unwrap()).collect();
    chosen.retain(|scope| known.blocks.contains_key(scope));
    chosen.sort_unstable();
    chosen.dedup();
    let first = *chosen.first().filter(|_| backend == "nft")?;
    chosen.retain(|scope| set(*scope) == set(first));
    let elements = chosen.iter().map(|scope| scope.addr().to_string()).collect::<Vec<_>>().join(", ");
    let command = format!("nft delete element inet psentry {} '{{ {elements} }}'", set(first));
    let beside = known.blocks.keys().filter(|scope| set(**scope) == set(first)).count() > chosen.len();
    // All of several at once look like a flush, and are put back.
    let let_in = if beside || chosen.len() == 1 { chosen } else { Vec::new() };
    Some(Hand { command, let_in })
}
