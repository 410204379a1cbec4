//! The file: every key is read, every mistake is named with its place, and the defaults stand in one place.

use std::path::Path;

use super::sections::span;
use super::*;

/// The policy of a text.
pub(crate) fn policy_of(text: &str) -> Policy {
    read(text, &PolicyFlags::default()).unwrap_or_else(|error| panic!("{error}"))
}

fn read(text: &str, flags: &PolicyFlags) -> Result<Policy, String> {
    let file = tempfile::NamedTempFile::new().map_err(|error| error.to_string())?;
    std::fs::write(file.path(), text).map_err(|error| error.to_string())?;
    let flags = PolicyFlags { policy: Some(file.path().to_owned()), ..flags.clone() };
    let name = file.path().display().to_string();
    Policy::from_flags(&flags).map_err(|error| error.to_string().replace(&name, "policy.toml"))
}

fn example() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../units/etc/policy.toml");
    std::fs::read_to_string(path).unwrap()
}

/// What a policy says, without the files it came from.
fn said(mut policy: Policy) -> String {
    policy.files.clear();
    format!("{policy:#?}")
}

/// The example without the `#` before each key: every key at its default.
fn uncommented() -> String {
    let key = |line: &&str| {
        line.starts_with('[') || line.starts_with("#") && line.contains(" = ") && !line.starts_with("# ")
    };
    example().lines().filter(key).map(|line| line.trim_start_matches('#').to_owned() + "\n").collect()
}

#[test]
fn the_example_says_nothing_but_the_defaults() {
    let defaults = Policy::from_flags(&PolicyFlags::default()).unwrap();
    let defaults = said(defaults);
    assert_eq!(said(policy_of(&example())), defaults);
    let text = uncommented();
    assert_eq!(said(policy_of(&text)), defaults, "{text}");
}

