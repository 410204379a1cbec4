//! Every command of psentry that README.md or the EXAMPLES of a manual page show is run by a test: what asks or changes the
//! installed suite in the administrator's day, whose golden files have it; a stage, which would run for ever, by its own check of
//! its flags and settings; the judge's questions about a log, here.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use super::transcript::chapters;
use crate::lab::bin;

/// The stages, which check what they are given instead of running, with `--check`.
const STAGES: [&str; 5] =
    ["psentry-listen", "psentry-trap", "psentry-judge", "psentry-block", "psentry-show"];

/// The commands of psentry-block, of which psentry-trap has some.
const COMMANDS: [&str; 8] = ["list", "unblock", "flush", "block", "status", "why", "panic", "resume"];

/// What is shown and not run, with the reason.
const NOT_RUN: &[(&str, &str)] = &[
    ("systemctl kill --signal=USR1 psentry-trap", "names a unit, and runs no program of psentry"),
    (
        "systemd-socket-activate -l 2323 -l 2324 psentry-listen",
        "gets its sockets from systemd; tests/listen.rs passes it some",
    ),
];

/// A word of a line of shell, or what is between two commands.
#[derive(Debug, PartialEq)]
enum Token {
    Word(String),
    Between,
    Redirection,
}

/// The words of a line of shell, without their quotes and without a comment.
fn tokens(line: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let (mut word, mut quote): (Option<String>, Option<char>) = (None, None);
    for character in line.chars() {
        match (quote, character) {
            (Some(open), _) if open == character => quote = None,
            (None, '\'' | '"') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, ' ' | '\t' | '|' | '&' | ';' | '<' | '>' | '(' | ')') => {
                tokens.extend(word.take().map(Token::Word));
                match character {
                    ' ' | '\t' => {}
                    '<' | '>' => tokens.push(Token::Redirection),
                    _ => tokens.push(Token::Between),
                }
            }
            _ => word.get_or_insert_default().push(character),
        }
    }
    tokens.extend(word.map(Token::Word));
    tokens
}

/// The commands of a line of shell, as words, without redirections.
fn commands(line: &str) -> Vec<Vec<String>> {
    let mut commands = vec![Vec::new()];
    let mut is_file = false;
    for token in tokens(line) {
        match token {
            Token::Between => commands.push(Vec::new()),
            Token::Redirection => is_file = true,
            Token::Word(_) if is_file => is_file = false,
            Token::Word(word) => commands.last_mut().unwrap().push(word),
        }
    }
    commands
}

/// A command from the program of psentry on that it runs, or that it has another one run, such as ssh.
fn of_psentry(command: &[String]) -> Option<&[String]> {
    let is_program = |word: &String| word == "psentry" || STAGES.contains(&word.as_str());
    command.iter().position(is_program).map(|at| &command[at..])
}

/// The lines of shell of a text, of which some go on in the next: after a backslash or a pipe, and within a loop.
fn whole_lines<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut whole: Vec<String> = Vec::new();
    let mut goes_on = false;
    for line in lines.map(str::trim) {
        let line = line.strip_prefix("# ").or(line.strip_prefix("$ ")).unwrap_or(line);
        match whole.last_mut() {
            Some(last) if goes_on => *last = format!("{} {line}", last.trim_end_matches('\\').trim_end()),
            _ => whole.push(line.to_owned()),
        }
        let last = whole.last().unwrap();
        goes_on = last.ends_with(['\\', '|']) || last.starts_with("for ") && !last.contains("done");
    }
    whole
}

/// What the examples of a manual page have typed.
fn lines_of_manual(page: &str) -> Vec<String> {
    let examples = page.split_once("\n.Sh EXAMPLES\n").map_or("", |(_, rest)| rest);
    let examples = examples.split_once("\n.Sh ").map_or(examples, |(examples, _)| examples);
    let text = examples.replace("\\e", "\\");
    let mut is_literal = false;
    let lines = text.lines().filter_map(|line| {
        match line {
            _ if line.starts_with(".Bd ") => is_literal = true,
            ".Ed" => is_literal = false,
            _ if is_literal => return Some(line),
            _ => return line.strip_prefix(".Dl "),
        }
        None
    });
    whole_lines(lines)
}

/// What README.md has typed: its indented lines.
fn lines_of_readme(text: &str) -> Vec<String> {
    let mut is_fenced = false;
    whole_lines(text.lines().filter_map(|line| {
        is_fenced ^= line.starts_with("```");
        line.strip_prefix("    ").filter(|_| !is_fenced)
    }))
}

