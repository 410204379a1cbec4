//! The table of families in psentry-policy(5), made from what is compiled in of `/etc/psentry/ports`.

use psentry_ports::PortTable;

/// Where the table is in the page.
const BEGIN: &str =
    ".\\\" The table of families, which a test of psentry-judge makes from units/etc/ports.\n";
const END: &str = ".\\\" The end of the table.\n";

fn table(ports: &PortTable) -> String {
    let families = ports.families.iter().map(|family| {
        let ports: Vec<String> = family.ports.iter().map(ToString::to_string).collect();
        format!(".It Ql {}\n{}\n", family.name, ports.join(",\n"))
    });
    let translators: Vec<String> = ports.translators.iter().map(ToString::to_string).collect();
    format!(
        "{BEGIN}.Bl -tag -width Ds -compact\n{}.El\n.Pp\nThe translators are {}.\n{END}",
        families.collect::<String>(),
        translators.join(", ")
    )
}

/// With PSENTRY_GOLDEN=write in the environment the page is written anew.
#[test]
fn the_manual_has_the_table_of_families() {
    let path = format!("{}/../../man/psentry-policy.5", env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let want = format!("{before}{}{after}", table(&PortTable::builtin()));
    if std::env::var_os("PSENTRY_GOLDEN").is_some() {
        std::fs::write(&path, &want).unwrap();
    }
    assert!(std::fs::read_to_string(&path).unwrap() == want, "PSENTRY_GOLDEN=write writes the table anew");
}
