//! How settings are changed, as text: nothing here asks systemd or writes to /etc.

use super::*;

#[test]
fn lines_are_added_and_removed_and_the_others_stay() {
    let text = "# mine\n192.0.2.0/24 # the office\n\n2001:DB8::/32\r\n192.0.2.7";
    let scope = |text: &str| text.parse::<Prefix>().unwrap();
    assert_eq!(added(text, "198.51.100.7"), format!("{text}\n198.51.100.7\n"));
    assert_eq!(added("", "198.51.100.0/24"), "198.51.100.0/24\n");
    assert_eq!(removed(text, scope("2001:db8::/32")), "# mine\n192.0.2.0/24 # the office\n\n192.0.2.7");
    assert_eq!(removed(text, scope("192.0.2.0/24")), "# mine\n\n2001:DB8::/32\r\n192.0.2.7");
    assert!(
        entries(Path::new("/x"), "192.0.2.7\nhost.example\n").unwrap_err().to_string().contains("line 2")
    );
}

#[test]
fn one_line_says_the_mode_and_the_others_stay() {
    for (text, changed) in [
        ("# x\nOBSERVE=--observe\nJUDGE=\n", "# x\nMODE=block\nJUDGE=\n"),
        ("MODE=observe\nOBSERVE=\nBLOCK=\n", "MODE=block\nBLOCK=\n"),
        ("#MODE=observe\nBLOCK=", "#MODE=observe\nBLOCK=\nMODE=block\n"),
        ("MODE=block\n", "MODE=block\n"),
    ] {
        assert_eq!(with_mode(text, "block"), changed);
    }
}

#[test]
fn sockets_of_systemd_are_ports_and_ss_names_their_services() {
    for (line, is) in [
        ("Listen=[::]:23 (Stream)", Some((23, "tcp"))),
        ("Listen=0.0.0.0:161 (Datagram)", Some((161, "udp"))),
        ("Listen=/run/psentry/events (FIFO)", None),
        ("Id=x", None),
        ("Listen=", None),
    ] {
        assert_eq!(port(line), is, "{line}");
    }
    let line = "LISTEN 0 128 0.0.0.0:22 0.0.0.0:* users:((\"sshd\",pid=1,fd=3))\n";
    assert_eq!(listener(line).as_deref(), Some("sshd"));
    assert_eq!(listener("LISTEN 0 128 *:22 *:*").as_deref(), Some("an unknown program"));
    assert_eq!(listener("\n"), None);
}

#[test]
fn what_nixos_declares_is_not_changed() {
    let (root, installed) = crate::installed::tests::with_conf("");
    let conf = installed.etc("psentry.conf");
    assert!(may_change(&installed, &conf, "x").is_ok());
    fs::write(root.path().join("etc/NIXOS"), "").unwrap();
    let error = may_change(&installed, &conf, "mode = \"block\"").unwrap_err();
    assert!(error.to_string().contains("services.psentry.mode = \"block\";"), "{error}");
}