/// Each line that is shown, with where.
fn shown() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = lines_of_readme(&fs::read_to_string(root.join("README.md")).unwrap());
    let mut shown: Vec<_> = readme.into_iter().map(|line| ("README.md".to_owned(), line)).collect();
    for page in fs::read_dir(root.join("man")).unwrap().map(|page| page.unwrap()) {
        let name = page.file_name().to_string_lossy().into_owned();
        let lines = lines_of_manual(&fs::read_to_string(page.path()).unwrap());
        shown.extend(lines.into_iter().map(|line| (name.clone(), line)));
    }
    shown.sort();
    shown
}

/// The commands that the day has run, as the golden files have them.
fn of_the_day() -> BTreeSet<Vec<String>> {
    let texts = chapters().into_iter().map(|file| fs::read_to_string(file).unwrap());
    let typed = texts.flat_map(|text| -> Vec<String> {
        text.lines().filter_map(|line| Some(line.strip_prefix("$ ")?.to_owned())).collect()
    });
    typed.flat_map(|line| commands(&line)).collect()
}

/// Whether a program takes its flags and settings, or answers, in a folder with what examples name; its errors if not.
fn is_taken(folder: &Path, command: &[String]) -> Result<(), String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let events = root.join("tests/cases/nmap-connect-scan.events");
    let settings = format!("{}/", root.join("units/etc").display());
    let word = |word: &String| match word.as_str() {
        "/var/log/psentry/records.jsonl*" => events.display().to_string(),
        "/etc/issue.net" => "banner".to_owned(),
        word => word.replace("/etc/psentry/", &settings),
    };
    let answers = |word: &String| ["explain", "replay", "--print", "--check"].contains(&word.as_str());
    let check = command.iter().all(|word| !answers(word)).then_some("--check");
    let mut program = Command::new(bin(&command[0]));
    program.args(command[1..].iter().map(word)).args(check).current_dir(folder).stdin(Stdio::null());
    let path = std::env::var("PATH").unwrap_or_default();
    program.env("PATH", format!("{}:{path}", folder.display()));
    let output = program.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(()) } else { Err(format!("{}: {error}", output.status)) }
}

#[test]
fn every_command_that_a_page_shows_is_run() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("banner"), "login: ").unwrap();
    // The provider's commands.
    for command in ["ban", "unban"] {
        symlink("/bin/true", folder.path().join(command)).unwrap();
    }
    for policy in ["policy.toml", "new.toml"] {
        fs::write(folder.path().join(policy), "[block]\nduration = \"2h\"\n").unwrap();
    }
    let day = of_the_day();
    let (mut missing, mut count) = (Vec::new(), 0);
    let shown = shown();
    for (page, line) in &shown {
        if NOT_RUN.iter().any(|(not_run, _)| not_run == line) {
            continue;
        }
        for command in commands(line).iter().filter_map(|command| of_psentry(command)) {
            count += 1;
            let asks = command[0] == "psentry"
                || ["psentry-block", "psentry-trap"].contains(&&*command[0])
                    && command.get(1).is_some_and(|word| COMMANDS.contains(&&**word));
            let words = command.join(" ");
            if !asks {
                missing.extend(
                    is_taken(folder.path(), command).err().map(|why| format!("{page}: {words}: {why}")),
                );
            } else if !day.contains(command) {
                missing.push(format!("{page}: {words}: the day (tests/units/day.rs) does not run it"));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
    assert!(count > 60, "only {count} commands were found");
    for (line, why) in NOT_RUN {
        assert!(
            shown.iter().any(|(_, shown)| shown == line),
            "no page shows what is not run ({why}): {line}"
        );
    }
}

#[test]
fn commands_are_found_in_lines_of_shell() {
    let found = |line: &str| -> Vec<String> {
        commands(line).iter().filter_map(|command| Some(of_psentry(command)?.join(" "))).collect()
    };
    for (line, want) in [
        ("psentry unblock 203.0.113.7 # let in;  psentry unblock all", &["psentry unblock 203.0.113.7"][..]),
        (
            "psentry-listen --tcp 23 | ssh root@router psentry-block",
            &["psentry-listen --tcp 23", "psentry-block"],
        ),
        ("psentry-judge < events | jq -c '.a | b' > /dev/null", &["psentry-judge"]),
        ("psentry block 192.0.2.7 --reason 'a flood'", &["psentry block 192.0.2.7 --reason a flood"]),
        ("grep psentry-nobody /etc/passwd", &[]),
    ] {
        assert_eq!(found(line), want, "{line}");
    }
    let page = ".Sh X\n.Dl psentry no\n.Sh EXAMPLES\nSay\n.Dl # psentry list\n.Bd -literal\npsentry-judge \\e\n    --check\n.Ed\n.Sh SEE\n";
    assert_eq!(lines_of_manual(page), ["psentry list", "psentry-judge --check"]);
    assert_eq!(
        lines_of_readme("a\n\n    psentry list |\n      jq\n```\n    psentry no\n```\n"),
        ["psentry list | jq"]
    );
}
