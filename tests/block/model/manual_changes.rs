//! What others decide by hand, as lines of shell, and what it means by the manual: whoever names single blocks knows whom
//! he lets in, except that a route that goes is put back, whoever took it.

use psentry_records::Prefix;

use super::damage::{ManualChange, Setting, UNPROVEN, set};
use super::known::{Known, Until};

/// The end of such of these as are blocked, in one line, if that can be said.
pub fn delete(setting: Setting, backend: &str, scopes: &[&str], known: &Known) -> Option<ManualChange> {
    let mut chosen: Vec<Prefix> = scopes.iter().map(|scope| scope.parse().unwrap()).collect();
    chosen.retain(|scope| known.blocks.contains_key(scope));
    chosen.sort_unstable();
    chosen.dedup();
    let place = |scope: &Prefix| set(backend, *scope, known.is_unproven(*scope));
    let set = place(chosen.first()?);
    let is_in = |scope: &Prefix| place(scope) == set;
    let all = known.blocks.keys().filter(|scope| is_in(scope)).count();
    match backend {
        "nft" => {
            chosen.retain(is_in);
            let elements: Vec<String> = chosen.iter().map(|scope| scope.addr().to_string()).collect();
            let command = format!("nft delete element inet psentry {set} '{{ {} }}'", elements.join(", "));
            // All of several at once were flushed, and are put back.
            let releases = if chosen.len() < all || all == 1 { chosen } else { Vec::new() };
            Some(ManualChange { command, repairs: 1, releases })
        }
        "ipset" => {
            chosen.retain(is_in);
            // In a set that still has entries whatever is missing was let in; an empty one that had several was flushed, and
            // which of both is seen when they go one by one depends on the moment.
            chosen.truncate((all - 1).max(1));
            let lines: Vec<String> = chosen.iter().map(|scope| format!("del {set} {scope}\\n")).collect();
            let command = format!("printf '{}' | ipset restore", lines.concat());
            Some(ManualChange { command, repairs: 1, releases: chosen })
        }
        "iptables" => {
            // Of the legacy rules a single one that went was let in, and several at once are damage. Where nf_tables keeps them
            // each that goes alone was.
            chosen.truncate(if setting.legacy { 1 } else { chosen.len() });
            let line = |scope: &Prefix| {
                let place = place(scope);
                let program = place.trim_end_matches(UNPROVEN);
                format!(
                    "{program} -S | grep -e '^-A PSENTRY[A-Z-]* -s {scope} ' | sed 's/^-A/{program} -D/' | sh -e"
                )
            };
            let lines: Vec<String> = chosen.iter().map(line).collect();
            Some(ManualChange { command: lines.join("; "), repairs: 1, releases: chosen })
        }
        "route" => {
            let line = |scope: &Prefix| {
                let family = if scope.is_ipv4() { "-4" } else { "-6" };
                format!("ip {family} route del blackhole {scope} proto 158")
            };
            let lines: Vec<String> = chosen.iter().map(line).collect();
            let repairs = u32::try_from(lines.len()).unwrap();
            Some(ManualChange { command: lines.join("; "), repairs, releases: Vec::new() })
        }
        _ => {
            let lines: Vec<String> =
                chosen.iter().map(|scope| format!("-e 'ALL: {}'", client(*scope))).collect();
            let command = format!(
                "grep -vxF {} /run/hosts.deny > /run/deny.new; mv /run/deny.new /run/hosts.deny",
                lines.join(" ")
            );
            Some(ManualChange { command, repairs: 1, releases: chosen })
        }
    }
}

/// A scope as it stands in hosts.deny, see hosts_access(5).
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

/// Another end for a block, after so many seconds or never, in one line; `None`: psentry-block would not hear of it.
pub fn retime(
    backend: &str,
    scope: Prefix,
    seconds: Option<u64>,
    running: bool,
    known: &Known,
) -> Option<String> {
    let set = set(backend, scope, known.is_unproven(scope));
    match (backend, running) {
        ("nft", _) => {
            let timeout = seconds.map_or_else(String::new, |seconds| format!(" timeout {seconds}s"));
            let (element, table) = (scope.addr(), "inet psentry");
            Some(format!(
                "nft 'delete element {table} {set} {{ {element} }}; add element {table} {set} {{ {element}{timeout} }}'"
            ))
        }
        ("ipset", false) => {
            let seconds = seconds.unwrap_or(0);
            let listed = if scope.is_host() { scope.addr().to_string() } else { scope.to_string() };
            Some(format!(
                "ipset save {set} | grep -q '^add {set} {listed} ' && ipset -exist add {set} {scope} timeout {seconds}"
            ))
        }
        _ => None,
    }
}

/// What stands after somebody chose another end: one that is sooner stands, and one that is later is set right while
/// psentry-block runs; when it starts, whatever stands was decided.
pub fn effective_end(known: Until, chosen: Until, running: bool) -> Until {
    match (known, chosen) {
        _ if !running => chosen,
        (Some(known), Some(chosen)) => Some(known.min(chosen)),
        (known, chosen) => known.or(chosen),
    }
}
