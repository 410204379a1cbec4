//! Every backend that the module offers, inside the service that the module makes.

use std::fs;

use crate::lab::Booted;
use crate::units::booted::backends::{ROUTE_COMMAND, ROUTER_COMMAND, Site};

use super::made::Store;

/// A configuration with one backend, and its commands.
fn configuration(backend: &str, commands: Option<[&str; 2]>, network: bool) -> String {
    let exec = commands.map_or_else(String::new, |[block, undo]| {
        format!("exec = \"{block}\"; execUndo = \"{undo}\"; execNetwork = {network};")
    });
    format!(
        "{{ services.psentry = {{ enable = true; block = {{ backends = [ \"{backend}\" ]; {exec} }}; }}; }}"
    )
}

#[test]
fn every_backend_has_the_rights_that_it_takes() {
    if !Booted::possible() {
        return;
    }
    let (site, store) = (Site::new(), Store::new());
    // From here on the units of the module are in place of those of units/.
    site.guard.sh("rm /usr/local/lib/systemd/system-generators/psentry-generator");
    for (backend, commands, network) in [
        ("nft", None, false),
        ("iptables", None, false),
        ("ipset", None, false),
        ("route", None, false),
        ("exec", Some(ROUTE_COMMAND), false),
        ("exec", Some(ROUTER_COMMAND), true),
    ] {
        let case = store.path("case.nix");
        fs::write(&case, configuration(backend, commands, network)).unwrap();
        let made = store.configuration(&case).unwrap();
        let mut units = vec!["psentry-block.service"];
        units.extend((backend == "ipset").then_some("psentry-ipset-sets.service"));
        for unit in units {
            // What is in the store lies elsewhere in the container.
            let text = made
                .unit(unit)
                .replace(store.path("psentry/").to_str().unwrap(), "/usr/local/")
                .replace(store.path("psentry-ignore").to_str().unwrap(), "/etc/psentry/ignore");
            fs::write(site.guard.path(&format!("/etc/systemd/system/{unit}")), text).unwrap();
        }
        site.restart();
        if backend == "ipset" {
            site.guard.sh("systemctl restart psentry-ipset-sets");
        }
        let network = if network { " with a network" } else { "" };
        site.enforces(&format!("{backend}{network} of the module"));
    }
}
