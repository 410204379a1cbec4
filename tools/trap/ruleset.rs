//! The table that psentry-trap owns, as text for nft(8): the whole of it, and the changes that keep it up to date.
//! The templates are `ruleset.nft`, `quarantine.nft` and `log.nft`; this file fills them in. It loads nothing: `table.rs` does.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::IpAddr;
use std::time::Duration;

use psentry_ports::{Service, Services};
use psentry_records::{DECOY_MARK, Prefix, Proto, Timestamp};

use crate::cli::Answer;
use crate::host_facts::HostFacts;
use crate::nflog::COPIED;
use crate::ports::Ranges;
use crate::settings::Settings;
use crate::source_file::Sources;

/// The table's name, in the family inet.
pub(crate) const TABLE: &str = "psentry_trap";

/// The whole table. A line that begins with `?name` stands there only if `name` holds, with `?!name` only if not.
const TEMPLATE: &str = include_str!("ruleset.nft");

/// The chains that put the source of a packet of one class into quarantine.
const QUARANTINE_CHAINS: &str = include_str!("quarantine.nft");

/// The chain that logs packets with one prefix, within the limits for one source and for all.
const LOG_CHAIN: &str = include_str!("log.nft");

/// The sets and chains of the veil, for one version of IP.
const VEIL: &str = include_str!("veil.nft");

/// A burst of so many seconds' worth of packets is logged before a rate limit applies.
const BURST: u32 = 2;

/// The sets that are filled from flags; the others are in [`HostFacts::sets`].
const FLAG_SETS: [&str; 3] = ["excepted_tcp", "excepted_udp", "grace"];

/// The sets of those who are vouched for, whose elements end by themselves.
const VOUCHED_SETS: [&str; 2] = ["vouched4", "vouched6"];

/// The sets that hold sources and what is remembered of them: who is in quarantine, and what puts him there or keeps him out of it.
const SOURCE_SETS: [&str; 23] = [
    "quarantine4",
    "quarantine6",
    "quarantine_hosts6",
    "brief4",
    "brief6",
    "brief_hosts6",
    "lately64",
    "lately56",
    "lately_ports48",
    "count56",
    "count48",
    "quarantine56",
    "quarantine48",
    "contacts4",
    "contacts6",
    "contact_counts4",
    "contact_counts6",
    "decoy_visits4",
    "decoy_visits6",
    "stray_ports4",
    "stray_ports6",
    "strays4",
    "strays6",
];

/// How long a source stays in quarantine while there is no room for longer: longer than a scanner waits that meets silence,
/// and so short that a flood does not fill that, too. psentry-trap(8) has the figures.
const BRIEF: Duration = Duration::from_secs(2);

/// What is asked to know whether a source is in quarantine. A line of the template with `$in_quarantine` stands there once
/// for each.
pub(crate) const IN_QUARANTINE: [&str; 8] = [
    "ip saddr @quarantine4",
    "ip saddr @brief4",
    "ip6 saddr & ffff:ffff:ffff:ffff:: @quarantine6",
    "ip6 saddr & ffff:ffff:ffff:ffff:: @brief6",
    "ip6 saddr . iif @quarantine_hosts6",
    "ip6 saddr . iif @brief_hosts6",
    "ip6 saddr & ffff:ffff:ffff:ff00:: @quarantine56",
    "ip6 saddr & ffff:ffff:ffff:: @quarantine48",
];

/// The text that makes the table, and replaces one that another psentry-trap left behind. For `grace` from now on closed
/// ports are no traps yet.
pub(crate) fn full(settings: &Settings, facts: &HostFacts, grace: Duration) -> String {
    text(settings, facts, grace, &format!("add table inet {TABLE}\ndelete table inet {TABLE}"))
}

/// The text that makes all rules anew in the table that is there, and leaves the quarantine and the other sets that the
/// rules fill as they are. nft refuses it where a set is missing, and where the table is dormant and a chain is missing.
pub(crate) fn repair(settings: &Settings, facts: &HostFacts, grace: Duration) -> String {
    text(settings, facts, grace, &flush(facts))
}

/// The text that makes all rules anew in the table that is there, as for another `settings.observe`, and releases everybody:
/// nobody is in quarantine, and nothing is remembered of anybody. What is served stays known. The sets are deleted, as the
/// kernel notifies of each element that is flushed, and is faster.
pub(crate) fn release(settings: &Settings, facts: &HostFacts, grace: Duration) -> String {
    let delete = SOURCE_SETS.map(|set| format!("\ndelete set inet {TABLE} {set}"));
    text(settings, facts, grace, &format!("{}{}", flush(facts), delete.concat()))
}

