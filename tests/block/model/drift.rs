//! What others do to a backend, as lines of shell. Whatever it is, it decides nothing: what they deleted or changed is put back,
//! and what they added is deleted.

use std::fmt;

use psentry_records::{Prefix, Timestamp};

use super::known::{Block, Known, SLACK};

/// The backends of a psentry-block, and which variant of iptables it finds.
#[derive(Clone, Copy)]
pub struct Setting {
    pub backends: &'static [&'static str],
    pub legacy: bool,
}

/// A line of shell.
pub struct Drift {
    pub command: String,
    /// How many repairs it may take.
    pub repairs: u32,
    /// What is to be there can be changed; what else the line needs may be missing, and then it does nothing.
    pub is_there: bool,
}

const RELOAD: &str = "printf 'flush ruleset\\ntable inet filter { chain input { type filter hook input priority 0; \
    tcp dport 22 accept; }; }\\n' | nft -f -";

/// What was saved when each block had eight hours left, a week ago or a moment.
const SAVED: &str = "(echo delete table inet psentry; nft list table inet psentry | \
    sed 's/timeout [^ ]* expires [^ ]*/timeout 9h expires 8h/') | nft -f -";

const RESTORE: &str = "printf '*filter\\n:INPUT ACCEPT [0:0]\\n:FORWARD ACCEPT [0:0]\\n:OUTPUT ACCEPT [0:0]\\nCOMMIT\\n' | \
    iptables-restore";

/// Ways to damage what a backend keeps, and how many repairs each may take.
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
            ("nft insert rule inet psentry prerouting accept", 1),
        ],
    ),
    (
        "route",
        &[
            ("ip route flush proto 158", 3),
            ("ip -6 route flush proto 158", 3),
            ("ip route add blackhole 203.0.113.7 metric 5 proto 158", 1),
        ],
    ),
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
            ("iptables -I INPUT 1 -s 203.0.113.0/24 -j ACCEPT", 1),
            ("ip6tables -I FORWARD 1 -j ACCEPT", 1),
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
            ("iptables -I INPUT 1 -s 203.0.113.0/24 -j ACCEPT", 1),
            ("iptables -I PSENTRY 1 -j ACCEPT", 1),
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

/// What a scope is in beside others: a set of nft or ipset, or the chain of an iptables.
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

/// One of the ways of damage.
pub fn damage(backend: &str, way: usize) -> Option<Drift> {
    let (_, ways) = DAMAGE.iter().find(|(name, _)| *name == backend)?;
    let (command, repairs) = ways[way % ways.len()];
    Some(Drift { command: command.to_owned(), repairs, is_there: false })
}

/// The end of such of these as are blocked, in one line; `None`: none is.
pub fn delete(backend: &str, scopes: &[&str], known: &Known) -> Option<Drift> {
    if backend == "exec" {
        return None;
    }
    let mut chosen: Vec<(Prefix, Block)> = known.on(backend).collect();
    chosen.retain(|(scope, _)| scopes.iter().any(|text| text.parse() == Ok(*scope)));
    let place = |(scope, block): &(Prefix, Block)| set(backend, *scope, block.unproven);
    let set = place(chosen.first()?);
    if ["nft", "ipset"].contains(&backend) {
        chosen.retain(|one| place(one) == set);
    }
    let lines = |line: &dyn Fn(&(Prefix, Block)) -> String| chosen.iter().map(line).collect::<Vec<_>>();
    let command = match backend {
        "nft" => {
            let elements = lines(&|(scope, _)| scope.addr().to_string());
            format!("nft delete element inet psentry {set} '{{ {} }}'", elements.join(", "))
        }
        "ipset" => {
            format!(
                "printf '{}' | ipset restore",
                lines(&|(scope, _)| format!("del {set} {scope}\\n")).concat()
            )
        }
        "iptables" => {
            let line = |one: &(Prefix, Block)| {
                let (place, scope) = (place(one), one.0);
                let program = place.trim_end_matches(UNPROVEN);
                format!(
                    "{program} -S | grep -e '^-A PSENTRY[A-Z-]* -s {scope} ' | sed 's/^-A/{program} -D/' | sh -e"
                )
            };
            lines(&line).join("; ")
        }
        "route" => {
            lines(&|(scope, _)| format!("ip {} route del blackhole {scope} proto 158", family(*scope)))
                .join("; ")
        }
        _ => {
            let lines = lines(&|(scope, _)| format!("-e 'ALL: {}'", client(*scope)));
            let copy = "grep -vxF ";
            format!(
                "{copy}{} /run/hosts.deny > /run/deny.new; mv /run/deny.new /run/hosts.deny",
                lines.join(" ")
            )
        }
    };
    // Of some the kernel reports each, and where nothing reports them they are counted in between.
    let repairs = if backend == "nft" { 1 } else { u32::try_from(chosen.len()).unwrap() };
    Some(Drift { command, repairs, is_there: chosen.iter().all(lasts) })
}

