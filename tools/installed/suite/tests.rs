//! What is found of an installed suite, in folders of /etc that a test makes.

use std::fs;

use super::*;

/// A suite with these settings.
fn with_conf(text: &str) -> (tempfile::TempDir, Installed) {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("etc/psentry")).unwrap();
    fs::write(root.path().join("etc/psentry/psentry.conf"), text).unwrap();
    let installed = Installed::below(root.path()).unwrap();
    (root, installed)
}

#[test]
fn places_are_the_default_ones_or_those_that_flags_name() {
    let (root, installed) = with_conf("# BLOCK=--log /x,1M,2\nBLOCK=--backend nft\n");
    assert_eq!(installed.log(), root.path().join("var/log/psentry/records.jsonl"));
    let errors = |installed: &Installed| {
        installed.ask_all(&Question::List).map(|answer| {
            assert!(answer.is_absent);
            answer.error.unwrap().to_string()
        })
    };
    for error in errors(&installed) {
        assert!(error.starts_with(&format!("{}/run/psentry-", root.path().display())), "{error}");
    }
    let (_root, installed) = with_conf(
        "BLOCK=\"--backend nft --log '/srv/a,b.jsonl,64M,10' \\\n  --control=/none/c\"\nTRAP=--control /none/t\n",
    );
    assert_eq!(installed.log(), Path::new("/srv/a,b.jsonl"));
    let named = ["/none/t: no psentry-trap answers", "/none/c: no psentry-block answers"];
    assert_eq!(errors(&installed), named);
}

#[test]
fn the_mode_is_a_word_or_the_flag_of_old() {
    for (conf, mode) in [
        ("MODE=observe\n", Some(Mode::Observe)),
        ("MODE=\"block\"\nOBSERVE=\n", Some(Mode::Block)),
        ("MODE=block\nOBSERVE=--observe\n", None),
        ("OBSERVE=--observe\n", Some(Mode::Observe)),
        ("OBSERVE=\n", Some(Mode::Block)),
        ("OBSERVE=no\n", None),
        ("MODE=\n", Some(Mode::Block)),
    ] {
        let (_root, installed) = with_conf(conf);
        assert_eq!(installed.mode().ok(), mode, "{conf}");
    }
}

#[test]
fn explain_is_given_the_policy_and_nothing_else() {
    let (_root, installed) =
        with_conf("OBSERVE=--observe\nJUDGE=--trigger 1 --metrics /m --pass --state=/s --duration 1d\n");
    let files = |installed: &Installed| {
        let (policy, ignore) = (installed.etc("policy.toml"), installed.etc("ignore"));
        format!("--policy={} --ignore={}", policy.display(), ignore.display())
    };
    // Also where one is missing: the units name them.
    let flags = installed.judging(None).unwrap().join(" ");
    assert_eq!(flags, format!("{} --observe --trigger 1 --duration 1d", files(&installed)));
    // One that is named and is not there is an error of the judge.
    assert!(installed.judging(Some(Path::new("/none"))).unwrap().join(" ").starts_with("--policy=/none "));
}
