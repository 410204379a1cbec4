//! The exec backend with real commands.

use std::fs;

use clap::Parser;

use super::*;

fn exec(block: &str, undo: Option<&str>) -> Exec {
    let mut flags = vec!["x", "--exec", block];
    flags.extend(undo.map(|undo| ["--exec-undo", undo]).into_iter().flatten());
    Exec::new(&Flags::try_parse_from(flags).unwrap()).unwrap()
}

fn put(scope: &str, until: Option<Timestamp>) -> Op {
    let block = Block { until, port: Some(23), proto: Some(Proto::Tcp), ..Block::default() };
    Op::Put { scope: scope.parse().unwrap(), block, was: None }
}

fn delete(scope: &str, until: Option<Timestamp>) -> Op {
    Op::Delete { scope: scope.parse().unwrap(), was: Block { until, ..Block::default() } }
}

fn apply(backend: &mut Exec, op: Op, now: Timestamp) -> Result<(), String> {
    backend.apply(&[op], now).remove(0).map_err(|error| error.to_string())
}

#[test]
fn a_command_gets_words_and_an_environment_and_its_status_decides() {
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path().join("output");
    let script = format!(
        "sh -c 'printf \"%s|\" \"$@\" $PSENTRY_ACTION $PSENTRY_SCOPE $PSENTRY_DURATION >>{}' x {{addr}} \
         \"{{scope}} {{port}}/{{proto}}\" {{duration}}",
        output.display()
    );
    let mut backend = exec(&script, Some(&script));
    assert!(!backend.ensure().unwrap());
    let now = Timestamp::now();
    apply(&mut backend, put("192.0.2.7", Some(now.plus(Duration::from_secs(60)))), now).unwrap();
    apply(&mut backend, put("2001:db8::/64", None), now).unwrap();
    apply(&mut backend, delete("192.0.2.7", None), now).unwrap();
    assert_eq!(
        fs::read_to_string(&output).unwrap(),
        "192.0.2.7|192.0.2.7/32 23/tcp|60|block|192.0.2.7/32|60|\
         2001:db8::|2001:db8::/64 23/tcp|0|block|2001:db8::/64|0|\
         192.0.2.7|192.0.2.7/32 0/any|0|unblock|192.0.2.7/32|0|"
    );
    assert_eq!(backend.list().unwrap(), Listing::default());
}

/// `::2` was convicted, and its whole /64 is blocked: a command for single addresses needs the former.
#[test]
fn the_address_is_the_attackers_and_not_the_first_of_its_network() {
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path().join("output");
    let script = format!("sh -c 'echo $0 $1 $PSENTRY_ADDR >>{}' {{addr}} {{scope}}", output.display());
    let mut backend = exec(&script, Some(&script));
    let scope = "2001:db8::/64".parse().unwrap();
    let block = Block { addr: Some("2001:db8::2".parse().unwrap()), ..Block::default() };
    let now = Timestamp::now();
    apply(&mut backend, Op::Put { scope, block: block.clone(), was: None }, now).unwrap();
    apply(&mut backend, Op::Delete { scope, was: block }, now).unwrap();
    let line = "2001:db8::2 2001:db8::/64 2001:db8::2\n";
    assert_eq!(fs::read_to_string(&output).unwrap(), line.repeat(2));
}

#[test]
fn what_failed_says_why() {
    let mut backend = exec("sh -c 'echo no such router >&2; exit 3'", None);
    let error = apply(&mut backend, put("192.0.2.7", None), Timestamp::now()).unwrap_err();
    assert_eq!(error, "'sh' failed (exit status: 3): no such router");
}

#[test]
fn without_an_undo_the_command_ends_its_blocks_and_nobody_else_can() {
    let mut backend = exec("true {addr}", None);
    assert!(backend.caps().expires && !exec("true", Some("true")).caps().expires);
    let now = Timestamp::now();
    let until = now.plus(Duration::from_secs(5));
    let delete = || delete("192.0.2.7", Some(until));
    assert!(apply(&mut backend, delete(), now).unwrap_err().contains("--exec-undo"));
    apply(&mut backend, delete(), until).unwrap();
}

#[test]
fn a_command_that_is_not_there_is_missed_at_the_start() {
    for mut backend in [exec("/nonexistent/ban {addr}", None), exec("true", Some("/nonexistent/unban"))] {
        assert!(matches!(backend.ensure(), Err(Error::Missing { .. })));
    }
}

#[test]
fn to_a_command_no_end_is_not_the_end() {
    let now = Timestamp::now();
    let block = |until| Block { until, ..Block::default() };
    assert_eq!(duration(&block(Some(now)), true, now), 1);
    assert_eq!(duration(&block(Some(now)), false, now), 0);
    assert_eq!(duration(&block(None), true, now), 0);
}

/// What people want to know is in the environment, and no escape sequence of it is.
#[test]
fn a_command_knows_why() {
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path().join("output");
    let script =
        format!("sh -c 'echo \"$PSENTRY_RULE|$PSENTRY_REASON|$PSENTRY_OFFENCE\" >>{}'", output.display());
    let mut backend = exec(&script, None);
    let block = Block {
        rule: Some("fan".to_owned()),
        reason: Some("two decoys\u{1b}[2J\u{202e}".into()),
        offence: Some(3),
        ..Block::default()
    };
    for (scope, block) in [("192.0.2.7", block), ("192.0.2.8", Block::default())] {
        let op = Op::Put { scope: scope.parse().unwrap(), block, was: None };
        apply(&mut backend, op, Timestamp::now()).unwrap();
    }
    assert_eq!(fs::read_to_string(&output).unwrap(), "fan|two decoys\\u{1b}[2J\\u{202e}|3\n||\n");
}
