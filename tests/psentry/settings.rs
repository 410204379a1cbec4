//! What `allow`, `mode`, `decoy` and `check` do to files, and that they leave what NixOS declares.

use super::*;

#[test]
fn an_address_is_allowed_and_the_blocker_releases_it() {
    let lab = installed("MODE=block\n");
    let (mut block, _stdin) = blocker(&lab);
    assert_eq!(psentry(&lab, &["block", "198.18.0.7", "--for", "10m"]).0, Some(0));
    let (code, text) = psentry(&lab, &["allow", "add", "198.18.0.0/24"]);
    assert!(code == Some(0) && text.contains("198.18.0.0/24 is left alone from now on"), "{text}");
    assert_eq!(
        lab.guard.sh("cat /etc/psentry/ignore"),
        "127.0.0.0/8  # this machine\n198.18.0.0/24\n",
        "the other line stays"
    );
    wait_until("the blocker has read it", || psentry(&lab, &["why", "198.18.0.7"]).1.contains("left alone"));
    let (code, text) = psentry(&lab, &["allow", "add", "198.18.0.7"]);
    assert!(code == Some(0) && text.contains("already, by 198.18.0.0/24 in line 2"), "{text}");
    let (code, text) = psentry(&lab, &["allow"]);
    assert_eq!((code, &*text), (Some(0), "127.0.0.0/8\n198.18.0.0/24\n"));
    let (code, text) = psentry(&lab, &["allow", "remove", "198.18.0.7"]);
    assert!(code == Some(1) && text.contains("has no line for 198.18.0.7"), "{text}");
    assert_eq!(psentry(&lab, &["allow", "remove", "198.18.0.0/24"]).0, Some(0));
    assert_eq!(lab.guard.sh("cat /etc/psentry/ignore"), "127.0.0.0/8  # this machine\n");
    // A wrong line is named, and is in nobody's way.
    lab.guard.sh("echo office.example.org >> /etc/psentry/ignore");
    for (line, says) in [
        (&["allow", "add", "198.18.0.9"][..], "198.18.0.9 is left alone from now on"),
        (&["allow"], "127.0.0.0/8\n198.18.0.9\n"),
        (&["why", "198.18.0.9"], "198.18.0.9 in line 3 of /etc/psentry/ignore"),
    ] {
        let (_, text) = psentry(&lab, line);
        assert!(
            text.contains("ignore, line 2: 'office.example.org'") && text.contains(says),
            "{line:?}: {text}"
        );
    }
    wait_until("the status names it", || {
        let (code, text) = psentry(&lab, &["status"]);
        code != Some(0) && text.contains("nft has a wrong setting: \"/etc/psentry/ignore, line 2: ")
    });
    block.terminate();
}

#[test]
fn the_mode_is_shown_and_set() {
    let lab = installed("# mine\nOBSERVE=--observe\nJUDGE=\n");
    assert_eq!(psentry(&lab, &["mode"]), (Some(0), "observe\n".to_owned()));
    assert_eq!(psentry(&lab, &["mode", "block"]).0, Some(0));
    assert_eq!(lab.guard.sh("cat /etc/psentry/psentry.conf"), "# mine\nMODE=block\nJUDGE=\n");
    let (code, text) = psentry(&lab, &["mode", "block"]);
    assert!(code == Some(0) && text.contains("already"), "{text}");
    assert_eq!(psentry(&lab, &["mode", "--json"]), (Some(0), "\"block\"\n".to_owned()));
    lab.guard.sh("echo MODE=maybe > /etc/psentry/psentry.conf");
    let (code, text) = psentry(&lab, &["mode"]);
    assert!(code == Some(78) && text.contains("neither observe nor block"), "{text}");
    assert_eq!(psentry(&lab, &["check"]).0, Some(78));
}

#[test]
fn check_has_every_stage_check_its_settings() {
    let lab = installed("MODE=block\nBLOCK=--backend nft\nTRAP=--except 6881\n");
    let (code, text) = psentry(&lab, &["check"]);
    assert!(
        code == Some(78) && text.contains("cannot read /etc/psentry/policy.toml: No such file"),
        "{text}"
    );
    lab.guard.sh("touch /etc/psentry/policy.toml; chmod 600 /etc/psentry/policy.toml");
    let (code, text) = psentry(&lab, &["check"]);
    assert!(code == Some(78) && text.contains("policy.toml; chmod 644 it"), "{text}");
    lab.guard.sh("chmod 644 /etc/psentry/policy.toml");
    let (code, text) = psentry(&lab, &["check"]);
    assert!(code == Some(0) && text.matches("its settings are sound").count() == 4, "{text}");
    lab.guard
        .sh("echo BLOCK=--login-ports ssh > /etc/psentry/psentry.conf; echo '[x' > /etc/psentry/policy.toml");
    let (code, text) = psentry(&lab, &["check"]);
    assert!(code == Some(78) && text.contains("psentry-judge, psentry-block"), "{text}");
    assert!(text.contains("policy.toml") && text.contains("psentry-trap: its settings are sound"), "{text}");
}

/// Nothing is changed, and the option is named.
#[test]
fn on_nixos_the_option_is_printed() {
    let lab = installed("");
    lab.guard.sh("rm /etc/psentry/psentry.conf; touch /etc/NIXOS");
    let files = "cd /etc/psentry; ls -l --time-style=full-iso; cat *";
    let before = lab.guard.sh(files);
    for (line, option) in [
        (&["mode", "block"][..], "services.psentry.mode = \"block\";"),
        (&["allow", "add", "192.0.2.0/24"], "services.psentry.ignore = [ \"192.0.2.0/24\" ];"),
        (&["allow", "remove", "127.0.0.0/8"], "services.psentry.ignore = [ \"127.0.0.0/8\" ];"),
        (&["decoy", "add", "2222"], "services.psentry.tcpPorts = lib.mkOptionDefault [ 2222 ];"),
        (&["decoy", "remove", "161/udp"], "services.psentry.udpPorts = [ 161 ];"),
    ] {
        let (code, text) = psentry(&lab, line);
        assert!(code == Some(69) && text.contains(option), "{line:?}: {text}");
    }
    assert_eq!(lab.guard.sh(files), before);
    assert_eq!(psentry(&lab, &["allow", "list"]), (Some(0), "127.0.0.0/8\n".to_owned()));
    // A link that leads elsewhere is no declaration, and stays one.
    lab.guard.sh("rm /etc/NIXOS; mkdir -p /run/store; mv /etc/psentry/ignore /run/store/
        ln -s /run/store/ignore /etc/psentry/ignore");
    assert_eq!(psentry(&lab, &["allow", "add", "192.0.2.7"]).0, Some(0), "another link is no such file");
    assert_eq!(lab.guard.sh("test -L /etc/psentry/ignore; tail -1 /run/store/ignore"), "192.0.2.7\n");
}