/// The text that takes away the rules, and the elements that are loaded with them.
fn flush(facts: &HostFacts) -> String {
    let flush = filled_sets(facts).into_iter().map(|set| format!("\nflush set inet {TABLE} {set}"));
    format!("flush table inet {TABLE}{}", flush.collect::<String>())
}

/// The text that wakes the table if it is dormant, or makes an empty one.
pub(crate) fn wake() -> String {
    format!("add table inet {TABLE}\n")
}

/// The sets that are filled from flags and from the host's facts, and not by the rules.
pub(crate) fn filled_sets(facts: &HostFacts) -> BTreeSet<&'static str> {
    facts.sets().into_iter().map(|(name, _)| name).chain(FLAG_SETS).chain(VOUCHED_SETS).collect()
}

fn text(settings: &Settings, facts: &HostFacts, grace: Duration, begin: &str) -> String {
    let holds: BTreeMap<&str, bool> = [
        ("observe", settings.observe),
        ("reject", settings.answer == Answer::Reject),
        ("mirage", settings.mirage.is_some()),
        ("icmp", settings.icmp),
        ("protocols", settings.protocols),
        ("afterfirewall", settings.after_firewall),
        ("interfaces", !settings.interfaces.is_empty()),
        ("veil", !settings.veil.is_empty()),
        ("veilown", settings.veil_own),
        ("hide", !settings.hide.is_empty()),
        (
            "prerouting",
            !settings.observe || settings.mirage.is_some() || !settings.hidden_or_veiled().is_empty(),
        ),
    ]
    .into();
    let mut values: Vec<(&str, String)> = vec![
        ("begin", begin.to_owned()),
        ("log_chains", log_chains(settings)),
        ("quarantine_chains", quarantine_chains(settings)),
        ("veiled", join_ranges(&settings.veil)),
        ("hidden", join_ranges(&settings.hide)),
        ("familiar", seconds(settings.familiar)),
        (
            "grace",
            members(["tcp", "udp"].iter().filter(|_| !grace.is_zero()).map(|proto| {
                // Rounded up, since less than a second would be none.
                format!("{proto} timeout {}s", grace.as_millis().div_ceil(1000))
            })),
        ),
        ("priority", if settings.after_firewall { "+ 10" } else { "- 10" }.to_owned()),
        ("quarantine", seconds(settings.quarantine)),
        ("brief", seconds(brief(settings))),
        ("served", seconds(settings.served)),
        ("rate_burst", settings.rate.saturating_mul(BURST).to_string()),
        ("rate", settings.rate.to_string()),
        ("source_rate", settings.source_rate.to_string()),
        ("source_burst", settings.source_rate.saturating_mul(BURST).to_string()),
        ("group", settings.group.to_string()),
        ("mirage", settings.mirage.map_or_else(String::new, |port| port.to_string())),
        ("decoy", format!("{DECOY_MARK:#x}")),
        ("excepted_tcp", ranges(&settings.excepted_tcp)),
        ("excepted_udp", ranges(&settings.excepted_udp)),
        ("interfaces", join(settings.interfaces.iter().map(|name| format!("\"{name}\"")))),
        ("copied", COPIED.to_string()),
    ];
    values.extend(facts.sets().into_iter().map(|(name, elements)| (name, members(elements))));
    values.extend(
        vouched(&facts.vouched, Timestamp::now(), settings.vouched)
            .map(|(name, elements)| (name, members(elements))),
    );
    let mut text = String::new();
    let veil = if settings.veil.is_empty() { String::new() } else { veil_chains() };
    for line in TEMPLATE.replace("$veil_chains\n", &veil).lines() {
        let Some(line) = line_if(line, &holds) else { continue };
        let each = if line.contains("$in_quarantine") { &IN_QUARANTINE[..] } else { &[""] };
        for question in each {
            text.push_str(&line.replace("$in_quarantine", question));
            text.push('\n');
        }
    }
    fill(&text, &mut values)
}

/// The chains that log, for each prefix one. `nflog_message.rs` reads the prefix: what the packet is taken for, and for
/// how many seconds it put its source into quarantine.
fn log_chains(settings: &Settings) -> String {
    let mut chains: Vec<(String, String)> =
        quarantining(settings).map(|class| (class.to_owned(), class.to_owned())).collect();
    if !settings.observe {
        for (how, span) in [("quarantined", settings.quarantine), ("quarantined_briefly", brief(settings))] {
            let seconds = span.as_secs();
            let of = |class: &str| (format!("{how}_{class}"), format!("{class} {seconds}"));
            chains.extend(quarantining(settings).map(of));
        }
    }
    let veil = !settings.veil.is_empty();
    let others = [
        ("decoy_syn", true),
        ("decoy_ack", true),
        ("icmp", settings.icmp),
        ("protocol", settings.protocols),
        ("veil_first", veil),
        ("veil_passed", veil),
    ];
    chains.extend(
        others.iter().filter(|(_, used)| *used).map(|(name, _)| ((*name).to_owned(), (*name).to_owned())),
    );
    chains
        .iter()
        .map(|(name, prefix)| LOG_CHAIN.replace("$name", name).replace("$prefix", prefix))
        .collect::<Vec<_>>()
        .join("\n")
}

