//! The table of the classes in psentry-trap(8), made from what is compiled in of `/etc/psentry/ports`.

use std::fmt::Write;

use psentry_ports::{PortTable, Service, Services};

use super::protocol;

/// Where the table is in the page.
const BEGIN: &str =
    ".\\\" The table of the classes, which a test of psentry-trap makes from units/etc/ports.\n";
const END: &str = ".\\\" The end of the table.\n";

/// The table, in the order in which the rules ask.
fn table(ports: &PortTable) -> String {
    let one = |service: &Service| format!("{}/{}", protocol(service.proto), service.port);
    let all = |list: &[Services]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    let pairs =
        ports.chatter_between.iter().map(|(from, to)| format!("{} to {}", one(from), one(to))).collect();
    let siblings = ports.siblings.iter().map(|(port, of)| format!("{} of {of}", one(port))).collect();
    let mut text = format!("{BEGIN}.Bl -tag -width Ds\n");
    for (class, what, list) in [
        ("chatter", "From the first port to the second, from anywhere:", pairs),
        (
            "chatter",
            "From networks in which this machine has an address, and from those behind it, to",
            all(&ports.chatter),
        ),
        ("stray", "TCP with an ACK and no SYN, whatever other flags it has; TCP with FIN alone.", Vec::new()),
        ("stray", "From a port from which answers come late:", all(&ports.stray_from)),
        (
            "stray",
            "To a port that is served at another address of this machine, such as that of the other version of IP.",
            Vec::new(),
        ),
        ("probe", "To a port that nobody connects to by mistake:", all(&ports.worms)),
        ("stray", "To the first port, where the second is served and the first is not:", siblings),
        ("stray", "UDP to an ephemeral port of this machine.", Vec::new()),
        ("stray", "From a network behind this machine.", Vec::new()),
        ("probe", "Everything else.", Vec::new()),
    ] {
        let dot = if list.is_empty() { "" } else { ".\n" };
        let _ = write!(text, ".It Ql {class}\n{what}\n{}{dot}", list.join(",\n"));
    }
    text + ".El\n" + END
}

/// With PSENTRY_GOLDEN=write in the environment the page is written anew.
#[test]
fn the_manual_has_the_table_of_the_classes() {
    let path = format!("{}/../../man/psentry-trap.8", env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let want = format!("{before}{}{after}", table(&PortTable::builtin()));
    if std::env::var_os("PSENTRY_GOLDEN").is_some() {
        std::fs::write(&path, &want).unwrap();
    }
    assert!(std::fs::read_to_string(&path).unwrap() == want, "PSENTRY_GOLDEN=write writes the table anew");
}
