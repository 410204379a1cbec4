//! The damage that others do, as lines of shell, and whom they let in with it, by the manual: whoever takes away what
//! blocks stand in decides nothing; but where it held one block only, that looks like the end of this block, and lets in.

use std::fmt;

use psentry_records::Prefix;

use super::known::Known;

/// The backends of a psentry-block, and which variant of iptables it finds.
#[derive(Clone, Copy)]
pub struct Setting {
    pub backends: &'static [&'static str],
    pub legacy: bool,
}

/// A line of shell, and whom it lets in if psentry-block runs.
pub struct ManualChange {
    pub command: String,
    /// How many repairs it may take.
    pub repairs: u32,
    pub releases: Vec<Prefix>,
}

const RELOAD: &str = "printf 'flush ruleset\\ntable inet filter { chain input { type filter hook input priority 0; \
    tcp dport 22 accept; }; }\\n' | nft -f -";

/// What was saved when each block had eight hours left. What stands when psentry-block starts stays, so that this is for
/// one that runs.
const SAVED: &str = "(echo delete table inet psentry; nft list table inet psentry | \
    sed 's/timeout [^ ]* expires [^ ]*/timeout 9h expires 8h/') | nft -f -";

const RESTORE: &str = "printf '*filter\\n:INPUT ACCEPT [0:0]\\n:FORWARD ACCEPT [0:0]\\n:OUTPUT ACCEPT [0:0]\\nCOMMIT\\n' | \
    iptables-restore";

/// Ways to take away all or much of what a backend keeps, and how many repairs each may take.
const DAMAGE: [(&str, &[(&str, u32)]); 5] = [
    (
        "nft",
        &[
            ("nft flush ruleset", 1),
            (RELOAD, 1),
            (SAVED, 1),
            ("nft delete table inet psentry", 1),
            ("nft flush set inet psentry v4_32", 1),
            ("nft flush set inet psentry v6_64", 1),
            ("nft flush set inet psentry v4_32_unproven", 1),
            ("nft flush chain inet psentry prerouting_tracked", 1),
            ("nft flush chain inet psentry prerouting", 1),
            ("nft flush table inet psentry", 1),
            ("nft add table inet psentry '{ flags dormant; }'", 1),
            ("nft 'flush chain inet psentry prerouting; delete set inet psentry v4_24'", 1),
        ],
    ),
    ("route", &[("ip route flush proto 158", 3), ("ip -6 route flush proto 158", 3)]),
    (
        "hosts-deny",
        &[
            ("rm -f /run/hosts.deny", 1),
            ("echo 'ALL: x' > /run/hosts.deny", 1),
            ("sed -i '/^# BEGIN psentry/,/^# END psentry/d' /run/hosts.deny", 1),
        ],
    ),
    (
        "ipset",
        &[
            ("ipset flush psentry4", 1),
            ("ipset flush psentry6", 1),
            ("ipset flush psentry4_unproven", 1),
            ("iptables -F", 1),
            ("ip6tables -F INPUT", 1),
            ("iptables -F FORWARD", 1),
            ("iptables -D INPUT 1", 1),
            ("nft flush ruleset", 1),
            ("for n in 1 2 3; do iptables -F && ipset destroy psentry4 && break; done", 3),
            ("for n in 1 2 3; do ip6tables -F && ipset destroy psentry6 && break; done", 3),
        ],
    ),
    (
        "iptables",
        &[
            ("iptables -F", 1),
            ("ip6tables -F", 1),
            ("iptables -F INPUT", 1),
            ("ip6tables -D FORWARD 1", 1),
            ("iptables -F PSENTRY", 1),
            ("ip6tables -F PSENTRY", 1),
            ("iptables -F; iptables -X", 2),
            (RESTORE, 1),
            ("nft flush ruleset", 1),
        ],
    ),
];

impl Setting {
    /// These backends, with iptables on nf_tables.
    pub const fn on(backends: &'static [&'static str]) -> Self {
        Setting { backends, legacy: false }
    }

    /// These backends, with the legacy iptables.
    pub const fn legacy(backends: &'static [&'static str]) -> Self {
        Setting { backends, legacy: true }
    }
}

impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.backends.join(", "), if self.legacy { " (legacy)" } else { "" })
    }
}

/// How the names of these end for what is not proven.
pub const UNPROVEN: &str = "_unproven";

/// What a scope stands in beside others: a set of nft or ipset, or the chain of an iptables.
pub fn set(backend: &str, scope: Prefix, unproven: bool) -> String {
    let set = match (backend, scope.is_ipv4()) {
        ("ipset", true) => "psentry4".to_owned(),
        ("ipset", false) => "psentry6".to_owned(),
        ("iptables", true) => "iptables".to_owned(),
        ("iptables", false) => "ip6tables".to_owned(),
        (_, true) => format!("v4_{}", scope.len()),
        (_, false) => format!("v6_{}", scope.len()),
    };
    if unproven { set + UNPROVEN } else { set }
}

/// The set that a command empties, and does nothing else.
fn emptied(command: &str) -> Option<&str> {
    let flush = ["nft flush set inet psentry ", "ipset flush "];
    let set = flush.iter().find_map(|flush| command.strip_prefix(flush));
    set.or_else(|| command.strip_suffix(" -F PSENTRY"))
}

impl ManualChange {
    /// One of the ways of damage, if there is one.
    pub fn damage(backend: &str, way: usize, running: bool, known: &Known) -> Option<Self> {
        let (_, ways) = DAMAGE.iter().find(|(name, _)| *name == backend)?;
        let (command, repairs) = ways[way % ways.len()];
        if command == SAVED && !running {
            return None;
        }
        // What has ended stands in the kernel for up to two seconds more, and may be saved then.
        if command == SAVED && known.ended_lately().next().is_some() {
            return None;
        }
        // A flush of what holds one block looks like the end of that block.
        let emptied = emptied(command);
        let is_in = |scope: &Prefix| {
            emptied.is_some_and(|name| set(backend, *scope, known.is_unproven(*scope)) == name)
        };
        let in_it: Vec<Prefix> = known.blocks.keys().filter(|scope| is_in(scope)).copied().collect();
        // What has ended is flushed with the rest until the kernel has swept it out, and then they were several.
        if running && in_it.len() == 1 && backend == "nft" && known.ended_lately().any(|scope| is_in(&scope))
        {
            return None;
        }
        let releases = if running && in_it.len() == 1 { in_it } else { Vec::new() };
        Some(ManualChange { command: command.to_owned(), repairs, releases })
    }
}