/// The classes whose packets may put their source into quarantine.
fn quarantining(settings: &Settings) -> impl Iterator<Item = &'static str> {
    let classes = [("probe", true), ("stray", true), ("hidden", !settings.hide.is_empty())];
    classes.into_iter().filter(|(_, used)| *used).map(|(class, _)| class)
}

fn quarantine_chains(settings: &Settings) -> String {
    if settings.observe {
        return String::new();
    }
    let of = |class| QUARANTINE_CHAINS.replace("$class", class);
    quarantining(settings).map(of).collect::<Vec<_>>().join("\n")
}

/// For IPv4 by address, for IPv6 by /64.
fn veil_chains() -> String {
    let versions =
        [("4", "ip", "address", "ip saddr"), ("6", "ip6", "/64", "ip6 saddr & ffff:ffff:ffff:ffff::")];
    let of = |(v, ip, by, source): (&str, &str, &str, &str)| {
        // The kernel sends the same SYN again: by its number it is told from another one.
        let syn = "$ip saddr . tcp sport . tcp dport . tcp sequence";
        [("$syn", syn), ("$v", v), ("$ip", ip), ("$by", by), ("$source", source)]
            .iter()
            .fold(VEIL.to_owned(), |text, (name, value)| text.replace(name, value))
    };
    versions.map(of).join("\n")
}

/// [`BRIEF`], or the quarantine where that is shorter.
fn brief(settings: &Settings) -> Duration {
    settings.quarantine.min(BRIEF)
}

/// The /48s that hold these; wider networks stay as they are.
fn around48<'a>(networks: impl IntoIterator<Item = &'a Prefix>) -> BTreeSet<Prefix> {
    networks.into_iter().map(|network| Prefix::around(network.addr(), network.len().min(48))).collect()
}

/// The text that changes the sets after the host's facts changed; empty when they did not.
pub(crate) fn update(settings: &Settings, from: &HostFacts, to: &HostFacts) -> String {
    let changed = from.sets().into_iter().zip(to.sets()).filter(|(before, after)| before != after);
    let text = refill(changed.map(|(_, after)| after));
    if from.vouched == to.vouched {
        return text;
    }
    text + &refill(vouched(&to.vouched, Timestamp::now(), settings.vouched))
}

/// The text that gives sets other elements.
fn refill(sets: impl IntoIterator<Item = (&'static str, BTreeSet<String>)>) -> String {
    let mut text = String::new();
    for (name, after) in sets {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "flush set inet {TABLE} {name}");
        if !after.is_empty() {
            let _ = writeln!(text, "add element inet {TABLE} {name} {{ {} }}", join(after));
        }
    }
    text
}