/// Another end for a block, after so many seconds or never, in one line; `None`: nobody tells psentry-block that runs.
pub fn retime(
    backend: &str,
    scope: Prefix,
    seconds: Option<u64>,
    running: bool,
    known: &Known,
) -> Option<Drift> {
    let (_, block) = known.on(backend).find(|(known, _)| *known == scope)?;
    let set = set(backend, scope, block.unproven);
    let command = match (backend, running) {
        ("nft", _) => {
            let timeout = seconds.map_or_else(String::new, |seconds| format!(" timeout {seconds}s"));
            let (element, table) = (scope.addr(), "inet psentry");
            format!(
                "nft 'delete element {table} {set} {{ {element} }}; add element {table} {set} {{ {element}{timeout} }}'"
            )
        }
        ("ipset", false) => {
            let seconds = seconds.unwrap_or(0);
            let listed = if scope.is_host() { scope.addr().to_string() } else { scope.to_string() };
            format!(
                "ipset save {set} | grep -q '^add {set} {listed} ' && ipset -exist add {set} {scope} timeout {seconds}"
            )
        }
        _ => return None,
    };
    Some(Drift { command, repairs: 1, is_there: lasts(&(scope, block)) })
}

fn lasts((_, block): &(Prefix, Block)) -> bool {
    !block.is_over(Timestamp::now().plus(SLACK))
}

/// A block that nobody asked psentry-block for, in one line; `None`: somebody did, or this is another block.
pub fn add(backend: &str, scope: Prefix, unproven: bool, known: &Known) -> Option<Drift> {
    if backend == "exec" || known.blocks.contains_key(&scope) || known.ended_lately(scope) {
        return None;
    }
    let set = set(backend, scope, unproven);
    let command = match backend {
        "nft" => format!("nft add element inet psentry {set} '{{ {} timeout 5m }}'", scope.addr()),
        "ipset" => format!("ipset add {set} {scope} timeout 300"),
        "iptables" => {
            let chain = if unproven { "PSENTRY-UNPROVEN" } else { "PSENTRY" };
            format!("{} -A {chain} -s {scope} -j DROP", set.trim_end_matches(UNPROVEN))
        }
        "route" => format!("ip {} route add blackhole {scope} metric 1999999999 proto 158", family(scope)),
        _ => format!("sed -i 's|^# END psentry|ALL: {}\\n&|' /run/hosts.deny", client(scope)),
    };
    Some(Drift { command, repairs: 1, is_there: false })
}

fn family(scope: Prefix) -> &'static str {
    if scope.is_ipv4() { "-4" } else { "-6" }
}

/// A scope as it is in hosts.deny, see hosts_access(5).
fn client(scope: Prefix) -> String {
    match (scope.is_ipv4(), scope.is_host()) {
        (true, true) => scope.addr().to_string(),
        (true, false) => {
            let mask = std::net::Ipv4Addr::from(u32::MAX << (32 - u32::from(scope.len())));
            format!("{}/{mask}", scope.addr())
        }
        (false, _) => format!("[{}]/{}", scope.addr(), scope.len()),
    }
}