/// The keys that a table may have, as the error about another one lists them.
fn expected_keys(table: &str) -> Vec<String> {
    let error = read(&format!("{table}\nnone = 0\n"), &PolicyFlags::default()).unwrap_err();
    let (_, expected) =
        error.split_once("unknown field `none`, expected ").unwrap_or_else(|| panic!("{error}"));
    expected.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn the_example_has_every_key_of_the_file_and_the_manual_describes_each() {
    let keys: Vec<String> = uncommented()
        .lines()
        .filter_map(|line| line.split_once(" = ").map(|(key, _)| key.trim().to_owned()))
        .collect();
    let tables = expected_keys("");
    let fields: Vec<String> = tables
        .iter()
        .filter(|table| !["groups", "rule"].contains(&table.as_str()))
        .flat_map(|table| expected_keys(&format!("[{table}]")))
        .collect();
    assert!(fields.len() > 30, "{fields:?}");
    let page =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../man/psentry-policy.5"));
    let page = page.unwrap();
    // What a key was called once is read, and not recommended.
    let former = ["blocks"];
    for field in fields.into_iter().filter(|field| !former.contains(&field.as_str())) {
        // The trigger has no default: it takes the place of the test.
        assert!(field == "trigger" || keys.contains(&field), "the example lacks {field}");
        assert!(page.contains(&format!(".It Ic {field} ")), "the manual lacks {field}");
    }
    for line in uncommented().lines() {
        let Some((key, value)) = line.split_once(" = ") else { continue };
        let value = value.trim_matches('"').replace("[]", "none");
        let head = format!(".It Ic {} ", key.trim());
        // Of keys of the same name in several tables, one of the items says it.
        let mut items = page.split(&head).skip(1).filter_map(|item| item.split(".It Ic").next());
        let says = items.any(|item| item.contains(&format!("by default {value}")));
        assert!(says, "the manual does not say that {key} is {value} by default");
    }
}

#[test]
fn a_mistake_is_named_with_file_line_and_column() {
    for (text, want) in [
        ("[test]\nalpha = 2\n", "policy.toml, line 2, column 9: "),
        ("[test]\nalpha = 2.0\n", "policy.toml, line 2, column 9: write a number between 0 and 1"),
        ("[test]\nalhpa = 0.1\n", "policy.toml, line 2, column 1: unknown field `alhpa`"),
        ("[tests]\n", "policy.toml, line 1, column 2: unknown field `tests`"),
        ("[test]\nwindow = \"ten\"\n", "line 2, column 10: write a duration as 600 (seconds)"),
        ("[test]\nwindow = true\n", "line 2, column 10: invalid type: boolean"),
        ("[test\n", "policy.toml, line 1, column 6: "),
        ("sweep = 3\n", "policy.toml, line 1, column 9: invalid type: integer `3`, expected a table"),
        ("\n\n[block]\nduration = \"nie\"\n", "line 4, column 12: write a duration as 600 (seconds), 10m"),
        ("[evidence]\ndecoy = 0.5\n", "line 2, column 9: write a number N from 1"),
        ("[levels]\npackets = [5, 4, 3, 2, 1]\n", "line 2, column 11: write five numbers"),
        ("[levels]\nblock = 6\n", "line 2, column 9: write a level from 1 to 5"),
        ("[sweep]\nipv4 = 8\n", "line 2, column 8: write at most four lengths of IPv4 prefixes"),
        (
            "[ignore]\nnetworks = [\"example.org\"]\n",
            "line 2, column 12: 'example.org' looks like a host name",
        ),
        ("[ignore]\nnetworks = [\"@lan\"]\n", "line 2, column 12: there is no group 'lan'"),
        ("[groups]\nlan = [\"10.0.0.0/33\"]\n", "line 2, column 7: '10.0.0.0/33': the length"),
        ("[[rule]]\nports = [23]\n", "missing field `name`"),
        ("[[rule]]\nname = \"x\"\nports = [\"9-1\"]\nconvict = true\n", "line 3, column 9: '9-1' is no port"),
        ("[[rule]]\nname = \"x\"\nports = [65536]\nconvict = true\n", "line 3, column 9: '65536' is no port"),
        (
            "[[rule]]\nname = \"x\"\nconvict = true\nignore = true\n",
            "line 1, column 1: rule 'x' both convicts",
        ),
        (
            "\n[test]\nalpha = 0.5\nbeta = 0.4\n",
            "line 3, column 9: alpha must be smaller than beta, which is 0.4",
        ),
        (
            "[test]\nbeta = 0.001\n",
            "line 2, column 8: beta is 0.001, and must be larger than alpha, which is 0.001",
        ),
        (
            "[[rule]]\nname = \"x\"\nnetworks = [\"@lan\"]\nignore = true\n",
            "line 1, column 1: rule 'x': there is no group",
        ),
        ("[[rule]]\nname = \"x\"\nports = [1]\n", "line 1, column 1: rule 'x' does nothing"),
        ("[[rule]]\nname = \"x\"\nports = [1]\nthreshold = 2.0\n", "a threshold is for a source"),
        ("[[rule]]\nname = \"\\u001b\"\nconvict = true\n", "the name of a rule is 1 to 60"),
        (
            "[[rule]]\nname = \"sweep\"\nconvict = true\n",
            "line 1, column 1: 'sweep' is what verdicts call a rule of",
        ),
        ("[[rule]]\nname = \"brake\"\nconvict = true\n", "give the rule another name"),
        (
            "[test]\ntouches = 1000001\n",
            "line 2, column 11: write a number of touches from 1 to 1000000, or 0",
        ),
        ("[[rule]]\nname = \"x\"\nproto = \"gre\"\nconvict = true\n", "or the number of a protocol"),
    ] {
        let error = read(text, &PolicyFlags::default()).unwrap_err();
        assert!(error.contains(want), "{text}: {error}");
    }
    let many = "[[rule]]\nname = \"x\"\nconvict = true\n".repeat(65);
    assert!(
        read(&many, &PolicyFlags::default()).unwrap_err().contains("line 193, column 1: there are 65 rules")
    );
}

#[test]
fn flags_override_the_file() {
    let text = "[test]\nwindow = \"1h\"\n[block]\nduration = \"2h\"\nunproven = 5\nobserve = true\n";
    let policy = policy_of(text);
    assert_eq!((policy.window, policy.block.duration), (span("1h"), BlockDuration::For(span("2h"))));
    assert!(policy.block.observe && policy.block.unproven == span("5s"));
    let flags = PolicyFlags {
        window: Some(span("9m")),
        duration: Some(BlockDuration::Forever),
        unproven: Some(span("2m")),
        trigger: Some(7),
        max_sources: Some(9),
        ..PolicyFlags::default()
    };
    let policy = read(text, &flags).unwrap();
    assert_eq!((policy.window, policy.block.duration), (span("9m"), BlockDuration::Forever));
    assert_eq!((policy.block.unproven, policy.max_sources), (span("2m"), 9));
    assert!(format!("{:?}", policy.rules).contains("Trigger { ports: 7 }"));
}

#[test]
fn a_policy_of_before_is_read_as_it_was_meant() {
    let policy = policy_of("[brake]\nblocks = 7\n[sweep]\nipv4 = 26\n");
    assert_eq!((policy.brake.unproven, policy.brake.proven, policy.sweep.ipv4), (7, 0, vec![26]));
    for (text, want) in [
        ("[brake]\nblocks = 1\nunproven = 2\n", "duplicate field `unproven`"),
        ("[brake]\nproven = 10001\n", "line 2, column 10: write a number of networks from 1 to 10000, or 0"),
        ("[sweep]\nipv4 = [24, 28]\n", "line 2, column 8: write at most four lengths of IPv4 prefixes"),
    ] {
        let error = read(text, &PolicyFlags::default()).unwrap_err();
        assert!(error.contains(want), "{text}: {error}");
    }
}

#[test]
fn what_could_be_forged_never_lasts_longer() {
    assert_eq!(policy_of("[block]\nduration = \"10s\"\n").block.unproven, span("10s"));
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config { failure_persistence: None, ..Default::default() })]

    #[test]
    fn no_text_makes_it_panic(text in "[\\[\\]a-z0-9=\" .\\n#@/-]{0,200}") {
        let _ = Policy::from_text(&text);
    }
}