/// Who is vouched for, each address of IPv6 also by its /64, with how long that holds yet: `longest` at most, also on a machine
/// whose clock was not set yet when it started.
fn vouched(sources: &Sources, now: Timestamp, longest: Duration) -> [(&'static str, BTreeSet<String>); 2] {
    let mut until: BTreeMap<IpAddr, Timestamp> = BTreeMap::new();
    for (source, end) in sources {
        let of =
            [source.addr(), Prefix::around(source.addr(), if source.is_ipv4() { 32 } else { 64 }).addr()];
        for addr in of {
            let longest = until.entry(addr).or_insert(*end);
            *longest = (*end).max(*longest);
        }
    }
    // Rounded up, since less than a second would be none.
    let left = |end: &Timestamp| end.since(now).min(longest).as_millis().div_ceil(1000).max(1);
    let of = |is_ipv4| {
        let of_version = until.iter().filter(move |(addr, _)| addr.is_ipv4() == is_ipv4);
        of_version.map(|(addr, end)| format!("{addr} timeout {}s", left(end))).collect()
    };
    let [set4, set6] = VOUCHED_SETS;
    [(set4, of(true)), (set6, of(false))]
}

/// The text that deletes the table, whether or not it is there: nft refuses to delete what is missing.
pub(crate) fn delete() -> String {
    format!("add table inet {TABLE}\ndelete table inet {TABLE}\n")
}

impl HostFacts {
    /// The sets that follow the host's facts, with their elements.
    fn sets(&self) -> [(&'static str, BTreeSet<String>); 20] {
        let hosts6 = self.infrastructure.iter().filter(|addr| addr.is_ipv6());
        let own6 = hosts6.map(|addr| Prefix::around(*addr, 128)).chain(self.by_address6());
        let addresses =
            |list: &BTreeSet<IpAddr>, v4| strings(list.iter().filter(move |addr| addr.is_ipv4() == v4));
        let networks =
            |list: &BTreeSet<Prefix>, v4| strings(list.iter().filter(move |net| net.is_ipv4() == v4));
        let (first, last) = self.client_ports;
        let pair = |(from, to): &(Service, Service)| {
            format!("{} . {} . {}", protocol(from.proto), from.port, to.port)
        };
        let (allow4, allow6): (Vec<Prefix>, Vec<Prefix>) =
            self.allow.iter().partition(|prefix| prefix.is_ipv4());
        [
            ("own4", addresses(&self.own, true)),
            ("own6", addresses(&self.own, false)),
            ("near4", networks(&self.near, true)),
            ("near6", networks(&self.near, false)),
            ("inside4", networks(&self.inside, true)),
            ("inside6", networks(&self.inside, false)),
            ("by_address6", strings(self.by_address6())),
            ("own48", strings(around48(&own6.collect::<Vec<_>>()))),
            ("infrastructure4", addresses(&self.infrastructure, true)),
            ("infrastructure6", addresses(&self.infrastructure, false)),
            ("served_ports", ports(&self.shown().services())),
            ("chatter", services(&self.ports.chatter)),
            ("chatter_between", self.ports.chatter_between.iter().map(pair).collect()),
            ("stray_from", services(&self.ports.stray_from)),
            ("worms", services(&self.ports.worms)),
            ("siblings", ports(&self.siblings())),
            ("allow4", strings(&allow4)),
            ("allow6", strings(&allow6)),
            ("allow48", strings(around48(&allow6))),
            ("client_ports", [format!("{first}-{last}")].into()),
        ]
    }
}

fn ranges(excepted: &Ranges) -> String {
    members(excepted.list().iter().map(|(first, last)| format!("{first}-{last}")))
}

fn join_ranges(ports: &Ranges) -> String {
    join(ports.list().iter().map(|(first, last)| format!("{first}-{last}")))
}

fn strings<T: ToString>(elements: impl IntoIterator<Item = T>) -> BTreeSet<String> {
    elements.into_iter().map(|element| element.to_string()).collect()
}

fn ports(list: &BTreeSet<Service>) -> BTreeSet<String> {
    list.iter().map(|one| format!("{} . {}", protocol(one.proto), one.port)).collect()
}

/// Ports of both protocols as elements of a set of intervals, in which none may overlap another.
fn services(list: &[Services]) -> BTreeSet<String> {
    let of = |proto| {
        let ranges = list.iter().filter(|ports| ports.proto == proto).map(|ports| (ports.first, ports.last));
        let elements = Ranges::of(ranges.collect()).list().to_vec().into_iter();
        elements.map(move |(first, last)| match first == last {
            true => format!("{} . {first}", protocol(proto)),
            false => format!("{} . {first}-{last}", protocol(proto)),
        })
    };
    of(Proto::Tcp).chain(of(Proto::Udp)).collect()
}

fn protocol(proto: Proto) -> String {
    proto.name().to_ascii_lowercase()
}

/// A line without its conditions, if they hold.
fn line_if<'a>(line: &'a str, holds: &BTreeMap<&str, bool>) -> Option<&'a str> {
    let mut rest = line;
    while let Some(condition) = rest.strip_prefix('?') {
        let (wanted, condition) = condition.strip_prefix('!').map_or((true, condition), |name| (false, name));
        let end = condition.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(condition.len());
        let (name, after) = condition.split_at_checked(end)?;
        if holds.get(name) != Some(&wanted) {
            return None;
        }
        rest = after;
    }
    Some(rest)
}

/// Puts the values in: first the chains, which hold names themselves; then the longest name, since one may begin as
/// another does.
fn fill(text: &str, values: &mut [(&str, String)]) -> String {
    let mut text = text.to_owned();
    values.sort_by_key(|(name, _)| (!name.ends_with("_chains"), usize::MAX - name.len()));
    for (name, value) in values {
        text = text.replace(&format!("${name}"), value);
    }
    text
}

fn seconds(span: Duration) -> String {
    format!("{}s", span.as_secs())
}

fn join<T: ToString>(elements: impl IntoIterator<Item = T>) -> String {
    elements.into_iter().map(|element| element.to_string()).collect::<Vec<_>>().join(", ")
}

/// The elements with which a set begins; a set without any must not say so.
fn members<T: ToString>(elements: impl IntoIterator<Item = T>) -> String {
    let list = join(elements);
    if list.is_empty() { list } else { format!("elements = {{ {list} }} ") }
}

#[cfg(test)]
#[path = "ruleset/tests.rs"]
mod tests;

#[cfg(test)]
#[path = "ruleset/manual.rs"]
mod manual;
