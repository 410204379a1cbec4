//! What an administrator sees of the command: its help, its page, its exit codes, and its completions.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::told;
use crate::lab::bin;

const COMMANDS: [&str; 15] = [
    "status", "list", "why", "unblock", "block", "panic", "resume", "log", "explain", "replay", "decoy",
    "allow", "mode", "selftest", "check",
];

fn run(line: &[&str]) -> (Option<i32>, String) {
    told(&Command::new(bin("psentry")).args(line).env("COLUMNS", "80").output().unwrap())
}

#[test]
fn help_fits_one_screen_and_the_page_has_its_commands_and_flags() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("man/psentry.8");
    let page = fs::read_to_string(page).unwrap();
    let mut help = vec![run(&["-h"]), run(&["--help"])];
    for command in COMMANDS {
        assert!(help[0].1.contains(&format!("\n  {command} ")), "{command}: {}", help[0].1);
        let examples = page.split_once(".Sh EXAMPLES").unwrap().1;
        assert!(examples.contains(&format!("psentry {command}")), "the page has no example of {command}");
        help.push(run(&[command, "-h"]));
    }
    for (code, text) in &help {
        assert_eq!(*code, Some(0));
        assert!(text.lines().count() <= 24, "{} lines: {text}", text.lines().count());
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        let flags = text.split_whitespace().filter(|word| word.starts_with("--"));
        for flag in flags.map(|flag| flag.trim_end_matches([',', '.'])) {
            assert!(page.contains(&format!("Fl -{}", flag.trim_start_matches("--"))), "{flag}");
        }
    }
}

#[test]
fn what_is_wrong_has_its_exit_code_and_what_is_near_is_suggested() {
    for (line, says) in [
        (&["lst"][..], "'list'"),
        (&["mode", "blok"], "'block'"),
        (&["why", "nowhere.example"], "host name"),
        (&["why", "192.0.2.0/33"], "0 to 32"),
        (&["explain", "192.0.2.0/24"], "this is a network; name an address in it"),
        (&["allow", "add", "::/0"], "psentry mode observe"),
        (&["unblock", "everybody"], "host name"),
        (&["decoy", "add"], "PORT"),
        (&["decoy", "add", "70000"], "1 to 65535"),
        (&["allow", "remove"], "CIDR"),
        (&["log", "--since", "lastweek"], "12h"),
        (&["ban", "192.0.2.7"], "'block'"),
        (&["list", "--backend", "nft"], "--backend"),
        (&[], "Usage"),
    ] {
        let (code, text) = run(line);
        assert!(code == Some(64) && text.contains(says), "{line:?}: {code:?} {text}");
    }
}

#[test]
fn completions_know_addresses_and_decoys() {
    for shell in ["bash", "zsh", "fish"] {
        let script = run(&["--completions", shell]);
        let asks = |what: &str| {
            assert!(script.1.contains(&format!("psentry {what} 2>/dev/null")), "{shell}: {what}");
        };
        ["list --addresses", "decoy list", "allow list"].into_iter().for_each(asks);
    }
    // In bash, with a psentry that knows somebody.
    let folder = tempfile::tempdir().unwrap();
    let (fake, script) = (folder.path().join("psentry"), folder.path().join("script"));
    fs::write(
        &fake,
        "#!/bin/sh\ncase $1 in list) echo 203.0.113.7; echo 198.51.100.9;; decoy) echo 23/tcp;; esac\n",
    )
    .unwrap();
    fs::set_permissions(&fake, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    fs::write(&script, run(&["--completions", "bash"]).1).unwrap();
    let completed = |words: &str, at: usize| {
        let line = format!(
            "PATH={}:$PATH; . {}; COMP_WORDS=({words}); COMP_CWORD={at}; _psentry_known psentry \"${{COMP_WORDS[COMP_CWORD]}}\"; echo \"${{COMPREPLY[@]}}\"",
            folder.path().display(),
            script.display()
        );
        told(&Command::new("bash").args(["-c", &line]).output().unwrap()).1.trim().to_owned()
    };
    assert_eq!(completed("psentry unblock ''", 2), "203.0.113.7 198.51.100.9 all");
    assert_eq!(completed("psentry unblock 2", 2), "203.0.113.7");
    assert_eq!(completed("psentry decoy remove ''", 3), "23/tcp");
    assert_eq!(completed("psentry unb", 1), "unblock");
}
