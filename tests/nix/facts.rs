//! Units as sets of single facts, so that two sets of units can be compared whatever their order and spelling, and a
//! difference names unit, section and directive.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Lines such as `psentry-block.service [Service] Nice=-15`.
pub type Facts = BTreeSet<String>;

/// Directives whose value is a list of words, each of which is a fact.
const LISTS: [&str; 12] = [
    "After",
    "AmbientCapabilities",
    "Before",
    "CapabilityBoundingSet",
    "Conflicts",
    "Documentation",
    "PartOf",
    "Requires",
    "RestrictAddressFamilies",
    "Sockets",
    "WantedBy",
    "Wants",
];

/// `psentry-tcp@23.socket` is an instance of `psentry-tcp@.socket`.
fn template(unit: &str) -> String {
    match (unit.split_once('@'), unit.rsplit_once('.')) {
        (Some((name, _)), Some((_, kind))) => format!("{name}@.{kind}"),
        _ => unit.to_owned(),
    }
}

/// A value in the spelling of units/.
fn spelling(value: &str) -> String {
    let value = match value.trim() {
        "true" => "yes",
        "false" => "no",
        other => other,
    };
    let value = value.replace("/nix/store/psentry/", "/usr/local/").replace("/usr/bin/", "/bin/");
    let value = value.replace("/bin/ipset ", "ipset ");
    let value = value.replace("\" \"", " ").replace('"', "");
    value.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The facts of one unit. What an instance holds is said of its template.
fn of_unit(name: &str, text: &str) -> Facts {
    let general = template(name);
    let mut facts = Facts::from([general.clone()]);
    let mut section = "";
    // A line that ends so goes on in the next.
    let text = text.replace("\\\n", " ");
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if line.starts_with('[') {
            section = line;
            continue;
        }
        let (directive, value) =
            line.split_once('=').unwrap_or_else(|| panic!("{name}: no directive: {line}"));
        let values = match LISTS.contains(&directive) && !value.is_empty() {
            true => value.split_whitespace().map(template).collect(),
            false => vec![spelling(value)],
        };
        facts.extend(values.iter().map(|value| format!("{general} {section} {directive}={value}")));
    }
    facts
}

/// The facts of a file of lines, without comments, and without quotes, which stand where no word needs them, too.
fn of_file(name: &str, text: &str) -> Facts {
    let lines = text.lines().map(|line| line.replace("/usr/bin/", "").replace('\'', "").trim().to_owned());
    lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| format!("{name}: {line}"))
        .collect()
}

/// The facts of a file in TOML, each with the table that it stands in.
fn of_toml(name: &str, text: &str) -> Facts {
    let mut table = "";
    let mut facts = Facts::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.starts_with('[') {
            true => table = line,
            false => _ = facts.insert(format!("{name}: {table} {line}")),
        }
    }
    facts
}

/// Which decoys there are, as one fact for each protocol.
fn of_decoys<'a>(protocol: &str, ports: impl Iterator<Item = &'a str>) -> Facts {
    let mut ports: Vec<u16> = ports.map(|port| port.parse().unwrap()).collect();
    ports.sort_unstable();
    let list: Vec<String> = ports.iter().map(u16::to_string).collect();
    list.first()
        .map(|_| format!("psentry-{protocol}@.socket, of these ports: {}", list.join(" ")))
        .into_iter()
        .collect()
}

/// All that a listing holds: `=== NAME` and what stands in it, a unit if its name has a dot.
pub fn of_listing(listing: &str) -> Facts {
    let parts: Vec<(&str, &str)> = listing.split("=== ").filter_map(|part| part.split_once('\n')).collect();
    let mut facts: Facts = parts
        .iter()
        .flat_map(|(name, text)| match name.rsplit_once('.') {
            Some((_, "toml")) => of_toml(name, text),
            Some(_) => of_unit(name, text),
            None => of_file(name, text),
        })
        .collect();
    for protocol in ["tcp", "udp"] {
        let beginning = format!("psentry-{protocol}@");
        let port = |name: &'_ str| name.strip_prefix(&beginning)?.strip_suffix(".socket").map(str::to_owned);
        let ports: Vec<String> = parts.iter().filter_map(|(name, _)| port(name)).collect();
        facts.extend(of_decoys(protocol, ports.iter().map(String::as_str)));
    }
    facts
}

/// What units/install makes of a machine.
pub fn of_install(repository: &Path) -> Facts {
    let read = |name: &str| fs::read_to_string(repository.join("units").join(name)).unwrap();
    let mut facts = Facts::new();
    for entry in fs::read_dir(repository.join("units")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if [".service", ".socket", ".target", ".timer"].iter().any(|kind| name.ends_with(kind)) {
            facts.extend(of_unit(&name, &read(&name)));
        }
    }
    for (file, name) in [
        ("psentry.sysusers", "sysusers"),
        ("psentry.tmpfiles", "tmpfiles"),
        ("etc/ignore", "etc/psentry/ignore"),
    ] {
        facts.extend(of_file(name, &read(file)));
    }
    facts.extend(of_toml("etc/psentry/policy.toml", &read("etc/policy.toml")));
    // The decoys that it enables.
    for (variable, protocol) in [("TCP=\"", "tcp"), ("UDP=\"", "udp")] {
        let install = read("install");
        let ports = install.lines().find_map(|line| line.strip_prefix(variable)).unwrap();
        facts.extend(of_decoys(protocol, ports.trim_end_matches('"').split_whitespace()));
    }
    facts
}

/// What a drop-in of psentry-block.service in units/ gives, without the unit's name and section.
pub fn of_drop_in(repository: &Path, name: &str) -> Facts {
    let file = repository.join(format!("units/rights/{name}.conf"));
    let text = fs::read_to_string(file).unwrap();
    let given = |fact: &str| Some(fact.split_once(" [Service] ")?.1.to_owned());
    of_unit("psentry-block.service", &text).iter().filter_map(|fact| given(fact)).collect()
}

/// The difference as lines that begin with `-` and `+`. Of a unit that is gone, that is all there is to say.
pub fn difference(from: &Facts, to: &Facts) -> Facts {
    let of_gone_unit =
        |fact: &str| fact.split_once(" [").is_some_and(|(unit, _)| from.contains(unit) && !to.contains(unit));
    let gone = from.difference(to).filter(|fact| !of_gone_unit(fact)).map(|fact| format!("- {fact}"));
    gone.chain(to.difference(from).map(|fact| format!("+ {fact}"))).collect()
}

/// Compares a difference with the one that was written down, with its reasons as comments.
pub fn expect(what: &str, found: &Facts, file: &Path) {
    let written = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let lines = written.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let meant: Facts = lines.map(str::to_owned).collect();
    let list = |facts: Vec<&String>| facts.iter().map(|fact| format!("\n    {fact}")).collect::<String>();
    assert!(
        *found == meant,
        "{what} differs otherwise than {} says.\n  Not written there:{}\n  Written there, and not so:{}",
        file.display(),
        list(found.difference(&meant).collect()),
        list(meant.difference(found).collect()),
    );
}
