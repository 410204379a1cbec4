//! How settings are changed, as text: nothing here asks systemd or writes to /etc.

use super::*;

#[test]
fn lines_are_removed_and_the_others_stay() {
    let text = "# mine\n192.0.2.0/24 # the office\n\n2001:DB8::/32\r\n192.0.2.7";
    assert_eq!(without(text, &[4]), "# mine\n192.0.2.0/24 # the office\n\n192.0.2.7");
    assert_eq!(without(text, &[2]), "# mine\n\n2001:DB8::/32\r\n192.0.2.7");
    let lines: Vec<usize> = entries(Path::new("/x"), text).iter().map(|(line, _)| *line).collect();
    assert_eq!(lines, [2, 4, 5]);
    let right = entries(Path::new("/x"), "\nhost.example\n192.0.2.7\n");
    assert_eq!(right, [(3, "192.0.2.7".parse().unwrap())]);
}

#[test]
fn ss_names_the_service_at_a_port() {
    let line = "LISTEN 0 128 0.0.0.0:22 0.0.0.0:* users:((\"sshd\",pid=1,fd=3))\n";
    assert_eq!(listener(line).as_deref(), Some("sshd"));
    assert_eq!(listener("LISTEN 0 128 *:22 *:*").as_deref(), Some("an unknown program"));
    assert_eq!(listener("\n"), None);
}

#[test]
fn what_nixos_declares_is_not_changed() {
    let root = tempfile::tempdir().unwrap();
    let installed = Installed::below(root.path()).unwrap();
    let conf = installed.etc("psentry.conf");
    fs::create_dir_all(conf.parent().unwrap()).unwrap();
    assert!(may_change(&installed, &conf, "x").is_ok());
    fs::write(root.path().join("etc/NIXOS"), "").unwrap();
    let error = may_change(&installed, &conf, "mode = \"block\"").unwrap_err();
    assert!(error.to_string().contains("services.psentry.mode = \"block\";"), "{error}");
}
